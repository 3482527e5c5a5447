"""Table 10's file: which rows share runs, what each network's rows differ in, and that no target label chooses."""

import pytest

from normtables.tables.plan import plan
from normtables.tables.spec import load

PLAIN = ("AlexNet", "DDC", "DAN", "Deep CORAL", "RevGrad")
NORMALIZED = ("Inception BN", "SA", "GFK", "CORAL", "AdaBN", "AdaBN + CORAL")
OFFICE = {"A->W": 0.8, "D->W": 1e-4, "W->D": 1e-4, "A->D": 0.05, "D->A": 1e-3, "W->A": 7e-4}  # Deep CORAL's weights


@pytest.fixture(scope="module")
def plans():
    from normtables.config import Composer

    composer, spec = Composer(), load(10)
    return {tier: plan(spec, tier, composer) for tier in spec.tiers}


def facts_of(made, row, column):
    """The facts of a cell's first run."""
    return made.runs[made.cells[row, column].members[0].run].facts


def columns_of(made):
    return dict.fromkeys(column for _, column in made.cells)


def test_every_row_but_the_quoted_one_is_run(plans):
    for tier in ("smoke", "laptop", "paper"):
        for column in columns_of(plans[tier]):
            assert {row for row, name in plans[tier].cells if name == column} == {*PLAIN, *NORMALIZED}
    assert {row for row, _ in plans["short"].cells} == {*PLAIN, *NORMALIZED, "1-NN", "SVM"}
    assert [row for row, found in load(10).rows.items() if found.quoted] == ["LSSA"]


def test_six_trainings_a_column_and_seed(plans):
    seeds = {"smoke": 1, "laptop": 3, "paper": 5}
    for tier, count in seeds.items():
        assert len(plans[tier].runs) == 6 * count * len(columns_of(plans[tier]))
    short = plans["short"]
    shared = {
        column: {m.run for (_, name), cell in short.cells.items() if name == column for m in cell.members}
        for column in columns_of(short)
    }
    assert {column: len(runs) for column, runs in shared.items()} == {
        **dict.fromkeys(["MNIST->USPS", "USPS->MNIST"], 30),
        **dict.fromkeys(["A->W from scratch", "W->D from scratch"], 15),
        **dict.fromkeys([f"SURF {pair}" for pair in ("C->A", "A->W", "A->D", "W->D", "D->W")], 2),
    }


def test_rows_that_share_runs_are_told_apart_by_a_metric_that_these_record(plans):
    for made in plans.values():
        for (row, _), cell in made.cells.items():
            take = made.spec.rows[row].take
            for member in cell.members:
                task = made.runs[member.run].facts["dataset"]["task"]
                assert take.removeprefix("test/accuracy_") in ["", *task["ways"]]
                if not take:
                    assert task["ways"][0] == ("features" if row in ("1-NN", "SVM") else "source")
    takes = [row.take for row in load(10).rows.values() if row.take]
    assert len(takes) == len(set(takes)) == 5


def test_accuracy_is_that_of_the_last_update(plans):
    """No row is chosen by a score of the target, and nothing is tuned."""
    spec = load(10)
    assert {column.read.kind for column in spec.columns.values()} == {"last"}
    assert spec.choose is None


def test_what_the_rows_differ_in(plans):
    losses = {
        "DDC": ("ddc", 0.25, ["hidden"]),
        "DAN": ("dan", 1, ["hidden", "outputs"]),
        "RevGrad": ("revgrad", 1, ["hidden"]),
    }
    for tier, made in plans.items():
        for row, column in made.cells:
            if column.startswith("SURF"):
                continue
            known = facts_of(made, row, column)
            task = known["dataset"]["task"]
            assert known["norm"]["name"] == ("none" if row in PLAIN else "bn")
            weight = OFFICE.get(column, 1)
            expected = losses.get(row) or (
                ("coral", weight, ["outputs"]) if row == "Deep CORAL" else ("none", 1, ["outputs"])
            )
            assert (task["loss"], task["weight"], task["layers"]) == expected, (tier, row, column)
            if tier == "paper":
                assert known["model"]["name"] == ("alexnet" if row in PLAIN else "googlenet")
                assert known["model"]["weights"] == "imagenet"
                if row in PLAIN:
                    assert known["model"]["bottleneck"] == (256 if row in ("DDC", "RevGrad") else None)


def test_compared_rows_get_the_same_budget(plans):
    for made in plans.values():
        for column in columns_of(made):
            found = [facts_of(made, row, name) for row, name in made.cells if name == column]
            for key in ("budget", "evaluate", "batch_size", "optim", "schedule", "init", "seeds", "precision"):
                assert all(known[key] == found[0][key] for known in found), (column, key)
            data = [{k: v for k, v in known["dataset"].items() if k != "task"} for known in found]
            assert all(part == data[0] for part in data)


def test_the_published_recipe(plans):
    for column in OFFICE:
        known = facts_of(plans["paper"], "Deep CORAL", column)
        assert (known["budget"], known["batch_size"]) == ({"step": 2000}, 128)
        optim = {key: known["optim"][key] for key in ("lr", "momentum", "weight_decay")}
        assert optim == {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005}
        assert (known["schedule"]["every"], known["schedule"]["factor"]) == ("500steps", 0.1)
        assert (known["dataset"]["valid"], known["dataset"]["task"]["augment"]) == (0, "flip_crop")
        source, target = ({"A": "amazon", "D": "dslr", "W": "webcam"}[letter] for letter in column.split("->"))
        assert (known["dataset"]["source"], known["dataset"]["target"]) == (source, target)


def test_stand_ins_are_never_beside_a_published_number(plans):
    for tier in ("smoke", "laptop", "short"):
        for column in columns_of(plans[tier]):
            assert plans[tier].spec.columns[column].stand_in in OFFICE
    assert set(columns_of(plans["paper"])) == set(OFFICE)
