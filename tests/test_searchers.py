"Searchers: each library finds a piece at its place, and intervals are those of drawing sentences again."
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from signspot.prepare import Prepared
from signspot.searchers import LIBRARIES, auc_interval, library_search, numbers, seconds
from signspot.signing import SigningConfig, sign_corpus


@pytest.fixture(scope='module')
def clips() -> list[Prepared]:
    corpus = sign_corpus(SigningConfig(signs=20, sentence_signs=(3, 5), sentences=8, part='validation'), 3)
    return [corpus.prepared(int(i)) for i in np.unique(corpus.pairs[:, 1])]


@pytest.mark.parametrize('name', LIBRARIES)
def test_a_piece_fits_where_it_is_from(name, clips):
    piece = Prepared(clips[0].frames[8:24], clips[0].present[8:24], clips[0].fps)
    scores = [library_search(name, piece, clip)() for clip in clips]
    assert np.argmax(scores) == 0 and max(scores) <= 1e-9 and len({type(s) for s in scores}) == 1
    assert [library_search(name, piece, clip)() for clip in clips] == scores


@pytest.mark.parametrize('name', LIBRARIES)
def test_a_sentence_shorter_than_the_query_has_a_score(name, clips):
    short = Prepared(clips[1].frames[:5], clips[1].present[:5], clips[1].fps)
    assert np.isfinite(library_search(name, clips[0], short)())


def test_numbers_are_of_every_frame_and_finite(clips):
    for clip in clips: assert numbers(clip).shape == (len(clip), 92) and np.isfinite(numbers(clip)).all()


def test_intervals_hold_the_mean_and_narrow_with_more_sentences():
    rng = np.random.default_rng(0)
    def width(sentences: int) -> float:
        label = np.tile([0, 1], 2 * sentences)
        score = label + rng.normal(0, 1, len(label))
        mean, low, high = auc_interval(label, score, np.repeat(np.arange(sentences), 4), 400)
        assert low < mean < high and mean == roc_auc_score(label, score)
        return high - low
    assert width(400) < .6 * width(50)


def test_the_median_of_runs():
    calls = []
    assert seconds(lambda: calls.append(1), 5) >= 0 and len(calls) == 6
