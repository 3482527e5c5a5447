"""Normalization methods, and the kit that models build from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from normtables.registry import Registry

Norm = Callable[[int, int], nn.Module]  # (channels, trailing dimensions 0, 1 or 2) -> layer
Make = Callable[[], nn.Module]  # makes a nonlinearity
Hook = Callable[[nn.Module, Callable[[], Tensor], Mapping[str, int]], None]  # (model, forward, clock)


def no_norm(channels: int, dims: int) -> nn.Module:
    """The layer of a method that normalises nothing between the layers."""
    return nn.Identity()


def as_it_is(layer: nn.Module) -> nn.Module:
    """The layer itself."""
    return layer


def nothing(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """A hook that does nothing."""


class Maxout(nn.Module):
    """Goodfellow et al. 2013 (arXiv 1302.4389), equation 3: the largest of `pieces` pre-activations for each unit.

    [n, pieces * channels, ...] to [n, channels, ...]; channels j, j + channels, ... are the pieces of unit j.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """As max-pooling over images whose rows are pieces: on the CPU that is far faster than torch.amax."""
        rows = x.movedim(1, -1)
        channels = rows.shape[-1] // self.pieces
        images = rows.reshape(-1, self.pieces, 1, channels).permute(0, 3, 1, 2)  # as channels-last memory has them
        best = functional.max_pool2d(images, (self.pieces, 1))
        return best.reshape(*rows.shape[:-1], channels).movedim(-1, 1)

    def extra_repr(self) -> str:
        """The number of pieces."""
        return f"{self.pieces}"


@dataclass(frozen=True)
class Method:
    """A normalization method as what it may touch; every part is optional.

    norm: layer for `channels` features and `dims` trailing dimensions.
    wrap: around each weight layer, the last one included.
    act: makes the nonlinearity, given what makes the model's own. maxout: the same where that is the largest of a
    number of pre-activations, which takes fewer channels out than in.
    dropout: layer for a rate. pool: around each pooling layer. inputs: a layer in front of the network.
    recurrent: LSTM layer for numbers of inputs and hidden units, called as torch's; torch's own where the paper of the
    method has no recurrent network.
    shifts: the norm layer adds its own shift, so a bias before it is dropped. after: it follows the nonlinearity.
    init: draws weights, after the configuration's own scheme has drawn them.
    prepare: once, before training; `forward()` sends the next training batch through the model in training mode and
    gives the loss, `clock` maps a unit to its updates.
    optimizer: what updates the model, given the configuration's optimizer.
    settle: once, after the last update and before the last evaluation, with `forward` as for `prepare` but without
    gradient.
    """

    norm: Norm = no_norm
    wrap: Callable[[nn.Module], nn.Module] = as_it_is
    act: Callable[[Make], nn.Module] = lambda make: make()
    maxout: Callable[[int], nn.Module] = Maxout
    dropout: Callable[[float], nn.Module] = nn.Dropout
    pool: Callable[[nn.Module], nn.Module] = as_it_is
    inputs: Make = nn.Identity
    recurrent: Callable[[int, int], nn.Module] = nn.LSTM
    shifts: bool = False
    after: bool = False
    init: Callable[[nn.Module], None] = lambda model: None
    prepare: Hook = nothing
    optimizer: Callable[[nn.Module, Optimizer], Optimizer] = lambda model, optimizer: optimizer
    settle: Hook = nothing


METHODS: Registry[Method] = Registry("norm", "normtables.norms")

LAYERS = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d}


@dataclass(frozen=True)
class Kit:
    """What a model asks for its parts; the method fills it, and the model never learns which method it is."""

    method: Method
    activation: Make = field(default=nn.ReLU)

    def using(self, activation: Make) -> "Kit":
        """This kit with another nonlinearity."""
        return replace(self, activation=activation)

    @property
    def bias(self) -> bool:
        """Whether a weight layer in front of a norm layer keeps its bias."""
        return self.method.after or not self.method.shifts

    def inputs(self) -> nn.Module:
        """The first layer, for inputs of any shape."""
        return self.method.inputs()

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        """A fully connected layer in front of `norm_act`: [n, inputs] to [n, outputs]."""
        return self.method.wrap(nn.Linear(inputs, outputs, bias=self.bias))

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dims: int = 2,
        bias: bool = True,
    ) -> nn.Module:
        """A convolution in front of a norm layer: [n, inputs, ...] to [n, outputs, ...]; bias=False: never one."""
        return self.method.wrap(LAYERS[dims](inputs, outputs, kernel, stride, padding, bias=bias and self.bias))

    def head(self, inputs: int, outputs: int) -> nn.Module:
        """The last layer: never normalised, always with a bias."""
        return self.method.wrap(nn.Linear(inputs, outputs))

    def norm_act(self, channels: int, dims: int = 0) -> nn.Sequential:
        """The norm layer and the nonlinearity in the method's order, for [n, channels] or [n, channels, ...]."""
        act = self.method.act(self.activation)
        norm = self.method.norm(channels, dims)
        return nn.Sequential(act, norm) if self.method.after else nn.Sequential(norm, act)

    def norm(self, channels: int, dims: int = 0) -> nn.Module:
        """The norm layer where the network has no nonlinearity behind it."""
        return self.method.norm(channels, dims)

    def act(self) -> nn.Module:
        """The nonlinearity where a sum comes between the norm layer and it."""
        return self.method.act(self.activation)

    def norm_maxout(self, channels: int, pieces: int, dims: int = 0) -> nn.Sequential:
        """The norm layer and maxout units in the method's order, [n, pieces * channels, ...] to [n, channels, ...].

        In front of the maximum the norm layer sees all pieces, behind it the units.
        """
        maxout = self.method.maxout(pieces)
        if self.method.after:
            return nn.Sequential(maxout, self.method.norm(channels, dims))
        return nn.Sequential(self.method.norm(pieces * channels, dims), maxout)

    def dropout(self, rate: float) -> nn.Module:
        """Dropout with a rate in [0, 1)."""
        return self.method.dropout(rate)

    def pool(self, layer: nn.Module) -> nn.Module:
        """A pooling layer."""
        return self.method.pool(layer)

    def recurrent(self, inputs: int, hidden: int) -> nn.Module:
        """An LSTM layer: ([time, n, inputs], state) to ([time, n, hidden], state), a state two of [1, n, hidden]."""
        return self.method.recurrent(inputs, hidden)
