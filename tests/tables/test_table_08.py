"""Table 8's file: its runs at each tier, the protocol of each row, which number of a history is read."""

import pytest

from normtables.optim import SCHEDULES
from normtables.tables.plan import plan
from normtables.tables.spec import load

# Zaremba et al. and the authors' code: epochs, dropout, unroll, clip, first epoch behind which the rate falls, divisor
PROTOCOL = {
    "small": (5, 0.0, 20, 5, 4, 2.0),
    "medium": (39, 0.5, 35, 5, 6, 1.2),
    "large": (55, 0.65, 35, 10, 14, 1.15),
}
WORDS = [f"{size} LSTM{more}" for size in PROTOCOL for more in ("", " + BN")]
MORE = ["small LSTM + recurrent BN", "small LSTM + LN"]
CHARACTERS = ["character LSTM", "character LSTM + BN", "character LSTM + recurrent BN"]

KINDS = {
    "": ("none", None, None),
    "BN": ("bn_recurrent", "frame_wise", "published"),
    "recurrent BN": ("bn_recurrent", "per_step", "population"),
    "LN": ("ln", None, None),
}


@pytest.fixture(scope="module")
def plans():
    from normtables.config import Composer

    composer, spec = Composer(), load(8)
    return {tier: plan(spec, tier, composer) for tier in spec.tiers}


def facts_of(made, column):
    """Row -> facts of its first run in a column."""
    return {row: made.runs[c.members[0].run].facts for (row, name), c in made.cells.items() if name == column}


def test_every_row_runs_on_the_data_of_each_tier(plans):
    sets = {tier: {run.facts["dataset"]["name"] for run in made.runs.values()} for tier, made in plans.items()}
    assert sets == {"smoke": {"topics"}, "laptop": {"topics"}, "short": {"ptb"}, "paper": {"ptb"}}
    for tier, made in plans.items():
        assert {row for row, _ in made.cells} == {*WORDS, *MORE, *CHARACTERS}
        assert len(made.runs) == 11 * (1 if tier == "smoke" else 3)


def test_the_protocol_of_every_size(plans):
    for row, facts in facts_of(plans["paper"], "PPL").items():
        size = row.split()[0]
        epochs, _, unroll, clip, first, divisor = PROTOCOL[size]
        assert facts["model"] == {"name": "lstm", "version": 1, "size": size, "layers": 2, "width": 1, "dropout": None}
        assert (facts["batch_size"], facts["dataset"]["task"]["unroll"]) == (32, unroll)
        assert (facts["optim"]["name"], facts["optim"]["lr"], facts["optim"]["clip"]) == ("sgd", 1, clip)
        assert (facts["budget"], facts["evaluate"]) == ({"epoch": epochs}, {"epoch": 0.5})
        schedule = SCHEDULES.build(facts["schedule"], {"step": 1, "epoch": 100}, 100 * epochs)
        rates = [schedule(100 * epoch + 50, []) for epoch in range(epochs)]
        falls = [max(0, epoch - first + 1) for epoch in range(epochs)]
        assert rates == pytest.approx([divisor**-n for n in falls])


def test_the_labels_say_the_method(plans):
    for made in plans.values():
        for column in {name for _, name in made.cells}:
            for row, facts in facts_of(made, column).items():
                norm = facts["norm"]
                kind = tuple(norm.get(key) for key in ("name", "variant", "evaluation"))
                assert kind == KINDS[row.partition(" + ")[2]]
                assert facts["dataset"]["level"] == ("char" if row in CHARACTERS else "word")


def test_rows_that_are_compared_differ_in_the_method_alone(plans):
    for made in plans.values():
        for column in {name for _, name in made.cells}:
            found = facts_of(made, column)
            for row, facts in found.items():
                base = found[row.split(" + ")[0]]
                assert {k: v for k, v in facts.items() if k != "norm"} == {k: v for k, v in base.items() if k != "norm"}


def test_each_row_is_read_at_its_own_best_half_epoch_and_at_the_baselines():
    columns = load(8).columns
    for name in ("PPL", "PPL validation", "PPL test", "PPL in 5 epochs", "topics PPL", "topics PPL validation"):
        assert (columns[name].read.kind, columns[name].read.by) == ("best", "valid/ppl")
    rule = columns["PPL at the baseline's best"].read
    assert rule.kind == "at_best_of"
    assert [rule.other(row) for row in WORDS] == [row.removesuffix(" + BN") for row in WORDS]


def test_only_the_published_protocol_stands_beside_published_numbers():
    spec = load(8)
    for name, column in spec.columns.items():
        if name not in ("PPL", "PPL validation"):
            assert not any(col == name for _, col in spec.published)
            assert column.stand_in or set(column.tiers) <= {"paper", "short"}
    assert set(spec.columns["PPL"].tiers) == {"paper"}
