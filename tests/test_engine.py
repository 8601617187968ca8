"The engine: deaths, interruptions and repetitions. Its ordinary behaviour is shown in nbs/02_engine.ipynb."
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signspot.engine import Report, job_id, job_path, run, sweep
from signspot.pose import BadInput, atomic


def chore(job, path):
    "A job for the tests, importable by other processes."
    time.sleep(job.get('sleep', 0))
    if 'kill' in job: os.kill(os.getpid(), job['kill'])
    if 'exit' in job: os._exit(job['exit'])
    if 'raise' in job: raise BadInput(job['raise'])
    if 'silent' in job: return
    with atomic(path) as part:
        part.write_text(os.environ.get('OMP_NUM_THREADS', 'unset'))
        time.sleep(job.get('slow write', 0))


def jobs_in(folder, *jobs): return {job_path(job, folder, '.txt'): job for job in jobs}


@pytest.mark.parametrize('job', [{'kill': 9}, {'kill': 11}, {'exit': 3}])
def test_a_dead_worker_takes_nobody_along(tmp_path, job):
    jobs = jobs_in(tmp_path, job, *({'n': n, 'sleep': .05} for n in range(6)))
    report = run(chore, jobs, workers=2)
    assert len(report.done) == 6 and list(report.failed) == [job_path(job, tmp_path, '.txt')]
    assert 'its process died' in report.failed[job_path(job, tmp_path, '.txt')]


def test_all_workers_may_die(tmp_path):
    jobs = jobs_in(tmp_path, *({'n': n, 'kill': 9} for n in range(4)), {'n': 5})
    report = run(chore, jobs, workers=2)
    assert len(report.failed) == 4 and len(report.done) == 1


@pytest.mark.parametrize('workers', [1, 2])
def test_failures_are_collected_in_one_line_each(tmp_path, workers):
    jobs = jobs_in(tmp_path, {'n': 1}, {'raise': 'a.mp4 is broken\nand more'}, {'silent': True})
    report = run(chore, jobs, workers)
    assert sorted(report.failed.values()) == ['a.mp4 is broken', 'finished without writing its file']
    assert [path for path in jobs if path.exists()] == report.done
    assert report.summary() == '1 done, 2 failed' and '| a.mp4 is broken |' in report._repr_markdown_()


def test_what_is_there_is_not_done_again(tmp_path):
    jobs = jobs_in(tmp_path, {'n': 1}, {'n': 2})
    first, *_ = jobs
    first.write_text('mine')
    assert run(chore, jobs).summary() == '1 done, 1 there already'
    assert first.read_text() == 'mine' and run(chore, jobs) == Report([], list(jobs), {})


def test_workers_keep_to_one_thread_and_the_caller_does_not(tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    jobs = jobs_in(tmp_path, {'n': 1}, {'n': 2})
    run(chore, jobs, workers=2)
    assert {path.read_text() for path in jobs} == {'1'} and 'OMP_NUM_THREADS' not in os.environ


def test_order_of_keys_does_not_matter_and_values_do():
    assert job_id({'a': 1, 'b': 2}) == job_id({'b': 2, 'a': 1}) != job_id({'a': 2, 'b': 1})


def test_wrong_calls(tmp_path):
    with pytest.raises(BadInput, match='workers must be'): run(chore, {}, workers=0)
    with pytest.raises(BadInput, match='top of a module'): run(lambda job, path: None, {}, workers=2)
    for job in ({'where': Path('a')}, {'lr': float('nan')}):
        with pytest.raises(BadInput, match='plain values'): job_id(job)


def test_two_runs_at_once(tmp_path):
    "The same jobs in two processes at the same time: both end well, and the files are whole."
    command = [sys.executable, '-c', START, str(tmp_path), str(Path(__file__).parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert all('failed' not in text for text in said) and len(list(tmp_path.iterdir())) == 6


def test_sweep_spares_what_is_young(tmp_path):
    young, old, other = tmp_path/'.a.1.part.pose', tmp_path/'.b.2.part.pose', tmp_path/'c.part.pose'
    for path in (young, old, other): path.touch()
    for path in (old, other): os.utime(path, (0, 0))
    assert sweep(tmp_path) == [old] and young.exists() and other.exists()


START = '''
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)   # whoever started the tests in the background had it ignored
import sys
sys.path.insert(0, sys.argv[2])
from test_engine import chore, jobs_in, run
if __name__ == '__main__':
    try: print(run(chore, jobs_in(sys.argv[1], *({'n': n, 'sleep': .1, 'slow write': .3} for n in range(6))), workers=2))
    except KeyboardInterrupt as stop: print(stop)
'''


def started(tmp_path):
    "A run of six jobs in a process group of its own, with at least one job finished."
    process = subprocess.Popen([sys.executable, '-c', START, str(tmp_path/'out'), str(Path(__file__).parent)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list((tmp_path/'out').glob('[!.]*.txt')):
        assert process.poll() is None, process.stderr.read()
        time.sleep(.02)
    return process


needs_ps = pytest.mark.skipif(not shutil.which('ps'), reason='needs signals and ps')


def all_gone(group: int) -> bool:
    "Does the last process of this group end within ten seconds?"
    for _ in range(100):
        listed = subprocess.run(['ps', '-eo', 'pgid=,stat='], capture_output=True, text=True).stdout.splitlines()
        if not any(line.split()[0] == str(group) and 'Z' not in line for line in listed): return True
        time.sleep(.1)
    return False


@needs_ps
@pytest.mark.parametrize('whom', ['the whole group, as Ctrl-C does', 'the main process'])
def test_interrupted(tmp_path, whom):
    process = started(tmp_path)
    (os.killpg if 'group' in whom else os.kill)(process.pid, signal.SIGINT)
    said, complained = process.communicate(timeout=20)
    assert 'the same again does the rest' in said and complained == '' and all_gone(process.pid)
    assert not list((tmp_path/'out').glob('.*'))     # nothing half-written
    finished = len(list((tmp_path/'out').glob('[!.]*.txt')))
    again = run(chore, jobs_in(tmp_path/'out', *({'n': n, 'sleep': .1, 'slow write': .3} for n in range(6))))
    assert 0 < finished < 6 and len(again.skipped) == finished and len(again.done) == 6 - finished


@needs_ps
def test_killed_outright_leaves_no_workers_waiting(tmp_path):
    process = started(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert all_gone(process.pid)
    assert 0 < len(list((tmp_path/'out').glob('[!.]*.txt'))) < 6
    assert process.communicate()[1] == ''
