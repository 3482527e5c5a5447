"""The acoustic network of Table 7: convolutions over frequency, full context in time."""

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, nonlinearity
from normtables.norms import Kit


@MODELS.register("acoustic_cnn", version=1)
def acoustic_cnn(
    kit: Kit, sizes: Sizes, *, filters: list[int], bands: list[int], pool: int, hidden: list[int], activation: str
) -> nn.Module:
    """Convolution over frequency, max-pool, convolution over frequency, fully connected layers.

    [n, channels, time, bands] to [n, outputs]: all channels and times are inputs of one filter, as in the network that
    Kaldi's make_cnn_proto.py writes for nnet1; there the first filters are pooled before the nonlinearity, which gives
    the same without a norm layer. `filters` and `bands` are the numbers of filters and their widths in the two
    convolutions, `pool` is the width and the step of the pool, `hidden` the units of the fully connected layers.
    """
    if len(sizes["inputs"]) != 3:
        raise UserError(f"model=acoustic_cnn takes windows of frames, not inputs of size {list(sizes['inputs'])}")
    channels, time, width = sizes["inputs"]
    if len(filters) != 2 or len(bands) != 2 or min([*filters, *bands, pool, *hidden]) < 1:
        raise UserError(
            f"model.filters={filters} and model.bands={bands} take two numbers each; they, model.pool={pool} and "
            f"model.hidden={hidden} are at least 1"
        )
    left = (width - bands[0] + 1) // pool - bands[1] + 1
    if left < 1:
        raise UserError(f"model.bands={bands}, model.pool={pool}: too wide for inputs of {width} bands")
    kit = kit.using(nonlinearity(activation))
    layers: list[nn.Module] = [kit.inputs(), nn.Flatten(1, 2)]
    layers += [kit.conv(channels * time, filters[0], bands[0], dims=1), kit.norm_act(filters[0], 1)]
    layers += [kit.pool(nn.MaxPool1d(pool))]
    layers += [kit.conv(filters[0], filters[1], bands[1], dims=1), kit.norm_act(filters[1], 1), nn.Flatten()]
    widths = [filters[1] * left, *hidden]
    for before, after in zip(widths, hidden):
        layers += [kit.linear(before, after), kit.norm_act(after)]
    return nn.Sequential(*layers, kit.head(widths[-1], sizes["outputs"]))
