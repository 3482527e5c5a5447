"""The benchmarks run and print their tables; what they measure is not judged here."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from normtables.norms import METHODS
from normtables.registry import Entry

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NUMBER = r"-?\d[\d.]*(e[+-]?\d+)?"


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


def test_image_bench_prints_every_measure_and_the_aims_of_the_project():
    found = table(bench("bench_images.py", "--quick"))
    assert {what: cells[0] for what, cells in found.items()} == {
        "trainer over bare loop, nin, 32 px, batch 8": "",
        "trainer over resnet18 at 80 px in a bare loop, per operation, nin, 32 px": "",
        "share of an update spent on its batch, nin, 32 px": "under 1 % on a GPU",
        "GCN and ZCA of 600 images of 3 x 8 x 8, 450 for training": "under 60 s",
    }


def test_tabular_bench_prints_every_measure():
    found = table(bench("bench_tabular.py", "--quick"))
    networks = [f"fnn, {norm}, depth 2, width 16, batch 64" for norm in ("bn", "snn")]
    measures = ("updates a second", "trainer over bare loop", "share of the peak")
    assert list(found) == [
        *(f"{measure}, {name}" for name in networks for measure in measures),
        *(f"a fit of {name}, 100 examples of 64 features, 10 classes" for name in ("svm", "naive_bayes")),
    ]
    assert {cells[0] for cells in found.values()} == {""}


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


def test_lstm_bench_prints_every_measure():
    found = table(bench("bench_lstm.py", "--quick"))
    methods = {"frame-wise BN": "at most 2.0", "recurrent BN": "", "LN": ""}
    aims = {f"layer over torch's, [20, 32, 10], {name}": aim for name, aim in methods.items()}
    aims |= {f"update over the plain one's, small, 50 words, {name}": aim for name, aim in methods.items()}
    aims["trainer over bare loop, small"] = "at most 1.10"
    assert {what: cells[0] for what, cells in found.items()} == aims


def test_dqn_bench_prints_every_measure():
    found = table(bench("bench_dqn.py", "--quick"))
    lists = {"list of transitions, of single frames, over the ring": "at least 5"}
    lists["list of transitions, of stacks, a tenth as many, over the ring"] = ""
    rates = ("with learning", "acting alone", "emulator alone")
    aims = {f"agent steps a second, {what}": "" for what in rates}
    aims |= {f"share of learning, {what}": "" for what in ("emulator", "network", "replay")}
    aims |= {**lists, "trainer over CleanRL's structure": ""}
    assert {what: cells[0] for what, cells in found.items()} == aims


def test_store_bench_prints_every_measure():
    found = table(bench("bench_store.py", "--quick"))
    aims = {what: cells[0] for what, cells in found.items() if cells[0]}
    browser = {
        "Overview of 50 runs drawn in Chromium": "under 2 s",
        "a filter over 50 runs in Chromium": "under 200 ms",
    }
    assert {what: aim for what, aim in aims.items() if what not in browser} == dict.fromkeys(
        ("50 records into pandas", "planning 20 runs", "`normtables plan FILE --json`, 20 runs"), "at most 2 s"
    )
    assert {what: aim for what, aim in aims.items() if what in browser} in (browser, {})  # there may be no browser
    assert "dashboard's data of 50 runs, read anew" in found


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


def test_norms_bench_measures_every_method_and_writes_its_costs(tmp_path):
    parts = ["norms", "weights", "blocks", "recurrent"]  # what is compiled takes minutes
    found = table(bench("bench_norms.py", *parts, "--quick", "--costs", str(tmp_path / "costs.csv")))
    aims = {what.split(", over")[0] for what, cells in found.items() if cells[0] == "at most 1.5"}
    assert {"brn", "dbn", "l1bn", "normprop", "brn, past its warm-up", "dbn, as in Table 3"} <= aims
    with (tmp_path / "costs.csv").open() as file:
        costs = [(line["method"], line["block"]) for line in csv.DictReader(file)]
    assert costs == [(name, block) for block in ("convolution", "linear") for name in METHODS if name != "bn"]
    for floor in ("times the floor of 9 passes", "times the floor of 8 passes", "times the floor of 6 passes"):
        assert any(cells[-1].endswith(floor) for cells in found.values())


def test_norms_bench_refuses_an_unknown_part():
    done = bench("bench_norms.py", "nroms")
    assert done.returncode == 2
    assert "no part nroms" in done.stderr


@pytest.fixture
def listing(monkeypatch):
    """The module that lists the methods."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import list_methods

    return list_methods


def test_the_page_of_methods_is_what_the_command_gives(listing):
    """`make docs` writes it anew; times are those of docs/costs.csv."""
    assert (listing.DOCS / "methods.md").read_text() == listing.page(listing.DOCS / "costs.csv")


def test_the_page_has_a_row_for_every_method(listing):
    rows = re.findall(r"^\| `(\w+)` \| ", (listing.DOCS / "methods.md").read_text(), re.MULTILINE)
    assert rows == list(METHODS)


@pytest.mark.parametrize(
    ("name", "options", "same", "sees", "more"),
    [
        ("none", {}, True, False, "0, 0, 0"),
        ("bn", {}, False, True, "+1, 0, 0"),
        ("bn", {"use": "running", "update": False}, True, False, "+1, 0, 0"),
        ("wn", {}, True, False, "+1, +1, +8"),
        ("wn_mean", {}, False, True, "+1, +1, +8"),
        ("ln", {}, True, False, "+1, 0, +6"),
        ("cosine", {}, True, False, "-1, 0, 0"),
        ("snn", {"dropout": 0.5}, True, False, "0, 0, 0"),  # the small network has no dropout
    ],
    ids=str,
)
def test_what_is_measured_of_a_method_is_so(listing, name, options, same, sees, more):
    method = METHODS.build({"name": name, **options})
    assert listing.behaviour(method) == (same, sees)
    assert listing.added(method) == more


def test_a_docstring_without_paper_and_formula_is_noticed(listing, monkeypatch):
    def bare():
        """No formula here."""

    monkeypatch.setattr(listing, "METHODS", {"bare": Entry(bare, 1)})
    with pytest.raises(ValueError, match="docstring of bare"):
        listing.described("bare")


def test_a_method_without_measured_cost_says_so(listing, tmp_path):
    (tmp_path / "costs.csv").write_text("method,block,over_bn,quartiles\nwn,convolution,0.9,0.8 to 1\n")
    cells = {row[0]: row[-1] for row in listing.rows(tmp_path / "costs.csv")}
    assert (cells["`bn`"], cells["`wn`"], cells["`ln`"]) == ("1 / 1", "0.9", "not measured")


def test_variants_take_turns_in_another_order_each_round(measure):
    said, names = [], "abcdef"
    ticks = iter(range(1000))
    times = measure.interleaved({name: lambda name=name: said.append(name) for name in names}, 9, lambda: next(ticks))
    rounds = ["".join(said[i : i + 6]) for i in range(0, len(said), 6)]
    assert rounds[0] == names  # to warm up
    assert all(sorted(one) == list(names) for one in rounds)
    assert len(set(rounds[1:])) == 9
    assert times == {name: [1] * 9 for name in names}


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
