"What the paper's notebooks share: one regime, trainings done once, exams, differences, and the line under every figure."
import json
from dataclasses import replace

import numpy as np
import pytest

from signspot.changes import CHANGES, changed
from signspot.corpus import Corpus
from signspot.experiment import PARTS, Experiment, load_parts, make_corpus, made_job, part_of, run_experiments
from signspot.pose import BadInput
from signspot.report import commit_of, made_by, minutes_of, provenance, publish, root_of, side_by_side
from signspot.signing import SigningConfig, sign_corpus
from signspot.study import ROWS, exam_corpus, gap, plan, regime, run_exams, test_part as part_tested, train_all, trained, verdict


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return sign_corpus(SigningConfig(sentences=60, queries_per_sign=3, signers=4, world='plain'), seed=5)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    "Two trainings of the smoke preset: where they lie, how they were planned, what came out."
    runs, small = tmp_path_factory.mktemp('runs'), regime('smoke')
    planned = {(row, 0): plan(small, *ROWS[row]) for row in ('1D-CNN', 'contrastive')}
    return runs, planned, train_all(planned, runs)


# Changes

@pytest.mark.parametrize('change', ['', *CHANGES])
def test_a_change_keeps_pairs_and_the_balance_of_labels(corpus, change):
    after = changed(corpus, change)
    assert len(after) == len(corpus) and after.label.sum() == corpus.label.sum()
    if change != 'shuffled labels': assert (after.label == corpus.label).all()


def test_changes_take_away_what_they_say(corpus):
    alone, frames, keypoints, swapped = (changed(corpus, c) for c in ('sentence alone', 'frames shuffled', 'keypoints shuffled', 'swapped'))
    assert len({alone.clip(q).tobytes() for q in alone.pairs[:, 0]}) == 1 and all(np.array_equal(alone.clip(a), corpus.clip(b)) for a, b in zip(alone.pairs[:, 1], corpus.pairs[:, 1]))
    for i in range(0, len(corpus.length), 7):
        a, b = corpus.clip(i).reshape(len(corpus.clip(i)), -1), frames.clip(i).reshape(len(corpus.clip(i)), -1)
        assert np.array_equal(a[np.lexsort(a.T)], b[np.lexsort(b.T)])          # the same frames, in another order
    assert np.array_equal(np.sort(keypoints.frames, 1), np.sort(corpus.frames, 1)) and not np.array_equal(keypoints.frames, corpus.frames)
    assert (swapped.pairs == corpus.pairs[:, ::-1]).all()


def test_unknown_changes_are_refused(corpus):
    with pytest.raises(BadInput, match='no change'): changed(corpus, 'shuffled')
    with pytest.raises(BadInput, match='no change'): Experiment({}, {}, {}, {}, change='labels')


def test_labels_are_shuffled_only_where_they_are_learned_from(tmp_path):
    job = plan(regime('smoke'), change='shuffled labels').job()['experiment']
    for part, seed in PARTS.items():
        made = made_job(job['corpus'] if part == 'train' else job['held_out'], seed)
        from signspot.engine import job_path
        make_corpus(made, job_path(made, tmp_path, '.npz'))
    before, after = load_parts(job | {'change': ''}, tmp_path), load_parts(job, tmp_path)
    assert (after['test'].label == before['test'].label).all() and (after['validation'].label == before['validation'].label).all() and (after['train'].label != before['train'].label).any()


# The same people

def test_a_corpus_by_the_people_of_another():
    old, new = SigningConfig(sentences=40, signers=5), SigningConfig(sentences=20, signers=8)
    theirs, others = sign_corpus(new, 2, people=(old, 1)), sign_corpus(new, 2)
    trained_on = sign_corpus(old, 1)
    assert set(theirs.signer) <= {f'S1-{n}' for n in range(5)} == set(trained_on.signer) and not set(others.signer) & set(trained_on.signer)
    assert not {c.tobytes() for c in map(theirs.clip, range(len(theirs.length)))} & {c.tobytes() for c in map(trained_on.clip, range(len(trained_on.length)))}


# Regime, exams

def test_what_was_trained_is_not_trained_again(done):
    runs, planned, results = done
    again, report = run_experiments(list(planned.values()), runs)
    assert not report.done and again == list(results.values())


def test_an_exam_of_the_test_part_gives_what_the_training_reported(done):
    runs, planned, results = done
    exam = {'test': {'corpus': regime('smoke')['held_out'], 'seed': PARTS['test']}}
    said = run_exams(planned | {'DTW': 'DTW'}, exam, runs)
    for key, result in results.items(): assert said[key, 'test']['score'] == result['score'] and said[key, 'test']['similarity'] == result['similarity']
    assert said['DTW', 'test']['label'] == part_tested(planned['1D-CNN', 0], runs).label.tolist() and all(0 <= s <= 1 for s in said['DTW', 'test']['score'])


def test_an_exam_by_the_training_signers(done):
    runs, planned, _ = done
    small = regime('smoke')
    same = exam_corpus({'corpus': small['held_out'], 'seed': 77, 'people': {'corpus': small['corpus'], 'seed': PARTS['train']}}, runs)
    training = load_parts(planned['1D-CNN', 0].job()['experiment'], runs)['train']
    assert set(same.signer) <= set(training.signer)


def test_the_model_of_a_training_is_the_one_that_was_reported(done):
    from signspot.train import predict
    runs, planned, results = done
    for key, experiment in planned.items():
        assert np.allclose(predict(trained(experiment, runs), part_tested(experiment, runs)), results[key]['score'], atol=1e-4)


@pytest.mark.parametrize('wrong, what', [({'preset': 'fast'}, 'one of smoke'), ({'preset': 'smoke', 'corpus': 'wslp:nowhere'}, 'nowhere')])
def test_wrong_regimes_are_refused(wrong, what, tmp_path):
    with pytest.raises(BadInput, match=what): regime(**wrong, root=tmp_path)


def test_a_corpus_of_ones_own_takes_the_place_of_the_procedural_one(corpus, tmp_path):
    "Split at random over pairs; three parts that share no pair; another corpus in the same place is another training."
    corpus.save(tmp_path/'mine.npz')
    mine = regime('smoke', 'store:mine.npz', tmp_path)
    parts = [part_of(mine['corpus']['spec'], part) for part in PARTS]
    named = [{(p.id[q], p.id[s]) for q, s in p.pairs} for p in parts]
    assert sum(map(len, named)) == len(set.union(*named)) and len(parts[2]) == pytest.approx(.2 * len(corpus), abs=3)
    results = train_all({0: plan(mine, '1d')}, tmp_path/'runs')
    assert len(results[0]['score']) == len(parts[2])
    replace(corpus, label=1 - corpus.label).save(tmp_path/'mine.npz')
    assert plan(regime('smoke', 'store:mine.npz', tmp_path), '1d').job() != plan(mine, '1d').job()


def test_a_corpus_without_labels_is_refused(corpus, tmp_path):
    replace(corpus, label=np.full(len(corpus), -1)).save(tmp_path/'mine.npz')
    with pytest.raises(BadInput, match='at least 20 labelled pairs'): regime('smoke', 'store:mine.npz', tmp_path)


# Differences

def pretended(right: float, rng, sentences: int = 150) -> dict:
    label = rng.integers(0, 2, 2 * sentences)
    return {'label': label.tolist(), 'score': np.where(rng.random(2 * sentences) < right, label, 1 - label).tolist(), 'sentence': np.repeat(np.arange(sentences), 2).tolist()}


def test_gaps_cover_and_are_antisymmetric():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(60):
        label = pretended(1, rng)['label']
        rows = [[pretended(p, rng) | {'label': label} for _ in range(3)] for p in (.75, .65)]
        for row, p in zip(rows, (.75, .65)):
            for run in row: run['score'] = np.where(rng.random(300) < p, label, 1 - np.array(label)).tolist()
        difference = gap(*rows, draws=400)
        hits += difference['low'] <= 10 <= difference['high']
    assert hits >= 50
    assert gap(*rows)['mean'] == pytest.approx(-gap(*rows[::-1])['mean'])


@pytest.mark.parametrize('difference, said', [((1, 0.5, 2), 'higher'), ((-1, -2, -.5), 'lower'), ((1, -1, 3), 'not decided'), ((0, 0, 0), 'not decided')])
def test_verdicts(difference, said):
    assert verdict(dict(zip(('mean', 'low', 'high'), difference))) == said


# Reports

def test_a_shared_job_counts_once():
    once = {'experiment': {'seed': 0}, 'minutes': 2.}
    assert minutes_of([once, dict(once), {'experiment': {'seed': 1}, 'minutes': 1.}, {'exam': {}, 'asked': 'DTW', 'minutes': .5}]) == 3.5


def test_every_figure_says_where_it_is_from(tmp_path):
    import matplotlib.pyplot as plt
    made = made_by('table2', preset='smoke', seeds=3, modules=('study',), results=[{'experiment': 1, 'minutes': 90.}], workers=2, data='procedural corpus; and more')
    line = provenance(made)
    assert all(word in line for word in ('nbs/paper/table2.ipynb', 'commit', 'procedural corpus', '3 seeds', 'cores', '90 min')) and made['minutes'] == 45
    figure = plt.subplots()[0]
    publish(tmp_path/'new', 'table2', made, {'': figure, 'more': figure})
    assert {p.name for p in (tmp_path/'new').iterdir()} == {'table2.json', 'table2.png', 'table2_more.png'} and json.loads((tmp_path/'new'/'table2.json').read_text()) == made
    assert line in [text.get_text() for text in figure.texts]
    plt.close(figure)


def test_a_result_with_nan_is_not_written(tmp_path):
    made = made_by('table2', preset='smoke', seeds=3, modules=(), results=[], workers=1, data='none')
    with pytest.raises(ValueError): publish(tmp_path, 'table2', made | {'accuracy': float('nan')})
    assert not (tmp_path/'table2.json').exists()


def test_outside_of_a_clone(tmp_path):
    with pytest.raises(BadInput, match='settings.ini'): root_of(tmp_path)
    assert commit_of(tmp_path) == 'unknown'


def test_jobs_side_by_side():
    assert side_by_side(3) == 3 and side_by_side() >= 1
    with pytest.raises(BadInput, match='jobs must be'): side_by_side(-1)
