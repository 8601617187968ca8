"The named benchmark: the same on every machine, its parts apart, and a changed corpus noticed."
import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from signspot.benchmark import BENCHMARKS, TESTS, benchmark, check_benchmark, differences, identity, parts_of
from signspot.pose import BadInput
from signspot.signing import lexicon_for

PUBLISHED = json.loads((files('signspot')/'benchmark.json').read_text())


@pytest.mark.parametrize('part', ['unseen', 'minimal'])
def test_a_part_is_what_was_published(part):
    corpus = check_benchmark(part)
    assert len(corpus) == 1000 and corpus.label.mean() == .5 and corpus.name == f'made-1/{part}'


def test_every_part_is_published():
    assert {name: set(parts) for name, parts in PUBLISHED.items()} == {name: set(parts) for name, parts in BENCHMARKS.items()}
    assert all(PUBLISHED['made-1'][part]['sketch'] for part in TESTS)


def test_training_shares_no_sign_with_unseen_parts_and_no_signer_with_any():
    signs = {part: {s.parameters for s in lexicon_for(config)} for part, (config, _) in parts_of('made-1').items()}
    for part in ('validation', 'unseen', 'minimal', 'long'): assert not signs['train'] & signs[part]
    assert signs['seen'] == signs['train'] and not signs['validation'] & signs['unseen']
    assert len({seed for _, seed in parts_of('made-1').values()}) == len(parts_of('made-1'))     # signers and recordings are drawn from the seed


def test_the_minimal_part_asks_for_minimal_pairs():
    config, seed = parts_of('made-1')['minimal']
    corpus = benchmark('minimal', sentences=60)
    known = {s.gloss: s.parameters for s in lexicon_for(config)}
    apart = lambda a, b: sum(x != y for x, y in zip(known[a], known[b]))
    near = [min(apart(corpus.gloss[q], s) for s in corpus.gloss[c].split()) == 1 for (q, c), label in zip(corpus.pairs, corpus.label) if not label]
    assert np.mean(near) > .9


@pytest.mark.parametrize('change, what', [(dict(lexicon='0'), 'lexicon'), (dict(pairs='0'), 'pairs'), (dict(clips='0'), 'clips'), (dict(frames=7), 'frames')])
def test_a_difference_is_named(change, what):
    mine = PUBLISHED['made-1']['unseen']
    assert differences(mine, mine) == [] and len(said := differences(mine | change, mine)) == 1 and said[0].startswith(what)


def test_last_digits_may_differ_and_no_more():
    mine = PUBLISHED['made-1']['unseen']
    moved = lambda by: mine | {'sketch': (np.array(mine['sketch']) + by).tolist()}
    assert differences(moved(2e-4), mine) == [] and 'keypoints' in differences(moved(.01), mine)[0]


def test_another_corpus_is_not_the_benchmark():
    config, seed = parts_of('made-1')['unseen']
    small = replace(config, sentences=30)
    from signspot.signing import sign_corpus
    assert differences(identity(sign_corpus(small, seed), small), identity(sign_corpus(small, seed + 1), small))


def test_unknown_names_are_refused():
    with pytest.raises(BadInput, match='made-1'): benchmark('unseen', 'made-2')
    with pytest.raises(BadInput, match='seen, unseen'): benchmark('tests')
