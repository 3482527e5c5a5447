"""RevGrad (Ganin & Lempitsky 2015, arXiv 1409.7495): a classifier of domains behind a reversal of the gradient."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

STEEPNESS = 10.0  # gamma of the schedule


class Reversal(torch.autograd.Function):
    """Equations 11 and 12: the identity, whose gradient is multiplied by -factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        """The input itself."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient turned round."""
        return -ctx.factor * gradient, None


def reversal(progress: float) -> float:
    """Equation 14: the factor of the reversal, from 0 at the start of the training to 1 at its end (progress 0..1)."""
    return 2 / (1 + math.exp(-STEEPNESS * progress)) - 1


class Adversarial(nn.Module):
    """A network with a classifier of domains beside it; called as the network alone."""

    def __init__(self, network: nn.Module, inputs: int, widths: list[int]) -> None:
        super().__init__()
        self.network = network
        layers: list[nn.Module] = []
        for before, width in zip([inputs, *widths], widths):
            layers += [nn.Linear(before, width), nn.ReLU()]
        self.critic = nn.Sequential(*layers, nn.Linear(widths[-1] if widths else inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The network's outputs."""
        outputs: Tensor = self.network(x)
        return outputs

    def dispute(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Mean cross-entropy of the domains, nats, for features [n, inputs]: the critic learns to tell them apart and
        the network, through the reversal, to make that hard."""
        features = torch.cat([source, target])
        logits = self.critic(Reversal.apply(features, reversal(progress)))[:, 0]
        domains = torch.cat([logits.new_zeros(len(source)), logits.new_ones(len(target))])
        return functional.binary_cross_entropy_with_logits(logits, domains)


def network_of(model: nn.Module) -> nn.Module:
    """The network itself, without a critic beside it."""
    return model.network if isinstance(model, Adversarial) else model
