"""AlexNet: the network of DDC, DAN and Deep CORAL, from scratch or with torchvision's ImageNet weights."""

from collections import OrderedDict
from functools import partial

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw
from normtables.models.checks import check_dropout, check_images, check_width
from normtables.models.marks import mark
from normtables.models.pretrained import Published, Weights, begin_with
from normtables.norms import Kit

FILE = "alexnet-owt-7be5be79.pth"
CONVS = (  # channels, kernel, stride, padding, and whether 3x3 max-pooling with stride 2 follows
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
HIDDEN, CELLS = 4_096, 6  # units of fc6 and fc7; cells a side of what fc6 sees
LEAST = 63  # pixels a side: below them the last pool has nothing to look at
PLACES = ("features.0", "features.3", "features.6", "features.8", "features.10", "classifier.1", "classifier.4")
OURS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


@MODELS.register("alexnet", version=1)
def alexnet(
    kit: Kit,
    sizes: Sizes,
    *,
    weights: Weights,
    width: float,
    dropout: float,
    bottleneck: int | None,
    last_rate: float,
    bias_rate: float,
    deviation: float | None,
) -> nn.Module:
    """Krizhevsky 2014 (arXiv 1404.5997), the single-tower AlexNet as in torchvision: [n, 3, h, w] to [n, outputs].

    Norm and ReLU behind every layer but the last, no local response normalization; norm=none is the published network,
    61.1 M parameters with 1,000 outputs. Images of at least 63 px; fc6 sees 6 x 6 cells whatever their size.
    weights: "imagenet" begins with torchvision's file; the layers behind fc7 are new unless that is one with 1,000
    outputs.
    width: factor on all channels and hidden units. dropout: rate in front of fc6 and fc7. bottleneck: units of a layer
    between fc7 and the last one, as in DDC (256); null: none.
    last_rate, bias_rate: factors on the learning rate of the layers behind fc7, and of all biases beside their layer's
    weights (10 and 2 in Deep CORAL's Caffe files). deviation: with init=torch the weights behind fc7 are drawn from
    N(0, deviation^2), biases 0 (0.005 there); null: torch's own draw.
    """
    refuse(sizes, width, dropout, bottleneck, last_rate, bias_rate)
    layers = OrderedDict[str, nn.Module](inputs=kit.inputs())
    layers |= convolutions(kit, sizes["inputs"][0], width, bias_rate)
    layers |= {"average": kit.pool(nn.AdaptiveAvgPool2d(CELLS)), "flatten": nn.Flatten()}
    inputs, hidden = scaled(CONVS[-1][0], width) * CELLS**2, scaled(HIDDEN, width)
    for name in ("fc6", "fc7"):
        layers[name.replace("fc", "dropout")] = kit.dropout(dropout)
        layers[name] = nn.Sequential(mark(kit.linear(inputs, hidden), rates=(1, bias_rate)), kit.norm_act(hidden))
        inputs = hidden
    new = (last_rate, last_rate * bias_rate)
    if bottleneck is not None:
        layer = mark(kit.linear(inputs, bottleneck), rates=new)
        layers["bottleneck"] = nn.Sequential(layer, kit.norm_act(bottleneck))
        inputs = bottleneck
    net = nn.Sequential(layers | {"head": mark(kit.head(inputs, sizes["outputs"]), rates=new)})
    if deviation is not None:
        draw_last(net, deviation)
    if weights == "imagenet":
        fresh = ("bottleneck.", "head.") if bottleneck or sizes["outputs"] != 1_000 else ("bottleneck.",)
        begin_with(net, Published(FILE, "alexnet_weights", renamed, fresh, "none"))
    return net


def convolutions(kit: Kit, channels: int, width: float, bias_rate: float) -> OrderedDict[str, nn.Module]:
    """The five convolutions with norm and ReLU, and the pools behind three of them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (count, kernel, stride, padding, pooled) in enumerate(CONVS, 1):
        outputs = scaled(count, width)
        conv = kit.conv(channels, outputs, kernel, stride=stride, padding=padding)
        layers[f"conv{number}"] = nn.Sequential(mark(conv, rates=(1, bias_rate)), kit.norm_act(outputs, 2))
        channels = outputs
        if pooled:
            layers[f"pool{number}"] = kit.pool(nn.MaxPool2d(3, 2))
    return layers


def scaled(count: int, width: float) -> int:
    """A number of channels or units times the width factor, at least 1."""
    return max(1, round(count * width))


def refuse(
    sizes: Sizes, width: float, dropout: float, bottleneck: int | None, last_rate: float, bias_rate: float
) -> None:
    """Raise UserError for images and options that the network cannot have."""
    check_images("alexnet", sizes, LEAST)
    check_width(width)
    check_dropout(dropout)
    if bottleneck is not None and bottleneck < 1:
        raise UserError(f"model.bottleneck={bottleneck}: at least 1 unit, or null")
    if not (last_rate > 0 and bias_rate > 0):
        raise UserError(f"model.last_rate={last_rate}, model.bias_rate={bias_rate}: factors above 0")


def draw_last(net: nn.Sequential, deviation: float) -> None:
    """Draw the weights of the layers behind fc7 from N(0, deviation^2); biases 0."""
    if not deviation > 0:
        raise UserError(f"model.deviation={deviation}: a number above 0, or null")
    for name in ("bottleneck", "head"):
        for layer in getattr(net, name, nn.Identity()).modules():
            if isinstance(layer, nn.Linear):
                draw(layer, partial(nn.init.normal_, std=deviation))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def renamed(name: str) -> str:
    """torchvision's name of a weight to this network's."""
    layer, _, kind = name.rpartition(".")
    return f"head.{kind}" if layer == "classifier.6" else f"{OURS[PLACES.index(layer)]}.0.{kind}"
