"The paper notebooks: results in step with the code, reruns that recompute nothing, and mistakes answered in a line."
import ast
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from signspot.cli import main
from signspot.beyond import bundled_id
from signspot.changes import shuffle_labels
from signspot.experiment import Experiment, bare_code, code_version, mean_over_seeds, run_experiments
from signspot.rerun import paper_notebooks

ROOT = Path(__file__).resolve().parent.parent
RESULTS = sorted((ROOT/'figures').glob('*.json'))
TRAINED = {'table1', 'table2', 'tokens', 'contrastive_weight', 'precision_recall', 'localisation', 'attention', 'noise', 'length', 'signers', 'leakage', 'learning_rate', 'speed'}


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


MACHINERY = {'engine', 'report'}                                            # jobs and pages: no number depends on them,
NO_NUMBER = {'all_done', 'code_version', 'timed_strip', 'Candidates'}        # nor on these: how jobs ended, fingerprints, pictures, a record


@pytest.mark.parametrize('result', RESULTS, ids=lambda path: path.stem)
def test_results_depend_on_what_their_notebooks_import(result):
    "A module that is not named could change, and the result would still be called fresh."
    made = json.loads(result.read_text())
    cells = [cell['source'] for cell in json.loads((ROOT/made['notebook']).read_text())['cells'] if cell['cell_type'] == 'code']
    statements = [node for cell in cells for node in ast.walk(ast.parse(''.join(cell)))]
    imported = {node.module.split('.')[1] for node in statements if isinstance(node, ast.ImportFrom) and node.module.startswith('signspot.') and {name.name for name in node.names} - NO_NUMBER}
    assert imported and imported - MACHINERY <= set(made['modules'])


def test_every_paper_notebook_has_its_result():
    assert {path.stem for path in RESULTS} == set(paper_notebooks(ROOT)) - {'log'}


@pytest.mark.parametrize('result', RESULTS, ids=lambda path: path.stem)
def test_every_result_says_what_it_is(result):
    "A claim with a number in it, on what data, with how many seeds, by which command, on what machine, in how many minutes; and a figure."
    made = json.loads(result.read_text())
    assert re.search(r'\d', made['claim']) and made['claim'].rstrip().endswith('.') and made['claim'].count('\n') == 0
    assert made['data'] and made['machine'] and made['minutes'] >= 0 and made['command'].split()[:3] == ['signspot', 'rerun', result.stem]
    assert made['preset'] in ('', 'cpu', 'full') and re.fullmatch('[0-9a-f]{7,12}( with changes)?', made['commit'])
    if result.stem in TRAINED: assert made['seeds'] >= 3
    assert result.stem in ('corpora', 'statements') or result.with_suffix('.png').stat().st_size > 5000


def test_every_published_picture_belongs_to_a_notebook():
    names = set(paper_notebooks(ROOT))
    assert [path.name for path in (ROOT/'figures').glob('*.png') if not any(path.stem == name or path.stem.startswith(f'{name}_') for name in names)] == []


def test_statements_are_as_new_as_what_they_were_read_from():
    read = json.loads((ROOT/'figures'/'statements.json').read_text())['read from']
    assert read == {path.stem: json.loads(path.read_text())['code'] for path in RESULTS if path.stem != 'statements'}


def test_beyond_is_about_the_librarys_own_weights_and_their_card_says_so():
    made, card = json.loads((ROOT/'figures'/'beyond.json').read_text()), (ROOT/'signspot'/'weights'/'README.md').read_text()
    assert made['weights'] == bundled_id(), 'the weights are others than those that were measured: signspot rerun beyond'
    for exam, found in made['exams'].items():
        line = next(line for line in card.splitlines() if line.startswith(f'| {exam} |'))
        for who in ('matcher', 'DTW'): assert '{mean:.3f} [{low:.3f}, {high:.3f}]'.format(**found[who]['ROC-AUC']) in line


def test_the_matcher_is_above_the_others_where_it_is_said_to_be():
    exams = json.loads((ROOT/'figures'/'beyond.json').read_text())['exams']
    for exam in ('unseen', 'long', 'asl_traduttore14 test'):
        assert all(exams[exam]['matcher']['ROC-AUC']['low'] > exams[exam][who]['ROC-AUC']['high'] for who in exams[exam] if who != 'matcher'), exam
    assert all(0 <= value['low'] <= value['mean'] <= value['high'] <= 1 for found in exams.values() for who in found.values() for value in who.values() if value)


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


def test_table2_compares_every_pair_of_rows_in_every_seed():
    "What McNemar and Holm say is what they say of these counts, and the words are those of the p values."
    from scipy.stats import binomtest
    from signspot.metrics import holm
    made = json.loads((ROOT/'figures'/'table2.json').read_text())
    duels = made['comparisons']
    assert len(duels) == 10 and len({tuple(sorted(d['rows'])) for d in duels}) == 10
    accuracy = {row['row']: row['accuracy'] for row in [*made['rows'], *made['beside']]}
    for d in duels:
        a, b = (accuracy[row]['seeds'] for row in d['rows'])
        assert d['points']['mean'] == pytest.approx(100 * (np.mean(a) - np.mean(b))) and d['points']['low'] <= d['points']['mean'] <= d['points']['high']
        for seed, (only_a, only_b) in enumerate(d['only one right']): assert only_a - only_b == pytest.approx(made['test pairs'] * (a[seed] - b[min(seed, len(b) - 1)]))
        seen = sum(p < .05 and (only_a - only_b) * d['points']['mean'] > 0 for p, (only_a, only_b) in zip(d['p'], d['only one right']))
        assert d['separated by'] == {0: 'no seed', made['seeds']: 'every seed'}.get(seen, f'{seen} of {made["seeds"]} seeds')
    for seed in range(made['seeds']):
        p = [binomtest(d['only one right'][seed][0], sum(d['only one right'][seed])).pvalue if sum(d['only one right'][seed]) else 1 for d in duels]
        assert [d['p'][seed] for d in duels] == pytest.approx(holm(p))


def test_table2_says_how_many_seeds_it_takes():
    from signspot.metrics import power
    made = json.loads((ROOT/'figures'/'table2.json').read_text())
    asked = made['power']
    assert asked['difference'] == pytest.approx(63.04 - 61.39) and asked['pairs'] == 5087
    for claim, lasts in (('about this test set', 0), ('about other test pairs too', asked['lasting'])):
        for end, n in asked['seeds for 80 %'][claim].items():
            enough = lambda seeds: power(asked['difference'], seeds, asked['spread between seeds'][end], lasts) >= .8
            assert (not enough(10 ** 6)) if n is None else enough(n) and (n == 2 or not enough(n - 1))
    n = asked['seeds for 80 %']['about this test set']
    assert n['low'] <= n['mean'] <= n['high'] and f'{n["mean"]} seeds' in made['claim'] and (ROOT/'figures'/'table2_power.png').exists()


def test_table2_judges_by_intervals():
    made = json.loads((ROOT/'figures'/'table2.json').read_text())
    mean = {row['row']: row['accuracy']['mean'] for row in made['rows']}
    for s in made['statements']:
        better, worse = s['statement'].split(' (')[0].split(' has a higher accuracy than ')
        if s['verdict'] != 'cannot be decided here': assert (mean[better] > mean[worse]) == (s['verdict'] == 'confirmed here')
        assert f'{100 * (mean[better] - mean[worse]):+.1f} [' in s['evidence']


def test_table1_adds_up():
    "Constant answers are at chance, no recording is shared, and verdicts are those of the intervals."
    made = json.loads((ROOT/'figures'/'table1.json').read_text())
    rows = {(row['test'], row['row']): row for row in made['rows']}
    assert made['seeds'] >= 3 and {test for test, _ in rows} == {'sentences', 'signers', 'signs'}
    for (test, name), row in rows.items():
        for metric in ('accuracy', 'precision', 'recall', 'f1', 'auc'): assert row[metric]['low'] - 1e-9 <= row[metric]['mean'] <= row[metric]['high'] + 1e-9 and np.isclose(row[metric]['mean'], np.mean(row[metric]['seeds']))
        if 'always' in name or name == 'sentence alone': assert row['accuracy']['mean'] == pytest.approx(.5, abs=.001)
        assert made['shared with training, share of test pairs'][test]['recordings'] == 0
    again = json.loads((ROOT/'figures'/'table2.json').read_text())['rows']
    for row in again[:2]:   # the same models on the same pairs
        for metric in ('accuracy', 'f1'): assert row[metric]['seeds'] == pytest.approx(rows['signers', row['row']][metric]['seeds'], abs=.002)
    for s in made['statements'][:-1]:
        test, metric = next(t for t, r in rows if rows[t, '2D-CNN']['new'] == s['test']), {'accuracy': 'accuracy', 'precision': 'precision', 'F1': 'f1'}[s['statement'].split(' than ')[0].split()[-1]]
        value, sign = made['2D less 1D'][test][metric], 1 if s['statement'].startswith('2D') else -1
        expected = 'cannot be decided here' if value['low'] <= 0 <= value['high'] else 'confirmed here' if sign * value['mean'] > 0 else 'contradicted here'
        assert s['verdict'] == expected


def test_reported_cells_of_table1():
    "As quoted, with marks; 67.16 and 61.74 make 64.34, whatever the balance."
    reported = json.loads((ROOT/'data'/'paper.json').read_text())
    cells = reported['table1']['rows']['2D-CNN']
    assert cells == {'accuracy': 61.66, 'precision': 67.16, 'recall': 61.74, 'f1': 61.74} and reported['abstract']['accuracy'] == 61.88 and reported['abstract']['f1'] == 60
    assert round(2 * cells['precision'] * cells['recall'] / (cells['precision'] + cells['recall']), 2) == 64.34
    assert reported['table1']['marks']['accuracy'] == 'read' and set(reported['table1']['rows']['1D-CNN'].values()) == {None}


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
    assert {p.name for p in (clone/'figures'/'smoke').glob('table2*')} == {'table2.json', 'table2.png', 'table2_power.png', 'table2.ipynb'}


@pytest.mark.parametrize('name', ['table1', 'table2'])
def test_tables_on_a_corpus_of_ones_own(name, clone, monkeypatch, capsys):
    "What is procedural in words and figures comes from the corpus."
    from dataclasses import replace
    from signspot.signing import SigningConfig, sign_corpus
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    given = sign_corpus(SigningConfig(sentences=40, queries_per_sign=2, world='plain'), seed=9)
    replace(given, name='somebody', about={**given.about, 'source': 'somebody'}).save(clone/'own.npz')
    assert main(['rerun', name, '--preset', 'smoke', '-p', 'corpus=own.npz', '-p', 'seeds=2', '-p', f'out={clone}/own']) == 0, capsys.readouterr().err
    made = json.loads((clone/'own'/f'{name}.json').read_text())
    assert made['data'].startswith('somebody') and 'somebody' in made['claim'] and 'procedural' not in json.dumps([made['claim'], made['said'], made['statements'], made['data']])
    assert 'corpus=own.npz' in made['command'] and made['needs'] == 'own.npz'


def test_table2_by_papermill_itself(clone, monkeypatch):
    "`papermill nbs/paper/table2.ipynb out.ipynb -p preset smoke`, from the root; one seed shows no spread, and that is said."
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


VARIES = {'commit', 'machine', 'minutes', 'minutes of jobs, added up'}   # from run to run, and says so


def assert_alike(a, b):
    "The same but for the last digits of numbers, and for where and when it was made."
    assert type(a) is type(b)
    if isinstance(a, dict): a, b = ({key: value for key, value in d.items() if key not in VARIES} for d in (a, b))
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


@pytest.mark.parametrize('name', ['realism', 'corpora', 'national', 'beyond', 'rivals'])
def test_what_needs_recordings_says_so_where_there_are_none(name, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', name, '-p', f'shared={clone}/nowhere']) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'signspot: {name}: ') and said.count('\n') == 1 and 'does not find' in said and 'shared=' in said
    assert not list((clone/'figures').glob(f'{name}*')), 'a refusal leaves nothing behind'


def test_smoke_of_all_goes_all_the_way(clone, monkeypatch, capsys):
    "Every notebook, beside what is published and not over it; those that need recordings say that there are none, and do not keep the others from running."
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    for path in (clone/'figures').glob('*.json'): path.unlink()
    assert main(['rerun', 'all', '--preset', 'smoke']) == 2
    said = capsys.readouterr()
    failed = [line for line in said.err.splitlines() if line.startswith('signspot: ')]
    assert len(failed) == 3 and all('does not find' in line for line in failed), said.err[-3000:]
    names = set(paper_notebooks(clone)) - {'realism', 'corpora', 'national'}
    assert {path.stem for path in (clone/'figures'/'smoke').glob('*.ipynb')} == names and {path.stem for path in (clone/'figures'/'smoke').glob('*.json')} == names - {'log'}
    assert not list((clone/'figures').glob('*.json'))
    made = [json.loads(path.read_text()) for path in (clone/'figures'/'smoke').glob('*.json')]
    assert all(result['claim'] and result['command'].startswith('signspot rerun ') for result in made)


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
    one, other = Experiment(**SMALL), Experiment(**SMALL, change="shuffled labels")
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
