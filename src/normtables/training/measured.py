"""What a run costs, without making it: how much it is of, and the time of a few updates and of one evaluation."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from normtables.config import facts, spelled, steps_of
from normtables.data import Games, load
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import Kit, Method
from normtables.norms.modes import evaluating
from normtables.tasks import TASKS
from normtables.training.loop import Diverged
from normtables.training.run import Training, silent

UPDATES, SECONDS = 20, 0.5  # an update is timed so often, or less once they have taken so long
EVALUATED = 1.0  # seconds; an evaluation that takes longer is not made but estimated from forward passes
FITTED = 2000  # training examples; the fit of a support vector machine to twice as many can take a minute
OVERHEAD = 100_000  # weights that cost about what an update costs before any arithmetic, at 64 examples a batch


class Size(NamedTuple):
    """How much a run is of: updates (0: it is fitted), evaluations and training examples.

    `work` is a guess, known before anything is measured, of what it costs beside others of its kind.
    """

    updates: int
    evaluations: int
    examples: int
    work: float


class Cost(NamedTuple):
    """Seconds of an update (of the fit, where there is none) and of an evaluation."""

    update: float
    evaluation: float


class Volume(NamedTuple):
    """What of a data set matters here: the task's clock and sizes, and the examples to learn from."""

    clock: Mapping[str, int]
    sizes: Mapping[str, Any]
    examples: int


class Sizes:
    """The sizes of runs by their facts; each data set is loaded once, each network built once and without memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volumes: dict[str, Volume | UserError] = {}
        self.weights: dict[str, int] = {}

    def of(self, known: Mapping[str, Any]) -> Size:
        """The size of a run; raises UserError for one that is not measured: its data are not here, its fit is long."""
        volume = self.volume(known)
        updates, every = (steps_of(spelled(known[key]), key, volume.clock) for key in ("budget", "evaluate"))
        if not updates and volume.examples > FITTED:
            raise UserError(f"fits to more than {FITTED:,} examples are not measured, they may take hours")
        work = updates * (OVERHEAD + self.network(known["model"], volume.sizes)) if updates else volume.examples
        return Size(updates, max(1, -(-updates // every)), volume.examples, work)

    def volume(self, known: Mapping[str, Any]) -> Volume:
        """What of a run's data set matters; raises what loading it raised."""
        key = json.dumps([known["dataset"], known["batch_size"], known["seeds"]["data"]], sort_keys=True)
        if key not in self.volumes:
            try:
                data = load(known["dataset"], self.root, known["seeds"]["data"])
                if isinstance(data, Games):
                    raise UserError("games are not measured: what an update takes is known once the memory is filled")
                task = TASKS.build(known["dataset"]["task"], data, known["batch_size"], known["seeds"]["order"])
                self.volumes[key] = Volume(task.clock, task.sizes, length(data.train))
            except UserError as error:
                self.volumes[key] = error
        found = self.volumes[key]
        if isinstance(found, UserError):
            raise found
        return found

    def network(self, model: Mapping[str, Any], sizes: Mapping[str, Any]) -> int:
        """The number of weights of a network without a method, as large as the first data set wants it."""
        key = json.dumps(model, sort_keys=True)
        if key not in self.weights:
            try:
                with torch.device("meta"):
                    built = MODELS.build(model, Kit(Method()), sizes)
                self.weights[key] = sum(p.numel() for p in built.parameters())
            except RuntimeError:  # a model that looks at its weights' values while it is built
                self.weights[key] = 0
        return self.weights[key]


def length(part: Any) -> int:
    """How many examples, recordings or symbols a split has."""
    return len(part if isinstance(part, Tensor) else getattr(part, fields(part)[-1].name))


def cost(cfg: DictConfig, folder: Path) -> Cost:
    """Build a run and time it; `folder` stays empty. Learning rates are 0, so that nothing diverges."""
    training = Training(cfg, facts(cfg), folder, silent)
    training.schedule, training.every = lambda done, rows: 0.0, 1
    pauses, now = training.pauses(), clock(training.device)
    if not training.steps:
        fit = timed(now, lambda: next(pauses))
        return Cost(fit, timed(now, lambda: training.scores(last=False)))
    times: list[float] = []
    while len(times) <= UPDATES and sum(times[1:]) < SECONDS:
        began = now()
        with suppress(Diverged):  # a loss that is not finite from the start; there is no further update then
            if next(pauses, None) is None:
                break
        times.append(now() - began)
    return Cost(statistics.median(times[1:] or times), evaluation(training, cfg, now))


def evaluation(training: Training, cfg: DictConfig, now: Callable[[], float]) -> float:
    """Seconds of an evaluation, where it is long as many forward passes of a training batch as its examples fill."""
    forward = training.forward(training.model)
    with evaluating(training.model):
        forward()
        each = timed(now, forward)
    data = load(training.known["dataset"], Path(cfg.data.root), cfg.seeds.data)
    assert not isinstance(data, Games)  # refused before
    share = (length(data.valid) + length(data.test)) / length(data.train)
    guess = each * training.task.clock["epoch"] * share
    return guess if guess > EVALUATED else timed(now, lambda: training.scores(last=False))


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds that this process has computed, which other programs hardly disturb; on the wall where it does not
    compute alone, with a GPU or in several threads."""

    def waited() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else waited


def timed(now: Callable[[], float], act: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = now()
    act()
    return now() - began
