"Losses, batches, and a training run that survives being killed and says what is wrong."
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from signspot.losses import LossConfig, best_threshold, contrastive, pair_loss
from signspot.pose import BadInput
from signspot.signing import SigningConfig, sign_corpus
from signspot.spotter import Output, Spotter, SpotterConfig
from signspot.train import TrainConfig, infer, length_batches, load_model, predict, save_model, train

torch.set_num_threads(1)   # the matrices are tiny: more threads would only wait for each other
MODEL = SpotterConfig(encoder='1d', d=32, layers=1, width=32, heads=2)
QUICK = TrainConfig(epochs=3, warmup=5, batch=16)
SIGNS = SigningConfig(signs=3, sentence_signs=(1, 2), sentences=24, queries_per_sign=4, signers=4)
KILLED = '''
import importlib, os, signal, sys
from test_train import MODEL, QUICK, SIGNS
from signspot.signing import sign_corpus
module, (out, where, after) = importlib.import_module('signspot.train'), sys.argv[1:]
whole, calls = getattr(module, where), []
def deadly(*args):
    calls.append(args)
    if len(calls) > int(after): os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args)
setattr(module, where, deadly)
module.train(MODEL, QUICK, sign_corpus(SIGNS, 0), sign_corpus(SIGNS, 1), out)
'''  # killed on the call after so many of one function


@pytest.fixture(scope='module')
def corpora():
    return sign_corpus(SIGNS, seed=0), sign_corpus(SIGNS, seed=1)


@pytest.fixture(scope='module')
def finished(corpora, tmp_path_factory):
    "A finished run and its folder; tests copy it before they change it."
    out = tmp_path_factory.mktemp('finished')
    return train(MODEL, QUICK, *corpora, out), out


def weights(folder) -> bytes: return (folder / 'model.safetensors').read_bytes()


def said(logits=None, query=None, sentence=None) -> Output: return Output(logits, query, sentence)


# --- losses

def test_contrastive_is_the_formula_in_the_notebook():
    torch.manual_seed(0)
    output, label = said(query=torch.randn(12, 8), sentence=torch.randn(12, 8)), torch.tensor([1., 0.] * 6)
    s = (torch.nn.functional.normalize(output.query) * torch.nn.functional.normalize(output.sentence)).sum(1).double() / .07
    expected = [-torch.log(s[i].exp() / (s[i].exp() + s[label == 0].exp().sum())) for i in range(0, 12, 2)]
    assert torch.isclose(contrastive(output, label).double(), torch.stack(expected).mean(), atol=1e-5)


@pytest.mark.parametrize('label', [0., 1.])
def test_contrastive_of_one_kind_of_pair_is_nothing_and_harms_nothing(label):
    query = torch.randn(4, 8, requires_grad=True)
    loss = contrastive(said(query=query, sentence=torch.randn(4, 8)), torch.full((4,), label))
    loss.backward()
    assert loss == 0 and (query.grad == 0).all()


def test_both_is_bce_plus_lambda_times_contrastive():
    torch.manual_seed(0)
    output, label = said(torch.randn(8), torch.randn(8, 4), torch.randn(8, 4)), torch.tensor([1., 0.] * 4)
    parts = [pair_loss(output, label, LossConfig(kind)) for kind in ('bce', 'contrastive')]
    assert torch.isclose(pair_loss(output, label, LossConfig(weight=.3)), parts[0] + .3 * parts[1])
    with pytest.raises(BadInput, match='hinge'): LossConfig('hinge')


# --- batches

@pytest.mark.parametrize('size', [1, 7, 16, 1000])
@pytest.mark.parametrize('seed', [None, 3])
def test_batches_hold_every_pair_once(corpora, size, seed):
    batches = length_batches(corpora[0], size, seed and np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(corpora[0])))
    assert sorted(len(b) for b in batches)[1:] == [size] * (len(batches) - 1)


def test_batches_change_from_epoch_to_epoch_and_pad_less_than_chance():
    corpus = sign_corpus(replace(SIGNS, sentences=100), seed=0)
    frames = corpus.length[corpus.pairs].sum(1)
    def padded(batches): return sum(frames[b].max() * len(b) for b in batches)
    first, again, second = (length_batches(corpus, 20, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}
    assert padded(first) < .9 * padded(np.random.default_rng(0).permutation(len(corpus)).reshape(-1, 20))


# --- using a model

def test_predictions_are_in_the_corpus_order_whatever_the_batch_size(corpora, finished):
    model, val = load_model(finished[1]), corpora[1]
    expected = predict(model, val, size=1)
    assert expected.shape == (len(val),) and ((0 <= expected) & (expected <= 1)).all()
    for size in (5, 16, 1000): assert np.allclose(predict(model, val, size), expected, atol=1e-5)
    backwards = val.subset(np.arange(len(val))[::-1])
    assert np.allclose(predict(model, backwards), expected[::-1], atol=1e-5)
    assert predict(model, val.subset(np.arange(0))).shape == (0,)


def test_predicting_leaves_the_model_as_it_was(corpora):
    model = Spotter(MODEL).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    predict(model, corpora[0])
    assert model.training and all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize('config', [MODEL, SpotterConfig(encoder='2d', norm_first=False, readout='cls', answer='similarity')])
def test_a_saved_model_is_the_same_model(corpora, tmp_path, config):
    model = Spotter(config)
    model.boundary.fill_(.25)
    same = load_model(save_model(model, tmp_path / 'new' / 'folder'))
    assert same.config == config and np.array_equal(predict(model, corpora[1]), predict(same, corpora[1]))


def test_wrong_checkpoints_are_refused_in_one_line(finished, tmp_path):
    def cut(path): path.write_bytes(path.read_bytes()[:500])
    def other_shape(path): path.write_text(json.dumps(json.loads(path.read_text()) | {'d': 64}))
    def unknown_name(path): path.write_text(json.dumps(json.loads(path.read_text()) | {'depth': 3}))
    harm = {'no config': ('config.json', os.remove), 'no weights': ('model.safetensors', os.remove), 'cut off': ('model.safetensors', cut),
            'not JSON': ('config.json', lambda p: p.write_text('hello')), 'a list': ('config.json', lambda p: p.write_text('[1]')),
            'bytes': ('config.json', lambda p: p.write_bytes(b'\xff\xfe')), 'other shape': ('config.json', other_shape), 'unknown name': ('config.json', unknown_name)}
    for name, (file, how) in harm.items():
        folder = shutil.copytree(finished[1], tmp_path / name)
        how(folder / file)
        with pytest.raises(BadInput, match=name) as error: load_model(folder)
        assert '\n' not in str(error.value)
    with pytest.raises(BadInput): load_model(tmp_path / 'nowhere')


# --- training

def test_a_run_leaves_the_best_model_and_a_log(corpora, finished):
    history, out = finished
    assert sorted(p.name for p in out.iterdir()) == ['config.json', 'log.json', 'model.safetensors']
    log = json.loads((out / 'log.json').read_text())
    assert log['finished'] and log['epochs'] == history.epochs and log['training']['lr'] == 5e-4 and len(history.epochs) == 3
    accuracy = ((predict(load_model(out), corpora[1]) > .5) == corpora[1].label).mean()
    assert accuracy == history.epochs[history.best]['accuracy'] == max(e['accuracy'] for e in history.epochs)
    assert history._repr_png_().startswith(b'\x89PNG')


def test_a_finished_run_is_not_run_again(corpora, finished):
    history, out = finished
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    assert train(MODEL, QUICK, *corpora, out) == history and before == {p: p.stat().st_mtime_ns for p in out.iterdir()}


def test_another_run_in_the_same_folder_is_refused(corpora, finished):
    out = finished[1]
    for model, config, data in ((replace(MODEL, layers=2), QUICK, corpora), (MODEL, replace(QUICK, seed=1), corpora), (MODEL, QUICK, corpora[::-1]),
                                (MODEL, QUICK, (replace(corpora[0], label=1 - corpora[0].label), corpora[1]))):
        with pytest.raises(BadInput, match='another'): train(model, config, *data, out)


def test_the_seed_decides(corpora, finished, tmp_path):
    train(MODEL, QUICK, *corpora, tmp_path / 'same')
    train(MODEL, replace(QUICK, seed=1), *corpora, tmp_path / 'other')
    assert weights(tmp_path / 'same') == weights(finished[1]) != weights(tmp_path / 'other')


@pytest.mark.parametrize('where, after, epochs', [('save_state', 0, 0), ('write_log', 0, 1), ('save_state', 1, 1), ('train_step', 8, 2)])
def test_a_killed_run_goes_on_to_the_same_end(corpora, finished, tmp_path, where, after, epochs):
    here = os.path.dirname(__file__)
    env = os.environ | {'PYTHONPATH': os.pathsep.join([here, os.path.dirname(here), os.environ.get('PYTHONPATH', '')]), 'OMP_NUM_THREADS': str(torch.get_num_threads())}
    child = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path), where, str(after)], env=env, timeout=120)
    assert child.returncode == -signal.SIGKILL and (tmp_path / 'state.safetensors').exists() == (epochs > 0)
    if epochs: assert len(json.loads(safe_open(tmp_path / 'state.safetensors', 'pt').metadata()['epochs'])) == epochs
    history = train(MODEL, QUICK, *corpora, tmp_path)
    assert [e | {'seconds': 0} for e in history.epochs] == [e | {'seconds': 0} for e in finished[0].epochs]
    assert weights(tmp_path) == weights(finished[1]) and not (tmp_path / 'state.safetensors').exists()


def test_patience(corpora, tmp_path):
    history = train(MODEL, replace(QUICK, lr=0., epochs=9, patience=2), *corpora, tmp_path)   # BatchNorm's statistics still change
    assert len(history.epochs) == history.best + 3


def test_contrastive_alone_decides_by_similarity(corpora, tmp_path):
    history = train(MODEL, replace(QUICK, loss=LossConfig('contrastive')), *corpora, tmp_path)
    model, label = load_model(tmp_path), corpora[1].label
    output = infer(model, corpora[1])
    assert model.config.answer == 'similarity' and np.isclose(model.boundary, best_threshold(label, output.similarity.numpy()), atol=1e-6)
    assert ((output.score.numpy() > .5) == label).mean() == history.epochs[history.best]['accuracy']


@pytest.mark.parametrize('encoder, kind', [('1d', 'bce'), ('1d', 'contrastive'), ('2d', 'both')])
def test_ten_pairs_by_heart(corpora, tmp_path, encoder, kind):
    ten = corpora[0].subset(np.arange(10))
    config = TrainConfig(LossConfig(kind), lr=2e-3, epochs=60, patience=60, warmup=1, batch=10, augmentation=None)
    history = train(SpotterConfig(encoder=encoder), config, ten, ten, tmp_path)
    assert history.epochs[history.best]['accuracy'] == 1


def test_what_cannot_be_trained_on(corpora, tmp_path):
    some, val = corpora
    present = val.subset(val.label == 1)
    with pytest.raises(BadInput, match='both labels'): train(MODEL, QUICK, some, present, tmp_path)
    with pytest.raises(BadInput, match='diverged in epoch 1'): train(MODEL, replace(QUICK, lr=1e30, clip=1e30, warmup=1), some, val, tmp_path)
    assert list(tmp_path.iterdir()) == []
