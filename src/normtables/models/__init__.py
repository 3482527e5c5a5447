"""Networks, each written once for every normalization method."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from normtables.errors import lookup
from normtables.registry import Registry

Sizes = Mapping[str, Any]  # what the task says a model must fit: {"inputs": (1, 28, 28), "outputs": 10}

MODELS: Registry[nn.Module] = Registry("model", "normtables.models")


def glorot_uniform(weight: Tensor) -> None:
    """Glorot & Bengio 2010, equation 16: U(-a, a), a = sqrt(6 / (fan_in + fan_out)); bias 0."""
    nn.init.xavier_uniform_(weight)


def he_normal(weight: Tensor) -> None:
    """He et al. 2015, equation 10: N(0, 2 / fan_in); bias 0."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def lecun_normal(weight: Tensor) -> None:
    """LeCun et al. 1998, section 4.6: N(0, 1 / fan_in); bias 0."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear")


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def nonlinearity(name: str) -> Callable[[], nn.Module]:
    """What makes the nonlinearity that `model.activation` names; raises UserError for an unknown one."""
    return lookup(ACTIVATIONS, name, "activation")


INITS = {"glorot_uniform": glorot_uniform, "he_normal": he_normal, "lecun_normal": lecun_normal}


def initialise(model: nn.Module, scheme: str) -> None:
    """Draw all weights of linear and convolution layers anew by `scheme`; "torch" leaves torch's or the model's own."""
    if scheme != "torch":
        draw_all(model, INITS[scheme])


def draw_all(model: nn.Module, scheme: Callable[[Tensor], object]) -> None:
    """Draw all weights of linear and convolution layers anew by a function that fills a tensor; biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            draw(layer, scheme)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw(layer: nn.Module, scheme: Callable[[Tensor], object], name: str = "weight") -> None:
    """Draw a layer's weight anew by a function that fills a tensor, also where the weight is parametrised."""
    current = getattr(layer, name)
    assert isinstance(current, Tensor)
    with torch.no_grad():
        weight = torch.empty_like(current)
        scheme(weight)
        if is_parametrized(layer, name):
            setattr(layer, name, weight)
        else:
            current.copy_(weight)
