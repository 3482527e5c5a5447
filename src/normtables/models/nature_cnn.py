"""The Q-network of Mnih et al. 2015 for 84 x 84 frames."""

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.models.checks import check_images
from normtables.norms import Kit

LAYERS = ((8, 4, 1), (4, 2, 0), (3, 1, 0))  # kernel, stride, padding (of the first: as in the authors' code)


@MODELS.register("nature_cnn", version=1)
def nature_cnn(kit: Kit, sizes: Sizes, *, filters: list[int], hidden: int) -> nn.Module:
    """Three convolutions, 8x8 with stride 4, 4x4 with stride 2 and 3x3, a hidden layer, and a linear layer on top.

    [n, frames, height, width] to [n, actions]; norm on the convolutions and the hidden layer (Mnih et al. 2015,
    Methods). `filters`: of the convolutions, `hidden`: units.
    """
    shape = sizes["inputs"]
    check_images("nature_cnn", sizes, 34)
    if len(filters) != 3 or min([*filters, hidden]) < 1:
        raise UserError(f"model.filters={filters}, model.hidden={hidden}: three numbers of filters, all at least 1")
    channels, *sides = shape
    layers: list[nn.Module] = [kit.inputs()]
    for before, after, (kernel, stride, padding) in zip([channels, *filters], filters, LAYERS):
        layers += [kit.conv(before, after, kernel, stride=stride, padding=padding), kit.norm_act(after, 2)]
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
    flat = filters[-1] * sides[0] * sides[1]
    layers += [nn.Flatten(), kit.linear(flat, hidden), kit.norm_act(hidden)]
    return nn.Sequential(*layers, kit.head(hidden, sizes["outputs"]))
