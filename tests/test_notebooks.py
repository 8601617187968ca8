"Every library notebook runs in a clean kernel and shows what it showed when it was committed."
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NBS = Path(__file__).resolve().parent.parent / 'nbs'
NOTEBOOKS = [*sorted(NBS.glob('[0-9]*.ipynb')), NBS / 'index.ipynb']
COMPARED = {'text/plain', 'text/markdown'}  # pictures and HTML differ in bytes from machine to machine: there, the kind counts
ADDRESS = re.compile(r'(<.*?) at 0x[0-9a-fA-F]+(>)')  # as nbdev_clean does


def shown(cell) -> list:
    "What a cell shows, in order: text word for word, anything else by kind."
    said = []
    for output in cell.get('outputs', []):
        if output.output_type == 'stream':
            if said and said[-1][0] == output.name: said[-1] = (output.name, said[-1][1] + output.text)
            else: said.append((output.name, output.text))
        elif output.output_type == 'error': said.append(('error', output.ename, output.evalue))
        else: said += [(kind, text if kind in COMPARED else 'present') for kind, text in sorted(output.data.items())]
    return [tuple(ADDRESS.sub(r'\1\2', part) for part in item) for item in said]


def stale(path: Path) -> list[str]:
    "Run a notebook; the cells whose committed outputs are not what comes out now, or the cell that fails."
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == 'code': cell.outputs = []
    env = {name: value for name, value in os.environ.items() if name != 'MPLBACKEND'}  # a kernel shows its figures
    client = NotebookClient(fresh, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}})
    try: client.execute(env=env)
    except CellExecutionError as error: return [f'{path.name} does not run: {error}']
    return [f'{path.name}, cell {number} ({old.id}): committed\n{shown(old)}\nnow\n{shown(new)}'
            for number, (old, new) in enumerate(zip(committed.cells, fresh.cells))
            if old.cell_type == 'code' and 'varies' not in old.metadata.get('tags', []) and shown(old) != shown(new)]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_and_shows_what_is_committed(path):
    problems = stale(path)
    assert not problems, '\n\n'.join(problems)


def code(source, tags=(), **text):
    "A code cell with outputs: `out` as its value, `printed` as its stream."
    cell = nbformat.v4.new_code_cell(source, metadata={'tags': list(tags)} if tags else {})
    if 'printed' in text: cell.outputs.append(nbformat.v4.new_output('stream', name='stdout', text=text['printed']))
    if 'out' in text: cell.outputs.append(nbformat.v4.new_output('execute_result', {'text/plain': text['out']}))
    return cell


@pytest.mark.parametrize('cells, expected', [
    ([code('1 + 1', out='2'), code('print("a"); print("b")', printed='a\nb\n'), code('object()', out='<object>')], []),
    ([code('1 + 1', out='3')], ['cell 0']),                                  # stale value
    ([code('x = 1'), code('1 + 1')], ['cell 1']),                            # missing output
    ([code('x = 1', out='1')], ['cell 0']),                                  # output of a cell that shows nothing now
    ([code('print("a")', printed='b\n')], ['cell 0']),                       # stale print
    ([code('import time; time.time()', tags=['varies'], out='1.0')], []),
    ([code('1 / 0')], ['ZeroDivisionError']),
], ids=['right', 'value', 'missing', 'left over', 'print', 'varies', 'error'])
def test_a_stale_notebook_is_noticed(cells, expected, tmp_path):
    path = tmp_path / 'tiny.ipynb'
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    problems = stale(path)
    assert len(problems) == len(expected)
    assert all(word in problem and 'tiny.ipynb' in problem for word, problem in zip(expected, problems))
