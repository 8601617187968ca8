"The procedural corpus: deterministic, labelled rightly, and not solvable without looking."
from dataclasses import replace

import numpy as np
import pytest

from signspot.corpus import Corpus, blind
from signspot.phonology import HANDSHAPES, UNMARKED, hand_points, lexicon
from signspot.pose import BadInput, mirror
from signspot.signing import SigningConfig, bodies, draw_signers, interpolate, perform, record, sign_corpus, write_score
from signspot.skeleton import PAPER_50

SMALL = SigningConfig(sentences=40, queries_per_sign=4)


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return sign_corpus(SMALL, seed=3)


def one_sign(left: bool, seed: int = 0):
    "A clip of one sign without camera or tracker: (N, 50, 3)."
    rng, signs = np.random.default_rng(seed), lexicon(3)
    signers = replace(draw_signers(1, rng), left=np.array([left]), waiting=np.array([False]))
    score = write_score([[2]], np.array([0]), np.ones(1), np.array([True]), rng)
    hands, frames, _ = interpolate(score, perform(score, signs, signers, rng), 25)
    return bodies(hands, np.zeros(frames.sum(), int), signers)


def test_same_seed_same_corpus(corpus):
    again, other = sign_corpus(SMALL, seed=3), sign_corpus(SMALL, seed=4)
    assert np.array_equal(again.frames, corpus.frames) and np.array_equal(again.span, corpus.span)
    assert set(other.gloss[other.kind == 'query']) == set(corpus.gloss[corpus.kind == 'query'])
    assert not set(other.signer) & set(corpus.signer)


def test_labels_say_what_the_glosses_say(corpus):
    truth = [corpus.gloss[q] in corpus.gloss[s].split() for q, s in corpus.pairs]
    assert (np.array(truth) == corpus.label).all() and corpus.label.mean() == .5
    assert blind(corpus, 'sentence') == .5


def test_query_and_sentence_are_by_different_signers(corpus):
    query, sentence = corpus.pairs.T
    assert (corpus.signer[query] != corpus.signer[sentence]).all()


def test_spans_lie_inside_their_sentences(corpus):
    present = corpus.label == 1
    start, end = corpus.span[present].T
    assert (start >= 0).all() and (end > start).all() and (end <= corpus.length[corpus.pairs[present, 1]]).all()
    assert (corpus.span[~present] == -1).all()


def test_the_span_is_where_the_sign_is():
    "Without noise of any kind, the hand is nearest to the sign's place inside the span."
    rng, signs = np.random.default_rng(0), lexicon(12)
    high = next(i for i, s in enumerate(signs) if s.place == 'neutral, high' and s.hands == 'one')
    takes = record([[high]], signs, replace(draw_signers(1, rng), left=np.array([False])), np.array([0]), np.array([True]), rng=rng)
    pose, (_, start, end) = takes.pose(0), takes.spans(0)[0]
    wrist = pose.keypoints[:, PAPER_50.position['POSE_LANDMARKS:RIGHT_WRIST'], 1]
    inside = slice(round(start * pose.fps), round(end * pose.fps))
    assert wrist[inside].max() < np.r_[wrist[:inside.start - 8], wrist[inside.stop + 8:]].min()   # y points down


def test_a_left_hander_is_a_right_hander_in_the_mirror():
    right, left = one_sign(False), one_sign(True)
    from signspot.skeleton import mirror_positions
    assert np.allclose(left[:, mirror_positions(PAPER_50)] * [-1, 1, 1], right, atol=1e-9)


def test_bones_keep_their_length():
    people = one_sign(False)
    for a, b in PAPER_50.edges:
        if a >= 8 and b >= 8 and b - a == 1 and (a - 8) % 21 % 4 != 0:      # along a finger
            lengths = np.linalg.norm(people[:, a] - people[:, b], axis=-1)
            assert np.ptp(lengths) < 1e-9


def test_handshapes_differ():
    points = hand_points(np.stack(list(HANDSHAPES.values()))).reshape(len(HANDSHAPES), -1)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(len(points))
    assert apart.min() > .1


def test_two_handed_signs_obey_battison():
    for sign in lexicon(2000, seed=5):
        if sign.hands == 'base': assert sign.base in UNMARKED


def test_mirrored_twice_is_itself():
    pose = record([[1]], lexicon(3), draw_signers(1, np.random.default_rng(0)), np.array([0]), np.array([True])).pose(0)
    assert np.allclose(mirror(mirror(pose)).keypoints, pose.keypoints, atol=1e-3)


@pytest.mark.parametrize('wrong, what', [(dict(signs=3), 'one left over'), (dict(pairs_per_sentence=3), 'even'), (dict(signers=1), 'two are needed')])
def test_impossible_corpora_are_refused(wrong, what):
    with pytest.raises(BadInput, match=what): replace(SMALL, **wrong)


@pytest.mark.parametrize('by', ['pair', 'sentence', 'query', 'signer'])
def test_splits_do_not_share_their_unit(corpus, by):
    from signspot.corpus import split_unit
    train, held = corpus.split(by, .25, seed=1)
    assert len(train) + len(held) == len(corpus) and len(held)
    names = lambda part: {tuple(part.clip(s).ravel()[:6]) for s in part.pairs[:, 1]} if by == 'sentence' else set(split_unit(part, by))
    if by != 'pair': assert not names(train) & names(held)


def test_splitting_by_something_else_is_refused(corpus):
    with pytest.raises(BadInput, match='pair, sentence, query, signer'): corpus.split('frame')


def test_a_corpus_survives_the_disk(corpus, tmp_path):
    back = Corpus.load(corpus.save(tmp_path/'c.npz'))
    assert np.array_equal(back.frames, corpus.frames) and back.name == corpus.name and [p.name for p in tmp_path.iterdir()] == ['c.npz']


@pytest.mark.parametrize('content', [None, b'', b'not a zip', 'foreign'])
def test_foreign_corpus_files_are_refused(content, tmp_path):
    path = tmp_path/'c.npz'
    if content == 'foreign': np.savez(path, a=np.arange(3))
    elif content is not None: path.write_bytes(content)
    with pytest.raises(BadInput, match='c.npz'): Corpus.load(path)
