"""Can the two-sample test be fooled? By leaks, by length, by left-handers, by nonsense; and does it find what is there?"""
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from signspot.pose import BadInput
from signspot.prepare import FPS, Prepared
from signspot.realism import GROUPS, MIRROR, WINDOW, Sample, band_power, cut_windows, differences, drawn_accuracy, features, folds, longest_gap, quantile, tell_apart, tremble, two_sample


def people(n=20, frames=60, tremble=.002, pace=1., lost=.6, bent=0., seed=0):
    "Clips of `n` people, each with arms and fingers of their own, who wave their hands about."
    rng, clips = np.random.default_rng(seed), []
    for _ in range(n):
        smooth = lambda *shape: gaussian_filter1d(rng.standard_normal((frames, *shape)), 4 / pace, axis=0) * np.sqrt(8 / pace)
        body = np.array([(.5, 0), (-.5, 0), (.6, .8), (-.6, .8), (.3, .3), (-.3, .3), (.33, 1.4), (-.33, 1.4)]) + .05 * rng.standard_normal((1, 8, 2)) + np.zeros((frames, 8, 2))
        body[:, 4:6] += .4 * smooth(2, 2)
        finger = np.concatenate([[[0, 0]], np.stack([np.repeat(np.linspace(-.2, .2, 5), 4), -np.tile([.15, .25, .3, .35], 5) * (1 - bent)], 1)])
        hands = body[:, 4:6, None] + finger * (1 + .1 * smooth(2, 1, 1))
        points = np.concatenate([body, hands.reshape(frames, 42, 2)], 1) + tremble * rng.standard_normal((frames, 50, 2))
        seen = gaussian_filter1d(rng.standard_normal((frames, 2)), 2, axis=0) < lost
        clips.append(Prepared(points.astype('float32'), seen, FPS))
    return clips


def units(n=20): return np.arange(n), np.arange(n)


def test_two_halves_of_one_source_cannot_be_told_apart():
    found = two_sample(features(people(seed=1)), features(people(seed=2)), units())
    assert set(found) == set(GROUPS)
    for group, result in found.items():
        assert result.low < .58 and .35 < result.accuracy < .65, (group, result)
        assert result.low <= result.accuracy <= result.high and result.units == (20, 20)


@pytest.mark.parametrize('change, group', [({'pace': 2.}, 'kinematics'), ({'bent': .5}, 'handshape'), ({'tremble': .01}, 'trembling'), ({'lost': .1}, 'gaps'), ({'tremble': .01}, 'body')])
def test_a_shift_is_found_in_its_group(change, group):
    found = two_sample(features(people(seed=1)), features(people(seed=2, **change)), units(), [group])[group]
    assert found.low > .7 and found.accuracy > .8


def test_a_shift_elsewhere_is_not_found():
    found = two_sample(features(people(seed=1)), features(people(seed=2, bent=.5)), units(), ['body', 'kinematics'])
    assert all(result.low < .58 for result in found.values())


def test_clips_are_not_recognised_instead_of_sources():
    def marked(seed):
        rng, clip = np.random.default_rng(seed), np.repeat(np.arange(30), 8)
        return Sample(rng.standard_normal((30, 4))[clip] + .01 * rng.standard_normal((240, 4)), clip, tuple('abcd'))
    a, b = marked(0), marked(1)
    single = np.arange(240)
    leaky = tell_apart(Sample(a.values, single, a.names), Sample(b.values, single, b.names), (single, single))
    honest = tell_apart(a, b, units(30))
    assert leaky.accuracy > .95 and honest.low < .5 < honest.high and honest.accuracy < .7
    assert honest.high - honest.low > 3 * (leaky.high - leaky.low)


def test_no_unit_is_in_training_and_test():
    rng = np.random.default_rng(0)
    kinds = np.stack([rng.integers(0, 9, 300), rng.integers(0, 7, 300)], 1)
    tested = np.zeros(300, int)
    for train, test in folds(kinds, 3, np.random.default_rng(1)):
        for column in kinds.T: assert not set(column[train]) & set(column[test])
        tested += test
    assert (tested == 1).all()


def test_two_kinds_of_unit_keep_words_and_people_apart():
    rng, n = np.random.default_rng(0), 200
    word, person = rng.integers(0, 6, n), rng.integers(0, 6, n)
    signature = lambda seed: np.random.default_rng(seed).standard_normal((6, 5))[word]           # a word is known by its features, in both sources another way
    a, b = (Sample(signature(seed) + .01 * rng.standard_normal((n, 5)), np.arange(n), tuple('abcde')) for seed in (1, 2))
    both = np.stack([word, person], 1)
    assert tell_apart(a, b, (person, person)).accuracy > .95                                     # words leak where only people are held out
    assert tell_apart(a, b, (both, both), k=3).low < .6


def test_length_and_handedness_give_nothing_away():
    clips = people(6)
    mirrored = [Prepared(clip.frames[:, MIRROR] * np.array([-1, 1], 'float32'), clip.present[:, ::-1], FPS) for clip in clips]
    for one, other in zip(features(clips).values(), features(mirrored).values()): assert np.allclose(one.values, other.values, atol=1e-4)
    windows = cut_windows([*people(2, frames=WINDOW), *people(2, frames=100)])
    assert windows.frames.shape[1:] == (WINDOW, 50, 2) and np.bincount(windows.clip)[:2].tolist() == [1, 1]


def test_hands_not_seen_do_not_count():
    clip = people(1, lost=9)[0]
    wild, seen = clip.frames.copy(), clip.present.copy()
    seen[20:26] = False
    wild[20:26, 8:] = 50
    shape = features([Prepared(clip.frames, seen, FPS)], ['handshape'])['handshape']
    assert np.allclose(shape.values, features([Prepared(wild, seen, FPS)], ['handshape'])['handshape'].values)


def test_windows_without_a_hand_have_no_handshape():
    clip = people(1)[0]
    gone = Prepared(clip.frames, np.zeros((60, 2), bool), FPS)
    with pytest.raises(BadInput, match='without windows'): features([gone], ['handshape'])
    assert len(features([gone], ['kinematics', 'gaps'])['gaps'].values) == 5


def test_numbers():
    assert quantile(np.array([[9., 1, 5]]), .5).tolist() == [5] and quantile(np.array([[9., 1, 5]]), .5, np.zeros((1, 3), bool)).tolist() == [0]
    assert longest_gap(np.array([[0, 0, 1, 0, 1, 0]], bool)).tolist() == [2]
    t = np.arange(WINDOW) / FPS
    assert band_power(np.sin(2 * np.pi * 3.7 * t)[None, :, None] * [1, 1], FPS)[0].argmax() == 3
    assert np.allclose(tremble((t ** 2)[None, :, None, None] * np.ones((1, 1, 4, 2))), 0, atol=1e-9)
    right, label = np.array([1, 1, 1, 0], bool), np.array([0, 0, 0, 1])
    assert drawn_accuracy(right, label, np.arange(4)[:, None], np.random.default_rng(0))[0] == .5   # always the same answer: chance, however unequal the numbers


def test_what_differs_most_comes_first():
    rng = np.random.default_rng(0)
    a, b = (Sample(rng.standard_normal((200, 3)) + shift, np.arange(200), ('alike', 'much', 'little')) for shift in ([0, 0, 0], [0, 2, -.5]))
    (first, larger), (second, smaller), (third, even) = differences(a, b)
    assert (first, second, third) == ('much', 'little', 'alike') and larger > .85 and .2 < smaller < .5 and abs(even - .5) < .1


def test_the_same_seed_gives_the_same_answer():
    a, b = features(people(8, seed=1), ['body']), features(people(8, seed=2), ['body'])
    assert tell_apart(a['body'], b['body'], units(8)) == tell_apart(a['body'], b['body'], units(8))


@pytest.mark.parametrize('work, why', [
    (lambda: features([]), 'no clips'),
    (lambda: features([Prepared(np.full((40, 50, 2), np.nan, 'float32'), np.ones((40, 2), bool), FPS)]), 'clip 0 holds NaN'),
    (lambda: features(people(2, frames=WINDOW - 1)), f'no clip has {WINDOW} frames'),
    (lambda: features([*people(1), Prepared(*(lambda c: (c.frames, c.present))(people(1)[0]), 25.)]), '12.5 and 25'),
    (lambda: features(people(1), ['feet']), "no group 'feet'"),
    (lambda: Sample(np.array([[np.nan]]), np.zeros(1, int), ('a',)), 'NaN'),
    (lambda: Sample(np.zeros((0, 1)), np.zeros(0, int), ('a',)), 'without windows'),
    (lambda: two_sample(features(people(2), ['body']), features(people(2), ['place']), units(2)), 'not measured on both sides'),
    (lambda: two_sample(features(people(2), ['body']), features(people(2), ['body']), (np.zeros(2), np.arange(2))), 'at least two independent units'),
])
def test_nonsense_is_refused(work, why):
    with pytest.raises(BadInput, match=why): work()
