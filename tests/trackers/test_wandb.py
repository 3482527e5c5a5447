"""The tracker wandb, without an account and without a network: its files are read back."""

import json
import math
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from normtables.errors import UserError
from normtables.records import Record, Store
from normtables.trackers import TRACKERS, wandb
from normtables.trackers.publish import publish
from normtables.training.run import execute

OFFLINE = {"name": "wandb", "project": "normtables", "entity": None, "group": None, "tags": [], "mode": "offline"}


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No account, no home, and what was found out about the host forgotten."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in (("NETRC", "netrc"), ("WANDB_CONFIG_DIR", "config"), ("WANDB_CACHE_DIR", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    wandb.online_or_not.cache_clear()


@pytest.fixture
def unreachable(monkeypatch):
    """A key, and a host at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")


def files(results):
    return sorted(Path(results).glob("wandb/offline-run-*/run-*.wandb"))


def inspected(path, *options):
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rows_of(path):
    items = [json.loads(line) for line in inspected(path).splitlines()]
    items = [item["history"]["item"] for item in items if item["type"] == "history"]
    return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]


def test_a_run_is_told_whole(small):
    cfg = small(tracker="wandb", tracker__group="table_03 laptop", tracker__tags=["table 3"])
    record = execute(cfg)
    [path] = files(cfg.results)
    told = json.loads(inspected(path, "--summary"))
    assert (told["run_id"], told["state"], told["exit_code"]) == (record.id, "finished", 0)
    assert (told["name"], told["project"]) == ("mlp none digits seed 0", "normtables")
    assert told["config"] == json.loads(json.dumps(record.config))
    assert told["summary"]["status"] == "finished"
    assert {key: told["summary"][key] for key in record.final} == record.final
    assert told["tags"] == ["table 3"]
    assert '"run_group":"table_03 laptop"' in inspected(path)
    assert rows_of(path) == Store(cfg.results).history(record.id)


def test_no_number_depends_on_the_tracker(small, tmp_path):
    told, alone = execute(small(tracker="wandb")), execute(small(results=str(tmp_path / "alone")))
    assert (told.id, told.final, told.facts["weights"]) == (alone.id, alone.final, alone.facts["weights"])


def test_an_interrupted_run_goes_on_under_its_id(small, cut_off):
    cfg = small(tracker="wandb", budget="6steps", evaluate="2steps", runtime__checkpoint=0)
    cut_off(cfg, step=4)
    [first] = files(cfg.results)
    assert json.loads(inspected(first, "--summary"))["summary"]["status"] == "interrupted"
    record = execute(cfg)
    assert {path.name for path in files(cfg.results)} == {f"run-{record.id}.wandb"}
    found = {row["step"]: row for path in files(cfg.results) for row in rows_of(path)}
    history = Store(cfg.results).history(record.id)
    assert [found[row["step"]]["valid/loss"] for row in history] == [row["valid/loss"] for row in history]


def test_without_a_key_it_works_offline_and_says_so(small, capfd):
    cfg = small(tracker="wandb")
    execute(cfg)
    assert len(files(cfg.results)) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "no key was found" in said


def test_a_key_without_a_network_works_offline_and_says_so(small, capfd, unreachable):
    cfg = small(tracker="wandb")
    assert execute(cfg).status == "finished"
    assert len(files(cfg.results)) == 1
    assert "does not answer" in capfd.readouterr().err


def test_a_host_that_accepts_and_says_nothing(small, capfd, monkeypatch):
    monkeypatch.setattr(wandb, "INIT", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        cfg = small(tracker="wandb")
        assert execute(cfg).status == "finished"
    assert len(files(cfg.results)) == 1
    assert "did not begin online" in capfd.readouterr().err


def test_keys_in_the_netrc_file_are_found(tmp_path):
    assert not wandb.has_key("api.example.org")
    (tmp_path / "netrc").write_text("machine api.example.org login user password secret\n")
    assert wandb.has_key("api.example.org")
    assert not wandb.has_key("elsewhere.org")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb.has_key("elsewhere.org")  # whose keys are kept under the old name


class Broken:
    """A tracker that fails in one of its calls."""

    def __init__(self, where):
        self.where, self.calls = where, []

    def call(self, what):
        self.calls.append(what)
        if what == self.where:
            raise RuntimeError("no space\nleft")

    def begin(self, *_):
        self.call("begin")

    def row(self, *_):
        self.call("row")

    def end(self, *_):
        self.call("end")


@pytest.mark.parametrize("where", ["begin", "row", "end"])
def test_a_tracker_that_fails_costs_only_itself(small, monkeypatch, capfd, where):
    broken = Broken(where)
    monkeypatch.setattr(TRACKERS, "build", lambda settings: broken)
    assert execute(small()).status == "finished"
    assert broken.calls[-1] == where
    assert capfd.readouterr().err == "normtables: the tracker failed (no space); the run goes on without it\n"


def test_an_unknown_setting_of_the_tracker_is_refused(composer):
    with pytest.raises(UserError, match="has no setting 'projct'; did you mean 'project'"):
        composer.config({"tracker": "wandb", "tracker.projct": "mine"})
    with pytest.raises(UserError, match="should name a project"):
        TRACKERS.build(OFFLINE | {"project": ""})


# publish


@pytest.fixture
def store(tmp_path):
    """Two records with histories."""
    made = Store(tmp_path / "results")
    for run, status, loss in (("aaaaaaaaaaaa", "finished", 0.5), ("bbbbbbbbbbbb", "diverged", math.nan)):
        config = {"model": {"name": "mlp"}, "norm": {"name": "bn"}, "dataset": {"name": "digits"}}
        made.write(Record(run, status, "", config, {"name": "test/error"}, {"train/loss": loss}, {}))
        (made.folder(run) / "history.csv").write_text(f"step,train/loss\n10,1.5\n20,{loss}\n")
    return made


def records(store):
    return [store.read(run) for run in store.ids()]


def test_records_are_sent_once(store):
    groups = {"aaaaaaaaaaaa": "table_03 laptop"}
    assert publish(store, records(store), OFFLINE, groups) == (2, 0)
    first, second = files(store.root)
    assert [row["train/loss"] for row in rows_of(first)] == [1.5, 0.5]
    assert [row["step"] for row in rows_of(second)] == [10, 20]
    told = json.loads(inspected(second, "--summary"))
    assert (told["run_id"], told["summary"]["status"]) == ("bbbbbbbbbbbb", "diverged")
    assert '"run_group":"table_03 laptop"' in inspected(first)
    assert publish(store, records(store), OFFLINE, groups) == (0, 2)
    assert len(files(store.root)) == 2
    assert publish(store, records(store), OFFLINE | {"project": "other"}, groups) == (2, 0)


def test_a_record_that_changed_is_sent_again(store):
    publish(store, records(store), OFFLINE, {})
    first = store.read("aaaaaaaaaaaa")
    store.write(Record(**{**vars(first), "final": {"train/loss": 0.25}}))
    assert publish(store, records(store), OFFLINE, {}) == (1, 1)


def test_what_was_sent_before_an_error_is_not_sent_again(store, monkeypatch):
    class Failing(wandb.Wandb):
        def begin(self, folder, run, config):
            if run == "bbbbbbbbbbbb":
                raise OSError("gone")
            super().begin(folder, run, config)

    monkeypatch.setattr(wandb, "Wandb", Failing)
    with pytest.raises(OSError, match="gone"):
        publish(store, records(store), OFFLINE, {})
    monkeypatch.undo()
    assert publish(store, records(store), OFFLINE, {}) == (1, 1)


def test_a_damaged_list_of_what_was_sent(store):
    (store.root / "published.json").write_text("{")
    with pytest.raises(UserError, match=r"published\.json .*delete it"):
        publish(store, records(store), OFFLINE, {})
