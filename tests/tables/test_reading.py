"""Reading rules, each on a history small enough to read by eye."""

import math

import pytest

from normtables.tables.reading import Rule, companion, read

ROWS = [
    {"step": 1, "epoch": 0.5, "test/error": 9.0, "valid/error": 9.0},
    {"step": 2, "epoch": 1.0, "test/error": 4.0, "valid/error": 7.0},
    {"step": 3, "epoch": 1.5, "test/error": 6.0, "valid/error": 3.0},
    {"step": 4, "epoch": 2.0, "test/error": 4.0, "valid/error": 5.0},
    {"step": 5, "epoch": 2.5, "test/error": math.nan, "valid/error": math.nan, "train/loss": 1.0},
    {"step": 6, "epoch": 3.0, "test/error": 8.0, "valid/error": 6.0},
]


@pytest.mark.parametrize(
    ("rule", "better", "take", "at", "expected"),
    [
        (Rule("last"), "lower", "", math.nan, (8, 6, True)),
        (Rule("best"), "lower", "", math.nan, (4, 2, True)),
        (Rule("best"), "higher", "", math.nan, (9, 1, True)),
        (Rule("best"), "lower", "epoch", math.nan, (1, 2, True)),
        (Rule("best", by="valid/error", better="lower"), "lower", "", math.nan, (6, 3, True)),
        (Rule("best", by="valid/error", better="higher"), "lower", "", math.nan, (9, 1, True)),
        (Rule("best", by="valid/error", better="lower", smooth=2), "lower", "", math.nan, (4, 4, True)),
        (Rule("best", by="valid/error", better="lower", smooth=9), "lower", "", math.nan, (8, 6, True)),
        (Rule("first", goal=6), "lower", "", math.nan, (2, 2, True)),
        (Rule("first", goal=4), "lower", "epoch", math.nan, (1, 2, True)),
        (Rule("first", goal=4), "higher", "", math.nan, (1, 1, True)),
        (Rule("first", row="other"), "lower", "", 6.5, (2, 2, True)),
        (Rule("at_best_of", by="valid/error", better="lower", row="other"), "lower", "", 3, (6, 3, True)),
        (Rule("at_best_of", by="valid/error", better="lower", row="other"), "lower", "", 5.9, (8, 6, True)),
        (Rule("mean_of_last", fraction=0.4), "lower", "", math.nan, (6, 6, True)),
        (Rule("mean_of_last", fraction=1), "lower", "", math.nan, (31 / 5, 6, True)),
        (Rule("mean_of_last", fraction=0.01), "lower", "", math.nan, (8, 6, True)),
    ],
)
def test_a_rule_reads_the_number_that_counts(rule, better, take, at, expected):
    assert read(rule, ROWS, "test/error", better, take, at) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "smooth", "chosen"),
    [
        ([5.0, 1, 1, 9, 0, 3], 3, 3),  # 1 at the second row is better, but has no three rows
        ([5.0, 1, 1, 9, 0, 3], 6, 6),
        ([5.0, 1, 1, 9, 0, 3], 7, 6),  # fewer rows than seven: the last
        ([9.0, 0.1, 0.2, 0.3, 9, 0.3, 0.2, 0.1], 3, 4),  # two windows of the same numbers: the earlier one
    ],
)
def test_a_smoothed_row_is_the_last_of_a_full_window(values, smooth, chosen):
    history = [{"step": i, "valid/error": v, "test/error": 10.0 * i} for i, v in enumerate(values, 1)]
    found = read(Rule("best", by="valid/error", better="lower", smooth=smooth), history, "test/error", "lower")
    assert found == (10.0 * chosen, chosen, True)


@pytest.mark.parametrize(
    ("rule", "history", "at"),
    [
        (Rule("first", goal=3.9), ROWS, math.nan),
        (Rule("first", row="other"), ROWS, math.nan),
        (Rule("at_best_of", by="valid/error", better="lower", row="other"), ROWS, math.nan),
        *(
            (rule, [], 1.0)
            for rule in (Rule("last"), Rule("best"), Rule("first", goal=1), Rule("mean_of_last", fraction=1))
        ),
    ],
)
def test_nothing_to_read_is_said(rule, history, at):
    found = read(rule, history, "test/error", "lower", at=at)
    assert not found.reached
    assert math.isnan(found.value)


def test_a_score_nobody_recorded_is_not_read():
    assert not read(Rule("best"), ROWS, "test/eror", "lower").reached


def test_the_companion_of_best_on_test_is_the_validation_best_epoch():
    beside = companion(Rule("best"), "test/error", "lower")
    assert beside == Rule("best", by="valid/error", better="lower")
    assert read(beside, ROWS, "test/error", "lower").value == 6
    assert companion(Rule("best"), "valid/error", "lower") is None
    assert companion(Rule("last"), "test/error", "lower") is None
    assert companion(Rule("best", by="valid/error", better="lower"), "test/error", "lower") is None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("best"), "best"),
        (Rule("best", by="valid/error", smooth=10), "best by valid/error smoothed over 10"),
        (Rule("first", goal=72.2), "first to reach 72.2"),
        (Rule("first", row="Inception"), "first to reach best of Inception"),
        (Rule("at_best_of", by="valid/ppl", row="LSTM"), "at the best valid/ppl of LSTM"),
        (Rule("mean_of_last", fraction=0.25), "mean of the last 0.25"),
    ],
)
def test_rules_spell_themselves(rule, text):
    assert str(rule) == text
