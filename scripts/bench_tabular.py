"""Measures updates of the small networks of Tables 5 and 6 against a bare loop and the processor's peak, and fits.

Prints a markdown table; asserts nothing. The networks learn noise of 64 features, the classical models are fitted to
it, all on one thread. On the CPU times are the process's CPU seconds, which other programs disturb less.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench_images import operations
from bench_trainer import CLOCK, bare_turn, finished, measure, trainer_turn, training_of
from measure import Row, interleaved, ratios, row
from normtables.config import Composer
from normtables.models.classical import Classical
from normtables.training.run import Training

BATCH = 64
CLASSICAL = ("svm", "random_forest", "nearest_neighbour", "naive_bayes", "logistic_regression", "boosted_trees")


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, updates in a round (a divisor of 50), depths, width, side of the product that
    measures the peak, examples of a fit, classical models."""

    rounds: int
    updates: int
    depths: tuple[int, ...]
    width: int
    product: int
    examples: int
    models: tuple[str, ...]


FULL = Effort(20, 10, (2, 8, 32), 256, 1024, 1000, CLASSICAL)
QUICK = Effort(2, 1, (2,), 16, 64, 100, ("svm", "naive_bayes"))


def settings(effort: Effort, norm: str, depth: int) -> dict[str, Any]:
    """A run of a network as Table 5 has it: plain SGD, batches of 64."""
    return {
        "model": "fnn",
        "model.depth": depth,
        "model.width": effort.width,
        "norm": norm,
        "dataset": "noise",
        "dataset.shape": [64],
        "optim": "sgd",
        "optim.lr": 0.001,
        "batch_size": BATCH,
        "budget": "1000000steps",
    }


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """torch's, fused."""
    return torch.optim.SGD(model.parameters(), lr=0.001, fused=True)


def product_turn(side: int, device: torch.device) -> Callable[[], None]:
    """One large matrix product, the nearest that a program comes to the processor's peak: 2 side^3 operations."""
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)

    def turn() -> None:
        torch.mm(a, b)
        finished(device)

    return turn


def updates(composer: Composer, effort: Effort) -> Iterator[Row]:
    """Updates a second of the trainer, its time over a bare loop's, and the share of the peak that it reaches."""
    for norm in ("bn", "snn"):
        for depth in effort.depths:
            yield from network(composer, effort, norm, depth)


def network(composer: Composer, effort: Effort, norm: str, depth: int) -> Iterator[Row]:
    """The rows of one network."""
    runs = [training_of(composer, settings(effort, norm, depth), effort.updates) for _ in range(2)]
    work = operations(runs[1], BATCH)
    turns = {
        "trainer": trainer_turn(runs[0]),
        "bare": bare_turn(runs[1], BATCH, effort.updates, sgd),
        "product": product_turn(effort.product, runs[0].device),
    }
    times = interleaved(turns, effort.rounds, CLOCK)
    name = f"fnn, {norm}, depth {depth}, width {effort.width}, batch {BATCH}"
    rates = [effort.updates / time for time in times["trainer"]]
    yield row(f"updates a second, {name}", "", rates, ".3g", detail=f"{work / 1e6:.3g} Mflop an update")
    each = [1000 * statistics.median(times[variant]) / effort.updates for variant in ("trainer", "bare")]
    detail = f"{each[0]:.3g} over {each[1]:.3g} ms an update"
    yield row(f"trainer over bare loop, {name}", "", ratios(times["trainer"], times["bare"]), ".3f", detail=detail)
    scale = 100 * effort.updates * work / (2 * effort.product**3)
    shares = [scale * ratio for ratio in ratios(times["product"], times["trainer"])]
    peak = 2 * effort.product**3 / statistics.median(times["product"]) / 1e9
    yield row(f"share of the peak, {name}", "", shares, ".3g", "%", f"{peak:.3g} Gflop a second in a large product")


def fits(composer: Composer, effort: Effort) -> Iterator[Row]:
    """Seconds of one fit of each classical model, with the defaults of its file."""
    common = {"dataset": "noise", "dataset.shape": [64], "dataset.train": effort.examples, "batch_size": BATCH}
    turns = {}
    for name in effort.models:
        run = training_of(composer, {**common, "model": name, "norm": "none", "budget": "0steps"}, 1)
        turns[name] = fit_turn(run)
    for name, times in interleaved(turns, max(2, effort.rounds // 5), CLOCK).items():
        yield row(f"a fit of {name}, {effort.examples:,} examples of 64 features, 10 classes", "", times, ".3g", "s")


def fit_turn(training: Training) -> Callable[[], None]:
    """One fit of a training's model to its data."""
    model, task = training.model, training.task
    assert isinstance(model, Classical)
    return lambda: model.fit(*task.examples(), 0)  # type: ignore[attr-defined]


Part = Callable[[Composer, Effort], Iterator[Row]]
PARTS: dict[str, Part] = {"updates": updates, "fits": fits}


if __name__ == "__main__":
    measure("Tables of numbers", __doc__, PARTS, (FULL, QUICK))
