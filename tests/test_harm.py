"Harm to keypoints: each kind does what its name says, in the dose asked for, and nothing else."
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signspot.corpus import Corpus
from signspot.harm import HARMS, clock_of, harm, refill, unlucky
from signspot.pose import BadInput
from signspot.prepare import FPS, fill_hands
from signspot.signing import SigningConfig, sign_corpus
from signspot.skeleton import BODY, LEFT_HAND, RIGHT_HAND

KINDS = list(HARMS)
SOME = {'jitter': .05, 'dropped frames': .4, 'lost hands': .4, 'swapped hands': .3, 'frame rate': 5}


@pytest.fixture(scope='module')
def corpus():
    return sign_corpus(SigningConfig(sentences=60, queries_per_sign=4, world='plain'), 5)


def same(a: Corpus, b: Corpus) -> bool:
    return np.array_equal(a.frames, b.frames) and np.array_equal(a.present, b.present)


def within(corpus: Corpus) -> np.ndarray:  # (F,) frames since the clip's first
    return np.arange(len(corpus.frames)) - np.repeat(corpus.start, corpus.length)


@pytest.mark.parametrize('kind', KINDS)
def test_no_dose_is_no_harm(kind, corpus):
    assert same(harm(corpus, kind, HARMS[kind].doses[0], 1), corpus)


@pytest.mark.parametrize('kind', KINDS)
def test_the_function_itself_does_nothing_at_no_dose(kind, corpus):
    frames, present = HARMS[kind].do(corpus, HARMS[kind].doses[0], np.random.default_rng(0))
    assert np.array_equal(frames, corpus.frames) and np.array_equal(present, corpus.present)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('part', [.1, .5, 1])
def test_all_but_the_keypoints_stays(kind, part, corpus):
    none, most = HARMS[kind].doses
    spoilt = harm(corpus, kind, none + part * (most - none), 2)
    assert np.isfinite(spoilt.frames).all() and spoilt.frames.dtype == np.float32 and spoilt.frames.shape == corpus.frames.shape
    for name in ('length', 'kind', 'gloss', 'signer', 'pairs', 'label', 'span', 'id', 'segments', 'segment_gloss', 'fps'):
        assert np.array_equal(getattr(spoilt, name), getattr(corpus, name)), name
    changed = (spoilt.frames != corpus.frames).any((1, 2))
    for clips in ('query', 'sentence'): assert changed[np.repeat(corpus.kind == clips, corpus.length)].any(), f'{clips} clips are untouched'
    assert spoilt.about['harms'][0]['kind'] == kind and 'harms' not in corpus.about


@pytest.mark.parametrize('kind', KINDS)
def test_same_seed_same_harm(kind, corpus):
    assert same(harm(corpus, kind, SOME[kind], 3), harm(corpus, kind, SOME[kind], 3))
    assert same(harm(corpus, kind, SOME[kind], 3), harm(corpus, kind, SOME[kind], 4)) == (kind == 'frame rate')   # which draws nothing


@pytest.mark.parametrize('kind', KINDS)
def test_the_given_corpus_is_not_touched(kind, corpus):
    before, seen = corpus.frames.copy(), corpus.present.copy()
    harm(corpus, kind, SOME[kind], 3)
    assert np.array_equal(corpus.frames, before) and np.array_equal(corpus.present, seen)


@pytest.mark.parametrize('dose', [.01, .1, 1])
def test_jitter_has_the_sd_it_says(dose, corpus):
    noise = harm(corpus, 'jitter', dose, 1).frames - corpus.frames
    assert noise.std() == pytest.approx(dose, rel=.01) and abs(noise.mean()) < .01 * dose
    assert noise.std((0, 2)) == pytest.approx(np.full(50, dose), rel=.1)                       # every point alike
    assert abs(np.corrcoef(noise[:-1, 9, 0], noise[1:, 9, 0])[0, 1]) < .08                     # every frame by itself


@pytest.mark.parametrize('dose', [.1, .5, .9])
def test_dropped_frames_repeat_the_last_that_came(dose, corpus):
    known = replace(corpus, frames=np.broadcast_to(np.arange(len(corpus.frames), dtype='float32')[:, None, None], corpus.frames.shape).copy())   # every frame is its own number
    shown = harm(known, 'dropped frames', dose, 1).frames[:, 0, 0].astype(int)
    own = np.arange(len(shown))
    repeats = shown != own
    later = within(corpus) > 0
    assert repeats.sum() == round(dose * later.sum()) and not repeats[~later].any()
    assert (shown[repeats] == shown[np.flatnonzero(repeats) - 1]).all() and (shown >= np.repeat(corpus.start, corpus.length)).all()


@pytest.mark.parametrize('dose', [.1, .5, .9])
def test_hands_are_lost_to_the_share_asked_for(dose, corpus):
    spoilt = harm(corpus, 'lost hands', dose, 1)
    lost = corpus.present & ~spoilt.present
    assert not (spoilt.present & ~corpus.present).any()
    for side in (0, 1): assert lost[:, side].sum() == round(dose * corpus.present[:, side].sum())
    assert np.array_equal(spoilt.frames[:, BODY], corpus.frames[:, BODY])
    for side, hand in enumerate((LEFT_HAND, RIGHT_HAND)):
        assert np.array_equal(spoilt.frames[spoilt.present[:, side], hand], corpus.frames[spoilt.present[:, side], hand])
        assert (spoilt.frames[lost[:, side], hand] != corpus.frames[lost[:, side], hand]).any()


def test_lost_hands_come_in_bursts(corpus):
    "A lost frame's neighbour is lost far more often than chance would have it."
    seen = replace(corpus, present=np.ones_like(corpus.present))
    lost = ~harm(seen, 'lost hands', .2, 1).present[:, 0]
    inside = within(corpus)[1:] > 0
    assert (lost[1:] & lost[:-1])[inside].mean() > 2 * .2 ** 2


def test_more_of_a_dose_adds_to_less(corpus):
    little, much = (harm(corpus, 'lost hands', dose, 1).present for dose in (.2, .6))
    assert (little | ~much).all()
    shares = [(harm(corpus, 'dropped frames', dose, 1).frames != corpus.frames).any((1, 2)) for dose in (.2, .6)]
    assert (~shares[0] | shares[1]).all()


def test_what_is_lost_is_filled_as_prepare_fills_it(corpus):
    "In a corpus in which every hand was seen, losing is the same as preparing without those sights."
    seen = replace(corpus, present=np.ones_like(corpus.present))
    spoilt = harm(seen, 'lost hands', .5, 1)
    assert np.allclose(spoilt.frames, fill_hands(seen.frames, spoilt.present, seen.length), atol=1e-6)


def test_gaps_in_which_nothing_was_lost_stay_and_others_are_filled_anew():
    rng = np.random.default_rng(0)
    frames, present, lost = rng.normal(size=(12, 50, 2)).astype('float32'), np.ones((12, 2), bool), np.zeros((12, 2), bool)
    present[[2, 5, 8], 1] = False
    lost[6, 1] = True                                                     # beside the second of three gaps; the third is in another clip
    new = refill(frames, present, lost, np.array([7, 5]))
    filled = fill_hands(frames, present & ~lost, np.array([7, 5]))
    assert np.array_equal(new[[5, 6], RIGHT_HAND], filled[[5, 6], RIGHT_HAND]) and (new[5, RIGHT_HAND] != frames[5, RIGHT_HAND]).any()
    untouched = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert np.array_equal(new[untouched], frames[untouched]) and np.array_equal(new[:, LEFT_HAND], frames[:, LEFT_HAND])


def test_nothing_of_a_lost_hand_shines_through(corpus):
    "Whatever the lost frames held, the result is the same."
    spoilt = harm(corpus, 'lost hands', .5, 1)
    lost, other = corpus.present & ~spoilt.present, corpus.frames.copy()
    for side, hand in enumerate((LEFT_HAND, RIGHT_HAND)): other[lost[:, side], hand] = 9
    assert np.array_equal(harm(replace(corpus, frames=other), 'lost hands', .5, 1).frames, spoilt.frames)


@pytest.mark.parametrize('dose', [.1, .5, 1])
def test_swapped_twice_is_as_before(dose, corpus):
    corpus = replace(corpus, frames=np.random.default_rng(0).normal(size=corpus.frames.shape).astype('float32'))   # a tracker may have put both hands in one place
    once = harm(corpus, 'swapped hands', dose, 1)
    assert same(harm(once, 'swapped hands', dose, 1), corpus)
    exchanged = (once.frames[:, LEFT_HAND] != corpus.frames[:, LEFT_HAND]).any((1, 2))
    assert exchanged.sum() == round(dose * len(corpus.frames)) and np.array_equal(once.frames[:, BODY], corpus.frames[:, BODY])
    assert np.array_equal(once.frames[exchanged, LEFT_HAND], corpus.frames[exchanged, RIGHT_HAND]) and np.array_equal(once.present[exchanged], corpus.present[exchanged][:, ::-1])


@pytest.mark.parametrize('fps', [12.5, 8, 5, 3, 1])
def test_a_slow_camera_sees_a_still_clip_as_it_is(fps, corpus):
    still = replace(corpus, frames=np.repeat(corpus.frames[corpus.start], corpus.length, 0), present=np.repeat(corpus.present[corpus.start], corpus.length, 0))
    seen = harm(still, 'frame rate', fps)
    assert np.allclose(seen.frames, still.frames, atol=1e-5) and np.array_equal(seen.present, still.present)


@pytest.mark.parametrize('fps', [12.5, 10, 6.25, 5, 3])
def test_a_slow_camera_sees_straight_movement_as_it_is(fps, corpus):
    "But for the end, where the last picture is held; and signs stay where they were."
    straight = replace(corpus, frames=np.broadcast_to(within(corpus)[:, None, None].astype('float32'), corpus.frames.shape).copy(), present=np.ones_like(corpus.present))
    seen = harm(straight, 'frame rate', fps).frames[:, 0, 0]
    left = np.repeat(corpus.length, corpus.length) - 1 - within(corpus)
    early = left > 2 * FPS / fps
    assert np.allclose(seen[early], within(corpus)[early], atol=1e-3) and (seen <= within(corpus) + 1e-3).all()


def test_a_slow_camera_blurs_more_the_slower_it_is(corpus):
    away = [np.abs(harm(corpus, 'frame rate', fps).frames - corpus.frames).mean() for fps in (12.5, 8, 5, 3, 1.5)]
    assert away[0] == 0 and (np.diff(away) > 0).all()


def test_clips_keep_to_themselves(corpus):
    "No frame of a clip depends on another clip, except through which frames are drawn."
    alone = replace(corpus, frames=corpus.frames + np.repeat(np.arange(len(corpus.length)), corpus.length)[:, None, None].astype('float32') * 100)
    for kind in ('dropped frames', 'lost hands', 'frame rate'):
        spoilt = harm(alone, kind, SOME[kind], 1).frames
        assert np.array_equal(np.round(spoilt.mean((1, 2)) / 100), np.repeat(np.arange(len(corpus.length)), corpus.length)), kind


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_small_corpus_at_any_dose(lengths, kind, part, seed):
    rng, n = np.random.default_rng(seed), len(lengths)
    small = Corpus('small', rng.normal(size=(sum(lengths), 50, 2)).astype('float32'), lengths, ['query'] * n, [''] * n, [''] * n, [], [], present=rng.random((sum(lengths), 2)) < .6)
    none, most = HARMS[kind].doses
    spoilt = harm(small, kind, none + part * (most - none), seed)
    assert np.isfinite(spoilt.frames).all() and np.array_equal(spoilt.length, small.length)


def test_the_worst_luck_is_hit_first():
    luck, may = np.array([3., 1, 2, 9, 0]), np.array([True, True, True, False, True])
    assert unlucky(luck, 0, may).sum() == 0 and unlucky(luck, .25, may).tolist() == [True, False, False, False, False] and (unlucky(luck, 1, may) == may).all()


def test_noise_runs_by_the_clock_of_each_clip(corpus):
    clock = clock_of(corpus)
    assert (clock.since[corpus.start] == 0).all() and np.isclose(clock.since.max(), (corpus.length.max() - 1) / corpus.fps) and np.array_equal(clock.first, corpus.start)


@pytest.mark.parametrize('kind, dose, what', [('rain', .1, 'choose one of jitter, dropped frames'), ('jitter', -.1, 'between 0'), ('jitter', 2, 'shoulder widths'), ('lost hands', 1.01, 'between 0 .none. and 1'),
                                              ('swapped hands', float('nan'), 'not nan'), ('frame rate', 0, '12.5 .none. and 1'), ('frame rate', 13, '12.5')])
def test_what_cannot_be_is_refused(kind, dose, what, corpus):
    with pytest.raises(BadInput, match=what): harm(corpus, kind, dose)


def test_a_camera_faster_than_the_corpus_is_refused(corpus):
    with pytest.raises(BadInput, match='cannot be made of 6'): harm(replace(corpus, fps=6.), 'frame rate', 10)
