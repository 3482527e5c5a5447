"""A total from a sample: the draw follows the guesses, and the arithmetic is that of numbers worked out by hand."""

import random
import statistics

import pytest

from normtables.tables.sampling import Total, allotted, drawn, interval, total


def test_every_row_gets_its_share_and_two_at_least():
    assert allotted({"a": 600, "b": 300, "c": 5, "d": 1}, 30) == {"a": 20, "b": 10, "c": 2, "d": 1}
    assert allotted({"a": 3, "b": 2}, 100) == {"a": 3, "b": 2}
    assert allotted({}, 30) == {}


def test_a_draw_is_in_proportion_to_the_guesses_and_always_the_same():
    work = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    draw = random.Random(0)
    seen = [run for _ in range(5000) for run in drawn(work, 2, draw)]
    assert {run: seen.count(run) / 1000 for run in work} == pytest.approx(work, rel=0.05)
    assert drawn(work, 3, random.Random(5)) == drawn(work, 3, random.Random(5))
    assert sorted(drawn(work, 4, draw)) == sorted(drawn(work, 9, draw)) == list(work)


def test_a_run_is_drawn_twice_only_where_it_is_more_than_its_share():
    even = {str(i): 1.0 for i in range(10)}
    assert all(len(set(drawn(even, 9, random.Random(seed)))) == 9 for seed in range(50))
    assert drawn({"large": 98.0, "small": 1.0, "other": 1.0}, 2, random.Random(0)) == ["large", "large"]


def test_a_rows_total_by_hand():
    """Guesses 1 to 4; drawn are the second (cost 6, ratio 3) and the fourth (20, 5): 10 * 4, variance 100 * 2 / 2."""
    work = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert total(work, ["b", "d"], {"b": 6.0, "d": 20.0}) == Total(40.0, 100.0, 1)
    assert total(work, ["d", "b", "d"], {"b": 6.0, "d": 20.0}).value == pytest.approx(10 * (5 + 3 + 5) / 3)
    costs = {"a": 3.0, "b": 3.0, "c": 3.0, "d": 3.0}
    assert total(work, ["a", "b", "c", "d"], costs) == Total(12.0, 0.0, 0), "all of them: nothing is estimated"


def test_totals_are_right_on_average_however_bad_the_guesses_are():
    work, costs = {"a": 1.0, "b": 5.0, "c": 2.0}, {"a": 9.0, "b": 1.0, "c": 4.0}
    draw = random.Random(1)
    found = [total(work, drawn(work, 2, draw), costs).value for _ in range(20_000)]
    assert statistics.fmean(found) == pytest.approx(14, rel=0.02)


def test_the_interval_by_hand():
    """Variances 16 and 9 with 1 and 4 degrees of freedom: error 5, freedom 625 / (256 + 81 / 4) = 2.262."""
    value, low, high = interval([Total(100.0, 16.0, 1), Total(50.0, 9.0, 4), Total(7.0, 0.0, 0)])
    assert value == 157
    assert (high - value) / 5 == pytest.approx(3.858, abs=0.001)
    assert low == pytest.approx(2 * value - high)
    assert interval([Total(10.0, 100.0, 1)])[1] == 0, "time is not negative"
    assert interval([Total(7.0, 0.0, 0)]) == (7, 7, 7)
    assert interval([]) == (0, 0, 0)
