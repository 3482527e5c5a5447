"""Network in network: the network of Table 2's NIN rows, and Table 9's."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw
from normtables.models.checks import check_dropouts, check_images, check_width
from normtables.norms import Kit

# Kernel and channels of each stage; the class maps follow as the last layer.
STAGES: dict[str, tuple[tuple[int, tuple[int, ...]], ...]] = {
    "cifar": ((5, (192, 160, 96)), (5, (192, 192, 192)), (3, (192, 192))),
    "svhn": ((5, (128, 96, 64)), (5, (320, 256, 128)), (5, (384, 256))),
    "mnist": ((5, (96, 64, 48)), (5, (128, 96, 48)), (5, (128, 96))),
}
POOLS: dict[str, Callable[..., nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
LAYERS = 9


@MODELS.register("nin", version=1)
def nin(
    kit: Kit,
    sizes: Sizes,
    *,
    variant: Literal["cifar", "svhn", "mnist"],
    width: float,
    pool2: Literal["max", "average"],
    dropout: list[float],
    deviations: list[float],
    last_rate: float,
) -> nn.Module:
    """Lin, Chen & Yan 2014 (arXiv 1312.4400) by the authors' own configuration files, class maps averaged at the end.

    [n, channels, height, width] to [n, outputs]. Three stages of one convolution and two 1x1 ones, 3x3/2 pools (ceil
    mode) and dropout between them; the last 1x1 gives the class maps. Every layer is followed by norm and ReLU, the
    class maps too, as in the authors' files (without norm) and in the networks that put batch normalization into NIN.
    variant: the authors' network for CIFAR-10 and CIFAR-100 (0.967 M parameters), SVHN (1.99 M) or MNIST (0.35 M).
    width: factor on all channels but the class maps. pool2: the second pool, a maximum in the authors' first files and
    an average in their Caffe version. dropout: rates behind the two pools.
    deviations: standard deviations of the weights of the nine layers, drawn from N(0, deviation^2), biases 0, where the
    configuration says init=torch; the authors' for CIFAR-100 are 0.001, 0.01, 0.01 and 0.05 for the rest. Behind the
    first layer they are divided by the root of the width factor: pre-activations vary as in the full network.
    last_rate: factor on the learning rate of the last convolution, 1 in the authors' file for CIFAR-100. Biases learn
    at twice the rate of their layer's kernels in all of the files.
    """
    refuse(sizes, width, dropout, deviations, last_rate)
    channels, number = sizes["inputs"][0], itertools.count(1)
    layers: OrderedDict[str, nn.Module] = OrderedDict(inputs=kit.inputs())
    for stage, (kernel, widths) in enumerate(STAGES[variant], 1):
        outputs = [max(1, round(count * width)) for count in widths] + [sizes["outputs"]] * (stage == 3)
        for before, after, size in zip([channels, *outputs], outputs, (kernel, 1, 1)):
            name = f"conv{stage}" if size > 1 else f"cccp{next(number)}"
            layers[name] = unit(kit, before, after, size, last_rate if name == "cccp6" else 1.0)
        channels = outputs[-1]
        if stage < 3:
            layers[f"pool{stage}"] = kit.pool(POOLS["max" if stage == 1 else pool2](3, 2, ceil_mode=True))
            layers[f"dropout{stage}"] = kit.dropout(dropout[stage - 1])
    net = nn.Sequential(layers | {"pool3": kit.pool(nn.AdaptiveAvgPool2d(1)), "flatten": nn.Flatten()})
    draw_normal(net, [deviations[0], *(deviation / math.sqrt(width) for deviation in deviations[1:])])
    return net


def refuse(sizes: Sizes, width: float, dropout: list[float], deviations: list[float], last_rate: float) -> None:
    """Raise UserError for images and options that the network cannot have."""
    check_images("nin", sizes, 4)
    check_width(width)
    check_dropouts(dropout, 2)
    if len(deviations) != LAYERS or not min(deviations) > 0:
        raise UserError(f"model.deviations={deviations}: {LAYERS} numbers above 0, one for each layer")
    if not last_rate > 0:
        raise UserError(f"model.last_rate={last_rate}: a factor above 0")


def unit(kit: Kit, inputs: int, outputs: int, kernel: int, rate: float) -> nn.Sequential:
    """Convolution that keeps the size, norm, nonlinearity: [n, inputs, h, w] to [n, outputs, h, w].

    The convolution's `rates` are factors on the learning rate of kernels and biases, for the optimizer.
    """
    conv = kit.conv(inputs, outputs, kernel, padding=kernel // 2)
    setattr(conv, "rates", (rate, 2 * rate))  # noqa: B010 (nn.Module declares no such attribute)
    return nn.Sequential(conv, kit.norm_act(outputs, 2))


def draw_normal(net: nn.Module, deviations: list[float]) -> None:
    """Draw the weights of the convolutions, in their order, from N(0, deviation^2); biases 0."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for layer, deviation in zip(layers, deviations, strict=True):
        draw(layer, partial(nn.init.normal_, std=deviation))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
