"""Running statistics taken anew over given examples: AdaBN, precise batch normalization."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from normtables.errors import UserError, lookup
from normtables.norms.bn_recurrent import StepNorm
from normtables.norms.brn import BatchRenorm
from normtables.norms.dbn import DiminishingBatchNorm
from normtables.norms.l1bn import GAUSSIAN, L1BatchNorm
from normtables.norms.modes import evaluating
from normtables.norms.wn_mean import MeanOnlyBatchNorm

Both = tuple[Tensor, Tensor]  # mean and spread or scale, [channels] each, float64
Parts = tuple[bool, bool]  # whether the mean and whether the scale is replaced
Watch = Callable[[nn.Module, tuple[Tensor, ...]], None]  # what is called before a layer: (layer, its arguments)


@dataclass(frozen=True)
class Form:
    """How a layer keeps its statistics.

    buffers: names of those of mean and scale, or of the mean alone. power: a spread is the mean of |x - mean|^power.
    scale: from the layer and a spread to what the second buffer holds. unbiased: averages over batches are of the
    unbiased variance.
    """

    buffers: tuple[str, ...]
    power: Literal[1, 2]
    scale: Callable[[Any, Tensor], Tensor]
    unbiased: bool = False


# A new layer with running statistics adds its form here from its own module.
FORMS: dict[type[nn.Module], Form] = {
    _BatchNorm: Form(("running_mean", "running_var"), 2, lambda layer, variance: variance, unbiased=True),
    DiminishingBatchNorm: Form(("mu", "scale"), 2, lambda layer, variance: layer.statistic(variance)),
    BatchRenorm: Form(BatchRenorm.names, 2, lambda layer, variance: (variance + layer.epsilon).sqrt()),
    L1BatchNorm: Form(L1BatchNorm.names, 1, lambda layer, deviation: GAUSSIAN * deviation),
    MeanOnlyBatchNorm: Form(("running_mean",), 2, lambda layer, variance: variance),
}
PARTS: dict[str, Parts] = {"both": (True, True), "mean": (True, False), "scale": (False, True)}


def reestimate(
    model: nn.Module,
    batches: Iterable[Any],
    how: Literal["exact", "cumulative"] = "exact",
    which: Literal["both", "mean", "scale"] = "both",
    layers: Iterable[nn.Module] | None = None,
) -> None:
    """Take the running statistics of every layer that has them anew over `batches`, in place.

    batches: what the model takes, or tuples or lists that begin with it, as loaders give.
    how="exact": layer by layer, mean and spread over all examples together (biased, in float64), while all earlier
    layers normalise by their new statistics already: AdaBN (Li et al. 2016, arXiv 1603.04779). Goes through the
    batches once for each layer, twice where the spread is a mean absolute deviation.
    how="cumulative": one pass in which each layer normalises a batch by the batch's own statistics; the averages of
    these over the batches are kept, as torch.optim.swa_utils.update_bn does with torch's layers.
    which: whether mean and scale are replaced, or only one of them.
    layers: these alone, of those that have running statistics; the others keep theirs and normalise by them.

    All modules are in evaluation mode meanwhile (dropout off); weights, counters and each module's mode stay as they
    were. Raises UserError for unknown words, a model without such layers or with statistics by position in an LSTM, no
    batches, an iterator where several passes are needed, and a layer used twice in a pass, which has no exact ones.
    """
    take = lookup({"exact": exact, "cumulative": cumulative}, how, "way to take statistics")
    parts = lookup(PARTS, which, "part of the statistics")
    chosen = [layer for layer in model.modules() if has_statistics(layer)]
    if any(isinstance(layer, StepNorm) for layer in model.modules()):
        raise UserError("LSTM layers keep statistics by position, not taken anew here: set norm.evaluation=batch")
    if not chosen:
        raise UserError("the model has no layer with running statistics: nothing to take anew")
    if layers is not None:
        only = set(layers)
        chosen = [layer for layer in chosen if layer in only]
    with watching(model):
        take(model, chosen, batches, parts)


def exact(model: nn.Module, layers: list[nn.Module], batches: Iterable[Any], parts: Parts) -> None:
    """Population statistics, one layer after the other in the order of the forward pass."""
    if iter(batches) is batches:
        raise UserError("exact statistics go through the batches several times: give a list or a loader")
    for layer in order(model, layers, batches):
        put(layer, population(model, layer, batches), parts)


def order(model: nn.Module, layers: list[nn.Module], batches: Iterable[Any]) -> list[nn.Module]:
    """The layers in the order in which a forward pass uses them."""
    found: list[nn.Module] = []
    with watched(layers, lambda layer, inputs: found.append(layer)):
        model(next(each(batches)))
    if len(found) > len(set(found)):
        raise UserError("a forward pass uses a layer twice, so it has no exact statistics: take how='cumulative'")
    return found


def population(model: nn.Module, layer: nn.Module, batches: Iterable[Any]) -> Both:
    """Mean and scale of a layer over all batches; the variance as in Chan, Golub & LeVeque 1983."""
    form, count = form_of(layer), 0
    mean = spread = torch.zeros((), dtype=torch.float64)
    for rows in inputs_of(model, layer, batches):
        newest = rows.mean(1)
        count += rows.shape[1]
        share, step = rows.shape[1] / count, newest - mean
        variance = (1 - share) * spread + share * deviation(rows, newest, 2)
        mean, spread = mean + share * step, variance + share * (1 - share) * step.square()
    if form.power == 1:
        parts = (deviation(rows, mean, 1) * (rows.shape[1] / count) for rows in inputs_of(model, layer, batches))
        spread = sum(parts, torch.zeros_like(mean))
    return mean, form.scale(layer, spread)


class Reached(Exception):
    """A forward pass has come to the layer that is asked about; its argument is the layer's input."""


def inputs_of(model: nn.Module, layer: nn.Module, batches: Iterable[Any]) -> Iterator[Tensor]:
    """What a layer is given for each batch, by `rows_of`; forward passes go no further."""

    def stop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise Reached(inputs[0])

    for inputs in each(batches):
        with watched([layer], stop):
            try:
                model(inputs)
            except Reached as reached:
                found = rows_of(reached.args[0])
        yield found


def cumulative(model: nn.Module, layers: list[nn.Module], batches: Iterable[Any], parts: Parts) -> None:
    """Averages over the batches of the statistics of each."""
    before = {layer: [value.clone() for value in held(layer)] for layer in layers}
    taken: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

    def take(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        form, rows = form_of(layer), rows_of(inputs[0])
        values = rows.shape[1]
        if values < 2:
            raise UserError("a batch with one value per channel has no spread: give larger batches")
        mean = rows.mean(1)
        spread = deviation(rows, mean, form.power)
        put(layer, (mean, form.scale(layer, spread)), PARTS["both"])
        scale = form.scale(layer, spread * values / (values - 1) if form.unbiased else spread)
        old = taken.get(layer, (mean, scale, 0))
        share = 1 / (old[2] + 1)
        taken[layer] = torch.lerp(old[0], mean, share), torch.lerp(old[1], scale, share), old[2] + 1

    try:
        with watched(layers, take):
            for inputs in each(batches):
                model(inputs)
    finally:
        for layer, old in before.items():
            put(layer, old, PARTS["both"])
    for layer, (mean, scale, _) in taken.items():
        put(layer, (mean, scale), parts)


def has_statistics(layer: nn.Module) -> bool:
    """Whether a layer keeps running statistics in a known form."""
    return isinstance(layer, tuple(FORMS)) and getattr(layer, form_of(layer).buffers[0]) is not None


def form_of(layer: nn.Module) -> Form:
    """The form of a layer's statistics."""
    return next(form for kind, form in FORMS.items() if isinstance(layer, kind))


def held(layer: nn.Module) -> list[Tensor]:
    """A layer's statistics themselves, not copies."""
    return [getattr(layer, name) for name in form_of(layer).buffers]


def put(layer: nn.Module, values: Iterable[Tensor], parts: Parts) -> None:
    """Replace the chosen statistics of a layer."""
    for buffer, value, chosen in zip(held(layer), values, parts):
        if chosen:
            buffer.copy_(value)


def rows_of(x: Tensor) -> Tensor:
    """[n, channels, ...] to [channels, values] in float64."""
    return x.transpose(0, 1).flatten(1).double()


def deviation(rows: Tensor, mean: Tensor, power: int) -> Tensor:
    """The mean of |x - mean|^power, [channels]."""
    return (rows - mean[:, None]).abs().pow(power).mean(1)


def each(batches: Iterable[Any]) -> Iterator[Any]:
    """What the model takes of each batch; raises UserError where there is none."""
    empty = True
    for batch in batches:
        empty = False
        yield batch[0] if isinstance(batch, tuple | list) else batch
    if empty:
        raise UserError("no batches to take statistics over")


@contextmanager
def watched(layers: list[nn.Module], watch: Watch) -> Iterator[None]:
    """Call `watch` before each use of these layers."""
    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watching(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, uncompiled so that hooks act."""
    with evaluating(model), torch.compiler.set_stance("force_eager"):
        yield
