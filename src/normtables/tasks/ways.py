"""The ways in which a trained network's target domain is classified: as it is, by AdaBN, by aligned features."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from normtables.data import Domains, Split
from normtables.errors import UserError
from normtables.norms.statistics import has_statistics, order, reestimate, watching
from normtables.tasks.adversary import network_of
from normtables.tasks.alignment import ALIGNMENTS, Aligned, Classifier, predictions
from normtables.tasks.features import OUTPUTS, outputs_and_features, parts
from normtables.tasks.order import shuffled
from normtables.tasks.shift import Moments, divergence, moments

TARGET = 500_000  # epochs of the target's order are counted from here: its draws are not those of the source
EVALUATED_VALUES = 800_000  # input values in one forward pass

Inside = dict[str, Moments]  # a norm layer's name to the moments of what it is given


class Way(NamedTuple):
    """Whether norm layers have the target's statistics, and how features are aligned; none: the network's outputs."""

    adabn: bool
    align: str = ""


WAYS = {"source": Way(False), "adabn": Way(True)}
WAYS |= {name: Way(False, name) for name in ALIGNMENTS} | {f"adabn_{name}": Way(True, name) for name in ALIGNMENTS}


@dataclass(frozen=True)
class Batches:
    """Inputs at given positions, `size` at a time, as often as they are asked for."""

    inputs: Any
    positions: Tensor
    size: int

    def __iter__(self) -> Iterator[Tensor]:
        for chosen in self.positions.split(self.size):
            yield self.inputs.index_select(0, chosen)


@dataclass(frozen=True)
class Ways:
    """What `normtables.tasks.adapt` says of these options, on its data."""

    data: Domains
    batch_size: int
    seed: int
    names: list[str]
    statistics: Literal["exact", "cumulative"]
    adapted_layers: int | None
    target_examples: int | None
    features: str
    classifier: Classifier
    dimension: int
    shift: bool

    @property
    def ways(self) -> dict[str, Way]:
        """The ways by name."""
        return {name: WAYS[name] for name in self.names}

    def check(self, model: nn.Module) -> None:
        """Raise UserError where the model lacks what is asked for, before it is trained."""
        if any(way.align for way in self.ways.values()):
            parts(model, [self.features])
        layers = [layer for layer in model.modules() if has_statistics(layer)]
        if (self.shift or any(way.adabn for way in self.ways.values())) and not layers:
            raise UserError("AdaBN: this model has no layer with running statistics; set norm=bn or dataset.task.ways")
        if self.adapted_layers is not None and not 1 <= abs(self.adapted_layers) <= len(layers):
            raise UserError(f"dataset.task.adapted_layers={self.adapted_layers}: there are {len(layers)} norm layers")

    def metrics(self, model: nn.Module) -> dict[str, float]:
        """`test/accuracy` by the first way and `test/accuracy_WAY` by each, percent of the target's test examples, and
        what `shift` asks for; the model is as before afterwards."""
        scores: dict[str, float] = {}
        inside: list[Inside] = []
        aligned = any(way.align for way in self.ways.values())
        own = self.collect(model, self.data.train, self.features) if aligned else torch.empty(0)
        for adabn in (False, True):
            wanted = {name: way.align for name, way in self.ways.items() if way.adabn == adabn}
            if wanted or self.shift:
                with self.adapted(model) if adabn else nullcontext():
                    scores |= self.measured(model, wanted, own)
                    inside += [self.moments(model, self.unlabelled())] if self.shift else []
        found = {"test/accuracy": scores[self.names[0]]}
        found |= {f"test/accuracy_{name}": scores[name] for name in self.names}
        return found | (self.shifts(model, *inside) if self.shift else {})

    def measured(self, model: nn.Module, wanted: dict[str, str], own: Tensor) -> dict[str, float]:
        """Accuracies of ways (name -> alignment) that share the network's state; `own`: features of the source."""
        found, data, seen = {}, self.data, torch.empty(0)
        if any(wanted.values()):
            tested = self.collect(model, data.test, self.features)
            seen = tested if data.target is data.test else self.collect(model, data.target, self.features)
        for name, align in wanted.items():
            if align:
                space = Aligned(align, own, seen, self.dimension)
                said = predictions(self.classifier, space.source(own), data.train.targets, space.target(tested))
            else:
                said = self.classes(model)
            found[name] = 100 * (said == data.test.targets).double().mean().item()
        return found

    def classes(self, model: nn.Module) -> Tensor:
        """The classes of the target's test examples by the network's outputs."""
        outputs = self.collect(model, self.data.test, OUTPUTS)
        if outputs.shape[1] != self.data.classes:
            raise UserError(
                f"this model gives {outputs.shape[1]} features and no classes: name ways that classify them, as in"
                " dataset.task.ways=[features] with dataset.task.classifier=nearest"
            )
        return outputs.argmax(1)

    def collect(self, model: nn.Module, split: Split, name: str) -> Tensor:
        """What a part of the network, or the network itself, gives for all examples of a split, [n, d]."""
        size = max(1, EVALUATED_VALUES // math.prod(split.inputs.shape[1:]))
        return torch.cat([outputs_and_features(model, part, [name])[1][0] for part in split.inputs.split(size)])

    @contextmanager
    def adapted(self, model: nn.Module) -> Iterator[None]:
        """AdaBN for a while: statistics of the target instead of the source; those are put back, bit for bit."""
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            reestimate(model, self.unlabelled(), self.statistics, layers=self.layers(model))
            yield
        finally:
            for buffer, old in before:
                buffer.copy_(old)

    def unlabelled(self) -> Batches:
        """The target's images that AdaBN looks at, drawn by the seed; cumulative averages are over whole batches."""
        examples = len(self.data.target.targets)
        chosen = shuffled(examples, self.seed, TARGET)[: self.target_examples]
        if self.statistics == "cumulative" and len(chosen) > self.batch_size:
            chosen = chosen[: len(chosen) // self.batch_size * self.batch_size]
        return Batches(self.data.target.inputs, chosen.to(self.data.target.targets.device), self.batch_size)

    def layers(self, model: nn.Module) -> Iterable[nn.Module] | None:
        """The norm layers that are adapted, in the order of the forward pass; None: all."""
        if self.adapted_layers is None:
            return None
        with watching(model):
            found = order(model, [layer for layer in model.modules() if has_statistics(layer)], self.unlabelled())
        return found[: self.adapted_layers] if self.adapted_layers > 0 else found[self.adapted_layers :]

    def shifts(self, model: nn.Module, before: Inside, after: Inside) -> dict[str, float]:
        """`shift/layer` and `shift_adabn/layer`: the divergence between source and target of what each norm layer is
        given, both with the source's statistics, and with the target's for the target."""
        train = self.data.train
        rows = torch.arange(len(train.targets), device=train.targets.device)
        ours = self.moments(model, Batches(train.inputs, rows, self.batch_size))
        found = {f"shift/{name}": divergence(ours[name], before[name]) for name in ours}
        return found | {f"shift_adabn/{name}": divergence(ours[name], after[name]) for name in ours}

    def moments(self, model: nn.Module, batches: Batches) -> Inside:
        """What each norm layer is given, by its name in the network."""
        layers = {name: layer for name, layer in network_of(model).named_modules() if has_statistics(layer)}
        with watching(model):
            return moments(model, layers, batches)
