"""From a configuration to a record: what is left behind when it ends well, diverges, fails or may not write."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from normtables.config import facts, run_id
from normtables.errors import UserError
from normtables.norms import METHODS
from normtables.records import Record, Store
from normtables.tasks.classify import Classify
from normtables.training import machine, run
from normtables.training.ledger import Failed
from normtables.training.run import Training, digest_of, execute

KEPT = ["config.yaml", "history.csv", "record.json"]
KEYS = [
    "step",
    "epoch",
    "seconds",
    "lr",
    "train/loss",
    "valid/loss",
    "valid/error",
    "valid/accuracy",
    "test/loss",
    "test/error",
    "test/accuracy",
]


@pytest.fixture
def store(results):
    return Store(results)


def told(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert str(part) in str(error.value)


def built(cfg, tmp_path):
    """A run's parts before its first update."""
    return Training(cfg, facts(cfg), tmp_path, run.silent)


def history(store, record):
    """The rows without what the wall clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(record.id)]


# a run that ends well


def test_a_finished_run_leaves_a_record_a_history_and_its_configuration(small, store):
    cfg = small()
    record = execute(cfg)
    assert (record.id, record.status, record.reason) == (run_id(cfg), "finished", "")
    assert store.read(record.id) == record
    assert sorted(os.listdir(store.folder(record.id))) == KEPT
    saved = OmegaConf.load(store.folder(record.id) / "config.yaml")
    assert record.config == OmegaConf.to_container(saved) == facts(cfg) == json.loads(json.dumps(facts(cfg)))
    rows = store.history(record.id)
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert [row["step"] for row in rows] == [2, 4]
    assert [row["epoch"] for row in rows] == [2 / 59, 4 / 59]
    assert record.final == {k: v for k, v in rows[-1].items() if "/" in k}


def test_what_a_record_says_of_its_making(small):
    made = execute(small()).facts
    assert made["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert made["steps"] == 4
    assert made["threads"] == 1
    assert made["device"].startswith(("cpu (", "cuda ("))
    assert torch.__version__.startswith(made["versions"]["torch"])
    assert made["seconds"] > 0
    assert made["steps_per_second"] > 0
    assert {"commit", "dirty", "compile"} <= set(made)
    assert len(made["weights"]) == 16


def test_the_record_knows_what_chance_scores(small):
    """Digits: 300 stratified test images, the commonest class has 31 of them."""
    record = execute(small())
    assert record.score == {"name": "test/error", "better": "lower", "chance": pytest.approx(100 * (1 - 31 / 300))}


def test_it_learns(small):
    record = execute(small(budget="3epochs", evaluate="1epoch", norm="bn"))
    assert record.final["test/error"] < 40 < record.score["chance"]


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_done_run_is_never_made_again(small, monkeypatch, status):
    cfg = small(optim__lr=0.1 if status == "finished" else 1e30, budget="60steps")
    record = execute(cfg)
    assert record.status == status
    monkeypatch.setattr(run, "Training", None)
    assert execute(cfg) == record


def test_a_run_finished_elsewhere_since_the_look_is_not_made_again(small, store, monkeypatch):
    cfg, claim = small(), Store.claim
    done = Record(run_id(cfg), "finished", "", {})

    def late(self, name):
        self.write(done)
        return claim(self, name)

    monkeypatch.setattr(Store, "claim", late)
    monkeypatch.setattr(run, "Training", None)
    assert execute(cfg) == done


def test_a_run_that_another_process_makes_is_left_to_it(small, store, monkeypatch):
    cfg = small()
    monkeypatch.setattr(run, "Training", None)
    with store.claim(run_id(cfg)) as mine:
        assert mine
        told(lambda: execute(cfg), run_id(cfg), "another process")
        assert store.state(run_id(cfg)) == "running"


def test_durations_and_pauses(small, store):
    record = execute(small(budget="5steps", evaluate="2steps"))
    assert [row["step"] for row in store.history(record.id)] == [2, 4, 5]
    record = execute(small(budget="2epochs", evaluate="0.5epochs", batch_size=400))
    assert [row["step"] for row in store.history(record.id)] == [1, 2, 3, 4]
    record = execute(small(budget="2steps", evaluate="10epochs"))
    assert [row["step"] for row in store.history(record.id)] == [2]


def test_the_history_shows_the_rate_that_was_used(small, store):
    cfg = small(schedule="step", schedule__every="2steps", schedule__factor=0.5, evaluate="1step")
    assert [row["lr"] for row in store.history(execute(cfg).id)] == [0.1, 0.1, 0.05, 0.05]


def test_reports_tell_every_row(small, store):
    told_rows = []
    record = execute(small(), lambda *report: told_rows.append(report))
    rows = [row for *_, row in told_rows]
    assert [report[:3] for report in told_rows] == [(record.id, 2, 4), (record.id, 4, 4)]
    assert rows == store.history(record.id)


def test_the_train_loss_is_that_of_the_first_batches(small, tmp_path, store):
    record = execute(small(budget="1step"))
    training = built(small(budget="1step"), tmp_path)
    batch = next(training.task.batches(training.model, 0))
    assert store.history(record.id)[0]["train/loss"] == training.task.loss(training.model, batch).item()


def test_weights_are_kept_when_asked(small, store, tmp_path):
    record = execute(small(runtime__keep_weights=True))
    model = built(small(), tmp_path).model
    model.load_state_dict(torch.load(store.folder(record.id) / "weights.pt"))
    assert digest_of(model) == record.facts["weights"]


@pytest.mark.parametrize("side", [1, 3])
def test_the_digest_of_kernels_does_not_depend_on_their_memory_format(side):
    """1x1 kernels count as contiguous in either format, whatever their strides."""
    layer = torch.nn.Conv2d(8, 4, side)
    before = digest_of(layer)
    assert digest_of(layer.to(memory_format=torch.channels_last)) == before


@pytest.mark.parametrize("norm", ["bn", "dbn"])
def test_scores_are_those_of_the_network_in_evaluation(small, store, tmp_path, norm):
    cfg = small(norm=norm, runtime__keep_weights=True)
    record = execute(cfg)
    training = built(cfg, tmp_path)
    training.model.load_state_dict(torch.load(store.folder(record.id) / "weights.pt"))
    scores = training.task.evaluate(training.model.eval())
    assert scores == {name: record.final[name] for name in scores}


@pytest.mark.parametrize("norm", ["bn", "dbn"])
def test_looking_does_not_disturb(small, norm):
    weights = [execute(small(norm=norm, evaluate=every)).facts["weights"] for every in ("1step", "4steps")]
    assert weights[0] == weights[1]


# what a run computes


def test_one_configuration_computes_one_thing(small, store, tmp_path):
    first = execute(small(norm="bn"))
    torch.manual_seed(99)
    again = execute(small(norm="bn", results=str(tmp_path / "other"), runtime__checkpoint=0))
    assert again.facts["weights"] == first.facts["weights"]
    assert history(Store(tmp_path / "other"), again) == history(store, first)


@pytest.mark.parametrize(
    ("seed", "changed"), [("weights", {"weights"}), ("order", {"order"}), ("data", {"split"})], ids=str
)
def test_each_seed_changes_what_it_names_and_nothing_else(small, tmp_path, seed, changed):
    def parts(cfg):
        training = built(cfg, tmp_path)
        data = training.task.data
        split = torch.cat([part.targets for part in (data.train, data.valid, data.test)])
        return {"weights": digest_of(training.model), "order": training.task.order(0).tolist(), "split": split.tolist()}

    one, other = parts(small()), parts(small(**{f"seeds__{seed}": 1}))
    assert {name for name in one if one[name] != other[name]} == changed


def test_the_weights_seed_draws_dropout_too(composer, results, tmp_path):
    cnn = {"model": "cnn4", "model.widths": [2, 2], "model.hidden": 8, "norm": "none", "results": str(results)}

    def outputs(seed):
        training = built(composer.config(cnn | {"seeds.weights": seed}), tmp_path)
        for parameter in training.model.parameters():
            parameter.data.fill_(0.1)  # equal whatever the seed, so that only dropout is left
        return training.model(training.task.data.valid.inputs)

    first = outputs(0)
    assert torch.equal(first, outputs(0))
    assert not torch.equal(first, outputs(1))


def test_a_worker_reads_the_same_switches_from_text(composer, results, tmp_path):
    """A pool hands its workers configurations as YAML, without the schema."""
    for switch, last in (("off", False), ("auto", True), ("on", True)):
        settings = {"model": "cnn4", "runtime.channels_last": switch, "results": str(results)}
        cfg = OmegaConf.create(OmegaConf.to_yaml(composer.config(settings), resolve=True))
        assert run_id(cfg) == composer.id(settings)
        kernel = [layer for layer in built(cfg, tmp_path).model if isinstance(layer, torch.nn.Conv2d)][1].weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) == last


@pytest.mark.parametrize("norm", METHODS)
@pytest.mark.parametrize("model", ["mlp", "cnn4"])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.float32)]
)
def test_precisions(composer, results, tmp_path, norm, model, precision, dtype):
    settings = {"model": model, "norm": norm, "precision": precision, "results": str(results), "tier": "smoke"}
    settings |= {"model.widths": [4, 4], "budget": "2steps", "batch_size": 50} | (
        {"model.hidden": 8} if model == "cnn4" else {}
    )
    cfg = composer.config(settings)
    training = built(cfg, tmp_path)
    assert {p.dtype for p in training.model.parameters()} == {dtype}
    inside = []
    training.model[-1].register_forward_hook(lambda layer, inputs, output: inside.append(output.dtype))
    outputs = training.model(training.task.data.valid.inputs)
    assert training.task.data.valid.inputs.dtype == outputs.dtype == dtype  # losses are not taken in bfloat16
    assert inside == [torch.bfloat16 if precision == "bfloat16" else dtype]
    record = execute(cfg)
    assert record.status == "finished"
    assert all(0 <= value < 1000 for value in record.final.values())


def test_initial_weights_follow_the_setting(small, tmp_path):
    model = built(small(init="glorot_uniform"), tmp_path).model
    assert all((layer.bias == 0).all() for layer in model.modules() if isinstance(layer, torch.nn.Linear))


def test_a_digest_sees_every_weight_and_buffer():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    seen = [digest_of(net)]
    for tensor in net.state_dict().values():
        tensor.view(-1)[0] += 1
        seen.append(digest_of(net))
    assert len(set(seen)) == len(seen) == 8


# runs that do not end well


def mistaken(*_):
    raise UserError("no room")


def test_a_diverged_run_is_a_result(small, store):
    record = execute(small(optim__lr=1e30, budget="200steps", evaluate="1step"))
    assert record.status == "diverged"
    assert "not finite by update" in record.reason
    rows = store.history(record.id)
    assert 1 <= len(rows) < 200
    assert record.facts["steps"] >= len(rows)
    assert record.final["test/error"] == rows[-1]["test/error"]
    assert sorted(os.listdir(store.folder(record.id))) == KEPT


def test_a_run_that_diverges_before_its_first_row(small, store):
    record = execute(small(optim__lr=1e30, budget="200steps", evaluate="200steps"))
    assert (record.status, record.final, store.history(record.id)) == ("diverged", {}, [])


def test_a_mistake_that_shows_in_training_leaves_nothing_but_a_checkpoint(small, store, monkeypatch, cut_off):
    """What came before the first checkpoint is gone; behind one, the run can go on."""
    cfg = small(runtime__checkpoint=0)
    folder = store.folder(run_id(cfg))
    with monkeypatch.context() as patch:
        patch.setattr(Classify, "loss", mistaken)
        with pytest.raises(UserError, match="no room"):
            execute(cfg)
        assert not list(folder.glob("*"))
    cut_off(cfg, row=2)
    kept = {path.name for path in folder.iterdir()}
    assert "checkpoint.pt" in kept
    with monkeypatch.context() as patch:
        patch.setattr(Classify, "loss", mistaken)
        with pytest.raises(UserError, match="no room"):
            execute(cfg)
    assert {path.name for path in folder.iterdir()} == kept


def test_a_failed_run_says_why_and_is_made_again(small, store, monkeypatch):
    cfg = small()

    def boom(*_):
        raise RuntimeError("boom\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(Classify, "loss", boom)
        with pytest.raises(Failed, match="RuntimeError: boom; see"):
            execute(cfg)
    record = store.read(run_id(cfg))
    assert (record.status, record.reason) == ("failed", "RuntimeError: boom")
    assert record.config == facts(cfg)
    assert "in boom" in (log := store.folder(record.id) / "log.txt").read_text()
    assert not (log.parent / "claim").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Classify, "loss", mistaken)
        with pytest.raises(UserError, match="no room"):
            execute(cfg)
    assert (log.parent / "config.yaml").exists(), "what a failure left stays whole"
    assert execute(cfg).status == "finished"
    assert store.state(record.id) == "finished"


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"norm": "dbn", "norm.alpha": 2}, ["norm.alpha=2"]),
        ({"norm": "bn", "norm.epsilon": "small"}, ["norm 'bn'", "epsilon='small'", "a number"]),
        ({"norm": "bn", "norm.version": 2}, ["norm 'bn'", "version 1"]),
        ({"model.widths": [0]}, ["model.widths"]),
        ({"model.widths": 8}, ["widths=8", "list"]),
        ({"optim.lr": -1}, ["optim.lr=-1"]),
        ({"batch_size": 2000}, ["batch_size=2000", "1197"]),
        ({"budget": "3weeks"}, ["budget=3weeks", "step, epoch"]),
        ({"evaluate": "1epok"}, ["evaluate=1epok", "epoch"]),
        ({"dataset.valid": 5000}, ["dataset.valid=5000"]),
        ({"dataset": "mnist", "data.root": "/nowhere"}, ["mnist", "/nowhere"]),
        ({"runtime.device": "cuda:99"}, ["runtime.device=cuda:99"]),
        ({"runtime.device": "gpu"}, ["runtime.device=gpu"]),
        ({"runtime.threads": 0}, ["runtime.threads=0"]),
    ],
    ids=str,
)
def test_what_the_user_can_mend_is_one_line_and_no_record(composer, small, store, settings, parts):
    cfg = composer.config({"model.widths": [8], "budget": "2steps", "results": str(store.root)} | settings)
    told(lambda: execute(cfg), *parts)
    assert store.ids() == []
    assert store.state(run_id(cfg)) == "missing"
    assert not (store.folder(run_id(cfg)) / "claim").exists()


def test_an_interrupted_run_gives_its_claim_back(small, store, monkeypatch):
    cfg = small(runtime__checkpoint=0)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(cfg, interrupt)
    assert store.state(run_id(cfg)) == "missing"
    assert execute(cfg).status == "finished"


# folders that cannot be written


def test_results_inside_a_file(small, tmp_path):
    (tmp_path / "file").write_text("precious")
    told(lambda: execute(small(results=str(tmp_path / "file" / "results"))), "cannot write", tmp_path, "results=DIR")
    assert (tmp_path / "file").read_text() == "precious"


def test_results_that_are_a_file(small, tmp_path):
    (tmp_path / "file").write_text("precious")
    told(lambda: execute(small(results=str(tmp_path / "file"))), "cannot write", tmp_path, "results=DIR")


@pytest.mark.parametrize("what", ["history", "checkpoint", "record", "config"])
def test_a_full_disk_costs_nothing_but_the_wait(small, store, tmp_path, monkeypatch, what):
    cfg = small(norm="bn", runtime__checkpoint=0, budget="6steps")
    whole = execute(small(norm="bn", budget="6steps", results=str(tmp_path / "whole")))
    full, calls = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), []

    def when(wanted, original):
        def call(path, *args, **kwargs):
            hit = wanted(path, *args, **kwargs)
            calls.extend([path] * hit)
            if hit and len(calls) == (2 if what in ("history", "checkpoint") else 1):
                raise full
            return original(path, *args, **kwargs)

        return call

    opens = {
        "history": lambda path, mode="r", *_, **__: path.name == "history.csv" and mode == "a",
        "checkpoint": lambda path, mode="r", *_, **__: path.name.startswith("checkpoint.pt.") and mode == "wb",
        "record": lambda path, mode="r", *_, **__: path.name.startswith("record.json.") and mode == "w",
        "config": lambda path, mode="r", *_, **__: path.name.startswith("config.yaml.") and mode == "w",
    }
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", when(opens[what], Path.open))
        told(lambda: execute(cfg), "cannot write", store.root, "No space left on device", "free space")
    assert store.ids() == []
    assert store.state(run_id(cfg)) == {"config": "missing"}.get(what, "interrupted")
    assert not list(store.folder(run_id(cfg)).glob("*.part"))
    record = execute(cfg)
    assert record.facts["weights"] == whole.facts["weights"]
    assert history(store, record) == history(Store(tmp_path / "whole"), whole)


# the machine


def test_every_run_sets_all_switches(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the CPU has no use for the last one
    machine.prepare(1, tf32=True, deterministic=False)
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    machine.prepare(1, tf32=False, deterministic=True)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


# schedules that look at the history

BOB = {"norm": "bn", "schedule": "newbob", "schedule__score": "valid/error", "budget": "60steps", "evaluate": "5steps"}


def test_the_rate_follows_the_history_and_an_early_stop_is_recorded(small, store):
    """A validation error that hardly falls halves the rate; the run ends when it has stopped falling."""
    record = execute(small(**BOB, schedule__start=0.3, schedule__stop=0.25))
    rows = store.history(record.id)
    errors = [row["valid/error"] for row in rows]
    rate, falling, rates = 0.1, False, [0.1, 0.1]
    for n in range(1, len(errors)):
        best = min(errors[:n])
        gain = (best - errors[n]) / best
        if falling and gain < 0.25:
            assert n == len(errors) - 1, "it went on"
            break
        falling = falling or gain < 0.3
        rate *= 0.5 if falling else 1
        rates.append(rate)
    else:
        pytest.fail("it did not stop")
    assert [row["lr"] for row in rows] == pytest.approx(rates)
    assert rates[-1] < 0.1
    assert (record.status, record.facts["stopped"]) == ("finished", True)
    assert record.facts["steps"] == rows[-1]["step"] == 5 * len(rows) < 60


def test_a_run_that_uses_its_budget_is_not_said_to_have_stopped(small):
    assert execute(small()).facts["stopped"] is False
    assert execute(small(**BOB, schedule__start=0, schedule__stop=0)).facts["steps"] <= 60


def test_a_method_settles_before_the_last_row_of_a_run_that_stops_early(small, store, monkeypatch):
    """Once, at the stop; the row's scores are those of the settled network."""
    settled = []

    def settle(model, forward, clock):
        settled.append(clock)
        for parameter in model.parameters():
            parameter.zero_()

    original = METHODS.build
    monkeypatch.setattr(run.METHODS, "build", lambda settings: replace(original(settings), settle=settle))
    record = execute(small(**BOB, schedule__start=0.3, schedule__stop=0.25))
    assert record.facts["stopped"]
    assert len(settled) == 1
    losses = [row["valid/loss"] for row in store.history(record.id)]
    assert losses[-1] == pytest.approx(math.log(10), rel=1e-5)
    assert losses[-2] < 2.25
