"""What several networks ask of their inputs and options, each refused in one line."""

import math
from collections.abc import Sequence

from normtables.errors import UserError
from normtables.models import Sizes


def check_images(model: str, sizes: Sizes, least: int = 1) -> None:
    """Raise UserError unless the inputs are [channels, height, width] with sides of at least so many pixels."""
    shape = sizes["inputs"]
    if len(shape) != 3 or min(shape[1:]) < least:
        raise UserError(f"model={model} takes images of at least {least} px, not inputs of size {list(shape)}")


def check_width(width: float) -> None:
    """Raise UserError for a factor of all widths that is not finite and above 0."""
    if not 0 < width < math.inf:
        raise UserError(f"model.width={width}: a finite factor above 0")


def check_dropout(rate: float) -> None:
    """Raise UserError for a rate of dropout outside [0, 1)."""
    if not 0 <= rate < 1:
        raise UserError(f"model.dropout={rate}: a rate in [0, 1)")


def check_dropouts(rates: Sequence[float], places: int) -> None:
    """Raise UserError unless there is one rate of dropout, in [0, 1), for each of several places."""
    if len(rates) != places or not all(0 <= rate < 1 for rate in rates):
        raise UserError(f"model.dropout={rates}: {places} rates in [0, 1)")
