"README.md from nbs/index.ipynb, with the outputs that are committed there. `--run` executes the notebook first."
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / 'nbs' / 'index.ipynb'
MADE = '<!-- made from nbs/index.ipynb by `make readme`; edit there -->\n\n'


def directives(cell) -> set:  # e.g. {'hide'}
    "The `#|` directives at the head of a code cell."
    return set(re.findall(r'^#\| *(\w+(?:: *\w+)?) *$', cell.source, re.M)) if cell.cell_type == 'code' else set()


def shown(cell):  # the cell as a reader of the README sees it, or None
    "A hidden cell goes, an `echo: false` cell keeps its output only."
    if 'hide' in directives(cell): return None
    if any('image/png' in o.get('data', {}) for o in cell.get('outputs', [])):
        raise SystemExit(f'readme: cell {cell.id} of {INDEX.name} embeds a picture; write it to figures/ and link to it')
    if 'echo: false' in directives(cell): cell.metadata['tags'] = ['no-source']
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
    return cell


def from_root(link: re.Match) -> str:
    "A link relative to nbs/ as a link relative to the repository's root."
    target = link[1]
    if re.match(r'[a-z]+:|#', target): return link[0]
    return f']({target[3:]})' if target.startswith('../') else f'](nbs/{target})'


def readme(notebook: Path = INDEX) -> str:
    "The README's text."
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [c for c in map(shown, nb.cells) if c is not None]
    exporter = MarkdownExporter()
    exporter.register_preprocessor('nbconvert.preprocessors.TagRemovePreprocessor', enabled=True)
    exporter._preprocessors[-1].remove_input_tags = {'no-source'}
    body, _ = exporter.from_notebook_node(nb)
    body = re.sub(r'\]\(([^)\s]+)\)', from_root, body)
    return MADE + re.sub(r'\n{3,}', '\n\n', body).strip() + '\n'


def run(notebook: Path = INDEX):
    "Execute the notebook in place, and clean it."
    from nbclient import NotebookClient
    from nbdev.clean import nbdev_clean
    nb = nbformat.read(notebook, as_version=4)
    NotebookClient(nb, kernel_name='python3', extra_arguments=['--log-level=ERROR'],
                   resources={'metadata': {'path': str(notebook.parent)}}).execute()
    nbformat.write(nb, notebook)
    nbdev_clean(str(notebook))


if __name__ == '__main__':
    if '--run' in sys.argv[1:]: run()
    (ROOT / 'README.md').write_text(readme(), encoding='utf-8')
