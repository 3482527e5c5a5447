"""Runs side by side in a terminal: groups over seeds, no mean over survivors, numbers as reckoned by hand."""

import json
import math
import sys

import pytest

from normtables.__main__ import dispatch, main
from normtables.records import Record, Store
from normtables.report import compare

NAMES = ("step", "epoch", "seconds", "lr", "train/loss", "test/error", "test/accuracy")


@pytest.fixture
def store(results):
    return Store(results)


@pytest.fixture
def add(store):
    """Writes a run whose test errors, epoch by epoch, are these; ids begin with the norm's name in hex."""

    def write(run, norm, seed, errors, status="finished", reason="", lr=0.1, **facts):
        config = {
            "norm": {"name": norm},
            "optim": {"lr": lr, "name": "sgd"},
            "seeds": {"data": 0, "weights": seed, "order": seed},
        }
        rows = [(10 * k, k, 0.5 * k, lr, 1 / k, e, 100 - e) for k, e in enumerate(errors, 1)]
        folder = store.folder(run)
        folder.mkdir(parents=True)
        text = "".join(",".join(map(str, row)) + "\n" for row in (NAMES, *rows))
        (folder / "history.csv").write_text(text)
        score = {"name": "test/error", "better": "lower", "chance": 90.0}
        known = {"steps": 10 * len(errors), "seconds": 2.0 * len(errors), "steps_per_second": 5.0, "parameters": 7}
        store.write(Record(run, status, reason, config, score, {"test/error": errors[-1]}, known | facts))

    return write


@pytest.fixture
def six(add):
    """Batch norm with three seeds, none with three of which one diverged."""
    add("b0aaaaaaaaaa", "bn", 0, [5, 3, 4])
    add("b1aaaaaaaaaa", "bn", 1, [6, 5, 2])
    add("b2aaaaaaaaaa", "bn", 2, [4, 1, 1])
    add("c0aaaaaaaaaa", "none", 0, [9, 8, 7])
    add("c1aaaaaaaaaa", "none", 1, [9, 8, 8])
    add("c2aaaaaaaaaa", "none", 2, [9, 6, math.nan], "diverged", "the loss was nan at update 25")


IDS = ["b0aaaaaaaaaa", "b1aaaaaaaaaa", "b2aaaaaaaaaa", "c0aaaaaaaaaa", "c1aaaaaaaaaa", "c2aaaaaaaaaa"]


def printed(text):
    """Name of a line -> its cells, of the first table, whose columns lie two blanks apart at least."""
    table = text.split("\n\n")[1].splitlines()
    heads = table[0].split()
    found = {}
    for line in table[1:]:
        name, *cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        found[name] = dict(zip(heads, cells))
    return found


def test_a_group_has_mean_and_sd_over_its_seeds(six, store):
    found = compare.compare(store, IDS)
    bn, _ = found.groups
    assert bn.settings == {"norm.name": "bn"}
    assert bn.spread("test/error best") == pytest.approx((2.0, 1.0))  # 3, 2, 1
    assert bn.spread("test/error best at epoch") == pytest.approx((7 / 3, math.sqrt(1 / 3)))  # 2, 3, 2: the first 1
    assert bn.spread("test/error best at step") == pytest.approx((70 / 3, math.sqrt(100 / 3)))
    assert bn.spread("test/error best at seconds") == pytest.approx((7 / 6, math.sqrt(1 / 12)))
    assert bn.spread("test/error last") == pytest.approx((7 / 3, math.sqrt(7 / 3)))  # 4, 2, 1
    assert bn.spread("train/loss best") == (pytest.approx(1 / 3), 0.0)
    assert bn.spread("epochs") == (3.0, 0.0)
    assert bn.spread("seconds") == (6.0, 0.0)
    assert found.shared == {"optim.lr": 0.1, "optim.name": "sgd", "seeds.data": 0}


def test_no_mean_over_survivors(six, store):
    found = compare.compare(store, IDS)
    text = compare.text(found)
    lines = printed(text)
    assert "6 runs in 2 groups" in text
    assert lines["norm.name"] == {"1": "bn", "2": "none"}
    assert lines["n"] == {"1": "3", "2": "3"}
    assert lines["status"] == {"1": "finished", "2": "2 finished, 1 diverged"}
    assert lines["test/error best"] == {"1": "2.0 ± 1.0", "2": "–"}
    assert lines["test/error best at epoch"] == {"1": "2.33 ± 0.58", "2": "–"}
    assert lines["test/error last"] == {"1": "2.3 ± 1.5", "2": "–"}
    assert lines["steps"] == {"1": "30", "2": "–"}
    assert "– no mean: not every run" in text
    members = [line.split() for line in text.split("\n\n")[2].splitlines()]
    heads = "run group seeds.order seeds.weights status test/error best test/error best at epoch test/error last"
    assert " ".join(members[0]) == f"{heads} steps seconds"
    assert members[2] == ["b1aaaaaaaaaa", "1", "1", "1", "finished", "2", "3", "2", "30", "6"]
    assert members[6] == ["c2aaaaaaaaaa", "2", "2", "2", "diverged", "6", "2", "nan", "30", "6"]
    assert text.splitlines()[-1] == "c2aaaaaaaaaa diverged: the loss was nan at update 25"


def test_a_run_that_stands_alone_shows_what_it_has(six, store):
    text = compare.text(compare.compare(store, ["b0aaaaaaaaaa", "c2aaaaaaaaaa"]))
    lines = printed(text)
    assert lines["norm.name"] == {"b0aaaaaaaaaa": "bn", "c2aaaaaaaaaa": "none"}
    assert "n" not in lines
    assert lines["test/error best"] == {"b0aaaaaaaaaa": "3", "c2aaaaaaaaaa": "6"}
    assert lines["test/error best at epoch"] == {"b0aaaaaaaaaa": "2", "c2aaaaaaaaaa": "2"}
    assert lines["test/error last"] == {"b0aaaaaaaaaa": "4", "c2aaaaaaaaaa": "nan"}
    assert lines["status"] == {"b0aaaaaaaaaa": "finished", "c2aaaaaaaaaa": "diverged"}
    assert "no mean" not in text, "nothing was averaged"
    assert text.split("\n\n")[2:] == ["c2aaaaaaaaaa diverged: the loss was nan at update 25"]


def test_best_only_where_it_is_known_which_way(six, store):
    numbers = compare.compare(store, IDS[:1]).runs[0].numbers
    assert numbers["train/loss best"] == pytest.approx(1 / 3)
    assert "test/accuracy best" not in numbers
    assert numbers["test/accuracy last"] == 96


def test_higher_is_better_where_the_record_says_so(six, store):
    path = store.folder(IDS[0]) / "record.json"
    record = json.loads(path.read_text())
    record["score"] = {"name": "valid/accuracy", "better": "higher"}
    path.write_text(json.dumps(record))
    assert compare.compare(store, IDS[:1]).runs[0].numbers["test/accuracy best"] == 97


def test_a_run_that_is_being_made_counts_as_unfinished(six, store, add):
    (store.folder(IDS[1]) / "record.json").unlink()
    (store.folder(IDS[1]) / "config.yaml").write_text(
        "norm: {name: bn}\noptim: {lr: 0.1, name: sgd}\nseeds: {data: 0, weights: 1, order: 1}\n"
    )
    with store.claim(IDS[1]):
        [group] = compare.compare(store, IDS[:3]).groups
        assert group.statuses == {"finished": 2, "running": 1}
        assert math.isnan(group.spread("test/error best")[0])
        assert group.runs[1].numbers["test/error last"] == 2


def test_a_number_that_one_run_lacks_has_no_mean(six, store):
    """As where runs of the same settings were made before and after a metric was added."""
    path = store.folder(IDS[2]) / "history.csv"
    path.write_text(path.read_text().replace("test/accuracy", "test/agreement"))
    [group] = compare.compare(store, IDS[:3]).groups
    assert math.isnan(group.spread("test/accuracy last")[0])
    assert compare.cell(group, "test/accuracy last") == "–"
    assert compare.cell(group, "test/error best") == "2.0 ± 1.0"


def test_runs_of_several_devices_say_so(add, store):
    """Their seconds are not to be compared."""
    add("d0aaaaaaaaaa", "bn", 0, [1], device="cpu")
    add("d1aaaaaaaaaa", "bn", 1, [1], device="cuda")
    [group] = compare.compare(store, ["d0aaaaaaaaaa", "d1aaaaaaaaaa"]).groups
    assert "cpu, cuda" in compare.text(compare.compare(store, ["d0aaaaaaaaaa", "d1aaaaaaaaaa"]))
    assert group.spread("steps") == (10.0, 0.0)


def test_settings_are_told_apart_by_type_and_seeds_last(add, store):
    add("e0aaaaaaaaaa", "bn", 0, [1], lr=1)
    add("e1aaaaaaaaaa", "bn", 1, [1], lr=1.0)
    add("e2aaaaaaaaaa", "bn", 0, [1], lr="1")
    ids = ["e2aaaaaaaaaa", "e1aaaaaaaaaa", "e0aaaaaaaaaa"]
    found = compare.compare(store, ids)
    assert [run.id for run in found.runs] == ids
    assert [list(group.settings) for group in found.groups] == [["optim.lr"]] * 3
    assert found.seeds == ["seeds.order", "seeds.weights"]
    arranged = compare.compare(store, ids, arranged=True)
    assert [run.id for run in arranged.runs] == ["e0aaaaaaaaaa", "e1aaaaaaaaaa", "e2aaaaaaaaaa"]


# the command


def said(capsys, results, *words):
    assert dispatch(["compare", *words, "--results", str(results)]) == 0
    return capsys.readouterr().out


def refused(capsys, monkeypatch, results, *words):
    monkeypatch.setattr(sys, "argv", ["normtables", "compare", *words, "--results", str(results)])
    with pytest.raises(SystemExit) as left:
        main()
    complaint = capsys.readouterr().err.strip()
    assert left.value.code == 2
    assert complaint.count("\n") == 0
    return complaint


def test_beginnings_of_ids_do(six, results, capsys):
    assert "b0aaaaaaaaaa" in said(capsys, results, "b0", "c1aaaaaaaaaa")
    assert "1 runs" in said(capsys, results, "b0", "b0a")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["b0", "c"], "several runs begin with 'c': c0aaaaaaaaaa, c1aaaaaaaaaa, c2aaaaaaaaaa; write more of the id"),
        (["b0", "b0aaaaaaaaab"], "no run 'b0aaaaaaaaab'; did you mean 'b0aaaaaaaaaa'?; `normtables runs` lists"),
        ([], "compare needs runs"),
        (["--where", "norm.name=ln"], "compare needs runs"),
        (["--where", "norm.nam=ln"], "did you mean 'norm.name'?"),
    ],
)
def test_one_line_and_status_2(six, results, capsys, monkeypatch, words, says):
    assert says in refused(capsys, monkeypatch, results, *words)


def test_runs_may_be_chosen_by_their_settings(six, results, capsys):
    whole = json.loads(said(capsys, results, "--where", "norm.name=bn", "--json"))
    assert [run["id"] for run in whole["groups"][0]["runs"]] == IDS[:3]
    some = json.loads(said(capsys, results, "b1", "c1", "--where", "norm.name=bn", "--json"))
    assert [run["id"] for run in some["groups"][0]["runs"]] == IDS[1:2]


def test_json_has_everything_and_null_for_no_number(six, results, capsys):
    text = said(capsys, results, "--where", "optim.lr=0.1", "--json")
    found = json.loads(text, parse_constant=pytest.fail)
    bn, none = found["groups"]
    assert found["shared"]["optim.lr"] == 0.1
    assert bn["settings"] == {"norm.name": "bn"}
    assert bn["numbers"]["test/error best"] == {"mean": 2.0, "sd": 1.0}
    assert none["numbers"]["test/error best"] == {"mean": None, "sd": None}
    assert (none["n"], none["statuses"]) == (3, {"finished": 2, "diverged": 1})
    last = none["runs"][2]
    assert (last["status"], last["reason"]) == ("diverged", "the loss was nan at update 25")
    assert last["seeds"] == {"seeds.weights": 2, "seeds.order": 2}
    assert last["numbers"]["test/error last"] is None
    assert last["numbers"]["test/error best at step"] == 20
