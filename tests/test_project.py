"The project's own promises: notebooks and library in step, light imports, one direction, one version, no traces of a machine."
import ast
import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = configparser.ConfigParser(delimiters='=', interpolation=None)
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
LIBRARY = sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))
PAPER = sorted((ROOT / 'nbs' / 'paper').glob('*.ipynb'))
MODULES = sorted(p for p in (ROOT / 'signspot').glob('*.py') if not p.name.startswith('_'))


def copy_of(tmp_path: Path) -> Path:
    "What nbdev reads and writes, in a place where it may."
    for name in ('nbs', 'signspot'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__', '.*'))
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def python(code: str, cwd=ROOT) -> str:  # what it printed
    "Run a line of Python in a fresh interpreter."
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path, pattern: str) -> dict:  # relative path -> bytes
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob(pattern) if '.ipynb_checkpoints' not in p.parts}


def changed(before: dict, after: dict) -> list[str]:
    "Files that differ, or that only one side has."
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def cells(path: Path) -> list:  # code cells
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code']


def tool(name: str):  # -> module
    "One of tools/."
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Notebooks and library

def out_of_step(copy: Path) -> list[str]:
    "Export a copy's notebooks anew; the library files that this changes, adds or leaves behind."
    committed = files(copy / 'signspot', '*.py')
    for path in (copy / 'signspot').glob('*.py'):
        if path.name != '__init__.py': path.unlink()
    python('from nbdev.doclinks import nbdev_export; nbdev_export()', cwd=copy)
    return changed(committed, files(copy / 'signspot', '*.py'))


def test_library_is_what_the_notebooks_export(tmp_path):
    assert out_of_step(copy_of(tmp_path)) == [], 'run `make export`'


@pytest.mark.parametrize('break_it', ['edit the notebook', 'edit the module', 'remove the notebook'])
def test_out_of_step_is_noticed(tmp_path, break_it):
    copy = copy_of(tmp_path)
    notebook, module = copy / 'nbs' / LIBRARY[0].name, copy / 'signspot' / 'skeleton.py'
    if break_it == 'edit the notebook':
        nb = nbformat.read(notebook, as_version=4)
        nb.cells.append(nbformat.v4.new_code_cell('#| export\nANSWER = 42'))
        nbformat.write(nb, notebook)
    elif break_it == 'edit the module': module.write_text(module.read_text() + '\nANSWER = 42\n')
    else: notebook.unlink()
    assert 'skeleton.py' in out_of_step(copy)


def test_notebooks_are_clean(tmp_path):
    copy = copy_of(tmp_path)
    committed = files(copy / 'nbs', '*.ipynb')
    python('from nbdev.clean import nbdev_clean; nbdev_clean()', cwd=copy)
    assert changed(committed, files(copy / 'nbs', '*.ipynb')) == [], 'run nbdev_clean'


@pytest.mark.parametrize('path', PAPER, ids=lambda p: p.stem)
def test_a_paper_notebook_has_one_parameters_cell(path):
    assert sum('parameters' in c.metadata.get('tags', []) for c in cells(path)) == 1
    assert not any(re.search(r'^#\| *export', c.source, re.M) for c in cells(path)), 'paper notebooks export nothing'


@pytest.mark.parametrize('path', LIBRARY, ids=lambda p: p.stem)
def test_a_library_notebook_has_no_parameters_cell(path):
    assert not any('parameters' in c.metadata.get('tags', []) for c in cells(path))


@pytest.mark.parametrize('path', [*LIBRARY, *PAPER], ids=lambda p: p.stem)
def test_cells_are_short_and_say_where_names_are_from(path):
    for number, cell in enumerate(cells(path)):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith('#|')]
        assert len(lines) <= 40, f'code cell {number} has {len(lines)} lines'
        star = re.search(r'^from \S+ import \*', cell.source, re.M) and not re.search(r'^#\| *hide', cell.source, re.M)
        assert not star, f'code cell {number} has a star import'
        assert not any(o.output_type == 'error' for o in cell.outputs), f'code cell {number} shows an error'


@pytest.mark.parametrize('path', PAPER, ids=lambda p: p.stem)
def test_a_published_notebook_shows_results_and_no_progress(path):
    "What was said to whoever waited is not for whoever reads."
    shown = [output for cell in cells(path) for output in cell.outputs]
    assert not [output.text for output in shown if output.get('name') == 'stderr'], 'mend what it complains of, and rerun'
    assert not [output.text for output in shown if not tool('adopt').to_be_read(output)], 'run tools/adopt.py after the rerun'


@pytest.mark.parametrize('text, read', [('trainings: 3 of 24\n', False), ('exams: 1 of 2\nexams: 2 of 2\n', False), ('  25,000 pairs  loss 4.039  unseen: auc 0.986\n', False),
                                        ('jobs: 1 of 2, failed: no frames\n', True), ('8 of 10 comparisons\n', True), ('exams: 1 of 2\naccuracy 0.9\n', True)])
def test_what_is_progress(text, read):
    assert tool('adopt').to_be_read(nbformat.v4.new_output('stream', text=text)) == read


def test_readme_is_what_the_index_says():
    assert (ROOT / 'README.md').read_text(encoding='utf-8') == tool('readme').readme(), 'run `make readme`'


def test_readme_links_lead_somewhere():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    links = [link for link in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'[a-z]+:|#', link)]
    assert [link for link in links if not (ROOT / link).exists()] == []


# What is imported, and when

def imports(path: Path) -> list[tuple[str, bool]]:  # (dotted name, inside a function?)
    "Every import of a module, relative ones spelled out."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    late = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(filter(None, ['signspot' if node.level else '', node.module]))
            names = [f'{base}.{a.name}' for a in node.names] if base == 'signspot' else [base]
        else: continue
        found += [(name, id(node) in late) for name in names]
    return found


def number_of_modules() -> dict:  # module -> its notebook's number
    found = {}
    for path in LIBRARY:
        for name in re.findall(r'^#\| *default_exp +(\w+)', '\n'.join(c.source for c in cells(path)), re.M):
            found[name] = int(path.name[:2])
    return found


@pytest.mark.parametrize('path', MODULES, ids=lambda p: p.stem)
def test_a_room_knows_only_the_rooms_to_its_left(path):
    number = number_of_modules()
    known = {name.split('.')[1] for name, _ in imports(path) if name.startswith('signspot.')} - {'__version__'}
    assert {name for name in known if number.get(name, 99) >= number[path.stem]} == set()


IMPORTED_AS = {'pose-format': 'pose_format', 'scikit-learn': 'sklearn', 'lightning-fabric': 'lightning_fabric', 'pillow': 'PIL'}


def provided(key: str) -> set[str]:  # import names
    return {IMPORTED_AS.get(r.name, r.name) for r in map(Requirement, SETTINGS[key].split())}


@pytest.mark.parametrize('path', MODULES, ids=lambda p: p.stem)
def test_the_library_imports_only_what_installing_it_brings(path):
    "Nothing of the development tools; what reruns the paper only inside the functions that need it."
    here = {'signspot', *sys.stdlib_module_names, *provided('requirements')}
    late_only = provided('paper_requirements') | {'nbformat', 'nbclient', 'IPython', 'huggingface_hub'}   # transformers for the rival that training is timed against; matchers from a hub, where that is installed
    strangers = [name for name, late in imports(path)
                 if name.split('.')[0] not in here and not (late and name.split('.')[0] in late_only)]
    assert strangers == []


def test_every_requirement_is_used():
    used = {name.split('.')[0] for path in MODULES for name, _ in imports(path)}
    assert provided('requirements') - used == set()


@pytest.mark.parametrize('statement', ['import signspot', 'from signspot import cli; cli.main(["--help"])'], ids=['import', 'help'])
def test_starting_is_light(statement):
    code = f'''
import sys
try:
    {statement}
except SystemExit as end: assert not end.code, end.code
heavy = {{'torch', 'mediapipe', 'nbdev', 'fastcore', 'matplotlib', 'sklearn', 'papermill'}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)'''
    python(code)


def test_the_package_shows_what_it_offers():
    import signspot
    assert {'Pose', 'BadInput', 'Corpus', 'spot', 'Spots'} <= set(signspot.__all__) <= set(dir(signspot))
    with pytest.raises(AttributeError, match='nothing_like_it'): signspot.nothing_like_it


@pytest.mark.parametrize('name', ['Pose', 'BadInput', 'Corpus', 'spot', 'Spots'])
def test_what_the_package_offers_is_there(name):
    import signspot
    assert getattr(signspot, name).__name__ == name


def without(module: str, why: str) -> str:  # code
    "The beginning of a program for which a module cannot be imported."
    return f'''
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}: raise ImportError({why!r}, name=name)
sys.meta_path.insert(0, Missing())
'''


def test_everything_imports_without_mediapipe():
    python(without('mediapipe', 'No module named mediapipe') + f"""
from importlib import import_module
for name in {[p.stem for p in MODULES]}: import_module('signspot.' + name)""")


@pytest.fixture
def grey(tmp_path) -> Path:
    "A video of nothing: three grey frames."
    import av
    import numpy
    with av.open(str(tmp_path / 'grey.mp4'), 'w') as video:
        stream = video.add_stream('mpeg4', rate=10)
        stream.width = stream.height = 64
        for _ in range(3): video.mux(stream.encode(av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), 128, 'uint8'))))
        video.mux(stream.encode(None))
    return tmp_path / 'grey.mp4'


@pytest.mark.parametrize('module, why, named', [
    ('mediapipe', 'No module named mediapipe', 'mediapipe'),
    ('cv2', 'libGL.so.1: cannot open shared object file', 'libGL'),  # a server without a desktop
], ids=['mediapipe', 'libGL'])
def test_extraction_that_cannot_be_says_what_to_install(module, why, named, grey):
    if module == 'cv2': pytest.importorskip('mediapipe')
    said = python(without(module, why) + f"""
from signspot.extract import extract
from signspot.pose import BadInput
try: extract({str(grey)!r})
except BadInput as error: print(error)""")
    assert named in said and 'install' in said and len(said.splitlines()) == 1


# Traces

def tracked() -> list[Path]:
    "Files that git has or would take."
    if not (ROOT / '.git').exists(): pytest.skip('not a git clone')
    listed = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True, check=True)
    return [p for p in (ROOT / name for name in listed.stdout.split('\0') if name) if p.is_file()]


def text_of(path: Path) -> str:
    "A file's text; of a notebook what its cells say and show; nothing of a binary file."
    try: text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError: return ''
    if path.suffix != '.ipynb': return text
    parts = []
    for cell in json.loads(text)['cells']:
        parts.append(''.join(cell['source']))
        for output in cell.get('outputs', []):
            shown = {'text': output.get('text', ''), **output.get('data', {})}
            parts += [''.join(value) for kind, value in shown.items() if kind.startswith('text') and kind != 'text/html']
    return '\n'.join(parts)


MACHINE_PATH = re.compile(r'(?<![\w./~$*}+=-])/(?:home|Users|root|tmp|work|opt|mnt)(?:/|\b(?=[\'"\s]))')
UNPICKLES = re.compile(r'\bimport (?:c?pickle|dill)\b|\bpickle\.loads?\b|allow_pickle\s*=\s*True|torch\.load\((?![^)]*weights_only=True)')


def test_no_path_of_one_machine():
    found = {str(p.relative_to(ROOT)): MACHINE_PATH.findall(text_of(p)) for p in tracked() if p != Path(__file__).resolve()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_nothing_unpickles():
    code = [p for p in tracked() if p.suffix in {'.py', '.ipynb'} and p != Path(__file__).resolve()]
    assert [str(p.relative_to(ROOT)) for p in code if UNPICKLES.search(text_of(p))] == []


@pytest.mark.parametrize('pattern, caught, fine', [
    (MACHINE_PATH, ["'/home/ann/x'", '(/tmp/x)', 'see /root/y', '"/work"'], ['tests/home/x', 'https://a.org/tmp/', '../work/x', 'and/or', './tmp/']),
    (UNPICKLES, ['import pickle', 'np.load(f, allow_pickle=True)', 'torch.load(f)'], ['np.load(f, allow_pickle=False)', 'torch.load(f, weights_only=True)']),
], ids=['paths', 'pickles'])
def test_traces_are_noticed(pattern, caught, fine):
    assert all(pattern.search(text) for text in caught)
    assert not any(pattern.search(text) for text in fine)


def test_files_are_small():
    "Weights have 8 MB, all of those that come with the library together; anything else has half of that by itself."
    weights = [p for p in tracked() if p.parent == ROOT / 'signspot' / 'weights']
    assert {p.suffix for p in weights} == {'.safetensors', '.json', '.md'} and sum(p.stat().st_size for p in weights) <= 8_000_000
    assert {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked() if p not in weights and p.stat().st_size > 4_000_000} == {}


# Versions

def test_one_version_everywhere():
    import signspot
    citation = re.search(r'^version: (\S+)$', (ROOT / 'CITATION.cff').read_text(), re.M)[1]
    changes = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)[1]
    assert {signspot.__version__, citation, changes} == {SETTINGS['version']}


def pins() -> list[Requirement]:
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


@pytest.mark.parametrize('key', ['requirements', 'paper_requirements', 'dev_requirements'])
@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12'])
def test_constraints_pin_every_requirement(key, version):
    env = {'python_version': version, 'python_full_version': version + '.12'}  # any late patch release
    pinned = {p.name: next(iter(p.specifier)).version for p in pins() if p.marker is None or p.marker.evaluate(env)}
    wanted = [r for r in map(Requirement, SETTINGS[key].split()) if r.marker is None or r.marker.evaluate(env)]
    assert [str(r) for r in wanted if r.name not in pinned or pinned[r.name] not in r.specifier] == []


def test_every_requirement_has_an_upper_bound():
    for key in ('requirements', 'paper_requirements', 'dev_requirements'):
        loose = [str(r) for r in map(Requirement, SETTINGS[key].split()) if not any(s.operator in {'<', '=='} for s in r.specifier)]
        assert loose == []
