"Scores are scikit-learn's, intervals cover what they say, thresholds are the best there are."
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from signspot.metrics import Bootstrap, best_threshold, bootstrap, confusion, from_confusion, mean_and_interval, scores
from signspot.pose import BadInput

pairs = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0., .1, .25, .5, .5001, .75, 1.]), st.integers(0, 4)), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(pairs, st.sampled_from([.1, .5, .9]))
def test_scores_and_confusion_are_scikit_learns(data, threshold):
    label, probability, unit = map(np.array, zip(*data))
    assume(len(set(label)) == 2)
    said, present = scores(label, probability, threshold), probability > threshold
    expected = {'accuracy': accuracy_score(label, present), 'precision': precision_score(label, present, zero_division=0),
                'recall': recall_score(label, present), 'f1': f1_score(label, present), 'auc': roc_auc_score(label, probability)}
    assert said == pytest.approx(expected)
    counts = confusion(label, present, unit)
    assert counts.shape == (len(set(unit)), 4) and counts.sum() == len(label)
    assert {k: float(v) for k, v in from_confusion(counts.sum(0)).items()} == pytest.approx({k: v for k, v in expected.items() if k != 'auc'})


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_no_threshold_is_better_than_the_best(data):
    label, score, _ = map(np.array, zip(*data))
    def accuracy(threshold): return ((score > threshold) == label).mean()
    everywhere = [-1., *(np.unique(score)[1:] + np.unique(score)[:-1]) / 2, 2.]
    assert accuracy(best_threshold(label, score)) == max(map(accuracy, everywhere))


def draw(rng, sentences=60, each=4, p=.7):
    "Pairs of which a whole sentence is right with probability p."
    label, right = rng.integers(0, 2, (sentences, each)), rng.random((sentences, 1)) < p
    return label.ravel(), np.where(right, label, 1 - label).ravel().astype(float), np.repeat(np.arange(sentences), each)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    inside = []
    for seed in range(200):
        low, high = bootstrap(*draw(np.random.default_rng(seed)), Bootstrap(draws=400))['accuracy']
        inside.append(low <= .7 <= high)
    assert .88 < np.mean(inside) <= .99


def test_bootstrap_is_deterministic_and_blind_to_order_and_names():
    label, probability, unit = draw(np.random.default_rng(0))
    once = bootstrap(label, probability, unit)
    assert once == bootstrap(label, probability, unit) != bootstrap(label, probability, unit, Bootstrap(seed=1))
    order = np.random.default_rng(1).permutation(len(label))
    assert once == bootstrap(label[order], probability[order], unit[order])
    assert once == bootstrap(label, probability, np.array([f'sentence {u:03}' for u in unit]))
    point = scores(label, probability)
    assert all(0 <= low <= point[name] <= high <= 1 for name, (low, high) in once.items())


def test_a_wider_level_is_wider_and_a_perfect_answer_has_no_spread():
    label, probability, unit = draw(np.random.default_rng(0))
    def width(level): return np.subtract(*bootstrap(label, probability, unit, Bootstrap(level=level))['f1'][::-1])
    assert width(.5) < width(.95) < width(.999)
    assert bootstrap(label, label, unit)['accuracy'] == (1, 1)


def test_intervals_over_seeds():
    from scipy.stats import ttest_1samp
    values = [.71, .74, .69, .77]
    expected = ttest_1samp(values, 0).confidence_interval(.9)
    assert mean_and_interval(values, .9) == pytest.approx((np.mean(values), expected.low, expected.high))
    assert mean_and_interval([.5, .6]) == (pytest.approx(.55), None, None) and str(mean_and_interval([.5, .6])) == '55.0%'


def test_bad_input():
    with pytest.raises(BadInput, match='both labels'): scores(np.ones(3), np.ones(3))
    with pytest.raises(BadInput, match='two independent'): bootstrap(np.array([0, 1]), np.array([.2, .7]), np.array(['s', 's']))
