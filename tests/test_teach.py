"Teaching: lessons that share nothing with what is tested, targets that say what the corpus says, a course that goes on where it was stopped."
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from signspot.beyond import calibration_error
from signspot.harm import harm
from signspot.matcher import PLACE, SEEN, SHAPE, WIDTH, Matcher, MatcherConfig, bundled, probability
from signspot.phonology import VALUES, encode
from signspot.pose import BadInput
from signspot.signing import SigningConfig, lexicon_for, sign_corpus
from signspot.teach import (LESSON, RECIPE, TeachConfig, as_lesson, batch_of, batches, codes_of, examine, first_look, fitted, joined, lesson_config, make_lesson, make_sights, noisy, occurrences_of, read_hands,
                            report, rob, round_of, seen_in, set_scale, targets, teach, validation_exams)

SMALL = MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8)


@pytest.fixture(scope='module')
def lesson():
    return make_lesson(TeachConfig(), 1)


def test_a_lesson_is_always_the_same_and_no_other(lesson):
    again, other = make_lesson(TeachConfig(), 1), make_lesson(TeachConfig(seed=1), 1)
    assert np.array_equal(lesson.hands, again.hands) and np.array_equal(lesson.codes, again.codes)
    assert not np.array_equal(lesson.hands[:100], other.hands[:100]) and len(lesson.corpus) == LESSON


def test_no_lesson_shares_a_sign_with_an_exam():
    held_out = {sign.parameters for part in ('validation', 'test') for sign in lexicon_for(SigningConfig(signs=300, part=part))}
    for n in range(8):
        config = lesson_config(RECIPE, n)
        assert config.part == 'train' and not held_out & {sign.parameters for sign in lexicon_for(config)}
    assert all(clip.startswith('V') for clip in validation_exams(4)['unseen'].segment_gloss)


def test_occurrences_are_those_of_the_corpus(lesson):
    corpus = lesson.corpus
    assert set(lesson.spans[:, 0]) == set(np.flatnonzero(corpus.label == 1))
    for p, a, b in lesson.spans[:50]:
        of = corpus.segments[:, 0] == corpus.pairs[p, 1]
        assert [a, b] in corpus.segments[of & (corpus.segment_gloss == corpus.gloss[corpus.pairs[p, 0]]), 1:].tolist()
    none = corpus.subset(corpus.label == 0)
    assert len(occurrences_of(none)) == 0 and not batch_of(as_lesson(none, 16), np.arange(5)).ends.any()


def test_codes_are_the_signs_parameters(lesson):
    config = lesson_config(TeachConfig(), 1)
    codes = encode(lexicon_for(config))
    position = {sign.gloss: i for i, sign in enumerate(lexicon_for(config))}
    for (clip, a, b), gloss in list(zip(lesson.corpus.segments, lesson.corpus.segment_gloss))[:40]:
        assert (lesson.codes[lesson.corpus.start[clip] + (a + b) // 2] == codes[position[gloss]]).all()
    assert ((lesson.codes >= -1) & (lesson.codes < [len(v) for v in VALUES.values()])).all() and (codes_of(lesson.corpus, config) == lesson.codes).all()


def test_a_batch_is_its_pairs(lesson):
    corpus, chosen = lesson.corpus, np.array([7, 3, 400])
    batch = batch_of(lesson, chosen)
    for n, p in enumerate(chosen):
        q, s = batch.pairs[n].tolist()
        length = corpus.length[corpus.pairs[p, 1]]
        assert np.array_equal(batch.queries[q], lesson.queries[corpus.pairs[p, 0]]) and np.array_equal(batch.sentences[s, :length], lesson.hands[corpus.frames_of(corpus.pairs[p, 1])])
        assert batch.mask[s].sum() == length and not batch.sentences[s, length:].any() and batch.label[n] == corpus.label[p]
        assert np.array_equal(batch.codes[s, :length], lesson.codes[corpus.frames_of(corpus.pairs[p, 1])]) and (batch.codes[s, length:] == -1).all()


@pytest.mark.parametrize('size', [1, 7, 64, 5000])
def test_batches_have_every_pair_once(lesson, size):
    for rng in (None, np.random.default_rng(0)):
        assert sorted(np.concatenate(batches(lesson.corpus, size, rng)).tolist()) == list(range(len(lesson.corpus)))


def test_targets_end_where_occurrences_end():
    ends, begin, end = targets(np.array([[0, 4, 10], [1, 0, 2], [0, 12, 16]]), 3, 20)
    assert np.flatnonzero(ends[0]).tolist() == [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] and np.flatnonzero(ends[1]).tolist() == [1, 2, 3, 4, 5, 6] and not ends[2].any()
    assert begin[0, 9] == 4 and end[0, 9] == 9 and begin[0, 14] == 12 and end[0, 14] == 15       # the later one where both could be meant


def test_robbing_takes_hands_or_body(lesson):
    batch, rng = batch_of(lesson, np.arange(8)), np.random.default_rng(0)
    robbed = [rob(batch, rng, 1.) for _ in range(40)]
    handless = [b for b in robbed if not b.sentences[..., 48].any()]
    bodiless = [b for b in robbed if not b.sentences[..., 50].any()]
    assert handless and bodiless and len(handless) + len(bodiless) == 40 and any(b.queries[..., 48].any() for b in handless)
    assert rob(batch, rng, 0.) is batch and batch.sentences[..., 48].any() and all(torch.isfinite(b.sentences).all() for b in robbed)


def test_ten_pairs_can_be_learned_by_heart(lesson):
    "If they could not, nothing could."
    from signspot.teach import lesson_loss
    torch.manual_seed(0)
    model, config = Matcher(SMALL), TeachConfig(sign=0)
    batch = batch_of(lesson, np.arange(12))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        found, query, sentence = model(*batch[:4])
        loss = lesson_loss(model, batch, config, (found, query, sentence))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    logit = model.logit(found.total, batch.mask.sum(1)[batch.pairs[:, 1]].float())
    assert ((logit > 0) == batch.label.bool()).all() and loss < 1


@pytest.fixture(scope='module')
def sights():
    return make_sights(lesson_config(TeachConfig(), 1), 0., (7, 0, 1))


def test_noise_is_off_by_what_it_says():
    "A quarter of the clips as they were; those with one mistake all along are the same in every frame; no clip is off by more than the most of both."
    lengths = np.full(1000, 20)
    off = noisy(np.zeros((20_000, 50, 2), 'float32'), lengths, .1, np.random.default_rng(0)).reshape(1000, 20, 100)
    untouched, steady = ~off.any((1, 2)), (off == off[:, :1]).all((1, 2))
    assert .2 < untouched.mean() < .3 and .45 < steady.mean() < .55
    sd = off[steady & ~untouched].std((1, 2))
    assert .04 < sd.mean() < .06 and sd.max() < .13 and off.dtype == np.float32
    assert abs(off.mean()) < .001
    frames = np.random.default_rng(1).random((20, 50, 2), 'float32')
    assert np.array_equal(noisy(frames, lengths[:1], 0, np.random.default_rng(0)), frames)


def test_noise_changes_keypoints_and_nothing_else(lesson):
    clean = make_lesson(TeachConfig(noise=0), 1)
    assert not np.array_equal(clean.hands, lesson.hands)
    assert all(np.array_equal(getattr(clean, name), getattr(lesson, name)) for name in ('spans', 'codes')) and np.array_equal(clean.corpus.present, lesson.corpus.present)
    read = [make_sights(lesson_config(TeachConfig(), 1), noise, (7, 0, 1)) for noise in (0., .05)]
    assert np.array_equal(read[0].posture, read[1].posture) and not np.array_equal(read[0].hands, read[1].hands)


def test_sights_are_frames_of_the_lesson(sights):
    "Every frame of every sign, in order, with its sign's parameters; of the frames between, some."
    lesson = make_lesson(TeachConfig(noise=0), 1)
    of_sign, known = lesson.codes[:, 0] >= 0, sights.codes[:, 0] >= 0
    assert np.allclose(sights.hands[known][..., :WIDTH], lesson.hands[of_sign], atol=.02, rtol=.01) and (sights.codes[known] == lesson.codes[of_sign]).all()
    assert .1 < (~known).sum() / (~of_sign).sum() < .3


def test_postures_are_those_of_the_hands_in_the_picture(sights):
    "Fingers that point up are seen above the wrist, for both hands; both are told as right hands."
    for h in (0, 1):
        seen = sights.hands[:, h, SEEN] > 0
        shape, fingers = sights.hands[seen, h, SHAPE].astype(float).reshape(-1, 20, 2).mean(1), sights.posture[seen, h, 3:6].astype(float)
        assert np.corrcoef(shape[:, 0], fingers[:, 0])[0, 1] > .7 and np.corrcoef(shape[:, 1], -fingers[:, 1])[0, 1] > .8
        assert np.corrcoef(sights.hands[:, h, PLACE][:, 1], -sights.posture[:, h, 1])[0, 1] > .9


def test_reading_learns_postures_and_touches_nothing_else(lesson, sights):
    "Better than the mean on a lesson that was not read; what comes after single frames stays as it was."
    torch.manual_seed(0)
    model, fresh = Matcher(replace(SMALL, hand=64)), make_sights(lesson_config(TeachConfig(), 2), 0., (7, 0, 2))
    set_scale(model, lesson)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    reading = read_hands(model, sights, passes=8)
    with torch.inference_mode(): read, _ = reading(torch.from_numpy(fresh.hands).float())
    seen, true = fresh.hands[..., SEEN] > 0, (torch.from_numpy(fresh.posture).float() - reading.middle) / reading.spread
    assert ((read - true) ** 2)[seen].mean() < .7
    changed = {name.split('.')[0] + '.' + name.split('.')[1] for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {'frames.hand', 'frames.posture', 'frames.both', 'frames.norm', 'parameters_of_signs.weight', 'parameters_of_signs.bias'}


def test_without_reading_only_the_scale_is_set(lesson):
    model = Matcher(SMALL)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    first_look(model, TeachConfig(read=0), 1)
    assert {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])} == {'frames.scale'}


def test_joined_lessons_are_the_lessons(lesson):
    "Every pair asks the same as before, and gets the same answer; batches have pairs of both."
    other = make_lesson(TeachConfig(), 2)
    both, n = joined([lesson, other]), len(lesson.corpus)
    assert len(both.corpus) == 2 * n and (both.spans[len(lesson.spans):] - other.spans == [n, 0, 0]).all()
    model = Matcher(SMALL)
    with torch.inference_mode(): apart = np.concatenate([examine(model, one).logit for one in (lesson, other)])
    assert np.allclose(examine(model, both).logit, apart, atol=1e-3)
    mixed = [len(set(chosen < n)) for chosen in batches(both.corpus, 64, np.random.default_rng(0))]
    assert np.mean(mixed) > 1.8


def test_rounds_go_on_with_the_first_lesson_after_the_last(lesson):
    "So that a course of any length has whole rounds, on any number of machines."
    config = TeachConfig(pairs=3 * LESSON, together=2)
    whole = round_of(config, 2, 3, 16)
    assert len(whole.corpus) == 2 * LESSON and np.array_equal(whole.hands[-len(make_lesson(config, 0).hands):], make_lesson(config, 0).hands)
    assert len(round_of(TeachConfig(), 0, 1, 16).corpus) == LESSON


@pytest.fixture(scope='module')
def short(tmp_path_factory):
    "A course of two lessons, in one go."
    folder = tmp_path_factory.mktemp('course')
    return folder, teach(SMALL, TeachConfig(pairs=2 * LESSON, together=1), folder, validation_exams(20), every=1)


def test_a_course_goes_on_where_it_was_stopped(short, tmp_path, monkeypatch):
    "Killed after the first lesson, it ends with the same weights."
    import signspot.teach as module
    real = module.make_lesson
    def stop(config, n, rows=16):
        if n == 1: raise KeyboardInterrupt
        return real(config, n, rows)
    monkeypatch.setattr(module, 'make_lesson', stop)
    with pytest.raises(KeyboardInterrupt): teach(SMALL, TeachConfig(pairs=2 * LESSON, together=1), tmp_path, validation_exams(20), every=1)
    monkeypatch.undo()
    again = teach(SMALL, TeachConfig(pairs=2 * LESSON, together=1), tmp_path, validation_exams(20), every=1)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(short[1].state_dict().values(), again.state_dict().values()))
    log = json.loads((tmp_path / 'log.json').read_text())
    assert [entry['pairs'] for entry in log] == [1000, 2000] and log[1]['loss'] < log[0]['loss']


def test_a_folder_holds_one_course(short, tmp_path):
    with pytest.raises(BadInput, match='another teaching'): teach(SMALL, TeachConfig(pairs=2 * LESSON, together=1, lr=1e-3), short[0])
    with pytest.raises(BadInput, match='another model'): teach(replace(SMALL, d=40), TeachConfig(pairs=2 * LESSON, together=1), short[0])
    (tmp_path / 'state.safetensors').write_bytes(b'nonsense')
    with pytest.raises(BadInput, match='damaged'): teach(SMALL, TeachConfig(pairs=LESSON), tmp_path)


@pytest.mark.parametrize('wrong', [{'pairs': 0}, {'lr': 0}, {'lr': float('nan')}, {'average': 1.5}, {'lost': -1}, {'batch': 0}, {'read': 2}, {'noise': -.1}, {'together': 0}])
def test_configs_that_cannot_be(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))): TeachConfig(**wrong)


def test_asked_about_other_sentences_it_is_chance():
    "Each query with the next sentence in its own's place, the labels left: whoever is better than chance knows them from the query."
    from sklearn.metrics import roc_auc_score
    exam = validation_exams(60)['unseen']
    other = np.roll(exam.pairs[:, 1], 4)                                           # four pairs of a sentence stand together
    assert (other != exam.pairs[:, 1]).all()
    strange = replace(exam, pairs=np.stack([exam.pairs[:, 0], other], 1), span=None)
    assert roc_auc_score(exam.label, examine(bundled(), exam).logit) > .95
    assert abs(roc_auc_score(exam.label, examine(bundled(), strange).logit) - .5) < .12
    assert set(report(examine(bundled(), exam), as_lesson(exam, 16))) == {'auc', 'accuracy', 'tIoU', 'tIoU above one half'}


def test_calibration_finds_the_curve_that_made_the_labels():
    rng = np.random.default_rng(0)
    logit, seen = rng.normal(0, 3, 20_000), rng.random(20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-.5 * (logit - 1 - 2 * (1 - np.sqrt(seen)))))).astype(int)
    config = fitted(SMALL, logit, label, seen)
    assert config.sharpness == pytest.approx(.5, abs=.05) and config.shift == pytest.approx(-1, abs=.15) and config.blind == pytest.approx(2, abs=.3)
    blind = fitted(SMALL, logit, label, np.zeros(20_000))                           # nothing to tell `blind` by
    assert blind.sharpness == pytest.approx(.5, abs=.05) and blind.shift - blind.blind == pytest.approx(-1 - 2 / 3, abs=.15)
    with pytest.raises(BadInput, match='nothing to calibrate'): fitted(SMALL, -logit, label, seen)


def test_hands_seen_are_those_of_the_poorer_clip():
    corpus = sign_corpus(SigningConfig(signs=10, sentences=4, part='validation'), 0)
    seen = seen_in(corpus)
    for p, (q, s) in enumerate(corpus.pairs.tolist()): assert seen[p] == pytest.approx(min(corpus.prepared(q).seen, corpus.prepared(s).seen))
    assert (seen_in(harm(corpus, 'lost hands', 1.)) == 0).all()


@pytest.mark.parametrize('dose', [0., .3, 1.])
def test_the_librarys_own_probabilities_hold_with_and_without_hands(dose):
    exam = validation_exams(100)['unseen']
    exam = harm(exam, 'lost hands', dose) if dose else exam
    model = bundled()
    said = np.concatenate([probability(model, torch.tensor([x]), s) for x, s in zip(examine(model, exam).logit, seen_in(exam))])
    assert calibration_error(exam.label, said) < .1
    if dose == 1: assert calibration_error(exam.label, probability(model, torch.tensor(examine(model, exam).logit))) > .2   # not told what was seen


@pytest.mark.parametrize('dose', [.02, .05])
def test_the_librarys_matcher_stands_keypoints_that_tremble(dose):
    "One that was taught on clean keypoints believes every one of them (log)."
    exam = harm(validation_exams(100)['unseen'], 'jitter', dose)
    assert ((examine(bundled(), exam).logit + bundled().config.shift > 0) == exam.label).mean() > .85


def test_two_processes_teach_one_matcher(tmp_path):
    "torchrun: each process has lessons of its own, and both end with the same parameters (what normalisation has seen is each one's own)."
    script = tmp_path/'two.py'
    script.write_text(f"""
import json, os, torch
import signspot.teach
from signspot.matcher import MatcherConfig
torch.set_num_threads(1)
finish = signspot.teach.finish_course
def noted(course, *rest):
    told = [float(t.double().abs().sum()) for t in course.model.parameters()]
    open({str(tmp_path)!r} + '/rank' + os.environ['RANK'], 'w').write(json.dumps(told))
    return finish(course, *rest)
signspot.teach.finish_course = noted
signspot.teach.teach(MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8), signspot.teach.TeachConfig(pairs=2000, batch=500, together=1), {str(tmp_path/'course')!r})
""")
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path/f'rank{n}').read_text()) for n in (0, 1)]
    assert ranks[0] == ranks[1] and all(np.isfinite(ranks[0]))
    from safetensors import safe_open
    with safe_open(tmp_path/'course'/'state.safetensors', 'pt') as file: told = file.metadata()
    assert told['step'] == '2' and told['lesson'] == '2'                          # two lessons of two batches each, shared by two
    assert [entry['pairs'] for entry in json.loads(told['log'])] == [2000]
