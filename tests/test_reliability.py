"""The script that disturbs sweeps: it works with few runs, and it notices what it looks for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from normtables.records import Record, Store

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def check(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, "measure", raising=False)
    import check_reliability

    return check_reliability


@pytest.fixture
def pair(tmp_path):
    """Two stores with the same two runs, made at other times."""
    stores = Store(tmp_path / "one"), Store(tmp_path / "other")
    for seconds, store in enumerate(stores):
        for run in ("aa", "bb"):
            facts = {"seconds": seconds + 0.5, "steps_per_second": 1e3 * seconds, "weights": "0123"}
            store.write(Record(run, "finished", "", {"norm": "bn"}, {}, {"test/error": 2.5}, facts))
            (store.folder(run) / "config.yaml").write_text("norm: bn\n")
            (store.folder(run) / "history.csv").write_text(f"step,seconds,test/error\n50,{seconds},2.5\n")
    return stores


def test_times_and_what_nobody_reads_are_no_difference(check, pair):
    (pair[1].folder("aa") / "claim").write_text("{}")
    (pair[1].folder("aa") / "checkpoint.pt").write_bytes(b"x")
    assert check.differences(*pair) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("record.json", "0123", "0124"),
        ("record.json", "\n", " \n"),
        ("history.csv", ",2.5", ",2.50"),
        ("history.csv", "\n50", "\n50,1,3\n50"),
        ("config.yaml", "bn", "ln"),
    ],
)
def test_every_other_byte_is_one(check, pair, name, old, new):
    path = pair[1].folder("bb") / name
    path.write_text(path.read_text().replace(old, new, 1))
    assert check.differences(*pair) == [f"bb/{name}"]


def test_what_is_missing_or_left_is_one(check, pair):
    (pair[0].folder("aa") / "record.json").unlink()
    (pair[1].folder("bb") / "record.json.7.part").write_text("")
    pair[1].folder("cc").mkdir()
    (pair[1].folder("cc") / "log.txt").write_text("x")
    assert check.differences(*pair) == ["aa/record.json", "bb/record.json.7.part", "cc/log.txt"]


def test_a_traceback_is_not_well(check, pair, tmp_path):
    sweeps = [check.Sweep(tmp_path / "table.yaml", store.root) for store in pair]
    for sweep in sweeps:
        sweep.log.write_text("fine\n")
    assert check.compared(*sweeps) == ("2 records, 0 differences", True)
    sweeps[1].log.write_text("Traceback (most recent call last):\n")
    assert check.compared(*sweeps) == ("2 records, 0 differences, 1 tracebacks", False)


def test_three_kills_over_four_runs():
    words = [sys.executable, str(SCRIPTS / "check_reliability.py"), "--quick", "kills"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = r"\| 3 random SIGKILLs \(\d of the caller\) over 4 runs, \d calls \| 4 records, 0 differences \| yes \|"
    assert re.search(line, done.stdout), done.stdout
