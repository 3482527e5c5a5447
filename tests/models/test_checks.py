"""What networks refuse in one line, at the borders of what they take."""

import math

import pytest

from normtables.errors import UserError
from normtables.models.checks import check_dropout, check_dropouts, check_images, check_width


@pytest.mark.parametrize("width", [1e-3, 1, 7.5])
def test_widths_that_pass(width):
    check_width(width)


@pytest.mark.parametrize("width", [0, -1, math.inf, math.nan])
def test_widths_that_do_not(width):
    with pytest.raises(UserError, match=f"model.width={width}: a finite factor above 0"):
        check_width(width)


@pytest.mark.parametrize("rate", [1, -0.1, math.nan])
def test_rates_that_do_not_pass(rate):
    check_dropout(0)
    check_dropouts([0, 0.999], 2)
    with pytest.raises(UserError, match="a rate in"):
        check_dropout(rate)
    with pytest.raises(UserError, match="2 rates in"):
        check_dropouts([0, rate], 2)


def test_as_many_rates_as_places():
    for rates in ([0.5], [0.5] * 3):
        with pytest.raises(UserError, match="2 rates in"):
            check_dropouts(rates, 2)


@pytest.mark.parametrize("shape", [(4,), (1, 3, 4), (1, 4, 3), (1, 1, 4, 4)])
def test_images_of_a_least_size(shape):
    check_images("net", {"inputs": (1, 4, 4)}, 4)
    with pytest.raises(UserError, match="model=net takes images of at least 4 px, not inputs of size"):
        check_images("net", {"inputs": shape}, 4)
