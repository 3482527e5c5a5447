"""Maxout network in maxout network (MIM): network in network of batch-normalized maxout units."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw_all
from normtables.models.checks import check_dropouts, check_images, check_width
from normtables.models.marks import mark
from normtables.norms import Kit

# Kernel and maps of each block's convolution, and its 1x1 maxout layers; the class maps follow as the last one.
BLOCKS: dict[str, tuple[tuple[int, int, tuple[int, ...]], ...]] = {
    "cifar": ((5, 192, (160, 96)), (5, 192, (192, 192)), (3, 192, (192,))),
    "mnist": ((5, 96, (64, 48)), (5, 128, (96, 48)), (5, 128, (96,))),
}
RATES, LAST_RATES = (0.1, 1.0), (0.01, 0.1)  # factors on the learning rate of kernels and of biases


@MODELS.register("mim", version=1)
def mim(
    kit: Kit,
    sizes: Sizes,
    *,
    variant: Literal["cifar", "mnist"],
    width: float,
    pieces: int,
    dropout: list[float],
) -> nn.Module:
    """Chang & Chen 2015 (arXiv 1511.02583) by the first author's code: NIN's layers, 1x1 ones of normed maxout units.

    [n, channels, height, width] to [n, outputs]. Three blocks: a convolution and norm without a nonlinearity, then 1x1
    convolutions, norm over all pieces' maps and maxout, the class maps too; 3x3/2 average pools (ceil mode, over the
    pixels that are there) and dropout between the blocks; class maps are averaged at the end.
    variant: the network for CIFAR-10 (1.60 M weights with 5 pieces); "mnist" has the maps of NIN's network for MNIST,
    as the authors' own is not known. width: factor on all maps but the class maps. dropout: rates behind the two pools.
    As in the code, kernels learn at 1/10 of the learning rate, those of the class maps at 1/100 and their biases, which
    a norm layer replaces, at 1/10. With init=torch weights are drawn as there, biases 0 (`orthonormal`).
    """
    check_images("mim", sizes, 4)
    check_width(width)
    if pieces < 1:
        raise UserError(f"model.pieces={pieces}: at least 1")
    check_dropouts(dropout, 2)
    layers: list[tuple[str, nn.Module]] = [("inputs", kit.inputs())]
    channels = sizes["inputs"][0]
    for number, (kernel, maps, units) in enumerate(BLOCKS[variant], 1):
        widths = [max(1, round(count * width)) for count in (maps, *units)]
        last = number == len(BLOCKS[variant])
        outputs = [*widths, sizes["outputs"]] if last else widths
        layers.append((f"block{number}", block(kit, channels, kernel, outputs, pieces, last)))
        if not last:
            layers.append((f"pool{number}", kit.pool(nn.AvgPool2d(3, 2, ceil_mode=True))))
            layers.append((f"dropout{number}", kit.dropout(dropout[number - 1])))
        channels = outputs[-1]
    layers += [("pool3", kit.pool(nn.AdaptiveAvgPool2d(1))), ("flatten", nn.Flatten())]
    model = nn.Sequential(OrderedDict(layers))
    draw_all(model, orthonormal)
    return model


def block(kit: Kit, inputs: int, kernel: int, outputs: list[int], pieces: int, last: bool) -> nn.Sequential:
    """A convolution to outputs[0] maps, 1x1 maxout layers to the others: [n, inputs, ...] to [n, outputs[-1], ...]."""
    maps, *units = outputs
    conv = kit.conv(inputs, maps, kernel, padding=kernel // 2)
    layers = [mark(conv, rates=RATES), kit.norm(maps, 2)]
    for number, (before, after) in enumerate(zip(outputs, units), 1):
        rates = LAST_RATES if last and number == len(units) else RATES
        layers += [mark(kit.conv(before, pieces * after, 1), rates=rates), kit.norm_maxout(after, pieces, 2)]
    return nn.Sequential(*layers)


def orthonormal(weight: Tensor) -> None:
    """Fill a kernel [outputs, inputs, side, side] as the authors' orthonorm.m does.

    Its flattened values are cut into `side` orthonormal rows, each over many filters: a 1x1 kernel as a whole has
    length 1, so that its values are far smaller than those of orthonormal filters.
    """
    rows = torch.empty(weight.shape[-1], weight.numel() // weight.shape[-1], dtype=weight.dtype, device=weight.device)
    nn.init.orthogonal_(rows)
    weight.copy_(rows.view(weight.shape))
