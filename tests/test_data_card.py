"data/README.md is what data/corpora.json says, and that is what the corpora are."
import importlib.util
import json
from pathlib import Path

import pytest

from signspot.experiment import code_version

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location('data_card', ROOT/'tools'/'data_card.py')
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)
FACTS = json.loads((ROOT/'data'/'corpora.json').read_text())


def test_the_card_is_what_the_facts_say():
    assert (ROOT/'data'/'README.md').read_text(encoding='utf-8') == tool.card(FACTS), 'run: python tools/data_card.py'


def test_the_card_says_what_a_card_must():
    text = tool.card(FACTS)
    assert all(word in text for word in ('licence', 'consent', 'signers', 'minutes', 'blind guess', 'What overlaps', 'documented, not measured', '`paper.json`', '`log.json`'))
    assert 'nan' not in text.lower().split() and 'None' not in text
    for told in (FACTS['procedural'], *FACTS['recordings']): assert all(told['about'].get(key) for key in ('language', 'licence', 'consent', 'source'))


def test_the_procedural_corpus_was_measured_with_this_code():
    assert FACTS['procedural']['code'] == code_version(tool.GENERATOR), 'the generator has changed: python tools/data_card.py --measure'


def test_every_file_in_data_is_listed():
    text = tool.card(FACTS)
    assert [path.name for path in (ROOT/'data').iterdir() if path.name != 'README.md' and f'`{path.name}`' not in text] == []


def test_recordings_are_as_measured(shared):
    if not all((shared/'data'/name).exists() for name in tool.REAL): pytest.skip('not all recordings are in ../shared/data')
    now, overlaps = tool.recordings()
    assert overlaps == FACTS['overlaps'] and [told['name'] for told in now] == [told['name'] for told in FACTS['recordings']]
    for told, before in zip(now, FACTS['recordings']):
        assert all(told[key] == before[key] for key in ('pairs', 'signers', 'segments', 'failed', 'balance', 'about')) and told['minutes'] == pytest.approx(before['minutes'], abs=.2)


def test_without_recordings_their_facts_stay(tmp_path, monkeypatch):
    for name in ('FACTS', 'CARD'): monkeypatch.setattr(tool, name, tmp_path/getattr(tool, name).name)
    (tmp_path/'corpora.json').write_text(json.dumps(FACTS))
    monkeypatch.setattr(tool, 'RECORDINGS', tmp_path/'nowhere')
    monkeypatch.setattr(tool, 'procedural', lambda: FACTS['procedural'])
    tool.measure()
    assert json.loads((tmp_path/'corpora.json').read_text()) == FACTS
    monkeypatch.setattr(tool, 'RECORDINGS', tmp_path)
    with pytest.raises(SystemExit, match='stay as they are'): tool.measure()
