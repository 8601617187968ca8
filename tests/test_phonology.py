"The phonology makes signs that hands can make, that obey Battison's conditions, and that stay in the part they belong to."
import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from signspot.phonology import (
    BEATS, FAMILIES, FEATURES, HANDSHAPES, INVENTORY, LIMITS, PARAMETERS, PATHS, PHASE, PLACES, RELAXED, UNMARKED, VALUES, Inventory, any_pair, comfort,
    encode, decode, hand_points, lexicon, limit_joints, may_change, minimal_pair, neighbours, orientation_axes, paired_lexicon, part_of, progress,
    sign_keys, well_formed)
from signspot.pose import BadInput

SIGNS = lexicon(4000, seed=11)
KEYS = sign_keys(SIGNS)
SMALL = Inventory(handshapes=('B', '1', 'S', '5'), places=('chin', 'chest', 'centre', 'palm'), orientations=('up/in', 'out/in', 'in/back'), paths=('hold', 'down', 'circle'),
                  turns=('none',), locals=('none', 'nod'), sizes=('small', 'large'), beats=(1, 2))


def differences(a, b):
    return [name for name, x, y in zip(PARAMETERS, a.parameters, b.parameters) if x != y]


# ---------------------------------------------------------------- hands

def within_limits(joints):
    return np.array_equal(limit_joints(joints), joints)


def test_every_handshape_is_within_the_limits():
    assert len(HANDSHAPES) >= 40
    assert all(within_limits(joints) for joints in [*HANDSHAPES.values(), RELAXED])


def test_limits_are_idempotent_and_leave_no_finger_behind():
    joints = np.random.default_rng(0).normal(.6, 1.2, (20000, 11))
    limited = limit_joints(joints)
    assert within_limits(limited) and limited.dtype == np.float32
    assert (limited >= LIMITS[0]).all() and (limited <= LIMITS[1]).all()
    bases = limited[:, 0:8:2]
    assert (np.abs(np.diff(bases, axis=1)) <= np.array([1.25, 1.05, 1.05]) + 1e-6).all()
    assert limit_joints(joints.reshape(100, 200, 11)).shape == (100, 200, 11)


def test_between_any_two_handshapes_there_are_handshapes():
    shapes = np.stack(list(HANDSHAPES.values()))
    for part in (.25, .5, .75):
        between = limit_joints(shapes[:, None] * (1 - part) + shapes * part)
        assert within_limits(between)
        assert np.abs(between - (shapes[:, None] * (1 - part) + shapes * part)).max() < .4     # the limits hardly have to step in


def test_limits_do_not_touch_what_they_are_given():
    joints = np.full((2, 11), 9.0, np.float32)
    limit_joints(joints)
    assert (joints == 9).all()


def test_bones_keep_their_lengths():
    joints = limit_joints(np.random.default_rng(1).normal(.6, 1, (3000, 11)))
    points = hand_points(joints)
    assert points.shape == (3000, 21, 3) and points.dtype == np.float32 and np.isfinite(points).all()
    bones = [np.linalg.norm(points[:, i + 1] - points[:, i], axis=-1) for first in (1, 5, 9, 13, 17) for i in range(first, first + 3)]
    assert max(np.ptp(bone) for bone in bones) < 1e-5 and (points[:, 0] == 0).all()


def test_hand_points_is_the_textbook_chain():
    "Written out finger by finger in double precision."
    from signspot.phonology import ASIDE, BONES, KNUCKLES
    joints = limit_joints(np.random.default_rng(2).normal(.6, .8, (50, 11)))
    points = hand_points(joints)
    for row, hand in zip(joints.astype(float), points):
        for finger in range(4):
            at, bend, aside = np.array([*KNUCKLES[finger], 0]), 0.0, float(ASIDE[finger]) * row[10]
            for bone, turn in enumerate((row[2 * finger], row[2 * finger + 1], row[2 * finger + 1] * 2 / 3)):      # the last joint: two thirds of the middle one
                bend += turn
                at = at + BONES[finger, bone] * np.array([np.cos(bend) * np.sin(aside), np.cos(bend) * np.cos(aside), np.sin(bend)])
                assert np.allclose(hand[5 + 4 * finger + bone + 1], at, atol=1e-5)


def test_hand_points_of_no_hands():
    assert hand_points(np.zeros((0, 11))).shape == (0, 21, 3)


def test_handshapes_differ_in_some_picture():
    points = hand_points(np.stack(list(HANDSHAPES.values())))
    views = np.array([[[np.cos(a), 0], [0, 1], [np.sin(a), 0]] for a in (0, .8, -.8, 1.57)])                       # front, slanted, side
    seen = np.einsum('nkc,vcd->vnkd', points, views)
    apart = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1).max((0, 3)) + np.eye(len(points))
    assert apart.min() > .1       # hand lengths: nearly two centimetres


def test_thumb_and_finger_meet():
    points = hand_points(np.stack([HANDSHAPES[name] for name in ('O', 'F', 'flat O', 'baby O')]))
    assert np.linalg.norm(points[:, 4] - points[:, 8], axis=-1).max() < .1
    open_hand = hand_points(HANDSHAPES['5'][None])[0]
    assert np.linalg.norm(open_hand[4] - open_hand[8]) > .5


def test_a_hand_takes_less_than_three_microseconds():
    joints = np.repeat(np.stack(list(HANDSHAPES.values())), 1000, 0)
    best = min(timed(lambda: hand_points(joints)) for _ in range(5))
    assert best / len(joints) < 3e-6


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---------------------------------------------------------------- inventories and the rules of a sign

def test_the_inventory_is_as_rich_as_promised():
    assert len(PLACES) >= 25 and len(PATHS) >= 20 and {place.region for place in PLACES.values()} == {'head', 'neck', 'trunk', 'arm', 'hand', 'space'}
    assert set(UNMARKED) == {'B', 'A', 'S', 'C', 'O', '1', '5'}
    assert len(PHASE) == 13 and PHASE[0] == 0 and PHASE[-1] == 1


def test_orientations_are_right_angles():
    for orientation in VALUES['orientation']:
        fingers, palm = orientation.split('/')
        assert orientation_axes(fingers, palm).shape == (6,)
    for axis in ('down', 'in', 'up', 'back', 'out', 'aside'):
        assert orientation_axes(axis, 'in').shape == (6,)


def test_handshapes_change_only_in_opening():
    "Brentari: the selected fingers stay; they open or close. Ours: a fist opens into a straight shape, and back."
    for start, end in itertools.product(FEATURES, FEATURES):
        if not may_change(start, end): continue
        a, b = FEATURES[start], FEATURES[end]
        assert (a.selected == b.selected and a.flexion != b.flexion) or {start, end} & {'S', 'A'} and 'straight' in (a.flexion, b.flexion)
    assert all(may_change(b, a) for a, b in itertools.product(FEATURES, FEATURES) if may_change(a, b))
    assert all(sign.change == 'none' or may_change(sign.handshape, sign.change) for sign in SIGNS)


def test_battison():
    for sign in lexicon(6000, seed=4):
        if sign.hands == 'base': assert sign.base in UNMARKED or sign.base == sign.handshape
        else: assert sign.base == 'none'
        assert (sign.hands == 'base') == bool(PLACES[sign.place].base)


def test_symmetric_hands_do_the_same():
    symmetric = np.array([sign.hands == 'symmetric' for sign in SIGNS])
    assert np.array_equal(KEYS[symmetric, :, 0], KEYS[symmetric, :, 1])


def test_resting_hands_rest():
    base = np.array([sign.hands == 'base' for sign in SIGNS])
    assert (KEYS[base][:, :, 1] == KEYS[base][:, :1, 1]).all()
    for sign, keys in zip(np.array(SIGNS, dtype=object)[base], KEYS[base]):
        assert np.array_equal(keys[0, 1, 9:], HANDSHAPES[sign.base])


def test_alternating_hands_are_half_a_cycle_apart():
    "Whatever one hand does, the other does half a cycle later: same places, and they meet each other's phase."
    alternating = [sign for sign in SIGNS if sign.hands == 'alternating']
    assert len(alternating) > 100
    keys = sign_keys(alternating, beats=np.ones(len(alternating), int))
    first, second = keys[:, :12, 0, :3], keys[:, :12, 1, :3]
    assert np.allclose(np.roll(first, 6, axis=1), second, atol=2e-5)
    assert not np.allclose(first, second, atol=.05)


def test_nothing_jumps():
    "From one moment to the next a hand moves at most a twelfth of its whole way times the beats, and a little for the pace."
    steps = np.linalg.norm(np.diff(KEYS[..., :3], axis=1), axis=-1)
    assert np.nanmax(steps) < .45
    for p, beats, hand in itertools.product(PATHS.values(), BEATS, range(3)):
        if p.family == 'compound' and (beats > 1 or hand): continue
        way = np.linalg.norm(np.diff(p.points, axis=0), axis=1).sum()
        rounds = beats if p.family == 'closed' else 2 * beats
        step = np.linalg.norm(np.diff(p.at(progress(p.family, beats, hand)), axis=0), axis=1).max()
        assert step <= 1.6 * way * rounds / 12 + 1e-9


def test_no_two_moments_turn_the_hand_over():
    "Directions turn by less than a right angle and a half between two moments, so that an interpolation never passes through zero."
    for part in (slice(3, 6), slice(6, 9)):
        cosine = (KEYS[:, 1:, 0, part] * KEYS[:, :-1, 0, part]).sum(-1)
        assert cosine.min() > -.3


def test_keys_are_finite_and_idle_hands_are_not_there():
    one = np.array([sign.hands == 'one' for sign in SIGNS])
    assert KEYS.shape == (len(SIGNS), 13, 2, 20) and KEYS.dtype == np.float32
    assert np.isfinite(KEYS[:, :, 0]).all() and np.isfinite(KEYS[~one]).all() and np.isnan(KEYS[one][:, :, 1]).all()
    for part in (slice(3, 6), slice(6, 9)): assert np.allclose(np.linalg.norm(KEYS[:, :, 0, part], axis=-1), 1, atol=1e-5)
    assert np.abs((KEYS[:, :, 0, 3:6] * KEYS[:, :, 0, 6:9]).sum(-1)).max() < 1e-5


def test_joints_of_keys_are_within_limits():
    assert np.allclose(limit_joints(KEYS[:, :, 0, 9:]), KEYS[:, :, 0, 9:], atol=1e-6)


def test_keys_of_one_sign_are_those_among_many():
    for i in (0, 17, 2222): assert np.array_equal(sign_keys([SIGNS[i]])[0], KEYS[i], equal_nan=True)


def test_keys_of_no_signs():
    assert sign_keys([]).shape == (0, 13, 2, 20)


def test_beats_can_be_overridden_but_not_doubled_on_a_zigzag():
    from dataclasses import replace
    sign = next(s for s in SIGNS if s.path == 'circle' and s.beats == 1 and s.local == 'none')
    assert np.array_equal(sign_keys([sign] * 3, beats=[1, 2, 3]), sign_keys([replace(sign, beats=b) for b in BEATS]), equal_nan=True)
    assert not np.allclose(sign_keys([sign], [1])[..., 0, :3], sign_keys([sign], [2])[..., 0, :3])
    assert np.array_equal(sign_keys([sign], [9]), sign_keys([sign], [3]), equal_nan=True)
    zigzag = next(s for s in SIGNS if s.path == 'zigzag')
    assert np.array_equal(sign_keys([zigzag], [3]), sign_keys([zigzag]), equal_nan=True)


def test_hands_stay_out_of_the_body_and_off_each_other():
    from signspot.phonology import AWAY, POINT, POSITION
    touching = [i for i, sign in enumerate(SIGNS) if PLACES[sign.place].region != 'space' and sign.hands in ('one', 'base')]
    where = np.array([POSITION['place'][SIGNS[i].place] for i in touching])
    height = ((KEYS[touching][:, :, 0, :3] - POINT[where][:, None]) * AWAY[where][:, None]).sum(-1)
    assert height.min() > .05
    contact = np.array([SIGNS[i].contact != 'none' for i in touching])
    nearest = height.min(1)
    assert np.median(nearest[~contact]) - np.median(nearest[contact]) > .15       # those that touch come nearer
    both = [i for i, sign in enumerate(SIGNS) if sign.hands in ('symmetric', 'alternating')]
    assert KEYS[both][..., 0].max() < 0                                           # neither hand crosses the middle


def test_contact_is_where_it_is_said_to_be():
    from signspot.phonology import AWAY, POINT, POSITION
    for when, nearest in (('beginning', 0), ('end', 12)):
        for sign, keys in ((s, k) for s, k in zip(SIGNS, KEYS) if s.contact == when and s.hands == 'one' and s.beats == 1):
            i = POSITION['place'][sign.place]
            height = (keys[:, 0, :3] - POINT[i]) @ AWAY[i]
            assert height.argmin() == nearest or height[nearest] < height.min() + 1e-5


def test_silly_signs_are_refused_or_rare():
    ease = comfort(encode(SIGNS))
    assert (ease > 0).all() and np.mean(ease < .25) < .06 and well_formed(encode(SIGNS)).all()


def test_every_sign_moves_and_every_sign_is_a_different_movement():
    moved = np.nanmax(np.abs(np.diff(KEYS, axis=1)), axis=(1, 2, 3))
    assert moved.min() > .01
    flat = np.nan_to_num(KEYS[:1500].reshape(1500, -1), nan=9.0).round(3)
    assert len(np.unique(flat, axis=0)) == 1500


def test_a_large_lexicon_is_quick_and_has_no_doubles():
    start = time.perf_counter()
    signs = lexicon(100_000, part='train')
    assert time.perf_counter() - start < 30       # about two seconds on a quiet core
    assert len({sign.parameters for sign in signs}) == len({sign.gloss for sign in signs}) == 100_000
    assert sign_keys(signs[:10_000]).shape == (10_000, 13, 2, 20)


@pytest.mark.parametrize('part', [None, 'train', 'validation', 'test'])
def test_a_smaller_lexicon_begins_a_larger_one(part):
    assert lexicon(7, 3, part=part) == lexicon(900, 3, part=part)[:7] == lexicon(5000, 3, part=part)[:7]
    assert lexicon(7, 3, part=part) != lexicon(7, 4, part=part)


def test_parts_never_share_a_sign():
    drawn = {part: {sign.parameters for seed, n in ((0, 3000), (1, 500), (99, 1200)) for sign in lexicon(n, seed, part=part)} for part in ('train', 'validation', 'test')}
    for a, b in itertools.combinations(drawn.values(), 2): assert not a & b
    assert all(part_of(sign) == 'test' for sign in lexicon(500, 8, part='test'))
    shares = np.unique([part_of(sign) for sign in SIGNS], return_counts=True)
    assert dict(zip(shares[0], (shares[1] / len(SIGNS)).round(1))) == {'test': .1, 'train': .8, 'validation': .1}


def test_small_inventories_keep_their_parts_apart():
    "Where the space of signs is small, chance alone would make the parts meet."
    tiny = Inventory(handshapes=('B', '1'), places=('chin', 'palm'), orientations=('up/in',), paths=('hold', 'down'), turns=('none',), locals=('none',), beats=(1, 2))
    parts = {part: exhaust(tiny, part) for part in ('train', 'validation', 'test')}
    for a, b in itertools.combinations(parts.values(), 2): assert not a & b
    assert set.union(*parts.values()) == exhaust(tiny, None) and all(parts.values())


def exhaust(inventory, part):
    "All signs of a small inventory."
    from signspot.phonology import candidates
    return {parameters for lot in candidates(0, inventory, part) for parameters in lot}


def test_the_lexicon_does_not_depend_on_pythons_hash():
    code = 'from signspot.phonology import lexicon; import zlib; print(zlib.crc32(repr(lexicon(200, 5, part="test")).encode()))'
    seen = {subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONHASHSEED': seed}, capture_output=True, text=True, check=True).stdout for seed in ('1', '2')}
    assert len(seen) == 1


@pytest.mark.parametrize('seed', range(4))
def test_what_is_held_out_never_appears(seed):
    train, held_out = INVENTORY.split(1 / 3, seed)
    for mine, theirs in ((train, held_out), (held_out, train)):
        for sign in (*lexicon(1200, seed, mine), *paired_lexicon(40, seed, mine)):
            assert not {sign.handshape, sign.handshape_end, sign.base} & set(theirs.handshapes)
            assert sign.place in mine.places and sign.path in mine.paths
    for field, family in FAMILIES.items():
        assert sorted(getattr(train, field) + getattr(held_out, field)) == sorted(getattr(INVENTORY, field))
        both = set(family.values()) - {'hold', 'neck'}                       # families of one cannot be shared out
        assert {family[name] for name in getattr(held_out, field)} == both and both <= {family[name] for name in getattr(train, field)}


def test_a_split_can_be_split_again():
    train, _ = INVENTORY.split(seed=1)
    again, validation = train.split(seed=2)
    assert not set(again.handshapes) & set(validation.handshapes) and set(validation.handshapes) < set(train.handshapes)
    assert lexicon(50, 0, validation)


def test_distribution():
    share = lambda test: np.mean([test(sign) for sign in SIGNS])
    assert .5 < share(lambda s: s.hands == 'one') < .62
    assert .4 < share(lambda s: s.handshape in UNMARKED) < .6 and .4 < share(lambda s: PLACES[s.place].region == 'space') < .6
    assert .15 < share(lambda s: s.change != 'none') < .35 and share(lambda s: s.path != 'hold') > .8 and share(lambda s: s.beats == 1) > .55


def test_codes_there_and_back():
    assert all(decode(row, sign.gloss) == sign for row, sign in zip(encode(SIGNS[:200]), SIGNS))
    assert encode([]).shape == (0, len(PARAMETERS))


# ---------------------------------------------------------------- minimal pairs

def test_neighbours_are_complete():
    "Against every pair compared by hand, where pairs are many."
    signs = lexicon(800, inventory=SMALL)
    codes = encode(signs)
    brute = [np.flatnonzero((codes != row).sum(1) == 1) for row in codes]
    found = neighbours(signs)
    assert len(found) == 800 and all(np.array_equal(a, b) for a, b in zip(found, brute)) and sum(map(len, found)) > 2000


def test_neighbours_of_few():
    assert neighbours([]) == [] or len(neighbours([])) == 0 or neighbours([])[0].size == 0
    assert [n.tolist() for n in neighbours(SIGNS[:1])] == [[]]
    assert [n.tolist() for n in neighbours([SIGNS[0], SIGNS[0]])] == [[], []]       # a sign is no neighbour of itself


@pytest.mark.parametrize('parameter', PARAMETERS)
def test_minimal_pairs_change_what_is_asked_and_nothing_else(parameter):
    rng, made = np.random.default_rng(0), 0
    for sign in SIGNS[:300]:
        try: other = minimal_pair(sign, parameter, rng)
        except BadInput as refusal:
            assert parameter in str(refusal)
            continue
        made += 1
        assert differences(sign, other) == [parameter] and part_of(other) == part_of(sign) and well_formed(encode([other])).all()
    assert made > (20 if parameter == 'base' else 60)


def test_minimal_pairs_stay_in_the_inventory_and_repeat():
    train, held_out = INVENTORY.split(seed=3)
    for sign in lexicon(60, 1, train):
        other = any_pair(sign, np.random.default_rng(5), train)
        if other: assert not {other.handshape, other.handshape_end, other.base} & set(held_out.handshapes) and other.place in train.places and other.path in train.paths
    sign = SIGNS[0]
    assert minimal_pair(sign, 'handshape', 7) == minimal_pair(sign, 'handshape', 7)


@pytest.mark.parametrize('part', [None, 'test'])
def test_paired_lexicons(part):
    signs = paired_lexicon(301, 2, part=part)
    assert len(signs) == len({sign.parameters for sign in signs}) == len({sign.gloss for sign in signs}) == 301 and signs[:20] == paired_lexicon(20, 2, part=part)
    for a, b in zip(signs[:300:2], signs[1:300:2]): assert len(differences(a, b)) == 1 and not {'size', 'beats'} & set(differences(a, b))
    if part: assert all(part_of(sign) == part for sign in signs)


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize('work, words', [
    (lambda: lexicon(0), 'at least one sign'),
    (lambda: lexicon(-3), 'at least one sign'),
    (lambda: lexicon(3, part='tset'), 'tset'),
    (lambda: lexicon(5000, inventory=Inventory(handshapes=('B',), places=('chin',), orientations=('up/in',), paths=('down',))), 'makes only about'),
    (lambda: lexicon(1, inventory=Inventory(places=('palm',), hands=('one',))), 'makes only about 0'),
    (lambda: Inventory(handshapes=('B', 'Q')), "'Q'"),
    (lambda: Inventory(handshapes='B'), 'several names'),
    (lambda: Inventory(beats=(4,)), '4'),
    (lambda: INVENTORY.split(0), 'between 0 and 1'),
    (lambda: INVENTORY.split(1.5), 'between 0 and 1'),
    (lambda: minimal_pair(SIGNS[0], 'colour'), 'colour'),
    (lambda: minimal_pair(SIGNS[0], 'place', inventory=Inventory(places=(SIGNS[0].place,))), 'no minimal pair'),
    (lambda: paired_lexicon(400, inventory=Inventory(handshapes=('B',), places=('chin',), orientations=('up/in',), turns=('none',), paths=('down',))), 'makes only'),
])
def test_bad_input(work, words):
    with pytest.raises(BadInput, match='.') as refusal: work()
    assert words in str(refusal.value) and '\n' not in str(refusal.value)
