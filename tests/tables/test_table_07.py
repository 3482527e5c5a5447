"""Table 7's file: its runs at each tier, its learning rates, its nested halves, what it reads."""

import pytest

from normtables.tables.plan import plan
from normtables.tables.spec import load


@pytest.fixture(scope="module")
def plans():
    from normtables.config import Composer

    composer, spec = Composer(), load(7)
    return {tier: plan(spec, tier, composer) for tier in spec.tiers}


def test_fourteen_rows_on_the_data_of_each_tier(plans):
    sets = {tier: {run.facts["dataset"]["name"] for run in made.runs.values()} for tier, made in plans.items()}
    assert sets == {"smoke": {"vowels"}, "laptop": {"vowels"}, "short": {"fsdd"}, "paper": {"speech_commands", "fsdd"}}
    runs = {tier: len(made.runs) for tier, made in plans.items()}
    assert runs == {"smoke": 14, "laptop": 14 * 3, "short": 14 * 3, "paper": 14 * 5 * (1 + 6)}


def test_the_labels_say_what_is_set(plans):
    for made in plans.values():
        for (row, _), cell in made.cells.items():
            for member in cell.members:
                facts = made.runs[member.run].facts
                assert facts["norm"]["name"] == ("bn" if "+ BN" in row else "none")
                assert facts["model"]["activation"] == ("relu" if "ReLU" in row else "sigmoid")
                assert facts["dataset"]["fraction"] == (0.5 if row.startswith("wm50") else 1)
                rate = 0.008 if "lr=0.008" in row else 0.08
                summed = facts["batch_size"] if row.endswith("summed") else 1
                assert facts["optim"]["lr"] == pytest.approx(rate * summed)
                assert facts["schedule"]["name"] == "newbob"


def test_every_row_gets_the_same_but_for_what_its_label_says(plans):
    for made in plans.values():
        known = set()
        for run in made.runs.values():
            facts = {k: v for k, v in run.facts.items() if k not in ("norm", "seeds")}
            facts["model"] = {k: v for k, v in facts["model"].items() if k != "activation"}
            facts["dataset"] = {k: v for k, v in facts["dataset"].items() if k not in ("fraction", "test")}
            facts["optim"] = {k: v for k, v in facts["optim"].items() if k != "lr"}
            known.add((facts["dataset"]["name"], repr(facts)))
        assert len(known) == len({name for name, _ in known})


def test_the_published_column_is_never_run(plans):
    for made in plans.values():
        assert "error rate %" not in {column for _, column in made.cells}
        assert all(made.spec.columns[column].stand_in for _, column in made.cells if "gain" not in column)


def test_all_columns_of_a_tier_read_the_epoch_with_the_least_validation_loss(plans):
    for made in plans.values():
        for column in {column for _, column in made.cells}:
            rule = made.spec.columns[column].read
            assert (rule.kind, rule.by, rule.better) == ("best", "valid/loss", "lower")
