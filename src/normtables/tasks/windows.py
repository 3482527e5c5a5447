"""Recordings classified by windows of their frames, as an acoustic model of a hybrid recogniser is trained."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.data import Clips, Recordings
from normtables.errors import UserError
from normtables.tasks import TASKS, Divided, MeanLoss
from normtables.tasks.order import drawn, shuffled

Batch = tuple[Tensor, Tensor]
EVALUATED = 4_000_000  # input values in one forward pass of an evaluation


class Spliced:
    """The windows of a split's recordings: one around each frame, gathered when asked for."""

    def __init__(self, clips: Clips, context: int) -> None:
        ends = clips.lengths.cumsum(0)
        self.clips = clips
        self.owner = torch.repeat_interleave(clips.lengths)  # the recording of each frame
        self.first, self.last = ends - clips.lengths, ends - 1
        self.offsets = torch.arange(-context, context + 1, device=ends.device)

    def __len__(self) -> int:
        return len(self.clips.frames)

    def windows(self, chosen: Tensor) -> Tensor:
        """[n, channels, 2 context + 1, bands] around the frames `chosen`; beyond its ends a recording's first or last
        frame repeats."""
        owner = self.owner[chosen]
        rows = (chosen[:, None] + self.offsets).clamp(self.first[owner, None], self.last[owner, None])
        return self.clips.frames[rows].transpose(1, 2)

    def targets(self, chosen: Tensor) -> Tensor:
        """The classes of the recordings that the frames `chosen` belong to."""
        return self.clips.targets[self.owner[chosen]]


class Windows(MeanLoss, Divided):
    """Cross-entropy of windows in training; a recording's class has the largest sum of its windows' log-posteriors."""

    score, better = "test/error", "lower"

    def __init__(self, data: Recordings, batch_size: int, seed: int, context: int) -> None:
        if context < 0:
            raise UserError(f"dataset.task.context={context}: at least 0 frames to each side")
        self.train, self.valid, self.test = (Spliced(c, context) for c in (data.train, data.valid, data.test))
        if batch_size > len(self.train):
            raise UserError(f"batch_size={batch_size}: the training set has {len(self.train)} windows; no more will do")
        self.batch_size, self.seed = batch_size, seed
        channels, bands = data.train.frames.shape[1:]
        self.sizes = {"inputs": (channels, 2 * context + 1, bands), "outputs": data.classes}
        self.clock = {"step": 1, "epoch": len(self.train) // batch_size}
        # A model that always says the commonest class.
        counts = torch.bincount(data.test.targets, minlength=data.classes)
        self.chance = 100 * (1 - counts.max().item() / len(data.test.targets))

    def order(self, epoch: int) -> Tensor:
        """The order of the training windows in an epoch."""
        return shuffled(len(self.train), self.seed, epoch).to(self.train.owner.device)

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """(windows [batch, channels, time, bands], targets [batch]): each epoch all windows in a new order, the
        incomplete last batch left out."""
        for _, chosen in drawn(self.order, self.clock["epoch"], self.batch_size, step):
            mine = self.mine(chosen)
            yield self.train.windows(mine), self.train.targets(mine)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, nats per window."""
        inputs, targets = batch
        return functional.cross_entropy(model(inputs), targets)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss (nats per window), error of recordings and error of windows (percent) on valid and test."""
        found = {}
        for name, split in (("valid", self.valid), ("test", self.test)):
            for metric, value in zip(("loss", "error", "window_error"), assess(model, split)):
                found[f"{name}/{metric}"] = value
        return found


def assess(model: nn.Module, split: Spliced) -> tuple[float, float, float]:
    """Mean cross-entropy of the windows, error of the recordings and of the windows in percent."""
    frames, targets = split.clips.frames, split.clips.targets
    size = max(1, EVALUATED // (frames[0].numel() * len(split.offsets)))
    loss, wrong, sums = 0.0, 0, None
    for chosen in torch.arange(len(split), device=frames.device).split(size):
        posteriors = functional.log_softmax(model(split.windows(chosen)).double(), 1)
        expected = split.targets(chosen)
        loss += functional.nll_loss(posteriors, expected, reduction="sum").item()
        wrong += int((posteriors.argmax(1) != expected).sum())
        if sums is None:
            sums = posteriors.new_zeros(len(targets), posteriors.shape[1])
        sums.index_add_(0, split.owner[chosen], posteriors)
    assert sums is not None
    missed = int((sums.argmax(1) != targets).sum())
    return loss / len(split), 100 * missed / len(targets), 100 * wrong / len(split)


@TASKS.register("windows", version=1)
def windows(data: Recordings, batch_size: int, seed: int, *, context: int = 5) -> Windows:
    """Windows of `context` frames to each side of a frame, labelled with their recording's class."""
    return Windows(data, batch_size, seed, context)
