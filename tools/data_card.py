"data/README.md from data/corpora.json. `--measure` measures the corpora first: the procedural one always, recordings where they lie in ../shared/data."
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FACTS, CARD = ROOT / 'data' / 'corpora.json', ROOT / 'data' / 'README.md'
RECORDINGS = ROOT.parent / 'shared' / 'data'
GENERATOR = ('skeleton', 'pose', 'prepare', 'corpus', 'phonology', 'signing')   # modules that the procedural corpus depends on
REAL = {  # file: what its own metadata does not say
    'asl_traduttore14.npz': {'consent': 'not stated; the people are team members of the project, says the file', 'signers': 'several, not labelled', 'remark': 'one of the 15 signs is <idle>, recordings in which nothing is signed'},
    'isl_kinect30.npz': {'consent': 'not stated'},
    'asl_boston104.npz': {'consent': 'not stated; a published research corpus (Dreuw et al. 2007)'},
    'mp_data_sample': {'language': 'American Sign Language', 'source': 'the same as asl_traduttore14, as it lies in its repository', 'licence': 'MIT (c) 2022 traduttore', 'consent': 'as asl_traduttore14', 'signers': 'several, not labelled'}}
DOCUMENTED = [  # not measured by us; as far as their papers and pages say
    {'name': 'WSLP 2025, Word Presence Prediction', 'language': 'Indian Sign Language', 'clips': '7,857 sentences and 1,410 queries in training and validation; 1,266 and 555 in test; of all these we have seen one query and one sentence, the task\'s public example', 'pairs': '25,432, half of them present',
     'licence': 'CC BY-NC-ND 4.0', 'source': 'Hugging Face Exploration-Lab/WSLP, folder Shared_task_WPP; videos only', 'signers': 'not documented', 'consent': 'not documented',
     'overlap': 'training with test: "minimal", says the paper; training with validation: a random split of pairs, we infer, so sentences and queries are shared. How negatives were made is not documented.'},
    {'name': 'iSign v1.1, word presence', 'language': 'Indian Sign Language', 'clips': 'not counted by us; clip ids end in _w (word), _e<N> (example sentence)', 'pairs': 'positives only; negatives are drawn by the reader, and it says so', 'licence': 'CC BY-NC-SA 4.0, gated',
     'source': 'arXiv 2407.05404; .pose files of MediaPipe Holistic', 'signers': 'not documented', 'consent': 'not documented', 'overlap': 'with WSLP: not documented'}]
FILES = """| file | what |
|---|---|
| `paper.json` | the numbers that the paper reports, each marked as read or second-hand; the paper notebooks take them from here and nowhere else |
| `log.json` | the experiments behind `nbs/paper/log.ipynb` |
| `corpora.json` | what this page is made from, by `python tools/data_card.py` (`--measure`: measured anew) |
"""

SINGLE = """Beside these corpora, eight single recordings were measured (nbs/paper/realism.ipynb names them): two of MSL-150, two of pose-format, one each of sign-segmentation and segmentation (all MIT),
and the shared task's example, a query and a sentence (from `public/` of github Exploration-Lab/WSLP; only numbers of it are kept, nothing is drawn)."""


# Measuring

def balance(corpus) -> dict:
    "How evenly clips are spread over signs and signers: fewest, median, most."
    queries = corpus.kind == 'query'
    spread = lambda names: [int(f(np.unique(names, return_counts=True)[1])) for f in (min, np.median, max)] if len(names) and (names != '').all() else None
    return {'query clips of a sign': spread(corpus.gloss[queries]), 'clips of a signer': spread(corpus.signer)}


def measured(corpus, more: dict) -> dict:
    "What the card needs of a corpus; `more` stands where the corpus itself says nothing."
    from signspot.corpus import facts
    told = facts(corpus)
    about = {key: value for key, value in told.pop('about').items() if key in ('language', 'source', 'licence', 'consent', 'negatives', 'notes') and value != 'not stated'}
    return told | {'failed': len(corpus.about.get('failed', {})), 'balance': balance(corpus), 'about': {'language': 'not stated', 'source': 'not stated', 'licence': 'not stated', 'consent': 'not stated'} | about | more}


def procedural() -> dict:
    "The generated corpus with its usual settings, and a fingerprint of the code that generates it."
    from signspot.experiment import code_version
    from signspot.signing import sign_corpus
    more = {'language': 'none: made up by a program', 'source': 'nbs/11_phonology.ipynb, nbs/12_signing.ipynb; generated on demand, the same from the same seed', 'licence': 'that of this repository',
            'consent': 'nobody was recorded'}
    return measured(sign_corpus(seed=0), more) | {'name': 'procedural, usual settings, seed 0', 'code': code_version(GENERATOR)}


def looks(corpus) -> np.ndarray:  # (N, 300)
    "Each clip in a few numbers: its mean, first and last posture."
    return np.array([np.concatenate([corpus.clip(i).mean(0).ravel(), corpus.clip(i)[0].ravel(), corpus.clip(i)[-1].ravel()]) for i in range(len(corpus.length))])


def overlap(a, b) -> str:
    "What two corpora share, in words."
    from scipy.spatial.distance import cdist
    same = int((cdist(looks(b), looks(a)).min(1) < .01).sum())
    names = lambda corpus: {gloss.casefold() for gloss in corpus.gloss[corpus.kind == 'query'].tolist()} - {'', '<idle>'}
    shared = names(a) & names(b)
    return f'{same} clips of {b.name} are in {a.name}; {len(shared)} of their glosses have the same name'


def recordings() -> tuple[list[dict], list[str]]:
    "Facts and overlaps of the real corpora that lie here."
    from signspot.readers import open_corpus
    found = {name: open_corpus(RECORDINGS / name) for name in REAL if (RECORDINGS / name).exists()}
    if missing := set(REAL) - set(found): raise SystemExit(f'data_card: {", ".join(sorted(missing))} not in {RECORDINGS}: without all of them their facts stay as they are')
    return [measured(corpus, REAL[name]) for name, corpus in found.items()], [overlap(a, b) for a, b in combinations(found.values(), 2)]


def measure():
    "Write corpora.json; of recordings that are not here, what it said before stays."
    from signspot.pose import atomic
    before = json.loads(FACTS.read_text()) if FACTS.exists() else {'recordings': [], 'overlaps': []}
    real, overlaps = recordings() if RECORDINGS.is_dir() else (before['recordings'], before['overlaps'])
    made = {'made by': 'tools/data_card.py', 'procedural': procedural(), 'recordings': real, 'overlaps': overlaps, 'documented': DOCUMENTED}
    with atomic(FACTS) as part: part.write_text(json.dumps(made, indent=1) + '\n')


# The card

def or_unknown(value, text: str = '{}') -> str:
    return 'not known' if value is None else text.format(value)


def clips_of(told: dict) -> str:
    "Clips of both kinds, with their lengths."
    parts = []
    for kind in ('queries', 'sentences'):
        of = told[kind]
        if of['clips']: parts.append(f'{of["clips"]:,} {"sentences" if kind == "sentences" else "clips of single signs"} of {or_unknown(of["signs"], "{:,} signs")}, median {of["seconds"]} s')
    return '; '.join(parts) + (f'; {told["failed"]} more could not be used' if told['failed'] else '') + (f'; {told["cut out"]:,} of the single signs are cut out of the sentences' if told['cut out'] else '')


def spread(values: list | None) -> str:
    return 'not known' if values is None else f'{values[0]}' if values[0] == values[2] else f'{values[0]} to {values[2]}, median {values[1]}'


def card_of(told: dict) -> str:
    "One measured corpus."
    about, even = told['about'], told['balance']
    pairs = f'{told["pairs"]:,}, {told["present"]:.0%} of them present; negatives: {about.get("negatives", "not stated")}' if told['pairs'] else 'none: isolated signs'
    guess = ', '.join(f'{part} alone {value:.1%}' for part, value in told['blind'].items())
    rows = {'language': about['language'], 'clips': clips_of(told), 'minutes': f'{told["minutes"]}', 'signers': about.get('signers') or or_unknown(told['signers']), 'pairs': pairs, 'blind guess': guess,
            'clips of a sign': spread(even['query clips of a sign']), 'clips of a signer': spread(even['clips of a signer']), 'signs with boundaries': f'{told["segments"]:,}' if told['segments'] else '',
            'a hand seen in': or_unknown(told['a hand seen'], '{:.0%} of frames'), 'licence': about['licence'], 'consent': about['consent'], 'source': about['source'], 'notes': about.get('notes', ''), 'remark': about.get('remark', '').replace('<', '&lt;')}
    return '\n'.join([f'| **{told["name"]}** | measured |', '|---|---|', *(f'| {key} | {value} |' for key, value in rows.items() if value)])


def documented_card(told: dict) -> str:
    "One corpus that we have not seen."
    return '\n'.join([f'| **{told["name"]}** | documented, not measured |', '|---|---|', *(f'| {key} | {value} |' for key, value in told.items() if key != 'name')])


def card(told: dict) -> str:
    "The page."
    parts = ['<!-- made from data/corpora.json by `python tools/data_card.py`; edit there -->', '# Data',
             'Nothing is downloaded. The default corpus is *procedural*: signs, signers and sentences are generated on demand from a seed\n'
             '(`nbs/11_phonology.ipynb`, `nbs/12_signing.ipynb`), so the same seed gives the same corpus on every machine.',
             'The paper\'s own data (WSLP 2025, Word Presence Prediction, Indian Sign Language) is licensed CC BY-NC-ND 4.0 and not part of this repository. Neither are the recordings below:\n'
             'they are what the library was tried on, and their numbers are kept so that this page can be made where they are not.', FILES.strip(),
             '## The procedural corpus', card_of(told['procedural']), '## Recordings', *map(card_of, told['recordings']), SINGLE, '## What overlaps', '\n'.join(f'- {line}' for line in told['overlaps']),
             'A clip counts as the same if its mean, first and last posture are. Signers are labelled in few of these corpora, so whether people are shared between them is not known.',
             '## Known of, not measured', *map(documented_card, told['documented'])]
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    if '--measure' in sys.argv[1:]: measure()
    CARD.write_text(card(json.loads(FACTS.read_text())), encoding='utf-8')
