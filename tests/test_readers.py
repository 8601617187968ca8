"Corpora as people bring them: every form read, everything wrong said at once, and the whole way to a submission."
import csv
import errno
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from signspot.cli import main
from signspot.corpus import Corpus, facts
from signspot.listing import BadCorpus, Listing, Take, draw_negatives, tables_under
from signspot.pose import BadInput, Pose
from signspot.readers import READERS, open_corpus, prepare_corpus, read_corpus
from signspot.skeleton import PAPER_50
from signspot.submission import check_complete, score_pairs, write_submission


def waving(times: int = 1, seconds: float = 1.6, fps: float = 25) -> Pose:
    "A signer who waves with the right hand so many times."
    t = np.arange(round(seconds * fps)) / fps
    body = np.array([(390, 200), (250, 200), (420, 310), (220, 310), (400, 420), (220, 240), (360, 420), (280, 420)], float)
    fan = np.array([(0, 0)] + [((f - 2) * 6 * (1 + .2 * j), -8 - 9 * j) for f in range(5) for j in range(4)], float)
    points = np.repeat(np.concatenate([body, fan + body[4], fan + body[5]])[None], len(t), 0)
    points[:, [5, *range(29, 50)], 0] += 60 * np.sin(2 * np.pi * times * t / seconds)[:, None]
    return Pose(points.astype('float32'), np.ones((len(t), 50), 'float32'), fps, PAPER_50, (640, 480))


def poses(folder: Path, *names: str) -> Path:
    "A .pose file of each name."
    for n, name in enumerate(names): waving(1 + n % 4).write(folder/f'{name}.pose')
    return folder


def corpus(folder: Path, clips: str = 'w1 w2 e1 e2', /, **tables: str | bytes) -> Path:
    "A folder with clips and tables."
    folder.mkdir(exist_ok=True)
    poses(folder/'clips', *clips.split())
    for name, text in tables.items(): (folder/f'{name}.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def call(capsys, *words) -> tuple[int, str, str]:
    "Status, standard output, standard error."
    status = main([str(word) for word in words])
    return status, *capsys.readouterr()


def listing(folder: Path) -> list[str]: return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


# What can be wrong. Each: what makes the corpus in a folder and returns its name (or None: the folder), and what the message must say: place, and remedy

GOOD = 'sentence_id,query_id,is_present\ne1,w1,1\n'
CLIPS = 'file,gloss,kind\nclips/w1.pose,ONE,query\nclips/w2.pose,TWO,query\nclips/e1.pose,ONE TWO,sentence\n'
PAIRS = 'query,sentence,label\nw1,e1,1\n'
ISIGN = 'word_id,word,sentence_id,sentence\n'


def two_of_a_name(f):
    corpus(f, test=GOOD)
    waving(3).write(f/'more'/'w1.pose')


def nothing_in_it(f):
    corpus(f, test=GOOD)
    (f/'clips'/'w1.pose').write_bytes(b'')


def broken_zip(f):
    corpus(f, 'w1', test=GOOD)
    (f/'e.zip').write_bytes(b'PK\3\4 and then nothing')


def wandering_zip(f):
    corpus(f, 'w1', test=GOOD)
    with zipfile.ZipFile(f/'e.zip', 'w') as archive: archive.writestr('../e1.pose', b'x')


def member_missing(f):
    corpus(f, 'w1', clips='file,kind\nclips/w1.pose,query\nmore.zip/e1.pose,sentence\n')
    with zipfile.ZipFile(f/'more.zip', 'w') as archive: archive.writestr('e2.pose', b'x')


def sequence(f: Path, frames, values=258) -> Path:
    f.mkdir(parents=True)
    for frame in frames: np.save(f/f'{frame}.npy', np.random.default_rng(frame).random(values))
    return f


def arrays(**other) -> dict[str, np.ndarray]:
    "Two sentences of three points, in the npz layout."
    from signspot.arrays import THREE_POINTS
    t = np.arange(80)
    keypoints = np.stack([np.stack([160 + 0 * t, 60 + 0 * t], 1), np.stack([200 + 0 * t, 190 + 0 * t], 1), np.stack([140 + t % 20, 190 - t % 40], 1)], 1).astype('float32')
    return {'keypoints': keypoints, 'clip_start': np.array([0, 40]), 'clip_len': np.array([40, 40]), 'clip_id': np.array(['s1', 's2']), 'clip_kind': np.array(['continuous'] * 2), 'clip_gloss': np.array(['', '']),
            'clip_signer': np.array(['Ann', 'Ben']), 'clip_fps': np.array([30, 30]), 'joint_names': np.array(THREE_POINTS), 'seg_clip': np.array([0, 0, 1, 1]), 'seg_start': np.array([0, 20, 0, 20]),
            'seg_end': np.array([18, 40, 18, 40]), 'seg_gloss': np.array(['UP', 'DOWN', 'UP', 'OVER'])} | other


def npz(f: Path, lack: str = '', **other) -> str:
    np.savez(f/'points.npz', **{key: array for key, array in arrays(**other).items() if key != lack})
    return 'npz:' + str(f/'points.npz')


def boston(f: Path, hands=lambda rows: rows, speaker='video,speaker\n2,woman-1\n7,man-1\n', test='video,speaker,word,startframe,endframe\n7,man-1,JOHN,5,12\n') -> str:
    rows = [f'{video},{n},206,238,{160 + n % 9},{200 - n},170,60' for video in (2, 7) for n in range(40)]
    (f/'hands_condensed.csv').write_text('\n'.join(['video,frame,left-x,left-y,right-x,right-y,nose-x,nose-y', *hands(rows)]))
    (f/'speaker.csv').write_text(speaker)
    (f/'train_words.csv').write_text('video,speaker,word,startframe,endframe\n2,woman-1,JOHN,7,20\n2,woman-1,WRITE,23,36\n')
    (f/'test_words.csv').write_text(test)
    return f'boston104:{f}'


def hole(array: np.ndarray) -> np.ndarray:
    array[7, 0] = np.nan
    return array


BAD = {
    'missing media': (lambda f: corpus(f, test=GOOD + 'e9,w1,0\n'), 'test.csv, row 3', 'e9', 'put it into the folder'),
    'media that exist twice': (two_of_a_name, 'test.csv, row 2', 'w1 is there 2 times', 'keep one'),
    'a file without content': (nothing_in_it, 'w1.pose has no content', 'copy it again'),
    'an empty csv': (lambda f: f'wslp:{corpus(f, test=b"")}', 'test.csv', 'is empty', 'write a row with the column names'),
    'an empty csv of no form': (lambda f: corpus(f, test=b''), 'test.csv is empty', 'name its form'),
    'a csv with a header only': (lambda f: corpus(f, test='sentence_id,query_id\n'), 'test.csv', 'nothing under them', 'add rows'),
    'a mistyped column': (lambda f: corpus(f, test='sentence_id,query_id,is_presnt\ne1,w1,1\n'), 'test.csv, row 1', 'is_presnt', 'did you mean is_present?'),
    'an unknown column': (lambda f: corpus(f, clips=CLIPS.replace('gloss', 'signs')), 'clips.csv, row 1', 'unknown column signs', 'remove it'),
    'a column that is lacking': (lambda f: corpus(f, test='sentence_id,query\ne1,w1\n'), 'test.csv, row 1', 'no column query_id', 'rename query'),
    'a column twice': (lambda f: corpus(f, test='sentence_id,query_id,query_id\ne1,w1,w1\n'), 'test.csv, row 1', '2 columns are called query_id', 'keep one'),
    'a label that is neither 0 nor 1': (lambda f: corpus(f, test=GOOD + 'e2,w1,yes\n'), 'test.csv, row 3', "'yes'", 'write 1 (present) or 0 (absent)'),
    'a label left out': (lambda f: corpus(f, test=GOOD + 'e2,w1,\n'), 'test.csv, row 3', "the label is ''", 'write 1'),
    'contradictory labels': (lambda f: corpus(f, test=GOOD + 'e1,w1,0\n'), 'test.csv, row 3', 'contradicts test.csv, row 2', 'remove one'),
    'the same question twice': (lambda f: corpus(f, test='sentence_id,query_id\ne1,w1\ne2,w1\ne1,w1\n'), 'test.csv, row 4', 'same pair as test.csv, row 2', 'remove one'),
    'a sentence that is its own query': (lambda f: corpus(f, test=GOOD + 'w1,w1,1\n'), 'test.csv, row 3', 'its own query', 'a pair needs two clips'),
    'a query used as a sentence': (lambda f: corpus(f, test=GOOD + 'w1,w2,1\n'), 'test.csv, row 3', 'w1 is a sentence here but a query in test.csv, row 2', 'another name'),
    'a row with too few cells': (lambda f: corpus(f, test=GOOD + 'e2\n'), 'test.csv, row 3', '1 cells under 3 columns', 'add what is missing'),
    'a row with too many cells': (lambda f: corpus(f, test=GOOD + 'e2,w1,1,see note\n'), 'test.csv, row 3', '4 cells under 3 columns', 'quotation marks'),
    'an empty cell': (lambda f: corpus(f, test=GOOD + ',w1,1\n'), 'test.csv, row 3', 'sentence_id is empty', 'fill it in'),
    'another encoding': (lambda f: corpus(f, test=(GOOD + 'müde,w1,1\n').encode('latin-1')), 'test.csv, row 3', 'not UTF-8', 'save the table again'),
    'no text at all': (lambda f: corpus(f, test=GOOD.encode() + b'\0\1\2'), 'test.csv, row 3', 'not a text file', 'save the table again'),
    'an open quotation mark': (lambda f: corpus(f, test=GOOD + '"e2,w1,1\n'), 'test.csv, row 3', 'quotation marks', 'check'),
    'a folder without csv': (lambda f: f'wslp:{corpus(f)}', 'holds no csv file', 'put one there'),
    'a csv of something else': (lambda f: f'wslp:{corpus(f, one="a,b", two="c,d")}', 'one.csv, two.csv', 'rename the columns'),
    'two tables': (lambda f: corpus(f, train=GOOD, test=GOOD), 'test.csv, train.csv', 'give one of them'),
    'a broken zip': (broken_zip, 'e.zip', 'not a zip that can be read', 'copy it again'),
    'a zip that leads out of the folder': (wandering_zip, 'e.zip/../e1.pose', 'leads out', 'make the zip again'),
    'a member that is missing in the zip': (member_missing, 'clips.csv, row 3', 'no video or .pose file of more.zip/e1.pose', 'put it into the folder'),
    'a path that leads out of the folder': (lambda f: corpus(f, clips=CLIPS + '../../w1.pose,ONE,query\n'), 'clips.csv, row 5', 'leads out', 'a file that lies in it'),
    'an absolute path': (lambda f: corpus(f, clips=CLIPS + '/etc/w1.pose,ONE,query\n'), 'clips.csv, row 5', 'leads out', 'a file that lies in it'),
    'two clips of one name': (lambda f: corpus(f, clips=CLIPS + 'w1.pose,ONE,query\n'), 'clips.csv, row 5', 'w1 is taken by clips.csv, row 2', 'give one of the two another'),
    'an end before the start': (lambda f: corpus(f, clips='file,start,end\nw1.pose,1.5,1\n'), 'clips.csv, row 2', 'from 1.5 to 1', 'the end after the start'),
    'a start that is no number': (lambda f: corpus(f, clips='file,start,end\nw1.pose,early,\n'), 'clips.csv, row 2', 'from early', 'give seconds'),
    'an unknown kind': (lambda f: corpus(f, clips='file,kind\nw1.pose,word\n'), 'clips.csv, row 2', "'word'", 'write query or sentence'),
    'a pair of a clip that is not listed': (lambda f: corpus(f, clips=CLIPS, pairs=PAIRS + 'w7,e1,0\n'), 'pairs.csv, row 3', 'the query w7', 'add it there'),
    'a sign in an unknown clip': (lambda f: corpus(f, clips=CLIPS, signs='clip,start,end,gloss\ne7,0,1,ONE\n'), 'signs.csv, row 2', 'no clip e7', 'correct the name'),
    'a word that is called a sentence': (lambda f: corpus(f, clips=CLIPS, pairs=PAIRS + 'e1,w2,1\n'), 'pairs.csv, row 3', 'e1 is a query here but a sentence', 'another name'),
    'isign: negatives that cannot be drawn': (lambda f: corpus(f, 'a_w a_e1', words=ISIGN + 'a_w,rain,a_e1,It rains\n'), 'words.csv, row 2', 'no negative can be drawn for a_e1', 'add rows with other words'),
    'isign: columns exchanged': (lambda f: corpus(f, 'a_w a_e1', words=ISIGN + 'a_e1,rain,a_w,It rains\n'), 'words.csv, row 2', 'word_id is a_e1', 'are the columns exchanged?'),
    'isign: a clip of two words': (lambda f: corpus(f, 'a_w a_e1 a_e2', words=ISIGN + 'a_w,rain,a_e1,It\na_w,snow,a_e2,It\n'), 'words.csv, row 3', 'a_w is snow here but rain in words.csv, row 2', 'correct one'),
    'mp_data: a gap in the frames': (lambda f: sequence(f/'hello'/'0', (0, 1, 3)) and f, 'hello/0/2.npy', 'is missing', 'without gaps'),
    'mp_data: a wrong number of values': (lambda f: sequence(f/'hello'/'0', range(3), 126) and f, 'hello/0', 'frames of 126 values', '258 or 1662'),
    'mp_data: a frame that is none': (lambda f: (sequence(f/'hello'/'0', range(3))/'1.npy').write_bytes(b'') or f, 'hello/0', 'cannot be read', 'record the sequence again'),
    'mp_data: a sequence without frames': (lambda f: sequence(f/'hello'/'0', range(3)) and (f/'hello'/'1').mkdir() or f, 'hello/1', 'holds no frames', 'record the sequence again'),
    'npz: arrays lacking': (lambda f: npz(f, lack='clip_len'), 'points.npz', 'has no clip_len', 'add these arrays'),
    'npz: not one': (lambda f: (f/'points.npz').write_bytes(b'no') and f'npz:{f}/points.npz', 'points.npz', 'copy it again'),
    'npz: keypoints that are no numbers': (lambda f: npz(f, keypoints=hole(arrays()['keypoints'])), 'points.npz, clip s1', 'no numbers in 1 of 40 frames', 'confidence 0'),
    'npz: a clip outside of the frames': (lambda f: npz(f, clip_len=np.array([40, 50])), 'points.npz, clip s2', 'frames 40 to 90 of 80', 'clip_len'),
    'npz: a sign outside of its clip': (lambda f: npz(f, seg_end=np.array([18, 70, 18, 40])), 'points.npz, segment 1', 'frames 20 to 70 of the 40 of s1', 'seg_end'),
    'npz: two clips of one name': (lambda f: npz(f, clip_id=np.array(['s1', 's1'])), 'points.npz, clip s1', '2 times', 'a name of its own'),
    'npz: arrays of different lengths': (lambda f: npz(f, clip_signer=np.array(['Ann'])), 'points.npz', 'clip_signer 1', 'a value in all of them'),
    'npz: unknown joints': (lambda f: npz(f, joint_names=np.array(['a', 'b', 'c'])), 'points.npz', '3 joints that no reader knows (a, b, c)', 'known are'),
    'boston: a gap in the frames': (lambda f: boston(f, hands=lambda rows: rows[:3] + rows[4:]), 'hands_condensed.csv, video 2', 'frame 3 of 40', 'add its row'),
    'boston: a word outside of the frames': (lambda f: boston(f, test='video,speaker,word,startframe,endframe\n7,man-1,JOHN,5,40\n'), 'test_words.csv, row 2', 'frames 5 to 40 of the 40', 'correct'),
    'boston: nobody signs': (lambda f: boston(f, speaker='video,speaker\n2,woman-1\n'), 'speaker.csv', 'video 7', 'add a row'),
    'boston: no number': (lambda f: boston(f, hands=lambda rows: [*rows, '7,forty,1,2,3,4,5,6']), 'hands_condensed.csv, row 82', "'forty'", 'a whole number'),
    'no such folder': (lambda f: f'{f}/nowhere', 'there is no file or folder', 'nowhere'),
    'an unknown form': (lambda f: f'wlsp:{corpus(f, test=GOOD)}', 'did you mean', 'wslp'),
    'nothing that is known': (lambda f: corpus(f, notes='a,b\n1,2\n'), 'no corpus that signspot knows', 'notes.csv has a, b', 'give a csv the columns'),
    'the same pair under two names': (lambda f: corpus(f, test='sentence_id,query_id\ne1,w1\nclips/e1,w1.pose\n'), 'test.csv, row 3', 'same pair as test.csv, row 2', 'remove one'),
    'contradictory labels under two names': (lambda f: corpus(f, test=GOOD + 'e1.pose,clips/w1,0\n'), 'test.csv, row 3', 'contradicts test.csv, row 2', 'remove one'),
    'its own query under another name': (lambda f: corpus(f, test=GOOD + 'w1.pose,w1,1\n'), 'test.csv, row 3', 'its own query', 'a pair needs two clips'),
    'a query used as a sentence under another name': (lambda f: corpus(f, test=GOOD + 'clips/w1,w2,1\n'), 'test.csv, row 3', 'clips/w1 is a sentence here but a query in test.csv, row 2', 'another name'),
    'two answers that contradict each other': (lambda f: corpus(f, test='sentence_id,query_id,is_present,label\ne1,w1,1,0\n'), 'test.csv, row 2', "is_present is '1' but label is '0'", 'keep the column'),
    'a video as a table': (lambda f: f'wslp:{corpus(f, test=GOOD)}/clips/w1.pose', 'w1.pose is no table', 'ends in .csv'),
    'a form without a place': (lambda f: 'wslp:', "'wslp:'", 'write what comes after it'),
    'a benchmark without a part': (lambda f: 'benchmark:', "'benchmark:'", 'write what comes after it'),
    'a form in capitals': (lambda f: f'WSLP:{corpus(f, test=GOOD)}', 'did you mean', "'wslp'"),
    'a store that is none': (lambda f: f'store:{corpus(f, test=GOOD)}', 'holds no corpus that signspot has prepared', 'signspot prepare'),
    'npz: an array of the wrong kind': (lambda f: npz(f, clip_id=np.array([1, 2])), 'points.npz', 'clip_id holds int64', 'save it as text'),
    'npz: glosses that are numbers': (lambda f: npz(f, clip_gloss=np.array([1, 2])), 'points.npz', 'clip_gloss', 'save it as text'),
    'npz: signers that are numbers': (lambda f: npz(f, clip_signer=np.array([1, 2])), 'points.npz', 'clip_signer', 'save it as text'),
    'npz: names that are bytes': (lambda f: npz(f, clip_id=np.array([b's1', b's2'])), 'points.npz', 'clip_id', 'save it as text'),
    'npz: a single name': (lambda f: npz(f, clip_id=np.array('s1')), 'points.npz', 'clip_id has the shape ()', '1 dimensions'),
    'npz: starts that are fractions': (lambda f: npz(f, clip_start=np.array([0., 40.])), 'points.npz', 'clip_start', 'whole numbers'),
    'npz: segments that are text': (lambda f: npz(f, seg_clip=np.array(['s1'] * 4)), 'points.npz', 'seg_clip', 'whole numbers'),
    'npz: segments without their starts': (lambda f: npz(f, lack='seg_start'), 'points.npz', 'has no seg_start', 'add'),
    'npz: keypoints that are text': (lambda f: npz(f, keypoints=arrays()['keypoints'].astype(str)), 'points.npz', 'keypoints', 'as numbers'),
    'npz: a list for meta': (lambda f: npz(f, meta=np.array('[1, 2]')), 'points.npz', 'meta is not a JSON object', 'leave it out'),
    'npz: no clips': (lambda f: npz(f, **{key: array[:0] for key, array in arrays().items() if key.startswith(('clip_', 'seg_'))}), 'points.npz', 'holds no clips', 'add some'),
    'npz: no frames a second': (lambda f: npz(f, clip_fps=np.array([0., 0.])), 'points.npz', 'clip_fps is 0', 'from 0.1 to 1000'),
    'two forms at once': (lambda f: corpus(f, 'w1 w2 e1', clips=CLIPS, test=GOOD), 'could be wslp or folder', 'say which'),
}


def test_the_list_is_long_enough(): assert len(BAD) >= 20


@pytest.mark.parametrize('kind', BAD)
def test_bad_corpora_are_told_what_is_wrong(kind, tmp_path, capsys):
    make, *said = BAD[kind]
    folder = tmp_path/'corpus'
    folder.mkdir()
    spec = make(folder) or folder
    before = listing(tmp_path)
    status, out, err = call(capsys, 'prepare', spec, '-o', tmp_path/'out')
    assert status == 2 and out == '' and err.startswith('signspot: ') and 'Traceback' not in err
    for words in said: assert words in err, (words, err)
    lines = err.splitlines()
    assert len(lines) == 1 or ' problems in ' in lines[0] and len(lines) == 1 + int(lines[0].split()[1]) and all(line.startswith('  ') for line in lines[1:])
    assert listing(tmp_path) == before


def test_everything_is_said_at_once(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test=GOOD + 'e1,w1,0\ne9,w9,maybe\nw1,w1,1\ne2\n')
    status, out, err = call(capsys, 'prepare', folder, '-o', tmp_path/'out')
    assert err.splitlines()[0] == f'signspot: 6 problems in {folder}/test.csv'
    assert [row for row in range(2, 8) if f'test.csv, row {row}:' in err] == [3, 4, 5, 6]   # e9 and w9 of row 4 are missing too


def test_two_hundred_problems_are_twenty_lines(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test='sentence_id,query_id\n' + ''.join(f'm{n},w1\n' for n in range(200)))
    err = call(capsys, 'prepare', folder, '-o', tmp_path/'out')[2].splitlines()
    assert len(err) == 22 and err[0].startswith('signspot: 200 problems') and err[-1] == '  and 180 more' and 'row 2:' in err[1]


# What is no fault

@pytest.mark.parametrize('raw', [b'\xef\xbb\xbf' + GOOD.encode(), GOOD.replace(',', ';').encode(), GOOD.replace(',', '\t').encode('utf-16'), GOOD.replace('\n', '\r\n').encode(), GOOD.upper().replace('E1', 'e1').replace('W1', 'w1').encode(),
                                 b'\n' + GOOD.encode() + b'\n\n', GOOD.replace(',1\n', ',1.0\n').encode(), (GOOD + GOOD.split('\n')[1] + '\n').encode(), b'sentence_id,query_id,is_present,note\ne1,w1,1,"a, b"\n',
                                 b'sep=;\n' + GOOD.replace(',', ';').encode(), GOOD.replace('\n', '\r').encode(), b'sentence_id, "query_id", "is_present"\n"e1", "w1", "1"\n', b'sentence_id,query_id,is_present,label\ne1,w1,1,1.0\n',
                                 b',sentence_id,query_id,is_present\n0,e1,w1,1\n', b'sentence_id,query_id,is_present\n e1 ,w1.mp4,1\n'],
                         ids=['BOM', 'semicolons', 'utf-16', 'windows', 'capitals', 'blank lines', '1.0', 'said twice', 'a note', 'sep=', 'an old Mac', 'spaces before quotation marks', 'two answers that agree', 'an index', 'spaces and suffixes'])
def test_what_a_spreadsheet_does_to_a_table(raw, tmp_path):
    read = read_corpus(corpus(tmp_path, test=raw))
    assert [(stem.split('.')[0], sentence, label) for stem, sentence, label in read.pairs] == [('w1', 'e1', 1)]


def test_unlabelled_tables(tmp_path):
    read = read_corpus(corpus(tmp_path, test='query_id,sentence_id\nw2,e1\nw1,e1\n'))
    assert read.pairs == (('w2', 'e1', -1), ('w1', 'e1', -1))
    read = read_corpus(corpus(tmp_path, test='query_id,sentence_id,is_present\nw2,e1,\nw1,e1,\n'))     # a template
    assert read.pairs == (('w2', 'e1', -1), ('w1', 'e1', -1)) and 'without labels' in read.about['negatives']


@pytest.mark.parametrize('column', ['label', 'present', 'Is_Present'])
def test_other_names_for_the_answer(column, tmp_path, capsys):
    folder = corpus(tmp_path, test=f'sentence_id,query_id,split,{column}\ne1,w1,train,0\n')
    assert read_corpus(folder).pairs == (('w1', 'e1', 0),)
    assert 'signspot: columns not read: split\n' in call(capsys, 'corpus', 'describe', folder)[2]


def test_media_in_zips_and_beside_them(tmp_path):
    folder = corpus(tmp_path, test=GOOD)
    with zipfile.ZipFile(folder/'all.zip', 'w') as archive:
        for clip in ('w1', 'e1'): archive.write(folder/'clips'/f'{clip}.pose', f'deep/{clip}.pose')
        archive.writestr('__MACOSX/deep/._w1.pose', b'shadow')
    assert not any(take.media.member for take in read_corpus(folder).clips)          # the same file, unpacked
    for clip in ('w1', 'e1'): (folder/'clips'/f'{clip}.pose').unlink()
    (folder/'clips'/'w1.mp4').write_bytes(b'the video it was made from')
    read = read_corpus(folder)
    assert [take.media.member for take in read.clips] == ['deep/w1.pose', 'deep/e1.pose'] and not read.videos
    assert len(open_corpus(folder)) == 1


def test_copies_are_no_contradiction(tmp_path):
    folder = corpus(tmp_path, test=GOOD)
    poses(folder/'more', 'w1')                                                           # the same again
    for name in ('train', 'test'):
        with zipfile.ZipFile(folder/f'{name}.zip', 'w') as archive: archive.write(folder/'clips'/'e1.pose', f'{name}/e1.pose')
    (folder/'clips'/'e1.pose').unlink()
    assert len(open_corpus(folder)) == 1
    with zipfile.ZipFile(folder/'val.zip', 'w') as archive: archive.write(folder/'clips'/'w2.pose', 'val/e1.pose')
    with pytest.raises(BadCorpus, match='e1 is there 2 times'): read_corpus(folder)


def test_a_damaged_store_is_no_other_corpus(tmp_path):
    prepare_corpus(read_corpus(corpus(tmp_path/'c', test=GOOD)), tmp_path/'out')
    (tmp_path/'out'/'corpus'/'clips.npz').write_bytes(b'no')
    with pytest.raises(BadInput, match='holds a damaged corpus: .*delete'): prepare_corpus(read_corpus(tmp_path/'c'), tmp_path/'out')


def test_media_elsewhere(tmp_path):
    corpus(tmp_path/'media')
    corpus(tmp_path/'tables', '', test=GOOD)
    with pytest.raises(BadCorpus): read_corpus(tmp_path/'tables')
    assert len(read_corpus(tmp_path/'tables'/'test.csv', tmp_path/'media').clips) == 2
    with pytest.raises(BadInput, match='no folder'): read_corpus(tmp_path/'tables', tmp_path/'nowhere')
    with zipfile.ZipFile(tmp_path/'all.zip', 'w') as archive:
        for clip in ('w1', 'e1'): archive.write(tmp_path/'media'/'clips'/f'{clip}.pose', f'{clip}.pose')
    assert len(open_corpus(tmp_path/'tables', tmp_path/'all.zip')) == 1
    prepare_corpus(read_corpus(tmp_path/'tables', tmp_path/'all.zip'), tmp_path/'out')
    for spec in (tmp_path/'out', npz(tmp_path)):
        with pytest.raises(BadInput, match='leave --media out'): read_corpus(spec, tmp_path/'media')


def test_a_table_in_a_folder_of_many_things(tmp_path):
    folder = corpus(tmp_path, notes='some,thing\n', **{'a/b/test'.split('/')[-1]: GOOD})
    assert read_corpus(folder).name == 'WSLP test'


@pytest.mark.parametrize('name', ['{root}/a/clip.pose', '../corpus/a/clip.pose', 'a/../a/clip.pose', 'a/clip', './a/clip'])
def test_a_file_is_found_by_its_place_however_it_is_written(name, tmp_path):
    folder = corpus(tmp_path/'corpus', 'w1', clips=f'file,kind\n{name.format(root=tmp_path/"corpus")},query\n')
    for n, part in enumerate('ab', 2): waving(n).write(folder/part/'clip.pose')
    assert read_corpus(folder).clips[0].media.path == folder/'a'/'clip.pose'


def test_a_clip_is_told_from_its_namesake_by_its_folder(tmp_path):
    folder = corpus(tmp_path, 'w1', test='sentence_id,query_id\na/clip,w1\nb/clip,w1\n')
    for n, part in enumerate('ab', 2): waving(n).write(folder/part/'clip.pose')
    assert [take.media.path.parent.name for take in read_corpus(folder).clips] == ['clips', 'a', 'b']


def test_links_to_folders_are_followed_once(tmp_path):
    folder = corpus(tmp_path/'c', '', test=GOOD)
    poses(tmp_path/'elsewhere', 'w1', 'e1')
    (tmp_path/'elsewhere'/'back').symlink_to(folder)                                    # round in circles
    (folder/'clips').rmdir() if (folder/'clips').exists() else None
    (folder/'clips').symlink_to(tmp_path/'elsewhere')
    (folder/'again').symlink_to(folder)
    assert len(open_corpus(folder)) == 1 and len(tables_under(folder)) == 1


def test_letters_with_accents_are_the_same_however_they_are_stored(tmp_path):
    folder = corpus(tmp_path, 'e1 e\u0301te\u0301', test='sentence_id,query_id\ne1,\u00e9t\u00e9\n')
    assert read_corpus(folder).clips[1].media or read_corpus(folder).clips[0].media
    assert len(open_corpus(folder)) == 1


def test_tables_with_other_suffixes(tmp_path):
    for suffix in ('.CSV', '.tsv'):
        folder = corpus(tmp_path/suffix[1:])
        (folder/f'test{suffix}').write_text(GOOD.replace(',', '\t'))
        prepare_corpus(read_corpus(folder), folder/'prepared')
        assert read_corpus(folder).pairs == (('w1', 'e1', 1),)


# What signspot has written does no harm beside what it was made from

def test_prepared_corpora_beside_their_tables(tmp_path, capsys):
    folder = corpus(tmp_path/'data', train=GOOD, test='sentence_id,query_id\ne1,w1\n')
    for part in ('train', 'test'): assert call(capsys, 'prepare', folder/f'{part}.csv', '-o', folder/'prepared'/part)[0] == 0
    for _ in range(2): assert call(capsys, 'predict', folder/'prepared'/'test', '-o', folder/'prepared'/'test'/'sub.csv', '--scores', folder/'prepared'/'test'/'scores.csv')[0] == 0
    assert call(capsys, 'corpus', 'describe', folder/'prepared'/'test')[0] == 0
    status, out, err = call(capsys, 'corpus', 'describe', folder/'prepared')
    assert status == 2 and 'holds prepared corpora: give one of them' in err and str(folder/'prepared'/'train') in err and 'remove' not in err
    (folder/'train.csv').unlink()
    assert call(capsys, 'corpus', 'describe', folder)[0] == 0
    (folder/'test.csv').unlink()
    assert 'no corpus that signspot knows' in call(capsys, 'corpus', 'describe', folder)[2]


def test_a_corpus_that_was_prepared_among_its_clips(tmp_path, capsys):
    folder = corpus(tmp_path, test=GOOD)
    for _ in range(2): assert call(capsys, 'prepare', folder, '-o', folder/'clips')[0] == 0
    assert len(open_corpus(folder)) == 1


@pytest.mark.parametrize('given', ['', 'wslp:'])
def test_a_submission_in_the_folder_of_its_table(given, tmp_path, capsys):
    folder = corpus(tmp_path, test='sentence_id,query_id,is_present\ne1,w1,0\n')
    for _ in range(2): assert call(capsys, 'predict', f'{given}{folder}', '-o', folder/'submission.csv', '--scores', folder/'scores.csv')[0] == 0
    assert (folder/'submission.csv').read_text() == 'sentence_id,query_id,is_present\ne1,w1,1\n'


def test_tables_that_are_not_overwritten(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test='sentence_id,query_id,is_present\ne1,w1,0\n', notes='some,thing\n')
    table, other = folder/'test.csv', Path(os.path.relpath(folder/'test.csv'))
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    for words, said in (((table, '-o', table), 'the table that is to be read'), ((f'wslp:{table}', '-o', other), 'the table that is to be read'), ((folder, '-o', table), 'test.csv is to be written'),
                        ((f'wslp:{folder}', '-o', table), 'the table that is to be read'), ((folder, '-o', folder/'notes.csv'), 'with other columns'), ((folder, '-o', folder/'x.csv', '--scores', folder/'clips'/'..'/'x.csv'), 'both answers and scores'),
                        ((folder, '-o', folder/'x.csv', '--scores', table), 'with other columns'), ((folder, '-o', folder/'x.csv', '--scores', ''), 'must be a name')):
        status, out, err = call(capsys, 'predict', *words)
        assert status == 2 and out == '' and said in err and len(err.splitlines()) == 1, (words, err)
    assert before == {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


# Tracking, with a tracker that takes no time

@pytest.fixture
def tracked(monkeypatch) -> list[str]:
    "The videos that were tracked: what stands in one is how often somebody waves."
    seen = []
    def extract(video, fps=None):
        seen.append(Path(video).name)
        return waving(int(Path(video).read_text()))
    monkeypatch.setattr('signspot.readers.extract', extract)
    monkeypatch.setattr('signspot.readers.holistic_class', lambda: None)
    return seen


def videos(folder: Path, *names: str) -> Path:
    for n, name in enumerate(names, 1):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(str(n))
    return folder


def test_videos_of_one_name_and_size_are_two(tmp_path, tracked):
    folder = videos(tmp_path/'c', 's1/hello.avi', 's2/hello.avi')
    (folder/'clips.csv').write_text('file,id\ns1/hello.avi,a\ns2/hello.avi,b\n')
    made, _ = prepare_corpus(read_corpus(folder), tmp_path/'out')
    assert len(tracked) == 2 and not np.array_equal(made.clip(0), made.clip(1))
    (folder/'s1'/'hello.avi').write_text('3')                                            # replaced by one of the same size
    again, report = prepare_corpus(read_corpus(folder), tmp_path/'out')
    assert len(tracked) == 3 and not np.array_equal(made.clip(0), again.clip(0)) and np.array_equal(made.clip(1), again.clip(1)) and report.summary() == '1 done, 1 there already'


def test_a_zip_that_was_made_again(tmp_path, tracked):
    (tmp_path/'c').mkdir()
    (tmp_path/'c'/'clips.csv').write_text('file\nhello.avi\n')
    for times in ('1', '2', '2'):
        with zipfile.ZipFile(tmp_path/'c'/'all.zip', 'w') as archive: archive.writestr('hello.avi', times)
        made, _ = prepare_corpus(read_corpus(tmp_path/'c'), tmp_path/'out')
    assert len(tracked) == 2


def test_long_names_of_videos(tmp_path, tracked):
    folder = videos(tmp_path/'c', *(f'{letter * (245 // len(letter.encode()))}.avi' for letter in 'aé手'))
    (folder/'clips.csv').write_text('\n'.join(['file', *(path.name for path in folder.glob('*.avi'))]))
    made, report = prepare_corpus(read_corpus(folder), tmp_path/'out')
    assert len(made.length) == 3 and not report.failed


@pytest.mark.parametrize('place, said', [('x.csv/y', 'not a folder'), ('a' * 256, 'too long'), ('a\0b', 'zero byte'), ('', 'must be a name'), ('/proc/nowhere', 'cannot write')])
def test_places_where_no_corpus_can_be_written(place, said, tmp_path, tracked, capsys):
    folder = videos(tmp_path/'c', 'w1.mp4', 'e1.mp4')
    (folder/'test.csv').write_text(GOOD)
    (tmp_path/'x.csv').write_text('')
    status, out, err = call(capsys, 'prepare', f'wslp:{folder}', '-o', place and tmp_path/place)
    assert status == 2 and said in err and err.count('\n') == 1 and not tracked


@pytest.mark.parametrize('fps', ['1e9', '0.01', 'nan'])
def test_frame_rates_are_looked_at_before_anything_is_tracked(fps, tmp_path, tracked, capsys):
    folder = videos(tmp_path/'c', 'w1.mp4', 'e1.mp4')
    (folder/'test.csv').write_text(GOOD)
    assert 'from 0.1 to 1000' in call(capsys, 'prepare', folder, '-o', tmp_path/'out', '--fps', fps)[2] and not tracked
    with pytest.raises(BadInput, match='cannot be meant'): prepare_corpus(read_corpus(folder), tmp_path/'out', fps=float(fps))


def test_a_full_disk_stops_everything(tmp_path, tracked, monkeypatch, capsys):
    folder = videos(tmp_path/'c', 'w1.mp4', 'e1.mp4')
    (folder/'test.csv').write_text(GOOD)
    def full(video, fps=None):
        tracked.append(video)
        raise BadInput(f'cannot write {video}: {os.strerror(errno.ENOSPC)}')
    with monkeypatch.context() as patch:
        patch.setattr('signspot.readers.extract', full)
        status, out, err = call(capsys, 'prepare', f'wslp:{folder}', '-o', tmp_path/'out')
        assert status == 2 and len(tracked) == 1 and 'free some space' in err and err.count('\n') == 1
    with monkeypatch.context() as patch:
        patch.setattr('signspot.readers.shutil.disk_usage', lambda _: shutil._ntuple_diskusage(10**6, 10**6, 0))
        status, out, err = call(capsys, 'prepare', f'wslp:{folder}', '-o', tmp_path/'out')
        assert status == 2 and 'is full' in err and err.count('\n') == 1 and not (tmp_path/'out'/'corpus').exists()
    assert call(capsys, 'prepare', folder, '-o', tmp_path/'out')[0] == 0 and len(tracked) == 3


def test_a_corpus_of_the_same_name_is_another_if_its_pairs_or_its_frame_rate_are(tmp_path, tracked, capsys):
    for name, rows in (('a', GOOD), ('b', GOOD + 'e1,w2,0\n')):
        videos(tmp_path/name, 'w1.mp4', 'w2.mp4', 'e1.mp4')
        (tmp_path/name/'test.csv').write_text(rows)
    assert call(capsys, 'prepare', tmp_path/'a', '-o', tmp_path/'out', '--fps', 8)[0] == 0
    before = (tmp_path/'out'/'corpus'/'clips.npz').read_bytes()
    for words in ((tmp_path/'b', '--fps', 8), (tmp_path/'a', '--fps', 9), (tmp_path/'a',)):
        status, out, err = call(capsys, 'prepare', words[0], '-o', tmp_path/'out', *words[1:])
        assert status == 2 and 'of other clips or pairs or made with another --fps: give another folder, or delete' in err and before == (tmp_path/'out'/'corpus'/'clips.npz').read_bytes()
    assert call(capsys, 'prepare', tmp_path/'a', '-o', tmp_path/'out', '--fps', 8)[0] == 0


# Negatives

def test_negatives_are_balanced_and_never_positive():
    rng = np.random.default_rng(0)
    positives = list(dict.fromkeys((f'w{rng.integers(40)}', f'e{rng.integers(200)}') for _ in range(600)))
    drawn = draw_negatives(positives, lambda query, sentence: hash((query, sentence)) % 7 == 0, seed=1)
    assert None not in drawn and not set(drawn) & set(positives) and len(set(drawn)) == len(positives)
    assert [sentence for _, sentence in drawn] == [sentence for _, sentence in positives]


def test_isign_never_draws_what_may_be_there(tmp_path):
    words = ['rain', 'school', 'child', 'happy', 'ice cream', 'tree']
    rows = [f'{n}_w,{word},{n}_e{k},"{words[(n + k) % 6].capitalize()}, said she."\n' for n, word in enumerate(words) for k in (1, 2)]
    folder = corpus(tmp_path, ' '.join([f'{n}_w' for n in range(6)] + [f'{n}_e{k}' for n in range(6) for k in (1, 2)]), words=ISIGN + ''.join(rows))
    read = read_corpus(folder)
    text = {f'{n}_e{k}': {words[n], words[(n + k) % 6]} for n in range(6) for k in (1, 2)}
    absent = [(query, sentence) for query, sentence, label in read.pairs if not label]
    assert len(absent) == 12 and all(words[int(query[0])] not in text[sentence] for query, sentence in absent)
    assert read.pairs == read_corpus(folder).pairs and 'drawn' in read.about['negatives'] and read.clips[0].gloss in ('rain', 'ice-cream')


# Preparing

def test_a_bad_clip_is_reported_and_not_fatal(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test='sentence_id,query_id\ne1,w1\ne2,w1\ne2,w2\n')
    (folder/'clips'/'w2.pose').write_text('no pose')
    assert call(capsys, 'prepare', folder, '-o', tmp_path/'out')[0] == 2                  # written nevertheless
    made = Corpus.load(tmp_path/'out'/'corpus')
    assert len(made) == 2 and made.about['dropped pairs'] == [['w2', 'e2']] and 'w2' in made.about['failed']
    status, out, err = call(capsys, 'predict', tmp_path/'out', '-o', tmp_path/'submission.csv', '--scores', tmp_path/'scores.csv')
    assert status == 2 and out == '' and 'w2' in err and '1 of 3 pairs cannot be answered' in err and err.count('\n') == 1
    assert not list(tmp_path.glob('*.csv'))
    waving(2).write(folder/'clips'/'w2.pose')                                            # replaced: all is well
    status, out, err = call(capsys, 'prepare', folder, '-o', tmp_path/'out')
    assert status == 0 and '4 done' in out and err == f'signspot: read as wslp:{folder}\n'
    assert call(capsys, 'predict', tmp_path/'out', '-o', tmp_path/'submission.csv')[0] == 0


def test_no_clip_that_can_be_used(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test=GOOD)
    for clip in ('w1', 'e1'): (folder/'clips'/f'{clip}.pose').write_text('no pose')
    status, out, err = call(capsys, 'prepare', folder, '-o', tmp_path/'out')
    assert status == 2 and '2 problems' in err and not (tmp_path/'out'/'corpus').exists()


def test_keypoints_that_are_no_numbers_in_a_pose_file(tmp_path):
    from pose_format import Pose as PoseFile
    from pose_format.numpy import NumPyPoseBody
    from signspot.pose import pose_header
    folder, pose = corpus(tmp_path/'c', test='sentence_id,query_id\ne1,w1\ne2,w1\n'), waving()
    body = NumPyPoseBody(25, np.ma.masked_array(np.full((9, 1, 50, 2), np.nan, 'float32'), False), np.ones((9, 1, 50), 'float32'))
    with (folder/'clips'/'e2.pose').open('wb') as file: PoseFile(pose_header(pose.layout, pose.size, 2), body).write(file)
    assert 'NaN' in prepare_corpus(read_corpus(folder), tmp_path/'out')[1].failed[Path('e2')]


def test_parts_of_a_recording(tmp_path):
    folder = corpus(tmp_path, clips='file,id,kind,gloss,start,end\nlong.pose,a,query,A,0,1\nlong.pose,b,query,B,1,2.5\nlong.pose,s,sentence,A B,,\nlong.pose,late,query,C,9,10\n', signs='clip,start,end,gloss\ns,0,1,A\ns,1,2.5,B\n')
    waving(8, seconds=4).write(folder/'long.pose')
    made, report = prepare_corpus(read_corpus(folder), tmp_path/'out')
    assert np.allclose(made.length, (12.5, 18.75, 50), atol=1.5) and made.id.tolist() == ['a', 'b', 's'] and 'correct start' in report.failed[Path('late')]
    assert np.allclose(made.segments, [(2, 0, 12), (2, 12, 31)], atol=1) and made.span[made.label == 1].tolist() == made.segments[:, 1:].tolist()


def test_a_folder_is_not_overwritten_by_another_corpus(tmp_path, capsys):
    prepare_corpus(read_corpus(corpus(tmp_path/'a', test=GOOD)), tmp_path/'out')
    status, _, err = call(capsys, 'prepare', corpus(tmp_path/'b', train=GOOD), '-o', tmp_path/'out')
    assert status == 2 and 'holds WSLP test already' in err
    (tmp_path/'file').write_text('')
    assert 'is not a folder' in call(capsys, 'prepare', tmp_path/'b', '-o', tmp_path/'file')[2]


def test_videos_have_to_be_tracked_first(tmp_path, capsys):
    folder = corpus(tmp_path/'c', 'w1', test=GOOD)
    (folder/'e1.mp4').write_bytes(b'pretends to be a video')
    for words in (('predict', folder, '-o', tmp_path/'s.csv'), ('corpus', 'describe', folder, '--sheet', tmp_path/'s.png')):
        status, out, err = call(capsys, *words)
        assert status == 2 and f'signspot prepare {folder} -o' in err
    assert 'videos to track' in call(capsys, 'corpus', 'describe', folder)[1]
    assert not list(tmp_path.glob('s.*'))


def test_a_video_that_cannot_be_tracked_is_named_as_it_is_named_in_its_zip(tmp_path, capsys):
    pytest.importorskip('mediapipe')
    folder = corpus(tmp_path/'c', 'w1 e2', test='sentence_id,query_id\ne1,w1\ne2,w1\n')
    with zipfile.ZipFile(folder/'e.zip', 'w') as archive: archive.writestr('deep/e1.mp4', b'pretends to be a video')
    status, out, err = call(capsys, 'prepare', folder, '-o', tmp_path/'out', '--workers', 2)
    assert status == 2 and '1 failed' in out and 'e1: ' in err and 'e.zip/deep/e1.mp4' in err and 'tmp' not in err.replace(str(tmp_path), '')


# Corpora at hand

def test_keypoints_at_hand(shared):
    said = {'asl_boston104.npz': ('boston104', 201, 888), 'asl_traduttore14.npz': ('npz', 0, 1480), 'isl_kinect30.npz': ('npz', 0, 2700), 'mp_data_sample': ('mp_data', 0, 65)}
    for name, (form, sentences, queries) in said.items():
        read = read_corpus(shared/'data'/name)
        of = facts(open_corpus(shared/'data'/name))
        assert read.about['read as'] == form and len([t for t in read.clips if t.kind == 'sentence']) == sentences and len([t for t in read.clips if t.kind == 'query']) == queries
        assert of['queries']['clips'] >= .99 * queries and read.about['licence'] and json.dumps(of, allow_nan=False)


def test_boston_signers_are_upright(shared):
    read = open_corpus(shared/'data'/'asl_boston104.npz')
    hands = read.frames[:, 4:6]
    assert np.abs(np.percentile(hands[..., 1], 99) - 1.5) < .2 and hands[..., 1].min() > -3 and np.abs(hands[..., 0]).max() < 3
    assert np.median(hands[:, 0, 0]) > np.median(hands[:, 1, 0])                          # the left hand is at the right
    source = dict(zip(read.id, read.source))
    assert all(source[read.id[query]] != read.id[sentence] for query, sentence in read.pairs) and not read.present.any()
    inside = [gloss in read.gloss[s].split() for gloss, s in zip(read.gloss[read.pairs[:, 0]], read.pairs[:, 1])]
    assert np.array_equal(inside, read.label == 1) and (read.span[read.label == 1] >= 0).all()


def test_kinect_left_is_at_the_right(shared):
    read = open_corpus(shared/'data'/'isl_kinect30.npz')
    assert np.allclose(np.median(read.frames[:, 0], 0), (.5, 0), atol=.15) and np.median(read.frames[:, 6, 1]) > 1 and len(set(read.signer)) == 10


# Submissions

def test_features_are_kept_without_changing_the_answer(tmp_path):
    from signspot.dtw import Fits, match
    made = open_corpus(corpus(tmp_path, test='sentence_id,query_id\ne1,w1\ne2,w1\ne2,w2\ne1,w2\n'))
    assert [Fits(made).cost(q, s) for q, s in made.pairs] == [match(made.prepared(q), made.prepared(s)).curve.min() for q, s in made.pairs]


@pytest.mark.parametrize('spoil, said', [(lambda c, s: (c, s[:-1]), 'scores of shape'), (lambda c, s: (c, s * np.nan), 'no score from 0 to 1'), (lambda c, s: (c, s + 2), 'no score from 0 to 1'),
                                         (lambda c, s: (replace(c, pairs=c.pairs[[0] * len(c)], span=None), s), 'more than once'), (lambda c, s: (c.subset(np.zeros(0, int)), s[:0]), 'nothing to predict'),
                                         (lambda c, s: (replace(c, about={'failed': {'w9': 'no frames'}, 'dropped pairs': [['w9', 'e1']]}), s), 'w9 (no frames)')],
                         ids=['too few', 'NaN', 'too large', 'twice', 'none', 'incomplete'])
def test_submissions_that_are_not_written(spoil, said, tmp_path):
    made = open_corpus(corpus(tmp_path/'c', test='sentence_id,query_id\ne1,w1\ne2,w1\n'))
    with pytest.raises(BadInput, match=said.replace('(', '.').replace(')', '.')): write_submission(*spoil(made, score_pairs(made)), tmp_path/'submission.csv')
    assert not list(tmp_path.glob('*.csv')) and not list(tmp_path.glob('.*'))


def test_places_for_tables(tmp_path, capsys):
    folder = corpus(tmp_path/'c', test='sentence_id,query_id\ne1,w1\n')
    (tmp_path/'d.csv').mkdir()
    for place, said in ((tmp_path/'s.txt', 'must end in .csv'), (tmp_path/'d.csv', 'is a folder'), (folder/'test.csv'/'s.csv', 'not a folder')):
        status, out, err = call(capsys, 'predict', folder, '-o', place)
        assert status == 2 and said in err and err.count('\n') == 1


# The whole way

def write_wslp(folder: Path, rng: np.random.Generator) -> Path:
    "Procedural clips as the shared task would have them: a table of labelled pairs, poses in folders."
    from signspot.phonology import lexicon
    from signspot.signing import draw_signers, record
    queries, sentences = [[n % 6] for n in range(12)], [rng.permutation(6)[:3].tolist() for _ in range(10)]
    citation = np.arange(22) < 12
    takes = record(queries + sentences, lexicon(6), draw_signers(4, rng), rng.integers(0, 4, 22), citation, rng=rng)
    names = [f'q{n}' for n in range(12)] + [f's{n}' for n in range(10)]
    for c, name in enumerate(names): takes.pose(c).write(folder/('queries' if citation[c] else 'sentences')/f'{name}.pose')
    rows = [f's{s},q{q},{int(q % 6 in signs)}' for s, signs in enumerate(sentences) for q in range(12)]
    (folder/'train.csv').write_text('\n'.join(['sentence_id,query_id,is_present', *rows]))
    return folder


def add_real(folder: Path, shared: Path) -> list[tuple[str, str]]:
    "The shared task's own pair, the sentence still in a zip; their names."
    query, sentence = 'wslp_query_national', 'wslp_sentence_the_ban'
    if not (shared/'video'/f'{query}.mp4').exists(): return []
    (folder/f'{query}.mp4').symlink_to((shared/'video'/f'{query}.mp4').resolve())
    with zipfile.ZipFile(folder/'sentences.zip', 'w', zipfile.ZIP_STORED) as archive: archive.write(shared/'video'/f'{sentence}.mp4', f'test/{sentence}.mp4')
    return [(sentence, query)]


def whole_way(folder: Path, asked: list[tuple[str, str]], capsys) -> list[list[str]]:  # rows of the submission
    "Prepare both tables, train for a moment, predict."
    from signspot.spotter import SpotterConfig
    from signspot.train import TrainConfig, train
    (folder/'test.csv').write_text('\n'.join(['sentence_id,query_id', *(','.join(pair) for pair in asked)]))
    for table in ('train', 'test'):
        status, out, err = call(capsys, 'prepare', f'wslp:{folder}/{table}.csv', '-o', folder/'prepared'/table, '--fps', 8)
        assert status == 0 and err == '', err
    learning, checking = Corpus.load(folder/'prepared'/'train'/'corpus').split('pair', .25)
    train(SpotterConfig(encoder='1d', d=16, width=16, heads=2, layers=1), TrainConfig(epochs=2), learning, checking, folder/'run')
    for model in ([], ['--model', folder/'run']):
        status, out, err = call(capsys, 'predict', folder/'prepared'/'test', '-o', folder/'submission.csv', '--scores', folder/'scores.csv', *model)
        assert status == 0 and err == '' and out.startswith(f'{len(asked)} pairs')
        with (folder/'submission.csv').open() as file: rows = list(csv.reader(file))
        assert rows[0] == ['sentence_id', 'query_id', 'is_present'] and [tuple(row[:2]) for row in rows[1:]] == asked and {row[2] for row in rows[1:]} <= {'0', '1'}
        with (folder/'scores.csv').open() as file: assert all(0 <= float(row['score']) <= 1 for row in csv.DictReader(file))
    return rows


def test_the_whole_way_on_generated_clips(tmp_path, capsys):
    folder = write_wslp(tmp_path, np.random.default_rng(0))
    whole_way(folder, [(f's{s}', f'q{q}') for s in range(4) for q in (3, 0, 5)], capsys)
    before = {path: path.stat().st_mtime_ns for path in (folder/'prepared').rglob('*.pose')}
    assert not before                                                                     # .pose files are read as they are


def test_the_whole_way_with_a_real_pair(tmp_path, shared, capsys):
    pytest.importorskip('mediapipe')
    folder = write_wslp(tmp_path, np.random.default_rng(1))
    real = add_real(folder, shared)
    if not real: pytest.skip('the real pair is not in ../shared/video')
    whole_way(folder, real + [(f's{s}', f'q{q}') for s in range(2) for q in (3, 0)], capsys)
    tracked = {path: path.stat().st_mtime_ns for path in (folder/'prepared'/'test'/'poses').iterdir()}
    assert len(tracked) == 2
    status, out, err = call(capsys, 'prepare', f'wslp:{folder}/test.csv', '-o', folder/'prepared'/'test', '--fps', 8)
    assert status == 0 and '2 there already' in out and tracked == {path: path.stat().st_mtime_ns for path in tracked}


# The command's words about corpora

def test_every_form_is_in_the_help(capsys):
    for words in (['prepare'], ['predict'], ['corpus', 'describe']):
        with pytest.raises(SystemExit): main([*words, '--help'])
        said = capsys.readouterr().out
        assert all(form in said for form in READERS) and 'example' in said


def test_describe(tmp_path, capsys):
    folder = corpus(tmp_path/'c', 'w1 w2 e1', clips=CLIPS)
    status, out, err = call(capsys, 'corpus', 'describe', folder, '--sheet', tmp_path/'sheet.png')
    assert status == 0 and '| pairs |' in out and err == f'signspot: read as folder:{folder}\n' and (tmp_path/'sheet.png').read_bytes().startswith(b'\x89PNG')
    status, out, err = call(capsys, 'corpus', 'describe', f'folder:{folder}', '--json')
    assert status == 0 and json.loads(out)['queries']['clips'] == 2 and out.count('\n') == 1 and err == ''
    assert call(capsys, 'prepare', folder, '-o', tmp_path/'out')[0] == 0
    assert json.loads(call(capsys, 'corpus', 'describe', tmp_path/'out', '--json')[1])['pairs'] == json.loads(out)['pairs'] and json.loads(out)['tracked'] is True
    assert 'prepared already' in call(capsys, 'prepare', tmp_path/'out', '-o', tmp_path/'again')[2]


def shape(value): return {key: shape(part) for key, part in value.items()} if isinstance(value, dict) else None


def test_facts_before_and_after_tracking_have_one_shape(tmp_path, tracked, capsys):
    folder = videos(tmp_path/'c', 'w1.mp4', 'w2.mp4', 'e1.mp4')
    (folder/'test.csv').write_text(GOOD + 'e1,w2,0\n')
    before = json.loads(call(capsys, 'corpus', 'describe', folder, '--json')[1])
    prepare_corpus(read_corpus(folder), tmp_path/'out')
    after = json.loads(call(capsys, 'corpus', 'describe', tmp_path/'out', '--json')[1])
    same = {key for key in after if key not in ('about', 'blind')}
    assert shape({key: before[key] for key in same}) == shape({key: after[key] for key in same}) and set(before) - set(after) == {'videos to track'}
    assert all(before[key] == after[key] for key in ('name', 'pairs', 'present', 'without label', 'segments', 'composed', 'cut out')) and before['queries']['clips'] == after['queries']['clips'] == 2
    assert before['tracked'] is False and after['tracked'] is True and before['minutes'] is None


def test_letters_that_no_font_has(tmp_path, capsys, recwarn):
    folder = corpus(tmp_path/'c', 'w1 e1', clips='file,gloss,kind\nw1.pose,प्रतिबंध,query\ne1.pose,手話 प्रतिबंध,sentence\n')
    status, out, err = call(capsys, 'corpus', 'describe', f'folder:{folder}', '--sheet', tmp_path/'sheet.png')
    assert status == 0 and (tmp_path/'sheet.png').exists() and err.count('\n') <= 1 and 'Glyph' not in err and not [w for w in recwarn if 'Glyph' in str(w.message)]


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
    folder = corpus(tmp_path, test=GOOD + 'e\x1b[2J9,w1,0\n')
    assert '\x1b' not in (err := call(capsys, 'corpus', 'describe', f'wslp:{folder}')[2]) and 'e\\x1b[2J9' in err


def test_a_damaged_store(tmp_path, capsys):
    prepare_corpus(read_corpus(corpus(tmp_path/'c', test=GOOD)), tmp_path/'out')
    for name, raw in (('frames.npy', b'no'), ('clips.npz', b'no')):
        kept = (tmp_path/'out'/'corpus'/name).read_bytes()
        (tmp_path/'out'/'corpus'/name).write_bytes(raw)
        status, out, err = call(capsys, 'predict', tmp_path/'out', '-o', tmp_path/'s.csv')
        assert status == 2 and err.count('\n') == 1 and 'corpus' in err
        (tmp_path/'out'/'corpus'/name).write_bytes(kept)


def test_the_procedural_corpus_has_a_name(monkeypatch):
    monkeypatch.setattr('signspot.signing.sign_corpus', lambda: 'generated')
    assert read_corpus('procedural') == 'generated'
    with pytest.raises(BadInput, match='no part'): read_corpus('benchmark:nowhere')


def test_listings_tell_what_they_hold():
    said = Listing('two', {'licence': 'none'}, (Take('a', 'query', gloss='A'), Take('b', 'sentence')), (('a', 'b', -1),))
    assert '1 pairs, 1 queries, 1 sentences' in repr(said) and '| without label | 1 |' in said._repr_markdown_()
