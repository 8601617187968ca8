"Scores are scikit-learn's, intervals cover what they say, thresholds are the best there are, tests err as often as they say."
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from signspot.metrics import (Bootstrap, best_threshold, bootstrap, confusion, from_confusion, holm, mcnemar, mean_and_interval, parting, power, redraw, scores,
                              seeds_needed, spread, weighted_auc)
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


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(0, 2 ** 32 - 1))
def test_weighted_auc_counts_pairs_as_often_as_they_were_drawn(data, seed):
    label, score, _ = map(np.array, zip(*data))
    weight = np.random.default_rng(seed).integers(0, 4, (3, len(label)))
    for value, times in zip(weighted_auc(label, score, weight), weight):
        drawn = np.repeat(label, times)
        assert value == pytest.approx(roc_auc_score(drawn, np.repeat(score, times)) if len(set(drawn)) == 2 else .5)


def test_redrawn_rows_are_those_of_the_tables():
    from signspot.experiment import mean_over_seeds
    from signspot.study import gap
    def row(p, seed): return [dict(zip(('label', 'score', 'sentence'), (x.tolist() for x in draw(np.random.default_rng(seed + s), p=p)))) for s in range(3)]
    a = row(.8, 0)
    b = [one | {'score': two['score'], 'label': two['label']} for one, two in zip(a, row(.7, 9))]
    for name, value in mean_over_seeds(a).items(): assert np.quantile(redraw(a)[name], (.025, .975)) == pytest.approx([value['low'], value['high']])
    between = np.quantile(redraw(a)['accuracy'] - redraw(b, who=1)['accuracy'], (.025, .975))
    assert 100 * between == pytest.approx([gap(a, b)['low'], gap(a, b)['high']])


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=1, max_size=60))
def test_mcnemar_counts_and_tosses_coins(data):
    label, a, b = map(np.array, zip(*data))
    only_a, only_b, p = mcnemar(label, a, b)
    assert only_a == sum(x == t != y for t, x, y in data) and only_b == sum(y == t != x for t, x, y in data)
    n, least = only_a + only_b, min(only_a, only_b)
    assert p == pytest.approx(min(1, 2 * sum(comb(n, i) for i in range(least + 1)) / 2 ** n) if 2 * least < n else 1)
    assert mcnemar(label, b, a) == (only_b, only_a, pytest.approx(p)) and mcnemar(1 - label, 1 - a, 1 - b) == (only_a, only_b, pytest.approx(p))


def test_mcnemar_in_the_textbook():
    "Agresti's approval of a prime minister, asked twice: 150 changed one way and 86 the other, z = -4.17."
    label = np.ones(1600)
    a, b = np.repeat([1, 1, 0, 0], [794, 150, 86, 570]), np.repeat([1, 0, 1, 0], [794, 150, 86, 570])
    only_a, only_b, p = mcnemar(label, a, b)
    assert (only_a, only_b) == (150, 86) and 2.5e-5 < p < 4e-5 and (only_b - only_a) / np.sqrt(236) == pytest.approx(-4.17, abs=.005)


def test_mcnemar_errs_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    wrong = [mcnemar(np.ones(300), rng.random(300) < .7, rng.random(300) < .7).p < .05 for _ in range(400)]
    assert np.mean(wrong) < .07


def closed(p: list) -> list:
    "Holm from first principles: a hypothesis falls if Bonferroni rejects every intersection that it is part of."
    groups = [[i for i, inside in enumerate(row) if inside] for row in product([0, 1], repeat=len(p)) if any(row)]
    return [max(min(1, len(g) * min(p[j] for j in g)) for g in groups if i in g) for i in range(len(p))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_bonferroni_test(p):
    adjusted = holm(p)
    assert adjusted == pytest.approx(closed(p)) and (adjusted >= p).all() and (adjusted <= 1).all()
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all() and holm(p[::-1]) == pytest.approx(adjusted[::-1])
    assert len(holm([])) == 0


@pytest.mark.parametrize('difference, n, expected', [(.2, 393, .80), (.5, 64, .80), (.8, 26, .81), (.5, 20, .33), (1.4, 9, .80), (1., 17, .80)])
def test_power_is_as_in_cohens_tables(difference, n, expected):
    assert power(difference, n, 1) == pytest.approx(expected, abs=.01) and power(-10 * difference, n, 10) == pytest.approx(power(difference, n, 1))


@settings(max_examples=60, deadline=None)
@given(st.floats(.05, 4), st.integers(2, 60), st.floats(.3, 3), st.floats(0, 2))
def test_power_grows_with_the_difference_and_the_seeds(difference, seeds, sd, lasting):
    here = power(difference, seeds, sd, lasting)
    assert .05 - 1e-6 <= here <= 1 + 1e-9
    assert power(difference * 1.2, seeds, sd, lasting) >= here - 1e-6
    if seeds >= 30: assert power(difference, seeds, sd, lasting + .3) <= here + .01     # with few seeds, a variance that is known may help
    assert power(difference, np.arange(2, 6), sd, lasting) == pytest.approx([power(difference, n, sd, lasting) for n in range(2, 6)])
    if not lasting: assert power(difference, seeds + 1, sd) >= here - 1e-6


@pytest.mark.parametrize('lasting', [0, .4, 3])
@pytest.mark.parametrize('many', [2, 300, 10 ** 6])
def test_power_where_t_is_normal_or_far_out(lasting, many):
    from scipy.stats import norm
    assert power(0, many, 1, lasting) == pytest.approx(.05, abs=1e-4) and power(500, many, 1, lasting) == pytest.approx(1, abs=1e-3 if many > 2 else 1)
    shift = 2.8 * np.sqrt(2 / many + lasting ** 2)
    if many > 2: assert power(shift, many, 1, lasting) == pytest.approx(norm.sf(norm.ppf(.975) - 2.8), abs=.003)


@pytest.mark.parametrize('difference, lasting', [(.5, 0), (1.65, 0), (1.65, .3), (3, .9)])
def test_one_seed_fewer_is_not_enough(difference, lasting):
    n = seeds_needed(difference, 1, lasting)
    assert power(difference, n, 1, lasting) >= .8 and (n == 2 or power(difference, n - 1, 1, lasting) < .8)


def test_what_lasts_may_be_too_much_for_any_number_of_seeds():
    assert seeds_needed(1.65, .9, 1.65 / 2.7) is None and seeds_needed(1.65, .9, 1.65 / 2.9) > 20
    assert seeds_needed(0, 1) is None and seeds_needed(1.65, .9, wanted=.95) > seeds_needed(1.65, .9)


def test_the_power_of_answers_not_only_of_bell_curves():
    "Runs made of chances for every pair, as runs are: the test sees the difference as often as the formula says, on one test set and on ever new ones."
    rng, pairs, seeds = np.random.default_rng(0), 1000, 4
    def chances(): return rng.beta(1.5, 1, pairs), np.clip(rng.beta(1.5, 1, pairs) + .03, 0, 1)
    def runs(chance): return rng.random((seeds, pairs)) < chance
    def seen(a, b, lasting):
        means, df = [x.mean(1) for x in (a, b)], 2 * (seeds - 1)
        s2 = np.mean([m.var(ddof=1) for m in means])
        df *= (1 + lasting ** 2 * seeds / (2 * s2)) ** 2
        from scipy.stats import t
        return abs(means[0].mean() - means[1].mean()) / np.sqrt(2 * s2 / seeds + lasting ** 2) > t.ppf(.975, df)
    one = chances()
    difference = abs(one[0].mean() - one[1].mean())
    sd = np.sqrt(np.mean([(c * (1 - c)).mean() / pairs for c in one]))
    same = np.mean([seen(runs(one[0]), runs(one[1]), 0) for _ in range(400)])
    assert same == pytest.approx(power(difference, seeds, sd), abs=.08)
    many = [chances() for _ in range(400)]
    lasting = np.mean([(a - b).std() for a, b in many]) / np.sqrt(pairs)
    new, true = np.mean([seen(runs(a), runs(b), lasting) for a, b in many]), abs(np.mean([a.mean() - b.mean() for a, b in many]))
    assert new == pytest.approx(power(true, seeds, sd, lasting), abs=.08)


def test_parting_is_what_seeds_do_not_explain():
    rng = np.random.default_rng(1)
    a, b = rng.beta(2, 1, (2, 5000))
    def runs(chance): return rng.random((3, len(chance))) < chance
    assert parting(runs(a), runs(b)) == pytest.approx(np.std(a - b), abs=.02) and parting(runs(a), runs(a)) < .06
    assert parting(runs(a), runs(np.clip(a - .05, 0, 1))) < .08 and parting([[1, 0], [1, 0]], [[0, 1], [0, 1]]) == 1


def test_a_pooled_spread():
    from scipy.stats import chi2
    rows = [[.71, .74, .69], [.5, .52], [.6, .61, .62]]
    squares = sum(((np.array(row) - np.mean(row)) ** 2).sum() for row in rows)
    mean, low, high = spread(rows)
    assert mean == pytest.approx(np.sqrt(squares / 5)) and (low, high) == pytest.approx((np.sqrt(squares / chi2.ppf(.975, 5)), np.sqrt(squares / chi2.ppf(.025, 5))))
    inside = [low <= .01 <= high for _, low, high in (spread(np.random.default_rng(i).normal(.7, .01, (4, 3)).tolist()) for i in range(400))]
    assert .92 < np.mean(inside) < .98


def test_bad_input():
    with pytest.raises(BadInput, match='same pairs'): mcnemar(np.ones(3), np.ones(3), np.ones(2))
    for seeds, sd in ((1, 1), (3, 0)):
        with pytest.raises(BadInput, match='two seeds or more'): power(1, seeds, sd)
    with pytest.raises(BadInput, match='two seeds or more'): spread([[.5, .6], [.5]])
    with pytest.raises(BadInput, match='two seeds or more'): parting(np.ones((3, 4)), np.ones((1, 4)))
    with pytest.raises(BadInput, match='both labels'): scores(np.ones(3), np.ones(3))
    with pytest.raises(BadInput, match='two independent'): bootstrap(np.array([0, 1]), np.array([.2, .7]), np.array(['s', 's']))
