"Outputs of rerun paper notebooks (figures/NAME.ipynb) into nbs/paper/NAME.ipynb, so that who reads the notebook sees the published numbers, and no progress."
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


PROGRESS = re.compile(r'[a-z ]+: [0-9]+ of [0-9]+| *[0-9,]+ pairs  loss .*')


def to_be_read(output) -> bool:
    "Is it more than what was said to whoever waited?"
    return output.output_type != 'stream' or not all(PROGRESS.fullmatch(line) for line in output.text.splitlines())


def adopt(executed: Path) -> Path:
    "Take over the outputs, cell by cell; the sources must be the same."
    from nbdev.clean import nbdev_clean
    target = ROOT / 'nbs' / 'paper' / executed.name
    notebook, ran = nbformat.read(target, as_version=4), nbformat.read(executed, as_version=4)
    cells = [c for c in ran.cells if 'injected-parameters' not in c.metadata.get('tags', [])]
    if [c.source for c in cells] != [c.source for c in notebook.cells]:
        raise SystemExit(f'adopt: {executed.name} was made from another version of the notebook: rerun it')
    for cell, done in zip(notebook.cells, cells):
        if cell.cell_type == 'code': cell.outputs, cell.execution_count = [output for output in done.outputs if to_be_read(output)], done.execution_count
    nbformat.write(notebook, target)
    nbdev_clean(str(target))
    return target


if __name__ == '__main__':
    for path in sorted(p for p in (ROOT / 'figures').glob('*.ipynb') if not p.stem.endswith('.failed')) or sys.exit('adopt: no executed notebook in figures/'):
        print(adopt(path).relative_to(ROOT))
