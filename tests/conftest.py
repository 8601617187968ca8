"What every test may ask for."
import os
from pathlib import Path

for name, value in {'MPLBACKEND': 'Agg', 'OMP_NUM_THREADS': str(min(2, os.cpu_count() or 1)), 'HF_HUB_OFFLINE': '1'}.items():
    os.environ.setdefault(name, value)

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def root() -> Path:
    "The repository."
    return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    "Real recordings beside the repository; a test that wants them is skipped where they are not."
    path = ROOT.parent / 'shared'
    if not path.is_dir(): pytest.skip('recordings in ../shared are not here')
    return path
