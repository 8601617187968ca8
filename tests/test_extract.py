"From video to keypoints: files made for the purpose, and real recordings where they are at hand."
import os
import signal
import struct
import subprocess
import sys
import time
import wave
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from signspot.extract import extract, extract_many, probe, read_frames, track
from signspot.pose import BadInput, Pose
from signspot.skeleton import HOLISTIC_576

av = pytest.importorskip('av')
pytestmark = pytest.mark.filterwarnings('ignore:SymbolDatabase.GetPrototype')
VIDEOS = ('msl150_yo', 'poseformat_test_video', 'msl150_doctor', 'signseg_demo_bsl', 'wslp_query_national', 'wslp_sentence_the_ban')
WHOLE = VIDEOS if os.environ.get('SIGNSPOT_WHOLE_VIDEOS') else VIDEOS[:2]   # compared frame by frame to the end; of the others 30 frames


def film(path, times, codec='mpeg4', base=Fraction(1, 1000), shape=(48, 64), pixel=None, options=None) -> Path:
    "A video whose n-th frame, at times[n] seconds, is grey, brighter by 3 than the one before; a white corner marks its top left."
    with av.open(str(path), 'w', options=options or {}) as container:
        stream = container.add_stream(codec, rate=round(1 / base))
        (stream.height, stream.width), stream.pix_fmt, stream.bit_rate = shape, 'yuv420p', 4_000_000
        stream.codec_context.time_base = base
        if pixel: stream.codec_context.sample_aspect_ratio = pixel
        for n, moment in enumerate(times):
            picture = np.full((*shape, 3), 20 + 3 * n % 200, 'uint8')
            picture[:16, :16] = 255
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            frame.pts, frame.time_base = round(moment / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def number(rgb) -> int:
    "Which frame of a film this is."
    return round((float(np.median(rgb)) - 20) / 3)


def numbers(video, fps=None): return [number(rgb) for _, rgb in read_frames(video, fps)]


# --- time

@pytest.mark.parametrize('name, rate', [('a.mp4', Fraction(25)), ('a.mp4', Fraction(30000, 1001)), ('a.mkv', Fraction(30000, 1001)),
                                        ('a.avi', Fraction(25)), ('a.mkv', Fraction(60)), ('a.mov', Fraction(12))])
def test_a_steady_video_gives_every_frame_once(tmp_path, name, rate):
    video = film(tmp_path/name, [n / rate for n in range(50)], base=1 / rate)
    known = probe(video)
    assert numbers(video) == list(range(50)) and abs(known.fps - rate) < .01 * rate
    assert np.allclose([seconds for seconds, _ in read_frames(video)], np.arange(50) / known.fps)


def test_reordered_frames_come_in_order(tmp_path):
    if 'libx264' not in av.codecs_available: pytest.skip('no H.264 encoder here')
    video = film(tmp_path/'a.mp4', np.arange(50) / 25, 'libx264', Fraction(1, 25), options={'movflags': 'faststart'})
    assert numbers(video) == list(range(50))


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
@pytest.mark.parametrize('fps', [None, 5, 12.5, 25, 60])
def test_a_varying_frame_rate_is_put_on_a_grid_by_true_times(tmp_path, name, fps):
    times = np.cumsum([0, *np.random.default_rng(1).choice([.033, .04, .1, .35], 30)])
    video = film(tmp_path/name, times)
    shown = [(seconds, times[number(rgb)]) for seconds, rgb in read_frames(video, fps)]
    assert np.allclose(np.diff([seconds for seconds, _ in shown]), 1 / (fps or probe(video).fps))
    assert all(abs(true - seconds) <= np.abs(times - seconds).min() + .002 for seconds, true in shown)
    assert abs(len(shown) / (fps or probe(video).fps) - times[-1]) < .2


def test_a_lower_rate_is_taken_from_a_higher_one(tmp_path):
    video = film(tmp_path/'a.mp4', np.arange(40) / 20, base=Fraction(1, 20))
    assert numbers(video, 10) == list(range(0, 40, 2)) and numbers(video, 40) == [n for n in range(40) for _ in 'ab'][:79]


def test_times_start_at_the_first_frame(tmp_path):
    video = film(tmp_path/'late.mkv', 3 + np.arange(20) / 20, base=Fraction(1, 20))
    assert numbers(video) == list(range(20)) and next(read_frames(video))[0] == 0


def test_a_stream_without_timestamps_runs_at_its_nominal_rate(tmp_path):
    video = film(tmp_path/'a.m4v', np.arange(20) / 25, base=Fraction(1, 25))
    assert numbers(video) == list(range(20)) and (probe(video).fps, round(probe(video).seconds, 3)) == (25, .8)


def test_one_frame_is_a_video_too(tmp_path):
    assert numbers(film(tmp_path/'a.mp4', [0])) == [0]


# --- the picture

TURNS = {(1, 0, 0, 1): (0, 0), (0, 1, -1, 0): (0, 1), (-1, 0, 0, -1): (1, 1), (0, -1, 1, 0): (1, 0), (-1, 0, 0, 1): (0, 1), (0, 1, 1, 0): (0, 0)}


@pytest.mark.parametrize('turn', TURNS)
def test_rotation_is_applied(tmp_path, turn):
    "The display matrix is written into the file by hand; the white corner must be where it sends it."
    content = bytearray(film(tmp_path/'a.mp4', np.arange(5) / 25).read_bytes())
    at, (a, b, c, d) = content.index(b'tkhd') + 44, turn
    content[at:at + 36] = struct.pack('>9i', a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path/'turned.mp4').write_bytes(content)
    for _, rgb in read_frames(tmp_path/'turned.mp4'):
        corners = rgb[[[4], [-4]], [[4, -4]], 0] > 200
        assert rgb.shape == ((64, 48, 3) if b else (48, 64, 3)) and rgb.flags.c_contiguous
        assert corners.sum() == 1 and corners[TURNS[turn]]


def test_pixels_are_made_square(tmp_path):
    video = film(tmp_path/'wide.mp4', np.arange(5) / 25, pixel=Fraction(3, 2))
    assert {rgb.shape for _, rgb in read_frames(video)} == {(48, 96, 3)}


def test_decoded_pictures_are_those_of_a_plain_loop(tmp_path):
    video = film(tmp_path/'a.mp4', np.arange(10) / 25)
    with av.open(str(video)) as container: plain = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert np.array_equal(plain, [rgb for _, rgb in read_frames(video)])


# --- what is not a video

def silent(path): path.write_bytes(b'')
def page(path): path.write_text('<html>not found</html>\n' * 100)
def noise(path): path.write_bytes(np.random.default_rng(0).bytes(20000))
def sound(path):
    with wave.open(str(path), 'wb') as file:
        file.setparams((1, 2, 8000, 0, 'NONE', ''))
        file.writeframes(bytes(16000))
def frameless(path):
    with av.open(str(path), 'w', format='avi') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        container.start_encoding()
def unknown_codec(path):
    path.write_bytes(film(path.with_suffix('.avi'), [0, .1]).read_bytes().replace(b'FMP4', b'ZZZZ'))
def half(path):
    content = film(path.with_suffix('.mkv'), np.arange(50) / 25).read_bytes()
    path.write_bytes(content[:len(content) // 2])


@pytest.mark.parametrize('make, says', [(silent, 'not a video'), (page, 'not a video'), (noise, 'not a video'), (sound, 'no video track'),
                                        (frameless, 'no frames'), (unknown_codec, 'does not know|not a video'), (half, 'cut short'),
                                        (Path.mkdir, 'is a folder'), (lambda path: None, 'there is no file')])
def test_what_is_not_a_video_is_said_in_a_line(tmp_path, make, says):
    path = tmp_path/'a.mp4'
    make(path)
    with pytest.raises(BadInput, match=says) as caught: list(read_frames(path))
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_where_decoding_breaks(tmp_path):
    "The last packet is cut in two: too little missing to be seen from the timestamps."
    if 'libx264' not in av.codecs_available: pytest.skip('no H.264 encoder here')
    rng, path = np.random.default_rng(0), tmp_path/'a.mp4'
    with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('libx264', rate=25, options={'bf': '0'})
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for _ in range(50): container.mux(stream.encode(av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), 'uint8'), format='rgb24')))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r'decoding breaks at 1\.\d s|cut short'): list(read_frames(path))


@pytest.mark.parametrize('fps', [0, -1, float('nan'), float('inf')])
def test_frame_rates_that_make_no_sense(tmp_path, fps):
    video = film(tmp_path/'a.mp4', [0, .1])
    for call in (lambda: read_frames(video, fps), lambda: extract(video, fps), lambda: extract_many([video], tmp_path, fps=fps)):
        with pytest.raises(BadInput, match='positive'): call()


def test_odd_names(tmp_path):
    for name in ('12:30.mp4', 'día 1 (ñ).mp4', '%03d.mp4', 'http:a.mp4'):
        film(tmp_path/'a.mp4', [0, .1]).rename(tmp_path/name)
        assert numbers(tmp_path/name) == [0, 1]


# --- keypoints, without a person

def test_mediapipe_missing_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mediapipe.python.solutions.holistic', None)
    video = film(tmp_path/'a.mp4', [0, .1])
    for call in (lambda: extract(video), lambda: extract_many([video], tmp_path/'out')):
        with pytest.raises(BadInput, match='needs mediapipe.*pip install mediapipe==0.10.14.*or give a .pose file'): call()
    assert not (tmp_path/'out').exists()


def test_same_stems_are_refused_before_any_work(tmp_path):
    with pytest.raises(BadInput, match='x/a.mp4 and .*y/a.mov would both become'): extract_many([tmp_path/'x/a.mp4', tmp_path/'y/a.mov'], tmp_path)
    assert not list(tmp_path.iterdir())


def pose_of(frames, fps): return Pose(np.ones((frames, 576, 3), 'float32'), np.ones((frames, 576), 'float32'), fps, HOLISTIC_576)


@pytest.mark.parametrize('frames, fps, wanted, fits', [(40, 20, None, True), (40, 20, 20, True), (20, 10, 10, True), (20, 10, None, False),
                                                       (40, 20, 10, False), (60, 20, None, False)])
def test_a_finished_file_is_taken_only_if_it_fits(tmp_path, frames, fps, wanted, fits):
    video, path = film(tmp_path/'a.mp4', np.arange(40) / 20, base=Fraction(1, 20)), tmp_path/'a.pose'
    before = pose_of(frames, fps).write(path).read_bytes()
    if fits: assert extract_many(video, tmp_path, fps=wanted).skipped == [path]
    else:
        with pytest.raises(BadInput, match='there already'): extract_many([video], tmp_path, fps=wanted)
    assert path.read_bytes() == before


@pytest.fixture(scope='session')
def mediapipe(): return pytest.importorskip('mediapipe', reason='mediapipe is not installed')


def test_nobody_is_reported_and_nothing_written(tmp_path, mediapipe):
    videos = [film(tmp_path/'grey.mp4', np.arange(5) / 25), tmp_path/'page.mp4', tmp_path/'nowhere.mp4']
    page(videos[1])
    report = extract_many(videos, tmp_path/'out')
    assert [why.split(': ')[-1][:21] for why in report.failed.values()][0] == 'no person was found i' and len(report.failed) == 3
    assert not report.done and not (tmp_path/'out').exists()


def test_mediapipe_keeps_quiet_and_our_errors_do_not(tmp_path, mediapipe):
    film(tmp_path/'grey.mp4', np.arange(5) / 25)
    command = 'import sys; from signspot.extract import extract; extract(sys.argv[1])'
    said = subprocess.run([sys.executable, '-c', command, str(tmp_path/'grey.mp4')], capture_output=True, text=True)
    assert said.stderr.startswith('Traceback') and said.stderr.rstrip().endswith('no person was found in any of its 5 frames')
    assert not any(word in said.stderr + said.stdout for word in ('INFO', 'WARNING', 'W0000', 'UserWarning', 'TensorFlow'))


# --- keypoints of people

def plain_loop(path, frames=None) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    "Holistic as its own documentation runs it: (T, 75, 3) body and hands as fractions, (T, 75) found, and the picture's size."
    import mediapipe as mp
    points, found = [], []
    with av.open(str(path)) as container, mp.solutions.holistic.Holistic(static_image_mode=False, model_complexity=1) as holistic:
        for frame in islice(container.decode(video=0), frames):
            result = holistic.process(frame.to_ndarray(format='rgb24'))
            parts = [(result.pose_landmarks, 33), (result.left_hand_landmarks, 21), (result.right_hand_landmarks, 21)]
            points.append([(p.x, p.y, p.z) for part, n in parts for p in (part.landmark if part else [Nothing] * n)])
            found.append([part is not None for part, n in parts for _ in range(n)])
    return np.array(points), np.array(found), (frame.width, frame.height)


class Nothing: x = y = z = 0


@pytest.mark.parametrize('name', VIDEOS)
def test_keypoints_equal_a_plain_loop(tmp_path, shared, mediapipe, name):
    video, frames = shared/'video'/f'{name}.mp4', None if name in WHOLE else 30
    points, found, size = plain_loop(video, frames)
    if frames: pose = track((rgb for _, rgb in islice(read_frames(video), frames)), probe(video).fps)
    else:
        assert extract_many([video], tmp_path).done == [tmp_path/f'{name}.pose']
        pose = Pose.read(tmp_path/f'{name}.pose')
    ours = [i for part in ('POSE', 'LEFT_HAND', 'RIGHT_HAND') for i, point in enumerate(HOLISTIC_576.points) if point.startswith(f'{part}_LANDMARKS')]
    assert pose.size == size and len(pose) == len(points) and found.any()
    assert np.array_equal(pose.confidence[:, ours] > 0, found)
    assert np.array_equal(pose.keypoints[:, ours], (points * (*size, 1)).astype('float32'))


def test_the_file_is_pose_formats_own(tmp_path, shared, mediapipe):
    "Frame by frame the same numbers as pose-format's loader gives, face and world points included."
    from pose_format import Pose as PoseFile
    from pose_format.utils.holistic import load_holistic
    pictures = [rgb for _, rgb in islice(read_frames(shared/'video'/'msl150_yo.mp4', 10), 8)]
    height, width, _ = pictures[0].shape
    theirs = load_holistic(pictures, fps=10, width=width, height=height, reuse=False)
    ours = PoseFile.read(track(iter(pictures), 10).write(tmp_path/'a.pose').read_bytes())
    assert [(c.name, c.points) for c in ours.header.components] == [(c.name, c.points) for c in theirs.header.components]
    assert np.array_equal(ours.body.confidence, theirs.body.confidence.astype('float32'))
    assert np.array_equal(ours.body.data.filled(0), theirs.body.data.filled(0).astype('float32'))


def test_broken_videos_among_good_ones(tmp_path, shared, mediapipe):
    good = [shared/'video'/f'{name}.mp4' for name in VIDEOS[:2]]
    page(tmp_path/'page.mp4')
    (tmp_path/'cut.mp4').write_bytes((shared/'video'/'wslp_query_national.mp4').read_bytes()[:1_000_000])
    report = extract_many([good[0], tmp_path/'page.mp4', tmp_path/'cut.mp4', good[1]], tmp_path/'out', workers=2, fps=4)
    assert [path.stem for path in report.done] == [video.stem for video in good] and [path.stem for path in report.failed] == ['page', 'cut']
    assert sorted(path.name for path in (tmp_path/'out').iterdir()) == sorted(f'{video.stem}.pose' for video in good)
    assert all(Pose.read(path).fps == 4 for path in report.done)


@pytest.mark.skipif(os.name != 'posix', reason='signals')
def test_killed_half_way_and_run_again(tmp_path, shared, mediapipe):
    videos, out = [shared/'video'/f'{name}.mp4' for name in VIDEOS], tmp_path/'out'
    command = 'import sys; from signspot.extract import extract_many; extract_many(sys.argv[2:], sys.argv[1], fps=5)'
    process = subprocess.Popen([sys.executable, '-c', command, str(out), *map(str, videos)])
    while not list(out.glob('*.pose')):
        assert process.poll() is None
        time.sleep(.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in out.glob('[!.]*.pose')}
    report = extract_many(videos, out, fps=5)
    assert 0 < len(kept) < 6 and len(report.skipped) == len(kept) and len(report.done) == 6 - len(kept)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert sorted(path.name for path in out.iterdir()) == sorted(f'{name}.pose' for name in VIDEOS)
    assert [len(Pose.read(out/f'{name}.pose')) for name in VIDEOS] == [10, 10, 11, 25, 22, 51]
