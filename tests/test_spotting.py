"Spotting: the right answer at the right second, whatever the camera, on generated and on real recordings."
import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from signspot.phonology import lexicon
from signspot.pose import BadInput, Pose
from signspot.prepare import FPS
from signspot.signing import draw_signers, record
from signspot.skeleton import PAPER_50, KeypointSet
from signspot.spotting import Spots, check_picture, spot, windows


@pytest.fixture(scope='module')
def takes():
    "A sentence of four signs, then its third and a foreign sign in citation form by another signer."
    return record([[1, 4, 6, 3], [3], [8]], lexicon(12), draw_signers(6, np.random.default_rng(2)), np.array([0, 3, 3]), np.array([False, True, True]), rng=16)


@pytest.fixture(scope='module')
def clips(takes) -> list[Pose]:
    return [takes.pose(c) for c in range(3)]


def tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(0, min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0]))


def same(a: Spots, b: Spots, shift: float = 0, score: float = .03, seconds: float = .17):
    "The same answer, its times shifted."
    assert a.present == b.present and a.score == pytest.approx(b.score, abs=score)
    assert (a.best.start + shift, a.best.end + shift) == pytest.approx((b.best.start, b.best.end), abs=seconds)


def camera(pose: Pose, scale: float, shift: tuple[float, float]) -> Pose:
    keypoints = (pose.keypoints * scale + np.array(shift, 'float32')) * (pose.confidence > 0)[..., None]
    return replace(pose, keypoints=keypoints.astype('float32'))


def rested(pose: Pose, before: int, after: int) -> Pose:
    index = np.r_[np.zeros(before, int), np.arange(len(pose)), np.full(after, len(pose) - 1)]
    return replace(pose, keypoints=pose.keypoints[index], confidence=pose.confidence[index])


BOTH = pytest.mark.parametrize('model', ['matcher', 'dtw'])


@BOTH
def test_present_and_absent(model, takes, clips):
    sentence, query, other = clips
    there, absent = spot(query, sentence, model), spot(other, sentence, model)
    _, start, end = takes.spans(0)[3]
    assert there.present and tiou((there.best.start, there.best.end), (start, end)) > .4
    assert not absent.present and absent.spans == () and absent.score < there.score
    assert 0 <= absent.score <= 1 and absent.best is not None


@pytest.mark.parametrize('model, most', [('matcher', 1), ('dtw', 2)])
def test_of_the_foreign_signs_few_are_found(model, most):
    "All eight of the lexicon that are not in the sentence: the matcher takes one of them for a sign of it (9), DTW two; none is as sure as the one that is there."
    foreign = [0, 2, 5, 7, 8, 9, 10, 11]
    takes = record([[1, 4, 6, 3], [3], *([f] for f in foreign)], lexicon(12), draw_signers(6, np.random.default_rng(2)), np.array([0, 3] + [3] * len(foreign)), np.array([False] + [True] * 9), rng=16)
    there, *absent = (spot(takes.pose(c), takes.pose(0), model) for c in range(1, 10))
    assert there.present and sum(spots.present for spots in absent) <= most and max(spots.score for spots in absent) < there.score


@BOTH
def test_a_piece_of_the_sentence_is_found_at_its_place(model, takes, clips):
    sentence = clips[0]
    for _, start, end in takes.spans(0):
        spots = spot(sentence.cut(start, end), sentence, model)
        assert spots.present and spots.score > .95
        assert tiou((spots.best.start, spots.best.end), (start, end)) > .4 and start < (spots.best.start + spots.best.end) / 2 < end


@BOTH
def test_rest_moves_the_answer_and_changes_nothing_else(model, clips):
    sentence, query, _ = clips
    plain = spot(query, sentence, model)
    same(plain, spot(query, rested(sentence, 75, 50), model), shift=75 / sentence.fps, score=.08)
    same(plain, spot(rested(query, 50, 25), sentence, model), score=.08)


@pytest.mark.parametrize('scale, shift', [(2.5, (0, 0)), (.4, (30, 10)), (1, (-200, 90))])
@BOTH
def test_camera_does_not_matter(model, clips, scale, shift):
    sentence, query, _ = clips
    same(spot(query, sentence, model), spot(camera(query, scale, shift), sentence, model))
    same(spot(query, sentence, model), spot(query, camera(sentence, scale, shift), model))


@BOTH
def test_mirrors_do_not_matter(model, clips):
    sentence, query, _ = clips
    plain = spot(query, sentence, model)
    same(plain, spot(query.mirror(), sentence, model))                           # a left-handed signer
    same(plain, spot(query.mirror(), sentence.mirror(), model), score=.03 if model == 'dtw' else .15)   # the matcher encodes a sentence one way only


@pytest.mark.parametrize('fps', [15, 30, 50])
@BOTH
def test_frame_rate_does_not_matter(model, clips, fps):
    sentence, query, _ = clips
    same(spot(query, sentence, model), spot(query.resample(fps), sentence, model), score=.1)
    same(spot(query, sentence, model), spot(query, sentence.resample(fps), model), score=.1)


@pytest.mark.parametrize('speed', [.7, 1.4])
@BOTH
def test_a_slower_or_faster_query_is_found(model, takes, clips, speed):
    sentence, query, _ = clips
    spots = spot(replace(query, fps=query.fps * speed), sentence, model)
    assert spots.present and tiou((spots.best.start, spots.best.end), takes.spans(0)[3][1:]) > .3


@BOTH
def test_repeated_sign_gives_two_spans(model):
    takes = record([[3, 1, 5, 3], [3]], lexicon(8), draw_signers(6, np.random.default_rng(3)), np.array([0, 4]), np.array([False, True]), rng=1)
    spots, truth = spot(takes.pose(1), takes.pose(0), model), [takes.spans(0)[i][1:] for i in (0, 3)]
    assert all(any(tiou((span.start, span.end), t) > .3 for span in spots.spans) for t in truth)
    ordered = sorted(spots.spans, key=lambda span: span.start)
    assert all(a.end <= b.start + 1e-9 for a, b in zip(ordered, ordered[1:]))
    assert [s.score for s in spots.spans] == sorted((s.score for s in spots.spans), reverse=True)


def test_sentence_too_short(clips, tmp_path):
    "For DTW, which cannot stretch it; the matcher just finds nothing."
    sentence, query, _ = clips
    assert spot(query, sentence.cut(1, 1.1)).verdict != 'present'
    spots = spot(query, sentence.cut(1, 1.1), 'dtw')
    assert not spots.present and spots.score == 0 and spots.best is None and 'too short' in repr(spots)
    assert json.loads(spots.to_json())['best'] is None and spots.plot(tmp_path/'short.png').exists()


def test_answer_as_json_is_plain_and_complete(clips):
    answer = json.loads(spot(clips[1], clips[0]).to_json())
    assert {'present', 'score', 'threshold', 'spans', 'best', 'method', 'times', 'curve', 'warnings', 'hands_seen'} <= set(answer)
    assert len(answer['times']) == len(answer['curve']) and np.isfinite(answer['curve']).all()
    assert np.allclose(np.diff(answer['times']), 1 / FPS, atol=2e-3) and answer['times'][-1] <= clips[0].seconds


def test_doubtful_tracking_is_said(clips):
    sentence, query, _ = clips
    confidence = query.confidence.copy()
    confidence[:, 8:] = 0
    unseen = replace(query, confidence=confidence, keypoints=query.keypoints * (confidence > 0)[..., None])
    spots = spot(unseen, sentence)
    assert len(spots.warnings) == 1 and 'no hands were seen in the query' in spots.warnings[0] and not spot(query, sentence).warnings
    assert spots.query.seen == 'body only' and spots.to_dict()['went by'] == {'query': 'body only', 'sentence': 'hands and body'}


def handed(pose: Pose) -> Pose:
    "The same with nothing but hands."
    confidence = pose.confidence.copy()
    confidence[:, :8] = 0
    return replace(pose, confidence=confidence, keypoints=pose.keypoints * (confidence > 0)[..., None])


def test_hands_alone_are_answered_by_the_matcher_only(clips):
    sentence, query, other = clips
    spots = spot(handed(query), handed(sentence))
    assert [clip.seen for clip in (spots.query, spots.sentence)] == ['hands only'] * 2 and len(spots.warnings) == 2 and 'only hands' in spots.warnings[0]
    assert spots.score > spot(handed(other), handed(sentence)).score
    same(spots, spot(camera(handed(query), 2, (50, 20)), camera(handed(sentence), .5, (9, 9))), score=.05)
    with pytest.raises(BadInput, match='needs shoulders'): spot(handed(query), sentence, 'dtw')


@pytest.mark.parametrize('points, went_by', [(PAPER_50.points[:8], 'body only'), (PAPER_50.points[8:], 'hands only')])
def test_files_of_a_body_or_of_hands_are_answered_and_drawn(points, went_by, clips, tmp_path):
    sentence, query, _ = clips
    path = query.select(KeypointSet('part', points, ())).write(tmp_path/'part.pose')
    spots = spot(path, sentence)
    assert spots.query.seen == went_by and spots.warnings and spots.plot(tmp_path/'part.png').exists()


def test_several_queries_are_one(clips):
    sentence, query, other = clips
    alone, twice = spot(query, sentence), spot([query, query], sentence)
    same(alone, twice, score=1e-3)
    mixed = spot([query, query.resample(20)], sentence)
    assert len(mixed.queries) == 2 and mixed.present and mixed.to_dict()['queries'] == ['query', 'query']
    assert spot([query, other], sentence, 'dtw').score == max(spot(q, sentence, 'dtw').score for q in (query, other))
    with pytest.raises(BadInput, match='at least one'): spot([], sentence)


def test_not_sure_is_said(clips):
    spots = replace(spot(clips[1], clips[0]), score=.6, sure=.8)
    assert spots.verdict == 'not sure' and repr(spots).startswith('not sure  score 0.60') and replace(spots, score=.85).verdict == 'present' and replace(spots, score=.15, present=False).verdict == 'absent'


@pytest.mark.parametrize('suffix', ['png', 'pdf', 'svg', 'jpg'])
def test_picture(clips, tmp_path, suffix):
    path = spot(clips[1], clips[0]).plot(tmp_path/'new'/f'spot.{suffix}')
    assert path.stat().st_size > 5000 and [p.name for p in path.parent.iterdir()] == [path.name]


def test_picture_is_refused_in_time(tmp_path):
    (tmp_path/'file').write_text('')
    for path in ('spot.txt', 'spot', tmp_path, tmp_path/'file'/'spot.png'):
        with pytest.raises(BadInput): check_picture(path)


@pytest.mark.parametrize('frames, width', [(1, 9), (9, 9), (10, 9), (100, 1), (57, 20)])
def test_windows_cover_the_sentence(frames, width):
    covered = np.zeros(frames, int)
    for a, b in windows(frames, width):
        assert 0 <= a < b <= frames and b - a == min(width, frames)
        covered[a:b] += 1
    assert covered.all()


def test_model_answers_in_dtws_place(clips, tmp_path):
    import torch
    from signspot.spotter import Spotter, SpotterConfig
    from signspot.train import load_model, predict, save_model
    from signspot.spotting import load_clip, window_corpus
    torch.manual_seed(0)
    save_model(Spotter(SpotterConfig(encoder='1d', d=16, width=16, heads=2)), tmp_path/'small')
    sentence, query, _ = clips
    spots = spot(query, sentence, model=tmp_path/'small')
    alone = window_corpus(load_clip(query).prepared, load_clip(sentence).prepared, np.zeros((0, 2), int))
    assert spots.score == pytest.approx(predict(load_model(tmp_path/'small'), alone)[0], abs=1e-5)   # the verdict is the whole sentence's
    assert spots.method == 'model small' and spots.present == (spots.score >= .5) and bool(spots.spans) == spots.present
    with pytest.raises(BadInput): spot(query, sentence, model=tmp_path)
    two = spot([query, query], sentence, model=tmp_path/'small')
    assert two.score == pytest.approx(spots.score, abs=1e-5)


def test_a_matcher_of_ones_own_answers(clips, tmp_path):
    from signspot.matcher import bundled
    sentence, query, _ = clips
    spots = spot(query, sentence, model=bundled().save_pretrained(tmp_path/'mine'))
    same(spots, spot(query, sentence), score=1e-6)
    assert spots.method == 'matcher mine'


@pytest.fixture(scope='session')
def real_pair(shared, tmp_path_factory) -> dict[str, Pose]:
    "Poses of the shared task's own example and of two Mexican signs, tracked once."
    if not find_spec('mediapipe'): pytest.skip('mediapipe is not installed')
    videos = [shared/'video'/f'{name}.mp4' for name in ('wslp_query_national', 'wslp_sentence_the_ban', 'msl150_yo')]
    if not all(video.exists() for video in videos): pytest.skip('the recordings are not in ../shared/video')
    from signspot.extract import extract_many
    report = extract_many(videos, tmp_path_factory.mktemp('poses'), workers=2)
    assert not report.failed
    return {path.stem: Pose.read(path) for path in report.done}


@BOTH
def test_the_real_pair(model, real_pair, tmp_path):
    "National is in the ban, at about 3.0 to 3.6 s: hand to palm, then raised."
    sentence = real_pair['wslp_sentence_the_ban']
    national, yo = spot(real_pair['wslp_query_national'], sentence, model), spot(real_pair['msl150_yo'], sentence, model)
    assert tiou((national.best.start, national.best.end), (2.96, 3.7)) > .5
    assert national.score > .35 and national.score > yo.score and not national.warnings
    assert national.plot(tmp_path/'national.png').stat().st_size > 20_000


@BOTH
def test_real_pose_files(model, shared):
    "Recordings of several signs: for DTW such a recording is in itself; a second of one is found in it by both."
    files = sorted((shared/'pose_files').glob('*.pose'))
    if not files: pytest.skip('no .pose files in ../shared')
    for file in files:
        pose = Pose.read(file)
        piece = spot(pose.cut(1.2, 2.2), file, model)
        assert piece.present and piece.sentence.name == file.stem and tiou((piece.best.start, piece.best.end), (1.2, 2.2)) > .4
        if model == 'dtw': assert spot(file, file, model).score > .95
