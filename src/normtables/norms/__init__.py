"""Normalization methods, and the kit that models build from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from normtables.registry import Registry

Norm = Callable[[int, int], nn.Module]  # (channels, trailing dimensions 0, 1 or 2) -> layer


def no_norm(channels: int, dims: int) -> nn.Module:
    """The layer of a method that normalises nothing between the layers."""
    return nn.Identity()


@dataclass(frozen=True)
class Method:
    """A normalization method as what it may touch; every part is optional.

    norm: layer for `channels` features and `dims` trailing dimensions. wrap: around each weight layer. act: instead of
    the model's own activation. shifts: the norm layer adds its own shift, so a bias before it is dropped. after: it
    follows the nonlinearity. prepare(model, forward, clock): once, before training; `forward()` sends one batch
    through the model, `clock` maps a unit to its updates.
    """

    norm: Norm = no_norm
    wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer
    act: Callable[[], nn.Module] | None = None
    shifts: bool = False
    after: bool = False
    prepare: Callable[[nn.Module, Callable[[], Tensor], Mapping[str, int]], None] = lambda model, forward, clock: None


METHODS: Registry[Method] = Registry("norm", "normtables.norms")

LAYERS = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d}


@dataclass(frozen=True)
class Kit:
    """What a model asks for its parts; the method fills it, and the model never learns which method it is."""

    method: Method
    activation: Callable[[], nn.Module] = field(default=nn.ReLU)

    @property
    def bias(self) -> bool:
        """Whether a weight layer in front of a norm layer keeps its bias."""
        return self.method.after or not self.method.shifts

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        """A fully connected layer in front of `norm_act`: [n, inputs] to [n, outputs]."""
        return self.method.wrap(nn.Linear(inputs, outputs, bias=self.bias))

    def conv(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, dims: int = 2
    ) -> nn.Module:
        """A convolution in front of `norm_act`: [n, inputs, ...] to [n, outputs, ...]."""
        return self.method.wrap(LAYERS[dims](inputs, outputs, kernel, stride, padding, bias=self.bias))

    def head(self, inputs: int, outputs: int) -> nn.Module:
        """The last layer: never normalised, always with a bias."""
        return self.method.wrap(nn.Linear(inputs, outputs))

    def norm_act(self, channels: int, dims: int = 0) -> nn.Sequential:
        """The norm layer and the nonlinearity in the method's order, for [n, channels] or [n, channels, ...]."""
        act = (self.method.act or self.activation)()
        norm = self.method.norm(channels, dims)
        return nn.Sequential(act, norm) if self.method.after else nn.Sequential(norm, act)
