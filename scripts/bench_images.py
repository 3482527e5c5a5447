"""Measures updates of the image networks, what they wait for data, and the whitening of CIFAR-10.

Prints a markdown table; asserts nothing. Networks learn noise of the shape of the real data, on one thread; numpy's
products in the whitening have all. On the CPU updates are measured in the process's CPU seconds, which other programs
disturb less.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench_trainer import CLOCK, bare_turn, measure, trainer_turn, training_of
from measure import Row, interleaved, ratios, row
from normtables.config import Composer
from normtables.data.prep import prepared
from normtables.training.run import Training


@dataclass(frozen=True)
class Case:
    """A network with bn, its images, and torchvision's nearest one with batch normalization, on images of `side`."""

    name: str
    shape: tuple[int, int, int]
    batch: int
    nearest: str
    side: int
    set: Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, updates in a round, images that are whitened (three quarters for training) and
    their pixels a side."""

    rounds: int
    updates: int
    whitened: int
    side: int
    cases: tuple[Case, ...]


NIN = Case("nin, 32 px", (3, 32, 32), 128, "resnet18", 80, {"model": "nin", "model.dropout": [0, 0]})
SMALL = Case("bn_inception, 32 px", (3, 32, 32), 32, "googlenet", 80, {"model": "bn_inception"})
LARGE = Case("bn_inception, 224 px", (3, 224, 224), 32, "googlenet", 224, {"model": "bn_inception"})
FULL = Effort(rounds=10, updates=2, whitened=60_000, side=32, cases=(NIN, SMALL, LARGE))
QUICK = Effort(rounds=2, updates=1, whitened=600, side=8, cases=(replace(NIN, batch=8),))


def settings(case: Case) -> dict[str, Any]:
    """The run of a case: 640 images of noise, SGD with momentum and L2."""
    return {
        "norm": "bn",
        "optim": "sgd",
        "optim.lr": 0.001,
        "optim.momentum": 0.9,
        "optim.weight_decay": 1e-4,
        "dataset": "noise",
        "dataset.shape": list(case.shape),
        "dataset.train": 640,
        "batch_size": case.batch,
        "budget": "1000000steps",
        **case.set,
    }


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """torch's, fused."""
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4, fused=True)


def rival(case: Case, device: torch.device) -> SimpleNamespace:
    """torchvision's network with data of its own, as far as `bare_turn` and `operations` look at a training."""
    more = {"aux_logits": False, "init_weights": False} if case.nearest == "googlenet" else {}
    model = torchvision.models.get_model(case.nearest, num_classes=10, **more)
    model = model.to(device, memory_format=torch.channels_last)
    split = SimpleNamespace(
        inputs=torch.rand(640, 3, case.side, case.side, device=device), targets=torch.randint(10, (640,), device=device)
    )
    return SimpleNamespace(model=model, device=device, task=SimpleNamespace(data=SimpleNamespace(train=split)))


def operations(training: Any, batch: int) -> float:
    """Floating-point operations of convolutions and products, forward and backward, of one update (a product and a sum
    are two)."""
    with FlopCounterMode(display=False) as counter:
        training.model(training.task.data.train.inputs[:batch]).sum().backward()
    training.model.zero_grad()
    return counter.get_total_flops()


def updates(composer: Composer, effort: Effort) -> Iterator[Row]:
    """The trainer's time per update over a bare loop's, and per operation over that of torchvision's network."""
    for case in effort.cases:
        runs = [training_of(composer, settings(case), effort.updates) for _ in range(2)]
        other = rival(case, runs[0].device)
        counts = [operations(run, case.batch) for run in (runs[1], other)]
        turns = {
            "trainer": trainer_turn(runs[0]),
            "bare": bare_turn(runs[1], case.batch, effort.updates, sgd),
            "rival": bare_turn(other, case.batch, effort.updates, sgd),  # type: ignore[arg-type]
        }
        times = interleaved(turns, effort.rounds, CLOCK)
        each = {name: statistics.median(found) / effort.updates for name, found in times.items()}
        yield row(
            f"trainer over bare loop, {case.name}, batch {case.batch}",
            "",
            ratios(times["trainer"], times["bare"]),
            ".3f",
            detail=f"{each['trainer']:.3g} over {each['bare']:.3g} s an update",
        )
        rates = [n / each[name] / 1e9 for n, name in zip(counts, ("trainer", "rival"))]
        yield row(
            f"trainer over {case.nearest} at {case.side} px in a bare loop, per operation, {case.name}",
            "",
            [ratio * counts[1] / counts[0] for ratio in ratios(times["trainer"], times["rival"])],
            ".3f",
            detail=" and ".join(
                f"{n / 1e9:.0f} Gflop an update ({rate:.0f} a second)" for n, rate in zip(counts, rates)
            ),
        )


def waiting(composer: Composer, effort: Effort) -> Iterator[Row]:
    """The share of an update that goes into drawing its batch: against one batch that is there already."""
    for case in effort.cases:
        drawing, resting = (training_of(composer, settings(case), effort.updates) for _ in range(2))
        turns = {"drawing": trainer_turn(drawing), "resting": trainer_turn(at_rest(resting))}
        times = interleaved(turns, 2 * effort.rounds, CLOCK)
        shares = [100 * (1 - ratio) for ratio in ratios(times["resting"], times["drawing"])]
        yield row(f"share of an update spent on its batch, {case.name}", "under 1 % on a GPU", shares, ".2f", "%")


def at_rest(training: Training) -> Training:
    """The training, whose every batch is the same one."""
    batch = next(training.task.batches(training.model, 0))
    training.task.batches = lambda model, step: repeat(batch)  # type: ignore[method-assign]
    return training


def whitening(composer: Composer, effort: Effort) -> Iterator[Row]:
    """GCN and ZCA of CIFAR-10's size, fitted and applied, wall seconds on two threads."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (effort.whitened, 3, effort.side, effort.side), dtype=np.uint8)
    parts = np.split(pixels, [effort.whitened * 3 // 4, effort.whitened * 5 // 6])
    times = interleaved(
        {"prep": lambda: prepared(parts, "unit", "gcn_zca")}, max(1, effort.rounds // 5), time.perf_counter
    )
    what = f"GCN and ZCA of {effort.whitened:,} images of 3 x {effort.side} x {effort.side}"
    yield row(f"{what}, {len(parts[0]):,} for training", "under 60 s", times["prep"], ".3g", "s")


Part = Callable[[Composer, Effort], Iterator[Row]]
PARTS: dict[str, Part] = {"updates": updates, "waiting": waiting, "whitening": whitening}


if __name__ == "__main__":
    measure("Images", __doc__, PARTS, (FULL, QUICK))
