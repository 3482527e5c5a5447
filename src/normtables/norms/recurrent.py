"""LSTM layers step by step: what the methods share that normalise inside them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, Tensor]  # h and c, [1, n, hidden] each


class StepLSTM(nn.Module):
    """Weights as torch's LSTM names, orders and draws them, and called as it is; what a step is, the method says."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        for weight in (self.weight_ih_l0, self.weight_hh_l0):
            nn.init.uniform_(weight, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """[time, n, inputs] and a state (zeros where there is none) to [time, n, hidden] and the state behind it."""
        if state is None:
            h = c = self.weight_hh_l0.new_zeros(x.shape[1], self.hidden)
        else:
            h, c = state[0][0], state[1][0]
        outputs, h, c = self.run(functional.linear(x, self.weight_ih_l0), h, c)
        return torch.stack(outputs), (h[None], c[None])

    def run(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """From W x [time, n, 4 hidden] and h, c [n, hidden] to all h and the last h and c."""
        raise NotImplementedError


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(o) and the new c from gates [n, 4 hidden] in torch's order i, f, g, o."""
    i, f, g, o = gates.chunk(4, -1)
    return torch.sigmoid(o), torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
