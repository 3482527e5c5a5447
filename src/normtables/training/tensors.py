"""Tensors as a run has them: those of a data set on its device, and a digest of all weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


def on(data: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A data set (nested dataclasses) with its tensors on a device, floating-point ones in the run's precision."""
    if isinstance(data, torch.Tensor):
        return data.to(device, dtype) if data.is_floating_point() else data.to(device)
    if is_dataclass(data) and not isinstance(data, type):
        return replace(data, **{f.name: on(getattr(data, f.name), device, dtype) for f in fields(data)})
    return data


def digest_of(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Sixteen digits of the SHA-256 of all weights and buffers of a model or its state, in order."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            if tensor.dim()
            else str(tensor.item()).encode()
        )
    return digest.hexdigest()[:16]
