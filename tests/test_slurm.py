"""What is sent to Slurm, how it is packed and what a task does; the real thing is in tests/slurm."""

import json
import math
import time

import pytest
from omegaconf import OmegaConf

from normtables import slurm
from normtables.config import run_id
from normtables.errors import UserError
from normtables.records import Store
from normtables.slurm import Pack, cluster, packed, send


def test_settings_come_from_the_file_and_the_command_line():
    assert cluster({}).minutes == 60
    assert cluster({"launcher.minutes": 90, "launcher.partition": "gpu"}).partition == "gpu"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("minuts", 5, "has no setting 'minuts'; did you mean 'minutes'"),
        ("minutes", "long", "minutes='long' should be a whole number"),
        ("work", 60, "launcher.work=60: less than the time limit, launcher.minutes=60"),
        ("seconds", 0, "launcher.seconds=0: a number above 0"),
    ],
)
def test_bad_settings_are_refused(key, value, said):
    with pytest.raises(UserError) as error:
        cluster({f"launcher.{key}": value})
    assert said in str(error.value)


def test_runs_are_packed_by_their_length():
    asked = cluster({"launcher.work": 1, "launcher.seconds": 20})
    lengths = {"a": 30.0, "b": 30.0, "c": 1.0, "d": 100.0, "e": math.nan, "f": math.nan, "g": 21.0}
    assert packed([*"abcdefg"], lengths, asked) == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]
    assert packed([*"xyz"], {}, asked) == [["x", "y", "z"]]


@pytest.fixture
def frozen(small, tmp_path):
    """Configurations by run id."""
    made = [small(seed=seed) for seed in range(5)]
    return {run_id(cfg): cfg for cfg in made}


@pytest.fixture
def queue(monkeypatch):
    """A Slurm that takes arrays and never begins them: (packs of each array, tasks that are alive)."""
    arrays, alive = [], set()

    def submitted(packs, asked, folder):
        arrays.append([list(pack) for pack in packs])
        ids = [f"{len(arrays)}_{k}" for k in range(len(packs))]
        alive.update(ids)
        return ids

    def asked_of(command, *rest):
        return "MaxArraySize            = 2\n" if command == "scontrol" else "\n".join(sorted(alive))

    monkeypatch.setattr(slurm, "submitted", submitted)
    monkeypatch.setattr(slurm, "asked_of", asked_of)
    return arrays, alive


def test_what_waits_is_not_sent_again(frozen, queue, tmp_path):
    arrays, alive = queue
    asked, folder = cluster({"launcher.work": 1, "launcher.seconds": 40}), tmp_path / "slurm" / "table_03_smoke"
    send(frozen, {}, asked, folder)
    assert [[len(pack) for pack in array] for array in arrays] == [[1, 1], [1, 1], [1]]  # MaxArraySize
    assert list(json.loads((folder / "sent.json").read_text())) == list(frozen)
    send(frozen, {}, asked, folder)
    assert len(arrays) == 3
    alive -= {"1_1", "3_0"}
    send(frozen, {}, asked, folder)
    runs = list(frozen)
    again = [path.rsplit("/", 1)[1] for pack in arrays[3] for path in pack]
    assert again == [f"{runs[1]}.yaml", f"{runs[4]}.yaml"]
    assert json.loads((folder / "sent.json").read_text())[runs[1]] == "4_0"


def test_a_pack_makes_what_is_not_done(frozen, tmp_path):
    pytest.importorskip("submitit")
    paths = [str(slurm.freeze(cfg, tmp_path / f"{run}.yaml")) for run, cfg in frozen.items()]
    Pack()(paths[:2])
    store = Store(next(iter(frozen.values())).results)
    assert store.ids() == sorted(list(frozen)[:2])
    before = {run: (store.folder(run) / "record.json").stat().st_mtime_ns for run in store.ids()}
    pack = Pack().checkpoint(paths)
    pack.function(*pack.args)
    assert store.ids() == sorted(frozen)
    assert {run: (store.folder(run) / "record.json").stat().st_mtime_ns for run in before} == before


def test_a_failure_costs_itself(frozen, tmp_path, capsys):
    first, *rest = frozen.values()
    first.optim.lr = -1.0
    paths = [str(slurm.freeze(cfg, tmp_path / f"{run_id(cfg)}.yaml")) for cfg in (first, *rest)]
    Pack()(paths)
    said = capsys.readouterr().out
    assert f"{run_id(first)} failed: optim.lr=-1: a number above 0" in said
    assert Store(first.results).ids() == sorted(run_id(cfg) for cfg in rest)


def test_a_run_that_another_task_holds_waits(frozen, tmp_path, monkeypatch):
    """It is looked at again when everything else is done; a holder that died gives it free."""
    paths = [str(slurm.freeze(cfg, tmp_path / f"{run}.yaml")) for run, cfg in frozen.items()]
    held, naps = next(iter(frozen)), []
    state = Store.state
    monkeypatch.setattr(
        Store, "state", lambda self, run: "running" if run == held and len(naps) < 2 else state(self, run)
    )
    monkeypatch.setattr(time, "sleep", naps.append)
    Pack()(paths)
    assert naps == [slurm.WAIT] * 2
    assert Store(OmegaConf.load(paths[0]).results).ids() == sorted(frozen)


def test_without_slurm_one_line_says_so(frozen, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no scontrol here"):
        send(frozen, {}, cluster({}), tmp_path / "slurm")


def test_a_refusal_is_told_in_one_line(tmp_path, monkeypatch):
    script = tmp_path / "scontrol"
    script.write_text("#!/bin/sh\necho 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UserError, match="scontrol failed: slurm_load_ctl_conf error"):
        slurm.largest_array()


@pytest.mark.parametrize("gpus", [0, 2])
def test_each_task_asks_for_its_own_gpus(tmp_path, monkeypatch, gpus):
    pytest.importorskip("submitit")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 7\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = cluster({"launcher.gpus": gpus, "launcher.cpus": 3, "launcher.minutes": 90, "launcher.parallel": 1})
    assert slurm.submitted([["a.yaml"], ["b.yaml"]], asked, tmp_path / "slurm") == ["7_0", "7_1"]
    path = tmp_path / "slurm" / "logs" / "7" / "7_submission.sh"
    wanted = dict(
        line.removeprefix("#SBATCH --").split("=", 1) for line in path.read_text().splitlines() if "=" in line
    )
    assert wanted.get("gpus-per-node") == (str(gpus) if gpus else None)
    assert {key: wanted[key] for key in ("array", "cpus-per-task", "mem", "nodes", "time")} == {
        **{"array": "0-1%1", "cpus-per-task": "3", "mem": "4GB", "nodes": "1", "time": "90"},
    }
