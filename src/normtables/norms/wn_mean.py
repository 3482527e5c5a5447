"""Weight normalization with mean-only batch normalization."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from normtables.errors import UserError
from normtables.norms import METHODS, Method, nothing
from normtables.norms.batches import Options, along, axes, chunks, require_two
from normtables.norms.wn import initialise_by_data, lstm
from normtables.world import ALONE


class MeanOnlyBatchNorm(nn.Module):
    """y = t - mean_B[t] + b for inputs [n, channels] or [n, channels, ...]; the running mean at test time."""

    running_mean: Tensor
    world = ALONE  # the processes over whose examples the mean is taken

    def __init__(self, channels: int, momentum: float, options: Options) -> None:
        super().__init__()
        self.momentum, self.options = momentum, options
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, t: Tensor) -> Tensor:
        """Subtract the mean, in evaluation mode the running one, and add the bias."""
        if not self.training:
            return self.shifted(t, self.running_mean)
        parts = [self.train_on(part) for part in chunks(t, self.options.ghost)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def train_on(self, t: Tensor) -> Tensor:
        """A training pass over one chunk."""
        options = self.options
        if options.use == "running" and not options.update:
            return self.shifted(t, self.running_mean)
        require_two(t, self.world)
        mean = self.world.mean(t.mean(axes(t), dtype=self.running_mean.dtype))
        mean = mean if options.flow else mean.detach()
        new = torch.lerp(self.running_mean, mean, self.momentum)
        if options.update:
            self.running_mean = new.detach()  # a new tensor: a compiled backward pass may still read the old one
        return self.shifted(t, mean if options.use == "batch" else new)

    def shifted(self, t: Tensor, mean: Tensor) -> Tensor:
        """t - mean + b in the type of t."""
        return t + along(t, (self.bias - mean).to(t.dtype))


@METHODS.register("wn_mean", version=1)
def wn_mean(
    *,
    data_init: bool = False,
    momentum: float = 0.1,
    ghost: int = 0,
    update: bool = True,
    use: Literal["batch", "running"] = "batch",
    flow: bool = True,
) -> Method:
    """Salimans & Kingma 2016 (arXiv 1602.07868), section 4: t = w x, y = t - mean_B[t] + b.

    w = g v / ||v|| as in `wn`; the last layer and LSTM layers are weight-normalised with a bias and not centred. The
    mean goes over the batch and all trailing dimensions, and the gradient through it.
    data_init: as in `wn`; a layer in front of a centring one needs the scale alone. Off, as in torch.
    momentum: weight of the newest batch in the running mean; the authors' code keeps 0.9 of the old one.
    `ghost`, `update`, `use`, `flow`: see `normtables.norms.batches.Options`.
    """
    if not 0 < momentum <= 1:
        raise UserError(f"norm.momentum={momentum}: a number above 0, up to 1")
    options = Options(ghost, update, use, flow)
    return Method(
        norm=lambda channels, dims: MeanOnlyBatchNorm(channels, momentum, options),
        wrap=parametrizations.weight_norm,
        recurrent=lstm,
        shifts=True,
        prepare=initialise_by_data if data_init else nothing,
    )
