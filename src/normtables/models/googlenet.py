"""GoogLeNet with a norm layer behind every convolution, from scratch or with torchvision's ImageNet weights."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.models.checks import check_dropout, check_images, check_width
from normtables.models.marks import mark
from normtables.models.pretrained import Published, Weights, begin_with
from normtables.norms import Kit

FILE = "googlenet-1378be20.pth"
STEM = (64, 64, 192)
# channels of a block's branches: 1x1; 1x1 and 3x3; 1x1 and 3x3 (5x5 in the paper); behind a pool
BLOCKS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "maxpool3": (),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "maxpool4": (),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
LEAST = 15  # pixels a side: below them a pool has nothing to look at
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, as dataset.scale=standard


class Recentred(nn.Module):
    """Images scaled by ImageNet's mean and deviation to -1..1, which the published weights were trained with."""

    factor: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        self.register_buffer("factor", deviation / 0.5, persistent=False)
        self.register_buffer("shift", (mean - 0.5) / 0.5, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, height, width] to the same."""
        return x * self.factor + self.shift


class Block(nn.Module):
    """Four branches side by side: [n, inputs, h, w] to [n, outputs, h, w]."""

    def __init__(self, kit: Kit, inputs: int, row: tuple[int, ...], bias_rate: float) -> None:
        super().__init__()

        def unit(before: int, after: int, kernel: int) -> nn.Sequential:
            return convolution(kit, before, after, kernel, 1, bias_rate)

        one, reduce, three, reduce_double, double, projection = row
        self.branch1 = unit(inputs, one, 1)
        self.branch2 = nn.Sequential(unit(inputs, reduce, 1), unit(reduce, three, 3))
        self.branch3 = nn.Sequential(unit(inputs, reduce_double, 1), unit(reduce_double, double, 3))
        self.branch4 = nn.Sequential(kit.pool(nn.MaxPool2d(3, 1, 1, ceil_mode=True)), unit(inputs, projection, 1))
        self.outputs = one + three + double + projection

    def forward(self, x: Tensor) -> Tensor:
        """The branches' channels one after the other."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def convolution(kit: Kit, inputs: int, outputs: int, kernel: int, stride: int, bias_rate: float) -> nn.Sequential:
    """Convolution, norm and ReLU: [n, inputs, h, w] to [n, outputs, h / stride, w / stride], rounded up."""
    conv = kit.conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(mark(conv, rates=(1, bias_rate)), kit.norm_act(outputs, 2))


def halving(kit: Kit, kernel: int = 3) -> nn.Module:
    """Max-pooling with stride 2 whose last window may be cut."""
    return kit.pool(nn.MaxPool2d(kernel, 2, ceil_mode=True))


@MODELS.register("googlenet", version=1)
def googlenet(
    kit: Kit, sizes: Sizes, *, weights: Weights, width: float, dropout: float, last_rate: float, bias_rate: float
) -> nn.Module:
    """Szegedy et al. 2015 (arXiv 1409.4842) as in torchvision: [n, 3, h, w] to [n, outputs].

    Norm and ReLU behind every convolution (norm=none is the paper's network), 3x3 where the paper has 5x5, no auxiliary
    heads, no local response normalization; 6.62 M parameters with norm=bn and 1,000 outputs. Images of at least 15 px.
    weights: "imagenet" begins with torchvision's file, whose images are scaled with ImageNet's mean and deviation
    (dataset.scale=standard of office31) and which belongs to norm=bn norm.epsilon=0.001; another number of outputs than
    1,000 gets a new last layer. width: factor on all channels. dropout: rate in front of the last layer.
    last_rate, bias_rate: factors on the learning rate of the last layer, and of biases of weight layers.
    """
    refuse(sizes, width, dropout, last_rate, bias_rate)
    first, reduce, channels = scaled(STEM, width)
    layers = OrderedDict[str, nn.Module](inputs=kit.inputs())
    if weights == "imagenet":
        layers["recentred"] = Recentred()
    layers |= {"conv1": convolution(kit, sizes["inputs"][0], first, 7, 2, bias_rate), "maxpool1": halving(kit)}
    layers |= {"conv2": convolution(kit, first, reduce, 1, 1, bias_rate)}
    layers |= {"conv3": convolution(kit, reduce, channels, 3, 1, bias_rate), "maxpool2": halving(kit)}
    for name, row in BLOCKS.items():
        if row:
            layers[name] = block = Block(kit, channels, scaled(row, width), bias_rate)
            channels = block.outputs
        else:
            layers[name] = halving(kit, 3 if name == "maxpool3" else 2)
    layers |= {"pool": kit.pool(nn.AdaptiveAvgPool2d(1)), "flatten": nn.Flatten(), "dropout": kit.dropout(dropout)}
    head = mark(kit.head(channels, sizes["outputs"]), rates=(last_rate, last_rate * bias_rate))
    net = nn.Sequential(layers | {"head": head})
    if weights == "imagenet":
        fresh = ("head.",) if sizes["outputs"] != 1_000 else ()
        begin_with(net, Published(FILE, "googlenet_weights", renamed, fresh, "bn"))
    return net


def scaled(row: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Numbers of channels times the width factor, at least 1."""
    return tuple(max(1, round(count * width)) for count in row)


def refuse(sizes: Sizes, width: float, dropout: float, last_rate: float, bias_rate: float) -> None:
    """Raise UserError for images and options that the network cannot have."""
    check_images("googlenet", sizes, LEAST)
    check_width(width)
    check_dropout(dropout)
    if not (last_rate > 0 and bias_rate > 0):
        raise UserError(f"model.last_rate={last_rate}, model.bias_rate={bias_rate}: factors above 0")


def renamed(name: str) -> str:
    """torchvision's name of a weight to this network's; "" for those of the auxiliary heads."""
    if name.startswith("aux"):
        return ""
    if name.startswith("fc."):
        return name.replace("fc", "head", 1)
    return name.replace(".conv.", ".0.").replace(".bn.", ".1.0.")
