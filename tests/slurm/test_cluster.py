"""Tables sent to a real Slurm: `make test-slurm` starts one of a single node and runs this (about half an hour)."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from normtables.places import ROOT
from normtables.records import Store

pytestmark = pytest.mark.skipif("NORMTABLES_SLURM" not in os.environ, reason="needs a Slurm: make test-slurm")

TABLE = """
table: {name}
title: runs for a cluster
source: none
kind: reconstruction
runnable: true
fixed: {{model: mlp, model.widths: [8], dataset: digits, optim.lr: 0.1, batch_size: 20, {fixed}}}
tiers: {{smoke: {{repeat: {{seed: [{seeds}]}}}}}}
rows: {{BN: {{set: {{norm: bn}}}}}}
columns:
  error: {{tiers: [smoke], set: {{}}, score: test/error, read: last, better: lower, unit: "%"}}
published: {{}}
claims:
  - {{id: C1, says: it learns, kind: constant, columns: [error], rows: [BN], equals: 5, within: 100}}
"""


class Case:
    """A table of one cell with many seeds in a folder of its own."""

    def __init__(self, folder, name, seeds, **fixed):
        self.results, self.file = folder / "results", folder / f"{name}.yaml"
        fixed = {"budget": "40steps", "evaluate": "20steps", **fixed}
        text = TABLE.format(name=name, seeds=", ".join(map(str, seeds)), fixed=json.dumps(fixed)[1:-1])
        self.file.write_text(text)
        self.store, self.runs = Store(self.results), []

    def call(self, *words, results=None):
        command = [sys.executable, "-m", "normtables", "table", str(self.file), "--tier", "smoke", "--run", "--yes"]
        command += ["--results", str(results or self.results), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def send(self, **launcher):
        asked = {"memory": "null", **launcher}
        words = [f"launcher.{key}={value}" for key, value in asked.items()]
        return self.call("--launcher", "slurm", *words, "runtime.checkpoint=5")

    def sent(self):
        [path] = self.results.glob("slurm/*/sent.json")
        return json.loads(path.read_text())

    def states(self):
        self.runs = self.runs or list(self.sent())
        return [self.store.state(run) for run in self.runs]


def lasting(folder, seconds):
    """Settings of a run that takes so long here and now: the machine's speed must not decide what a test sees."""
    case = Case(folder, "probe", [0], budget="4000steps", evaluate="2000steps")
    case.call("--jobs", "1", results=folder / "probe")
    [record] = Store(folder / "probe").records()
    steps = int(seconds * record.facts["steps_per_second"])
    return {"budget": f"{steps}steps", "evaluate": f"{steps // 20}steps"}


def queue():
    return subprocess.run(["squeue", "--noheader", "--array"], capture_output=True, text=True, check=True).stdout


def running():
    listed = subprocess.run(["squeue", "-h", "-r", "-t", "R"], capture_output=True, text=True, check=True).stdout
    return len(listed.splitlines())


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(1)


def weights(store):
    return {record.id: record.facts["weights"] for record in store.records()}


def test_two_hundred_runs(tmp_path):
    case, began = Case(tmp_path, "many", range(200)), time.monotonic()
    assert "200 runs sent to Slurm in 20 tasks" in case.send(work=1, seconds=6, minutes=10)
    assert time.monotonic() - began < 60  # it leaves, nothing is done yet
    assert "0 runs sent to Slurm in 0 tasks, " in case.send()  # what waits is not sent again
    until(lambda: not queue(), 1200, "the tasks end")
    said = case.send()
    assert "sent to Slurm" not in said
    assert case.states() == ["finished"] * 200
    assert "(200)" in (case.results / "smoke" / "many" / "table.md").read_text()
    print(f"200 runs in 20 tasks: {time.monotonic() - began:.0f} s")


def test_more_tasks_than_an_array_takes(tmp_path):
    case = Case(tmp_path, "wide", range(105), budget="1steps", evaluate="1steps")
    assert "105 runs sent to Slurm in 105 tasks" in case.send(work=0.5, seconds=60, minutes=5)  # MaxArraySize=101
    assert len({task.split("_")[0] for task in case.sent().values()}) == 2
    subprocess.run(["scancel", "--me"], check=True)
    until(lambda: not queue(), 120, "the tasks are cancelled")
    assert "missing" in case.states()
    assert "runs sent to Slurm" in case.send(work=4, seconds=1, minutes=5)  # what was cancelled is sent again
    until(lambda: not queue(), 600, "the tasks end")
    assert set(case.states()) == {"finished"}


def test_a_task_that_is_killed(tmp_path):
    """Its run goes on from its checkpoint in another task, to the same weights; the other runs have noticed nothing."""
    case = Case(tmp_path, "killed", range(4), **lasting(tmp_path, seconds=30))
    case.send(work=0.5, seconds=60, minutes=30, parallel=2)
    until(lambda: case.states().count("running") == 2, 300, "two runs begin")
    victim = next(run for run in case.runs if case.store.state(run) == "running")
    until((case.store.folder(victim) / "checkpoint.pt").exists, 120, "the run has a checkpoint")
    pid = json.loads((case.store.folder(victim) / "claim").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not queue(), 1200, "the tasks end")
    assert sorted(case.states()) == ["finished"] * 3 + ["interrupted"]
    assert case.store.state(victim) == "interrupted"
    assert "1 runs sent to Slurm in 1 tasks" in case.send(work=0.5, minutes=30)
    until(lambda: not queue(), 600, "the last task ends")
    assert case.states() == ["finished"] * 4
    case.call("--jobs", "2", results=tmp_path / "here")
    assert weights(case.store) == weights(Store(tmp_path / "here"))


def test_a_time_limit(tmp_path):
    """A run longer than its task's limit goes on from its checkpoint in the requeued task, to the same weights."""
    case = Case(tmp_path, "long", [0], **lasting(tmp_path, seconds=60))  # a task trains for 40 s at most
    began = time.monotonic()
    case.send(work=0.9, minutes=1)
    until(lambda: not queue(), 2400, "the task ends")  # Slurm holds a requeued task for two minutes
    assert case.states() == ["finished"]
    out = "".join(path.read_text() for path in case.results.glob("slurm/*/logs/*/*_log.*"))
    requeued = out.lower().count("requeued job")
    assert requeued > 0
    case.call("--jobs", "1", results=tmp_path / "here")
    assert weights(case.store) == weights(Store(tmp_path / "here"))
    print(f"a run of a minute in tasks of less, requeued {requeued} times: {time.monotonic() - began:.0f} s")


def test_a_gpu_for_each_task(tmp_path):
    """Two GPUs, which stand for nothing, and three tasks: each is given one, the third waits for it."""
    if "gpu:2" not in subprocess.run(["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True).stdout:
        pytest.skip("this Slurm has no two GPUs")
    case, given = Case(tmp_path, "gpus", range(3)), tmp_path / "given"
    case.send(work=0.5, seconds=60, minutes=30, gpus=1, setup=f"['echo $CUDA_VISIBLE_DEVICES >> {given}']")
    most = []
    until(lambda: not most.append(running()) and not queue(), 600, "the tasks end")
    assert case.states() == ["finished"] * 3
    assert sorted(given.read_text().split()) in (["0", "0", "1"], ["0", "1", "1"])
    assert max(most) == 2


def test_a_sweep_of_hydras_launcher(tmp_path):
    """`run -m` with submitit's Slurm launcher waits for its jobs; a second call finds them done."""
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10", "hydra.launcher.mem_gb=null"]
    settings = ["norm=bn,ln", "seed=0,1", "model.widths=[8]", "budget=40steps", "evaluate=20steps"]
    words = [sys.executable, "-m", "normtables", "run", "-m", *launcher, *settings, f"results={tmp_path}"]
    said = [subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert "4 runs, 0 of them done already" in said[0]
    assert "4 runs, 4 of them done already" in said[1]
    assert [record.status for record in Store(tmp_path).records()] == ["finished"] * 4


def test_one_run_of_two_processes_by_the_script_in_the_docs(tmp_path):
    """One node and no GPU instead of two nodes with four each; the numbers are those of one process."""
    text = (ROOT / "docs" / "clusters.md").read_text()
    script = re.search(r"#!/bin/sh\n#SBATCH.*?(?=```)", text, re.DOTALL)[0]
    settings = "precision=float64 norm=bn model.widths=[8] budget=40steps evaluate=20steps"
    for old, new in {
        "--nodes=2": "--nodes=1",
        "--gpus-per-node=4 --cpus-per-task=16": "--cpus-per-task=2",
        "--nproc-per-node=4": "--nproc-per-node=2",
        ".venv/bin/torchrun": f"{sys.executable} -m torch.distributed.run",
        "model=alexnet norm=bn dataset=imagenet batch_size=256": f"{settings} results={tmp_path / 'torchrun'}",
    }.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "job.sh").write_text(script)
    subprocess.run(["sbatch", "--wait", f"--output={tmp_path / 'log'}", tmp_path / "job.sh"], check=True)
    here = [sys.executable, "-m", "normtables", "run", *settings.split(), f"results={tmp_path / 'here'}"]
    subprocess.run(here, check=True)
    [torchrun], [one] = (Store(tmp_path / name).records() for name in ("torchrun", "here"))
    assert (torchrun.status, torchrun.facts["processes"], torchrun.id) == ("finished", 2, one.id)
    assert torchrun.final == pytest.approx(one.final, rel=1e-9)
