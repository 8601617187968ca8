"Corpora: what does not fit is refused by name, splits keep apart what they promise, and files come back whole or not at all."
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from signspot.corpus import BLIND, SPLITS, Corpus, audit, blind, blind_after, contact_sheet, corpus_of, describe, facts, frame_labels, recordings, split_unit, subset, take_clips
from signspot.pose import BadInput
from signspot.prepare import Prepared


def made(sentences=60, queries=5, signers=4, signs=6, seed=0, **more) -> Corpus:
    "Clips of noise with everything known: names, signers, spans, segments."
    rng, Q = np.random.default_rng(seed), queries * signs
    words = [rng.permutation(signs)[:n].tolist() for n in rng.integers(1, 4, sentences)]
    gloss = [f'G{q // queries}' for q in range(Q)] + [' '.join(f'G{w}' for w in said) for said in words]
    length = np.r_[np.full(Q, 3), [2 + 4 * len(said) for said in words]]
    pairs = np.array([(q, Q + s) for s in range(sentences) for q in rng.choice(Q, 3, replace=False)])
    segments = np.array([(Q + s, 4 * k, 4 * k + 3) for s, said in enumerate(words) for k in range(len(said))])
    inside = [words[s - Q].index(q // queries) if q // queries in words[s - Q] else -1 for q, s in pairs]
    return Corpus('made', rng.normal(size=(length.sum(), 50, 2)).astype('float32'), length, np.repeat(['query', 'sentence'], [Q, sentences]), np.array(gloss),
                  np.array([f'S{i % signers}' for i in range(Q + sentences)]), pairs, (np.array(inside) >= 0).astype(int),
                  span=np.array([(4 * k, 4 * k + 3) if k >= 0 else (-1, -1) for k in inside]), present=rng.random((length.sum(), 2)) < .8, segments=segments,
                  segment_gloss=np.array([f'G{w}' for said in words for w in said]), about={'language': 'none'}, **more)


@pytest.fixture(scope='module')
def corpus() -> Corpus:
    return made()


@pytest.fixture(scope='module')
def composed(corpus) -> Corpus:
    "The same, its sentences composed from the first queries' recordings."
    ids = np.array([f'clip{i}' for i in range(90)])
    return replace(corpus, id=ids, source=np.array(['' if kind == 'query' else ' '.join(ids[[i % 7, 7 + i % 11]]) for i, kind in enumerate(corpus.kind)]))


def same(a: Corpus, b: Corpus) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Corpus))


# Form and content

@pytest.mark.parametrize('wrong, what', [
    (dict(signer=np.array(['a'])), 'signer has shape'), (dict(gloss=np.arange(90)), 'gloss must hold text'), (dict(label=np.full(180, .5)), 'label must hold whole numbers'),
    (dict(pairs=np.zeros((180, 3), int)), 'pairs has shape'), (dict(fps=float('nan')), 'must be positive'), (dict(fps=0), 'must be positive'),
    (dict(about={'path': json}), 'plain JSON'), (dict(about={'x': float('nan')}), 'plain JSON'), (dict(present=np.ones((3, 2), bool)), 'present has shape'),
    (dict(frames=np.zeros((9, 50, 3), 'float32')), 'not float32'), (dict(length=np.r_[0, 6, np.full(88, 3)]), 'frames in all'), (dict(kind=np.full(90, 'word')), "neither 'query' nor"),
    (dict(kind=np.full(90, 'query')), 'used as a sentence'), (dict(id=np.full(90, 'x')), 'more than one clip is called x'), (dict(label=np.full(180, 2)), 'labels must be'),
    (dict(span=np.full((180, 2), 3)), 'a span outside'), (dict(span=np.tile([0, 99], (180, 1))), 'a span outside'), (dict(span=np.tile([-1, 2], (180, 1))), 'a span outside'), (dict(segments=np.array([(0, 0, 4)]), segment_gloss=np.array(['G'])), 'segment 0'),
    (dict(segments=np.array([(90, 0, 1)]), segment_gloss=np.array(['G'])), 'segment 0'), (dict(segment_gloss=np.array(['G'])), 'segment_gloss has shape')])
def test_what_does_not_fit_is_named(wrong, what, corpus):
    with pytest.raises(BadInput, match=what) as said: replace(corpus, **wrong)
    assert str(said.value).startswith('made: ') and '\n' not in str(said.value)


def test_clips_that_are_not_there(corpus):
    for clip in (-1, 90):
        pairs = corpus.pairs.copy()
        pairs[5] = clip
        with pytest.raises(BadInput, match='pair 5: a clip that is not there'): replace(corpus, pairs=pairs)


def test_keypoints_that_are_no_numbers_name_their_clip(corpus):
    for i in (0, 40, 89):
        frames = corpus.frames.copy()
        frames[corpus.start[i], 7, 1] = np.inf
        with pytest.raises(BadInput, match=f'no numbers.*made {i}$'): replace(corpus, frames=frames)


def test_all_that_is_wrong_is_said_at_once(corpus):
    with pytest.raises(BadInput) as said: replace(corpus, signer=['a'], fps=-1, gloss=corpus.gloss[1:])
    assert all(word in str(said.value) for word in ('signer', 'gloss', 'frames a second'))


def test_little_need_be_given():
    few = Corpus('few', np.zeros((5, 50, 2), 'float32'), [2, 3], ['query', 'sentence'], ['A', ''], ['', ''], [(0, 1)], [-1])
    assert few.present.all() and few.id.tolist() == ['few 0', 'few 1'] and few.span.tolist() == [[-1, -1]] and few.segments.shape == (0, 3) and few.about == {} and few.fps == 12.5
    assert facts(few)['present'] is None and facts(few)['without label'] == 1 and 'nan' not in describe(few)


def test_an_empty_corpus_is_a_corpus(tmp_path):
    none = Corpus('none', np.zeros((0, 50, 2), 'float32'), [], [], [], [], [], [])
    assert 'nan' not in describe(none) and json.dumps(facts(none), allow_nan=False)
    for name in ('none.npz', 'none'): assert same(Corpus.load(none.save(tmp_path/name)), none)
    with pytest.raises(BadInput, match='no pairs to split'): none.split()
    with pytest.raises(BadInput, match='no clips to show'): contact_sheet(none)


def test_clips_one_by_one_and_end_to_end(corpus):
    clips = [corpus.prepared(i) for i in range(90)]
    again = corpus_of('made', clips, **{f.name: getattr(corpus, f.name) for f in fields(Corpus) if f.name not in ('name', 'frames', 'present', 'length', 'fps')})
    assert same(again, corpus)
    with pytest.raises(BadInput, match='prepare them all at one rate'): corpus_of('two', [clips[0], replace(clips[1], fps=25.)], kind=[], gloss=[], signer=[], pairs=[], label=[])


def test_frame_labels_are_the_segments(corpus):
    for i in (0, 30, 77):
        label = frame_labels(corpus, i)
        assert len(label) == corpus.length[i] and [corpus.segment_gloss[k] for k in dict.fromkeys(label[label >= 0])] == (corpus.gloss[i].split() if i >= 30 else [])


# Parts

def test_a_part_keeps_what_belongs_to_it(corpus):
    part = take_clips(corpus, (corpus.signer == 'S1') | (corpus.signer == 'S2'))
    assert set(part.signer) == {'S1', 'S2'} and 0 < len(part) < len(corpus)
    for i, name in enumerate(part.id):
        old = int(name.split()[1])
        assert np.array_equal(part.clip(i), corpus.clip(old)) and np.array_equal(part.present[part.frames_of(i)], corpus.present[corpus.frames_of(old)])
        assert [corpus.segment_gloss[k] for k in np.flatnonzero(corpus.segments[:, 0] == old)] == [part.segment_gloss[k] for k in np.flatnonzero(part.segments[:, 0] == i)]


def test_a_part_of_the_pairs(corpus):
    chosen = np.random.default_rng(0).permutation(len(corpus))[:20]
    part = subset(corpus, chosen)
    assert (part.id[part.pairs] == corpus.id[corpus.pairs[chosen]]).all() and (part.label == corpus.label[chosen]).all() and (part.span == corpus.span[chosen]).all()
    assert len(part.length) == len(np.unique(corpus.pairs[chosen]))


# Splits

@pytest.mark.parametrize('by', [*SPLITS, 'query+signer', 'sentence+query', ('sentence', 'query', 'signer')])
@pytest.mark.parametrize('which', ['corpus', 'composed'])
def test_splits_do_not_share_their_unit(by, which, request):
    whole = request.getfixturevalue(which)
    by_clip = by == 'clip' and which == 'composed'
    train, held = whole.split(by, .5 if by_clip or len(by) > 2 and '+' in by or not isinstance(by, str) else .25, seed=1)
    what = train.about['split']
    assert len(train) + len(held) + what['dropped'] == len(whole) == what['pairs'] and len(train) and len(held)
    for unit in (by.split('+') if isinstance(by, str) else by):
        if unit != 'pair': assert not set(split_unit(train, unit).ravel().tolist()) & set(split_unit(held, unit).ravel().tolist())
    if by in ('pair', 'sentence', 'query'): assert not what['dropped']
    assert what['by'] in held.name


def test_a_split_by_signer_keeps_people_apart_in_queries_too(corpus):
    train, held = corpus.split('signer', .5)
    assert not set(train.signer) & set(held.signer) and train.about['split']['dropped'] > 0


def test_composed_sentences_leak_unless_split_by_clip(composed):
    by_sentence, by_clip = (audit(*composed.split(by, .4)) for by in ('sentence', 'clip'))
    assert by_sentence.shared['recordings']['pairs'] > .5 and by_clip.shared['recordings']['shared'] == 0


def test_the_same_seed_splits_alike(corpus):
    assert same(corpus.split('sentence', seed=3)[1], corpus.split('sentence', seed=3)[1]) and not same(corpus.split('sentence', seed=3)[1], corpus.split('sentence', seed=4)[1])
    assert set(corpus.split('signer', .5)[1].signer) == set(corpus.split('signer+query', .5)[1].signer)    # a conjunction holds out the same people


@pytest.mark.parametrize('how, what', [(dict(by='frame'), 'pair, sentence, query, signer, clip'), (dict(by=''), 'choose one'), (dict(by=()), 'choose one'), (dict(by='query+frame'), "'frame'"),
                                       *((dict(fraction=f), 'between 0 and 1') for f in (0, 1, -.1, 2, float('nan'), float('inf')))])
def test_impossible_splits_are_refused(how, what, corpus):
    with pytest.raises(BadInput, match=what): corpus.split(**how)


def test_what_is_not_known_cannot_be_split_by(corpus):
    with pytest.raises(BadInput, match='by signer, for it is not known in'): replace(corpus, signer=np.where(np.arange(90) == 3, '', corpus.signer)).split('signer')
    with pytest.raises(BadInput, match='by query, for it is not known in'): replace(corpus, gloss=np.full(90, '')).split('query')


def test_a_split_that_leaves_a_side_empty_says_why(corpus):
    with pytest.raises(BadInput, match='share one'): replace(corpus, signer=np.full(90, 'S')).split('signer')
    with pytest.raises(BadInput, match='no pair held out, for .* of 180 pairs would mix'): corpus.split('sentence+query+signer', .05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(['pair', 'sentence', 'query', 'signer', 'query+signer', 'sentence+signer']), st.floats(.2, .6))
def test_every_split_is_disjoint_or_refused(seed, by, fraction):
    whole = made(sentences=20, queries=2, seed=seed)
    try: train, held = whole.split(by, fraction, seed)
    except BadInput: return
    assert len(train) + len(held) + train.about['split']['dropped'] == len(whole)
    for unit in by.split('+'):
        if unit != 'pair': assert not set(split_unit(train, unit).ravel().tolist()) & set(split_unit(held, unit).ravel().tolist())


# Looking without looking

def test_blind_counts_majorities(corpus):
    label, sentence = corpus.label, corpus.pairs[:, 1]
    by_hand = sum(max((label[sentence == s] == 1).sum(), (label[sentence == s] == 0).sum()) for s in np.unique(sentence)) / len(label)
    assert blind(corpus, 'sentence') == pytest.approx(by_hand) == blind_after(corpus, corpus, 'sentence')
    unknown = replace(corpus, label=np.where(np.arange(180) < 90, -1, label), span=np.where(np.arange(180)[:, None] < 90, -1, corpus.span))
    assert blind(unknown, 'query') == blind(subset(corpus, np.arange(90, 180)), 'query')
    with pytest.raises(BadInput, match='one of query'): blind(corpus, 'gloss')


def test_remembering_helps_where_a_sentence_is_always_a_yes(corpus):
    rigged = replace(corpus, label=(corpus.pairs[:, 1] % 2), span=np.full((180, 2), -1))
    leaky, tight = audit(*rigged.split('pair')), audit(*rigged.split('sentence'))
    assert leaky.blind['sentence'] > .9 and tight.blind['sentence'] == .5


def test_an_audit_finds_copies_under_other_names(corpus):
    copy = replace(corpus, id=np.array([f'copy {i}' for i in range(90)]), signer=np.full(90, 'X'))
    found = audit(corpus, copy)
    assert found.shared['clips with the same frames']['shared'] == 90 and found.shared['query clips']['shared'] == found.shared['signers']['shared'] == 0
    assert '100%' in found._repr_markdown_() and found.plot().axes and set(found.blind) == set(BLIND)


def test_recordings_are_sources_or_the_clip_itself(composed):
    made_of = recordings(composed)
    assert made_of[0] == (composed.id[0],) and made_of[40] == tuple(composed.source[40].split())


def test_facts_are_plain(corpus):
    told = facts(corpus)
    assert json.loads(json.dumps(told)) == told and told['queries']['signs'] == 6 and told['signers'] == 4 and told['segments'] == len(corpus.segments)
    assert all(part in describe(corpus) for part in ('180', '30, 6 signs', 'language'))


def test_contact_sheets(corpus):
    assert len(contact_sheet(corpus, 5).axes) == 5 and len(contact_sheet(corpus, [3, 40]).axes) == 2
    figure = contact_sheet(corpus, [40])
    assert [text.get_text() for text in figure.axes[0].texts] == corpus.gloss[40].split()


def test_unseen_hands_are_not_drawn():
    clip = Prepared(np.random.default_rng(0).normal(size=(4, 50, 2)).astype('float32'), np.tile([False, True], (4, 1)), 12.5)
    one = corpus_of('one', [clip], kind=['query'], gloss=['A'], signer=['S'], pairs=[], label=[])
    both = corpus_of('one', [replace(clip, present=np.ones((4, 2), bool))], kind=['query'], gloss=['A'], signer=['S'], pairs=[], label=[])
    bones = lambda figure: sum(len(lines.get_segments()) for lines in figure.axes[0].collections if hasattr(lines, 'get_segments'))
    assert bones(contact_sheet(one, 1, 4)) < bones(contact_sheet(both, 1, 4))


# On disk

@pytest.mark.parametrize('name', ['c.npz', 'c', 'deeper/v1.2'])
def test_a_corpus_survives_the_disk(name, corpus, tmp_path):
    path = corpus.save(tmp_path/name)
    back = Corpus.load(path)
    assert same(back, corpus) and [p.name for p in path.parent.iterdir()] == [path.name]
    assert isinstance(back.frames, np.memmap) is (name != 'c.npz') and isinstance(back.present, np.memmap) is (name != 'c.npz')
    assert same(back.split('sentence')[0], corpus.split('sentence')[0]) and not isinstance(back.split('sentence')[0].frames, np.memmap)


def test_a_store_is_replaced_and_other_folders_are_not(corpus, tmp_path):
    less = subset(corpus, np.arange(9))
    (tmp_path/'store').mkdir()
    for part in (corpus, less): part.save(tmp_path/'store')
    assert len(Corpus.load(tmp_path/'store')) == 9 and [p.name for p in tmp_path.iterdir()] == ['store']
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'letter.txt').write_text('dear')
    (tmp_path/'file').write_text('x')
    for name in ('mine', 'file'):
        with pytest.raises(BadInput, match='is not a corpus: give another name'): corpus.save(tmp_path/name)
    assert (tmp_path/'mine'/'letter.txt').read_text() == 'dear'


def test_a_failed_write_leaves_nothing(corpus, tmp_path, monkeypatch):
    corpus.save(tmp_path/'store')
    def full(*_, **__): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(np, 'savez', full)
    for name in ('store', 'c.npz'):
        with pytest.raises(BadInput, match='No space left'): corpus.save(tmp_path/name)
    assert [p.name for p in tmp_path.iterdir()] == ['store'] and len(Corpus.load(tmp_path/'store')) == len(corpus)


@pytest.mark.parametrize('content', [None, b'', b'not a zip', b'PK\x03\x04 half a zip', b'\x93NUMPY\x01\x00v\x00{', 'foreign', 'array', 'objects', 'old'])
def test_foreign_files_are_refused_in_a_line(content, corpus, tmp_path):
    path = tmp_path/'c.npz'
    if content == 'foreign': np.savez(path, a=np.arange(3))
    elif content == 'array':
        with path.open('wb') as file: np.save(file, np.arange(3))
    elif content == 'objects': np.savez(path, **{f.name: np.array([{}], object) for f in fields(Corpus)})
    elif content == 'old': np.savez(path, **{name: getattr(corpus, name) for name in ('name', 'frames', 'length', 'kind', 'gloss', 'signer', 'pairs', 'label', 'span', 'fps')})
    elif content is not None: path.write_bytes(content)
    with pytest.raises(BadInput, match='c.npz') as said: Corpus.load(path)
    assert '\n' not in str(said.value)


@pytest.mark.parametrize('keep', [10, .1, .5, .9, .999])
@pytest.mark.parametrize('name', ['c.npz', 'c/frames.npy', 'c/present.npy', 'c/clips.npz'])
def test_truncated_files_are_refused_in_a_line(name, keep, corpus, tmp_path):
    path = corpus.save(tmp_path/name.split('/')[0])
    file = tmp_path/name
    content = file.read_bytes()
    file.write_bytes(content[:keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(BadInput, match='/c') as said: Corpus.load(path)
    assert '\n' not in str(said.value)


def test_damaged_files_are_refused_in_a_line(corpus, tmp_path):
    "Any byte may be wrong: a corpus comes back, or a line."
    path, rng = subset(corpus, np.arange(20)).save(tmp_path/'c.npz'), np.random.default_rng(0)
    content = path.read_bytes()
    for at in rng.integers(0, len(content), 150):
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1:])
        try: assert Corpus.load(path)
        except BadInput as error: assert 'c.npz' in str(error) and '\n' not in str(error)


@pytest.mark.parametrize('missing', ['frames.npy', 'present.npy', 'clips.npz'])
def test_a_store_without_one_of_its_files(missing, corpus, tmp_path):
    path = corpus.save(tmp_path/'store')
    (path/missing).unlink()
    with pytest.raises(BadInput, match='cannot read .*store'): Corpus.load(path)


@pytest.mark.parametrize('about', ['[', '', 'null'])
def test_about_that_is_no_json(about, corpus, tmp_path):
    stored = {f.name: getattr(corpus, f.name) for f in fields(Corpus)} | {'about': np.array(about)}
    np.savez(tmp_path/'c.npz', **stored)
    with pytest.raises(BadInput, match='c.npz'): Corpus.load(tmp_path/'c.npz')


def test_numbers_of_a_mapped_store_are_not_read_to_check_them(corpus, tmp_path):
    path = corpus.save(tmp_path/'store')
    frames = np.lib.format.open_memmap(path/'frames.npy', mode='r+')
    frames[0] = np.nan
    frames.flush()
    del frames
    assert np.isnan(Corpus.load(path).clip(0)).any()      # said in the field's comment
    with pytest.raises(BadInput, match='no numbers'): Corpus.load(path).subset(np.arange(180))
