"""Table 4's file: its runs at each tier, what the two arms share, the protocol of the paper tier, what it reads."""

import pytest

from normtables.tables.plan import plan
from normtables.tables.spec import load

GAMES = {"Breakout": "breakout", "Enduro": "enduro", "Seaquest": "seaquest", "Space invaders": "space_invaders"}
ARMS = {"DQN": "none", "DQN + WN": "wn"}


@pytest.fixture(scope="module")
def plans():
    from normtables.config import Composer

    composer, spec = Composer(), load(4)
    return {tier: plan(spec, tier, composer) for tier in spec.tiers}


def facts_of(made):
    """(row, column) -> facts of a cell's first run."""
    return {key: made.runs[cell.members[0].run].facts for key, cell in made.cells.items()}


def steps_of(facts):
    """Agent steps of a run, the random ones at the start included."""
    task, [(unit, amount)] = facts["dataset"]["task"], facts["budget"].items()
    return task["start"] + amount * {"epoch": task["epoch"], "step": task["every"]}[unit]


def test_runs_of_each_tier(plans):
    counts = {tier: len(made.runs) for tier, made in plans.items()}
    assert counts == {"smoke": 10, "laptop": (8 + 4) * 3, "short": 8 + 4 + 4, "paper": (8 + 4) * 5}
    for tier, made in plans.items():
        rows = {row for row, _ in made.cells}
        assert rows == {*GAMES, *(["corridor"] if tier == "smoke" else [])}
        for (row, _), facts in facts_of(made).items():
            assert facts["dataset"].get("game") == GAMES.get(row)


def test_agent_steps_of_each_tier(plans):
    found = {(tier, column): steps_of(f) for tier, made in plans.items() for (_, column), f in facts_of(made).items()}
    expected = {"smoke": 104, "laptop": 13_000, "short": 1_000_000, "paper": 50_050_000}
    for tier, steps in expected.items():
        for arm in ARMS:
            assert found[tier, arm] == found[tier, f"{arm}, last quarter"] == steps
    for arm in ARMS:
        assert found["short", f"{arm} of 100k steps"] == 100_000


def test_the_arms_differ_in_their_norm_alone(plans):
    """Weight normalization with its initialisation by data; the same game, seed, optimizer and protocol."""
    for made in plans.values():
        found = facts_of(made)
        for (row, column), facts in found.items():
            if "WN" not in column:
                continue
            other = found[row, column.replace(" + WN", "")]
            assert {k: v for k, v in facts.items() if k != "norm"} == {k: v for k, v in other.items() if k != "norm"}
            assert facts["norm"] == {"name": "wn", "version": 1, "data_init": True}
            assert other["norm"]["name"] == "none"


def test_both_readings_are_of_the_same_runs(plans):
    for made in plans.values():
        for (row, column), cell in made.cells.items():
            if column.endswith(", last quarter"):
                best = made.cells[row, column.removesuffix(", last quarter")]
                assert [m.run for m in cell.members] == [m.run for m in best.members]
                rules = [made.spec.columns[c.column].read for c in (best, cell)]
                assert [(r.kind, r.fraction) for r in rules] == [("best", 0), ("mean_of_last", 0.25)]


def test_the_protocol_of_mnih_et_al(plans):
    """Nature 518, extended data table 1, and their code."""
    for (_, column), facts in facts_of(plans["paper"]).items():
        if column == "random play":
            continue
        data = {k: v for k, v in facts["dataset"].items() if k not in ("name", "version", "game", "task")}
        assert data == {"skip": 4, "sticky": 0, "noops": 30, "size": 84, "stack": 4, "frames": 108_000}
        assert {k: v for k, v in facts["dataset"]["task"].items() if k not in ("name", "version")} == {
            "games": 1,
            "replay": 1_000_000,
            "start": 50_000,
            "every": 4,
            "target": 10_000,
            "gamma": 0.99,
            "reduction": "sum",
            "clip": True,
            "lives": True,
            "explore": 1_000_000,
            "epsilon": 0.1,
            "epoch": 250_000,
            "test_steps": 125_000,
            "test_epsilon": 0.05,
            "test_games": 8,
        }
        assert (facts["batch_size"], facts["budget"], facts["evaluate"]) == (32, {"epoch": 200}, {"epoch": 1})
        assert facts["model"] == {"name": "nature_cnn", "version": 1, "filters": [32, 64, 64], "hidden": 512}
        assert (facts["optim"]["name"], facts["optim"]["lr"]) == ("adamax", 0.00025)


def test_random_play_takes_one_update_and_only_random_actions(plans):
    for tier in ("laptop", "short", "paper"):
        for (_, column), facts in facts_of(plans[tier]).items():
            task = facts["dataset"]["task"]
            assert (task["test_epsilon"] == 1) == (column == "random play")
            assert (facts["budget"] == {"step": 1}) == (column == "random play")


def test_quoted_scores_and_the_misprint():
    published = load(4).published
    for row, (random, human) in {
        "Breakout": (1.7, 31.8),
        "Enduro": (0, 309.6),
        "Seaquest": (68.4, 20182),
        "Space invaders": (148, 1652),
    }.items():
        assert (published[row, "random play"].original, published[row, "human"].original) == (random, human)
    cell = published["Seaquest", "DQN + WN"]
    assert (cell.survey, cell.original, cell.mark) == (7357, 7375, "memory")
