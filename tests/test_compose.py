"Composed sentences: exact boundaries, plausible joins, no query that is part of its sentence; from real isolated clips where they are at hand."
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from signspot.compose import ComposeConfig, arm_length, compose, join, minimum_jerk, resize, stroke, transition
from signspot.corpus import Corpus, audit, corpus_of, take_clips
from signspot.pose import BadInput
from signspot.prepare import Prepared
from signspot.readers import open_corpus

FEW = ComposeConfig(sentences=25, signs=(2, 3))


def clip(seed: int, frames: int = 14, seen=(True, True)) -> Prepared:
    "Smooth noise: arms that come up, move and go down."
    rng, up = np.random.default_rng(seed), np.interp(np.arange(frames), [0, 3, frames - 4, frames - 1], [0, 1, 1, 0])
    body = np.array([(.5, 0), (-.5, 0), (.6, .8), (-.6, .8), (.5, 1.4), (-.5, 1.4), (.3, 1.6), (-.3, 1.6)])
    points = np.tile(np.concatenate([body, np.tile(body[4], (21, 1)), np.tile(body[5], (21, 1))]), (frames, 1, 1))
    way = np.stack([up * rng.normal(0, .5), -up * rng.uniform(.8, 1.2)], 1)[:, None] + .1 * np.sin(np.arange(frames) * rng.uniform(.3, .8))[:, None, None]
    points[:, [4, *range(8, 29)]] += way
    points[:, [5, *range(29, 50)]] += way
    points[:, 8:] += np.repeat(rng.normal(0, .1, (1, 42, 2)), frames, 0) * np.repeat(seen, 21)[:, None]
    return Prepared(points.astype('float32'), np.tile(seen, (frames, 1)), 12.5)


def isolated(signs=5, takes=2, people=('A', 'B', 'C')) -> Corpus:
    what = [(s, p, t) for s in range(signs) for p in people for t in range(takes)]
    return corpus_of('isolated', [clip(100 * s + 10 * n + t, seen=(s % 2 == 0, True)) for n, (s, p, t) in enumerate(what)], kind=['query'] * len(what), gloss=[f'G{s}' for s, *_ in what],
                     signer=[p for _, p, _ in what], id=[f'G{s}-{p}-{t}' for s, p, t in what], pairs=[], label=[], about={'licence': 'mine'})


def test_a_reach_starts_and_ends_at_rest_and_never_turns_back():
    s = minimum_jerk(np.linspace(0, 1, 101))
    assert s[0] == 0 and s[-1] == pytest.approx(1) and (np.diff(s) > 0).all() and s[1] < 1e-4 and s[50] == pytest.approx(.5)


@pytest.mark.parametrize('fps', [12.5, 25, 60])
@pytest.mark.parametrize('distance, low, high', [(0, .13, .17), (1, .25, .3), (9, .38, .42)])
def test_transitions_take_longer_over_a_distance(distance, low, high, fps):
    a, b = np.zeros((50, 2), 'float32'), np.full((50, 2), distance / 2 ** .5, 'float32')
    between = transition(a, b, fps)
    assert low - .5 / fps <= (len(between) + 1) / fps <= high + .5 / fps and between.dtype == np.float32
    if distance: assert (np.diff(np.concatenate([[a], between, [b]])[:, 4, 0]) > 0).all()


def at(height, frames=24, noise=0., seed=0) -> Prepared:
    "A right wrist at these heights (above its elbow, shoulder widths; at equal times), trembling; no fingers seen, as by Kinect."
    way = np.interp(np.linspace(0, 1, frames), np.linspace(0, 1, len(height)), height)
    body = np.array([(.5, 0), (-.5, 0), (.6, .8), (-.6, .8), (.5, 1.5), (-.5, .8), (.3, 1.6), (-.3, 1.6)])
    points = np.tile(np.concatenate([body, np.tile(body[4], (21, 1)), np.tile(body[5], (21, 1))]), (frames, 1, 1))
    points[:, [5, *range(29, 50)]] += np.stack([.3 * np.sin(.9 * np.arange(frames)) * (noise == 0), -way], 1)[:, None] + noise * np.random.default_rng(seed).normal(size=(frames, 1, 2))
    return Prepared(points.astype('float32'), np.zeros((frames, 2), bool), 12.5)


def test_ways_up_and_down_are_no_part_of_the_sign():
    begin, up, down, end = stroke(at([-.7, 1, 1, 1, 1, -.7]))
    assert begin == 0 and end == 24 and 2 <= up <= 4 and 20 <= down <= 22
    assert stroke(at([-.7, 1, 1, 1, 1, 1]))[2:].tolist() == [24, 24] and stroke(at([1, 1, 1, 1, 1, -.7]))[:2].tolist() == [0, 0]


@pytest.mark.parametrize('height', [[1, 1, 1], [.3, -.1, -.1, .3, -.2], [-.2, .2, -.2], [-.5, -.5, .2, -.5, -.5]])
def test_signs_cut_to_the_sign_or_made_low_stay_whole(height):
    assert stroke(at(height)).tolist() == [0, 0, 24, 24]


def test_a_posture_that_trembles_stays_whole():
    kept = [np.diff(stroke(at([.5, .5], noise=.02, seed=seed))[1:3]).item() for seed in range(40)]
    assert np.mean(np.array(kept) == 24) > .85
    moved = at([1, 1, 1], 30)
    still = replace(moved, frames=np.concatenate([np.repeat(moved.frames[:1], 10, 0), moved.frames, np.repeat(moved.frames[-1:], 10, 0)]), present=np.zeros((50, 2), bool))
    begin, up, down, end = stroke(still)
    assert 8 <= begin == up <= 10 and 40 <= down == end <= 42


def test_pieces_stand_where_the_boundaries_say():
    clips = [clip(i) for i in range(3)]
    sentence, spans = join(clips, align=False)
    for n, (piece, (a, b)) in enumerate(zip(clips, spans)):
        _, up, down, _ = stroke(piece)
        assert np.allclose(sentence.frames[a:b], piece.frames[up:down], atol=1e-5) and (sentence.present[a:b] == piece.present[up:down]).all()
        assert n == 0 or spans[n - 1][1] < a
    assert np.abs(np.diff(sentence.frames, axis=0)).max() < .8


def test_aligned_bodies_are_of_one_size():
    small, large = clip(0), replace(clip(1), frames=resize(clip(1).frames, 1.5))
    assert arm_length(large.frames) == pytest.approx(1.5 * arm_length(clip(1).frames), rel=1e-5)
    for align, same in ((True, True), (False, False)):
        sentence, spans = join([small, large], align)
        sizes = [arm_length(sentence.frames[a:b]) for a, b in spans]
        assert (abs(sizes[0] - sizes[1]) < .02) is same


def test_hands_unseen_stay_unseen():
    sentence, spans = join([clip(0, seen=(False, True)), clip(1, seen=(True, True)), clip(2, seen=(False, False))])
    assert not sentence.present[:spans[1][0], 0].any() and sentence.present[slice(*spans[1])].all() and not sentence.present[spans[1][1]:].any()
    assert sentence.present[spans[0][1]:spans[1][0], 1].all() and np.isfinite(sentence.frames).all()


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return compose(isolated(), FEW)


def check(corpus: Corpus, clips: Corpus):
    "What must hold of every composed corpus."
    assert 'composed' in corpus.name and corpus.about['composed'] is True and corpus.about['negatives'] == 'drawn' and corpus.label.mean() == .5
    assert set(' '.join(corpus.source).split()) <= {'_'.join(name.split()) for name in clips.id}
    for (query, sentence), label, span in zip(corpus.pairs, corpus.label, corpus.span):
        assert (corpus.gloss[query] in corpus.gloss[sentence].split()) == label == (span[0] >= 0)
        assert '_'.join(corpus.id[query].split()) not in corpus.source[sentence].split()
    for i in np.flatnonzero(corpus.kind == 'sentence'):
        mine = np.flatnonzero(corpus.segments[:, 0] == i)
        assert corpus.segment_gloss[mine].tolist() == corpus.gloss[i].split() and len(mine) == len(corpus.source[i].split())
        assert (np.diff(corpus.segments[mine, 1:].ravel()) > 0).all()


def test_composed_corpora(corpus):
    check(corpus, isolated())
    query, sentence = corpus.pairs.T
    assert (corpus.signer[query] != corpus.signer[sentence]).all() and (corpus.signer != '').all() and corpus.about['licence'] == 'mine'
    assert len(set(corpus.gloss[corpus.kind == 'sentence'])) > 5


def test_the_same_seed_composes_the_same(corpus):
    again, other = compose(isolated(), FEW), compose(isolated(), FEW, seed=1)
    assert all(np.array_equal(getattr(again, f.name), getattr(corpus, f.name)) for f in fields(Corpus)) and set(other.id[other.kind == 'sentence']) != set(corpus.id[corpus.kind == 'sentence'])


A_TO_J = [f'G{s}' for s in range(10)]
KNOWN = {'everybody knows everything': dict(X=A_TO_J, Y=A_TO_J, Z=A_TO_J), 'three shared': dict(X=A_TO_J[:7], Y=A_TO_J[4:]), 'nothing shared': dict(X=A_TO_J[:5], Y=A_TO_J[5:]),
         'one who knows too few': dict(X=A_TO_J[:6], Y=A_TO_J[:6], Z=A_TO_J[6:9]), 'one who knows little of it all': dict(X=A_TO_J, Y=A_TO_J[:2], Z=A_TO_J[:1] + A_TO_J[8:])}


def patchy(known: dict[str, list[str]]) -> Corpus:
    "Two short clips of every sign that a signer knows."
    what = [(gloss, who, take) for who, glosses in known.items() for gloss in glosses for take in (0, 1)]
    return corpus_of('patchy', [clip(n, 8) for n in range(len(what))], kind=['query'] * len(what), gloss=[gloss for gloss, *_ in what], signer=[who for _, who, _ in what],
                     id=['-'.join(map(str, names)) for names in what], pairs=[], label=[])


def guess(what: np.ndarray, label: np.ndarray) -> float:
    "Accuracy on the second half of knowing how often each value was present in the first."
    _, value = np.unique(what, return_inverse=True)
    half = len(label) // 2
    leaning = np.bincount(value[:half], 2 * label[:half] - 1, value.max() + 1)[value[half:]]
    return float(np.where(leaning == 0, .5, (leaning > 0) == label[half:]).mean())


@pytest.mark.parametrize('one_signer', [True, False])
@pytest.mark.parametrize('name', KNOWN)
def test_neither_the_signer_nor_the_gloss_of_a_query_tells_the_answer(name, one_signer):
    corpus = compose(patchy(KNOWN[name]), ComposeConfig(sentences=400, one_signer=one_signer))
    query, sentence = corpus.pairs.T
    within = np.array([any(f'-{corpus.signer[q]}-' in part for part in corpus.source[s].split()) for q, s in corpus.pairs])
    assert within[corpus.label == 1].tolist() == within[corpus.label == 0].tolist()                        # each sentence asks the same people for either answer
    for what in (within, corpus.gloss[query], corpus.signer[query], corpus.id[query]): assert abs(guess(what, corpus.label) - .5) < .1   # four standard errors of 400 pairs


def test_strangers_ask_wherever_they_can():
    for name, same in (('everybody knows everything', 0), ('three shared', 0), ('nothing shared', 1)):
        corpus = compose(patchy(KNOWN[name]), ComposeConfig(sentences=50))
        assert (corpus.signer[corpus.pairs[:, 0]] == corpus.signer[corpus.pairs[:, 1]]).mean() == same, name


def test_a_sentence_is_asked_for_different_signs():
    corpus = compose(isolated(7), replace(FEW, pairs_per_sentence=4))
    check(corpus, isolated(7))
    for i in np.flatnonzero(corpus.kind == 'sentence'): assert len(set(corpus.gloss[corpus.pairs[corpus.pairs[:, 1] == i, 0]])) == 4
    with pytest.raises(BadInput, match='4 different signs of a sentence cannot be asked for'): replace(FEW, pairs_per_sentence=8)


def test_mixed_signers_are_nobody():
    mixed = compose(isolated(), replace(FEW, one_signer=False))
    several = np.array([len({name.split('-')[1] for name in source.split()}) > 1 for source in mixed.source])
    assert several.any() and (mixed.signer[several] == '').all() and 'signers mixed' in mixed.about['notes']
    with pytest.raises(BadInput, match='not known'): mixed.split('signer')


def test_without_signers_anybody_will_do():
    nobody = replace(isolated(), signer=np.full(30, ''))
    check(compose(nobody, FEW), nobody)


def test_glosses_of_two_words_stay_one_sign():
    clips = isolated()
    check(compose(replace(clips, gloss=np.char.replace(clips.gloss, 'G', 'good ')), FEW), clips)


def test_clips_divided_first_do_not_leak():
    clips = isolated()
    sides = [compose(take_clips(clips, (clips.signer == 'A') == first), replace(FEW, one_signer=False)) for first in (False, True)]
    found = audit(*sides)
    assert all(found.shared[what]['shared'] == 0 for what in ('query clips', 'sentence clips', 'clips with the same frames', 'recordings', 'signers'))


@pytest.mark.parametrize('change, what', [(lambda c: replace(c, gloss=np.where(np.arange(30) == 7, '', c.gloss)), 'without gloss: G1-A-1$'), (lambda c: take_clips(c, np.arange(12)), '2 glosses are too few'),
                                          (lambda c: take_clips(c, np.arange(25)), 'have one: G4'), (lambda c: take_clips(c, np.zeros(0, int)), '0 glosses are too few'),
                                          (lambda c: replace(c, signer=np.array([f'P{i}' for i in range(30)])), 'no signer has signed 3 different'), (lambda c: take_clips(c, c.signer == 'A'), None)])
def test_clips_that_cannot_be_composed_are_refused(change, what):
    if what is None: return check(compose(change(isolated()), replace(FEW, sentences=10)), isolated())    # one signer is enough, if nothing else is to be had
    with pytest.raises(BadInput, match=what): compose(change(isolated()), FEW)


def test_more_sentences_than_there_are():
    clips = take_clips(isolated(3, 1, ('A', 'B')), np.arange(6))
    with pytest.raises(BadInput, match='500 different sentences were asked for, but only 12'): compose(clips, ComposeConfig(500, signs=(2, 2)))


@pytest.mark.parametrize('wrong', [dict(signs=(0, 2)), dict(signs=(3, 2)), dict(pairs_per_sentence=3), dict(pairs_per_sentence=0), dict(sentences=0)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput, match='compose: '): ComposeConfig(**wrong)


def real(path: Path) -> Corpus:
    "Half of the isolated clips of one of the arrays in ../shared/data. Where signers are not labelled, blocks of 30 recordings stand for them."
    clips = open_corpus(path)
    clips = take_clips(clips, np.flatnonzero(clips.gloss != '<idle>')[::2])
    blocks = np.array([f'block {int(name.split("/")[1]) // 30}' if '/' in name else '' for name in clips.id])
    return replace(clips, signer=np.where(clips.signer == '', blocks, clips.signer))


@pytest.mark.parametrize('name', ['asl_traduttore14', 'isl_kinect30'])
def test_real_clips_compose(name, shared):
    path = shared/'data'/f'{name}.npz'
    if not path.exists(): pytest.skip(f'{name} is not in ../shared/data')
    clips = real(path)
    corpus = compose(clips, ComposeConfig(sentences=60, signs=(2, 4)))
    check(corpus, clips)
    strangers = corpus.signer[corpus.pairs[:, 0]] != corpus.signer[corpus.pairs[:, 1]]
    assert strangers.mean() > .95 and np.isfinite(corpus.frames).all() and 'Sign Language' in corpus.about['language']
    assert bool(corpus.present.any()) == (name == 'asl_traduttore14')                # Kinect has no fingers
    query, sentence = corpus.pairs.T
    assert abs(guess(corpus.gloss[query], corpus.label) - .5) < .26 and strangers[corpus.label == 1].tolist() == strangers[corpus.label == 0].tolist()
    signs = sum(b - a for _, a, b in corpus.segments)
    assert .6 < signs / corpus.length[corpus.kind == 'sentence'].sum() < .98         # the rest: transitions, the first way up and the last way down
