"""LSTM layers step by step: what the methods share that normalise inside them."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normtables.norms.products import linear, product

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
            h, c = self.weight_hh_l0.new_zeros(2, x.shape[1], self.hidden).unbind()
        else:
            h, c = state[0][0], state[1][0]
        outputs, h, c = self.run(linear(x, self.weight_ih_l0), h, c)
        return outputs, (h[None], c[None])

    def run(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From W x [time, n, 4 hidden] and h, c [n, hidden] to all h [time, n, hidden] and the last h and c."""
        raise NotImplementedError


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(o) and the new c from gates [n, 4 hidden] in torch's order i, f, g, o."""
    i, f, g, o = gates.chunk(4, -1)
    return torch.sigmoid(o), torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)


def recurrence(gates: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM whose gates are gates[t] + weight h_(t-1), in torch's order: all h and the last h and c."""
    with torch.autocast(gates.device.type, enabled=False):
        parts = (x.to(gates.dtype) for x in (weight, h, c))
        outputs, c, *_ = Recurrence.apply(gates, *parts)
    return outputs, outputs[-1], c


class Recurrence(Function):
    """`recurrence` with its gradient by hand: what needs no step before it is taken for all steps at once."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """All h, the last c; for the way back all c and tanh of it, sigmoids of all gates, tanh of g."""
        kept: tuple[list[Tensor], ...] = ([], [], [], [], [])
        for gate in gates.unbind():
            gate = product(h, weight, gate)
            i, f, g, o = gate.chunk(4, -1)
            g = torch.tanh(g)
            gate.sigmoid_()  # i, f and o are parts of it
            c = torch.addcmul(f * c, i, g)
            squashed = torch.tanh(c)
            h = o * squashed
            for rows, row in zip(kept, (h, c, squashed, gate, g)):
                rows.append(row)
        outputs, *inner = (torch.stack(rows) for rows in kept)
        return outputs, c.clone(), *inner

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the way back needs."""
        _, weight, h, c = inputs
        outputs, _, *inner = output
        ctx.mark_non_differentiable(*inner)
        ctx.save_for_backward(weight, h, c, outputs, *inner)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pushes: Tensor) -> tuple[Tensor, ...]:
        """Gradients by gates, weight, h and c."""
        weight, h, c, outputs, cells, tanhs, sigmoids, g = ctx.saved_tensors
        i, f, _, o = sigmoids.chunk(4, -1)
        before = torch.cat([c[None], cells[:-1]])
        by_c = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], -2)  # [time, n, 3, hidden]
        by_h, into_c = tanhs * o * (1 - o), o * (1 - tanhs * tanhs)
        dh, dc, steps = torch.zeros_like(h), pushes[1], []
        for t in range(len(cells) - 1, -1, -1):
            dh = dh + pushes[0][t]
            dc = torch.addcmul(dc, dh, into_c[t])
            steps.append(torch.cat([(by_c[t] * dc.unsqueeze(-2)).flatten(-2), by_h[t] * dh], -1))
            dh, dc = product(steps[-1], weight.t()), dc * f[t]
        gates = torch.stack(steps[::-1])
        starts = torch.cat([h[None], outputs[:-1]])
        return gates, product(gates.flatten(0, 1).t(), starts.flatten(0, 1).t()), dh, dc
