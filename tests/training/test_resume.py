"""A run that is killed again and again ends as if nothing had happened, bit for bit."""

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest
import torch

from normtables.config import facts, run_id
from normtables.data import DATASETS
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS
from normtables.optim import OPTIMIZERS
from normtables.records import Store
from normtables.schema import register_schema
from normtables.tasks import TASKS
from normtables.tasks.classify import Classify
from normtables.training import checkpoints, history, run
from normtables.training.run import Training, execute

KEPT = ["config.yaml", "history.csv", "record.json"]
STEPPED = {"schedule": "step", "schedule.every": "70steps", "schedule.factor": 0.7}
RUNS = {
    "mlp, dbn 1/m, adagrad": {
        "model.widths": [16],
        "norm": "dbn",
        "norm.alpha": "1/m",
        "optim": "adagrad",
        "precision": "float64",
        "batch_size": 50,
        **STEPPED,
    },
    "cnn4 with dropout, dbn of the library, momentum": {
        "model": "cnn4",
        "model.widths": [2, 3],
        "model.hidden": 5,
        "norm": "dbn",
        "norm.alpha": 0.3,
        "norm.forward": "batch",
        "norm.gradient": "batch",
        "norm.averaged": "inverse_sigma",
        "norm.epsilon_in": "variance",
        "optim.lr": 0.02,
        "optim.momentum": 0.9,
        "batch_size": 10,
        **STEPPED,
    },
    "maxout with bounded filters and dropout": {
        "model": "maxout",
        "model.width": 0.02,
        "norm": "none",
        "init": "he_normal",  # filters longer than their bounds
        "optim.momentum": 0.5,
        "batch_size": 10,
        **STEPPED,
    },
}
# 23 updates between rows are neither a divisor of an epoch nor of the 50 between checkpoints.
COMMON = {"budget": "300steps", "evaluate": "23steps", "runtime.checkpoint": 0, "seed": 5}


@pytest.fixture(scope="module")
def processes():
    """New processes forked from a server that has imported what a run needs."""
    context = multiprocessing.get_context("forkserver")
    rooms = (DATASETS, TASKS, MODELS, METHODS, OPTIMIZERS)
    own = {entry.factory.__module__ for room in rooms for entry in room.values()} | {run.__name__}
    # torch imports its compiler when deterministic algorithms are asked for
    context.set_forkserver_preload(["pytest", "sklearn.datasets", "torch._inductor", *sorted(own)])
    return context


@pytest.fixture(params=RUNS)
def pair(request, composer, tmp_path):
    """(undisturbed, disturbed) configurations of one run in two folders."""
    return [composer.config(COMMON | RUNS[request.param] | {"results": str(tmp_path / n)}) for n in ("whole", "torn")]


def same(cfg_whole, cfg_torn):
    """Histories (but for the clock), scores and weights are equal, and nothing else is left."""
    whole, torn = Store(cfg_whole.results), Store(cfg_torn.results)
    name = run_id(cfg_whole)
    one, other = whole.read(name), torn.read(name)
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(name)] for store in (whole, torn)
    ]
    assert [row["step"] for row in rows[0]] == [*range(23, 300, 23), 300]
    assert rows[0] == rows[1]
    assert other.facts["weights"] == one.facts["weights"]
    assert (other.status, other.final, other.config) == (one.status, one.final, one.config)
    seconds = [row["seconds"] for row in torn.history(name)]
    assert seconds == sorted(seconds)
    assert sorted(os.listdir(torn.folder(name))) == KEPT


def live(cfg, deadly=0):
    """A process's life: make the run, unless it is killed, from outside or at its call number `deadly`."""
    register_schema()
    counted(lambda: execute(cfg), deadly) if deadly else execute(cfg)


def started(processes, *args):
    process = processes.Process(target=live, args=args)
    process.start()
    return process


def finish(processes, cfg):
    process = started(processes, cfg)
    process.join()
    assert process.exitcode == 0


def stamp(path):
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_killed_from_outside_at_any_moment(processes, pair):
    whole, torn = pair
    execute(whole)
    store, name, rng, killed = Store(torn.results), run_id(torn), random.Random(1), 0
    checkpoint = store.folder(name) / "checkpoint.pt"
    for _ in range(4):
        before = stamp(checkpoint)
        process = started(processes, torn)
        while process.is_alive() and stamp(checkpoint) == before:
            time.sleep(0.001)
        process.join(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert store.state(name) == ("interrupted" if process.exitcode else "finished")
    finish(processes, torn)
    assert killed, "the machine was too fast for this test: give it more updates"
    same(whole, torn)


def counted(call, deadly=0):
    """Run `call`, counting every call and return of Python and C functions; SIGKILL this process at number `deadly`."""
    events = 0

    def tick(*_):
        nonlocal events
        events += 1
        if events == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(tick)
    try:
        call()
    finally:
        sys.setprofile(None)
    return events


def test_killed_at_exact_moments(processes, composer, tmp_path):
    """Between any two calls, those that write and move files among them; the moments are drawn, the same each time."""
    whole, torn = (
        composer.config(COMMON | RUNS["mlp, dbn 1/m, adagrad"] | {"results": str(tmp_path / n)})
        for n in ("whole", "torn")
    )
    events, rng, killed = counted(lambda: execute(whole)), random.Random(2), 0
    assert events > 10_000
    for _ in range(8):
        process = started(processes, torn, rng.randrange(1, events // 3))
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    finish(processes, torn)
    assert killed >= 4
    same(whole, torn)


@pytest.mark.parametrize("last", ["history", "checkpoint", "record"])
def test_killed_right_behind_the_last_write(composer, tmp_path, monkeypatch, last):
    """The three writes at the end of a run: last row, last checkpoint, record."""

    class Killed(BaseException):
        pass

    whole, torn = (
        composer.config(COMMON | RUNS["mlp, dbn 1/m, adagrad"] | {"results": str(tmp_path / n)})
        for n in ("whole", "torn")
    )
    execute(whole)
    place = {"history": (history, "append"), "checkpoint": (checkpoints, "write"), "record": (Store, "write")}[last]
    original = getattr(*place)

    def fatal(*args, **kwargs):
        original(*args, **kwargs)
        if last == "record" or at == [300]:
            raise Killed

    at, evaluate = [0], Training.evaluate
    monkeypatch.setattr(Training, "evaluate", lambda self: (at.__setitem__(0, self.position.step), evaluate(self)))
    with monkeypatch.context() as patch:
        patch.setattr(*place, fatal)
        with pytest.raises(Killed):
            execute(torn)
    assert Store(torn.results).state(run_id(torn)) == ("finished" if last == "record" else "interrupted")
    record = execute(torn)
    assert record.status == "finished"
    (Store(torn.results).folder(record.id) / "checkpoint.pt").unlink(missing_ok=True)  # a done run is not touched again
    same(whole, torn)


# checkpoints


@pytest.fixture
def interrupted(small, cut_off):
    """A configuration whose run stopped behind its first checkpoint, and that checkpoint's path."""
    cfg = small(norm="bn", runtime__checkpoint=0, budget="6steps")
    cut_off(cfg, step=4)
    store = Store(cfg.results)
    assert store.state(run_id(cfg)) == "interrupted"
    return cfg, store.folder(run_id(cfg)) / "checkpoint.pt"


def test_rows_behind_the_checkpoint_are_made_anew(interrupted, small, tmp_path):
    cfg, checkpoint = interrupted
    store = Store(cfg.results)
    assert [row["step"] for row in store.history(run_id(cfg))] == [2, 4]
    with (checkpoint.parent / "history.csv").open("a") as file:
        file.write("5,0.1,torn li")
    record = execute(cfg)
    assert [row["step"] for row in store.history(record.id)] == [2, 4, 6]
    assert (
        record.facts["weights"]
        == execute(small(norm="bn", budget="6steps", results=str(tmp_path / "whole"))).facts["weights"]
    )


def test_a_run_goes_on_from_its_checkpoint(interrupted, tmp_path):
    cfg, checkpoint = interrupted
    training = Training(cfg, facts(cfg), checkpoint.parent, run.silent)
    training.resume()
    assert training.position.step == 2
    assert [row["step"] for row in training.rows] == [2]
    assert training.before > 0


def corrupted(content):
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"empty": b"", "cut": content[:middle], "flipped": flipped, "text": b"no checkpoint", "short": b"abc"}


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "text", "short"])
def test_a_damaged_checkpoint_is_named_and_kept(interrupted, how):
    cfg, checkpoint = interrupted
    damaged = corrupted(checkpoint.read_bytes())[how]
    checkpoint.write_bytes(damaged)
    before = {p.name: p.read_bytes() for p in checkpoint.parent.iterdir()}
    with pytest.raises(UserError, match="is damaged") as error:
        execute(cfg)
    assert str(checkpoint) in str(error.value)
    assert "delete it" in str(error.value)
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in checkpoint.parent.iterdir()} == before
    checkpoint.unlink()
    assert execute(cfg).status == "finished"


def test_a_checkpoint_of_another_run_is_refused(interrupted, small):
    """The same network and optimizer, so that nothing but the id tells them apart."""
    other, checkpoint = interrupted
    cfg = small(norm="bn", budget="6steps", seed=1)
    folder = Store(cfg.results).folder(run_id(cfg))
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(checkpoint.read_bytes())
    with pytest.raises(UserError, match=f"belongs to run {run_id(other)}"):
        execute(cfg)


@pytest.mark.parametrize("killed", [2, 6, 9])
def test_a_schedule_that_looks_at_the_history_goes_on_to_the_same_numbers(small, cut_off, same_run, tmp_path, killed):
    """Also when the process dies behind the row that ends the run."""
    bob = {"norm": "bn", "schedule": "newbob", "schedule__score": "valid/error", "runtime__checkpoint": 0}
    bob |= {"schedule__start": 0.3, "schedule__stop": 0.25, "budget": "60steps", "evaluate": "5steps"}
    whole, torn = small(**bob), small(**bob, results=str(tmp_path / "torn"))
    record = execute(whole)
    rows = Store(whole.results).history(record.id)
    assert record.facts["stopped"]
    cut_off(torn, row=min(killed, len(rows)))
    again = execute(torn)
    assert (again.facts["stopped"], again.facts["steps"]) == (True, record.facts["steps"])
    same_run(whole, torn)


def test_checkpoints_wait_for_their_time(small, monkeypatch):
    saves = []
    monkeypatch.setattr(Training, "save", lambda self: saves.append(self.position.step))
    execute(small(norm="bn", runtime__checkpoint=1000))
    assert saves == []
    execute(small(norm="bn", budget="6steps", runtime__checkpoint=0))
    assert saves == [2, 4, 6]


def test_a_checkpoint_holds_every_source_of_randomness(small, tmp_path):
    training = Training(small(), facts(small()), tmp_path, run.silent)
    training.began = time.perf_counter()
    training.save()
    expected = torch.rand(3)
    other = Training(small(), facts(small()), tmp_path, run.silent)
    torch.manual_seed(77)
    other.resume()
    assert torch.equal(torch.rand(3), expected)


def test_a_killed_processs_half_written_files_are_cleared_away(interrupted):
    cfg, checkpoint = interrupted
    checkpoint.with_name("checkpoint.pt.1.part").write_bytes(b"half")
    execute(cfg)
    assert sorted(os.listdir(checkpoint.parent)) == KEPT


# tasks with parts and a state of their own


class Beside(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.beside = model, torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return self.model(x)


class Walk(Classify):
    """Batches are drawn by a walk that is nowhere but here and in a file; a second layer learns beside the network."""

    def extend(self, model):
        return Beside(model)

    def open(self, folder, saved):
        self.path = folder / "walk.txt"
        self.place = saved["place"] if saved else 0
        self.path.touch()

    def due(self):
        return self.place % 2 == 1

    def state(self):
        return {"place": self.place}

    def close(self):
        self.path.unlink()

    def batches(self, model, step):
        inputs, targets = self.data.train.inputs, self.data.train.targets
        while True:
            self.place = (5 * self.place + 3) % 1001
            yield inputs[self.place : self.place + 4], targets[self.place : self.place + 4]

    def loss(self, model, batch):
        return super().loss(model, batch) + model.beside.square()


@pytest.fixture
def walking(small, monkeypatch):
    """Makes configurations of runs with the task Walk, which save only where the task asks for it."""
    monkeypatch.setattr(TASKS, "build", lambda settings, data, batch, seed: Walk(data, batch, seed, False, 0, "none"))
    return lambda **settings: small(budget="9steps", evaluate="1steps", runtime__checkpoint=1e9, **settings)


def test_a_task_keeps_its_own_state_and_parts(walking, cut_off, tmp_path):
    whole = execute(walking(runtime__keep_weights=True, results=str(tmp_path / "whole")))
    torn = walking(runtime__keep_weights=True)
    cut_off(torn, step=6)
    folder = Store(torn.results).folder(run_id(torn))
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert (saved["position"]["step"], saved["task"]) == (5, {"place": (5**5 - 1) // 4 * 3 % 1001})
    assert (folder / "walk.txt").exists()
    record = execute(torn)
    assert record.facts["weights"] == whole.facts["weights"]
    assert not (folder / "walk.txt").exists()
    weights = torch.load(folder / "weights.pt", weights_only=True)
    assert 0 < weights["beside"].item() < 3


def test_a_run_that_diverges_removes_the_files_of_its_task(walking):
    cfg = walking(optim__lr=1e30)
    assert execute(cfg).status == "diverged"
    assert not (Store(cfg.results).folder(run_id(cfg)) / "walk.txt").exists()
