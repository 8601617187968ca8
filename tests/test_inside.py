"Looking into the model changes nothing, and what is seen is what was used; spans and marks against brute force."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from signspot.corpus import Corpus
from signspot.inside import (LOOKS, alone_curve, apart, attention_curves, attention_weights, best_span, blind_curves, bridged, gradient_curves, in_use, listening, look_inside, looked, occlusion_curve,
                             rollout, similarity_curves, stretches, tiou, weights_of)
from signspot.pose import BadInput
from signspot.spotter import PADDING, QUERY, SENTENCE, Spotter, SpotterConfig, batch_of, layout
from signspot.where import CONTROLS, curve, do_where, frames_in, look_all, marks, mass, over_seeds, see, span, tried, truth, where_job


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    "Clips of noise; the sentences hold their queries frame by frame, one of them twice."
    rng, lengths = np.random.default_rng(0), np.array([4, 3, 6, 12, 17, 9])
    clips = [rng.normal(size=(n, 50, 2)).astype(np.float32) for n in lengths]
    clips[3][5:9], clips[3][9:12], clips[4][2:6], clips[4][10:14] = clips[0], clips[1], clips[0], clips[0]
    segments, glosses = np.array([[3, 5, 9], [3, 9, 12], [4, 2, 6], [4, 10, 14], [5, 1, 5]]), np.array(['A', 'B', 'A', 'A', 'C'])
    return Corpus('noise', np.concatenate(clips), lengths, np.repeat(['query', 'sentence'], 3), np.array(['A', 'B', 'C', 'A B', 'A A', 'C']), np.full(6, 'anna'), np.array([[0, 3], [1, 3], [0, 4], [2, 4], [2, 5]]),
                  np.array([1, 1, 1, 0, 1]), np.array([[5, 9], [9, 12], [2, 6], [-1, -1], [1, 5]]), segments=segments, segment_gloss=glosses)


def spotter(answer='head', **config) -> Spotter:
    "A model in use, far from its initial values."
    torch.manual_seed(0)
    model = Spotter(SpotterConfig(d=32, width=64, answer=answer, **config))
    for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]: norm.running_mean.normal_(); norm.running_var.uniform_(.5, 2)
    for table in (model.embedding.special, model.embedding.position, model.embedding.token_type): nn.init.normal_(table.weight)
    return model.eval()


VARIANTS = [{}, {'norm_first': False}, {'layers': 3, 'heads': 2, 'encoder': '1d'}, {'readout': 'cls'}, {'sep': False}, {'types': False, 'positions': False}]


@pytest.mark.parametrize('config', VARIANTS, ids=str)
def test_weights_are_those_that_were_used(corpus, config):
    "Rows add up to one, nothing looks at padding, and weights times values are what attention gave back."
    model, batch = spotter(**config), batch_of(corpus, np.arange(5))
    kind = layout(batch.length, batch.pairs, int(config.get('sep', True))).kind
    inside = look_inside(model, batch)
    assert torch.equal(inside.layout.kind, kind) and inside.weights.shape == (5, config.get('layers', 2), config.get('heads', 4), *[kind.shape[1]] * 2)
    assert torch.equal(attention_weights(model, batch), inside.weights) and torch.allclose(inside.weights.sum(-1), torch.tensor(1.), atol=1e-6)
    assert not inside.weights.movedim(4, 1)[kind == PADDING].any()
    with torch.no_grad(), listening(*[block.attention for block in model.transformer.blocks]) as heard:
        output = model(batch)
        for layer, (attention, (x, mask), gave) in enumerate(heard):
            v = attention.qkv(x).chunk(3, 2)[2].unflatten(2, (attention.heads, -1)).transpose(1, 2)
            assert torch.allclose(attention.out((inside.weights[:, layer] @ v).transpose(1, 2).flatten(2)), gave, atol=1e-5)
            assert torch.equal(inside.weights[:, layer], weights_of(heard[layer]))
    assert torch.equal(output.logits, inside.output.logits)


def test_attention_curves_against_plain_loops(corpus):
    inside = look_inside(spotter(), batch_of(corpus, np.arange(5)))
    for pair in range(5):
        kind = inside.layout.kind[pair].tolist()
        at = {what: [t for t, k in enumerate(kind) if k == what] for what in (QUERY, SENTENCE)}
        w = inside.weights[pair].numpy()
        expected = {'query to sentence': [np.mean([w[:, :, q, s].mean() for q in at[QUERY]]) for s in at[SENTENCE]], '[CLS] to sentence': [w[:, :, 0, s].mean() for s in at[SENTENCE]],
                    'sentence to query': [w[:, :, s][:, :, at[QUERY]].sum(2).mean() for s in at[SENTENCE]]}
        for who in LOOKS: assert np.allclose(attention_curves(inside, who)[pair], expected[who], atol=1e-6)
        assert np.allclose(attention_curves(inside, 'query to sentence', 1, 2)[pair], [w[1, 2, at[QUERY], s].mean() for s in at[SENTENCE]], atol=1e-6)
        through = np.eye(len(kind))
        for layer in w.mean(1): through = (layer / 2 + np.eye(len(kind)) / 2) @ through
        assert np.allclose(rollout(inside)[pair], through, atol=1e-5)


@pytest.mark.parametrize('answer', ['head', 'similarity'])
def test_curves_do_not_depend_on_the_batch(corpus, answer):
    "Nor on padding: a pair alone, among others, and in another order."
    model = spotter(answer)
    def curves(chosen):
        batch = batch_of(corpus, np.array(chosen))
        inside = look_inside(model, batch)
        return [*(attention_curves(inside, who) for who in (*LOOKS, 'rollout')), similarity_curves(inside), gradient_curves(model, batch), gradient_curves(model, batch, signed=False)]
    together, backwards, alone = curves(range(5)), curves(range(5)[::-1]), [curves([pair]) for pair in range(5)]
    for way in range(len(together)):
        for pair in range(5):
            assert together[way][pair].shape == (corpus.length[corpus.pairs[pair, 1]],)
            assert np.allclose(together[way][pair], alone[pair][way][0], atol=1e-5) and np.allclose(together[way][pair], backwards[way][4 - pair], atol=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_the_model_is_left_as_it_was(corpus, training):
    "Mode, hooks, gradients, weights, BatchNorm's statistics; also after a failure."
    model, batch = spotter().train(training), batch_of(corpus, np.arange(5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = [look_inside(model, batch).weights, *map(torch.from_numpy, gradient_curves(model, batch)), torch.from_numpy(occlusion_curve(model, corpus.clip(0), corpus.clip(3), 4)), torch.from_numpy(alone_curve(model, corpus.clip(0), corpus.clip(3), 4))]
    second = [look_inside(model, batch).weights, *map(torch.from_numpy, gradient_curves(model, batch)), torch.from_numpy(occlusion_curve(model, corpus.clip(0), corpus.clip(3), 4)), torch.from_numpy(alone_curve(model, corpus.clip(0), corpus.clip(3), 4))]
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    with pytest.raises(RuntimeError), in_use(model), listening(model.encoder): raise RuntimeError
    assert all(m.training == training for m in model.modules()) and not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters()) and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_gradient_is_the_gradient(corpus):
    "Signed, to first order: what the answer loses when a frame's vector goes a little towards the mean."
    model = spotter().double()
    batch = apart(batch_of(corpus, np.array([2])))
    batch = batch._replace(frames=batch.frames.double())
    sentence = slice(int(batch.length[0]), None)
    with torch.no_grad():
        vectors, laid = model.encoder(batch.frames), layout(batch.length, batch.pairs)
        def logit(x): return model.head(model.transformer(model.embedding(x, laid), laid.kind != PADDING).amax(1))[0, 0]
        curve_, mean = gradient_curves(model, batch)[0], vectors[sentence].mean(0)
        for t in (0, 7, 16):
            moved = vectors.clone()
            moved[sentence][t] += 1e-6 * (mean - vectors[sentence][t])
            assert float((logit(vectors) - logit(moved)) / 1e-6) == pytest.approx(curve_[t], abs=1e-4, rel=1e-3)


def test_apart_gives_every_pair_its_own_clips(corpus):
    batch = batch_of(corpus, np.arange(5))
    own = apart(batch)
    clips = own.frames.split(own.length.tolist())
    for pair, (query, sentence) in enumerate(own.pairs.tolist()):
        assert np.array_equal(clips[query], corpus.clip(corpus.pairs[pair, 0])) and np.array_equal(clips[sentence], corpus.clip(corpus.pairs[pair, 1]))
    assert len(own.length) == 10


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2 ** 32 - 1))
@settings(max_examples=60, deadline=None)
def test_bridges_are_straight_and_leave_the_rest_alone(frames, width, seed):
    clip = np.random.default_rng(seed).normal(size=(frames, 50, 2)).astype(np.float32)
    middle, spans = stretches(frames, width)
    whole = spans[:, 1] - spans[:, 0] == width
    assert (middle[whole] == (spans.sum(1) - 1)[whole] / 2).all() and abs(middle[0]) <= .5 and abs(middle[-1] - frames + 1) <= .5 and (np.diff(spans, axis=1) >= 1).all() and frames_in(spans, frames).all()
    for (a, b), made in zip(spans, bridged(clip, spans)):
        assert np.array_equal(made[:a], clip[:a]) and np.array_equal(made[b:], clip[b:])
        ends = clip[a - 1] if a else clip[b] if b < frames else clip[0], clip[b] if b < frames else clip[a - 1] if a else clip[0]
        for t in range(a, b): assert np.allclose(made[t], ends[0] + (ends[1] - ends[0]) * (t - a + 1) / (b - a + 1), atol=1e-5)


def test_hiding_everything_or_nothing(corpus):
    model, query, sentence = spotter(), corpus.clip(0), corpus.clip(4)
    assert np.ptp(occlusion_curve(model, query, sentence, 99)) < 1e-6 and np.ptp(alone_curve(model, query, sentence, 99)) < 1e-6
    with torch.no_grad(): whole = float(model(batch_of(corpus, np.array([2]))).logits)
    assert alone_curve(model, query, sentence, 99)[0] == pytest.approx(whole, abs=1e-5)       # a stretch as wide as that shows all
    still = np.repeat(sentence[:1], 9, 0)
    assert np.abs(occlusion_curve(model, query, still, 4)).max() < 1e-5                       # nothing moves, so nothing is hidden
    assert len(occlusion_curve(model, query, sentence[:1], 4)) == 1
    with pytest.raises(BadInput, match='one frame or more'): occlusion_curve(model, query, sentence, 0)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.integers(1, 50))
def test_best_span_is_the_best(values, length):
    curve_ = np.array(values, float)
    start, end = best_span(curve_, length)
    n = min(length, len(values))
    every = [curve_[a:a + n].mean() for a in range(len(values) - n + 1)]
    assert 0 <= start < end <= len(values) and end - start == n and np.isclose(curve_[start:end].mean(), max(every))
    assert start == next(a for a, mean in enumerate(every) if np.isclose(mean, max(every), rtol=0, atol=1e-9))
    assert np.array_equal(best_span(np.stack([curve_, -curve_]), length), [best_span(curve_, length), best_span(-curve_, length)])


spans = st.tuples(st.integers(0, 30), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1]))


@given(spans, spans)
def test_tiou_counts_frames(a, b):
    frames_a, frames_b = set(range(*a)), set(range(*b))
    assert tiou(a, b) == tiou(b, a) == pytest.approx(len(frames_a & frames_b) / len(frames_a | frames_b)) and tiou(a, a) == 1


@given(spans, st.lists(spans, min_size=1, max_size=3))
def test_marks_take_the_best_occurrence(found, asked):
    from signspot.where import Truth
    given_ = marks(np.array(found), Truth(np.array(asked), np.zeros((0, 2), int)))
    assert given_['tIoU'] == pytest.approx(max(float(tiou(found, one)) for one in asked)) and given_['right sign'] == 1
    assert given_['hit'] == any(a <= sum(found) / 2 < b for a, b in asked) and given_['tIoU >= 0.5'] <= given_['tIoU >= 0.3']


def test_truth_knows_all_occurrences(corpus):
    assert truth(corpus, 2).asked.tolist() == [[2, 6], [10, 14]] and not len(truth(corpus, 2).others)
    assert truth(corpus, 0).asked.tolist() == [[5, 9]] and truth(corpus, 0).others.tolist() == [[9, 12]]
    unmarked = replace(corpus, segments=None, segment_gloss=None)
    assert truth(unmarked, 0).asked.tolist() == [[5, 9]] and len(truth(unmarked, 3).asked) == 0


def test_mass_of_a_sentence_is_one(corpus):
    inside = look_inside(spotter(), batch_of(corpus, np.array([0])))
    for who in LOOKS:
        parts = [mass(inside, who, frames_in(np.array([part]), 12)) for part in ((0, 5), (5, 9), (9, 12))]
        assert np.allclose(sum(parts), 1) and np.allclose(parts[1], (looked(inside, who)[0][..., 11:15].sum(-1) / looked(inside, who)[0].sum(-1)), atol=1e-6)   # [CLS], 4 of the query, [SEP], 5 frames


def test_every_way_gives_a_span_within_the_sentence(corpus):
    model = spotter()
    for way in [way for ways in tried({'d': 32, 'width': 64}).values() for way in ways] + list(CONTROLS.values()):
        for pair in (0, 4):
            a, b = span(see(corpus, pair, model), way, 5)
            assert 0 <= a < b <= corpus.length[corpus.pairs[pair, 1]] and (way['evidence'] == 'DTW' or b - a == 5), way
    with pytest.raises(BadInput, match='evidence must be one of'): curve(see(corpus, 0, model), 'tea leaves')
    with pytest.raises(BadInput, match='query to sentence'): attention_curves(see(corpus, 0, model).inside, 'nobody')
    with pytest.raises(BadInput): best_span(np.zeros(3), 0)


def test_slow_hands_are_not_quick(corpus):
    of = blind_curves(corpus.clip(4))
    assert np.allclose(of['slow hands'], -of['quick hands']) and of['middle of the sentence'].argmax() == 8


def test_intervals_hold_what_they_should():
    values = np.random.default_rng(0).random((3, 400))
    of = over_seeds(values)
    assert of['low'] < .5 < of['high'] and of['mean'] == pytest.approx(values.mean()) and of['seeds'] == pytest.approx(values.mean(1).tolist())
    assert over_seeds(values, 2 * np.ones(400))['mean'] == pytest.approx(of['mean'] / 2) and over_seeds(values[:1])['mean'] == pytest.approx(values[0].mean())
    lower = over_seeds(values, less=(values + .1, np.ones(400)))
    assert lower['low'] == pytest.approx(-.1) == pytest.approx(lower['high'])


def test_jobs_are_done_once(tmp_path):
    exam = {'corpus': {'sentences': 5, 'sentence_signs': [2, 3], 'queries_per_sign': 2, 'world': 'plain'}, 'seed': 1}
    blank = {'layers': 1, 'd': 32, 'width': 64, 'seed': 0}
    ways = [{'evidence': 'similarity'}, {'evidence': 'occlusion', 'width': 8}]
    jobs = {'blank': where_job(blank, exam, ways, 4), 'nobody': where_job(None, exam, list(CONTROLS.values()), 4)}
    found = look_all(do_where, jobs, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert look_all(do_where, jobs, tmp_path) == found and {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert np.array(found['blank']['spans']).shape == (5, 2, 2) and len(found['blank']['score']) == 5 and found['nobody']['score'] == [] and json.dumps(found, allow_nan=False)
