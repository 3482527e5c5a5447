"""The four-convolution network of Table 3's CIFAR-10 column."""

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.models.checks import check_dropouts, check_images
from normtables.norms import Kit


@MODELS.register("cnn4", version=1)
def cnn4(kit: Kit, sizes: Sizes, *, widths: list[int], hidden: int, dropout: list[float]) -> nn.Module:
    """Conv-Conv-MaxPool-Dropout twice, then FC-Dropout-FC; 3x3 convolutions with padding 1, 2x2 pools.

    [n, channels, height, width] to [n, outputs]; norm on the four convolutions and the first FC layer (Ma & Klabjan,
    section 5). Ma & Klabjan give no widths: the defaults are those of the Keras example with the same skeleton.
    `widths` are the channels of the two stages, `dropout` the rates after each stage and after the hidden layer.
    """
    check_images("cnn4", sizes, 4)
    channels, height, width = sizes["inputs"]
    if min([*widths, hidden]) < 1:
        raise UserError(f"model.widths={widths}, model.hidden={hidden}: every width is at least 1")
    if len(widths) != 2:
        raise UserError(f"model.widths={widths}: two widths")
    check_dropouts(dropout, 3)
    layers: list[nn.Module] = [kit.inputs()]
    for before, after, rate in zip([channels, *widths], widths, dropout):
        layers += [kit.conv(before, after, 3, padding=1), kit.norm_act(after, 2)]
        layers += [kit.conv(after, after, 3, padding=1), kit.norm_act(after, 2)]
        layers += [kit.pool(nn.MaxPool2d(2)), kit.dropout(rate)]
    flat = widths[1] * (height // 4) * (width // 4)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        kit.linear(flat, hidden),
        kit.norm_act(hidden),
        kit.dropout(dropout[2]),
        kit.head(hidden, sizes["outputs"]),
    )
