"""Recurrent convolutional networks for images: layers that look at their own outputs a few times."""

import math
from collections import OrderedDict
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw_all
from normtables.models.checks import check_dropout, check_images, check_width
from normtables.norms import Kit

ALPHA, BETA = 0.001, 0.75
DEVIATION = 0.03  # of the initial weights


class ResponseNorm(nn.Module):
    """Local response normalization over `window` neighbouring maps: x / (1 + alpha / window sum x^2)^beta.

    torch.nn.LocalResponseNorm, with the sums as a 1x1 convolution: on the CPU that is six times faster, where torch's
    layer takes longer than the 3x3 convolution in front of it.
    """

    band: Tensor

    def __init__(self, maps: int, window: int) -> None:
        super().__init__()
        places = torch.arange(maps)
        distance = places - places[:, None]
        near = (distance >= -(window // 2)) & (distance <= (window - 1) // 2)
        self.register_buffer("band", (ALPHA / window * near)[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, maps, height, width] to the same."""
        return x * (1 + functional.conv2d(x.square(), self.band)).pow(-BETA)


class Recurrent(nn.Module):
    """z(t) = W_f u + W_r x(t - 1) + b for t = 0 to `iterations`, x = lrn(f(norm(z))); x(-1) = 0, [n, maps, ...]."""

    def __init__(self, kit: Kit, maps: int, iterations: int, norm: Literal["shared", "each"], lrn: bool) -> None:
        super().__init__()
        self.iterations = iterations
        self.feed = kit.conv(maps, maps, 3, padding=1)
        self.back = kit.conv(maps, maps, 3, padding=1, bias=False)
        response = [ResponseNorm(maps, maps // 8 + 1)] if lrn else []
        count = 1 if norm == "shared" else iterations + 1
        self.states = nn.ModuleList(nn.Sequential(kit.norm_act(maps, 2), *response) for _ in range(count))

    def forward(self, u: Tensor) -> Tensor:
        """The last state."""
        fed = self.feed(u)
        x = self.states[0](fed)
        for t in range(1, self.iterations + 1):
            x = self.states[t % len(self.states)](fed + self.back(x))
        return x


@MODELS.register("rcnn", version=1)
def rcnn(
    kit: Kit,
    sizes: Sizes,
    *,
    maps: int,
    width: float,
    iterations: int,
    lrn: bool,
    norm: Literal["shared", "each"],
    dropout: float,
) -> nn.Module:
    """Liang & Hu 2015 (CVPR), section 3: a convolution and four recurrent convolutional layers, all of K maps.

    [n, channels, height, width] to [n, outputs]. 5x5 convolution, 3x3/2 max pool (ceil mode), two recurrent layers, the
    same pool, two recurrent layers, the maximum of each map, a linear layer. Dropout behind each recurrent layer but
    the last, behind the pool where one follows.
    maps: K, 96, 128 or 160 in the paper (0.67, 1.19 and 1.86 M parameters); width: a factor on it. iterations: how
    often a layer looks at its outputs (T = 3: four states and depth 18). lrn: the paper's local response normalization
    of every state, window K / 8 + 1, alpha 0.001, beta 0.75. norm: one norm layer for all states of a recurrent layer,
    or one for each, since the statistics of the states differ. With init=torch weights are drawn from N(0, 0.03^2 /
    width), so that sums vary alike at every width, biases 0.
    """
    check_images("rcnn", sizes, 4)
    check_width(width)
    if maps < 1 or iterations < 1:
        raise UserError(f"model.maps={maps}, model.iterations={iterations}: at least 1 each")
    check_dropout(dropout)
    channels, *size = sizes["inputs"]
    count = max(1, round(maps * width))
    left = [side // 4 for side in size]  # each of the two pools leaves half, rounded down
    first = nn.Sequential(kit.conv(channels, count, 5, padding=2), kit.norm_act(count, 2))
    recurrent = partial(Recurrent, kit, count, iterations, norm, lrn)
    model = nn.Sequential(
        OrderedDict(
            inputs=kit.inputs(),
            conv1=first,
            pool1=kit.pool(nn.MaxPool2d(3, 2, ceil_mode=True)),
            rcl2=recurrent(),
            dropout2=kit.dropout(dropout),
            rcl3=recurrent(),
            pool3=kit.pool(nn.MaxPool2d(3, 2, ceil_mode=True)),
            dropout3=kit.dropout(dropout),
            rcl4=recurrent(),
            dropout4=kit.dropout(dropout),
            rcl5=recurrent(),
            pool5=kit.pool(nn.MaxPool2d((left[0], left[1]))),
            flatten=nn.Flatten(),
            head=kit.head(count, sizes["outputs"]),
        )
    )
    draw_all(model, partial(nn.init.normal_, std=DEVIATION / math.sqrt(width)))
    return model
