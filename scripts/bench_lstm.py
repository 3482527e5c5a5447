"""Measures LSTM layers with normalization over torch's, updates of the language model with them, and the trainer.

Prints a markdown table; asserts nothing. The networks learn random words, on one thread. On the CPU times are the
process's CPU seconds, which other programs disturb less.
"""

import itertools
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench_trainer import CLOCK, ON_CUDA, finished, trainer_turn, training_of
from measure import Row, Times, interleaved, options, ratios, row, show
from normtables.config import Composer
from normtables.norms import METHODS, Kit
from normtables.training.run import Training

FRAME_WISE = {"norm": "bn_recurrent", "norm.evaluation": "published"}
METHODS_HERE: dict[str, dict[str, Any]] = {
    "torch": {"norm": "none"},
    "frame-wise BN": FRAME_WISE,
    "recurrent BN": {"norm": "bn_recurrent", "norm.variant": "per_step"},
    "LN": {"norm": "ln"},
}
AIMS = {"frame-wise BN": "at most 2.0"}
STREAMS = 32


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, updates in a round (divisors of 50, where the loop pauses anyway), different words,
    and the networks by (size, units, unroll)."""

    rounds: int
    updates: int
    words: int
    width: float
    sizes: tuple[tuple[str, int, int], ...]


FULL = Effort(rounds=8, updates=2, words=10_000, width=1, sizes=(("small", 200, 20), ("medium", 650, 35)))
QUICK = Effort(rounds=2, updates=1, words=50, width=0.05, sizes=(("small", 10, 20),))


def against(times: Mapping[str, Times], updates: int, what: str) -> Iterator[Row]:
    """Each method's times over those of torch's layers."""
    each = {name: 1000 * statistics.median(found) / updates for name, found in times.items()}
    for name in METHODS_HERE:
        if name != "torch":
            detail = f"{each[name]:.3g} over {each['torch']:.3g} ms"
            yield row(f"{what}, {name}", AIMS.get(name, ""), ratios(times[name], times["torch"]), ".2f", detail=detail)


def turn_of(layer: nn.Module, x: Tensor, push: Tensor) -> Callable[[], None]:
    """Forward and backward of a layer."""

    def turn() -> None:
        layer(x)[0].backward(push)
        finished(x.device)

    return turn


def layers(composer: Composer, effort: Effort, path: Path) -> Iterator[Row]:
    """An LSTM layer with normalization over torch's."""
    device = torch.device("cuda" if ON_CUDA else "cpu")
    torch.set_num_threads(1)
    for _, units, time in effort.sizes:
        x, push = (torch.randn(time, STREAMS, units, device=device) for _ in range(2))
        x.requires_grad_()
        turns = {}
        for name, settings in METHODS_HERE.items():
            given = {key.replace("norm.", "").replace("norm", "name"): value for key, value in settings.items()}
            layer = Kit(METHODS.build(given)).recurrent(units, units).to(device)
            turns[name] = turn_of(layer, x, push)
        times = interleaved(turns, 3 * effort.rounds, CLOCK)
        yield from against(times, 1, f"layer over torch's, [{time}, {STREAMS}, {units}]")


def settings_of(effort: Effort, size: str, unroll: int, path: Path) -> dict[str, Any]:
    """The run of Table 8 with this size, on a text of random words."""
    return {
        "dataset": "text",
        "dataset.path": str(path),
        "dataset.task.unroll": unroll,
        "model": "lstm",
        "model.size": size,
        "model.width": effort.width,
        "optim.lr": 0.1,
        "optim.clip": 5,
        "batch_size": STREAMS,
        "budget": "1000000steps",
    }


def updates(composer: Composer, effort: Effort, path: Path) -> Iterator[Row]:
    """Updates of the language model with normalization over those of the plain one, in the trainer."""
    for size, _, unroll in effort.sizes:
        common = settings_of(effort, size, unroll, path)
        turns = {
            name: trainer_turn(training_of(composer, common | more, effort.updates))
            for name, more in METHODS_HERE.items()
        }
        times = interleaved(turns, effort.rounds, CLOCK)
        yield from against(times, effort.updates, f"update over the plain one's, {size}, {effort.words:,} words")


class Plain(nn.Module):
    """The network as one would write it by hand, with torch's LSTM of two layers."""

    def __init__(self, words: int, units: int, dropout: float) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(words, units), nn.Linear(units, words)
        self.lstm, self.dropout = nn.LSTM(units, units, 2, dropout=dropout), nn.Dropout(dropout)

    def forward(self, words: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Scores and the state behind them."""
        y, state = self.lstm(self.dropout(self.embedding(words)), state)
        return self.head(self.dropout(y)), state


def bare_turn(training: Training, steps: int) -> Callable[[], None]:
    """One turn of a loop written by hand: the same windows, loss times the window's length, clipping, torch's SGD."""
    task, model = training.task, training.model
    windows = [w[:2] for w in itertools.islice(task.batches(model, 0), task.clock["epoch"])]
    plain = Plain(model.head.out_features, model.head.in_features, model.dropouts[0].p)  # type: ignore
    plain.to(training.device)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, fused=True)

    def updated() -> Iterator[None]:
        state = None
        for inputs, targets in itertools.cycle(windows):
            outputs, state = plain(inputs, state)
            state = tuple(part.detach() for part in state)
            loss = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()) * len(inputs)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 5)
            optimizer.step()
            yield

    loop = updated()

    def turn() -> None:
        for _ in range(steps):
            next(loop)
        finished(training.device)

    return turn


def trainer(composer: Composer, effort: Effort, path: Path) -> Iterator[Row]:
    """The trainer's time per update over a bare loop's."""
    for size, _, unroll in effort.sizes:
        common = settings_of(effort, size, unroll, path) | METHODS_HERE["torch"]
        runs = [training_of(composer, common, effort.updates) for _ in range(2)]
        turns = {"trainer": trainer_turn(runs[0]), "bare": bare_turn(runs[1], effort.updates)}
        times = interleaved(turns, effort.rounds, CLOCK)
        each = " over ".join(f"{1000 * statistics.median(times[v]) / effort.updates:.3g}" for v in turns)
        found = ratios(times["trainer"], times["bare"])
        yield row(f"trainer over bare loop, {size}", "at most 1.10", found, ".3f", detail=f"{each} ms an update")


Part = Callable[[Composer, Effort, Path], Iterator[Row]]
PARTS: dict[str, Part] = {"layers": layers, "updates": updates, "trainer": trainer}


def write_words(path: Path, words: int) -> None:
    """A text in which every word comes twenty times, in random order."""
    drawn = [f"w{k}" for k in range(words) for _ in range(20)] * max(1, 2_000 // words)
    random.Random(0).shuffle(drawn)
    path.write_text("\n".join(" ".join(drawn[k : k + 20]) for k in range(0, len(drawn), 20)))


def main() -> None:
    """Measure the parts that the command line names, all by default."""
    asked = options(__doc__, list(PARTS))
    effort = QUICK if asked.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        write_words(path, effort.words)
        rows = [line for part in asked.parts for line in PARTS[part](Composer(), effort, path)]
    show(f"Language models, torch {torch.__version__}, {'CUDA' if ON_CUDA else 'CPU'}, 1 thread", rows)


if __name__ == "__main__":
    main()
