"""Language models: the next word or character of parallel streams of text, the state carried between windows."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.data import Text
from normtables.errors import UserError
from normtables.tasks import TASKS, Divided

Batch = tuple[Tensor, Tensor, bool]  # inputs and targets [time, streams], whether the state starts from zeros


class Streams:
    """A text as `count` parallel streams in windows of `unroll` symbols; what is left at the ends is left out."""

    def __init__(self, text: Tensor, count: int, unroll: int) -> None:
        length = len(text) // count
        self.symbols = text[: count * length].view(count, length).t().contiguous()  # [length, streams]
        self.unroll, self.windows = unroll, max(0, length - 1) // unroll

    def window(self, number: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets [unroll, streams]: the targets are one symbol ahead."""
        first = number * self.unroll
        return self.symbols[first : first + self.unroll], self.symbols[first + 1 : first + self.unroll + 1]


class Language(Divided):
    """Cross-entropy times the window's length in training; perplexities as Laurent et al. (arXiv 1510.01378) take them.

    An epoch is two equal halves of the windows in their order (an odd one is left out); the state is zero at the
    beginning of each, so what a batch is follows from the update's number. The model is called with inputs
    [time, streams] and whether its state starts from zeros, gives [time, streams, symbols], and carries its state.
    """

    score, better, dim = "valid/ppl", "lower", 1

    def __init__(self, data: Text, batch_size: int, unroll: int) -> None:
        if unroll < 1:
            raise UserError(f"dataset.task.unroll={unroll}: at least 1 step")
        self.splits = {name: Streams(getattr(data, name), batch_size, unroll) for name in ("train", "valid", "test")}
        for name, least in (("train", 2), ("valid", 1), ("test", 1)):
            if self.splits[name].windows < least:
                raise UserError(
                    f"batch_size={batch_size}, dataset.task.unroll={unroll}: the {name} text has "
                    f"{len(getattr(data, name)):,} symbols, it takes {batch_size * (least * unroll + 1):,}"
                )
        self.batch_size, self.unroll, self.half = batch_size, unroll, self.splits["train"].windows // 2
        self.sizes = {"inputs": (unroll,), "outputs": len(data.symbols), "streams": batch_size}
        self.clock = {"step": 1, "epoch": 2 * self.half}
        self.chance = unigram(data)

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """The windows in their order, from zeros at each half of an epoch; UserError for a model without state."""
        if not hasattr(model, "carried"):
            raise UserError("this data set is a text: take a network that carries its state, model=lstm")
        return self.windows(step)

    def windows(self, step: int) -> Iterator[Batch]:
        """Endless windows from update `step` on."""
        while True:
            part = self.world.part(self.batch_size)
            number = step % self.clock["epoch"]
            inputs, targets = self.splits["train"].window(number)
            yield inputs[:, part], targets[:, part], number % self.half == 0
            step += 1

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Nats per stream: the mean cross-entropy over streams and time, times the window's length."""
        return entropy(model, batch) * self.unroll

    def tally(self, loss: Tensor) -> Tensor:
        """The loss, and the perplexity of its batch."""
        loss = loss.double()
        return torch.stack([loss, (loss / self.unroll).exp()])

    def trained(self, means: list[float]) -> dict[str, float]:
        """The loss (nats per window and stream) and the scores since the last row, dropout on, weights moving."""
        return {"train/loss": means[0], **scores("train", means[0] / self.unroll, means[1])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss (nats per symbol) and scores of valid and test, in as many streams as in training."""
        found: dict[str, float] = {}
        for name in ("valid", "test"):
            split = self.splits[name]
            batches = ((*split.window(number), number == 0) for number in range(split.windows))
            losses = torch.stack([entropy(model, batch).double() for batch in batches])
            loss, perplexity = losses.mean().item(), losses.exp().mean().item()
            found |= {f"{name}/loss": loss, **scores(name, loss, perplexity)}
        return found


def entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch, nats per symbol."""
    inputs, targets, fresh = batch
    return functional.cross_entropy(model(inputs, fresh).flatten(0, 1), targets.flatten())


def scores(split: str, loss: float, perplexity: float) -> dict[str, float]:
    """ppl, the mean over batches of exp(loss), as published; ppl_mean, exp of the mean loss; bits per symbol."""
    mean = math.exp(loss) if loss < 700 else math.inf
    return {f"{split}/ppl": perplexity, f"{split}/ppl_mean": mean, f"{split}/bits": loss / math.log(2)}


def unigram(data: Text) -> float:
    """Perplexity on valid of a model that knows how often each symbol comes in training (each once more than that)."""
    counts = torch.bincount(data.train, minlength=len(data.symbols)).double() + 1
    return (counts / counts.sum()).log()[data.valid].mean().neg().exp().item()


@TASKS.register("language", version=1)
def language(data: Text, batch_size: int, seed: int, *, unroll: int = 20) -> Language:
    """The next symbol of `batch_size` parallel streams of text, in windows of `unroll` steps; `seed` draws nothing."""
    return Language(data, batch_size, unroll)
