"""The benchmarks run and print their tables; what they measure is not judged here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NUMBER = r"\d[\d.]*(e[+-]?\d+)?"


@pytest.fixture
def measure(monkeypatch):
    """The module that the benchmarks share, imported as they import it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, "measure", raising=False)
    import measure

    return measure


def bench(name, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(SCRIPTS / name), *words]
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)


def table(done):
    """What is measured -> the line's other cells; fails unless every line has a number or two and the quartiles."""
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert lines[0] == ["what", "aim", "median", "quartiles", "detail"]
    assert lines[1] == ["---"] * 5
    for line in lines[2:]:
        assert re.match(NUMBER, line[2].strip()), line
        assert re.match(f"{NUMBER} to {NUMBER}", line[3].strip()), line
    return {line[0]: [cell.strip() for cell in line[1:]] for line in lines[2:]}


def test_trainer_bench_prints_every_measure_and_the_aims_of_the_project():
    found = table(bench("bench_trainer.py", "--quick"))
    aims = {what: cells[0] for what, cells in found.items() if cells[0]}
    assert aims == {
        "trainer over bare loop, cnn4, batch 100": "at most 1.03",
        "trainer over bare loop, mlp 784-300-300-10, batch 100": "at most 1.10",
        "in-memory input over DataLoader(num_workers=2)": "at least 20",
        "normtables --help": "at most 0.6 s, no torch",
        "normtables plan 3": "at most 2 s, no torch",
    }
    assert {"cnn4, batch 100, eager", "cnn4, batch 100, eager, channels_last"} <= found.keys()
    for command in ("normtables --help", "normtables plan 3"):
        assert found[command][3].startswith("torch not loaded")


def test_store_bench_prints_every_measure():
    found = table(bench("bench_store.py", "--quick"))
    aims = {what: cells[0] for what, cells in found.items() if cells[0]}
    assert aims == dict.fromkeys(
        ("50 records into pandas", "planning 20 runs", "`normtables plan FILE --json`, 20 runs"), "at most 2 s"
    )


def test_store_bench_records_are_those_of_the_planned_runs(monkeypatch, tmp_path, measure):
    """Otherwise the planner would find every run missing, and read nothing of them."""
    import bench_store
    from normtables.config import Composer
    from normtables.records import Store
    from normtables.tables.plan import plan, states
    from normtables.tables.spec import load

    bench_store.write_records(tmp_path / "full", 20)
    bench_store.write_table(tmp_path / "bench.yaml", 20)
    planned = plan(load(tmp_path / "bench.yaml"), "laptop", Composer())
    assert list(states(planned, Store(tmp_path / "full")).values()) == ["finished"] * 20


def test_variants_take_turns_and_every_other_round_goes_backwards(measure):
    said = []
    ticks = iter(range(100))
    variants = {"a": lambda: said.append("a"), "b": lambda: said.append("b")}
    times = measure.interleaved(variants, 2, lambda: next(ticks))
    assert "".join(said) == "ab" + "ab" + "ba"
    assert times == {"a": [1, 1], "b": [1, 1]}


def test_a_ratio_is_taken_within_each_round(measure):
    """A slow second round must not move the ratio."""
    assert measure.ratios([2.0, 20.0], [1.0, 10.0]) == [2.0, 2.0]


def test_a_row_has_median_and_quartiles(measure):
    assert measure.row("x", "at most 2 s", [5.0, 1.0, 3.0, 2.0, 4.0], ".1f", "s", "d") == measure.Row(
        "x", "at most 2 s", "3.0 s", "2.0 to 4.0", "d"
    )
    assert measure.row("x", "", [5.0], ".0f").spread == "5 to 5"


def test_a_command_that_fails_says_why(measure):
    with pytest.raises(RuntimeError, match=r"^no such thing$"):
        measure.command_times(["-c", "import sys; sys.exit('no such thing')"], 1)
