"Subsequence DTW: exact, and indifferent to what should not matter."
import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from signspot.dtw import STEPS, align, core, dtw_features, dtw_threshold, frame_cost, match, mirrored, subsequence_dtw
from signspot.phonology import lexicon
from signspot.prepare import prepare
from signspot.signing import SigningConfig, draw_signers, record, sign_corpus


def naive(cost: np.ndarray):
    "The recursion as one would say it: every cell, every step."
    rows, columns = cost.shape
    best = {(-1, j): (0.0, j + 1) for j in range(-1, columns)}           # nothing used up: a path may start at the next frame
    for i in range(rows):
        for j in range(columns):
            options = []
            for taken, moved in STEPS:
                before = best.get((i - taken, j - moved))
                if before is None or before[1] < 0 or j - moved < -1: continue
                visited = cost[i - taken + 1:i + 1, j].sum() if moved == 1 else cost[i, j - 1:j + 1].sum() if j else np.inf
                options.append((before[0] + visited, before[1]))
            if options: best[i, j] = min(options, key=lambda option: option[0])
    ends = [best.get((rows - 1, j), (np.inf, -1)) for j in range(columns)]
    return np.array([total for total, _ in ends]) / rows, np.array([start for _, start in ends])


@pytest.mark.parametrize('shape', [(1, 1), (1, 6), (2, 1), (3, 1), (4, 1), (5, 2), (6, 9), (13, 20), (20, 13), (25, 40)])
def test_equals_the_naive_loop(shape):
    for seed in range(5):
        cost = np.random.default_rng(seed).random(shape)
        found, (curve, start) = align(cost), naive(cost)
        assert np.allclose(found.curve, curve)
        possible = np.isfinite(curve)
        assert np.array_equal(found.start[possible], start[possible])


def test_slope_is_limited():
    for seed in range(20):
        found = align(np.random.default_rng(seed).random((12, 40)))
        length = np.arange(40) + 1 - found.start
        assert (length[np.isfinite(found.curve)] >= 4).all() and (length[np.isfinite(found.curve)] <= 24).all()
    assert np.isinf(align(np.zeros((13, 4))).curve).all() and np.isfinite(align(np.zeros((12, 4))).curve[-1])


def test_what_was_cut_out_is_found():
    rng = np.random.default_rng(0)
    for first, last in ((0, 10), (17, 40), (50, 60)):
        sentence = rng.normal(size=(60, 8))
        found = subsequence_dtw(sentence[first:last], sentence)
        assert found.curve.argmin() == last - 1 and found.start[last - 1] == first and found.curve.min() < 1e-9


@pytest.mark.parametrize('speed', [.6, .8, 1.3, 2, 2.7])
def test_another_speed_is_found(speed):
    rng = np.random.default_rng(1)
    sentence = np.cumsum(rng.normal(size=(120, 4)), 0)
    t = np.linspace(40, 69, round(30 * speed))
    query = np.stack([np.interp(t, np.arange(120), column) for column in sentence.T], 1)
    found = subsequence_dtw(query, sentence)
    end = found.curve.argmin()
    assert abs(end - 69) <= 2 and abs(found.start[end] - 40) <= 2


def test_padding_does_not_change_what_is_found():
    rng = np.random.default_rng(2)
    cost = rng.random((10, 30))
    padded = np.concatenate([rng.random((10, 7)) + 5, cost, rng.random((10, 9)) + 5], 1)
    a, b = align(cost), align(padded)
    assert np.allclose(a.curve.min(), b.curve.min()) and b.curve.argmin() == a.curve.argmin() + 7


@pytest.fixture(scope='module')
def clips():
    "A sentence of signs 1, 4, 6; then 4 and 7 in citation form by somebody else."
    signers = draw_signers(8, np.random.default_rng(1))
    takes = record([[1, 4, 6], [4], [7]], lexicon(8), signers, np.array([0, 1, 1]), np.array([False, True, True]), rng=0)
    return [prepare(takes.pose(c)) for c in range(3)]


def test_mirrors(clips):
    sentence, query, _ = clips
    plain = match(query, sentence)
    for a, b in ((mirrored(query), sentence), (query, mirrored(sentence)), (mirrored(query), mirrored(sentence))):
        found = match(a, b)
        assert np.allclose(found.curve, plain.curve) and np.array_equal(found.start, plain.start)


def test_a_sign_fits_itself(clips):
    for clip in clips:
        features = dtw_features(clip.frames, np.ones_like(clip.present))
        assert np.allclose(np.diag(frame_cost(features, features)), 0, atol=1e-6)
        assert len(core(clip.frames)) >= 4


def test_present_beats_absent(clips):
    sentence, query, other = clips
    assert match(query, sentence).curve.min() < match(other, sentence).curve.min()


def test_short_and_handless_clips(clips):
    sentence, query, _ = clips
    cut = lambda clip, n: replace(clip, frames=clip.frames[:n], present=clip.present[:n])
    for n in (1, 2, 3, 5):
        assert match(cut(query, n), sentence).curve.shape == (len(sentence),)
        assert match(query, cut(sentence, n)).curve.shape == (n,)
    unseen = replace(query, present=np.zeros_like(query.present))
    assert np.isfinite(match(unseen, sentence).curve).any()


def test_threshold_is_the_notebooks(root):
    record = json.loads((root/'figures'/'dtw_threshold.json').read_text())
    assert json.loads((files('signspot')/'dtw_threshold.json').read_text()) == record['threshold']
    threshold = dtw_threshold()
    assert {'cost': threshold.cost, 'slope': threshold.slope} == record['threshold']
    assert threshold.score(threshold.cost) == .5 and threshold.score(0) > threshold.score(1) > threshold.score(np.inf) == 0
    assert record['checked on']['auc'] > .75


def test_simple_signing_is_ranked_well():
    "In the plain world, two to six signs a sentence: what the threshold's own, harder corpus does not ask for any more."
    corpus = sign_corpus(SigningConfig(signs=100, sentence_signs=(2, 6), sentences=120, queries_per_sign=6, signers=24, world='plain', part='validation'), seed=0)
    cost = np.array([match(corpus.prepared(query), corpus.prepared(sentence)).curve.min() for query, sentence in corpus.pairs])
    assert roc_auc_score(corpus.label, -np.minimum(cost, 99)) > .85
