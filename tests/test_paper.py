"The paper notebooks: results in step with the code, reruns that recompute nothing, and mistakes answered in a line."
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from signspot.cli import main
from signspot.experiment import Experiment, bare_code, code_version, mean_over_seeds, run_experiments, shuffle_labels
from signspot.rerun import paper_notebooks

ROOT = Path(__file__).resolve().parent.parent
RESULTS = sorted((ROOT/'figures').glob('*.json'))


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    "What a rerun needs of the repository, in a place of its own."
    root = tmp_path_factory.mktemp('clone')
    shutil.copytree(ROOT/'nbs'/'paper', root/'nbs'/'paper')
    (root/'data').mkdir()
    for name in ('settings.ini', 'data/paper.json', 'data/log.json'): shutil.copy(ROOT/name, root/name)
    return root


@pytest.mark.parametrize('result', RESULTS, ids=lambda path: path.stem)
def test_published_results_are_as_new_as_the_code(result):
    made = json.loads(result.read_text())
    assert made['code'] == code_version(tuple(made['modules'])), f'{result.name} is older than the code: signspot rerun {result.stem}'
    assert (ROOT/made['notebook']).exists()


def test_every_paper_notebook_has_its_result():
    assert {path.stem for path in RESULTS} == set(paper_notebooks(ROOT)) - {'log'}


def test_table2_adds_up():
    "Means are those of the seeds; the shuffled control is at chance and the best row well above it."
    made = json.loads((ROOT/'figures'/'table2.json').read_text())
    assert made['seeds'] >= 3 and [row['row'] for row in made['rows']] == ['1D-CNN', '2D-CNN', 'BCE', 'contrastive', 'both']
    for row in [*made['rows'], *made['beside']]:
        for metric in ('accuracy', 'precision', 'recall', 'f1'):
            assert len(row[metric]['seeds']) == (1 if 'DTW' in row['row'] else made['seeds']) and np.isclose(row[metric]['mean'], np.mean(row[metric]['seeds']))
            assert row[metric]['low'] <= row[metric]['mean'] <= row[metric]['high']
    best = max((row['accuracy'] for row in made['rows']), key=lambda a: a['mean'])
    chance = next(row['accuracy'] for row in made['beside'] if row['row'] == 'BCE, shuffled labels')
    assert best['mean'] >= .65 and best['low'] > .6 and chance['low'] < .5 < chance['high']


def test_the_notebook_shows_the_published_table():
    made = json.loads((ROOT/'figures'/'table2.json').read_text())
    cells = json.loads((ROOT/'nbs'/'paper'/'table2.ipynb').read_text())['cells']
    shown = ''.join(text for c in cells for o in c.get('outputs', []) for text in o.get('text', []))
    for row in [*made['rows'], *made['beside']]:
        line = next(line for line in shown.splitlines() if line.startswith(row['row'] + ' '))
        assert all(f'{metric} {100 * row[metric]["mean"]:5.1f}' in line for metric in ('accuracy', 'precision', 'recall', 'f1'))


def test_reported_numbers_are_the_papers():
    reported = json.loads((ROOT/'data'/'paper.json').read_text())['table2']
    assert {row: values['accuracy'] for row, values in reported.items()} == {'1D-CNN': 53.65, '2D-CNN': 61.39, 'BCE': 63.04, 'contrastive': 57.2, 'both': 61.39}


def test_table2_smoke_twice(clone, monkeypatch, capsys):
    "A rerun goes all the way, beside the published table and not over it; the second computes nothing."
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', 'table2', '--preset', 'smoke']) == 0
    first = json.loads((clone/'figures'/'smoke'/'table2.json').read_text())
    assert 'trainings: 18 of 18' in capsys.readouterr().out and not (clone/'figures'/'table2.json').exists()
    assert main(['rerun', 'table2', '--preset', 'smoke']) == 0
    said = capsys.readouterr().out
    assert 'trainings:' not in said and 'contrastive' in said and said.rstrip().endswith('table2.ipynb')
    assert json.loads((clone/'figures'/'smoke'/'table2.json').read_text()) == first
    assert {p.name for p in (clone/'figures'/'smoke').iterdir()} == {'table2.json', 'table2.png', 'table2.ipynb'}


def test_table2_by_papermill_itself(clone, monkeypatch):
    "`papermill nbs/paper/table2.ipynb out.ipynb -p preset smoke`, from the root."
    monkeypatch.delenv('MPLBACKEND', raising=False)
    done = subprocess.run([sys.executable, '-m', 'papermill', 'nbs/paper/table2.ipynb', 'out.ipynb', '-p', 'preset', 'smoke', '-p', 'seeds', '1', '--no-progress-bar'],
                          cwd=clone, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (clone/'figures'/'smoke'/'table2.json').exists() and 'error' not in [o['output_type'] for c in json.loads((clone/'out.ipynb').read_text())['cells'] for o in c.get('outputs', [])]


@pytest.mark.parametrize('name', ['spot', 'dtw_threshold', 'log'])
def test_small_paper_notebooks_give_what_is_published(name, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', name, '-p', f'out={clone}/again'] if name != 'log' else ['rerun', name]) == 0
    if name != 'log': assert_alike(json.loads((clone/'again'/f'{name}.json').read_text()), json.loads((ROOT/'figures'/f'{name}.json').read_text()))


def assert_alike(a, b):
    "The same but for the last digits of numbers."
    assert type(a) is type(b)
    if isinstance(a, float): assert a == pytest.approx(b, abs=.02)
    elif isinstance(a, list | dict):
        assert len(a) == len(b) and (isinstance(a, list) or a.keys() == b.keys())
        for key in a if isinstance(a, dict) else range(len(a)): assert_alike(a[key], b[key])
    else: assert a == b


@pytest.mark.parametrize('arguments, what', [(['tabel2'], "no notebook 'tabel2'"), (['table2', '-p', 'sees=3'], "no parameter 'sees'"), (['table2', '--preset', 'fast'], 'one of smoke, cpu, paper'),
                                             (['table2', '-p', 'seeds=many'], 'of the kind of 3'), (['table2', '-p', 'seeds'], 'KEY=VALUE'), (['table2', '-p', 'seeds=True'], 'of the kind of 3'), (['table2', '--preset', ''], 'one of smoke'),
                                             (['table2', '-o', 'nbs'], 'ends in .ipynb'), (['table2', '-o', 'out.txt'], 'ends in .ipynb')])
def test_wrong_reruns_are_one_line_and_leave_nothing(arguments, what, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    before = sorted(clone.rglob('*'))
    assert main(['rerun', *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == '' and said.err.startswith('signspot: ') and said.err.count('\n') == 1 and what in said.err
    assert sorted(clone.rglob('*')) == before


@pytest.mark.parametrize('name', ['realism', 'corpora'])
def test_what_needs_recordings_says_so_where_there_are_none(name, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', name, '-p', f'shared={clone}/nowhere']) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'signspot: {name}: ') and said.count('\n') == 1 and 'does not find' in said and 'shared=' in said
    assert not list((clone/'figures').glob(f'{name}*')), 'a refusal leaves nothing behind'


@pytest.mark.parametrize('name', ['leakage', 'benchmark'])
def test_smoke_presets_go_all_the_way(name, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', name, '--preset', 'smoke']) == 0
    assert (clone/'figures'/'smoke'/f'{name}.json').exists() and not (clone/'figures'/f'{name}.json').exists()


def test_a_rerun_that_is_terminated_cleans_up(clone):
    "SIGTERM, as a batch system sends it, ends the kernel and leaves no unfinished notebook."
    process = subprocess.Popen([sys.executable, '-c', 'import sys; from signspot.cli import main; sys.exit(main(sys.argv[1:]))', 'rerun', 'dtw_threshold', '-p', f'out={clone}/again'],
                               cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (started := list((clone/'figures').glob('.*.part.ipynb'))) and process.poll() is None: time.sleep(.1)
    time.sleep(2)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert started and process.returncode == 130 and 'signspot: stopped' in said and not list((clone/'figures').glob('.*.part.ipynb'))


def test_rerun_outside_of_a_clone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['rerun', 'table2']) == 2 and 'inside a clone' in capsys.readouterr().err


def test_rerun_without_papermill(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    monkeypatch.setitem(sys.modules, 'papermill', None)
    monkeypatch.setitem(sys.modules, 'papermill.exceptions', None)
    assert main(['rerun', 'table2']) == 2 and 'pip install ".[paper]"' in capsys.readouterr().err


SMALL = dict(model={'encoder': '1d', 'layers': 1}, train={'epochs': 1}, corpus={'sentences': 12, 'queries_per_sign': 2}, held_out={'sentences': 8, 'queries_per_sign': 2})


def test_experiments_side_by_side_give_what_one_after_another_gives(tmp_path):
    planned = [Experiment(**SMALL, seed=s) for s in (0, 1)]
    alone, _ = run_experiments(planned, tmp_path/'a', 1)
    beside, report = run_experiments(planned, tmp_path/'b', 2)
    assert np.allclose([r['score'] for r in beside], [r['score'] for r in alone], atol=1e-3) and len(report.done) == 2


def test_an_experiment_is_named_by_all_that_makes_it(tmp_path):
    one, other = Experiment(**SMALL), Experiment(**SMALL, shuffled=True)
    assert one.job() == Experiment(**SMALL).job() != other.job()


def test_shuffling_changes_labels_only():
    from signspot.signing import SigningConfig, sign_corpus
    corpus = sign_corpus(SigningConfig(sentences=30, queries_per_sign=2))
    shuffled = shuffle_labels(corpus, 1)
    assert shuffled.label.sum() == corpus.label.sum() and (shuffled.pairs == corpus.pairs).all() and .3 < (shuffled.label == corpus.label).mean() < .7


def test_intervals_cover():
    "Over many pretended test sets, about 95 % of the intervals hold the true accuracy."
    rng, hits = np.random.default_rng(1), 0
    for _ in range(60):
        label = rng.integers(0, 2, 300)
        runs = [{'label': label.tolist(), 'score': np.where(rng.random(300) < .7, label, 1 - label).tolist(), 'sentence': np.repeat(np.arange(150), 2).tolist()} for _ in range(3)]
        accuracy = mean_over_seeds(runs, 400)['accuracy']
        hits += accuracy['low'] <= .7 <= accuracy['high']
    assert hits >= 51


@pytest.mark.parametrize('a, b, same', [('x = 1  # one', 'x=1', True), ('def f():\n    "Doc."\n    return 1', 'def f():\n    return 1', True),
                                        ('x = "Doc."', 'x = "Dot."', False), ('x = 1', 'x = 2', False)])
def test_fingerprints_see_code_and_nothing_else(a, b, same):
    assert (bare_code(a) == bare_code(b)) is same
