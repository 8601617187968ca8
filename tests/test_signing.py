"The procedural corpus: deterministic, labelled rightly, not solvable without looking, and every process in it does what its name says."
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest

from signspot.corpus import blind
from signspot.phonology import PHASE, lexicon, limit_joints
from signspot.pose import BadInput, mirror
from signspot.prepare import FPS
from signspot.signing import (REST, WORLDS, Camera, Curve, SigningConfig, Style, Tracker, World, bodies, draw_plan, draw_signers, film, film_clock, generator, lost_hands, hand_state,
                              lexicon_for, moving_hands, perform, record, record_tokens, rough, sign_corpus, spells, stream, tokens, track, wander, write_score)
from signspot.skeleton import LEFT_HAND, PAPER_50, RIGHT_HAND, mirror_positions

SMALL = SigningConfig(sentences=40, queries_per_sign=4)
PERFECT = Tracker(shaky=0, lost=99, lost_clip=0, lost_speed=0, lost_overlap=0, lost_face=0, lost_short=0, lost_border=0, doubled=0, swapped=0, frozen=0, bodiless=0)
REPEATING = replace(WORLDS['full'], style=replace(WORLDS['full'].style, doubled=.3))
STILL = Style(pace=1, tempo=0, reduction=0, drift=0, inertia=0)


@pytest.fixture(scope='module')
def corpus():
    return sign_corpus(SMALL, seed=3)


def people_of(score, keys, signers, fps=25.):
    "Bodies at every frame, and when each is."
    clock = film_clock(score.begin, score.end, np.full(len(score.begin), fps))
    return bodies(moving_hands(score, keys, clock), score.said.signer[clock.clip], signers), clock


def performed(sequences, style=STILL, citation=False, seed=0, left=False):
    "Keys and score of clips by one signer, who has no waiting hand."
    rng, signs = np.random.default_rng(seed), lexicon(200)
    signers = draw_signers(1, rng)
    signers = replace(signers, left=np.array([left]), waiting=np.array([False]), habit=0 * signers.habit)
    said = tokens(sequences, np.zeros(len(sequences), int), np.full(len(sequences), citation))
    keys = perform(said, signs, signers, style, rng)
    return keys, write_score(said, keys, np.ones(len(sequences)), style, rng), signers


# The corpus

def test_same_seed_same_corpus(corpus):
    again, other = sign_corpus(SMALL, seed=3), sign_corpus(SMALL, seed=4)
    assert np.array_equal(again.frames, corpus.frames) and np.array_equal(again.span, corpus.span) and np.array_equal(again.present, corpus.present)
    assert set(other.gloss[other.kind == 'query']) == set(corpus.gloss[corpus.kind == 'query'])
    assert not set(other.signer) & set(corpus.signer)


@pytest.mark.parametrize('config', [SMALL, SigningConfig(signs=60, sentence_signs=(1, 8), sentences=50, queries_per_sign=None, hard=.7, world=REPEATING), replace(SMALL, pairs_per_sentence=6, world='plain')])
def test_labels_say_what_the_glosses_say(config):
    made = sign_corpus(config, seed=5)
    truth = [made.gloss[q] in made.gloss[s].split() for q, s in made.pairs]
    assert (np.array(truth) == made.label).all() and made.label.mean() == .5 and blind(made, 'sentence') == .5
    query, sentence = made.pairs.T
    assert (made.signer[query] != made.signer[sentence]).all() and len(made) == config.sentences * config.pairs_per_sentence


def test_the_query_alone_says_little():
    assert blind(sign_corpus(SigningConfig(sentences=400, queries_per_sign=2), 1), 'query') < .58


def test_segments_are_the_sentence_and_spans_the_first_of_them():
    made = sign_corpus(SigningConfig(signs=30, sentence_signs=(2, 5), sentences=60, queries_per_sign=None, world=REPEATING), 7)
    for clip in range(len(made.length)):
        mine = made.segments[:, 0] == clip
        assert ' '.join(made.segment_gloss[mine]) == made.gloss[clip]
        start, end = made.segments[mine, 1:].T
        assert (start >= 0).all() and (end > start).all() and (end <= made.length[clip]).all() and (np.diff(start) >= 0).all()
    for (query, sentence), label, span in zip(made.pairs, made.label, made.span):
        here = made.segments[(made.segments[:, 0] == sentence) & (made.segment_gloss == made.gloss[query]), 1:]
        assert (span == (here[0] if label else -1)).all()


def test_the_span_is_where_the_sign_is():
    "The hand is nearer to the sign's place inside its span than anywhere else."
    keys, score, signers = performed([[3]], citation=True)
    people, clock = people_of(score, keys, signers)
    wrist, clock = people[:, 5], clock.time
    start, end = score.start[1], score.start[1] + score.length[1]
    inside = (clock >= start) & (clock <= end)
    away = np.linalg.norm(wrist - wrist[inside].mean(0), axis=1)
    assert away[inside].max() < away[(clock < start - .25) | (clock > end + .25)].min()


def test_parts_share_no_sign():
    of = lambda part: {s.parameters for s in lexicon(300, 1, part=part)}
    assert not of('train') & of('test') and sign_corpus(replace(SMALL, part='test'), 0).gloss.size


def test_hard_negatives_are_minimal_pairs():
    config = SigningConfig(signs=400, sentence_signs=(2, 6), sentences=80, queries_per_sign=None, hard=1.)
    signs = lexicon_for(config)
    apart = lambda a, b: sum(x != y for x, y in zip(signs[a].parameters, signs[b].parameters))
    def close(plan): return np.mean([min(apart(plan.sequences[q][0], s) for s in plan.sequences[c]) == 1 for q, c in plan.pairs[plan.label == 0]])
    assert close(draw_plan(config, np.random.default_rng(0))) > .95 and close(draw_plan(replace(config, hard=.01), np.random.default_rng(0))) < .2


def test_inventories_can_be_held_out():
    kept, held = (lexicon_for(SigningConfig(signs=200, inventory=name)) for name in ('kept', 'held out'))
    for parameter in ('handshape', 'place', 'path'):
        values = lambda signs: {getattr(s, parameter) for s in signs}
        assert not values(kept) & values(held), parameter


def test_queries_are_dealt_to_all_signers():
    plan = draw_plan(SigningConfig(signers=40, queries_per_sign=20, sentences=10), np.random.default_rng(0))
    signers = plan.signer[:plan.queries].reshape(12, 20)
    assert all(len(set(row)) == 20 for row in signers) and len(np.unique(signers)) == 40


@pytest.mark.parametrize('wrong, what', [(dict(signs=3), 'one left over'), (dict(pairs_per_sentence=3), 'even'), (dict(pairs_per_sentence=0), 'even'), (dict(signers=1), 'two are needed'), (dict(world='plane'), 'plain, full, any rate'),
                                         (dict(queries_per_sign=1), '2 or more'), (dict(queries_per_sign=0), '2 or more'), (dict(sentences=0), '1 or more'), (dict(hard=2), 'from 0 to 1'), (dict(hard=float('nan')), 'from 0 to 1'),
                                         (dict(sentence_signs=(0, 3)), 'one left over'), (dict(inventory='half'), 'held out')])
def test_impossible_corpora_are_refused(wrong, what):
    with pytest.raises(BadInput, match=what): replace(SMALL, **wrong)


def test_a_config_survives_json():
    import json
    assert SigningConfig(**json.loads(json.dumps(asdict(SMALL)))) == SMALL


def test_thousands_of_clips_are_numbers():
    made = sign_corpus(SigningConfig(signs=500, sentence_signs=(1, 12), sentences=700, queries_per_sign=None, signers=100), 11)
    assert np.isfinite(made.frames).all() and np.abs(made.frames).max() < 20 and .5 < made.present.mean() < 1
    assert made.length.min() >= 1


def test_streams_do_not_depend_on_who_makes_them():
    config = SigningConfig(sentences=6, queries_per_sign=None)
    here, one, two = (list(islice(stream(config, 9, workers), 5)) for workers in (0, 1, 2))
    for a, b, c in zip(here, one, two):
        assert a.name == b.name == c.name and np.array_equal(a.frames, b.frames) and np.array_equal(a.frames, c.frames) and np.array_equal(a.pairs, c.pairs)
    assert len({x for part in here for x in part.signer}) == sum(len(set(part.signer)) for part in here)   # nobody comes twice
    with pytest.raises(BadInput, match='workers'): next(stream(config, 0, -1))


def test_no_two_corpora_share_a_stream():
    "numpy takes the seeds 5 and (5, 0) for the same; a corpus, the first of a stream and a lot must not."
    config = SigningConfig(sentences=6, queries_per_sign=None)
    alone, first = sign_corpus(config, 5), next(stream(config, 5))
    assert alone.gloss.tolist() != first.gloss.tolist()
    drawn = [generator(*name).random() for name in ((5,), (5, 0), (5, 1), (5, 0, 0), (0, 5), (5, 0, 1))]
    assert len(set(drawn)) == len(drawn)


def test_neighbouring_clips_have_noise_of_their_own():
    begin = 2.2 * np.arange(3000)
    clock = film_clock(begin, begin + 2, np.full(3000, 12.5))
    for noise in (wander(clock, 2., 1, np.random.default_rng(0)), rough(clock, .13, 1, np.random.default_rng(0))):
        last, following = noise[clock.first[1:] - 1, 0], noise[clock.first[1:], 0]
        assert abs(np.corrcoef(last, following)[0, 1]) < .08 and .9 < noise.std() < 1.1


def test_what_a_label_speaks_of_is_in_the_clip():
    "Even where the tracker lost the hand for the whole sign, and trimming would have cut it off."
    blind = replace(WORLDS['full'], tracker=replace(WORLDS['full'].tracker, lost=1.5, lost_clip=3.))
    config = SigningConfig(signs=60, sentence_signs=(1, 4), sentences=150, queries_per_sign=None, world=blind)
    made = sign_corpus(config, 3)
    plan, signers = draw_plan(config, generator(3)), draw_signers(config.signers, np.random.default_rng(0))
    assert made.present.mean() < .75
    frames = (made.segments[:, 2] - made.segments[:, 1])
    assert (frames == 1).mean() < .05 and np.median(frames) > 3 and len(plan.pairs) == len(made) and len(signers) == 8


def test_a_sign_alone_is_not_assimilated():
    for p in (0., 1.):
        keys = performed([[s] for s in range(40)], replace(STILL, assimilation=p))[0][1::3]
        if not p: book = keys
    assert np.allclose(np.ptp(keys[..., 9:], axis=1), np.ptp(book[..., 9:], axis=1), atol=1e-3)


def test_a_pause_is_no_part_of_its_sign():
    takes = record([[1, 2]] * 30, lexicon(5), draw_signers(2, np.random.default_rng(0)), np.zeros(30, int), np.zeros(30, bool), world=World(replace(STILL, pause=1.), tracker=PERFECT))
    for c in range(30):
        (_, _, end), (_, start, _) = takes.spans(c)
        assert end < start and takes.score.pause[takes.score.said.clip == c].sum() > 0


# What is done with signs

def test_a_clip_without_signs_is_refused():
    with pytest.raises(BadInput, match='at least one sign'): tokens([[1], []], [0, 0], [True, True])


def test_without_any_process_signs_are_as_the_book_has_them():
    keys, _, _ = performed([[5]], citation=True)
    from signspot.phonology import sign_keys
    book = sign_keys([lexicon(200)[5]])[0, :, 0]
    span = lambda x: np.ptp(x[:, :3], axis=0).max()
    assert span(keys[1, :, 0]) == pytest.approx(span(book), rel=.5, abs=.02) and np.abs(keys[1, :, 0, :3].mean(0) - book[:, :3].mean(0)).max() < .45


def test_reduction_shrinks_and_pace_quickens():
    mean_size = lambda style: np.ptp(performed([[s] for s in range(60)], style)[0][1::3, :, 0, :3], axis=1).max(1).mean()
    assert mean_size(replace(STILL, reduction=.5)) < .7 * mean_size(STILL)
    length = lambda style: performed([[s] for s in range(60)], style)[1].length[1::3].mean()
    assert length(replace(STILL, pace=.5)) == pytest.approx(.5 * length(STILL), rel=.05)


def test_assimilation_leans_towards_neighbours():
    "Between two equal signs, a third comes nearer to them."
    distance = lambda style: np.mean([np.linalg.norm((k := performed([[1, s, 1]], style)[0])[2, :, 0, :3].mean(0) - k[[1, 3], :, 0, :3].mean((0, 1))) for s in range(30, 60)])
    assert distance(replace(STILL, assimilation=1.)) < .75 * distance(STILL)


def test_repetitions_are_dropped_in_sentences_only():
    repeated = [i for i, s in enumerate(lexicon(200)) if s.beats > 1][:20]
    way = lambda style, citation: np.linalg.norm(np.diff(performed([[s] for s in repeated], style, citation)[0][1::3, :, 0, :3], axis=1), axis=-1).sum()
    less = replace(STILL, dropped=1.)
    assert way(less, False) < .9 * way(STILL, False) and way(less, True) == pytest.approx(way(STILL, True), rel=1e-4)


def test_the_other_hand_lingers_or_goes_down():
    signs = lexicon(200)
    both, one = (next(i for i, s in enumerate(signs) if s.hands == kind) for kind in ('symmetric', 'one'))
    lingering, falling = (performed([[both, one]] * 40, replace(STILL, lingering=p))[0] for p in (1., 0.))
    apart = lambda keys: np.linalg.norm(keys[2::4, :, 1, :3] - keys[1::4, -1:, 1, :3], axis=-1).mean(1)      # of the other hand in the second sign, from where the first left it
    assert (apart(lingering) < .35).mean() > .6 and (apart(falling) > .5).all()
    assert np.abs(falling[2::4, :, 1, :3].mean((0, 1)) - REST[:3]).max() < .6


def test_holds_pauses_fidgets_and_trimming():
    sequences = [[1, 2]] * 80
    none, some = performed(sequences)[1], performed(sequences, replace(STILL, holds=1., pause=.5))[1]
    assert none.hold.sum() == none.pause.sum() == 0 and (some.hold[~some.said.rest, 1] > .05).all() and .3 < (some.pause[~some.said.rest] > 0).mean() < .7 and not some.pause[some.said.rest].any()
    restless, quiet = (performed(sequences, replace(STILL, fidget=p))[0][0::4] for p in (1., 0.))
    assert np.ptp(quiet, axis=1).max() < 1e-5 and (np.ptp(restless[..., :3], axis=1).max((1, 2)) > .05).mean() > .9
    whole, cut = (performed([[1]] * 80, replace(STILL, trimmed=p), citation=True)[1] for p in (0., 1.))
    assert (whole.begin == whole.start[0::3]).all() and (np.abs(cut.begin - cut.start[1::3]) <= .2001).all()


def test_nobody_signs_two_signs_at_once():
    score = performed([list(range(10))] * 5, WORLDS['full'].style)[1]
    assert (np.diff(score.start) >= (score.length + score.pause)[:-1]).all() and (score.length > 0).all() and (score.end > score.begin).all()


def test_fingers_stay_within_their_limits():
    keys = performed([[s, s + 1] for s in range(0, 198, 2)], WORLDS['full'].style)[0]
    assert np.allclose(limit_joints(keys[..., 9:]), keys[..., 9:], atol=1e-5)


def test_the_curve_goes_through_its_moments_and_not_beyond():
    rng = np.random.default_rng(0)
    time, x = np.cumsum(rng.uniform(0, .2, 50) * (rng.random(50) > .2)), rng.normal(0, 1, (50, 3)).astype('float32')
    later = np.append(np.diff(time) > 1e-3, True) & np.append(True, np.diff(time) > 1e-3)
    assert np.allclose(Curve(time, x)(time)[later], x[later], atol=1e-4)
    fine = Curve(time, x)(np.linspace(time[0], time[-1], 5000))
    assert fine.max() <= x.max() + 1e-4 and fine.min() >= x.min() - 1e-4


def test_the_frame_rate_changes_what_is_seen_not_what_is_done():
    keys, score, signers = performed([[0, 3, 5]], WORLDS['full'].style)
    slow, fast = people_of(score, keys, signers, 12.5)[0], people_of(score, keys, signers, 50.)[0]
    assert np.allclose(fast[::4][:len(slow)], slow, atol=1e-4)


@pytest.mark.parametrize('fps', [10, 25, 60])
def test_cameras_have_their_frame_rate(fps):
    pose = record([[0, 1]], lexicon(5), draw_signers(1, np.random.default_rng(0)), [0], [False], fps=fps).pose(0)
    assert pose.fps == fps and len(pose) > fps


# Bodies, camera, tracker

def test_a_left_hander_is_a_right_hander_in_the_mirror():
    right, left = (people_of(score, keys, signers)[0] for keys, score, signers in (performed([[2]], left=x) for x in (False, True)))
    assert np.allclose(left[:, mirror_positions(PAPER_50)] * [-1, 1, 1], right, atol=1e-5)


def test_bones_keep_their_length():
    keys, score, signers = performed([[0, 1, 2]])
    people = people_of(score, keys, signers)[0]
    for a, b in PAPER_50.edges:
        if a >= 8 and b >= 8 and b - a == 1 and (a - 8) % 21 % 4 != 0:      # along a finger
            assert np.ptp(np.linalg.norm(people[:, a] - people[:, b], axis=-1)) < 1e-4
    assert np.ptp(np.linalg.norm(people[:, 3] - people[:, 5], axis=-1)) < 1e-4          # forearm


def test_mirrored_twice_is_itself():
    pose = record([[1]], lexicon(3), draw_signers(1, np.random.default_rng(0)), [0], [True]).pose(0)
    assert np.allclose(mirror(mirror(pose)).keypoints, pose.keypoints, atol=1e-3)


def test_noise_has_its_size_and_lasts():
    clock = film_clock(np.array([0.]), np.array([800.]), np.array([25.]))
    short, long = (wander(clock, every, 1, np.random.default_rng(0))[:, 0] for every in (.05, .5))
    after = lambda x, n: np.corrcoef(x[:-n], x[n:])[0, 1]
    uneven = rough(clock, .13, 1, np.random.default_rng(0))[:, 0]
    assert all(abs(after(uneven, n) - np.exp(-n / 25 / .13)) < .15 for n in (1, 2, 4, 8, 16)) and .9 < uneven.std() < 1.1
    assert .9 < short.std() < 1.1 and .9 < long.std() < 1.1 and after(long, 3) > .8 > .3 > abs(after(short, 3)) and abs(after(long, 40)) < .1


def test_spells_are_as_frequent_and_as_long_as_asked():
    begin = 5. * np.arange(400)
    clock = film_clock(begin, begin + 4, np.full(400, 25.))
    on = spells(clock, .5, .2, np.random.default_rng(0)).reshape(400, 100)
    assert on.mean() == pytest.approx(.5 * .2, rel=.3) and not on[:, 0].any() and not spells(clock, 0, .2, np.random.default_rng(0)).any()


@pytest.fixture(scope='module')
def filmed():
    keys, score, signers = performed([[s, s + 1, s + 2] for s in range(0, 120, 3)], WORLDS['full'].style)
    people, clock = people_of(score, keys, signers)
    return film(people, clock, Camera(), np.random.default_rng(0)), clock


def test_a_perfect_tracker_reports_what_the_camera_saw(filmed):
    seen_by, clock = filmed
    points, seen = track(*filmed, PERFECT, np.random.default_rng(0))
    outside = hand_state(*filmed).border < -.1
    assert np.allclose(points[seen], seen_by.pixels[seen], atol=1e-3) and np.array_equal(~seen[:, [8, 29]], outside) and seen[:, :8].all()


def test_a_tracker_trembles_more_on_quick_hands(filmed):
    seen_by, clock = filmed
    shaky = replace(PERFECT, shaky=1., astray=(0, 0, .2), drifting=(0, 1.))
    points, seen = track(*filmed, shaky, np.random.default_rng(0))
    off = np.linalg.norm(points - seen_by.pixels, axis=-1) / seen_by.unit[:, None]
    speed = hand_state(*filmed).speed[:, 1]
    inside = seen[:, 29]
    assert off[(speed > 2) & inside][:, RIGHT_HAND].mean() > 2 * off[(speed < .3) & inside][:, RIGHT_HAND].mean() > 0
    assert off[:, :2].mean() < .2 * off[inside][:, RIGHT_HAND].mean()                                # shoulders hardly


def test_hands_are_lost_where_it_is_difficult(filmed):
    state = hand_state(*filmed)
    lost = lost_hands(state, filmed[1], Tracker(), np.random.default_rng(0))
    inside = state.border > .2
    easy = inside & (state.speed < .5) & (state.apart > .5) & (state.face > .5) & (state.forearm > .6)
    assert lost[easy].mean() < .03 and lost[inside & (state.speed > 3)].mean() > 3 * lost[easy].mean() and lost[state.border < -.1].all()


@pytest.mark.parametrize('rate', ['doubled', 'swapped', 'frozen', 'bodiless'])
def test_mishaps_happen_when_asked_for(filmed, rate):
    calm, mishap = (track(*filmed, tracker, np.random.default_rng(1)) for tracker in (PERFECT, replace(PERFECT, **{rate: 1., 'spell': .3})))
    changed = (calm[0] != mishap[0]).any((1, 2)).mean()
    assert .05 < changed < .7 and np.isfinite(mishap[0]).all()


def test_a_squashed_picture_is_wider_or_narrower():
    wide = lambda squash: np.mean([np.ptp(record_tokens(tokens([[0]], [0], [True]), lexicon(2), draw_signers(1, np.random.default_rng(3)), World(camera=Camera(squash=squash, turned=(0, 0, 0))),
                                                        np.random.default_rng(s)).keypoints[0, :2, 0]) for s in range(3)])
    assert wide(.5) != pytest.approx(wide(0.), rel=.02)


def test_prepared_at_the_common_rate(corpus):
    assert corpus.fps == FPS and len(PHASE) == 13 and corpus.frames.dtype == np.float32


def test_any_rate_is_any_rate():
    takes = record_tokens(tokens([[0]] * 40, [0] * 40, [True] * 40), lexicon(2), draw_signers(1, np.random.default_rng(0)), WORLDS['any rate'], np.random.default_rng(0))
    assert takes.fps.min() < 15 and takes.fps.max() > 45 and (takes.frames / takes.fps < 8).all()
    made = sign_corpus(replace(SMALL, world='any rate'), 1)
    assert made.fps == FPS and np.isfinite(made.frames).all()
