"""Group normalization: torch's own layer."""

from typing import Literal

from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import check_epsilon


def groups_of(channels: int, groups: int) -> int:
    """The largest divisor of `channels` that is at most `groups` and leaves two channels in each group; 1 if none."""
    most = max(1, min(groups, channels // 2))
    return next(count for count in range(most, 0, -1) if channels % count == 0)


@METHODS.register("gn", version=1)
def gn(*, groups: int = 32, epsilon: float = 1e-5, position: Literal["before", "after"] = "before") -> Method:
    """Wu & He 2018 (arXiv 1803.08494), equations 1 to 7: per example and group, y = gamma (x - mean) / sqrt(var +
    epsilon) + beta.

    Mean and biased variance over the channels of a group and all trailing dimensions of [n, channels] or [n, channels,
    ...]; gamma and beta per channel, 1 and 0 at the start; epsilon is torch's. Training and test compute the same.
    groups: the most there are (32 in the paper, table 3). A layer takes the largest divisor of its channels that is at
    most this and leaves two channels in each group, so that a group of flat inputs has a spread and none becomes an
    instance norm: 64 channels make 32 groups, 32 make 16, 100 make 25, 7 make 1. `position`: before the nonlinearity
    (the paper) or after it.
    """
    check_epsilon(epsilon)
    if groups < 1:
        raise UserError(f"norm.groups={groups}: at least 1")
    return Method(
        norm=lambda channels, dims: nn.GroupNorm(groups_of(channels, groups), channels, eps=epsilon),
        shifts=True,
        after=position == "after",
    )
