"The model is BERT's encoder over packed frames, and a pair's score is its own affair."
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from signspot.corpus import Corpus
from signspot.encoder import ENCODERS, HANGS_FROM, FrameEncoder2D, shape_apart
from signspot.pose import BadInput
from signspot.skeleton import PAPER_50
from signspot.spotter import PADDING, QUERY, SEP, SENTENCE, Batch, Dropout, Spotter, SpotterConfig, batch_of, layout, zeros_at


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


@pytest.mark.parametrize('name', ENCODERS)
@pytest.mark.parametrize('d', [8, 128])
@pytest.mark.parametrize('frames', [1, 2, 37])
def test_an_encoder_makes_a_vector_of_every_frame(name, d, frames):
    vectors = ENCODERS[name](d).eval()(torch.randn(frames, 50, 2))
    assert vectors.shape == (frames, d) and vectors.isfinite().all()


@pytest.mark.parametrize('name', ENCODERS)
def test_an_encoder_looks_at_every_keypoint(name):
    frames = torch.randn(16, 50, 2, requires_grad=True)
    ENCODERS[name](8).eval()(frames).square().sum().backward()
    assert (frames.grad.abs().sum(0) > 0).all()


@pytest.mark.parametrize('name', ENCODERS)
def test_an_encoder_does_not_look_at_the_frames_beside(name):
    encoder, frames = ENCODERS[name](16).eval(), torch.randn(9, 50, 2, requires_grad=True)
    encoder(frames)[4].square().sum().backward()
    moved = frames.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [i == 4 for i in range(9)]
    assert torch.allclose(encoder(frames), torch.cat([encoder(frame) for frame in frames.split(1)]), atol=1e-5)


@pytest.mark.parametrize('name', ENCODERS)
def test_every_weight_of_an_encoder_is_trained(name):
    encoder = ENCODERS[name](16).train()
    encoder(torch.randn(32, 50, 2)).square().sum().backward()
    assert [weight for weight, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_how_many_weights_the_encoders_have():
    "And in which order 2D's are drawn: Table 2's models come from it."
    assert {name: sum(p.numel() for p in encoder().parameters()) for name, encoder in ENCODERS.items()} == {'1d': 46208, '2d': 18848, '2d wrist': 18976, '2d fine': 31136}
    assert [tuple(p.shape) for p in FrameEncoder2D().parameters()] == [(16, 8), (16,), (16,), (32, 64), (32,), (32,), (32, 128), (32,), (32,), (128, 96), (128,)]


def test_every_keypoint_hangs_from_a_joint_of_its_own_side():
    for i, joint in enumerate(HANGS_FROM):
        (part, point), (of, name) = PAPER_50.points[i].split(':'), PAPER_50.points[joint].split(':')
        assert of == part and name == ('WRIST' if 'HAND' in part else f'{point.split("_")[0]}_SHOULDER')


def test_handshape_is_seen_apart_from_place():
    "A hand somewhere else changes the first two columns of its rows, and not the last two."
    frames = torch.randn(5, 50, 2)
    moved = frames.clone()
    moved[:, 29:] += torch.tensor([.7, -.4])   # the right hand, all of it
    a, b = shape_apart(frames), shape_apart(moved)
    assert a.shape == (5, 50, 4) and torch.equal(a[..., :2], frames)
    assert torch.allclose(a[..., 2:], b[..., 2:], atol=1e-5) and not torch.allclose(a[:, 29:, :2], b[:, 29:, :2])


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


@pytest.mark.parametrize('config', [dict(encoder=e, readout=r) for e in ('1d', '2d') for r in ('cls', 'max', 'mean')] +
                         [dict(norm_first=False), dict(encoder='2d wrist'), dict(encoder='2d fine'), dict(sep=False), dict(types=False), dict(positions=False), dict(sep=False, types=False, positions=False)],
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


def test_layout_without_sep_lacks_only_the_sep(corpus):
    batch = batch_of(corpus, np.arange(7))
    whole, bare = layout(batch.length, batch.pairs), layout(batch.length, batch.pairs, sep=0)
    assert bare.kind.shape[1] == whole.kind.shape[1] - 1 and SEP not in bare.kind
    for row in range(7):
        kept = (whole.kind[row] != SEP) & (whole.kind[row] != PADDING)
        there = bare.kind[row] != PADDING
        assert torch.equal(whole.kind[row][kept], bare.kind[row][there]) and torch.equal(whole.source[row][kept], bare.source[row][there])


@torch.inference_mode()
def test_what_is_left_out_is_not_used(corpus):
    "Without a piece, its weights do not matter; with it, they do."
    batch = batch_of(corpus, np.arange(7))
    for piece, table, rows in (('sep', 'special', slice(1, 2)), ('types', 'token_type', slice(None)), ('positions', 'position', slice(None))):
        for there in (True, False):
            model = spotter(**{piece: there})
            before = model(batch).logits
            weight = getattr(model.embedding, table).weight
            weight[rows] += torch.randn_like(weight[rows])
            assert torch.allclose(model(batch).logits, before, atol=1e-6) != there, (piece, there)


@torch.inference_mode()
def test_shuffling_positions_is_shuffling_frames(corpus):
    "Within a clip; and without positions, frames in another order say the same."
    batch, rng = batch_of(corpus, np.array([3])), np.random.default_rng(0)   # one pair: query, then sentence
    query, sentence = batch.length.tolist()
    orders = rng.permutation(query), rng.permutation(sentence)
    shuffled = batch._replace(frames=batch.frames[np.concatenate([orders[0], query + orders[1]])])
    model, moved = spotter(), spotter()
    at = np.concatenate([[0], 1 + np.argsort(orders[0]), [query + 1], query + 2 + np.argsort(orders[1])])   # of each token, the position its frame has now
    moved.embedding.position.weight[:len(at)] = moved.embedding.position.weight[:len(at)][at]
    assert torch.allclose(model(shuffled).logits, moved(batch).logits, atol=1e-5)
    assert not torch.allclose(model(shuffled).logits, model(batch).logits, atol=1e-4)
    blind = spotter(positions=False)
    assert torch.allclose(blind(shuffled).logits, blind(batch).logits, atol=1e-5)


@torch.inference_mode()
def test_keypoints_in_another_order_are_1d_with_its_weights_in_that_order():
    torch.manual_seed(0)
    plain, moved = ENCODERS['1d'](16).eval(), ENCODERS['1d'](16).eval()
    moved.load_state_dict(plain.state_dict())
    frames, order = torch.randn(6, 50, 2), torch.randperm(50)
    moved[1].weight[:] = plain[1].weight.unflatten(1, (50, 2))[:, order].flatten(1)
    assert torch.allclose(moved(frames[:, order]), plain(frames), atol=1e-5)


def test_every_weight_is_trained(corpus):
    for readout in ('cls', 'max', 'mean'):
        model = Spotter(SpotterConfig(readout=readout)).train()
        output = model(batch_of(corpus, np.arange(7)))
        (output.logits.square().sum() + output.similarity.square().sum()).backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []


def test_bad_input(corpus):
    for wrong in (dict(encoder='3d'), dict(encoder='2d + 1d'), dict(sep=1), dict(types='no'), dict(positions=None), dict(readout='pool'), dict(answer='both'), dict(d=100, heads=8)):
        with pytest.raises(BadInput): SpotterConfig(**wrong)
    with pytest.raises(BadInput, match='41 tokens'): spotter(tokens=40)(batch_of(corpus, np.array([4])))
    spotter(tokens=41)(batch_of(corpus, np.array([4])))


@pytest.mark.parametrize('p', [.001, .02, .3, .9])
def test_dropout_is_a_coin_for_each_number(p):
    "As many zeros as a binomial has, everywhere alike, and neighbours know nothing of each other."
    torch.manual_seed(0)
    drawn, n = 4000, 200
    zero = torch.stack([torch.bincount(zeros_at(n, p), minlength=n) for _ in range(drawn)]).double()   # (4000, 200)
    assert zero.shape == (drawn, n) and zero.max() == 1
    error = (p * (1 - p) / drawn) ** .5                                                                # of the share at one place
    assert (zero.mean(0) - p).abs().max() < 5 * error
    assert abs(zero.sum(1).var() / (n * p * (1 - p)) - 1) < .15
    assert abs((zero[:, 1:] * zero[:, :-1]).mean() - p * p) < 5 * p * (1 / (drawn * n)) ** .5


@pytest.mark.parametrize('laid_out', [lambda x: x, lambda x: x.transpose(0, 1), lambda x: x[:, ::2]])
def test_dropout_scales_and_passes_its_gradient(laid_out):
    torch.manual_seed(0)
    x = torch.randn(60, 40, requires_grad=True)
    given = laid_out(x)
    before, y = given.detach().clone(), Dropout(.1)(given)
    kept = y != 0
    assert .05 < 1 - kept.double().mean() < .15 and torch.equal(given, before)
    assert torch.allclose(y[kept], given[kept] / .9)
    weight = torch.randn_like(y)
    assert torch.allclose(torch.autograd.grad((y * weight).sum(), given)[0], weight * kept / .9)


def test_dropout_in_use_does_nothing_and_a_seed_repeats_it():
    x, layer = torch.randn(50, 30), Dropout(.2)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first) and not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x) and torch.equal(Dropout(0.)(x), x)
    assert Dropout(.2)(x.bfloat16()).dtype == torch.bfloat16
