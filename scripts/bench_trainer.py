"""Measures the trainer against a bare loop, other memory formats, a DataLoader's input, and commands without torch.

Prints a markdown table; asserts nothing. The networks learn noise of the shape of the real data, on one thread. On the
CPU their times are the process's CPU seconds, which other programs disturb less; all other times are on the wall.
"""

import contextlib
import itertools
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import ToTensor

from measure import Row, Times, command_times, interleaved, options, ratios, row, show
from normtables.config import Composer, facts
from normtables.data import DATASETS, Dataset, Split
from normtables.tasks import TASKS
from normtables.training.run import Training, silent

NOISE = """# Noise of any shape, for benchmarks.
defaults: [/task@task: classify, _self_]
name: noise
version: 1
shape: [3, 32, 32]
train: 5000
"""
COMMON = {
    "norm": "bn",
    "dataset": "noise",
    "optim": "adagrad",
    "optim.lr": 0.01,
    "batch_size": 100,
    "budget": "1000000steps",
}
CNN4 = {**COMMON, "model": "cnn4"}
MLP = {**COMMON, "model": "mlp", "model.widths": [300, 300], "dataset.shape": [1, 28, 28]}
ON_CUDA = torch.cuda.is_available()
CLOCK = time.perf_counter if ON_CUDA else time.process_time
BATCHES = "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, updates in a round (divisors of 50, where the loop pauses anyway), images."""

    rounds: int
    cnn4: int
    mlp: int
    images: int
    compiled: bool
    commands: int


FULL = Effort(rounds=20, cnn4=5, mlp=50, images=10_000, compiled=shutil.which("c++") is not None, commands=5)
QUICK = Effort(rounds=2, cnn4=1, mlp=2, images=500, compiled=False, commands=1)


@DATASETS.register("noise")
def noise(root: Path, seed: int, *, shape: list[int], train: int) -> Dataset:
    """Uniform noise and random labels of 10 classes."""
    draw = torch.Generator().manual_seed(seed)

    def split(size: int) -> Split:
        return Split(torch.rand(size, *shape, generator=draw), torch.randint(10, (size,), generator=draw))

    return Dataset(split(train), split(100), split(100), classes=10)


@contextlib.contextmanager
def composer_with_noise() -> Iterator[Composer]:
    """A composer that knows the noise, as a user's own --conf-dir would make it known."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dataset").mkdir()
        (Path(folder) / "dataset" / "noise.yaml").write_text(NOISE)
        yield Composer([folder])


def training_of(composer: Composer, settings: Mapping[str, Any], steps: int) -> Training:
    """A training as `execute` builds it, whose loop pauses after every `steps` updates."""
    cfg = composer.config({**settings, "evaluate": f"{steps}steps"})
    return Training(cfg, facts(cfg), Path(), silent)


def adagrad(model: nn.Module) -> torch.optim.Optimizer:
    """torch's; it has a fused one for the CPU only, elsewhere its default is best."""
    choice: dict[str, Any] = {} if ON_CUDA else {"fused": True, "foreach": False}
    return torch.optim.Adagrad(model.parameters(), lr=0.01, eps=1e-6, **choice)


def bare_loop(
    model: nn.Module, inputs: Tensor, targets: Tensor, batch: int, optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """The loop that one would write by hand for a network, data and optimizer; one update per item."""
    while True:
        order = torch.randperm(len(targets)).to(targets.device)
        for chosen in order.split(batch):
            loss = functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def finished(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trainer_turn(training: Training) -> Callable[[], None]:
    """One turn of the trainer's own loop: up to its next pause, evaluation left out."""
    pauses = training.pauses()

    def turn() -> None:
        next(pauses)
        finished(training.device)

    return turn


def bare_turn(
    training: Training, batch: int, steps: int, optimizer: Callable[[nn.Module], torch.optim.Optimizer]
) -> Callable[[], None]:
    """One turn of the bare loop on a training's model and data."""
    split = training.task.data.train  # type: ignore[attr-defined]
    loop = bare_loop(training.model, split.inputs, split.targets, batch, optimizer(training.model))

    def turn() -> None:
        for _ in range(steps):
            next(loop)
        finished(training.device)

    return turn


def overhead(composer: Composer, effort: Effort) -> Iterator[Row]:
    """The trainer's time per update over a bare loop's."""
    cases = (
        ("cnn4, batch 100", "1.03", CNN4, effort.cnn4, 1),
        ("mlp 784-300-300-10, batch 100", "1.10", MLP, effort.mlp, 3),
    )
    for name, aim, settings, steps, more in cases:
        variants = {
            "trainer": trainer_turn(training_of(composer, settings, steps)),
            "bare": bare_turn(training_of(composer, settings, steps), 100, steps, adagrad),
        }
        times = interleaved(variants, more * effort.rounds, CLOCK)
        each = " over ".join(f"{1000 * statistics.median(times[v]) / steps:.3g}" for v in variants)
        yield row(
            f"trainer over bare loop, {name}",
            f"at most {aim}",
            ratios(times["trainer"], times["bare"]),
            ".3f",
            detail=f"{each} ms an update",
        )


def formats(composer: Composer, effort: Effort) -> Iterator[Row]:
    """Time per update of cnn4 by memory format and compilation; the compiled ones where a C++ compiler is found."""
    variants = {}
    for compiled, layout in itertools.product((False, True) if effort.compiled else (False,), ("off", "on")):
        name = ("compiled" if compiled else "eager") + (", channels_last" if layout == "on" else "")
        settings = {**CNN4, "runtime.channels_last": layout, "runtime.compile": compiled}
        variants[name] = trainer_turn(training_of(composer, settings, effort.cnn4))
    times = interleaved(variants, max(2, effort.rounds // 2), CLOCK)
    for name, found in times.items():
        over = statistics.median(ratios(found, times["eager"]))
        milliseconds = [1000 * t / effort.cnn4 for t in found]
        yield row(f"cnn4, batch 100, {name}", "", milliseconds, ".3g", "ms an update", f"{over:.2f} of eager")


class Cifar(CIFAR10):
    """torchvision's data set, on files of its own format whose checksums are not the real ones'."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        self.classes = [str(label) for label in range(10)]


def write_cifar(root: Path, images: int) -> None:
    """A CIFAR-10 of noise: five training batches of images/5 as pickles of bytes [N, 3072] and labels."""
    draw = np.random.default_rng(0)
    folder = root / Cifar.base_folder
    folder.mkdir()
    for name in BATCHES:
        pixels = draw.integers(0, 256, (images // len(BATCHES), 3072), dtype=np.uint8)
        batch = {
            "data": pixels,
            "labels": draw.integers(0, 10, len(pixels)).tolist(),
            "filenames": [],
            "batch_label": name,
        }
        (folder / name).write_bytes(pickle.dumps(batch))


def input_path(composer: Composer, effort: Effort) -> Iterator[Row]:
    """Images a second of the in-memory stream over torchvision's data set in a DataLoader with two workers."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_cifar(Path(folder), effort.images)
        loader: DataLoader[Any] = DataLoader(
            Cifar(folder, transform=ToTensor()), batch_size=100, shuffle=True, num_workers=2, persistent_workers=True
        )
        data = noise(Path(), 0, shape=[3, 32, 32], train=effort.images)
        stream = TASKS.build({"name": "classify"}, data, 100, 0).batches(nn.Identity(), 0)
        variants = {
            "in memory": lambda: [None for _ in itertools.islice(stream, effort.images // 100)],
            "DataLoader": lambda: [None for _ in loader],
        }
        times = interleaved(variants, max(2, effort.rounds // 4))
    rates = " over ".join(f"{effort.images / statistics.median(times[v]):,.0f}" for v in variants)
    gain = ratios(times["DataLoader"], times["in memory"])
    yield row(
        "in-memory input over DataLoader(num_workers=2)", "at least 20", gain, ".0f", detail=f"{rates} images a second"
    )


def imports_torch(words: list[str]) -> bool:
    """Whether a Python command line loads torch."""
    done = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True)
    return re.search(r"\|\s+torch$", done.stderr, re.MULTILINE) is not None


def start(composer: Composer, effort: Effort) -> Iterator[Row]:
    """Wall time of commands that need no torch."""
    empty: Times = command_times(["-c", "pass"], effort.commands)
    for words, aim in ((["--help"], "0.6 s"), (["plan", "3"], "2 s")):
        name, command = f"normtables {' '.join(words)}", ["-m", "normtables", *words]
        try:
            times = command_times(command, effort.commands)
        except RuntimeError as error:
            yield Row(name, f"at most {aim}, no torch", "failed", "", str(error))
            continue
        loaded = "LOADED" if imports_torch(command) else "not loaded"
        detail = f"torch {loaded}; python alone {statistics.median(empty):.2f} s"
        yield row(name, f"at most {aim}, no torch", times, ".2f", "s", detail)


PARTS = {"overhead": overhead, "formats": formats, "input": input_path, "start": start}


def measure(title: str, about: str | None, parts: Mapping[str, Callable[..., Iterator[Row]]], efforts: Any) -> None:
    """Measure the parts that the command line names (all by default) with one of the `efforts` (full, quick), on noise;
    print the table."""
    asked = options(about, list(parts))
    with composer_with_noise() as composer:
        rows = [line for part in asked.parts for line in parts[part](composer, efforts[asked.quick])]
    show(f"{title}, torch {torch.__version__}, {'CUDA' if ON_CUDA else 'CPU'}, 1 thread", rows)


if __name__ == "__main__":
    measure("Trainer", __doc__, PARTS, (FULL, QUICK))
