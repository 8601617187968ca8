"The model is BERT's encoder over packed frames, and a pair's score is its own affair."
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from signspot.corpus import Corpus
from signspot.encoder import FrameEncoder1D, FrameEncoder2D
from signspot.pose import BadInput
from signspot.spotter import PADDING, QUERY, SENTENCE, Batch, Spotter, SpotterConfig, batch_of, layout


def noise_corpus(lengths, pairs, seed=0) -> Corpus:
    "Clips of noise; only lengths and pairs matter."
    rng, pairs = np.random.default_rng(seed), np.array(pairs)
    return Corpus('noise', rng.normal(size=(sum(lengths), 50, 2)).astype(np.float32), np.array(lengths), np.where(np.isin(np.arange(len(lengths)), pairs[:, 1]), 'sentence', 'query'),
                  np.full(len(lengths), 'a'), np.full(len(lengths), 'anna'), pairs, rng.integers(0, 2, len(pairs)), np.full((len(pairs), 2), -1), 12.5)


@pytest.fixture
def corpus() -> Corpus:
    return noise_corpus([4, 3, 9, 17, 6, 30], [[0, 3], [1, 3], [2, 4], [0, 5], [2, 5], [1, 4], [0, 4]])


def spotter(**config) -> Spotter:
    "A model in use, its BatchNorm statistics and embeddings far from their initial values."
    torch.manual_seed(0)
    model = Spotter(SpotterConfig(**config))
    for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]:
        norm.running_mean.normal_()
        norm.running_var.uniform_(.5, 2)
    for table in (model.embedding.special, model.embedding.position, model.embedding.token_type): nn.init.normal_(table.weight)
    return model.eval()


def hugging_face_twin(model: Spotter):
    "A `BertModel` with our weights."
    from transformers import BertConfig, BertModel
    c = model.config
    bert = BertModel(BertConfig(vocab_size=2, hidden_size=c.d, num_hidden_layers=c.layers, num_attention_heads=c.heads, intermediate_size=c.width,
                                max_position_embeddings=c.tokens, hidden_dropout_prob=0., attention_probs_dropout_prob=0.), add_pooling_layer=False).eval()
    to = bert.embeddings, model.embedding
    pairs = [(to[0].position_embeddings, to[1].position), (to[0].token_type_embeddings, to[1].token_type), (to[0].LayerNorm, to[1].norm)]
    for theirs, ours in zip(bert.encoder.layer, model.transformer.blocks):
        pairs += [(theirs.attention.output.dense, ours.attention.out), (theirs.attention.output.LayerNorm, ours.norm1),
                  (theirs.intermediate.dense, ours.feed[0]), (theirs.output.dense, ours.feed[2]), (theirs.output.LayerNorm, ours.norm2)]
        for i, part in enumerate((theirs.attention.self.query, theirs.attention.self.key, theirs.attention.self.value)):
            part.weight.data, part.bias.data = (t.data.chunk(3)[i].clone() for t in (ours.attention.qkv.weight, ours.attention.qkv.bias))
    for theirs, ours in pairs: theirs.load_state_dict(ours.state_dict())
    return bert


def both_encoders(model: Spotter, batch: Batch, frames: torch.Tensor):
    "What our transformer and Hugging Face's make of the same frame vectors, at the tokens that are there."
    laid = layout(batch.length, batch.pairs)
    there = laid.kind != PADDING
    table = torch.cat([model.embedding.special.weight, frames])
    theirs = hugging_face_twin(model)(inputs_embeds=table[laid.source], token_type_ids=(laid.kind >= SENTENCE).long(), attention_mask=there.long())
    return model.transformer(model.embedding(frames, laid), there)[there], theirs.last_hidden_state[there]


@pytest.mark.parametrize('layers, heads', [(1, 1), (2, 4), (3, 8)])
def test_the_encoder_is_bert(corpus, layers, heads):
    model, batch = spotter(norm_first=False, layers=layers, heads=heads, tokens=64), batch_of(corpus, np.arange(7))
    ours, theirs = both_encoders(model, batch, torch.randn(len(batch.frames), 128))
    assert (ours - theirs).abs().max() < 1e-5


def test_the_encoders_gradient_is_berts(corpus):
    model, batch = spotter(norm_first=False, tokens=64), batch_of(corpus, np.arange(7))
    frames = torch.randn(len(batch.frames), 128, requires_grad=True)
    ours, theirs = both_encoders(model, batch, frames)
    towards = torch.randn_like(ours)
    a, b = (torch.autograd.grad((x * towards).sum(), frames, retain_graph=True)[0] for x in (ours, theirs))
    assert (a - b).abs().max() < 1e-4 * a.abs().max()


def test_the_2d_encoder_is_three_conv2d():
    torch.manual_seed(0)
    encoder, layers = FrameEncoder2D().train(), []
    for ours, (shape, padding) in zip(encoder.convolutions, [((16, 1, 4, 2), 0), ((32, 16, 4, 1), (1, 0)), ((32, 32, 4, 1), (1, 0))]):
        conv = nn.Conv2d(shape[1], shape[0], shape[2:], stride=(2, 1), padding=padding, bias=False)
        weight = ours.kernel.weight.data.unflatten(1, (4, -1))                                   # (out, row, in or column)
        conv.weight.data = weight.unsqueeze(1) if shape[1] == 1 else weight.transpose(1, 2).unsqueeze(3)
        layers += [conv, nn.BatchNorm2d(shape[0]), nn.ReLU()]
    pooled = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((3, 1)))(frames := torch.randn(40, 1, 50, 2)).squeeze(3)  # (40, 32, 3)
    assert torch.allclose(encoder(frames.squeeze(1)), encoder.linear(pooled.transpose(1, 2).flatten(1)), atol=1e-5)


@pytest.mark.parametrize('encoder', [FrameEncoder1D, FrameEncoder2D])
def test_an_encoder_looks_at_every_keypoint(encoder):
    frames = torch.randn(16, 50, 2, requires_grad=True)
    encoder(8).eval()(frames).square().sum().backward()
    assert (frames.grad.abs().sum(0) > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_layout_is_cls_query_sep_sentence(data):
    length = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    clip = st.integers(0, len(length) - 1)
    pairs = data.draw(st.lists(st.tuples(clip, clip), min_size=1, max_size=5))
    laid, first = layout(torch.tensor(length), torch.tensor(pairs)), np.cumsum(length) - length
    for row, (q, s) in enumerate(pairs):
        frames = [[int(first[c]) + i + 2 for i in range(length[c])] for c in (q, s)]
        expected = [0, *frames[0], 1, *frames[1]]
        kinds = [0, *[QUERY] * length[q], 2, *[SENTENCE] * length[s]]
        assert laid.source[row, :len(expected)].tolist() == expected and laid.kind[row, :len(kinds)].tolist() == kinds
        assert (laid.kind[row, len(kinds):] == PADDING).all()


@pytest.mark.parametrize('config', [dict(encoder=e, readout=r) for e in ('1d', '2d') for r in ('cls', 'max', 'mean')] + [dict(norm_first=False)],
                         ids=lambda c: ' '.join(map(str, c.values())))
@torch.inference_mode()
def test_a_score_does_not_depend_on_the_other_pairs(corpus, config):
    model = spotter(**config)
    together = model(batch_of(corpus, np.arange(7)))
    alone = [model(batch_of(corpus, np.array([i]))) for i in range(7)]                        # no padding
    shuffled, order = model(batch_of(corpus, np.array([6, 2, 0, 5, 1, 4, 3]))), [6, 2, 0, 5, 1, 4, 3]
    for field in ('logits', 'query', 'sentence', 'score', 'similarity'):
        value = getattr(together, field)
        assert torch.allclose(value, torch.cat([getattr(o, field) for o in alone]), atol=1e-5)
        assert torch.allclose(value[order], getattr(shuffled, field), atol=1e-5)
    assert together.logits.std() > 1e-3   # and it is not one score for all


@torch.inference_mode()
def test_a_clip_encoded_once_is_as_good_as_once_per_pair(corpus):
    "The same pairs, each with its own copies of its clips."
    copies = noise_corpus(corpus.length[corpus.pairs].ravel().tolist(), np.arange(14).reshape(7, 2))
    copies = replace(copies, frames=np.concatenate([corpus.clip(i) for i in corpus.pairs.ravel()]))
    model, once, again = spotter(), batch_of(corpus, np.arange(7)), batch_of(copies, np.arange(7))
    assert len(once.frames) == corpus.length.sum() and len(again.frames) == copies.length.sum() > 2 * len(once.frames)
    assert torch.allclose(model(once).logits, model(again).logits, atol=1e-5)


def test_no_padding_is_encoded(corpus):
    model, seen = spotter(), []
    model.encoder.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output.shape)))
    model(batch_of(corpus, np.array([1, 2, 3])))
    frames = corpus.length.sum()   # these three pairs use every clip
    assert seen == [((frames, 50, 2), (frames, 128))]


def test_augmentation_sees_each_clip_of_the_batch_once(corpus):
    seen = []
    batch = batch_of(corpus, np.array([0, 1]), lambda frames, length: seen.append((len(frames), length.tolist())) or frames + 1)
    assert seen == [(24, [4, 3, 17])]
    assert torch.equal(batch.frames, torch.from_numpy(np.concatenate([corpus.clip(i) for i in (0, 1, 3)]) + 1))


def test_every_weight_is_trained(corpus):
    for readout in ('cls', 'max', 'mean'):
        model = Spotter(SpotterConfig(readout=readout)).train()
        output = model(batch_of(corpus, np.arange(7)))
        (output.logits.square().sum() + output.similarity.square().sum()).backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []


def test_bad_input(corpus):
    for wrong in (dict(encoder='3d'), dict(readout='pool'), dict(answer='both'), dict(d=100, heads=8)):
        with pytest.raises(BadInput): SpotterConfig(**wrong)
    with pytest.raises(BadInput, match='41 tokens'): spotter(tokens=40)(batch_of(corpus, np.array([4])))
    spotter(tokens=41)(batch_of(corpus, np.array([4])))
