"The matcher: the same answer whatever is beside a pair, however long the recording, whichever hand; and weights that are refused if they are damaged."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from signspot.corpus import Corpus
from signspot.dtw import core, dtw_features, hand_size, mirrored
from signspot.harm import harm
from signspot.matcher import (BODY, NEVER, PLACE, SEEN, SHAPE, Matcher, MatcherConfig, bundled, cores, forward_paths, hand_features, hand_sizes, holds_matcher, moments, probability,
                              steps, with_directions, without_body)
from signspot.pose import BadInput
from signspot.prepare import Prepared
from signspot.seek import answer, ask_for, read, seek
from signspot.signing import SigningConfig, sign_corpus
from signspot.submission import matcher_scores
from signspot.teach import as_lesson, batch_of, examine, occurrences_of, seen_in

SMALL = MatcherConfig(hand=16, d=32, heads=2, head=8, channels=8)


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return sign_corpus(SigningConfig(signs=60, sentence_signs=(1, 6), sentences=12, queries_per_sign=None, part='validation'), 4)


@pytest.fixture(scope='module')
def model() -> Matcher:
    return bundled()


def one(clip: Prepared) -> np.ndarray:
    return hand_features(clip.frames, clip.present, np.array([len(clip)]))


# What a hand is

def test_features_of_many_are_those_of_each(corpus):
    together = hand_features(corpus.frames, corpus.present, corpus.length)
    for i in range(len(corpus.length)): assert np.allclose(together[corpus.frames_of(i)], one(corpus.prepared(i)), atol=1e-5)


def test_features_agree_with_those_of_dtw(corpus):
    clip = corpus.prepared(int(corpus.pairs[0, 1]))
    mine, theirs = one(clip), dtw_features(clip.frames, clip.present)
    seen = clip.present[:, 1]
    size = hand_sizes(clip.frames, clip.present, np.array([len(clip)]))[0]
    assert size == pytest.approx(hand_size(clip.frames, clip.present), rel=.05)
    assert np.allclose(mine[seen, 1, SHAPE], theirs.shape[seen, 1] * 20 ** .5 * hand_size(clip.frames, clip.present) / size, atol=1e-4)
    assert np.allclose(mine[:, :, PLACE] * [[-1, 1], [1, 1]], theirs.place[:, :, :2], atol=1e-5)


def test_a_mirrored_clip_has_its_hands_exchanged(corpus):
    clip = corpus.prepared(0)
    assert np.allclose(one(clip), one(mirrored(clip))[:, ::-1], atol=1e-5)
    assert np.allclose(one(clip), one(mirrored(mirrored(clip))), atol=1e-6)


def test_unseen_hands_have_no_shape():
    clip = Prepared(np.random.default_rng(0).normal(size=(6, 50, 2)).astype('float32'), np.zeros((6, 2), bool), 12.5)
    x = one(clip)
    assert not x[..., SHAPE].any() and not x[..., SEEN].any() and np.isfinite(x).all()


def test_cores_are_those_of_dtw(corpus):
    kept = cores(corpus.frames, corpus.length)
    for i in range(len(corpus.length)): assert np.flatnonzero(kept[corpus.frames_of(i)]).tolist() == core(corpus.clip(i)).tolist()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(2, 20))
def test_moments_interpolate(lengths, rows):
    lengths = np.array(lengths)
    x = np.concatenate([np.arange(n, dtype=float) for n in lengths])[:, None]
    found = moments(x, np.ones(len(x), bool), lengths, rows)[..., 0]
    assert found == pytest.approx(np.linspace(0, 1, rows) * (lengths[:, None] - 1), abs=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_steps_stay_within_their_clip(lengths):
    lengths = np.array(lengths)
    x = np.repeat(1000. * np.arange(len(lengths)), lengths)[:, None]
    assert not steps(x, lengths).any()


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 5))
def test_directions_do_not_see_padding(frames, padding):
    x = torch.randn(1, frames, 2, 51)
    longer = torch.cat([x, torch.randn(1, padding, 2, 51)], 1)
    mask = torch.arange(frames + padding)[None] < frames
    assert torch.allclose(with_directions(longer, mask)[:, :frames], with_directions(x, mask[:, :frames]), atol=1e-6)


# All paths

@pytest.mark.parametrize('rows, frames', [(1, 5), (3, 4), (4, 7)])
def test_forward_paths_count_every_path(rows, frames):
    from itertools import product
    torch.manual_seed(rows)
    score, step = torch.randn(1, rows, frames), torch.randn(4)
    weights = torch.randn(2, 1, rows)
    weights = weights - weights.mean(2, keepdim=True) + 1 / rows
    total, begin, end = forward_paths(score, *weights, step)
    for j in range(frames):
        paths = [path for path in product(range(frames), repeat=rows) if path[-1] == j and all(0 <= b - a <= 3 for a, b in zip(path, path[1:]))]
        worth = torch.stack([sum(score[0, i, t] for i, t in enumerate(path)) + sum((step[b - a] for a, b in zip(path, path[1:])), torch.tensor(0.)) for path in paths])
        assert total[0, j].item() == pytest.approx(torch.logsumexp(worth, 0).item(), abs=1e-3)
        for said, weight in zip((begin, end), weights[:, 0]):
            expected = (worth.softmax(0) * torch.tensor([sum(w * t for w, t in zip(weight.tolist(), path)) for path in paths])).sum()
            assert said[0, j].item() == pytest.approx(expected.item(), abs=1e-2)


# The network

def test_an_answer_does_not_depend_on_batch_or_padding(corpus, model):
    lesson = as_lesson(corpus, model.config.rows)
    together = examine(model, lesson, 64).logit
    assert np.allclose(together, examine(model, lesson, 1).logit, atol=2e-3)
    alone = [answer(model, ask_for(model, [corpus.prepared(q)]), read(model, corpus.prepared(s))).present for q, s in corpus.pairs.tolist()]
    said = [float(probability(model, torch.tensor(logit), seen)) for logit, seen in zip(together, seen_in(corpus))]
    assert np.allclose(said, alone, atol=2e-3)


@pytest.mark.parametrize('lost', [0., .5, 1.])
def test_a_table_of_answers_has_what_each_is_told_alone(lost, corpus, model):
    corpus = harm(corpus, 'lost hands', lost) if lost else corpus
    alone = [answer(model, ask_for(model, [corpus.prepared(q)]), read(model, corpus.prepared(s))).present for q, s in corpus.pairs.tolist()]
    assert np.allclose(matcher_scores(corpus), alone, atol=2e-3)


def test_mirrors_do_not_matter(corpus, model):
    q, s = corpus.pairs[0].tolist()
    ask = lambda a, b: answer(model, ask_for(model, [a]), read(model, b))
    query, sentence = corpus.prepared(q), corpus.prepared(s)
    plain = ask(query, sentence)
    assert ask(mirrored(query), sentence).present == pytest.approx(plain.present, abs=1e-3)      # a query has both ways in it
    assert np.allclose(ask(mirrored(query), sentence).span, plain.span, atol=.05)


@pytest.mark.parametrize('window', [7, 64, 100])
def test_windows_do_not_matter(corpus, model, window):
    clip = corpus.prepared(int(corpus.pairs[0, 1]))
    clip = replace(clip, frames=np.tile(clip.frames, (5, 1, 1)), present=np.tile(clip.present, (5, 1)))
    query = ask_for(model, [corpus.prepared(int(corpus.pairs[0, 0]))])
    whole, pieces = seek(model, query, read(model, clip)), seek(model, query, read(model, clip, window=window), window)
    for a, b in zip(whole, pieces): assert torch.allclose(a, b, atol=5e-3)


def test_several_examples_are_one_query(corpus, model):
    q, s = corpus.pairs[0].tolist()
    clip, signing = corpus.prepared(q), read(model, corpus.prepared(s))
    once, thrice = (answer(model, ask_for(model, [clip] * n), signing) for n in (1, 3))
    assert thrice.present == pytest.approx(once.present, abs=1e-4) and np.allclose(thrice.span, once.span, atol=1e-2)
    with pytest.raises(BadInput, match='at least one'): ask_for(model, [])


def test_where_hands_alone_were_seen_place_in_the_picture_does_not_matter(corpus, model):
    clip = corpus.prepared(int(corpus.pairs[0, 1]))
    moved = replace(clip, frames=clip.frames + np.float32([.3, -.2]))
    a, b = (read(model, x, body=False).encoded.vector for x in (clip, moved))
    assert torch.allclose(a, b, atol=1e-3)
    assert not torch.allclose(read(model, clip).encoded.vector, read(model, moved).encoded.vector, atol=1e-2)
    x = torch.from_numpy(one(clip))[None]
    assert not without_body(x, torch.ones(1, len(clip), dtype=torch.bool), torch.ones(1))[..., BODY].any()


def test_a_sign_is_told_once(corpus, model):
    "As many stretches above one half as there are occurrences, or nearly; not the same one again, a little to the left."
    told, there = [], np.bincount(occurrences_of(corpus)[:, 0], minlength=len(corpus))
    for q, s in corpus.pairs.tolist():
        found = answer(model, ask_for(model, [corpus.prepared(q)]), read(model, corpus.prepared(s)))
        told.append(int((found.score > .5).sum()))
    present = corpus.label == 1
    assert .7 * there.sum() < np.array(told)[present].sum() < 1.2 * there.sum() and there.sum() >= 10


@pytest.mark.parametrize('frames', [1, 2, 5])
def test_the_shortest_clips_are_answered(corpus, model, frames):
    clip = corpus.prepared(int(corpus.pairs[0, 1]))
    short = replace(clip, frames=clip.frames[:frames], present=clip.present[:frames])
    for asked, signing in ((corpus.prepared(0), short), (short, clip)):
        found = answer(model, ask_for(model, [asked]), read(model, signing))
        assert 0 <= found.present <= 1 and np.isfinite(found.span).all() and (found.span[:, 1] > found.span[:, 0]).all()
        assert found.span.min() >= 0 and found.span.max() <= len(signing) and found.score.max() <= found.present + 1e-5


def test_padding_takes_no_part(corpus, model):
    lesson = as_lesson(corpus, model.config.rows)
    batch = batch_of(lesson, np.arange(6))
    with torch.inference_mode(): found, _, _ = model(*batch[:4])
    live = batch.mask[batch.pairs[:, 1]]
    assert (found.total[~live] < NEVER / 2).all() and (found.total[live] > NEVER / 2).all()


# What comes with the library

def test_the_bundled_matcher_is_small_and_knows_signs_it_never_saw(corpus, model):
    from importlib.resources import files
    from sklearn.metrics import roc_auc_score
    assert (files('signspot') / 'weights' / 'model.safetensors').stat().st_size <= 8e6
    unseen = sign_corpus(SigningConfig(signs=100, sentence_signs=(1, 8), sentences=40, pairs_per_sentence=4, queries_per_sign=None, part='test'), 5)
    said = examine(model, unseen)
    assert roc_auc_score(unseen.label, said.logit) > .93


def test_kept_and_found_again(tmp_path):
    torch.manual_seed(0)
    network = Matcher(SMALL).eval()
    network.config = replace(SMALL, sharpness=1.5, shift=-.25, blind=2., sure=.7)
    again = Matcher.from_pretrained(network.save_pretrained(tmp_path / 'new'))
    assert again.config == network.config and all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))
    assert holds_matcher(tmp_path / 'new') and not holds_matcher(tmp_path)


@pytest.mark.parametrize('fault, said', [('no folder', 'needs config.json'), ('no weights', 'needs config.json'), ('another kind', 'holds no matcher'), ('a size', 'd is 0'), ('another size', 'is not a matcher'),
                                         ('an unknown field', 'is not a matcher'), ('not JSON', 'is not a matcher'), ('cut off', 'is not a matcher'), ('NaN', 'damaged'), ('sharpness', 'sharpness'), ('blind', 'blind')])
def test_faulty_folders_are_refused(fault, said, tmp_path):
    from safetensors.torch import load_file, save_file
    folder = Matcher(SMALL).save_pretrained(tmp_path / 'it')
    config, weights = folder / 'config.json', folder / 'model.safetensors'
    change = lambda **more: config.write_text(json.dumps(json.loads(config.read_text()) | more))
    if fault == 'no folder': folder = tmp_path / 'nowhere'
    elif fault == 'no weights': weights.unlink()
    elif fault == 'another kind': change(kind='spotter')
    elif fault == 'a size': change(d=0)
    elif fault == 'another size': change(d=40)
    elif fault == 'an unknown field': change(colour='red')
    elif fault == 'not JSON': config.write_text('{')
    elif fault == 'cut off': weights.write_bytes(weights.read_bytes()[:1000])
    elif fault == 'sharpness': change(sharpness=-1)
    elif fault == 'blind': change(blind=float('inf'))
    else: save_file({name: torch.full_like(t, float('nan')) if t.is_floating_point() else t for name, t in load_file(weights).items()}, weights)
    with pytest.raises(BadInput, match=said): Matcher.from_pretrained(folder)


def test_the_hub_mixin_keeps_the_same_folder(tmp_path):
    pytest.importorskip('huggingface_hub')
    from signspot.hub import hub_matcher, is_matcher, open_matcher
    torch.manual_seed(1)
    network = hub_matcher()(SMALL)
    network.save_pretrained(tmp_path / 'shared')
    plain, again = Matcher.from_pretrained(tmp_path / 'shared'), hub_matcher().from_pretrained(str(tmp_path / 'shared'))
    assert plain.config == again.config == SMALL and all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), again.state_dict().values()))
    assert is_matcher(tmp_path / 'shared') and open_matcher(tmp_path / 'shared').config == SMALL
    with pytest.raises(BadInput, match='cannot be had'): open_matcher('hub:not a name')


def test_without_huggingface_hub_it_says_what_to_install(monkeypatch):
    import sys
    from signspot.hub import hub_matcher, open_matcher
    hub_matcher.cache_clear()
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(BadInput, match='pip install huggingface_hub'): open_matcher('hub:somebody/matcher')
    hub_matcher.cache_clear()
