"""Tables 5 and 6: the grids of the source, those of the smaller tiers, and settings that the models take."""

import itertools
import math
from dataclasses import replace
from itertools import islice

import pytest

from normtables.config import facts
from normtables.models import MODELS
from normtables.norms import METHODS, Kit
from normtables.registry import check_options
from normtables.tables.entries import Part
from normtables.tables.plan import base, plan
from normtables.tables.searches import searches
from normtables.tables.spec import load

SOURCE = {  # configurations of the source, those of Table 6 at each of its depths
    5: {
        "FNN + SNN": 216,
        "FNN + MSRAinit": 216,
        "FNN + BatchNorm": 108,
        "FNN + WeightNorm": 108,
        "FNN + LN": 108,
        "FNN + Highway": 36,
        "FNN + ResNet": 180,
    },
    6: {
        "FNN + SNN": 504 // 7,
        "FNN + MSRAinit": 504 // 7,
        "FNN + BN": 252 // 7,
        "FNN + WN": 504 // 7,
        "FNN + LN": 504 // 7,
        "FNN + Highway": 126 // 7,
        "FNN + ResNet": 432 // 6,
    },
}
CLASSICAL = {"SVM", "Random forest", "Nearest neighbour", "Naive Bayes", "Linear", "Boosted trees"}


@pytest.fixture(scope="module", params=SOURCE)
def spec(request):
    return load(request.param)


def grid(spec, row, tier):
    """What a row is tuned over at a tier, as the planner has it."""
    tune = {**spec.tune, **spec.rows[row].tune}
    return tune | {key: values for key, values in spec.tiers[tier].tune.items() if key in tune}


def size(spec, row, tier):
    return math.prod(map(len, grid(spec, row, tier).values()))


def test_the_grids_are_those_of_the_source(spec):
    assert {row: size(spec, row, "paper") for row in SOURCE[spec.table]} == SOURCE[spec.table]


OURS = {
    5: {"SVM": 30, "Linear": 6, "Nearest neighbour": 5},
    6: {f"ResNet without norm layers, {name} init": 72 for name in ("He", "torch")},
}


def test_the_plan_tells_the_size_of_each_search(spec, composer):
    """On one seed, and on one of Table 5's data sets or two of Table 6's depths."""
    parts = {"paper": Part({}, over={"dataset.set": ("yeast",)} if spec.table == 5 else {})}
    columns = {name: replace(column, tiers=parts) for name, column in islice(spec.columns.items(), 2)}
    tiers = {"paper": replace(spec.tiers["paper"], repeat={"seed": (0,)})}
    lines = searches(plan(replace(spec, columns=columns, tiers=tiers), "paper", composer))
    found = dict(line.split(": ", 1) for line in lines)
    rest = " x 1 data set x 1 seed" if spec.table == 5 else " x 1 seed x 2 columns"
    sizes = SOURCE[spec.table] | OURS[spec.table]
    assert {row: found[row] for row in sizes} == {row: f"{n} configurations{rest}" for row, n in sizes.items()}
    assert {found[row] for row in set(spec.rows) - set(sizes)} <= {f"1 configuration{rest}"}


@pytest.mark.parametrize("tier", ["smoke", "laptop", "short"])
def test_smaller_tiers_try_eight_configurations_at_most(spec, tier):
    for row in spec.rows:
        tried, whole = grid(spec, row, tier), grid(spec, row, "paper")
        assert size(spec, row, tier) <= 8
        assert max(tried.get("model.depth", [0])) <= 8
        assert max(tried.get("model.width", [0])) <= 256
        assert size(spec, row, tier) <= size(spec, row, "paper")
        if spec.table == 5:
            assert all(set(values) <= set(whole[key]) for key, values in tried.items())


@pytest.mark.parametrize("tier", ["laptop", "short", "paper"])
def test_networks_train_for_the_sources_100_epochs_and_early_stopping_has_a_choice(spec, composer, tier):
    read = {column.read for column in spec.columns.values()} | {spec.choose.read}
    assert {rule.smooth for rule in read} == {10}
    assert {rule.by.partition("/")[0] for rule in read} == {"valid"}
    columns = [name for name, own in spec.columns.items() if tier in own.tiers]
    known = facts(composer.config(base(spec, tier, "FNN + SNN", columns[0])))
    assert (known["budget"], known["evaluate"]) == ({"epoch": 100}, {"epoch": 1})
    for column, row in itertools.product(columns, spec.rows):  # at paper the tier's own file has 100epochs
        trained = None if tier == "paper" else "100epochs"
        assert base(spec, tier, row, column).get("budget") == ("0steps" if row in CLASSICAL else trained)


def test_every_configuration_is_one_that_its_model_takes(spec, composer):
    """On digits: all values of every grid, each with the first values of the others."""
    for row, tier in itertools.product(spec.rows, ("smoke", "paper")):
        axes = grid(spec, row, tier)
        first = {key: values[0] for key, values in axes.items()}
        for key, value in [("seed", 0), *((key, value) for key, values in axes.items() for value in values)]:
            settings = {**spec.fixed, **spec.rows[row].settings, **first, key: value}
            known = facts(composer.config(settings | {"dataset": "digits"}))
            options = {k: v for k, v in known["model"].items() if k not in ("name", "version")}
            check_options(MODELS[known["model"]["name"]].factory, options, row)
            assert (known["budget"] == {"step": 0}) == (row in CLASSICAL)
        MODELS.build(known["model"], Kit(METHODS.build(known["norm"])), {"inputs": (4,), "outputs": 3})


def test_no_two_configurations_of_a_residual_network_are_the_same(spec):
    tried = grid(spec, "FNN + ResNet", "paper")
    assert tried["model.block"] == ("rectangular_2", "rectangular_3", "diavolo_25", "diavolo_50")
    assert "model.form" not in tried


def test_ties_go_as_published(spec):
    ties = {"optim.lr": "lower", "model.dropout": "higher"}
    assert spec.choose.ties == ({"model.depth": "higher"} if spec.table == 5 else {}) | ties
