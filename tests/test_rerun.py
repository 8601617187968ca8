"Several notebooks in one go: the order, what is passed to whom, what happens to the others when one fails, and the list."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from signspot.cli import main
from signspot.experiment import code_version
from signspot.rerun import in_order, paper_notebooks

ROOT = Path(__file__).resolve().parent.parent
PRESETS = "preset = 'cpu'  # one of smoke, cpu, paper\nseeds = 3  # trainings\njobs = 0  # side by side\nout = ''  # where"
TELL = "print('told', {name: value for name, value in globals().items() if name in ('preset', 'seeds', 'jobs', 'out', 'shared', 'topic')})"
NOTEBOOKS = {
    'attention': (PRESETS.replace(', paper', ''), TELL),
    'dtw_threshold': ("out = ''  # where", TELL),
    'log': ("topic = ''  # about what", TELL),
    'realism': ("shared = ''  # recordings\nout = ''  # where", "from signspot.pose import BadInput\nraise BadInput('realism does not find the recordings: give their folder with -p shared=FOLDER')"),
    'table2': (PRESETS, TELL),
}


def write(path: Path, parameters: str, code: str):
    "A notebook of two cells."
    cells = [nbformat.v4.new_code_cell(parameters, metadata={'tags': ['parameters']}), nbformat.v4.new_code_cell(code)]
    kernel = {'name': 'python3', 'display_name': 'python3', 'language': 'python'}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={'kernelspec': kernel}), path)


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    "A repository with five small paper notebooks, one of which wants recordings that are not there."
    (tmp_path/'nbs'/'paper').mkdir(parents=True)
    for name, cells in NOTEBOOKS.items(): write(tmp_path/'nbs'/'paper'/f'{name}.ipynb', *cells)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(said: str) -> list[dict]:
    "What each notebook that ran was told, in order."
    return [eval(line.removeprefix('told ')) for line in said.splitlines() if line.startswith('told ')]


def test_all_in_order_and_one_that_fails(clone, capsys):
    "Inputs come first, the log last; a failure is said at the end, once, and the others are done."
    assert main(['rerun', 'all', '--preset', 'smoke', '-p', 'seeds=4', '--jobs', '2']) == 2
    out, err = capsys.readouterr()
    begun = [line for line in out.splitlines() if line.startswith('[')]
    assert begun == [f'[{n} of 5] {name}' for n, name in enumerate(('dtw_threshold', 'table2', 'attention', 'realism', 'log'), 1)]
    assert err.splitlines() == ['signspot: realism: realism does not find the recordings: give their folder with -p shared=FOLDER']
    smoke = str(clone/'figures'/'smoke')
    full = {'preset': 'smoke', 'seeds': 4, 'jobs': 2, 'out': ''}
    assert told(out) == [{'out': smoke}, full, full, {'topic': ''}]
    assert {path.name for path in (clone/'figures'/'smoke').iterdir()} == {f'{name}.ipynb' for name in NOTEBOOKS if name != 'realism'}
    assert [path.name for path in (clone/'figures').iterdir()] == ['smoke'], 'a smoke run touches nothing that is published'
    assert [line.split(':')[0] for line in out.splitlines() if ' s, ' in line] == ['dtw_threshold', 'table2', 'attention', 'realism', 'log']


def in_a_terminal(code: str) -> subprocess.CompletedProcess:
    "Rerun a notebook of such code as somebody does who has a terminal."
    write(Path('nbs/paper/table2.ipynb'), PRESETS, code)
    return subprocess.run([sys.executable, '-c', "from signspot.cli import main; main(['rerun', 'table2'])"], capture_output=True, text=True, timeout=120,
                          env={name: value for name, value in os.environ.items() if name != 'PYTEST_CURRENT_TEST'})   # a kernel that sees this never listens in


def test_what_workers_print_is_seen_once(clone):
    "They have the terminal themselves; a kernel that listens in would pass it on once more."
    done = in_a_terminal("import subprocess, sys\nprint('from the notebook', flush=True)\nsubprocess.run([sys.executable, '-c', 'print(\"from a worker\")'])")
    assert [done.stdout.count(f'from {who}') for who in ('the notebook', 'a worker')] == [1, 1], done.stdout + done.stderr


def test_how_a_kernel_ends_is_not_seen(clone):
    "Some of its tasks are pending then, and asyncio would say so."
    done = in_a_terminal('import asyncio\nasync def forever(): await asyncio.Future()\npending = asyncio.get_event_loop().create_task(forever())')
    assert done.returncode == 0 and done.stderr == ''


def test_the_papers_own_regime_is_run_where_there_is_one(clone, capsys):
    assert main(['rerun', 'log', 'attention', 'table2', '--preset', 'paper']) == 0
    out = capsys.readouterr().out
    assert "left out, for want of a preset 'paper': attention, log" in out and '[1 of 1] table2' in out and told(out) == [{'preset': 'paper', 'seeds': 3, 'jobs': 0, 'out': ''}]


def test_jobs_go_to_the_one_that_has_them(clone, capsys):
    assert main(['rerun', 'log', '--jobs', '2', '--engine', 'local']) == 0 and main(['rerun', 'table2', '--jobs', '2']) == 0
    assert told(capsys.readouterr().out) == [{'topic': ''}, {'preset': 'cpu', 'seeds': 3, 'jobs': 2, 'out': ''}]


@pytest.mark.parametrize('words, what', [
    (['tabel2', 'log', 'atention', 'zzz'], ["no notebook 'tabel2': did you mean 'table2'?", "no notebook 'atention': did you mean 'attention'?", "no notebook 'zzz': there are attention, dtw_threshold, log"]),
    (['all', 'tabel2'], ["no notebook 'tabel2'"]),
    (['all', '-p', 'sedes=3'], ["none of these notebooks has a parameter 'sedes': did you mean 'seeds'?"]),
    (['log', 'realism', '-p', 'seeds=3'], ["none of these notebooks has a parameter 'seeds': there are out, shared, topic"]),
    (['all', '--preset', 'night'], ["preset must be one of smoke, cpu, paper, not 'night'"]),
    (['all', '-p', 'seeds=many'], ['seeds must be of the kind of 3']),
    (['log', 'realism', '--preset', 'paper'], ["none of these notebooks has a preset 'paper'"]),
    (['log', '--preset', 'smoke'], ["log has no parameter 'preset'"]),
    (['attention', '--preset', 'paper'], ['attention: preset must be one of smoke, cpu, not']),
    (['all', '-o', 'all.ipynb'], ['-o is for the file of one notebook']),
    (['all', '--engine', 'cloud'], ["invalid choice: 'cloud'"]),
    (['all', '--jobs', '0'], ['whole number from 1 on']),
    ([], ['the word all', '--list']),
    (['--list', 'tabel2'], ["did you mean 'table2'?"]),
])
def test_mistakes_are_refused_before_anything_is_run(words, what, clone, capsys):
    before = sorted(clone.rglob('*'))
    assert main(['rerun', *words]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('signspot: ') and err.count('\n') == 1 and all(part in err for part in what)
    assert sorted(clone.rglob('*')) == before


def listed(capsys) -> dict[str, str]:
    "The lines of `--list`, by notebook."
    assert main(['rerun', '--list']) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:-1]}


def test_the_list_says_what_each_takes_and_what_is_stale(clone, capsys):
    made = {'modules': ['skeleton', 'pose'], 'code': code_version(('skeleton', 'pose')), 'machine': 'x86_64, 2 cores'}
    results = {'table2': made | {'minutes': 12.25, 'needs': 'nothing'}, 'attention': made | {'code': 'of another day', 'minutes of training, added up over jobs': 9, 'jobs side by side': 2},
               'dtw_threshold': ['no', 'result']}
    (clone/'figures').mkdir()
    for name, result in results.items(): (clone/'figures'/f'{name}.json').write_text(json.dumps(result))
    lines = listed(capsys)
    assert list(lines) == in_order(NOTEBOOKS)
    assert all(word in lines['table2'] for word in ('12.2', 'x86_64, 2 cores', 'nothing', 'smoke, cpu, paper (not run by us)', 'fresh'))
    assert '4.5' in lines['attention'] and lines['attention'].endswith('stale') and lines['dtw_threshold'].endswith('stale')
    assert 'recordings' in lines['realism'] and lines['realism'].endswith('never run') and lines['log'].endswith('writes no result')
    (clone/'figures'/'paper').mkdir()
    (clone/'figures'/'paper'/'table2.json').write_text(json.dumps(made))
    assert 'not run by us' not in listed(capsys)['table2']


def test_the_list_is_there_at_once():
    "For this repository, without PyTorch or Matplotlib, in seconds."
    code = "import sys\nfrom signspot.cli import main\nstatus = main(['rerun', '--list'])\nassert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)\nsys.exit(status)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(paper_notebooks(ROOT)) + 2 and time.monotonic() - began < 30


@pytest.mark.parametrize('how', ['Ctrl-C', 'SIGTERM'])
def test_an_interruption_ends_the_whole_run(how, clone):
    "Not only the notebook that was at work: the next one is not started, and nothing unfinished stays."
    write(clone/'nbs'/'paper'/'attention.ipynb', "out = ''", "import time\nprint('sleeping', flush=True)\ntime.sleep(60)")
    code = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom signspot.cli import main\nsys.exit(main(['rerun', 'attention', 'log']))"
    process = subprocess.Popen([sys.executable, '-u', '-c', code], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stdout:
        if line.startswith('sleeping'): break
    if how == 'Ctrl-C': os.killpg(process.pid, signal.SIGINT)     # as a terminal does: the kernel gets it too
    else: process.terminate()
    out, err = process.communicate(timeout=60)
    ours = [line for line in err.splitlines() if line.startswith('signspot: ')]      # what a dying kernel prints is not for us to judge
    assert process.returncode == 130 and '[2 of 2]' not in out and len(ours) == 1, (out, err)
    assert not [path for path in (clone/'figures').rglob('*') if path.is_file()]


def test_a_kernel_that_dies_is_a_failure_like_others(clone, capsys):
    write(clone/'nbs'/'paper'/'attention.ipynb', "out = ''", 'import os\nos._exit(9)')
    assert main(['rerun', 'attention', 'log']) == 2
    out, err = capsys.readouterr()
    assert err == 'signspot: attention: its kernel died, perhaps for want of memory\n' and '[2 of 2] log' in out and (clone/'figures'/'log.ipynb').exists()


def test_what_others_ask_comes_before_them():
    "The matcher before whatever asks it, results before those who read them; each once."
    assert in_order(['statements', 'glance', 'weights', 'beyond', 'rivals', 'table2', 'attention', 'beyond']) == ['weights', 'table2', 'attention', 'beyond', 'glance', 'rivals', 'statements']
