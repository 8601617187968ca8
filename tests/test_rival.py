"The rival is our model on `BertModel`: same answers, same training, step by step."
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from signspot.losses import LossConfig
from signspot.pose import BadInput
from signspot.rival import (WAYS, Packed, Pairs, Rival, begin, copy_weights, cost, costs, packed_2d, packed_batches, pad, padded_batches, right,
                            times_faster, without_repeats)
from signspot.signing import SigningConfig, sign_corpus
from signspot.spotter import PADDING, Spotter, SpotterConfig, batch_of
from signspot.train import TrainConfig, infer, train_step

torch.set_num_threads(1)
pytest.importorskip('transformers', reason='transformers is not installed (a tool of the developers)')
MODEL = SpotterConfig(norm_first=False, dropout=0.)
CONFIG = TrainConfig(LossConfig('both'), lr=5e-4, batch=16, augmentation=None)


@pytest.fixture(scope='module')
def corpus():
    return sign_corpus(SigningConfig(signs=4, sentence_signs=(1, 2), sentences=160, queries_per_sign=40, signers=4), seed=0)


def pair_of_models(config=MODEL, seed=0):
    torch.manual_seed(seed)
    ours = Spotter(config)
    for table in (ours.embedding.special, ours.embedding.position, ours.embedding.token_type): torch.nn.init.normal_(table.weight)
    for norm in (layer.norm for layer in ours.encoder.convolutions):
        norm.running_mean.normal_()
        norm.running_var.uniform_(.5, 2)
    with torch.no_grad(): ours.head[-1].weight.mul_(10)   # answers far enough apart to compare
    return ours, copy_weights(ours, Rival(config))


def padded(corpus, chosen): return pad([Pairs(corpus)[i] for i in chosen])


@pytest.mark.parametrize('readout', ['cls', 'max', 'mean'])
@pytest.mark.parametrize('layers, heads', [(1, 1), (2, 4)])
def test_same_answers(corpus, readout, layers, heads):
    ours, theirs = pair_of_models(replace(MODEL, readout=readout, layers=layers, heads=heads))
    chosen = np.random.default_rng(0).permutation(len(corpus))[:40]
    with torch.inference_mode(): a, b = ours.eval()(batch_of(corpus, chosen)), theirs.eval()(padded(corpus, chosen))
    assert torch.allclose(a.logits, b.logits, atol=1e-4) and torch.allclose(a.query, b.query, atol=1e-4) and torch.allclose(a.sentence, b.sentence, atol=1e-4)
    assert a.logits.std() > .05


@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
def test_same_training_step_by_step(corpus, attention):
    "Twenty steps on batches in which no clip repeats: the same losses, and at the end the same model."
    ours, _ = pair_of_models()
    theirs = copy_weights(ours, Rival(MODEL, attention))
    runs, rng = (begin(ours, CONFIG), begin(theirs, CONFIG, fused=False)), np.random.default_rng(0)
    batches = [batch for _ in range(10) for batch in without_repeats(corpus, 16, rng)][:20]
    assert len(batches) == 20 and all(len(np.unique(corpus.pairs[batch])) == 32 for batch in batches)
    losses = np.array([[float(train_step(runs[0], batch_of(corpus, batch), CONFIG.lr)), float(train_step(runs[1], padded(corpus, batch), CONFIG.lr))] for batch in batches])
    assert np.abs(losses[:, 0] - losses[:, 1]).max() < 1e-3 and losses[:, 0].std() > .01
    chosen = np.arange(40)
    with torch.inference_mode(): a, b = ours.eval()(batch_of(corpus, chosen)), theirs.eval()(padded(corpus, chosen))
    assert torch.allclose(a.logits, b.logits, atol=5e-3)


def test_every_way_is_the_same_model(corpus):
    "The ladder changes how it is computed, not what."
    chosen, batch = np.arange(30), batch_of(corpus, np.arange(30))
    ours, theirs = pair_of_models()
    packed, fast = Packed(MODEL), packed_2d(MODEL)
    packed.load_state_dict(theirs.state_dict())
    fast.load_state_dict(theirs.state_dict(), strict=False)
    fast.encoder.load_state_dict(ours.encoder.state_dict())
    with torch.inference_mode():
        expected = ours.eval()(batch).logits
        for model in (packed, fast): assert torch.allclose(model.eval()(batch).logits, expected, atol=1e-4)
    assert {way.encoder for way in WAYS.values()} == {'1d', '2d'} and not WAYS['BertModel, padded batches'].fused


def test_the_rival_does_not_look_at_padding(corpus):
    _, theirs = pair_of_models()
    batch = padded(corpus, np.arange(8))
    longer = batch._replace(frames=torch.cat([batch.frames, torch.full((8, 5, 50, 2), 1000.)], 1), kind=torch.cat([batch.kind, torch.full((8, 5), PADDING)], 1))
    with torch.inference_mode(): a, b = theirs.eval()(batch).logits, theirs(longer).logits
    assert torch.allclose(a, b, atol=1e-5)


def test_loaders_bring_every_pair_once(corpus):
    for make in (packed_batches, padded_batches, WAYS['+ pairs of like length together'].batches):
        batches = list(make(corpus, CONFIG, np.random.default_rng(0)))
        assert sum(len(b.label) for b in batches) == len(corpus) and sum(b.label.sum() for b in batches) == corpus.label.sum()
    assert costs(packed_batches(corpus, CONFIG, np.random.default_rng(0)))['frames'] < costs(padded_batches(corpus, CONFIG, np.random.default_rng(0)))['frames']


def test_cost_counts(corpus):
    chosen = np.array([0, 0, 1])
    ours, theirs = cost(batch_of(corpus, chosen)), cost(padded(corpus, chosen))
    real = int(corpus.length[corpus.pairs[chosen]].sum()) + 6
    assert ours['tokens'] - ours['padding'] == theirs['tokens'] - theirs['padding'] == real
    assert theirs['frames'] == real - 6 and ours['frames'] == int(corpus.length[np.unique(corpus.pairs[chosen])].sum())


def test_right_is_the_accuracy(corpus):
    ours, _ = pair_of_models()
    run = begin(ours, CONFIG)
    assert np.isclose(right(run, packed_batches(corpus, CONFIG, np.random.default_rng(0))), ((infer(ours, corpus).logits.numpy() > 0) == corpus.label).mean(), atol=1e-3)
    assert run.model.training


def test_times_faster():
    rng = np.random.default_rng(1)
    load, jitter = np.exp(rng.normal(0, .5, 60)), rng.normal(1, .1, 60)
    faster = times_faster(300 * load * jitter, 100 * load)
    assert faster['low'] < 3 < faster['high'] and faster['low'] <= faster['median'] <= faster['high'] and faster['high'] - faster['low'] < .4


@pytest.mark.parametrize('config', [SpotterConfig(), SpotterConfig(norm_first=False, encoder='1d'), SpotterConfig(norm_first=False, sep=False)])
def test_what_is_not_bert_is_refused(config):
    with pytest.raises(BadInput, match='norm_first=False'): Rival(config)


def test_without_transformers():
    "The room opens without it, and the rival says what to install."
    code = '''
import sys
sys.modules['transformers'] = None
from signspot.rival import Rival
from signspot.spotter import SpotterConfig
try: Rival(SpotterConfig(norm_first=False))
except ValueError as error: print(error)'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and 'pip install' in done.stdout and done.stdout.count('\n') == 1, done.stderr


def test_opening_the_room_does_not_load_transformers():
    done = subprocess.run([sys.executable, '-c', "import sys, signspot.rival; print('transformers' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout.strip() == 'False', done.stderr
