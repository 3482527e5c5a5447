"""What named parts of a network give, read while the network works."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from normtables.errors import UserError, nearest
from normtables.tasks.adversary import network_of

OUTPUTS = "outputs"  # the network's own outputs, beside the names of its parts
HIDDEN = "hidden"  # what its last linear layer is given


@contextmanager
def captured(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Names to the outputs of these parts (HIDDEN: the inputs of the last linear layer) in the newest forward pass.

    A compiled model runs uncompiled, so that they are seen. Raises UserError for a part that the model lacks.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda part, inputs, output: found.__setitem__(name, inputs[0] if name == HIDDEN else output)

    handles = [part.register_forward_hook(keep(name)) for name, part in parts(model, names).items()]
    try:
        with torch.compiler.set_stance("force_eager") if handles else nullcontext():
            yield found
    finally:
        for handle in handles:
            handle.remove()


def parts(model: nn.Module, names: Iterable[str]) -> Mapping[str, nn.Module]:
    """The named parts of the network; its outputs, under the name OUTPUTS, need none."""
    known = dict(network_of(model).named_modules())
    linear = [part for part in known.values() if isinstance(part, nn.Linear)]
    known |= {HIDDEN: linear[-1]} if linear else {}
    wanted = [name for name in names if name != OUTPUTS]
    for name in wanted:
        if not name or name not in known:
            raise UserError(
                f"this model has no part {name!r}{nearest(name, known)}; it has {', '.join(filter(None, known))}"
            )
    return {name: known[name] for name in wanted}


def outputs_and_features(model: nn.Module, inputs: Tensor, names: Iterable[str]) -> tuple[Tensor, list[Tensor]]:
    """The network's outputs, and what each named part gave, [n, d] in the outputs' precision."""
    with captured(model, names) as found:
        outputs: Tensor = model(inputs)
    return outputs, [found.get(name, outputs).flatten(1).to(outputs.dtype) for name in names]
