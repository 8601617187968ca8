"The leakage experiment holds still what it should: test pairs, number of training pairs, balance; and keeps apart what each kind promises."
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from signspot.corpus import audit
from signspot.leakage import KINDS, LeakConfig, accuracy, draw, training_sets, worlds
from signspot.pose import BadInput
from signspot.signing import SigningConfig, sign_corpus

ROOT = Path(__file__).resolve().parent.parent
SMALL = LeakConfig(pairs=40, validation=12, test=24)
APART = {'sentence': ['sentence clips'], 'query': ['glosses of queries', 'query clips'], 'signer': ['signers', 'recordings', 'query clips', 'sentence clips'],
         'query+signer': ['glosses of queries', 'signers', 'recordings', 'query clips', 'sentence clips', 'clips with the same frames']}


@pytest.fixture(scope='module')
def corpus():
    return sign_corpus(SigningConfig(signs=8, sentence_signs=(1, 2), signers=8, sentences=200, pairs_per_sentence=16, queries_per_sign=12), seed=0)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_training_sets(corpus, seed):
    sets = training_sets(corpus, SMALL, seed)
    assert set(sets) == {'test', *KINDS, *(f'{kind}, validation' for kind in KINDS)}
    named = lambda part: {(part.id[q], part.id[s]) for q, s in part.pairs}
    for kind in KINDS:
        learn, watch = sets[kind], sets[f'{kind}, validation']
        assert len(learn) == 40 and len(watch) == 12 and len(sets['test']) == 24 and learn.label.mean() == watch.label.mean() == sets['test'].label.mean() == .5
        assert not named(learn) & named(sets['test']) and not named(watch) & named(sets['test']) and not named(learn) & named(watch) and len(named(learn)) == 40
        for part in (learn, watch): assert all(audit(part, sets['test']).shared[what]['shared'] == 0 for what in APART.get(kind, []))
    touched = audit(sets['pair'], sets['test']).shared
    assert touched['query clips']['pairs'] > .6 and touched['sentence clips']['pairs'] > .3 and touched['signers']['pairs'] == 1


def test_worlds_are_disjoint(corpus):
    assert sum(inside.astype(int) for inside in worlds(corpus, 0).values()).max() == 1


def test_the_same_seed_draws_the_same(corpus):
    one, other = training_sets(corpus, SMALL, 1), training_sets(corpus, SMALL, 1)
    assert all(np.array_equal(one[name].frames, other[name].frames) for name in one)
    assert set(one['test'].id) != set(training_sets(corpus, SMALL, 2)['test'].id)


def test_too_few_pairs_are_refused(corpus):
    with pytest.raises(BadInput, match='more sentences, or fewer pairs'): draw(corpus, np.ones(len(corpus), bool), 10_000, np.random.default_rng(0))
    for wrong in (dict(pairs=3), dict(test=0), dict(validation=-2)):
        with pytest.raises(BadInput, match='must be even'): LeakConfig(**wrong)


def pretend(share: float, seed: int) -> dict:
    rng, label = np.random.default_rng(seed), np.tile([1, 0], 300)
    return {'label': label.tolist(), 'score': np.where(rng.random(600) < share, label, 1 - label).tolist(), 'sentence': np.repeat(np.arange(200), 3).tolist()}


def test_intervals_of_a_difference_are_of_the_same_pairs():
    good = [pretend(.8, seed) for seed in range(4)]
    worse = [result | {'score': [1 - s if n % 10 == 0 else s for n, s in enumerate(result['score'])]} for result in good]    # another answer to a tenth of the pairs
    lost = accuracy(worse, good)
    assert lost['mean'] == pytest.approx(accuracy(worse)['mean'] - accuracy(good)['mean']) and lost['low'] < lost['mean'] < lost['high'] < 0
    assert lost['high'] - lost['low'] < accuracy(good)['high'] - accuracy(good)['low'] + .02 and accuracy(good, good)['low'] == 0


def test_smoke(tmp_path, monkeypatch, capsys):
    "The notebook goes all the way; the second time nothing is trained."
    from signspot.cli import main
    shutil.copytree(ROOT/'nbs'/'paper', tmp_path/'nbs'/'paper')
    shutil.copy(ROOT/'settings.ini', tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MPLBACKEND', raising=False)
    assert main(['rerun', 'leakage', '--preset', 'smoke', '-p', 'seeds=1']) == 0
    first = json.loads((tmp_path/'figures'/'smoke'/'leakage.json').read_text())
    assert [row['kind'] for row in first['rows']] == list(KINDS) and 'trainings: 6 of 6' in capsys.readouterr().out
    assert main(['rerun', 'leakage', '--preset', 'smoke', '-p', 'seeds=1']) == 0
    assert 'trainings:' not in capsys.readouterr().out and json.loads((tmp_path/'figures'/'smoke'/'leakage.json').read_text()) == first


def test_what_is_published_adds_up():
    path = ROOT/'figures'/'leakage.json'
    if not path.exists(): pytest.skip('figures/leakage.json has not been made yet: signspot rerun leakage')
    made = json.loads(path.read_text())
    assert made['seeds'] >= 3 and [row['kind'] for row in made['rows']] == list(KINDS)
    for row in made['rows']:
        assert len(row['accuracy']['seeds']) == made['seeds'] and np.isclose(row['accuracy']['mean'], np.mean(row['accuracy']['seeds'])) and row['accuracy']['low'] <= row['accuracy']['mean'] <= row['accuracy']['high']
        if row['against pair']: assert row['against pair']['mean'] == pytest.approx(row['accuracy']['mean'] - made['rows'][0]['accuracy']['mean'])
        assert all(row['touched'][what] == 0 for what in APART.get(row['kind'], [])) and max(row['blind'].values()) < .6
