"""Classification: one of several classes for each example, tensors in memory."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from normtables.data import Dataset, Split
from normtables.errors import UserError
from normtables.tasks import TASKS, Divided, MeanLoss
from normtables.tasks.augment import Augment, augmented, check
from normtables.tasks.order import by_class, drawn, shuffled
from normtables.world import World

Batch = tuple[Tensor, Tensor]
EVALUATED = 10_000  # examples in one forward pass of an evaluation of flat inputs
EVALUATED_VALUES = 800_000  # input values in one forward pass of an evaluation: wide networks fill memory


class Classify(MeanLoss, Divided):
    """Cross-entropy in training; loss, error and accuracy in percent at evaluation, on the valid and test splits."""

    score, better = "test/error", "lower"

    def __init__(self, data: Dataset, batch_size: int, seed: int, by_class: bool, gap: int, augment: Augment) -> None:
        examples = len(data.train.targets)
        if batch_size > examples:
            raise UserError(f"batch_size={batch_size}: the training set has {examples} examples; no more will do")
        check(augment, data.train.inputs)
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.by_class, self.gap, self.augment = by_class, gap, augment
        self.sizes = {"inputs": tuple(data.train.inputs.shape[1:]), "outputs": data.classes}
        self.clock = {"step": 1, "epoch": examples // batch_size}
        # A model that always says the commonest class.
        counts = torch.bincount(data.test.targets, minlength=data.classes)
        self.chance = 100 * (1 - counts.max().item() / len(data.test.targets))

    def divide(self, world: World, apart: bool) -> None:
        """Refuse to measure the gap where statistics are of parts: it is taken on whole batches."""
        if self.gap and apart:
            raise UserError(f"dataset.task.gap={self.gap} looks at whole batches: take batch_statistics=synchronised")
        super().divide(world, apart)

    def order(self, epoch: int) -> Tensor:
        """The order of the training examples in an epoch: a function of seed and epoch alone."""
        targets = self.data.train.targets
        if self.by_class:
            return by_class(targets, self.batch_size, self.seed, epoch)
        return shuffled(len(targets), self.seed, epoch).to(targets.device)

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """(inputs [batch, ...], targets [batch]): each epoch a new order, the incomplete last batch left out."""
        inputs, targets = self.data.train.inputs, self.data.train.targets
        for number, chosen in drawn(self.order, self.clock["epoch"], self.batch_size, step):
            images = augmented(self.augment, inputs, chosen, self.seed, number, self.world.part(len(chosen)))
            yield images, targets.index_select(0, self.mine(chosen))

    def examples(self) -> Batch:
        """All training examples, for a model that is fitted; raises UserError for images that lie on disk."""
        return in_memory(self.data.train)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, nats per example."""
        inputs, targets = batch
        return functional.cross_entropy(model(inputs), targets)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss (nats per example), error and accuracy (percent) on valid and test."""
        found: dict[str, float] = {}
        for name, split in (("valid", self.data.valid), ("test", self.data.test)):
            loss, error = assess(model, split)
            found |= {f"{name}/loss": loss, f"{name}/error": error, f"{name}/accuracy": 100 - error}
        if self.gap:
            found["train/gap"] = gap(model, islice(self.batches(model, 0), self.gap))
        return found


def in_memory(split: Split) -> Batch:
    """All examples of a split; raises UserError for images that lie on disk."""
    if not isinstance(split.inputs, Tensor):
        raise UserError("a model that is fitted at once needs its data in memory; these images are read from disk")
    return split.inputs, split.targets


def assess(model: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy and error in percent over a split."""
    size = max(1, min(EVALUATED, EVALUATED_VALUES // split.inputs[0].numel()))
    loss, wrong = 0.0, 0
    for inputs, targets in zip(split.inputs.split(size), split.targets.split(size)):
        outputs = model(inputs).float()
        loss += functional.cross_entropy(outputs, targets, reduction="sum").item()
        wrong += int((outputs.argmax(1) != targets).sum())
    return loss / len(split.targets), 100 * wrong / len(split.targets)


def gap(model: nn.Module, batches: Iterator[Batch]) -> float:
    """How far the outputs in training mode are from those in evaluation mode on the same training batches, in percent.

    100 sqrt(sum |f_train(x) - f_eval(x)|^2 / sum |f_eval(x) - mean f_eval|^2) over examples and outputs. The model's
    state, its mode (evaluation) and the sources of randomness are left as they were.
    """
    pairs = []
    for inputs, _ in batches:
        expected = model(inputs).double()
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.train()
        with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
            pairs.append((functional_call(model, buffers, (inputs,)).double(), expected))
        model.eval()
    training, evaluated = (torch.cat(outputs) for outputs in zip(*pairs))
    spread = (evaluated - evaluated.mean(0)).square().sum().item()
    distance = (training - evaluated).square().sum().item()
    return 100 * math.sqrt(distance / spread) if spread else math.nan


@TASKS.register("classify", version=1)
def classify(
    data: Dataset,
    batch_size: int,
    seed: int,
    *,
    batches: Literal["shuffled", "by_class"] = "shuffled",
    gap: int = 0,
    augment: Augment = "none",
) -> Classify:
    """Classification on `data` in batches of `batch_size`, ordered and augmented by `seed`.

    batches: "shuffled" examples, or batches "by_class": each of one class (of neighbouring ones where a class ends), in
    random order. gap: on how many training batches the distance between the two modes' outputs is taken, 0: it is not.
    augment: see `normtables.tasks.augment`.
    """
    if gap < 0:
        raise UserError(f"dataset.task.gap={gap}: a number of training batches, or 0")
    return Classify(data, batch_size, seed, batches == "by_class", gap, augment)
