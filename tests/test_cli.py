"The command: answers on standard output, one clear line and status 2 for what cannot be used, nothing half-written."
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from signspot.cli import main
from signspot.phonology import lexicon
from signspot.signing import draw_signers, record

RUN = [sys.executable, '-c', 'import sys; from signspot.cli import main; sys.exit(main(sys.argv[1:]))']


@pytest.fixture
def folder(tmp_path):
    "A sentence and one of its signs as .pose files, and several things that are neither."
    takes = record([[1, 4, 6, 3], [6]], lexicon(8), draw_signers(6, np.random.default_rng(2)), np.array([0, 3]), np.array([False, True]), rng=11)
    for c, name in enumerate(('sentence', 'query')): takes.pose(c).write(tmp_path/f'{name}.pose')
    (tmp_path/'letter.mp4').write_text('Dear reader, this is not a video.')
    (tmp_path/'letter.pose').write_text('Nor is this a pose.')
    (tmp_path/'empty.pose').write_bytes(b'')
    (tmp_path/'nothing').mkdir()
    (tmp_path/'broken').mkdir()
    (tmp_path/'broken'/'config.json').write_text('{"encoder": "3d"}')
    (tmp_path/'broken'/'model.safetensors').write_bytes(b'\0' * 40)
    write_strange(takes.pose(1), tmp_path)
    return tmp_path


def write_strange(pose, folder):
    "A .pose file without frames, one in which nobody is seen, and one without the points that are needed."
    from dataclasses import replace
    from pose_format import Pose as PoseFile
    from pose_format.numpy import NumPyPoseBody
    from signspot.pose import pose_header
    from signspot.skeleton import HAND_21, keypoint_set
    none = NumPyPoseBody(25, np.ma.zeros((0, 1, 50, 2), dtype='float32'), np.zeros((0, 1, 50), 'float32'))
    with open(folder/'frameless.pose', 'wb') as file: PoseFile(pose_header(pose.layout, pose.size, 2), none).write(file)
    replace(pose, keypoints=pose.keypoints * 0, confidence=pose.confidence * 0).write(folder/'nobody.pose')
    pose.select(keypoint_set('left hand', {'LEFT_HAND_LANDMARKS': HAND_21})).write(folder/'lefthand.pose')


def listing(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))


def call(capsys, *words) -> tuple[int, str, str]:
    "Status, standard output, standard error."
    try: status = main([str(word) for word in words])
    except SystemExit as leave: status = leave.code or 0
    return status, *capsys.readouterr()


FAULTS = {
    'missing query': (['spot', '{}/nowhere.mp4', '{}/sentence.pose'], 'nowhere.mp4'),
    'missing sentence': (['spot', '{}/query.pose', '{}/nowhere.pose'], 'nowhere.pose'),
    'folder': (['spot', '{}/query.pose', '{}/nothing'], 'nothing'),
    'text named mp4': (['spot', '{}/letter.mp4', '{}/sentence.pose'], 'letter.mp4'),
    'text named pose': (['spot', '{}/letter.pose', '{}/sentence.pose'], 'letter.pose'),
    'empty file': (['spot', '{}/query.pose', '{}/empty.pose'], 'empty.pose'),
    'no frames': (['spot', '{}/frameless.pose', '{}/sentence.pose'], 'frameless.pose'),
    'nobody': (['spot', '{}/query.pose', '{}/nobody.pose'], 'nobody.pose'),
    'wrong points': (['spot', '{}/lefthand.pose', '{}/sentence.pose'], 'lefthand.pose'),
    'no checkpoint': (['spot', '{}/query.pose', '{}/sentence.pose', '--model', '{}/nothing'], 'nothing'),
    'broken checkpoint': (['spot', '{}/query.pose', '{}/sentence.pose', '--model', '{}/broken'], 'broken'),
    'no such checkpoint': (['spot', '{}/query.pose', '{}/sentence.pose', '--model', '{}/nowhere'], 'nowhere'),
    'picture suffix': (['spot', '{}/query.pose', '{}/sentence.pose', '--plot', '{}/spot.txt'], 'spot.txt'),
    'picture place': (['spot', '{}/query.pose', '{}/sentence.pose', '--plot', '{}/letter.mp4/spot.png'], 'letter.mp4'),
    'unknown flag': (['spot', '{}/query.pose', '{}/sentence.pose', '--bogus'], '--bogus'),
    'one clip': (['spot', '{}/query.pose'], 'SENTENCE'),
    'missing rival': (['spot', '{}/query.pose', '{}/sentence.pose', '--rival', '{}/nowhere.pose'], 'nowhere.pose'),
    'no rival': (['spot', '{}/query.pose', '{}/sentence.pose', '--rival'], '--rival'),
    'a rival that takes the sentence': (['spot', '--rival', '{}/query.pose', '{}/query.pose', '{}/sentence.pose'], 'SENTENCE'),
    'a rival for DTW': (['spot', '{}/query.pose', '{}/sentence.pose', '--rival', '{}/query.pose', '--model', 'dtw'], 'the matcher only'),
    'no command': ([], 'COMMAND'),
    'mistyped command': (['spto', 'a', 'b'], "did you mean 'spot'"),
    'mistyped action': (['corpus', 'descrbe', 'x'], "did you mean 'describe'"),
    'no action': (['corpus'], 'ACTION'),
    'no corpus': (['prepare', '{}/nowhere', '-o', '{}/out'], 'nowhere'),
    'no corpus in a folder': (['prepare', '{}/nothing', '-o', '{}/out'], 'has no csv file'),
    'mistyped form': (['prepare', 'wlsp:{}', '-o', '{}/out'], "did you mean 'wslp'"),
    'no folder for a corpus': (['prepare', '{}'], '--out'),
    'a letter as a corpus': (['corpus', 'describe', '{}/letter.mp4'], 'letter.mp4'),
    'a sheet that is no picture': (['corpus', 'describe', 'procedural', '--sheet', '{}/sheet.txt'], 'sheet.txt'),
    'a submission that is no table': (['predict', 'procedural', '-o', '{}/submission.txt'], '.csv'),
    'threshold': (['predict', 'procedural', '-o', '{}/submission.csv', '--threshold', 'nan'], 'from 0 to 1'),
    'a name that no corpus can have': (['prepare', 'a' * 300, '-o', '{}/out'], 'too long'),
    'no name for a folder': (['extract', '{}/letter.mp4', '-o', ''], 'must be a name'),
    'no name for media': (['corpus', 'describe', '{}', '--media', ''], 'must be a name'),
    'media of generated signing': (['corpus', 'describe', 'procedural', '--media', '{}'], 'leave --media out'),
    'a frame rate beyond all cameras': (['prepare', '{}', '-o', '{}/out', '--fps', '1e9'], 'from 0.1 to 1000'),
    'workers': (['extract', '{}/letter.mp4', '-o', '{}/out', '--workers', '0'], '--workers'),
    'fps': (['extract', '{}/letter.mp4', '-o', '{}/out', '--fps', 'nan'], '--fps'),
    'no folder to write to': (['extract', '{}/letter.mp4'], '--out'),
    'parameter without value': (['rerun', 'table2', '-p', 'seeds'], 'KEY=VALUE'),
    'no such notebook': (['rerun', 'table99'], 'table99'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_said_in_one_line(fault, folder, capsys):
    words, named = FAULTS[fault]
    before = listing(folder)
    status, out, err = call(capsys, *(word.format(folder) for word in words))
    assert status == 2 and out == ''
    assert err.startswith('signspot: ') and err.count('\n') == 1 and named in err and 'Traceback' not in err
    assert listing(folder) == before


def test_spot_prints_the_answer(folder, capsys):
    status, out, err = call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose')
    answer, how = out.splitlines()
    assert status == 0 and err == '' and answer.startswith('present  score ') and answer.endswith(' s')
    assert how.startswith('matcher; ') and 'in query' in how
    assert 'DTW' in call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--model', 'dtw')[1]


def test_spot_takes_several_queries(folder, capsys):
    status, out, err = call(capsys, 'spot', folder/'query.pose', folder/'query.pose', folder/'sentence.pose', '--json')
    assert status == 0 and err == '' and json.loads(out)['queries'] == ['query', 'query'] and json.loads(out)['verdict'] == 'present'


def test_spot_takes_rivals(folder, capsys):
    "A sign beside itself, however often, is as likely as not."
    status, out, err = call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--json', '--rival', folder/'query.pose', '--rival', folder/'query.pose', folder/'query.pose')
    answer = json.loads(out)
    assert status == 0 and err == '' and answer['rivals'] == [['query'], ['query'] * 2] and answer['method'] == 'matcher, beside query, query' and answer['score'] == pytest.approx(.5, abs=.03)
    assert 'beside query' in call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--rival', folder/'query.pose')[1]


def test_json_is_one_object_and_nothing_else(folder, capsys):
    status, out, err = call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--json', '--plot', folder/'spot.png')
    assert status == 0 and json.loads(out)['present'] is True and out.count('\n') == 1 and err == ''
    assert (folder/'spot.png').read_bytes().startswith(b'\x89PNG') and not list(folder.glob('.*'))


def test_doubts_go_to_standard_error(folder, capsys):
    from dataclasses import replace
    from signspot.pose import Pose
    pose = Pose.read(folder/'query.pose')
    confidence = pose.confidence.copy()
    confidence[:, 8:] = 0
    replace(pose, confidence=confidence, keypoints=pose.keypoints * (confidence > 0)[..., None]).write(folder/'handless.pose')
    status, out, err = call(capsys, 'spot', folder/'handless.pose', folder/'sentence.pose', '--json')
    assert status == 0 and json.loads(out)['warnings'] and err.startswith('signspot: no hands were seen in the query handless') and err.count('\n') == 1


def test_interruption(folder, capsys, monkeypatch):
    def interrupt(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr('signspot.spotting.spot', interrupt)
    assert call(capsys, 'spot', folder/'query.pose', folder/'sentence.pose') == (130, '', 'signspot: interrupted\n')


SLOW = '''
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)   # whoever started the tests in the background had it ignored
import signspot.readers
def slow(video, fps=None):
    Path(os.environ['BEGUN'], str(os.getpid())).write_text(str(video))
    time.sleep(300)
signspot.readers.extract, signspot.readers.holistic_class = slow, lambda: None
if __name__ == '__main__':
    from signspot.cli import main
    sys.exit(main(sys.argv[1:]))
'''


def gone(pid: int) -> bool:
    try: os.kill(pid, 0)
    except ProcessLookupError: return True
    return False


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signals')
@pytest.mark.parametrize('workers, sent', [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGINT)])
def test_preparing_that_is_stopped_tidies_up(workers, sent, tmp_path, root):
    for name in ('tmp', 'begun', 'c'): (tmp_path/name).mkdir()
    (tmp_path/'slow.py').write_text(SLOW)
    (tmp_path/'c'/'test.csv').write_text('sentence_id,query_id\ne1,w1\n')
    with zipfile.ZipFile(tmp_path/'c'/'all.zip', 'w') as archive:
        for n, name in enumerate(('e1', 'w1')): archive.writestr(f'{name}.mp4', str(n))
    process = subprocess.Popen([sys.executable, str(tmp_path/'slow.py'), 'prepare', str(tmp_path/'c'), '-o', str(tmp_path/'out'), '--workers', str(workers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, 'TMPDIR': str(tmp_path/'tmp'), 'BEGUN': str(tmp_path/'begun'), 'PYTHONPATH': str(root)})
    while len(list((tmp_path/'begun').iterdir())) < workers and process.poll() is None: time.sleep(.05)
    begun = [int(path.name) for path in (tmp_path/'begun').iterdir()]
    unpacked = list((tmp_path/'tmp').glob('*/*.mp4'))
    process.send_signal(sent)
    try: out, err = process.communicate(timeout=60)
    finally: process.kill()
    assert len(begun) == len(unpacked) == workers and process.returncode == 130 and 'signspot: stopped after 0 of 2' in err and 'Traceback' not in err
    assert all(map(gone, begun)) and not list((tmp_path/'out').rglob('*.pose'))
    if workers == 1: assert not list((tmp_path/'tmp').iterdir())


def test_an_interruption_while_importing():
    "From the first moment: what takes long to import is imported where Ctrl-C is caught."
    code = ('import sys\nclass Interrupted:\n    def find_spec(self, name, *_):\n        if name in ("numpy", "signspot.pose"): raise KeyboardInterrupt\n'
            'sys.meta_path.insert(0, Interrupted())\nfrom signspot.cli import main\nsys.exit(main(["spot", "a.pose", "b.pose"]))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, '', 'signspot: interrupted\n')


def test_main_outside_of_the_main_thread(capsys):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool: assert pool.submit(main, ['spto']).result() == 2


def test_extract_reports_failures(folder, capsys):
    pytest.importorskip('mediapipe')
    status, out, err = call(capsys, 'extract', folder/'letter.mp4', '-o', folder/'out')
    assert status == 2 and '1 failed' in out and 'letter' in err and 'Traceback' not in err
    assert not list((folder/'out').glob('*')) if (folder/'out').exists() else True


def test_help_and_version(capsys):
    for words in (['--help'], ['extract', '--help'], ['spot', '--help'], ['rerun', '--help'], ['corpus', '--help'], ['corpus', 'describe', '--help'], ['prepare', '--help'], ['predict', '--help']):
        status, out, err = call(capsys, *words)
        assert status == 0 and err == '' and ('example' in out or len(words) == 1)
    from signspot import __version__
    assert call(capsys, '--version') == (0, f'signspot {__version__}\n', '')


def test_help_imports_nothing_heavy():
    heavy = {'torch', 'mediapipe', 'matplotlib', 'scipy', 'av', 'sklearn', 'pose_format'}
    code = ('import sys\nfrom signspot.cli import main\ntry: main(["--help"])\nexcept SystemExit as leave: assert not leave.code\n'
            f'print("heavy:", sorted({heavy} & set(sys.modules)))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith('heavy: []\n')


def test_several_problems_are_several_lines(capsys, monkeypatch):
    from signspot.listing import BadCorpus
    def wrong(*_): raise BadCorpus('a corpus', ['first: one', 'second:\ntwo'])
    monkeypatch.setattr('signspot.readers.read_corpus', wrong)
    assert call(capsys, 'prepare', 'x', '-o', 'y') == (2, '', 'signspot: 2 problems in a corpus\n  first: one\n  second: two\n')


def test_closed_pipe_is_no_fault(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*RUN, 'spot', str(folder/'query.pose'), str(folder/'sentence.pose'), '--json'], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 0 and done.stderr == ''


def test_a_fresh_process_fails_cleanly_too(folder):
    done = subprocess.run([*RUN, 'spot', str(folder/'letter.mp4'), str(folder/'sentence.pose')], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == '' and done.stderr.count('\n') == 1 and 'letter.mp4' in done.stderr


def one_line(capsys, *words) -> str:
    "What the command complains: one line, exit status 2, nothing on standard output."
    status, said, complained = call(capsys, *words)
    assert status == 2 and said == '' and complained.startswith('signspot: ') and complained.count('\n') == 1
    return complained


@pytest.fixture
def model(tmp_path):
    "A small model, never trained."
    from signspot.spotter import Spotter, SpotterConfig
    from signspot.train import save_model
    return save_model(Spotter(SpotterConfig(encoder='1d', d=16, width=16, heads=2)), tmp_path/'model')


@pytest.mark.parametrize('name, value, what', [('heads', 0, 'heads is 0,'), ('heads', -4, 'heads is -4,'), ('layers', 10**20, 'layers is 1000'), ('layers', 9000, 'not a model written by signspot'),
                                               ('d', '16', "d is '16',"), ('width', 2.5, 'width is 2.5,'), ('tokens', None, 'tokens is None,'), ('width', 10_000, 'not a model written by signspot')])
def test_a_model_of_an_absurd_size(name, value, what, model, folder, capsys):
    config = json.loads((model/'config.json').read_text())
    (model/'config.json').write_text(json.dumps(config | {name: value}))
    assert what in one_line(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--model', model)


def test_a_model_with_damaged_weights(model, folder, capsys):
    from safetensors.numpy import load_file, save_file
    weights = {key: np.full_like(value, np.nan) if value.dtype == np.float32 else value for key, value in load_file(model/'model.safetensors').items()}
    save_file(weights, model/'model.safetensors')
    for more in ([], ['--json']):
        assert 'damaged' in one_line(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--model', model, *more)


@pytest.mark.parametrize('fps', [1e-6, .01, 5000])
def test_a_frame_rate_that_cannot_be_meant(fps, folder, capsys):
    from pose_format import Pose as PoseFile
    file = PoseFile.read((folder/'query.pose').read_bytes())
    file.body.fps = fps
    with open(folder/'odd.pose', 'wb') as odd: file.write(odd)
    assert 'odd.pose' in one_line(capsys, 'spot', folder/'odd.pose', folder/'sentence.pose')


def test_names_that_no_file_can_have(folder, capsys):
    for long in ('a' * 300, '手' * 150):
        assert 'too long' in one_line(capsys, 'spot', f'{long}.pose', folder/'sentence.pose')
        assert 'too long' in one_line(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--plot', f'{long}.png')
    assert 'must end in' in one_line(capsys, 'spot', folder/'query.pose', folder/'sentence.pose', '--plot', '')
