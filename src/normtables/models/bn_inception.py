"""Inception with batch normalization's layer table: the network of Table 1, with and without it."""

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, nonlinearity
from normtables.models.checks import check_dropout, check_images, check_width
from normtables.norms import Kit

Size = tuple[int, int]  # height, width
STRIDES = (8, 4, 2, 1)
ENOUGH = 12  # pixels a side that a stem chosen by the size of the images leaves


class Row(NamedTuple):
    """Channels of a block's branches: 1x1; 1x1 and 3x3; 1x1, 3x3 and 3x3; pooling and 1x1.

    Without the first and the last (0) the block halves the image: stride 2 in the last 3x3 of a branch and in the pool.
    """

    one: int
    reduce: int
    three: int
    reduce_double: int
    double: int
    pool: Literal["average", "maximum"]
    projection: int


STEM = (64, 64, 192)
BLOCKS = {
    "3a": Row(64, 64, 64, 64, 96, "average", 32),
    "3b": Row(64, 64, 96, 64, 96, "average", 64),
    "3c": Row(0, 128, 160, 64, 96, "maximum", 0),
    "4a": Row(224, 64, 96, 96, 128, "average", 128),
    "4b": Row(192, 96, 128, 96, 128, "average", 128),
    "4c": Row(160, 128, 160, 128, 160, "average", 128),
    "4d": Row(96, 128, 192, 160, 192, "average", 128),
    "4e": Row(0, 128, 192, 192, 256, "maximum", 0),
    "5a": Row(352, 192, 320, 160, 224, "average", 128),
    "5b": Row(352, 192, 320, 192, 224, "maximum", 128),
}
DOUBTFUL = ("4c", "4d")  # blocks whose printed projection, 128, contradicts the printed outputs


def unit(kit: Kit, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, norm and nonlinearity: [n, inputs, h, w] to [n, outputs, h / stride, w / stride], rounded up."""
    return nn.Sequential(
        kit.conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2), kit.norm_act(outputs, 2)
    )


def halving(kit: Kit, size: Size) -> nn.Module:
    """3x3 max-pooling with stride 2 that halves, rounded up, as convolutions do; whole windows first where it can."""
    return kit.pool(nn.MaxPool2d(3, 2, padding=(size[0] % 2, size[1] % 2), ceil_mode=True))


def halved(size: Size) -> Size:
    """Half of height and width, rounded up."""
    return -(-size[0] // 2), -(-size[1] // 2)


class Block(nn.Module):
    """Four branches side by side, or three that halve the image; outputs [n, `outputs`, ...]."""

    def __init__(self, kit: Kit, inputs: int, row: Row, size: Size) -> None:
        super().__init__()
        stride = 1 if row.one else 2
        branches = [
            [unit(kit, inputs, row.reduce, 1), unit(kit, row.reduce, row.three, 3, stride)],
            [
                unit(kit, inputs, row.reduce_double, 1),
                unit(kit, row.reduce_double, row.double, 3),
                unit(kit, row.double, row.double, 3, stride),
            ],
        ]
        if row.one:
            window = nn.AvgPool2d(3, 1, 1) if row.pool == "average" else nn.MaxPool2d(3, 1, 1)
            branches.insert(0, [unit(kit, inputs, row.one, 1)])
            branches.append([nn.Sequential(kit.pool(window)), unit(kit, inputs, row.projection, 1)])
        else:
            branches.append([nn.Sequential(halving(kit, size))])
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.outputs = row.one + row.three + row.double + (row.projection or inputs)

    def forward(self, x: Tensor) -> Tensor:
        """The branches' channels one after the other."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def stem(kit: Kit, inputs: int, stride: int, lrn: bool, size: Size, width: float) -> tuple[nn.Sequential, Size]:
    """The layers in front of block 3a, and the size of what they give."""
    first, reduce, outputs = (scaled(channels, width) for channels in STEM)
    layers: list[nn.Module] = [unit(kit, inputs, first, 7, 2) if stride == 8 else unit(kit, inputs, first, 3)]
    size = halved(size) if stride == 8 else size
    norms = [nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0) for _ in range(2 * lrn)]
    if stride >= 2:
        layers.append(halving(kit, size))
        size = halved(size)
    layers += [*norms[:1], unit(kit, first, reduce, 1), unit(kit, reduce, outputs, 3), *norms[1:]]
    if stride >= 4:
        layers.append(halving(kit, size))
        size = halved(size)
    return nn.Sequential(*layers), size


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width factor, at least 1 unless there are none."""
    return max(1, round(channels * width)) if channels else 0


def narrowed(row: Row, width: float) -> Row:
    """A row of the table with all its channels scaled."""
    numbers: dict[str, Any] = {
        name: scaled(entry, width) for name, entry in row._asdict().items() if isinstance(entry, int)
    }
    return row._replace(**numbers)


def refuse(sizes: Sizes, width: float, stride: int | None, dropout: float, projection: int) -> None:
    """Raise UserError for inputs and options that the network cannot have."""
    check_images("bn_inception", sizes)
    check_width(width)
    if stride not in (*STRIDES, None):
        raise UserError(f"model.stride={stride}: one of {', '.join(map(str, STRIDES))}, or null")
    check_dropout(dropout)
    if projection < 1:
        raise UserError(f"model.projection={projection}: at least 1 channel; 96 and 128 are the readings of the paper")


@MODELS.register("bn_inception", version=1)
def bn_inception(
    kit: Kit,
    sizes: Sizes,
    *,
    width: float,
    stride: int | None,
    activation: str,
    dropout: float,
    lrn: bool,
    projection: int,
) -> nn.Module:
    """Ioffe & Szegedy 2015 (arXiv 1502.03167), figure 5: a stem, ten blocks, global average, linear layer.

    [n, channels, height, width] to [n, outputs]. Norm and `activation` behind every convolution, so that norm=none is
    the paper's Inception. Ordinary convolutions in the stem (Google's first one is separable), no auxiliary heads (the
    paper names none); weights as the configuration's `init` draws them (the paper names no scheme).
    width: factor on all channels. stride: what the stem divides the image by. 8 is the paper's: 7x7/2, pool/2, 1x1,
    3x3, pool/2, from 224 to 28 pixels. 4 has a 3x3 with stride 1 as its first layer, 2 also no second pool, 1 no pool
    at all; the blocks are the same. null: the largest that leaves 12 pixels a side, 224 -> 28, 64 -> 16, 32 -> 16,
    16 -> 16; blocks 3c and 4e halve twice more, 16 -> 8 -> 4.
    dropout: rate in front of the linear layer. lrn: local response normalization behind the first pool and the 3x3 of
    the stem (GoogLeNet's places and constants; the paper gives none).
    projection: channels behind the pools of 4c and 4d. The paper prints 128, which contradicts its own output sizes
    (608 instead of 576, 1056 instead of 1024); with 96 all of them hold.
    """
    refuse(sizes, width, stride, dropout, projection)
    kit = kit.using(nonlinearity(activation))
    channels, *image = sizes["inputs"]
    stride = stride or next(s for s in STRIDES if s == 1 or min(image) >= s * ENOUGH)
    first, size = stem(kit, channels, stride, lrn, (image[0], image[1]), width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(inputs=kit.inputs(), stem=first)
    channels = scaled(STEM[-1], width)
    for name, row in BLOCKS.items():
        row = row._replace(projection=projection) if name in DOUBTFUL else row
        block = layers[name] = Block(kit, channels, narrowed(row, width), size)
        channels, size = block.outputs, size if row.one else halved(size)
    layers |= {"pool": kit.pool(nn.AdaptiveAvgPool2d(1)), "flatten": nn.Flatten()}
    layers |= {"dropout": kit.dropout(dropout), "head": kit.head(channels, sizes["outputs"])}
    return nn.Sequential(layers)
