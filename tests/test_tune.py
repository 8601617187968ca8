"Tuning to a corpus of one's own: it learns, keeps the best, goes on where it was stopped, and refuses what there is nothing to learn from."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from signspot.cli import main
from signspot.corpus import Corpus
from signspot.matcher import Matcher, MatcherConfig, bundled
from signspot.pose import BadInput
from signspot.signing import SigningConfig, sign_corpus
from signspot.teach import examine
from signspot.tune import TuneConfig, askable, best, held_out, tune

SMALL = MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8)


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return sign_corpus(SigningConfig(signs=20, sentence_signs=(1, 3), sentences=40, queries_per_sign=3, signers=6, part='validation'), 9)


def isolated(corpus: Corpus) -> Corpus:
    "Its dictionary clips alone, no pairs."
    from signspot.corpus import take_clips
    return take_clips(corpus, np.flatnonzero(corpus.kind == 'query'))


def test_what_is_held_out_shares_no_recording(corpus):
    learn, check = held_out(corpus, .3)
    used = lambda side: set(side.id[side.pairs[:, 1]])
    assert not used(learn) & used(check) and len(learn) > len(check) > 0 and set(check.label) == {0, 1}


def test_isolated_clips_become_sentences(corpus):
    made = askable(isolated(corpus))
    assert len(made) and set(made.label) == {0, 1} and made.about['composed'] is True and len(made.segments)


@pytest.mark.parametrize('fault, said', [('one label', 'both labels'), ('unlabelled', 'both labels'), ('clips without a twin', 'two clips')])
def test_what_cannot_be_learned_from_is_said(fault, said, corpus):
    if fault == 'one label': given = corpus.subset(corpus.label == 1)
    elif fault == 'unlabelled': given = replace(corpus, label=np.full(len(corpus), -1))
    else: given = replace(isolated(corpus), gloss=np.array([f'G{i}' for i in range(int((corpus.kind == 'query').sum()))]))
    with pytest.raises(BadInput, match=said): askable(given)


def test_unlabelled_pairs_are_left_out(corpus):
    label = corpus.label.copy()
    label[::5] = -1
    assert len(askable(replace(corpus, label=label))) == (label >= 0).sum()


@pytest.fixture(scope='module')
def tuned(corpus, tmp_path_factory):
    folder, (learn, check) = tmp_path_factory.mktemp('tuned'), held_out(corpus, .3)
    torch.manual_seed(3)
    begun = Matcher(SMALL)
    return folder, learn, check, begun, tune(begun, learn, check, folder, TuneConfig(epochs=3, lr=3e-3, generated=1.))


def test_the_best_epoch_is_kept(tuned):
    folder, _, check, begun, model = tuned
    log = json.loads((folder / 'log.json').read_text())
    from sklearn.metrics import roc_auc_score
    assert [entry['epoch'] for entry in log] == list(range(len(log))) and log[0].keys() < log[1].keys()
    assert roc_auc_score(check.label, examine(model, check).logit) == pytest.approx(log[best(log)]['auc'], abs=1e-3)
    torch.manual_seed(3)
    assert begun.config == SMALL and all(torch.equal(a, b) for a, b in zip(begun.state_dict().values(), Matcher(SMALL).state_dict().values()))   # what was given is not changed


def test_what_was_begun_with_is_not_changed(corpus, tmp_path):
    learn, check = held_out(corpus, .3)
    before = {name: t.clone() for name, t in bundled().state_dict().items()}
    tune(bundled(), learn, check, tmp_path, TuneConfig(epochs=1, generated=0.))
    assert all(torch.equal(t, before[name]) for name, t in bundled().state_dict().items())


def test_it_goes_on_where_it_was_stopped(tuned, tmp_path, monkeypatch):
    import signspot.tune as module
    _, learn, check, begun, model = tuned
    real = module.tune_epoch
    def stop(course, own, config, epoch):
        if epoch == 2: raise KeyboardInterrupt
        return real(course, own, config, epoch)
    monkeypatch.setattr(module, 'tune_epoch', stop)
    config = TuneConfig(epochs=3, lr=3e-3, generated=1.)
    with pytest.raises(KeyboardInterrupt): tune(begun, learn, check, tmp_path, config)
    monkeypatch.undo()
    again = tune(begun, learn, check, tmp_path, config)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    with pytest.raises(BadInput, match='another tuning'): tune(begun, learn, check, tmp_path, replace(config, lr=1e-4))


def test_from_nothing_the_seed_decides_and_columns_are_scaled(corpus, tmp_path):
    learn, check = held_out(corpus, .3)
    a, b = (tune(None, learn, check, tmp_path/name, TuneConfig(epochs=1, generated=0.)) for name in 'ab')
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values())) and not (a.frames.scale == 1).all()


@pytest.mark.parametrize('wrong', [{'epochs': 0}, {'lr': 0}, {'lr': float('nan')}, {'generated': -1}, {'check': 1}])
def test_configs_that_cannot_be(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))): TuneConfig(**wrong)


def call(capsys, *words) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_train_from_a_terminal(corpus, tmp_path, capsys):
    "Twice: the second time everything is done. What comes out can be asked."
    corpus.save(tmp_path / 'mine.npz')
    words = ('train', tmp_path / 'mine.npz', '-o', tmp_path / 'my matcher', '--epochs', 1, '--generated', 0)
    status, out, err = call(capsys, *words)
    assert status == 0 and 'held out' in out.splitlines()[0] and 'epoch 1: loss' in out and 'ROC-AUC' in out.splitlines()[-1], err
    assert {path.name for path in (tmp_path / 'my matcher').iterdir()} == {'model.safetensors', 'config.json', 'log.json', 'course.json', 'state.safetensors'}
    status, again, err = call(capsys, *words)
    assert status == 0 and again.splitlines()[-1] == out.splitlines()[-1] and 'epoch 1: loss' not in again
    status, out, err = call(capsys, 'predict', tmp_path / 'mine.npz', '--model', tmp_path / 'my matcher', '-o', tmp_path / 'submission.csv')
    assert status == 0 and '% right' in out


@pytest.mark.parametrize('words, said', [(['{}/nowhere.npz', '-o', '{}/out'], 'nowhere'), (['{}/mine.npz', '-o', '{}/out', '--init', '{}/empty'], 'holds no matcher'), (['{}/mine.npz', '-o', '{}/out', '--epochs', '0'], 'from 1 on'),
                                         (['{}/mine.npz', '-o', '{}/out', '--lr', 'fast'], 'above 0'), (['{}/mine.npz'], '--out'), (['{}/one.npz', '-o', '{}/out'], 'both labels')])
def test_wrong_trains_are_one_line_and_leave_nothing(words, said, corpus, tmp_path, capsys):
    corpus.save(tmp_path / 'mine.npz')
    corpus.subset(corpus.label == 1).save(tmp_path / 'one.npz')
    (tmp_path / 'empty').mkdir()
    status, out, err = call(capsys, 'train', *(word.format(tmp_path) for word in words))
    assert status == 2 and err.startswith('signspot: ') and err.splitlines()[-1].startswith('signspot: ') and said in err and 'Traceback' not in err
    assert not (tmp_path / 'out').exists()
