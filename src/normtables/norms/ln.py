"""Layer normalization: torch's own layers, and the paper's LSTM."""

from typing import Literal

import torch
from torch import Tensor, nn

from normtables.norms import METHODS, Method
from normtables.norms.batches import check_epsilon
from normtables.norms.products import linear
from normtables.norms.recurrent import StepLSTM, cell


@METHODS.register("ln", version=1)
def ln(*, epsilon: float = 1e-5, position: Literal["before", "after"] = "before") -> Method:
    """Ba, Kiros & Hinton 2016 (arXiv 1607.06450), equation 4: y = g (x - mean) / sqrt(var + epsilon) + b per example.

    [n, channels]: mean and biased variance over the channels, torch's LayerNorm. [n, channels, ...]: over channels and
    trailing dimensions together with a gain and a shift per channel, torch's GroupNorm with one group: the usual
    reading for convolutions, which the paper (section 6.7) leaves open. g 1 and b 0 at the start; epsilon is torch's.
    Training and test compute the same. `position`: before the nonlinearity (the paper) or after it.
    LSTM layers (section 3.1 and the supplement): the gates are LN(W_x x_t) + LN(W_h h_(t-1)) + b, each LN over all
    four of a step; h_t = sigmoid(o) tanh(LN(c_t)). One shift b, which LN(W_x x) adds, is learned for the gates.
    """
    check_epsilon(epsilon)

    def layer(channels: int, dims: int) -> nn.Module:
        return nn.GroupNorm(1, channels, eps=epsilon) if dims else nn.LayerNorm(channels, eps=epsilon)

    return Method(
        norm=layer,
        recurrent=lambda inputs, hidden: LayerNormLSTM(inputs, hidden, epsilon),
        shifts=True,
        after=position == "after",
    )


class LayerNormLSTM(StepLSTM):
    """An LSTM layer with layer normalization on the way in, from step to step, and of c in front of the output."""

    def __init__(self, inputs: int, hidden: int, epsilon: float) -> None:
        super().__init__(inputs, hidden)
        self.norm_ih = nn.LayerNorm(4 * hidden, epsilon)
        self.norm_hh = nn.LayerNorm(4 * hidden, epsilon, bias=False)
        self.norm_c = nn.LayerNorm(hidden, epsilon)

    def run(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise the way in at all positions at once, the rest as the steps come."""
        outputs = []
        for gate in self.norm_ih(gates).unbind():
            o, c = cell(gate + self.norm_hh(linear(h, self.weight_hh_l0)), c)
            h = o * torch.tanh(self.norm_c(c))
            outputs.append(h)
        return torch.stack(outputs), h, c
