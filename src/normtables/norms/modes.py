"""The modes of a model's modules, training or evaluation, and how they are put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Every module's own mode is put back at the end, whatever happened to it meanwhile."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients for a while."""
    with modes_kept(model), torch.no_grad():
        model.eval()
        yield
