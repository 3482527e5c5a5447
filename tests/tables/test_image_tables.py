"""Tables 1, 2 and 9: what their rows differ in, and that compared rows get the same budget."""

import itertools
import math

import pytest

from normtables.config import facts
from normtables.tables.plan import base
from normtables.tables.spec import load

TABLES = [(number, tier) for number in (1, 2) for tier in ("smoke", "laptop", "short", "paper")]


def facts_of(composer, number, tier):
    """(row, column) -> the facts of a cell's runs but for their seeds."""
    spec = load(number)
    cells = [(row, column) for column in spec.columns for row in spec.planned_rows(column, tier)]
    return {cell: facts(composer.config(base(spec, tier, *cell))) for cell in cells}


@pytest.mark.parametrize(("number", "tier"), TABLES)
def test_compared_rows_get_the_same_budget(composer, number, tier):
    cells = sorted(facts_of(composer, number, tier).items(), key=lambda item: item[0][1])
    for _, group in itertools.groupby(cells, key=lambda item: item[0][1]):
        found = [known for _, known in group]
        for key in ("budget", "evaluate", "batch_size", "seeds", "precision"):
            assert all(known[key] == found[0][key] for known in found), key
        assert all(known["dataset"]["name"] == found[0]["dataset"]["name"] for known in found)


@pytest.mark.parametrize("tier", ["smoke", "laptop", "short", "paper"])
def test_what_the_rows_of_table_1_differ_in(composer, tier):
    """Learning rates as published; without dropout and LRN L2 is a fifth and the decay six times faster."""
    cells = facts_of(composer, 1, tier)
    rows = {row: known for (row, column), known in cells.items() if column.endswith("error at the end")}
    rates = {row: known["optim"]["lr"] for row, known in rows.items()}
    assert rates == {
        "Inception": 0.0015,
        "BN-Inception": 0.0015,
        "BN-x5": 0.0075,
        "BN-x30": 0.045,
        "BN-x5-sigmoid": 0.0075,
        "Inception-x5": 0.0075,
        "Inception-sigmoid": 0.0015,
    }
    plain = rows["Inception"]
    for row, known in rows.items():
        assert known["batch_size"] == 32
        assert known["norm"]["name"] == ("none" if row.startswith("Inception") else "bn")
        assert known["model"]["activation"] == ("sigmoid" if row.endswith("sigmoid") else "relu")
        fast = row.startswith("BN-x")
        assert known["model"]["dropout"] == (0 if fast else 0.4)
        assert known["model"]["lrn"] is not fast
        assert plain["optim"]["weight_decay"] / known["optim"]["weight_decay"] == pytest.approx(5 if fast else 1)
        times = math.log(known["schedule"]["factor"]) / math.log(plain["schedule"]["factor"])
        assert times == pytest.approx(6 if fast else 1, rel=1e-5)
        assert known["schedule"]["every"] == plain["schedule"]["every"]


def test_table_1_at_tier_paper_is_the_published_length(composer):
    (known,) = {str(known["budget"]) for known in facts_of(composer, 1, "paper").values()}
    assert known == str({"step": 31_000_000})


@pytest.mark.parametrize("tier", ["smoke", "laptop", "short", "paper"])
def test_what_the_rows_of_table_2_differ_in(composer, tier):
    cells = facts_of(composer, 2, tier)
    for (row, column), known in cells.items():
        assert known["model"]["name"] == ("maxout" if row == "Maxout" else "nin")
        assert known["norm"]["name"] == {"NIN + NP": "normprop", "NIN + BN": "bn"}.get(row, "none")
        assert (max(known["model"]["dropout"]) > 0) == (row in ("NIN", "Maxout"))
        if row in ("NIN + NP", "NIN + BN"):
            assert known["dataset"]["prep"] == "global"
        if row != "Maxout":
            assert known["optim"]["lr"] == (0.02 if column == "CIFAR-100" or tier != "paper" else 0.1)


@pytest.mark.parametrize(("tier", "column"), [("short", "MNIST"), ("laptop", "digits"), ("paper", "MNIST")])
def test_what_the_rows_of_table_9_differ_in(composer, tier, column):
    """Only NIN's rate and weights are reduced with its width, and maxout's weights on the digits."""
    cells = {row: known for (row, name), known in facts_of(composer, 9, tier).items() if name == column}
    reduced = tier != "paper"
    assert {row: known["optim"]["lr"] for row, known in cells.items()} == {
        "maxout": 0.05,
        "NIN": 0.02 if reduced else 0.1,
        "RCNN-160": 0.01,
        "RCNN-96": 0.01,
        "MIM": 0.5,
    }
    assert {row: known["init"] for row, known in cells.items()} == {
        "maxout": "glorot_uniform" if column == "digits" else "torch",
        "NIN": "he_normal" if reduced else "torch",
        "RCNN-160": "lecun_normal",
        "RCNN-96": "lecun_normal",
        "MIM": "torch",
    }
    decay = cells["maxout"]["schedule"]
    assert decay["every"] == "25000steps"
    assert decay["factor"] ** (1 / 25_000) == pytest.approx(1 / 1.00004, rel=1e-8)
    assert {known["norm"]["name"] for row, known in cells.items() if row != "MIM"} == {"none"}
