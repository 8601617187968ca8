"Rivals: nothing is lost without them, nothing by one that is elsewhere, and much is won against one that is there."
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from signspot import seek as seeking
from signspot.beyond import bundled_id
from signspot.matcher import Matcher, bundled
from signspot.prepare import Prepared, prepare
from signspot.rivals import answer_beside, rather, sharpness, worth
from signspot.seek import answer, ask_for, likely_ends, near_ends, read
from signspot.signing import SigningConfig, draw_signers, lexicon_for, neighbours_of, record, sign_corpus
from signspot.skeleton import PAPER_50

ROOT = Path(__file__).resolve().parent.parent
CONFIG = SigningConfig(signs=100, sentence_signs=(1, 6), sentences=40, queries_per_sign=None, signers=12, part='validation', hard=1.)


@pytest.fixture(scope='module')
def model() -> Matcher:
    return bundled()


def clips(sequences: list[list[int]], rng: int) -> list[Prepared]:
    "These signs, those alone in citation form; each clip by somebody else."
    alone = np.array([len(s) == 1 for s in sequences])
    takes = record(sequences, lexicon_for(CONFIG), draw_signers(len(sequences), np.random.default_rng(rng)), np.arange(len(sequences)), alone, rng=rng)
    return [prepare(takes.pose(c).select(PAPER_50)) for c in range(len(sequences))]


@pytest.fixture(scope='module')
def pair(model) -> dict:
    "Two sentences with one of two very different signs each, one with both, and queries."
    one, both, other, *queries = clips([[3, 40, 60], [3, 70, 90, 40], [70, 90, 60], [3], [90]], 12)
    return {'one': read(model, one), 'both': read(model, both), 'other': read(model, other)} | dict(zip(('a', 'b'), (ask_for(model, [q]) for q in queries)))


def test_without_rivals_it_is_the_plain_answer(model, pair):
    for name in ('one', 'both', 'other'):
        mine, plain = answer_beside(model, pair['a'], [], pair[name]), answer(model, pair['a'], pair[name])
        assert mine.present == plain.present and np.array_equal(mine.score, plain.score) and np.array_equal(mine.span, plain.span)


def test_a_sign_beside_itself_has_half(model, pair):
    "And beside itself twice: the length of the list takes nothing."
    alone = answer_beside(model, pair['a'], [], pair['one'])
    for n in (1, 2):
        shared = answer_beside(model, pair['a'], [pair['a']] * n, pair['one'])
        assert shared.present == pytest.approx(alone.present / 2, abs=1e-5) and np.allclose(shared.score, alone.score / 2, atol=1e-5)


def test_a_rival_elsewhere_takes_nothing(model, pair):
    for name in ('one', 'both'):
        alone, beside = (answer_beside(model, pair['a'], rivals, pair[name]) for rivals in ([], [pair['b']]))
        assert alone.present > .9 and beside.present > .9 * alone.present and beside.score.argmax() == alone.score.argmax()


def test_both_are_found_where_both_are(model, pair):
    a, b = (answer_beside(model, pair[own], [pair[other]], pair['both']) for own, other in (('a', 'b'), ('b', 'a')))
    assert min(a.present, b.present) > .8 and a.span[a.score.argmax(), 1] < b.span[b.score.argmax(), 0] + 2


def test_rivals_only_ever_take_and_their_order_does_not_matter(model, pair):
    rivals = [pair['b'], ask_for(model, clips([[40]], 6)), ask_for(model, clips([[60]], 7))]
    alone = answer_beside(model, pair['a'], [], pair['one'])
    forth, back = (answer_beside(model, pair['a'], order, pair['one']) for order in (rivals, rivals[::-1]))
    assert (forth.score <= alone.score + 1e-6).all() and forth.present <= alone.present + 1e-6
    assert np.allclose(forth.score, back.score, atol=1e-6) and forth.present == pytest.approx(back.present, abs=1e-6)
    assert forth.score.max() <= forth.present + 1e-6


def test_windows_do_not_matter(model, pair, monkeypatch):
    long = clips([[3, 70, 90, 40] * 4], 8)[0]
    whole = answer_beside(model, pair['a'], [pair['b']], read(model, long))
    monkeypatch.setattr('signspot.rivals.seek', lambda *words: seeking.seek(*words, window=40))
    pieces = answer_beside(model, pair['a'], [pair['b']], read(model, long, window=40))
    assert whole.present == pytest.approx(pieces.present, abs=1e-3) and np.allclose(whole.score, pieces.score, atol=1e-3)


def test_two_signs_share_all_there_is_and_nothing_bursts():
    logs = torch.tensor([[0., -3, 9, 1e4, -1e4], [2., -1, 4, 0, -1e4]])
    share = torch.stack([rather(logs[i], logs[[1 - i]], torch.ones(1)) for i in range(2)])
    assert torch.allclose(share.sum(0), torch.ones(5), atol=1e-5) and ((share >= 0) & (share <= 1)).all()
    crowd = rather(logs[0], torch.cat([logs[[1]], torch.full((9, 5), -1e5)]), torch.ones(10))   # one that is there, nine that are not
    assert (crowd >= share[0] - 1e-6).all() and torch.allclose(crowd[3:], torch.tensor([1., 10 / 11]), atol=1e-4)


def test_more_recordings_are_worth_more():
    assert worth(1, 1) == 1 and worth(5, 5) == pytest.approx(5 ** .5) and worth(1, 5) == worth(5, 1) < worth(2, 5) and worth(1, 10**6) < 2 ** .5


def test_near_ends_are_sums_of_seven_frames(model, pair):
    total = seeking.seek(model, pair['a'], pair['one']).total
    ends = likely_ends(total)
    by_hand = [float(torch.logsumexp(total[0, max(0, e - 3):e + 4], 0)) for e in ends.tolist()]
    assert np.allclose(near_ends(total, ends), by_hand, atol=1e-4)


def test_minimal_pairs_are_told_apart(model):
    "On signs of the validation part, right about more than before, in a sentence that has the one and is asked for the other."
    corpus, signs = sign_corpus(CONFIG, 77), lexicon_for(CONFIG)
    place, beside = {sign.gloss: i for i, sign in enumerate(signs)}, neighbours_of(signs)
    words = [ask_for(model, [clip]) for clip in clips([[i] for i in range(len(signs))], 78)]
    heard = {s: read(model, corpus.prepared(s)) for s in np.unique(corpus.pairs[:, 1]).tolist()}
    right = {'alone': [], 'beside': []}
    for (q, s), label in zip(corpus.pairs.tolist(), corpus.label):
        inside = {place[g] for g in corpus.segment_gloss[corpus.segments[:, 0] == s]}
        a = place[corpus.gloss[q]]
        rival = next((int(b) for b in beside[a] if (int(b) in inside) != bool(label)), None)
        for how, rivals in (('alone', []), ('beside', [] if rival is None else [words[rival]])):
            right[how].append((answer_beside(model, words[a], rivals, heard[s]).present > .5) == label)
    assert np.mean(right['beside']) > max(.78, np.mean(right['alone']) + .03)


def test_the_librarys_number_is_the_published_one():
    made = json.loads((ROOT/'figures'/'rivals.json').read_text())
    assert made['weights'] == bundled_id(), 'the weights are others than those that were measured: signspot rerun rivals'
    assert made['fitted']['sharpness'] == sharpness() and json.loads((ROOT/'signspot'/'rivals.json').read_text()) == made['fitted']


def test_what_is_published_about_rivals_adds_up():
    made = json.loads((ROOT/'figures'/'rivals.json').read_text())
    for ways in made['minimal'].values(): assert ways['beside its rival']['accuracy']['low'] > ways['alone']['accuracy']['high']
    assert made['unrelated']['beside a stranger']['accuracy']['mean'] > made['unrelated']['alone']['accuracy']['mean'] - .02
    assert f'{100 * made["minimal"]["1 of each"]["beside its rival"]["accuracy"]["mean"]:.1f}' in made['claim']
