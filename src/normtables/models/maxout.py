"""Maxout networks: the authors' three, with dropout and filters of bounded length."""

import math
from collections import OrderedDict
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw_all
from normtables.models.checks import check_dropouts, check_images, check_width
from normtables.models.marks import mark
from normtables.norms import Kit


class Stage(NamedTuple):
    """A convolution of maxout units and a max-pooling of stride 2 on top; `longest` is a filter's greatest length."""

    channels: int
    pieces: int
    kernel: int
    padding: int
    pool: int
    longest: float


class Net(NamedTuple):
    """Stages, units of a hidden layer (0: none), factor on the stages' learning rate, one bias for all places?"""

    stages: tuple[Stage, Stage, Stage]
    hidden: int
    rate: float
    tied: bool


NETS = {
    "cifar": Net(
        (Stage(96, 2, 8, 4, 4, 0.9), Stage(192, 2, 8, 3, 4, 1.9365), Stage(192, 2, 5, 3, 2, 1.9365)), 500, 0.05, True
    ),
    "svhn": Net(
        (Stage(64, 2, 5, 4, 3, 0.9), Stage(128, 2, 5, 3, 3, 1.9365), Stage(128, 2, 5, 3, 3, 1.9365)), 400, 0.05, True
    ),
    "mnist": Net(
        (Stage(48, 2, 8, 0, 4, 0.9), Stage(48, 2, 8, 3, 4, 1.9365), Stage(24, 4, 5, 3, 2, 1.9365)), 0, 1.0, False
    ),
}
PIECES = 5  # of a hidden unit
LONGEST_HIDDEN, LONGEST_HEAD = 1.9, 1.9365
SPREAD = 0.005  # initial weights are uniform in +-SPREAD


class Places(nn.Module):
    """A bias for every channel and place of [n, channels, height, width]."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Add it."""
        return x + self.bias


class Thinned(nn.Module):
    """Dropout that does not make up for what it drops: training sees 1 - rate of the inputs, evaluation all of them."""

    def __init__(self, dropout: nn.Module, rate: float) -> None:
        super().__init__()
        self.dropout, self.keep = dropout, 1 - rate

    def forward(self, x: Tensor) -> Tensor:
        """Inputs of any shape."""
        return self.dropout(x) * self.keep if self.training else x


@MODELS.register("maxout", version=1)
def maxout(
    kit: Kit, sizes: Sizes, *, variant: Literal["cifar", "svhn", "mnist"], width: float, dropout: list[float]
) -> nn.Module:
    """Goodfellow et al. 2013 (arXiv 1302.4389) by the authors' configuration files in pylearn2.

    [n, channels, height, width] to [n, outputs]. Three convolutions of maxout units, each with max-pooling (stride 2,
    ceil mode), a hidden layer of 5-piece maxout units (not in the network for MNIST), a linear layer. Norm layers stand
    in front of the maxima. After every update each filter and unit is shortened to the greatest length in its file.
    variant: the authors' network for CIFAR-10 (16.2 M parameters), SVHN or MNIST. In the first two the convolutions
    learn at 1/20 of the learning rate; in the last every place of a map has a bias of its own.
    width: factor on all channels and hidden units. dropout: rates of the inputs, whose scale training keeps as it is
    (input_scales 1 in the files), and in front of every later layer.
    With init=torch weights are drawn from U(-a, a), a = 0.005 / sqrt(width), so that sums vary alike at every width,
    and biases are 0; 0.005 is the files'.
    """
    check_images("maxout", sizes)
    check_width(width)
    check_dropouts(dropout, 2)
    net, (channels, *size) = NETS[variant], sizes["inputs"]
    layers: list[tuple[str, nn.Module]] = [("inputs", kit.inputs())]
    layers.append(("dropout0", Thinned(kit.dropout(dropout[0]), dropout[0])))
    for number, stage in enumerate(net.stages, 1):
        if min(convolved(size, stage)) < 1:
            raise UserError(f"model.variant={variant} takes larger images than {list(sizes['inputs'])}")
        layers.append((f"stage{number}", convolution(kit, channels, size, scaled(stage, width), net)))
        layers.append((f"dropout{number}", kit.dropout(dropout[1])))
        channels, size = scaled(stage, width).channels, pooled(size, stage)
    layers.append(("flatten", nn.Flatten()))
    features = channels * size[0] * size[1]
    if net.hidden:
        units = max(1, round(net.hidden * width))
        hidden = mark(kit.linear(features, PIECES * units), longest=LONGEST_HIDDEN)
        layers.append(("hidden", nn.Sequential(hidden, kit.norm_maxout(units, PIECES))))
        layers.append(("dropout4", kit.dropout(dropout[1])))
        features = units
    layers.append(("head", mark(kit.head(features, sizes["outputs"]), longest=LONGEST_HEAD)))
    model = nn.Sequential(OrderedDict(layers))
    spread = SPREAD / math.sqrt(width)
    draw_all(model, partial(nn.init.uniform_, a=-spread, b=spread))
    return model


def scaled(stage: Stage, width: float) -> Stage:
    """A stage with its channels times the width factor, at least 1."""
    return stage._replace(channels=max(1, round(stage.channels * width)))


def convolved(size: list[int], stage: Stage) -> list[int]:
    """Height and width of a stage's maps in front of the pooling."""
    return [side + 2 * stage.padding - stage.kernel + 1 for side in size]


def pooled(size: list[int], stage: Stage) -> list[int]:
    """Height and width of a stage's outputs."""
    return [-(-max(0, side - stage.pool) // 2) + 1 for side in convolved(size, stage)]


def convolution(kit: Kit, inputs: int, size: list[int], stage: Stage, net: Net) -> nn.Sequential:
    """[n, inputs, *size] to [n, channels, *pooled size]."""
    maps, sides = stage.channels * stage.pieces, convolved(size, stage)
    conv = kit.conv(inputs, maps, stage.kernel, padding=stage.padding, bias=net.tied)
    places = [] if net.tied or not kit.bias else [Places(maps, *sides)]
    window = [min(stage.pool, side) for side in sides]
    return nn.Sequential(
        mark(conv, rates=(net.rate, net.rate), longest=stage.longest),
        *places,
        kit.norm_maxout(stage.channels, stage.pieces, 2),
        kit.pool(nn.MaxPool2d((window[0], window[1]), 2, ceil_mode=True)),
    )
