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
from signspot.matcher import Matcher, MatcherConfig, bundled, probability
from signspot.phonology import VALUES, encode
from signspot.pose import BadInput
from signspot.signing import SigningConfig, lexicon_for, sign_corpus
from signspot.teach import (LESSON, RECIPE, TeachConfig, as_lesson, batch_of, batches, codes_of, examine, fitted, lesson_config, make_lesson, occurrences_of, report, rob,
                            seen_in, targets, teach, validation_exams)

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
def short(tmp_path_factory):
    "A course of two lessons, in one go."
    folder = tmp_path_factory.mktemp('course')
    return folder, teach(SMALL, TeachConfig(pairs=2 * LESSON), folder, validation_exams(20), every=1)


def test_a_course_goes_on_where_it_was_stopped(short, tmp_path, monkeypatch):
    "Killed after the first lesson, it ends with the same weights."
    import signspot.teach as module
    real = module.make_lesson
    def stop(config, n, rows=16):
        if n == 1: raise KeyboardInterrupt
        return real(config, n, rows)
    monkeypatch.setattr(module, 'make_lesson', stop)
    with pytest.raises(KeyboardInterrupt): teach(SMALL, TeachConfig(pairs=2 * LESSON), tmp_path, validation_exams(20), every=1)
    monkeypatch.undo()
    again = teach(SMALL, TeachConfig(pairs=2 * LESSON), tmp_path, validation_exams(20), every=1)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(short[1].state_dict().values(), again.state_dict().values()))
    log = json.loads((tmp_path / 'log.json').read_text())
    assert [entry['pairs'] for entry in log] == [1000, 2000] and log[1]['loss'] < log[0]['loss']


def test_a_folder_holds_one_course(short, tmp_path):
    with pytest.raises(BadInput, match='another teaching'): teach(SMALL, TeachConfig(pairs=2 * LESSON, lr=1e-3), short[0])
    with pytest.raises(BadInput, match='another model'): teach(replace(SMALL, d=40), TeachConfig(pairs=2 * LESSON), short[0])
    (tmp_path / 'state.safetensors').write_bytes(b'nonsense')
    with pytest.raises(BadInput, match='damaged'): teach(SMALL, TeachConfig(pairs=LESSON), tmp_path)


@pytest.mark.parametrize('wrong', [{'pairs': 0}, {'lr': 0}, {'lr': float('nan')}, {'average': 1.5}, {'lost': -1}, {'batch': 0}])
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
    if dose == 1: assert calibration_error(exam.label, probability(model, torch.tensor(examine(model, exam).logit))) > .3


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
signspot.teach.teach(MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8), signspot.teach.TeachConfig(pairs=2000, batch=500), {str(tmp_path/'course')!r})
""")
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path/f'rank{n}').read_text()) for n in (0, 1)]
    assert ranks[0] == ranks[1] and all(np.isfinite(ranks[0]))
    from safetensors import safe_open
    with safe_open(tmp_path/'course'/'state.safetensors', 'pt') as file: told = file.metadata()
    assert told['step'] == '2' and told['lesson'] == '2'                          # two lessons of two batches each, shared by two
    assert [entry['pairs'] for entry in json.loads(told['log'])] == [2000]
