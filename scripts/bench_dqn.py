"""Measures deep Q-learning: agent steps with learning against acting alone, where the time goes, replay sampling
against lists of transitions, and the trainer against a loop written by hand in the structure of CleanRL's.

Prints a markdown table; asserts nothing. The game is Breakout with the settings of Table 4, on one thread. On the CPU
times are the process's CPU seconds, the emulator's thread included, which other programs disturb less.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench_trainer import CLOCK, ON_CUDA, finished, trainer_turn
from dqn_by_hand import ACTIONS, EVERY, SIDE, Frames, Network, Stacks, learn
from measure import Row, interleaved, options, ratios, row, show
from normtables.config import Composer, facts
from normtables.norms.modes import evaluating
from normtables.tasks.dqn import DQN
from normtables.tasks.playing import TESTING, Players, greedy, observed, source
from normtables.tasks.replay import Replay
from normtables.training.run import Training, silent


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, updates in a round (a divisor of 50), transitions that samples are drawn from,
    random steps before learning, width of the network."""

    rounds: int
    updates: int
    transitions: int
    start: int
    width: float


FULL = Effort(rounds=15, updates=10, transitions=50_000, start=2_000, width=1)
QUICK = Effort(rounds=2, updates=1, transitions=200, start=40, width=0.1)


def filters(effort: Effort) -> list[int]:
    """Of the three convolutions."""
    return [max(1, round(n * effort.width)) for n in (32, 64, 64)]


def hidden(effort: Effort) -> int:
    """Units of the fully connected layer."""
    return max(1, round(512 * effort.width))


def training_of(composer: Composer, effort: Effort, folder: Path, name: str) -> Training:
    """A training as `execute` builds it, with a folder of its own, past the random steps."""
    settings: dict[str, Any] = {
        "dataset": "atari",
        "model": "nature_cnn",
        "model.filters": filters(effort),
        "model.hidden": hidden(effort),
        "norm": "none",
        "optim": "adam",
        "optim.lr": 1e-4,
        "batch_size": 32,
        "budget": "1000000steps",
        "evaluate": f"{effort.updates}steps",
        "dataset.task.start": effort.start,
        "dataset.task.replay": max(1000, effort.transitions),
        "dataset.task.explore": 1,
        "dataset.task.target": 1000,
    }
    (folder / name).mkdir()
    cfg = composer.config(settings)
    training = Training(cfg, facts(cfg), folder / name, silent)
    next(training.task.batches(training.model, 0))
    return training


def acting_turn(training: Training, effort: Effort) -> Callable[[], None]:
    """Acting and remembering without an update, for as many agent steps."""
    task = training.task
    assert isinstance(task, DQN)

    def turn() -> None:
        with evaluating(training.model):
            task.play(training.model, task.steps + EVERY * effort.updates)
        finished(training.device)

    return turn


def emulator_turn(training: Training, effort: Effort) -> Callable[[], None]:
    """The emulator alone, random actions; games that are over begin anew."""
    assert isinstance(training.task, DQN)
    players, draw = Players(training.task.games, 1, 0, TESTING, lives=True), source(0, TESTING)
    players.begin()

    def turn() -> None:
        for _ in range(EVERY * effort.updates):
            players.step(greedy(np.zeros((1, ACTIONS)), 1.0, draw))

    return turn


def network_turn(training: Training, effort: Effort) -> Callable[[], None]:
    """The network alone: values of one observation for each agent step; of 32 next ones, and the update, for each
    update."""
    task, model, optimizer = training.task, training.model, training.optimizer
    assert isinstance(task, DQN)
    batch = next(task.batches(model, 0))
    one = np.zeros((1, 4, SIDE, SIDE), np.uint8)

    def turn() -> None:
        for _ in range(effort.updates):
            with evaluating(model):
                for _ in range(EVERY):
                    model(observed(one, model)).cpu()
                model(batch[0]).amax(1)
            loss = task.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finished(training.device)

    return turn


def replay_turn(training: Training, effort: Effort) -> Callable[[], None]:
    """The replay memory alone: a row for each agent step, a sample for each update."""
    assert isinstance(training.task, DQN)
    memory, draw = training.task.replay, np.random.default_rng(0)
    frames, nothing = memory.newest()[:, -1], np.zeros(1)

    def turn() -> None:
        for _ in range(effort.updates):
            for _ in range(EVERY):
                memory.add(nothing, nothing, nothing, frames)
            memory.sample(32, draw)

    return turn


def learning(composer: Composer, effort: Effort, folder: Path) -> Iterator[Row]:
    """Agent steps a second with learning and without, and the shares of what they are made of."""
    names = ("learning", "acting", "emulator", "network", "replay")
    makers = (trainer_turn, *(lambda t, make=make: make(t, effort) for make in MAKERS))
    turns = {
        name: make(training_of(composer, effort, folder, name))  # type: ignore[operator]
        for name, make in zip(names, makers)
    }
    times = interleaved(turns, effort.rounds, CLOCK)
    steps = EVERY * effort.updates
    for name, what in (("learning", "with learning"), ("acting", "acting alone"), ("emulator", "emulator alone")):
        rates = [steps / time for time in times[name]]
        detail = f"{1000 * statistics.median(times[name]) / steps:.3g} s for 1,000"
        yield row(f"agent steps a second, {what}", "", rates, ".0f", detail=detail)
    for name in names[2:]:
        shares = [100 * ratio for ratio in ratios(times[name], times["learning"])]
        yield row(f"share of learning, {name}", "", shares, ".3g", "%")


MAKERS = (acting_turn, emulator_turn, network_turn, replay_turn)


def noise_frames(n: int) -> np.ndarray:
    """Frames [n, 84, 84]."""
    return np.random.default_rng(0).integers(256, size=(n, SIDE, SIDE), dtype=np.uint8)


def filled(folder: Path, transitions: int, frames: np.ndarray) -> Replay:
    """A replay memory of these frames, an end every 200."""
    memory = Replay(folder / "replay.bin", (SIDE, SIDE), 4, 1, transitions, 100)
    memory.begin(frames[:1])
    for i in range(transitions):
        frame = frames[(i + 1) % len(frames)][None]
        memory.add(np.array([i % ACTIONS]), np.array([0.0]), np.array([i % 200 == 199]), frame)
    return memory


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """A call so many times."""

    def turn() -> None:
        for _ in range(times):
            call()

    return turn


def sampling(composer: Composer, effort: Effort, folder: Path) -> Iterator[Row]:
    """Batches of 32 from the ring against lists of transitions."""
    frames, draw, batches = noise_frames(500), np.random.default_rng(1), 20
    memory = filled(folder, effort.transitions, frames)
    lists = {
        "of single frames": Frames(effort.transitions, frames).sample,
        "of stacks, a tenth as many": Stacks(max(40, effort.transitions // 10), frames).sample,
    }

    def ring() -> object:
        return memory.sample(32, draw)

    turns = {name: repeated(sample, batches) for name, sample in {"ring": ring, **lists}.items()}
    times = interleaved(turns, 2 * effort.rounds, CLOCK)
    each = {name: 1e6 * statistics.median(found) / batches for name, found in times.items()}
    for name, aim in zip(lists, ("at least 5", "")):
        detail = f"{each[name]:.0f} over {each['ring']:.0f} us a batch of 32"
        yield row(
            f"list of transitions, {name}, over the ring", aim, ratios(times[name], times["ring"]), ".1f", "", detail
        )


def structure(composer: Composer, effort: Effort, folder: Path) -> Iterator[Row]:
    """The trainer's agent steps against those of the loop by hand."""
    training = training_of(composer, effort, folder, "trainer")
    network, target = (Network(filters(effort), hidden(effort)) for _ in range(2))
    loop = learn(network, target, effort.start, max(1000, min(10_000, effort.transitions)), training.device)
    steps = EVERY * effort.updates

    def turn() -> None:
        for _ in range(steps):
            next(loop)
        finished(training.device)

    times = interleaved({"trainer": trainer_turn(training), "by hand": turn}, effort.rounds, CLOCK)
    each = " over ".join(f"{1000 * statistics.median(times[name]) / steps:.3g}" for name in ("trainer", "by hand"))
    found = ratios(times["trainer"], times["by hand"])
    yield row("trainer over CleanRL's structure", "", found, ".3f", detail=f"{each} s for 1,000 agent steps")


PARTS = {"learning": learning, "sampling": sampling, "structure": structure}


def main() -> None:
    """Measure the parts that the command line names, all by default."""
    asked = options(__doc__, list(PARTS))
    torch.set_num_threads(1)
    rows = []
    for part in asked.parts:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[part](Composer(), QUICK if asked.quick else FULL, Path(folder))
    show(f"Deep Q-learning, torch {torch.__version__}, {'CUDA' if ON_CUDA else 'CPU'}, 1 thread", rows)


if __name__ == "__main__":
    main()
