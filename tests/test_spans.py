"Spans: overlap, suppression and average precision, against what they mean."
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signspot.spans import average_precision, claims, distinct, tiou

span = st.tuples(st.floats(0, 20), st.floats(.1, 10)).map(lambda x: (x[0], x[0] + x[1]))
spans = st.lists(span, min_size=1, max_size=12).map(np.array)


@given(span, span, st.floats(-5, 5), st.floats(.1, 9))
def test_tiou_is_symmetric_and_has_no_unit(a, b, shift, unit):
    value = tiou(a, b)
    assert 0 <= value <= 1 + 1e-9 and value == pytest.approx(tiou(b, a)) and tiou(a, a) == pytest.approx(1)
    assert value == pytest.approx(tiou(np.array(a) * unit + shift, np.array(b) * unit + shift), abs=1e-6)


@given(spans, st.randoms(use_true_random=False), st.floats(0, .9))
def test_what_is_kept_is_distinct_and_nothing_better_is_lost(found, random, overlap):
    score = np.array([random.random() for _ in found])
    kept = distinct(score, found, .2, overlap)
    assert all(score[a] >= score[b] for a, b in zip(kept, kept[1:])) and all(score[i] >= .2 for i in kept)
    assert all(tiou(found[a], found[b]) <= overlap for n, a in enumerate(kept) for b in kept[n + 1:])
    for i in set(range(len(found))) - set(kept):
        assert score[i] < .2 or any(score[k] >= score[i] and tiou(found[k], found[i]) > overlap for k in kept)


@given(spans, st.randoms(use_true_random=False))
def test_average_precision_by_hand(true, random):
    "All true spans proposed, among false ones: the mean, over true spans, of the best precision from there on."
    n = len(true)
    false = true + 100
    score = np.array([random.random() for _ in range(2 * n)])
    right = claims(score, np.tile(np.arange(n), 2), np.concatenate([true, false]), np.arange(n), true)
    order = np.argsort(-score, kind='stable')
    assert (right == (order < n)).all()
    precision = [right[:k].mean() for k in range(1, 2 * n + 1)]
    by_hand = np.mean([max(precision[k:]) for k in np.flatnonzero(right)])
    assert average_precision(right, n) == pytest.approx(by_hand)


def test_a_span_is_claimed_once_and_by_its_own_question():
    right = claims(np.array([.9, .8, .7]), np.array([0, 0, 1]), np.array([[0, 4], [0, 4], [0, 4]]), np.array([0]), np.array([[0, 4]]))
    assert right.tolist() == [True, False, False]
    assert np.isnan(average_precision(right, 0)) and average_precision(np.zeros(0, bool), 2) == 0
