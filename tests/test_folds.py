"Folds by signer: nobody who is left out is in training, all training sets are of one size, no recording is shared, and the same pairs are asked."
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from signspot import folds as f
from signspot.corpus import Corpus, audit, corpus_of, recordings
from signspot.pose import BadInput
from signspot.prepare import Prepared
from signspot.signing import SigningConfig, sign_corpus

ROOT = Path(__file__).resolve().parent.parent
KINECT = ROOT.parent/'shared'/'data'/'isl_kinect30.npz'
MADE = {'signing': {'signs': 8, 'sentence_signs': [1, 2], 'signers': 6, 'sentences': 300, 'pairs_per_sentence': 8, 'queries_per_sign': 12}, 'seed': 0}
SMALL = f.FoldConfig(MADE, {'epochs': 1, 'loss': {'kind': 'contrastive'}}, {'encoder': '1d', 'layers': 1}, pairs=20, validation=10, each=10)


def isolated(folder: Path, signers: int = 6, name: str = 'clips') -> Path:
    "Procedural recordings of single signs, as somebody's corpus on disk: four of each sign by each signer."
    made = sign_corpus(SigningConfig(signs=5, sentence_signs=(1, 1), signers=max(signers, 2), sentences=2, queries_per_sign=8 * max(signers, 2)), seed=0)
    kept = [i for i in np.flatnonzero(made.kind == 'query') if signers > 1 or made.signer[i] == made.signer[0]]
    corpus = corpus_of(name, [made.prepared(i) for i in kept], kind=['query'] * len(kept), gloss=made.gloss[kept], signer=made.signer[kept] if signers else [''] * len(kept), id=made.id[kept], pairs=[], label=[])
    corpus.save(folder/name)
    return folder/name


def composed(path: Path, **more) -> dict:
    return {'clips': str(path), 'data': 'x', 'compose': {'sentences': 200, 'signs': [1, 2], **more}, 'seed': 0}


@pytest.fixture(scope='module', params=['made up', 'composed'])
def both_sides(request, tmp_path_factory) -> tuple[Corpus, Corpus]:
    corpus = MADE if request.param == 'made up' else composed(isolated(tmp_path_factory.mktemp('clips')))
    pool, test = (f.by_two(f.side_of(corpus, tested)) for tested in (False, True))
    return pool, f.asked_pairs(test, 6, seed=0)


def test_no_recording_on_both_sides(both_sides):
    pool, test = both_sides
    assert not {r for clip in recordings(pool) for r in clip} & {r for clip in recordings(test) for r in clip}
    assert audit(pool, test).shared['clips with the same frames']['shared'] == 0
    for part in both_sides: assert (part.signer[part.pairs[:, 0]] != part.signer[part.pairs[:, 1]]).all()
    signs, count = np.unique(test.signer[test.pairs[:, 1]], return_counts=True)
    assert len(signs) == 6 and (count == 6).all() and test.label.mean() == .5 and set(pool.signer) == set(test.signer)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_whoever_is_left_out_is_not_in_training(both_sides, seed):
    pool, test = both_sides
    for without in f.folds(f.check_signers(pool), seed):
        learn, watch = f.fold_sets(pool, without, SMALL, seed)
        assert not set(without) & (set(learn.signer) | set(watch.signer))
        assert len(learn) == SMALL.pairs and len(watch) == SMALL.validation and learn.label.mean() == watch.label.mean() == .5
        named = lambda part: {(part.id[q], part.id[s]) for q, s in part.pairs}
        assert len(named(learn)) == SMALL.pairs and not named(learn) & named(watch) and not named(learn) & named(test)


def test_thirds():
    for seed in range(5):
        left_out = f.folds([f'K{n:02}' for n in range(10)], seed)
        assert [len(without) for without in left_out] == [1] * 10 + [4, 3, 3] and sorted(sum(left_out[10:], [])) == sum(left_out[:10], [])
    assert f.folds(list('ABCDEF'), 0)[6:] != f.folds(list('ABCDEF'), 1)[6:] and f.folds(list('ABCDEF'), 0) == f.folds(list('ABCDEF'), 0)


def test_the_same_seed_draws_the_same(both_sides):
    pool = both_sides[0]
    who = f.check_signers(pool)[:1]
    one, other, third = (f.fold_sets(pool, who, SMALL, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one.frames, other.frames) and np.array_equal(one.pairs, other.pairs) and set(one.id) != set(third.id)
    again = f.by_two(f.side_of(MADE, True))
    assert np.array_equal(again.frames, f.by_two(f.side_of(MADE, True)).frames)


@pytest.mark.parametrize(('signers', 'match'), [(0, 'signers cannot be left out, for they are not known'), (1, '1 signer, but a third'), (4, '4 signers, but a third')])
def test_corpora_without_signers_are_refused(tmp_path, signers, match):
    config = f.FoldConfig(composed(isolated(tmp_path, signers)), pairs=20, validation=10, each=6)
    with pytest.raises(BadInput, match=match) as refused: f.run_folds({'x': config}, 1, tmp_path/'runs')
    assert '\n' not in str(refused.value)


def test_what_cannot_be_is_refused(both_sides):
    pool, test = both_sides
    for wrong in (dict(pairs=3), dict(each=0), dict(validation=-2)):
        with pytest.raises(BadInput, match='must be even'): f.FoldConfig(MADE, **wrong)
    with pytest.raises(BadInput, match="either 'signing'"): f.FoldConfig({})
    with pytest.raises(BadInput, match='more sentences, or fewer pairs'): f.fold_sets(pool, [], f.FoldConfig(MADE, pairs=100_000), 0)


def test_clips_are_divided_within_signer_and_gloss():
    clip = Prepared(np.zeros((4, 50, 2), 'float32'), np.ones((4, 2), bool), 12.5)
    who, what = np.repeat(['A', 'B'], 18), np.tile(np.repeat(['X', 'Y'], 9), 2)
    clips = corpus_of('toy', [clip] * 36, kind=['query'] * 36, gloss=what, signer=who, pairs=[], label=[])
    tested = f.clips_apart(clips, 0)
    assert all(tested[(who == a) & (what == b)].sum() == 4 for a in 'AB' for b in 'XY') and np.array_equal(tested, f.clips_apart(clips, 0)) and not np.array_equal(tested, f.clips_apart(clips, 1))


def test_a_round_of_models(tmp_path):
    "Every model is asked the same pairs; a second run does nothing; one model more or less is not another experiment."
    done = f.run_folds({'made up': SMALL}, 1, tmp_path)
    (results,), dtw = done['made up']
    assert [r['kind'] for r in results] == f.folds(sorted(set(dtw['signs'])), 0) and dtw['kind'] == 'DTW'
    for result in (*results, dtw): assert len(result['score']) == 60 and all(result[name] == dtw[name] for name in ('label', 'asks', 'signs'))
    assert len({json.dumps(r['score']) for r in results}) == len(results)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert f.run_folds({'made up': SMALL}, 1, tmp_path) == done and before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def answered(seed: int, right) -> list[dict]:
    "Results of a round of ten in which `right(asks, signs, without)` says what a model gets right."
    who = [f'K{n}' for n in range(10)]
    pairs = [(a, s) for a in who for s in who if a != s]
    asks, signs = map(list, zip(*pairs))
    return [{'kind': without, 'label': [1] * 90, 'score': [float(right(a, s, without)) for a, s in pairs], 'asks': asks, 'signs': signs} for without in f.folds(who, seed)]


def test_known_and_new_are_told_apart():
    signs = f.costs([answered(seed, lambda a, s, without: s not in without) for seed in range(3)])
    assert signs['signs']['cost']['mean'] == signs['both']['cost']['mean'] == -1 and signs['asks']['cost']['mean'] == 0
    asks = f.costs([answered(seed, lambda a, s, without: a not in without) for seed in range(3)])
    assert asks['asks']['cost']['mean'] == asks['both']['cost']['mean'] == -1 and asks['signs']['cost']['mean'] == 0
    hard = f.costs([answered(seed, lambda a, s, without: s != 'K3') for seed in range(3)])     # K3 is hard to read, known or not: no cost
    assert all(hard[kind]['cost']['mean'] == 0 == hard[kind]['cost']['low'] for kind in f.KINDS) and hard['signs']['new']['signers'][3] == 0 < hard['signs']['known']['mean'] < 1


def test_the_signer_is_what_is_drawn_anew():
    rng = np.random.default_rng(0)
    people, seeds = .7 + .1 * rng.standard_normal((1, 10)), .7 + .001 * rng.standard_normal((3, 1))
    wide, narrow = f.over_signers(people + 0 * seeds), f.over_signers(seeds + 0 * people)
    assert wide['high'] - wide['low'] > .06 > .01 > narrow['high'] - narrow['low']
    assert wide['mean'] == pytest.approx(people.mean()) and wide['signers'] == pytest.approx(people[0].tolist()) and len(narrow['seeds']) == 3


def test_pairs_for_every_signer():
    few = answered(0, lambda a, s, without: True)
    third = few[-1]['kind']
    keep = [n for n, s in enumerate(few[0]['signs']) if s != third[0] or few[0]['asks'][n] not in third]
    for r in few: r.update({name: [r[name][n] for n in keep] for name in ('label', 'score', 'asks', 'signs')})
    with pytest.raises(BadInput, match='take more test pairs'): f.known_and_new(few, 'both')


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('signers')/'clone'
    shutil.copytree(ROOT/'nbs'/'paper', root/'nbs'/'paper')
    shutil.copy(ROOT/'settings.ini', root)
    return root


def test_smoke_without_recordings(clone, monkeypatch, capsys):
    "Where there are none, the made-up half is done and the other said to be missing; a wrong folder is refused."
    from signspot.cli import main
    monkeypatch.chdir(clone)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', 'signers', '--preset', 'smoke', '-p', 'seeds=1', '-p', 'jobs=1']) == 0
    made = json.loads((clone/'figures'/'smoke'/'signers.json').read_text())
    assert made['Kinect'] == 'not run: recordings not found' and 'not run: recordings not found' in made['claim'] and set(made['procedural']['kinds']) == set(f.KINDS)
    assert 'Kinect: not run' in capsys.readouterr().out
    assert main(['rerun', 'signers', '--preset', 'smoke', '-p', 'shared=nowhere']) == 2
    said = capsys.readouterr()
    assert 'does not find data/isl_kinect30.npz in nowhere' in said.err and len(said.err.strip().splitlines()) == 1


@pytest.mark.skipif(not KINECT.exists(), reason='the recordings are not there: ../shared/data/isl_kinect30.npz')
def test_kinect_has_ten_signers():
    corpus = {'clips': str(KINECT), 'compose': {'sentences': 120, 'signs': [1, 2]}, 'seed': 0}
    pool, test = (f.by_two(f.side_of(corpus, tested)) for tested in (False, True))
    assert len(f.check_signers(pool)) == len(f.check_signers(test)) == 10 and audit(pool, test).shared['recordings']['shared'] == 0


def test_what_is_published_adds_up():
    path = ROOT/'figures'/'signers.json'
    if not path.exists(): pytest.skip('figures/signers.json has not been made yet: signspot rerun signers')
    made = json.loads(path.read_text())
    assert made['seeds'] >= 3 and str(ROOT.parent) not in path.read_text()
    for name in ('procedural', 'Kinect'):
        if isinstance(made[name], str): continue
        for kind, of in made[name]['kinds'].items():
            assert of['cost']['mean'] == pytest.approx(of['new']['mean'] - of['known']['mean'])
            for value in of.values(): assert value['low'] <= value['mean'] <= value['high'] and len(value['signers']) == 10 and len(value['seeds']) == made['seeds'] and value['mean'] == pytest.approx(np.mean(value['seeds'])) == pytest.approx(np.mean(value['signers']))
