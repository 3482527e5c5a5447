"""Several yes-or-no questions about each example at once, not all of them answered in the data."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.data import Multilabel, Split
from normtables.errors import UserError
from normtables.tasks import TASKS, Divided, MeanLoss
from normtables.tasks.order import drawn, shuffled

Batch = tuple[Tensor, Tensor]
EVALUATED = 10_000  # examples in one forward pass of an evaluation


class Masked(MeanLoss, Divided):
    """Cross-entropy of the known labels; at evaluation the mean area under the ROC curve over the tasks, in percent."""

    score, better, chance = "test/auc", "higher", 50.0

    def __init__(self, data: Multilabel, batch_size: int, seed: int) -> None:
        examples = len(data.train.targets)
        if batch_size > examples:
            raise UserError(f"batch_size={batch_size}: the training set has {examples} examples; no more will do")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.sizes = {"inputs": tuple(data.train.inputs.shape[1:]), "outputs": data.train.targets.shape[1]}
        self.clock = {"step": 1, "epoch": examples // batch_size}

    def order(self, epoch: int) -> Tensor:
        """The order of the training examples in an epoch: a function of seed and epoch alone."""
        return shuffled(len(self.data.train.targets), self.seed, epoch).to(self.data.train.targets.device)

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """(inputs [batch, ...], targets [batch, tasks]): each epoch a new order, the incomplete last batch left out."""
        inputs, targets = self.data.train.inputs, self.data.train.targets
        for _, chosen in drawn(self.order, self.clock["epoch"], self.batch_size, step):
            mine = self.mine(chosen)
            yield inputs.index_select(0, mine), targets.index_select(0, mine)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """`masked_loss` of a batch, nats per example."""
        inputs, targets = batch
        return masked_loss(model(inputs), targets) / len(targets)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss (nats per example) and mean area under the curve (percent) on valid and test."""
        found: dict[str, float] = {}
        for name, split in (("valid", self.data.valid), ("test", self.data.test)):
            outputs = torch.cat([model(inputs).float() for inputs in split.inputs.split(EVALUATED)])
            loss = masked_loss(outputs, split.targets).item() / len(split.targets)
            found |= {f"{name}/loss": loss, f"{name}/auc": mean_auc(outputs, split.targets)}
        return found


def masked_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The sum of -log p(label) over examples and tasks; a missing label (NaN) counts for nothing, in gradients too.

    Divided by the number of examples it is DeepTox's (Unterthiner et al. 2015, arXiv 1503.01445): tasks are summed,
    not averaged.
    """
    known = ~targets.isnan()
    losses = functional.binary_cross_entropy_with_logits(outputs, targets.where(known, 0), reduction="none")
    return losses.where(known, 0).sum()


def mean_auc(outputs: Tensor, targets: Tensor) -> float:
    """The mean of `auc` in percent over the tasks of which examples of both labels are known, the others left out."""
    areas = []
    for scores, labels in zip(outputs.unbind(1), targets.unbind(1)):
        known = ~labels.isnan()
        if len(labels[known].unique()) == 2:
            areas.append(auc(scores[known], labels[known] == 1))
    return 100 * sum(areas) / len(areas)


def auc(scores: Tensor, positive: Tensor) -> float:
    """The area under the ROC curve: the share of pairs in which the positive example [n] scores higher, ties half.

    The Mann-Whitney statistic by average ranks; NaN where a score is NaN.
    """
    if scores.isnan().any():
        return math.nan
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    ones = int(positive.sum())
    return (ranks[positive].sum().item() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones))


def decided(split: Split) -> bool:
    """Whether some task has known examples of both labels."""
    return bool(((split.targets == 0).any(0) & (split.targets == 1).any(0)).any())


@TASKS.register("multilabel", version=1)
def multilabel(data: Multilabel, batch_size: int, seed: int) -> Masked:
    """All tasks of `data` at once in batches of `batch_size` ordered by `seed`; labels may be missing.

    Raises UserError for data with one class an example, and where no task has both labels in a split.
    """
    if not isinstance(data, Multilabel):
        raise UserError("dataset.task=multilabel needs a data set with a label for each of several tasks, as tox21 has")
    for name, split in (("valid", data.valid), ("test", data.test)):
        if not decided(split):
            raise UserError(f"dataset.task=multilabel: no task has examples of both labels in the {name} split")
    return Masked(data, batch_size, seed)
