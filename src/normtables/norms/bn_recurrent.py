"""Batch normalization inside an LSTM: Laurent's on the way in, Cooijmans's on every way."""

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import pooled
from normtables.norms.bn import bn
from normtables.norms.products import linear
from normtables.norms.recurrent import State, StepLSTM, cell, recurrence
from normtables.world import ALONE

Rows = tuple[Tensor, Tensor]  # mean and spread, [..., 1, features] each
NEWEST = 0.9  # weight of the batch at hand in evaluation="published"


@METHODS.register("bn_recurrent", version=1)
def bn_recurrent(
    *,
    variant: Literal["frame_wise", "per_step"] = "frame_wise",
    evaluation: Literal["population", "batch", "published"] = "population",
    steps: int = 35,
    gamma: float | None = None,
    momentum: float = 0.1,
) -> Method:
    """Laurent et al. 2016 (arXiv 1510.01378) and Cooijmans et al. 2016 (arXiv 1603.09025): in an LSTM, gates
    a = BN(W x_t) + U h_(t-1), or a = BN(W_x x_t) + BN(W_h h_(t-1)) + b.

    Layers that are not recurrent are plain BN (`bn` with torch's epsilon).
    frame_wise: Laurent et al. 2016 (arXiv 1510.01378), section 3: a = BN(W x_t) + U h_(t-1) for each of the four
    gates, no biases; y = gamma (x - mean) / (s + 1e-6) + beta, s = sqrt(var + 1e-6), as in the authors' code.
    per_step: Cooijmans et al. 2016 (arXiv 1603.09025), equations 6 to 8: a = BN(W_x x_t) + BN(W_h h_(t-1)) + b,
    h_t = sigmoid(o) tanh(BN(c_t)); y = gamma (x - mean) / sqrt(var + 1e-5); b and the shift of c_t's BN are learned, b
    begins with 1 at the forget gate (the code).
    Both: mean and biased variance over the batch, separately at each position of the sequence given; gamma and beta
    per unit, shared over positions. Inputs [time, n, inputs] and optionally a state to [time, n, hidden] and a state.
    The way in is one product and one normalization for all positions; the recurrence goes step by step in Python
    (torch's fused LSTM cannot take gates that are normalised already).

    variant: which of the two.
    evaluation: normalise outside training with averages over training batches (population); with the statistics of
    the batch at hand (batch); or with 0.9 of these and 0.1 of what the evaluation batch before used, from zeros, as the
    text of Laurent's code has it (published). In the version of that code that could be read the switch to evaluation
    does not reach the BN modules, which makes it `batch`. With `batch` and `published` examples see each other.
    steps: positions with averages of their own; later ones, and those that training never reached, take the last. 35 is
    the longest window of Laurent et al.
    gamma: at the start; null: 1 for frame_wise, 0.1 for per_step, as in the papers.
    momentum: weight of the newest batch in the averages, and in plain BN's; 0.1 is torch's default.
    """
    if steps < 1:
        raise UserError(f"norm.steps={steps}: at least 1 position")
    if not 0 < momentum <= 1:
        raise UserError(f"norm.momentum={momentum}: the weight of the newest batch, above 0 and at most 1")
    if gamma is not None and not math.isfinite(gamma):
        raise UserError(f"norm.gamma={gamma}: a finite number")

    def layer(inputs: int, hidden: int) -> nn.Module:
        return VARIANTS[variant](inputs, hidden, Averages(steps, momentum, evaluation), gamma)

    return replace(bn(momentum=momentum), recurrent=layer)


class Averages:
    """Which statistics are kept and used: positions, weight of the newest batch, and how evaluation goes."""

    def __init__(self, steps: int, momentum: float, evaluation: str) -> None:
        self.steps, self.momentum, self.evaluation = steps, momentum, evaluation


class Centre(Function):
    """[..., n, features] to u = x - mean, the mean and the variance, mean(u^2), over n: its gradient by hand.

    With the gradients p by u, q by the mean, r by the variance, that by x is p - mean(p) + q / n + 2 u r / n.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two passes over x: torch.var_mean over this axis is several times slower on the CPU."""
        mean = x.mean(-2, keepdim=True)
        centred = x - mean
        return centred, mean, centred.square().mean(-2, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep u."""
        ctx.save_for_backward(output[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        """The gradient by x."""
        [centred] = ctx.saved_tensors
        n = centred.shape[-2]
        return torch.addcmul(p + (q / n - p.mean(-2, keepdim=True)), centred, r * (2 / n))


class StepNorm(nn.Module):
    """y = gamma (x - mean) / sqrt(var + epsilon) + beta over the batch of [..., n, features], a position at a time.

    Buffers: mean and spread [steps, features], as they are averaged; reached, how many of them have been averaged.
    """

    epsilon = 1e-5
    mean: Tensor
    spread: Tensor
    reached: Tensor
    world = ALONE  # the processes over whose examples statistics are taken

    def __init__(self, features: int, averages: Averages, gamma: float, shift: bool) -> None:
        super().__init__()
        self.averages = averages
        self.gamma = nn.Parameter(torch.full([features], gamma))
        self.beta = nn.Parameter(torch.zeros(features)) if shift else None
        begin = 0.0 if averages.evaluation == "published" else 1.0
        self.register_buffer("mean", torch.zeros(averages.steps, features))
        self.register_buffer("spread", torch.full([averages.steps, features], begin))
        self.register_buffer("reached", torch.zeros((), dtype=torch.int64))

    def spread_of(self, variance: Tensor) -> Tensor:
        """What is averaged: the variance."""
        return variance

    def inverse(self, spread: Tensor) -> Tensor:
        """1 / denominator."""
        return torch.rsqrt(spread + self.epsilon)

    def rows(self, time: int) -> Rows:
        """The averages for positions 0 to time - 1, [time, 1, features] each; the last ones where there are none."""
        index = torch.arange(time, device=self.reached.device).minimum((self.reached - 1).clamp(min=0))
        return self.mean[index].unsqueeze(1), self.spread[index].unsqueeze(1)

    def centre(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - mean, mean and variance over the batch, that of all processes."""
        if self.world.size == 1:
            return Centre.apply(x)
        mean = x.mean(-2, keepdim=True)
        mean, variance = pooled(mean, (x - mean).square().mean(-2, keepdim=True), self.world)
        return x - mean, mean, variance

    def normalise(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        """[..., n, features] with `rows` of its positions to the same shape, and the statistics that were used."""
        x = x.to(self.gamma.dtype)
        if not self.training and self.averages.evaluation == "population":
            (mean, spread), centred = rows, x - rows[0]
        else:
            centred, mean, variance = self.centre(x)
            spread = self.spread_of(variance)
        if not self.training and self.averages.evaluation == "published":
            mean, spread = torch.lerp(rows[0], mean, NEWEST), torch.lerp(rows[1], spread, NEWEST)
            centred = x - mean
        scale = self.gamma * self.inverse(spread)
        y = centred * scale if self.beta is None else torch.addcmul(self.beta, centred, scale)
        return y, (mean, spread)

    def keep(self, used: Rows) -> None:
        """Enter the statistics of a whole sequence, [time, 1, features] each, into the averages."""
        weight = self.averages.momentum if self.training else 1.0
        if self.averages.evaluation != ("population" if self.training else "published"):
            return
        time = min(len(used[0]), self.averages.steps)
        self.mean, self.spread = (
            torch.cat([torch.lerp(old[:time], new[:time, 0].detach(), weight), old[time:]])
            for old, new in zip((self.mean, self.spread), used)
        )
        self.reached = self.reached.clamp(min=time)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a whole sequence [time, n, features]."""
        y, used = self.normalise(x, self.rows(len(x)))
        self.keep(used)
        return y


class FrameNorm(StepNorm):
    """y = gamma (x - mean) / (s + epsilon) + beta with s = sqrt(var + epsilon), which is also what is averaged."""

    epsilon = 1e-6

    def spread_of(self, variance: Tensor) -> Tensor:
        """What is averaged: s."""
        return (variance + self.epsilon).sqrt()

    def inverse(self, spread: Tensor) -> Tensor:
        """1 / denominator."""
        return 1 / (spread + self.epsilon)


class NormLSTM(StepLSTM):
    """What both variants share: a batch needs two sequences where it is normalised by its own statistics."""

    world = ALONE  # the processes over whose examples statistics are taken

    def __init__(self, inputs: int, hidden: int, averages: Averages) -> None:
        super().__init__(inputs, hidden)
        self.averages = averages

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As torch's LSTM; raises UserError for a single sequence where it cannot be."""
        if x.shape[1] * self.world.size == 1 and (self.training or self.averages.evaluation != "population"):
            raise UserError("batch statistics of an LSTM need two sequences: raise batch_size, or take norm=ln")
        return super().forward(x, state)


class FrameWiseLSTM(NormLSTM):
    """Laurent et al.: BN on the way in; beta takes the biases' place."""

    def __init__(self, inputs: int, hidden: int, averages: Averages, gamma: float | None) -> None:
        super().__init__(inputs, hidden, averages)
        self.norm_ih = FrameNorm(4 * hidden, averages, 1.0 if gamma is None else gamma, shift=True)

    def run(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise all positions at once, then recur."""
        return recurrence(self.norm_ih(gates), self.weight_hh_l0, h, c)


class PerStepLSTM(NormLSTM):
    """Cooijmans et al.: BN on the way in, on the way from step to step, and on c in front of the output's tanh."""

    def __init__(self, inputs: int, hidden: int, averages: Averages, gamma: float | None) -> None:
        super().__init__(inputs, hidden, averages)
        start = 0.1 if gamma is None else gamma
        self.norm_ih = StepNorm(4 * hidden, averages, start, shift=True)  # beta is the LSTM's bias
        self.norm_hh = StepNorm(4 * hidden, averages, start, shift=False)
        self.norm_c = StepNorm(hidden, averages, start, shift=True)
        assert self.norm_ih.beta is not None
        nn.init.ones_(self.norm_ih.beta[hidden : 2 * hidden])

    def run(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise the way in at all positions at once, the rest as the steps come."""
        norms = (self.norm_hh, self.norm_c)
        rows = [list(zip(*norm.rows(len(gates)))) for norm in norms]
        outputs: list[Tensor] = []
        used: tuple[list[Rows], list[Rows]] = ([], [])
        for t, gate in enumerate(self.norm_ih(gates).unbind()):
            recurrent, of_h = self.norm_hh.normalise(linear(h, self.weight_hh_l0), rows[0][t])
            o, c = cell(gate + recurrent, c)
            inner, of_c = self.norm_c.normalise(c, rows[1][t])
            h = o * torch.tanh(inner)
            outputs.append(h)
            used[0].append(of_h)
            used[1].append(of_c)
        for norm, statistics in zip(norms, used):
            mean, spread = (torch.stack(part) for part in zip(*statistics))
            norm.keep((mean, spread))
        return torch.stack(outputs), h, c


VARIANTS = {"frame_wise": FrameWiseLSTM, "per_step": PerStepLSTM}
