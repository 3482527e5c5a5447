"""Numbers in print: as many digits as published ones and one more, and no minus in front of a zero."""

import math

import pytest

from normtables.tables import wording


@pytest.mark.parametrize(("value", "places"), [(7.69, 2), (17.0, 0), (410, 0), (2.1e6, 0), (0.001, 3), (-6.7, 1)])
def test_places(value, places):
    assert wording.places(value) == places


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-0.001, 2, "0.00"), (-0.006, 2, "-0.01"), (0.0, 1, "0.0"), (12.345, 1, "12.3"), (math.nan, 2, "")],
)
def test_number(value, digits, text):
    assert wording.number(value, digits) == text


def test_published_numbers_keep_their_own_digits():
    """A column of 2.70 and 1.91 prints both with two; nothing is cut off where a table has fewer."""
    assert (wording.published(2.7, 3), wording.published(1.91, 1), wording.published(math.nan, 3)) == (
        "2.70",
        "1.91",
        "",
    )


def test_p_values():
    assert [wording.chance_of(p) for p in (0.5, 0.0123, 0.00099, 1e-5, 0.0)] == [
        *("0.5", "0.012", "0.00099", "< 0.0001", "< 0.0001")
    ]
