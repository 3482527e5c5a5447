"""The pool: a dead worker costs its run only, Ctrl-C leaves what the same call continues."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack

import pytest
from omegaconf import OmegaConf

from normtables import pool
from normtables.config import run_id
from normtables.errors import UserError
from normtables.pool import Job, run_all
from normtables.records import Store


def job(composer, results, **settings):
    chosen = {"results": str(results), "model.widths": [16], "runtime.checkpoint": 0, **settings}
    cfg = composer.config({key.replace("__", "."): value for key, value in chosen.items()})
    return Job(run_id(cfg), OmegaConf.to_yaml(cfg, resolve=True))


def test_makes_every_run_and_tells_of_each(composer, tmp_path):
    jobs = [job(composer, tmp_path, budget="2epochs", seed=seed) for seed in range(3)]
    events = []
    run_all(jobs, 2, events.append)
    ended = {event[1]: event[2] for event in events if event[0] == "ended"}
    assert ended == {j.run: "finished" for j in jobs}
    assert [Store(tmp_path).state(j.run) for j in jobs] == ["finished"] * 3
    assert any(event[0] == "row" for event in events)


def test_a_killed_worker_costs_its_run_and_the_next_call_goes_on(composer, tmp_path, monkeypatch):
    endless = job(composer, tmp_path, budget="100000epochs", seed=0)
    short = [job(composer, tmp_path, budget="2epochs", seed=seed) for seed in (1, 2)]
    started = []
    start = pool.Worker.__init__
    monkeypatch.setattr(pool.Worker, "__init__", lambda self, gpu: (start(self, gpu), started.append(self))[0])
    events = []

    def tell(event):
        events.append(event)
        if event[:2] == ("row", endless.run):
            [holder] = [w for w in started if w.job and w.job.run == endless.run]
            os.kill(holder.process.pid, signal.SIGKILL)

    run_all([endless, *short], 1, tell)
    ended = {event[1]: event[2:4] for event in events if event[0] == "ended"}
    assert ended[endless.run][0] == "failed"
    assert "SIGKILL" in ended[endless.run][1]
    assert [ended[j.run][0] for j in short] == ["finished", "finished"]
    assert len(started) == 2  # another worker took the dead one's place
    assert Store(tmp_path).state(endless.run) in ("interrupted", "missing")  # no record: the next call makes it again


def test_a_failing_run_is_reported_and_the_others_finish(composer, tmp_path):
    bad = job(composer, tmp_path, budget="2epochs", optim__lr="text")
    good = job(composer, tmp_path, budget="2epochs")
    events = []
    run_all([bad, good], 1, events.append)
    ended = {event[1]: event[2:4] for event in events if event[0] == "ended"}
    assert ended[bad.run][0] == "failed"
    assert "should be a number" in ended[bad.run][1]
    assert ended[good.run][0] == "finished"


def test_a_run_that_another_process_holds_comes_again_behind_the_others(composer, tmp_path, monkeypatch):
    """Two sweeps over the same runs: neither computes what the other is at, and neither fails for it."""
    jobs = [job(composer, tmp_path, budget="2epochs", seed=seed) for seed in range(3)]
    events, held = [], jobs[0].run
    with ExitStack() as claims:
        claims.enter_context(Store(tmp_path).claim(held))

        def tell(event):
            events.append(event)
            if [e[1] for e in events if e[0] == "ended"] == [jobs[1].run, jobs[2].run]:
                claims.close()

        run_all(jobs, 1, tell)
    assert ("held", held) in events
    assert [event[1:3] for event in events if event[0] == "ended"] == [(jobs[k].run, "finished") for k in (1, 2, 0)]


def test_a_worker_that_dies_behind_its_run_has_not_failed_it(composer, tmp_path, monkeypatch):
    jobs = [job(composer, tmp_path, budget="2epochs", seed=seed) for seed in range(2)]
    started, events = [], []
    start = pool.Worker.__init__
    monkeypatch.setattr(pool.Worker, "__init__", lambda self, gpu: (start(self, gpu), started.append(self))[0])

    def tell(event):
        events.append(event)
        if event[:2] == ("ended", jobs[0].run):
            os.kill(started[0].process.pid, signal.SIGKILL)
            started[0].process.join()

    run_all(jobs, 1, tell)
    assert [event[1:3] for event in events if event[0] == "ended"] == [(j.run, "finished") for j in jobs]
    assert len(started) == 2


def test_refuses_no_workers():
    with pytest.raises(UserError, match="at least 1"):
        run_all([], 0, print)


def test_control_c_ends_the_workers_and_leaves_the_run_to_continue(tmp_path):
    process = subprocess.Popen(
        endless(tmp_path, checkpoint=1000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    wait_for(lambda: [path for path in tmp_path.glob("runs/*/history.csv") if path.stat().st_size])
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.strip() == "normtables: stopped; the same command goes on from here"
    [folder] = (tmp_path / "runs").iterdir()
    assert Store(tmp_path).state(folder.name) == "interrupted"


def test_the_worker_of_a_killed_parent_ends_and_its_run_has_not_failed(tmp_path):
    process = subprocess.Popen(
        endless(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoint.pt")))
    process.kill()
    _, complaint = process.communicate(timeout=60)  # its other end closes with the worker
    [folder] = (tmp_path / "runs").iterdir()
    assert Store(tmp_path).state(folder.name) == "interrupted"
    assert not complaint


def endless(folder, checkpoint=0):
    """The command that makes a table of one endless run, results in the same folder, saved every so many seconds."""
    words = ["table", str(table(folder)), "--run", "--jobs", "1", "--tier", "smoke", "--results", str(folder)]
    return [sys.executable, "-m", "normtables", *words, f"runtime.checkpoint={checkpoint}"]


def table(folder):
    text = """
table: endless
title: one endless run
source: none
kind: reconstruction
runnable: true
tiers: {smoke: {repeat: {seed: [0]}}}
rows: {a: {set: {budget: 100000epochs}}}
columns: {error: {tiers: [smoke], set: {model.widths: [8]}, score: test/error, read: last, better: lower, unit: "%"}}
"""
    path = folder / "endless.yaml"
    path.write_text(text)
    return path


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_gpus_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert pool.gpus() == ["2", "3"]
    assert pool.default_jobs() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pool.gpus() == []
    assert pool.default_jobs() == len(os.sched_getaffinity(0))


def test_a_queue_is_given_in_order():
    sent = []
    worker = pool.Worker.__new__(pool.Worker)
    worker.connection = type("Pipe", (), {"send": lambda self, item: sent.append(item)})()
    left = deque([Job("a", ""), Job("b", "")])
    assert worker.give(left)
    assert worker.give(left)
    assert not worker.give(left)
    assert [item.run if item else None for item in sent] == ["a", "b", None]
