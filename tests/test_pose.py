"Keypoint sets and clips: what goes out comes back, mirrored twice is itself, and what is broken is refused in a line."
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_format import Pose as PoseFile
from pose_format.numpy import NumPyPoseBody

from signspot.pose import BadInput, Pose, atomic, pose_header, read_mp_data, unpack_mp_data
from signspot.skeleton import HOLISTIC_178, HOLISTIC_543, HOLISTIC_576, PAPER_50, PAPER_69, mirror_positions, positions

LAYOUTS = (HOLISTIC_576, HOLISTIC_543, HOLISTIC_178, PAPER_69, PAPER_50)


def random_pose(layout=PAPER_50, frames=12, channels=2, seed=0, fps=25.0) -> Pose:
    rng = np.random.default_rng(seed)
    confidence = rng.random((frames, len(layout))).astype('float32') * (rng.random((frames, len(layout))) > .2)
    keypoints = rng.uniform(1, 400, (frames, len(layout), channels)).astype('float32') * (confidence[..., None] > 0)
    return Pose(keypoints.astype('float32'), confidence.astype('float32'), fps, layout, (640, 480))


# keypoint sets

@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda s: s.name)
def test_every_layout_holds_the_papers_fifty(layout):
    assert [layout.points[i] for i in positions(PAPER_50, layout)] == list(PAPER_50.points)
    assert len(set(layout.points)) == len(layout) and all(a != b and max(a, b) < len(layout) for a, b in layout.edges)


def test_names_are_those_of_a_real_file(shared):
    for name, layout in (('segmentation_example', HOLISTIC_576), ('poseformat_mediapipe', HOLISTIC_178)):
        assert Pose.read(shared/'pose_files'/f'{name}.pose').layout is layout


def test_the_mirror_exchanges_left_and_right_only():
    for layout in (PAPER_50, PAPER_69):
        there = mirror_positions(layout)
        assert (there[there] == np.arange(len(layout))).all()
        assert all(('LEFT' in a) == ('RIGHT' in b) for a, b in zip(layout.points, np.array(layout.points)[there]))


# files

@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda s: s.name)
@pytest.mark.parametrize('channels', [2, 3])
def test_a_clip_survives_the_disk(layout, channels, tmp_path):
    pose = random_pose(layout, channels=channels)
    back = Pose.read(pose.write(tmp_path/'a.pose'))
    assert np.array_equal(back.keypoints, pose.keypoints) and np.array_equal(back.confidence, pose.confidence)
    assert back.layout is layout and back.fps == pose.fps and back.size == pose.size and os.listdir(tmp_path) == ['a.pose']


def test_pose_format_reads_what_we_write(tmp_path):
    pose = random_pose(HOLISTIC_178, channels=3)
    file = PoseFile.read(pose.write(tmp_path/'a.pose').read_bytes())
    assert [c.name for c in file.header.components] == list(pose.layout.components) and file.body.fps == 25
    assert np.array_equal(np.ma.getmaskarray(file.body.data)[:, 0, :, 0], pose.confidence == 0)
    assert np.array_equal(np.ma.getdata(file.body.data)[:, 0], pose.keypoints)


def test_real_files_are_read_and_written_again_unchanged(shared, tmp_path):
    for path in sorted((shared/'pose_files').glob('*.pose')):
        pose = Pose.read(path)
        assert len(pose) > 100 and len(pose.select(PAPER_50)) == len(pose)
        assert np.array_equal(Pose.read(pose.write(tmp_path/path.name)).keypoints, pose.keypoints)


def written(path: Path, frames=3, people=1) -> Path:
    "A .pose file that our own writer would refuse to write."
    body = NumPyPoseBody(25, np.ma.zeros((frames, people, 50, 2), 'float32'), np.ones((frames, people, 50), 'float32'))
    with path.open('wb') as file: PoseFile(pose_header(PAPER_50, (640, 480), 2), body).write(file)
    return path


@pytest.mark.parametrize('make, what', [
    (lambda path: None, 'No such file'), (lambda path: path.mkdir(), 'directory'), (lambda path: path.write_bytes(b''), 'not a readable'),
    (lambda path: path.write_text('Dear reader, ' * 99), 'not a readable'), (lambda path: written(path, frames=0), 'no frames'), (lambda path: written(path, people=0), 'no people')])
def test_files_that_cannot_be_used(make, what, tmp_path):
    path = tmp_path/'a.pose'
    make(path)
    with pytest.raises(BadInput, match=what) as error: Pose.read(path)
    assert 'a.pose' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('share', [.1, .5, .9])
def test_cut_off_files(share, tmp_path):
    path = random_pose(frames=40).write(tmp_path/'a.pose')
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    with pytest.raises(BadInput, match='a.pose'): Pose.read(path)


def test_the_first_of_two_people(tmp_path):
    assert len(Pose.read(written(tmp_path/'a.pose', people=2))) == 3


def test_no_frames_are_not_written(tmp_path):
    with pytest.raises(BadInput, match='without frames'): random_pose().cut(9, 10).write(tmp_path/'a.pose')
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('wrong', [dict(fps=0), dict(fps=-1), dict(fps=float('nan')), dict(confidence=np.ones((3, 50))), dict(keypoints=np.full((12, 50, 2), np.nan)), dict(layout=PAPER_69)])
def test_what_does_not_fit_together(wrong):
    with pytest.raises(BadInput): replace(random_pose(), **wrong)


def test_atomic_leaves_nothing_behind_on_an_error(tmp_path):
    (tmp_path/'a.txt').write_text('old')
    with pytest.raises(RuntimeError):
        with atomic(tmp_path/'a.txt') as part:
            part.write_text('new')
            raise RuntimeError
    assert (tmp_path/'a.txt').read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']


def test_atomic_says_where_it_cannot_write(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(BadInput, match='cannot write'):
        with atomic(tmp_path/'file'/'a.txt') as part: part.write_text('x')


# clips

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(5, 60), st.integers(0, 99))
def test_resampling_keeps_time_and_what_was_unseen(frames, fps, seed):
    pose = random_pose(frames=frames, seed=seed)
    again = pose.resample(fps)
    assert abs(again.seconds - pose.seconds) <= max(1 / fps, 1 / pose.fps)
    assert ((again.keypoints == 0).all(-1) == (again.confidence == 0)).all()
    never = (pose.confidence == 0).all(0)
    assert (again.confidence[:, never] == 0).all()


def test_resampling_a_straight_line_is_exact():
    pose = random_pose(frames=26)
    time = np.arange(26, dtype='float32')[:, None, None] / 25
    line = replace(pose, keypoints=np.broadcast_to(10 + 100 * time, pose.keypoints.shape).astype('float32'), confidence=np.ones_like(pose.confidence))
    assert np.allclose(line.resample(12.5).keypoints[:, 0, 0], 10 + 100 * np.arange(13) / 12.5, atol=1e-3)


def test_cutting_and_joining_is_the_clip():
    pose = random_pose(frames=30)
    parts = [pose.cut(a, b).keypoints for a, b in ((0, .4), (.4, 1.2))]
    assert np.array_equal(np.concatenate(parts), pose.keypoints) and len(pose.cut(5, 6)) == 0


def test_mirrored_twice_is_itself():
    pose = random_pose(PAPER_69)
    assert np.allclose(pose.mirror().mirror().keypoints, pose.keypoints, atol=1e-3) and not np.allclose(pose.mirror().keypoints, pose.keypoints)
    with pytest.raises(BadInput, match='PAPER_50'): random_pose(HOLISTIC_543).mirror()


def test_points_that_are_not_there():
    with pytest.raises(BadInput, match='FACE_LANDMARKS:70'): random_pose(PAPER_50).select(PAPER_69)


def test_an_empty_clip_is_not_drawn():
    nobody = replace(random_pose(), keypoints=np.zeros((12, 50, 2), 'float32'), confidence=np.zeros((12, 50), 'float32'))
    assert nobody._repr_png_() is None
    with pytest.raises(BadInput, match='nobody'): nobody.animate()


def test_a_film_has_all_frames():
    from io import BytesIO

    from PIL import Image
    film = Image.open(BytesIO(random_pose(frames=7).animate().data))
    assert film.n_frames == 7 and film.info['duration'] == 40


# MP_Data

def test_a_real_mp_data_folder(shared):
    pose = read_mp_data(shared/'data'/'mp_data_sample'/'can'/'0')
    assert len(pose) == 20 and pose.layout.name == 'MP_Data 75'
    body = pose.select(PAPER_50)
    shoulder, wrist = (body.keypoints[:, PAPER_50.position[f'POSE_LANDMARKS:RIGHT_{joint}']] for joint in ('SHOULDER', 'WRIST'))
    left = body.keypoints[:, PAPER_50.position['POSE_LANDMARKS:LEFT_SHOULDER']]
    found = body.confidence[:, 0] > 0
    assert found.sum() == 19 and (left[found, 0] > shoulder[found, 0]).all()    # the signer's left is on the picture's right
    hand = body.confidence[:, 29] > 0
    assert np.abs(body.keypoints[hand, 29, :2] - wrist[hand, :2]).max() < 60   # right hand sits on the right wrist


@pytest.mark.parametrize('make, what', [(lambda folder: None, 'no frames'), (lambda folder: [np.save(folder/f'{i}.npy', np.ones(258)) for i in (0, 2)], 'lacks frame 1'),
                                        (lambda folder: np.save(folder/'0.npy', np.ones(100)), '258 or 1662'), (lambda folder: (folder/'0.npy').write_bytes(b'no'), 'mp'),
                                        (lambda folder: np.save(folder/'0.npy', np.full(258, np.nan)), 'NaN'), (lambda folder: np.save(folder/'0.npy', np.array([{}], object)), 'mp')])
def test_mp_data_that_cannot_be_used(make, what, tmp_path):
    folder = tmp_path/'mp'
    folder.mkdir()
    make(folder)
    with pytest.raises(BadInput, match=what): read_mp_data(folder)


@pytest.mark.parametrize('values, points', [(258, 75), (1662, 543)])
def test_mp_data_rows(values, points):
    pose = unpack_mp_data(np.random.default_rng(0).uniform(.1, .9, (4, values)))
    assert pose.keypoints.shape == (4, points, 3) and (pose.keypoints[..., 0] <= 640).all()
