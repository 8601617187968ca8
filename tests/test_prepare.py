"Preparation: the same numbers for every camera, and nothing lost that was seen."
import time
from dataclasses import replace

import numpy as np
import pytest

from signspot.phonology import lexicon
from signspot.pose import BadInput, Pose
from signspot.prepare import FPS, Augmentation, active_span, augment, fill, hand_speed, prepare, prepare_many
from signspot.signing import draw_signers, record
from signspot.skeleton import HOLISTIC_178, PAPER_50, keypoint_set


@pytest.fixture(scope='module')
def pose() -> Pose:
    return record([[0, 3, 5]], lexicon(8), draw_signers(2, np.random.default_rng(0)), np.array([0]), np.array([False]), rng=1).pose(0)


def moved(pose: Pose, scale: float, shift: tuple[float, float]) -> Pose:
    "The same signer, nearer and elsewhere; what was not seen stays at 0."
    keypoints = (pose.keypoints * scale + np.array(shift, 'float32')) * (pose.confidence > 0)[..., None]
    return replace(pose, keypoints=keypoints.astype('float32'))


def rested(pose: Pose, before: int, after: int) -> Pose:
    "The clip with its first and last frames held."
    index = np.r_[np.zeros(before, int), np.arange(len(pose)), np.full(after, len(pose) - 1)]
    return replace(pose, keypoints=pose.keypoints[index], confidence=pose.confidence[index])


@pytest.mark.parametrize('scale, shift', [(2, (0, 0)), (.3, (100, -50)), (1, (300, 200))])
def test_camera_does_not_matter(pose, scale, shift):
    a, b = prepare(pose), prepare(moved(pose, scale, shift))
    assert np.allclose(a.frames, b.frames, atol=1e-3) and a.offset_s == b.offset_s


def test_rest_is_cut_and_remembered(pose):
    a, b = prepare(pose), prepare(rested(pose, 50, 100))
    assert len(a) == len(b) and np.allclose(a.frames, b.frames, atol=.08)   # the medians now count the held frames too
    assert b.offset_s == pytest.approx(a.offset_s + 50 / pose.fps)


def test_shoulders_are_the_unit(pose):
    frames = prepare(pose, trim=False).frames
    assert np.median(np.linalg.norm(frames[:, 0] - frames[:, 1], axis=1)) == pytest.approx(1, abs=.02)
    assert np.abs(np.median(frames[:, :2].mean(1), axis=0)).max() < .02
    assert frames[:, 6:8, 1].min() > .5                                   # hips below: y points down


def test_frame_rate_and_types(pose):
    for fps in (25, 30, 60, 8):
        prepared = prepare(pose.resample(fps), trim=False)
        assert prepared.fps == FPS and abs(len(prepared) - pose.seconds * FPS) <= 1
        assert prepared.frames.dtype == np.float32 and prepared.present.dtype == bool and np.isfinite(prepared.frames).all()


def test_whatever_is_lost_something_finite_remains(pose):
    rng = np.random.default_rng(0)
    for share in (.1, .5, .9):
        lost = rng.random(pose.confidence.shape) < share
        lost[5, :2] = False
        part = replace(pose, keypoints=pose.keypoints * ~lost[..., None], confidence=pose.confidence * ~lost)
        assert np.isfinite(prepare(part).frames).all() and len(prepare(part)) > 0


def test_a_hand_never_seen_rests_on_its_wrist(pose):
    confidence = pose.confidence.copy()
    confidence[:, 8:29] = 0
    prepared = prepare(replace(pose, keypoints=pose.keypoints * (confidence > 0)[..., None], confidence=confidence))
    assert np.allclose(prepared.frames[:, 8:29], prepared.frames[:, [4]], atol=1e-5) and not prepared.present[:, 0].any()


def test_fill_agrees_with_interpolation():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, seen, t = rng.random((12, 3, 2)), rng.random(12) < .4, np.arange(12)
        if not seen.any(): continue
        expected = np.stack([np.interp(t, t[seen], x[seen, k, c]) for k in range(3) for c in range(2)], -1).reshape(12, 3, 2)
        assert np.allclose(fill(x, seen), expected)


def test_trembling_is_not_movement(pose):
    rng = np.random.default_rng(3)
    frames = np.repeat(prepare(pose).frames[:1], 60, 0) + rng.normal(0, .005, (60, 50, 2))
    frames[rng.random(60) < .05] += 1                                     # and now and then a frame of nonsense
    assert active_span(hand_speed(frames, np.ones((60, 2), bool))) == slice(0, 0)


def test_bad_input(pose):
    with pytest.raises(BadInput, match='no frames'): prepare(replace(pose, keypoints=pose.keypoints[:0], confidence=pose.confidence[:0]))
    with pytest.raises(BadInput, match='shoulders'): prepare(replace(pose, keypoints=pose.keypoints * 0, confidence=pose.confidence * 0))
    body = keypoint_set('shoulders', {'POSE_LANDMARKS': ('LEFT_SHOULDER', 'RIGHT_SHOULDER')})
    with pytest.raises(BadInput, match='missing'): prepare(pose.select(body))


def test_single_frame(pose):
    assert len(prepare(pose.cut(1, 1 + 1 / pose.fps))) == 1


def test_augmentation_does_what_it_says():
    rng = np.random.default_rng(0)
    frames, lengths = rng.random((300, 50, 2), dtype='float32') + 1, np.array([100, 150, 50])
    only = lambda **kw: augment(frames, lengths, np.random.default_rng(1), Augmentation(**{'mask': 0, 'scale': 0, 'jitter': 0, 'noise': 0, **kw}))
    clips = np.split(np.arange(300), np.cumsum(lengths)[:-1])
    ratio = only(scale=.2) / frames
    assert all(np.ptp(ratio[c]) < 1e-5 for c in clips) and len({round(float(ratio[c[0], 0, 0]), 4) for c in clips}) == 3
    shift = only(jitter=.1) - frames
    assert np.ptp(shift, axis=1).max() < 1e-5 and .05 < shift[:, 0].std() < .2
    assert .08 < (only(noise=.1) - frames).std() < .12
    masked = ~only(mask=.5).any((1, 2))
    assert all(masked[c].sum() <= len(c) / 2 and np.abs(np.diff(masked[c].astype(int))).sum() <= 2 for c in clips) and masked.any()


def test_augmentation_is_cheap():
    rng = np.random.default_rng(0)
    frames, lengths = rng.random((5000, 50, 2), dtype='float32'), np.full(50, 100)
    def once():
        start = time.perf_counter()
        augment(frames, lengths, rng)
        return time.perf_counter() - start
    assert min(once() for _ in range(20)) < .03                           # about 7 ms on one idle core


def test_real_pose_files(shared):
    files = sorted((shared/'pose_files').glob('*.pose'))
    if not files: pytest.skip('no .pose files in ../shared')
    for file in files:
        whole, kept = prepare(Pose.read(file), trim=False), prepare(Pose.read(file))
        assert np.isfinite(whole.frames).all() and 5 < len(kept) < len(whole)   # both begin and end at rest
        assert kept.seen > whole.seen
        reduced = Pose.read(file).select(HOLISTIC_178 if file.stem.startswith('seg') else PAPER_50)
        assert np.array_equal(prepare(reduced).frames, kept.frames)             # the layout does not matter


def test_many_clips_at_once_are_what_each_is_alone():
    "Clips of several lengths and frame rates, hands lost, a body point lost, nothing moving in one: the same as one by one."
    takes = [record([signs], lexicon(8), draw_signers(2, np.random.default_rng(0)), np.array([0]), np.array([False]), fps=fps, rng=seed).pose(0)
             for seed, (signs, fps) in enumerate([([0, 3], 25), ([1], 12.5), ([2, 4, 5], 30), ([6], 60), ([7], 10)])]
    frozen = replace(takes[0], keypoints=takes[0].keypoints[[9] * 30], confidence=np.ones_like(takes[0].confidence[[9] * 30]))
    blind = takes[1].confidence.copy()
    blind[5:9, 2] = blind[:, 29:] = 0
    clips = [*takes, frozen, replace(takes[1], confidence=blind)]
    many = prepare_many(np.concatenate([c.keypoints for c in clips]), np.concatenate([c.confidence > 0 for c in clips]), np.array([len(c) for c in clips]), np.array([c.fps for c in clips]))
    first = np.cumsum(many[2]) - many[2]
    for n, clip in enumerate(clips):
        alone, part = prepare(clip), slice(first[n], first[n] + many[2][n])
        assert len(alone) == many[2][n] and alone.offset_s == pytest.approx(many[3][n])
        assert np.allclose(many[0][part], alone.frames, atol=1e-4) and np.array_equal(many[1][part], alone.present)


def test_a_clip_without_shoulders_among_many_is_named(pose):
    unseen = (pose.confidence > 0) & (np.arange(50) > 1)
    with pytest.raises(BadInput, match='clip 1'):
        prepare_many(np.concatenate([pose.keypoints] * 2), np.concatenate([pose.confidence > 0, unseen]), np.array([len(pose)] * 2), pose.fps)


@pytest.mark.parametrize('fps', [0, -1, float('nan'), float('inf'), 1e9])
def test_frame_rates_that_cannot_be_meant_are_refused(pose, fps):
    with pytest.raises(BadInput, match='frames a second'): prepare(pose, fps=fps)
    with pytest.raises(BadInput, match='frames a second'): replace(pose, fps=fps)
