"""What is told of a sweep while it is made: by its manifest, by the runs' own files, and by the tables it fills."""

import json
import threading
from contextlib import contextmanager

import pytest
from dashboard_made import decoded, lines_of, number_of
from omegaconf import OmegaConf

from normtables import making
from normtables.__main__ import dispatch
from normtables.config import Composer, facts, run_id
from normtables.errors import UserError
from normtables.records import Store
from normtables.report import manifest
from normtables.report.fresh import kept_fresh
from normtables.sweep import thaw
from normtables.training.run import execute


def test_a_sweep_by_what_became_of_its_runs(fresh, add, begin, sweep):
    announced = sweep()
    add(0, seconds=10.0)
    with begin(1, epoch=3, claim=True):
        add(2, status="failed", reason="out of memory")
        announced.fail(number_of(3), "its process died (SIGKILL)")
        [found] = decoded(fresh).sweeps
        counts = {"done": 1, "diverged": 0, "running": 1, "failed": 2, "waiting": 1}
        assert (found["state"], found["counts"]) == ("running", counts)
        assert [(run["id"], run["reason"]) for run in found["failed"]] == [
            (number_of(2), "out of memory"),
            (number_of(3), "its process died (SIGKILL)"),
        ]
        assert found["waiting"] == [{"id": number_of(4), "label": "norm=bn, seed=4"}]
        [running] = found["running"]
        assert running == {
            "id": number_of(1),
            "label": "norm=bn, seed=1",
            "progress": 0.75,
            "scores": [["test/error", 47]],
            "seconds": 6,
        }
        assert found["left"] == (10 + 0.25 * 10) / 2  # one waits, one has a quarter to go, two workers


def test_the_time_left_is_unknown_until_a_run_has_ended_and_nobody_expected_anything(fresh, begin, sweep):
    sweep()
    assert decoded(fresh).sweeps[0]["left"] is None
    sweep(name="expected", seconds=8.0)
    [found] = [one for one in decoded(fresh).sweeps if one["name"] == "expected"]
    assert found["left"] == 5 * 8 / 2


def test_a_sweep_ends(fresh, add, sweep):
    announced = sweep(runs=2)
    assert decoded(fresh).sweeps[0]["state"] == "running"
    add(0)
    announced.end()
    assert decoded(fresh).sweeps[0]["state"] == "stopped"
    add(1, status="diverged", reason="the loss is inf")
    [found] = decoded(fresh).sweeps
    assert (found["state"], found["left"], found["counts"]["diverged"]) == ("complete", 0, 1)
    assert found["ended"] >= found["begun"]


def test_a_sweep_whose_process_is_gone_has_stopped(fresh, sweep):
    claim = sweep().claim
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"pid": 2**22 + 1}))
    assert decoded(fresh).sweeps[0]["state"] == "stopped"


def test_the_newest_sweep_comes_first_and_a_damaged_one_is_left_out(fresh, sweep):
    for name in ("first", "second", "third"):
        path = sweep(name=name).events.with_name(manifest.MANIFEST)
    path.write_text("{")
    assert [found["name"] for found in decoded(fresh).sweeps] == ["second", "first"]


def test_a_line_that_was_cut_off_is_left_out(fresh, sweep):
    announced = sweep()
    announced.fail(number_of(1), "no")
    with announced.events.open("a") as file:
        file.write('{"run": "00000')
    assert decoded(fresh).sweeps[0]["counts"]["failed"] == 1
    sweep()
    assert decoded(fresh).sweeps[0]["counts"]["failed"] == 0  # begun anew


def test_a_long_sweep_is_counted_whole_and_listed_in_part(fresh, sweep):
    sweep(runs=3000)
    [found] = decoded(fresh).sweeps
    assert (found["counts"]["waiting"], len(found["waiting"])) == (3000, 100)


def test_a_multirun_leaves_its_sweep_and_the_reasons_of_runs_without_a_record(results, fresh):
    words = ["optim.lr=-1,0.1", "model.widths=[8]", "budget=1epoch", f"results={results}"]
    with pytest.raises(Exception, match="1 runs failed"):
        dispatch(["run", "-m", *words])
    [found] = decoded(fresh).sweeps
    assert (found["counts"]["done"], [run["label"] for run in found["failed"]]) == (1, ["optim.lr=-1"])
    assert "above 0" in found["failed"][0]["reason"]
    assert found["command"].split()[:4] == ["normtables", "run", "-m", "optim.lr=-1,0.1"]


def test_files_are_kept_fresh_while_something_goes_on():
    twice, calls = threading.Event(), []

    def write():
        calls.append(threading.current_thread())
        if len(calls) == 2:
            twice.set()

    with kept_fresh(write, every=0.001):
        assert twice.wait(30)
    count = len(calls)
    assert (threading.current_thread() in calls, len(calls)) == (False, count)
    assert not calls[0].is_alive()


def test_what_cannot_be_written_is_not_tried_again():
    threads, begun = [], threading.Event()

    def write():
        threads.append(threading.current_thread())
        begun.set()
        raise UserError("no space left")

    with kept_fresh(write, every=0.001):
        assert begun.wait(30)
        threads[0].join(30)
        assert (len(threads), threads[0].is_alive()) == (1, False)


def test_a_table_made_with_run_leaves_its_sweep_and_its_files_follow(results, fresh, monkeypatch):
    """While some runs are made the table has the others."""
    refreshed, counts = [], []

    @contextmanager
    def at_hand(write):
        refreshed.append(write)
        yield

    def three_runs(jobs, workers, tell):
        for job in list(jobs)[:3]:
            execute(OmegaConf.create(job.yaml))
        refreshed[0]()
        counts.extend(line["status"] for line in lines_of(results / "smoke" / "table_03" / "table.csv"))

    monkeypatch.setattr(making, "run_all", three_runs)
    monkeypatch.setattr(making, "kept_fresh", at_hand)
    dispatch(["table", "3", "--tier", "smoke", "--run", "--jobs", "1", "--results", str(results)])
    assert (counts.count("finished"), "missing" in counts) == (12, True)  # two columns, each with two readings
    [found] = decoded(fresh).sweeps
    assert (found["name"], found["state"], found["workers"]) == ("table_03_smoke", "stopped", 1)
    assert found["command"] == f"normtables table 3 --tier smoke --run --results {results}"
    assert (found["counts"]["done"], found["counts"]["waiting"]) == (3, 7)
    assert all("seed=0" in run["label"] and "digits" in run["label"] for run in found["waiting"])


def test_the_configuration_in_a_runs_folder_makes_the_same_run_again(small, results, tmp_path):
    """The command that the dashboard shows: frozen=results/runs/ID/config.yaml results=elsewhere."""
    cfg = small(norm="dbn", norm__alpha=0.5, seed=3)
    record = execute(cfg)
    dispatch(["run", f"frozen={results}/runs/{record.id}/config.yaml", f"results={tmp_path / 'again'}"])
    again = Store(tmp_path / "again").read(record.id)
    assert again is not None
    assert (again.final, again.facts["weights"]) == (record.final, record.facts["weights"])


def test_a_frozen_configuration_keeps_its_own_machine_settings(tmp_path):
    cfg = Composer().config({"results": str(tmp_path / "kept"), "runtime.threads": 2})
    OmegaConf.save(cfg, tmp_path / "frozen.yaml")
    beside = Composer().config({"results": str(tmp_path / "other"), "frozen": str(tmp_path / "frozen.yaml")})
    assert (thaw(beside).results, thaw(beside).runtime.threads) == (str(tmp_path / "kept"), 2)


def test_committed_runs_can_be_made_again_by_their_configurations(shown):
    """Their ids come out of the files in their folders."""
    base = Composer().config({})
    store = Store(shown)
    for run in store.ids()[::40]:
        base.frozen = str(store.folder(run) / "config.yaml")
        assert run_id(thaw(base)) == run
        assert facts(thaw(base)) == store.read(run).config
