"""Rankings against hand-computed numbers, scipy and the ranks of a source paper; what is said and drawn of them."""

import dataclasses
import math
from types import SimpleNamespace

import pandas as pd
import pytest
from scipy import stats as reference

from normtables.report import figure, ranks
from normtables.tables.outcomes import fold, ranked
from normtables.tables.plan import Member
from normtables.tables.ranking import Ranking, cliques, ranking

# scores on six sets; ranks (high is good) a: 1 1 1 1 1 2, b: 2 2 2 2 2 1, c: 3 3 3 3 3.5 3, d: 4 4 4 4 3.5 4
SCORES = pd.DataFrame(
    {"d": [1, 1, 1, 1, 2, 1], "b": [3, 3, 3, 3, 3, 4], "c": [2, 2, 2, 2, 2, 2], "a": [4, 4, 4, 4, 4, 3]}, dtype=float
)


def test_ranks_friedman_and_critical_difference_by_hand():
    """Average ranks 7/6, 11/6, 18.5/6, 23.5/6. Nemenyi's q for four methods is 2.569: CD = 2.569 sqrt(20 / 36)."""
    found = ranking("accuracy", SCORES, "higher")
    assert list(found.ranks) == ["a", "b", "c", "d"]
    assert list(found.ranks.values()) == pytest.approx([7 / 6, 11 / 6, 18.5 / 6, 23.5 / 6])
    expected = reference.friedmanchisquare(*(SCORES[name] for name in SCORES))
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    # without the tie's correction: 12 * 6 / 20 * sum (rank - 2.5)^2 = 16.85; with it, over 1 - 6 / 360
    by_hand = 12 * 6 / 20 * sum((r - 2.5) ** 2 for r in found.ranks.values())
    assert found.statistic == pytest.approx(by_hand / (1 - 6 / 360))
    assert found.critical == pytest.approx(2.569 * math.sqrt(20 / 36), abs=1e-3)
    assert found.cliques == (("a", "b"), ("b", "c"), ("c", "d"))  # a and c are 1.9167 apart, the limit is 1.9148


def test_a_diverged_method_ranks_last():
    spoilt = SCORES.assign(a=[-math.inf, 4, 4, 4, 4, 3])
    found = ranking("accuracy", spoilt, "higher")
    assert found.ranks["a"] == pytest.approx((4 + 1 + 1 + 1 + 1 + 2) / 6)
    assert math.isfinite(found.statistic)


@pytest.mark.parametrize("frame", [SCORES[:5], SCORES[["a", "b"]]], ids=["sets", "rows"])
def test_no_test_of_few_data_sets_or_two_rows(frame):
    found = ranking("accuracy", frame, "higher")
    assert len(found.ranks) == frame.shape[1]
    assert math.isnan(found.p)
    assert math.isnan(found.critical)
    assert found.cliques == ()
    assert ranks.draw([found]) == {}
    assert "no test" in next(ranks.lines([found]))


@pytest.mark.parametrize(
    ("values", "critical", "groups"),
    [
        ([1, 2, 3, 4], 1, ["ab", "bc", "cd"]),
        ([1, 2, 3, 4], 0.9, []),
        ([1, 2, 3, 4], 3, ["abcd"]),
        ([1, 1.2, 3, 3.1], 1, ["ab", "cd"]),
        ([1, 1.5, 2, 4], 1, ["abc"]),
        ([1, 2, 2.5, 3.2], 1.5, ["abc", "bcd"]),
    ],
)
def test_groups_are_the_largest_ones(values, critical, groups):
    assert ["".join(group) for group in cliques(dict(zip("abcd", values)), critical)] == groups


EXAMPLE = Ranking(
    "UCI", {"x": 1.25, "y": 2.0, "z|": 3.5, "w": 3.75}, 12, 20.5, 0.00012, 1.35, (("x", "y"), ("z|", "w"))
)


def test_what_is_said_of_a_ranking():
    text = "\n".join(ranks.lines([EXAMPLE]))
    assert "4 rows on 12 data sets; Friedman's statistic 20.50, p 0.00012;" in text
    assert "more than 1.35 apart. Not told apart: x, y; z\\|, w." in text
    assert "](ranks.png)" in text
    assert list(ranks.lines([])) == []


def drawn(found):
    with figure.plain_style():
        shown = figure.Figure()
        ax = shown.subplots()
        ranks.panel(ax, found)
        shown.canvas.draw()
    return ax


def test_the_figure_has_every_row_at_its_rank_the_joined_ones_and_the_critical_difference():
    ax = drawn(EXAMPLE)
    at = {line.get_label(): line.get_xdata()[0] for line in ax.lines if line.get_label() in EXAMPLE.ranks}
    assert at == EXAMPLE.ranks
    bars = [list(line.get_xdata()) for line in ax.lines if line.get_label() == "joined"]
    assert bars == [pytest.approx([1.21, 2.04]), pytest.approx([3.46, 3.79])]
    [length] = [line.get_xdata() for line in ax.lines if line.get_label() == "critical difference"]
    assert length[1] - length[0] == pytest.approx(1.35)
    assert {"x  1.25", "3.75  w"} <= {note.get_text() for note in ax.texts}


def test_the_figure_is_the_same_when_drawn_again():
    found = ranks.draw([EXAMPLE, dataclasses.replace(EXAMPLE, column="more")])
    assert sorted(found) == ["ranks.png", "ranks.svg"]
    assert ranks.draw([EXAMPLE, dataclasses.replace(EXAMPLE, column="more")]) == found


def test_the_published_ranks_come_out_of_the_path_that_a_table_takes(shared):
    """The 46 large sets of the source's Table A11, one accuracy a method: average rank less 4."""
    frame = pd.read_csv(shared / "protocols" / "snn_table_a11.tsv", sep="\t").set_index("dataset")
    large = frame[frame.N >= 1000].drop(columns=["N", "M"])
    column = SimpleNamespace(combine="rank_difference", better="higher")
    cells = {
        method: [
            (Member((("set", name),), (), (), f"{method} {name}"), value, "finished") for name, value in own.items()
        ]
        for method, own in large.items()
    }
    found = ranked(cells, {method: fold(pieces) for method, pieces in cells.items()}, column)
    expected = {"SNN": -0.978, "LN": -0.326, "MS": -0.087, "ResNet": 0.196, "HW": 0.239, "WN": 0.370, "BN": 0.587}
    assert {method: own[0].value for method, own in found.items()} == pytest.approx(expected, abs=0.002)
    whole = ranking("A11", large, "higher")
    assert list(whole.ranks) == ["SNN", "LN", "MS", "ResNet", "HW", "WN", "BN"]
    assert whole.p == pytest.approx(reference.friedmanchisquare(*(large[name] for name in large)).pvalue)
    assert whole.critical == pytest.approx(2.949 * math.sqrt(7 * 8 / (6 * 46)), abs=1e-3)
