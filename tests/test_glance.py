"The glance: the same whatever is beside it, as good as it is said to be, refused where it does not belong; and two looks see what the map sees."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from signspot.beyond import bundled_id
from signspot.corpus import Corpus
from signspot.dtw import mirrored
from signspot.glance import (AFTER, Glance, GlanceConfig, GlanceCourse, bundled_glance, chance, curve, glance_loss, glance_scores, glimpse, load_glance, peaks, pieces_of, save_glance,
                             seen_by, signs_of, sketch, skim, teach_glance, two_looks, windows_around)
from signspot.matcher import Matcher, MatcherConfig, bundled
from signspot.pose import BadInput
from signspot.prepare import Prepared
from signspot.seek import NEAR, answer, ask_for, read, seek
from signspot.signing import SigningConfig, sign_corpus
from signspot.teach import RECIPE, batch_of, batches, make_lesson

TINY = GlanceConfig(hidden=16, channels=16, size=8)


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return sign_corpus(SigningConfig(signs=200, sentence_signs=(1, 8), sentences=100, queries_per_sign=None, part='validation'), 46)


@pytest.fixture(scope='module')
def model() -> Matcher:
    return bundled()


@pytest.fixture(scope='module')
def glance() -> Glance:
    return bundled_glance()


@pytest.fixture(scope='module')
def long(corpus) -> Prepared:
    "All sentences, end to end."
    clips = [corpus.prepared(int(i)) for i in np.flatnonzero(corpus.kind == 'sentence')]
    return Prepared(np.concatenate([clip.frames for clip in clips]), np.concatenate([clip.present for clip in clips]), clips[0].fps)


def ask(glance: Glance, model: Matcher, *examples: Prepared):
    return sketch(glance, ask_for(model, list(examples)))


# The same answer

@pytest.mark.parametrize('window', [1, 17, 500])
def test_windows_change_nothing(model, glance, long, window):
    clip = Prepared(long.frames[:300], long.present[:300], long.fps)
    assert np.allclose(skim(glance, read(model, clip, window=100), window).vectors, skim(glance, read(model, clip)).vectors, atol=1e-4)


def test_what_comes_long_after_changes_nothing(model, glance, long):
    reach = glance.config.around + model.config.blur
    some, more = (skim(glance, read(model, Prepared(long.frames[:n], long.present[:n], long.fps))).vectors for n in (200, 400))
    kept = slice(0, 200 - reach)
    assert np.abs(some[kept] - more[kept]).mean() < .05   # sizes of hands are measured on the whole clip, so not the same to the last digit


def test_padding_in_a_batch_changes_nothing(glance):
    vector = torch.randn(1, 40, 192)
    padded = torch.cat([vector, torch.randn(1, 25, 192)], 1)
    alone, beside = glance.of_frames(vector, torch.ones(1, 40, dtype=torch.bool)), glance.of_frames(padded, torch.arange(65)[None] < 40)
    assert torch.allclose(alone, beside[:, :40], atol=1e-5)


def test_a_query_does_not_depend_on_others(glance):
    vector = torch.randn(2, 5, 16, 192)
    assert torch.allclose(glance.of_query(vector)[:, 2], glance.of_query(vector[:, 2:3])[:, 0], atol=1e-5)


def test_vectors_are_of_length_one(model, glance, corpus, long):
    assert np.allclose(np.linalg.norm(skim(glance, read(model, long)).vectors, axis=1), 1, atol=1e-4)
    assert np.allclose(np.linalg.norm(ask(glance, model, corpus.prepared(0), corpus.prepared(1)).vectors, axis=0), 1, atol=1e-4)


def test_the_order_of_examples_and_their_hand_change_nothing(model, glance, corpus, long):
    skimmed, (one, other) = skim(glance, read(model, long)), (corpus.prepared(i) for i in (0, 1))
    score = glimpse(ask(glance, model, one, other), skimmed)
    assert glimpse(ask(glance, model, other, one), skimmed) == pytest.approx(score, abs=1e-4)
    assert glimpse(ask(glance, model, mirrored(one), mirrored(other)), skimmed) == pytest.approx(score, abs=1e-3)


def test_query_and_signing_in_a_mirror_are_about_as_alike(model, glance, corpus):
    here, there = [], []
    for q, s in corpus.pairs[:40].tolist():
        query, sentence = corpus.prepared(q), corpus.prepared(s)
        here.append(glimpse(ask(glance, model, query), skim(glance, read(model, sentence))))
        there.append(glimpse(ask(glance, model, mirrored(query)), skim(glance, read(model, mirrored(sentence)))))
    assert np.corrcoef(here, there)[0, 1] > .9


def test_a_glimpse_is_the_highest_of_the_curve(model, glance, corpus, long):
    asked, skimmed = ask(glance, model, corpus.prepared(0)), skim(glance, read(model, long))
    along = curve(asked, skimmed)
    assert along.shape == (len(long),) and glimpse(asked, skimmed) == pytest.approx(along.max(), abs=1e-6) and np.abs(along).max() <= 1 + 1e-5


# As good as it is said to be

def test_it_finds_signs_it_has_never_seen(model, glance, corpus):
    score = glance_scores(model, glance, corpus)
    assert roc_auc_score(corpus.label, score) > .95
    assert np.abs(chance(glance, score) - corpus.label).mean() < .25


def test_what_is_published_is_above_the_libraries(root):
    made = json.loads((root/'figures'/'glance.json').read_text())
    beside = made['ROC-AUC beside the libraries']
    assert made['weights'] == bundled_id() and made['faster than the fastest library'] >= 50
    assert all(beside['glance'][1] > beside[who][2] for who in ('tslearn', 'dtaidistance', 'fastdtw'))


# Teaching

def test_ten_pairs_are_learned_by_heart(model):
    torch.manual_seed(0)
    lesson = make_lesson(RECIPE, 100_001)
    chosen = batches(lesson.corpus, 10)[40]
    batch, glance = batch_of(lesson, chosen), Glance(TINY)
    vectors, signs = seen_by(model, batch), signs_of(lesson.corpus, chosen, batch.mask.shape[1])
    optimiser = torch.optim.AdamW(glance.parameters(), lr=5e-3)
    for _ in range(80):
        loss = glance_loss(glance, *vectors, batch.mask, signs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < .1


def test_occurrences_are_where_the_pairs_say(corpus):
    lesson = make_lesson(RECIPE, 100_002)
    chosen = batches(lesson.corpus, 100)[3]
    batch = batch_of(lesson, chosen)
    signs = signs_of(lesson.corpus, chosen, batch.mask.shape[1])
    for pair, (q, s) in enumerate(batch.pairs.tolist()):
        shown = torch.isin(signs.frame[s], signs.same[q].nonzero()[:, 0])   # (T,)
        assert shown.any() or not batch.ends[pair].any()
        assert not (shown & ~batch.mask[s]).any()


def test_teaching_twice_is_the_same(model):
    one, other = (teach_glance(model, TINY, GlanceCourse(lessons=1, warmup=1))[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


# Refusals

def test_what_was_saved_is_read(tmp_path, glance):
    save_glance(glance, tmp_path/'glance.safetensors')
    again = load_glance(tmp_path/'glance.safetensors', bundled_id())
    assert again.config == glance.config and all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), glance.state_dict().values()))


def refused(path, matcher: str = '') -> str:
    "What is said."
    with pytest.raises(BadInput) as caught: load_glance(path, matcher or bundled_id())
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_weights_that_cannot_be_used_are_refused_in_a_line(tmp_path, glance):
    path = tmp_path/'glance.safetensors'
    assert 'holds no glance' in refused(path)
    save_glance(glance, path)
    whole = path.read_bytes()
    assert 'belongs to matcher' in refused(path, 'another')
    for damaged in (b'', b'nothing', whole[:1000], whole[:-10]):
        path.write_bytes(damaged)
        assert 'damaged' in refused(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    save_file(tensors, path)
    assert 'damaged' in refused(path)                                  # no settings
    told = {'glance': json.dumps(replace(glance.config, size=4).__dict__)}
    save_file(tensors, path, told)
    assert 'damaged' in refused(path)                                  # of other sizes
    save_file(tensors | {'scale': torch.tensor(float('nan'))}, path, {'glance': json.dumps(glance.config.__dict__)})
    assert 'not all are numbers' in refused(path)


def test_vectors_of_another_matcher_are_refused(glance, corpus):
    other = Matcher(MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8)).eval()
    with pytest.raises(BadInput, match='192 numbers, .* 32'): skim(glance, read(other, corpus.prepared(0)))
    with pytest.raises(BadInput, match='192 numbers, .* 32'): ask(glance, other, corpus.prepared(0))


@pytest.mark.parametrize('wrong', [{'size': 0}, {'kernel': 8}, {'hidden': 1.5}, {'d': 10_000}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInput, match='glance'): GlanceConfig(**wrong)


def test_a_query_of_nothing_and_no_places_are_refused(model, glance, corpus, long):
    with pytest.raises(BadInput, match='at least one clip'): ask(glance, model)
    with pytest.raises(BadInput, match='places'): two_looks(model, ask(glance, model, corpus.prepared(0)), skim(glance, read(model, long)), 0)


# Two looks

@settings(deadline=None, max_examples=50)
@given(arrays('float64', st.integers(1, 60), elements=st.floats(-1, 1)), st.integers(1, 8))
def test_peaks_are_higher_than_what_is_near(along, most):
    found = peaks(along, most)
    assert 1 <= len(found) <= most and (np.diff(along[found]) <= 0).all() and along[found[0]] == along.max()
    for at in found: assert along[at] == along[max(0, at - NEAR):at + NEAR + 1].max()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=9), st.integers(0, 20), st.integers(0, 20))
def test_windows_hold_every_place_and_do_not_touch(places, before, after):
    found = windows_around(np.array(places), before, after, 100)
    assert all(any(w.start <= max(0, p - before) and min(100, p + after + 1) <= w.stop for w in found) for p in places)
    assert all(a.stop < b.start for a, b in zip(found, found[1:])) and found[0].start >= 0 and found[-1].stop <= 100


def test_a_window_is_asked_as_the_whole_is(model, glance, corpus, long):
    "Where a window holds all that a path depends on, the map says of it what it says of the whole."
    signing, asked = read(model, long), ask(glance, model, corpus.prepared(0))
    look = slice(300, 400)
    whole, part = seek(model, asked.query, signing), seek(model, asked.query, pieces_of(signing, [look])[0])
    kept = slice(model.config.back, 100 - sum(model.config.spread))
    assert torch.allclose(part.total[0, kept], whole.total[0, look][kept], atol=1e-3)
    assert torch.allclose(part.begin[0, kept] + look.start, whole.begin[0, look][kept], atol=1e-2)


def test_two_looks_are_the_answers_of_their_windows(model, glance, corpus, long):
    skimmed, asked = skim(glance, read(model, long)), ask(glance, model, corpus.prepared(0))
    said = two_looks(model, asked, skimmed, places=3)
    windows = windows_around(peaks(curve(asked, skimmed), 3), model.config.back, AFTER + sum(model.config.spread), len(long))
    each = [answer(model, asked.query, piece) for piece in pieces_of(skimmed.signing, windows)]
    assert said.present == max(one.present for one in each) and len(said.score) == len(said.span) == sum(len(one.score) for one in each)
    assert all(any(w.start <= a and b <= w.stop for w in windows) for a, b in said.span)


def test_two_looks_at_something_short_are_the_maps_answer(model, glance, corpus):
    query, sentence = (corpus.prepared(int(i)) for i in corpus.pairs[0])
    clip = Prepared(sentence.frames[:12], sentence.present[:12], sentence.fps)
    asked, skimmed = ask(glance, model, query), skim(glance, read(model, clip))
    one, other = two_looks(model, asked, skimmed), answer(model, asked.query, skimmed.signing)
    assert one.present == pytest.approx(other.present, abs=1e-5) and np.allclose(one.span, other.span, atol=1e-3)
