"""Weight normalization with mean-only batch normalization."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from normtables.errors import UserError
from normtables.norms import METHODS, Method, nothing
from normtables.norms.wn import initialise_by_data


class MeanOnlyBatchNorm(nn.Module):
    """y = t - mean_B[t] + b for inputs [n, channels] or [n, channels, ...]; the running mean at test time.

    The mean goes over the batch and all trailing dimensions; the gradient flows through it.
    """

    running_mean: Tensor

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))

    def mean(self, t: Tensor) -> Tensor:
        """The batch's mean [channels], averaged into the running one."""
        if t.numel() == t.shape[1]:
            raise UserError("norm=wn_mean takes a mean over the batch: batch_size is at least 2")
        mean = t.mean([0, *range(2, t.dim())], dtype=self.running_mean.dtype)
        with torch.no_grad():
            self.running_mean.lerp_(mean.detach(), self.momentum)
        return mean

    def forward(self, t: Tensor) -> Tensor:
        """Subtract the mean, the batch's in training and the running one in evaluation, and add the bias."""
        shift = self.bias - (self.mean(t) if self.training else self.running_mean)
        return t + shift.to(t.dtype).view([-1] + [1] * (t.dim() - 2))


@METHODS.register("wn_mean", version=1)
def wn_mean(*, data_init: bool = False, momentum: float = 0.1) -> Method:
    """Salimans & Kingma 2016 (arXiv 1602.07868), section 4: t = w x, y = t - mean_B[t] + b.

    w = g v / ||v|| as in `wn`; the last layer is weight-normalised with a bias and not centred.
    data_init: as in `wn`; a layer in front of a centring one needs the scale alone. Off, as in torch.
    momentum: weight of the newest batch in the running mean; the authors' code keeps 0.9 of the old one.
    """
    if not 0 < momentum <= 1:
        raise UserError(f"norm.momentum={momentum}: a number above 0, up to 1")
    return Method(
        norm=lambda channels, dims: MeanOnlyBatchNorm(channels, momentum),
        wrap=parametrizations.weight_norm,
        shifts=True,
        prepare=initialise_by_data if data_init else nothing,
    )
