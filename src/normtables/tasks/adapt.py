"""Domain adaptation: labelled examples of a source, unlabelled ones of a target, on which accuracy is taken."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.data import Domains
from normtables.errors import UserError, lookup
from normtables.norms.modes import evaluating
from normtables.tasks import TASKS, MeanLoss
from normtables.tasks.adversary import Adversarial
from normtables.tasks.alignment import SUBSPACES, Classifier, check_dimension
from normtables.tasks.augment import Augment, augmented, check
from normtables.tasks.classify import assess, in_memory
from normtables.tasks.discrepancies import Discrepancy, Estimator, covariances, kernels, means
from normtables.tasks.features import outputs_and_features, parts
from normtables.tasks.order import drawn, shuffled
from normtables.tasks.ways import TARGET, WAYS, Ways

Loss = Literal["none", "ddc", "dan", "coral", "revgrad"]


class Batch(NamedTuple):
    """Inputs and classes of the source, inputs of the target (None: not looked at), share of the training done."""

    inputs: Tensor
    targets: Tensor
    others: Tensor | None
    progress: float


class Adaptation(NamedTuple):
    """What is added to the cross-entropy: a loss on features of both domains."""

    loss: Loss
    weight: float
    layers: list[str]
    estimator: Estimator
    critic: list[int]
    apart: bool

    @property
    def discrepancy(self) -> Discrepancy:
        """The loss on one layer's features; RevGrad's is the critic's."""
        return {"ddc": means, "dan": kernels(self.estimator), "coral": covariances}[self.loss]

    def check(self) -> None:
        """Raise UserError for what no loss can be."""
        where = "dataset.task"
        if not self.weight >= 0:
            raise UserError(f"{where}.weight={self.weight}: a number of at least 0")
        if not self.layers or (self.loss == "revgrad" and len(self.layers) != 1):
            raise UserError(f"{where}.layers={self.layers}: at least one part of the model; revgrad takes exactly one")
        if any(width < 1 for width in self.critic):
            raise UserError(f"{where}.critic={self.critic}: every width is at least 1")


class Adapt(MeanLoss):
    """Cross-entropy on the source and a loss on both domains in training; the target's accuracy at evaluation."""

    score, better = "test/accuracy", "higher"

    def __init__(
        self, data: Domains, batch_size: int, seed: int, augment: Augment, adaptation: Adaptation, ways: Ways
    ) -> None:
        self.data, self.batch_size, self.seed, self.augment = data, batch_size, seed, augment
        self.adaptation, self.ways, self.steps = adaptation, ways, 1
        for name, split in (("source", data.train), ("target", data.target)):
            if batch_size > len(split.targets) and (name == "source" or adaptation.loss != "none"):
                raise UserError(
                    f"batch_size={batch_size}: the {name} has {len(split.targets)} examples; no more will do"
                )
            check(augment, split.inputs)
        self.sizes = {"inputs": tuple(data.train.inputs.shape[1:]), "outputs": data.classes}
        self.clock = {"step": 1, "epoch": len(data.train.targets) // batch_size}
        counts = torch.bincount(data.test.targets, minlength=data.classes)
        self.chance = 100 * counts.max().item() / len(data.test.targets)  # the commonest class of the target

    def pace(self, steps: int) -> None:
        """The updates of the run, of which RevGrad's schedule counts the share that is done."""
        self.steps = max(1, steps)

    def extend(self, model: nn.Module) -> nn.Module:
        """The model, with RevGrad's classifier of domains beside it; raises UserError where it lacks a part."""
        self.ways.check(model)
        if any(way.align in SUBSPACES for way in self.ways.ways.values()):
            check_dimension(self.ways.dimension, self.width(model, self.ways.features))
        if self.adaptation.loss != "none":
            parts(model, self.adaptation.layers)
        if self.adaptation.loss != "revgrad":
            return model
        return Adversarial(model, self.width(model, self.adaptation.layers[0]), self.adaptation.critic)

    def width(self, model: nn.Module, name: str) -> int:
        """The number of features that a part gives, from one example sent through in evaluation mode."""
        train = self.data.train
        one = train.inputs.index_select(0, torch.zeros(1, dtype=torch.long, device=train.targets.device))
        with evaluating(model):
            _, (features,) = outputs_and_features(model, one.cpu().float(), [name])
        return features.shape[1]

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """Each domain's examples in new orders, epoch by epoch of its own, incomplete last batches left out."""
        ours, size = self.data.train, self.batch_size
        device, steps = ours.targets.device, self.clock["epoch"]
        source = drawn(lambda epoch: self.order(len(ours.targets), epoch).to(device), steps, size, step)
        for (number, chosen), others in zip(source, self.others(step)):
            inputs = augmented(self.augment, ours.inputs, chosen, self.seed, number)
            yield Batch(inputs, ours.targets.index_select(0, chosen), others, min(1.0, number / self.steps))

    def others(self, step: int) -> Iterator[Tensor | None]:
        """The target's batches from update `step` on, endlessly; None where the loss does not look at them."""
        inputs, device = self.data.target.inputs, self.data.target.targets.device
        if self.adaptation.loss == "none":
            while True:
                yield None
        count = len(self.data.target.targets)
        steps = count // self.batch_size
        for number, chosen in drawn(
            lambda epoch: self.order(count, TARGET + epoch).to(device), steps, self.batch_size, step
        ):
            yield augmented(self.augment, inputs, chosen, self.seed, -1 - number)

    def order(self, examples: int, epoch: int) -> Tensor:
        """The order of a domain's examples in an epoch: a function of seed and epoch alone."""
        return shuffled(examples, self.seed, epoch)

    def examples(self) -> tuple[Tensor, Tensor]:
        """All of the source's training examples; raises UserError for images that lie on disk."""
        return in_memory(self.data.train)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy on the source, nats, and the weighted loss on features of both domains."""
        if batch.others is None:
            return functional.cross_entropy(model(batch.inputs), batch.targets)
        outputs, source, target = self.both(model, batch.inputs, batch.others)
        if isinstance(model, Adversarial):
            distance = model.dispute(source[0], target[0], batch.progress)
        else:
            distance = torch.stack([self.adaptation.discrepancy(*pair) for pair in zip(source, target)]).sum()
        return functional.cross_entropy(outputs, batch.targets) + self.adaptation.weight * distance

    def both(self, model: nn.Module, inputs: Tensor, others: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The source's outputs, and features of source and target, one [n, d] a layer."""
        layers = self.adaptation.layers
        if self.adaptation.apart:
            outputs, source = outputs_and_features(model, inputs, layers)
            return outputs, source, outputs_and_features(model, others, layers)[1]
        outputs, features = outputs_and_features(model, torch.cat([inputs, others]), layers)
        n = len(inputs)
        return outputs[:n], [part[:n] for part in features], [part[n:] for part in features]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy (percent) on the source's held-out examples, accuracy on the target by each way."""
        found: dict[str, float] = {}
        if not all(way.align for way in self.ways.ways.values()):
            loss, error = assess(model, self.data.valid)
            found = {"valid/loss": loss, "valid/accuracy": 100 - error}
        return found | self.ways.metrics(model)


@TASKS.register("adapt", version=1)
def adapt(
    data: Domains,
    batch_size: int,
    seed: int,
    *,
    loss: Loss = "none",
    weight: float = 1.0,
    layers: list[str],
    estimator: Estimator = "linear",
    critic: list[int],
    apart: bool = False,
    augment: Augment = "none",
    ways: list[str],
    statistics: Literal["exact", "cumulative"] = "exact",
    adapted_layers: int | None = None,
    target_examples: int | None = None,
    features: str = "hidden",
    classifier: Classifier = "svm",
    dimension: int = 20,
    shift: bool = False,
) -> Adapt:
    """Domain adaptation on `data` in batches of `batch_size` of each domain, ordered and augmented by `seed`.

    loss: what is added to the source's cross-entropy, `weight` times, from features of both domains: "ddc", "dan",
    "coral" (Deep CORAL), summed over `layers`, or "revgrad"; "none": no target batch goes through the network.
    layers: parts of the network by name, "outputs" for its own outputs, "hidden" for what its last linear layer is
    given. estimator: of DAN's MMD. critic: widths of the hidden layers of RevGrad's classifier of domains. apart:
    source and target go through the network one after the other, each batch-normalized by itself, and not as one
    batch; running statistics are of both either way. augment: see `normtables.tasks.augment`.
    ways: how the target is classified, the first one is the score: "source" by the network as it was trained, "adabn"
    with the target's statistics, "features", "sa", "gfk" and "coral" by a `classifier` on the part `features` of the
    network, aligned so, and the same with "adabn_" in front.
    statistics: how AdaBN takes them. adapted_layers: the first (or, below 0, the last) so many norm layers; null: all.
    target_examples: images of the target that AdaBN looks at; null: all. dimension: of the subspaces of SA and GFK.
    shift: whether the divergence between the domains at each norm layer is measured.
    """
    if target_examples is not None and target_examples < 2:
        raise UserError(f"dataset.task.target_examples={target_examples}: at least 2, or null for all")
    if not ways:
        raise UserError("dataset.task.ways=[]: at least one way to classify the target")
    for name in ways:
        lookup(WAYS, name, "way to classify the target")
    adaptation = Adaptation(loss, weight, layers, estimator, critic, apart)
    adaptation.check()
    readout = Ways(
        data,
        batch_size,
        seed,
        ways,
        statistics,
        adapted_layers,
        target_examples,
        features,
        classifier,
        dimension,
        shift,
    )
    return Adapt(data, batch_size, seed, augment, adaptation, readout)
