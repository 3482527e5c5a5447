"""Deep Q-learning (Mnih et al. 2015, Nature 518, Algorithm 1): games, a replay memory, a target network."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from normtables.data import Games
from normtables.errors import UserError
from normtables.norms.modes import evaluating
from normtables.tasks import TASKS, playing
from normtables.tasks.playing import Players, greedy, observed, source
from normtables.tasks.replay import Replay

Batch = tuple[Tensor, Tensor, Tensor]  # observations [n, stack, ...], actions [n], targets [n]
FILE = "replay.bin"


@dataclass(frozen=True)
class Testing:
    """How it is evaluated: agent steps, share of random actions, games at once."""

    steps: int
    epsilon: float
    games: int


@dataclass(frozen=True)
class Learning:
    """How `dqn` learns, see there."""

    games: int
    replay: int
    start: int
    every: int
    target: int
    gamma: float
    reduction: str
    clip: bool
    lives: bool
    explore: int
    epsilon: float
    epoch: int


def check(learning: Learning, testing: Testing, batch_size: int) -> None:
    """Raise UserError for values that no run can have."""
    given = vars(learning) | {f"test_{name}": value for name, value in vars(testing).items()}
    for name in ("games", "every", "target", "explore", "epoch", "test_steps", "test_games"):
        if given[name] < 1:
            raise UserError(f"dataset.task.{name}={given[name]}: at least 1")
    for name in ("gamma", "epsilon", "test_epsilon"):
        if not 0 <= given[name] <= 1:
            raise UserError(f"dataset.task.{name}={given[name]}: a number from 0 to 1")
    if learning.replay < learning.start or learning.start < max(batch_size, 2 * learning.games):
        raise UserError(
            f"dataset.task.start={learning.start}: at least a batch ({batch_size}) and two steps of each game, "
            f"at most dataset.task.replay={learning.replay}"
        )


class DQN:
    """Q-learning from a replay memory; the mean raw score of whole games at evaluation.

    An update follows every `every` agent steps (actions, over all games) behind the first `start`. What is played is
    written down here, so the task lasts: replay memory in a file, target network, actions since each game began.
    """

    score, better = "test/return", "higher"

    def __init__(self, games: Games, batch_size: int, seed: int, options: Learning, testing: Testing) -> None:
        self.games, self.batch_size, self.seed, self.options, self.testing = games, batch_size, seed, options, testing
        self.chance = games.chance
        self.sizes = {"inputs": (games.stack, *games.frame), "outputs": games.actions}
        # An agent step is a part of an update: `budget=100000actions`.
        self.clock: Mapping[str, Any] = {
            "step": 1,
            "epoch": max(1, options.epoch // options.every),
            "action": 1 / options.every,
        }
        self.players = Players(games, options.games, seed, playing.TRAINING, options.lives)
        self.testers: Players | None = None
        self.target: dict[str, Tensor] = {}
        self.scores: list[float] = []  # of training games that ended since the last row

    # what lasts

    def open(self, folder: Path, saved: Mapping[str, Any] | None) -> None:
        """Begin, or go on from a checkpoint; the replay memory is a file of the folder, made with the first step."""
        least = math.ceil(200 * self.options.every / self.options.games)  # it is asked every few updates what is due
        self.replay = Replay(
            folder / FILE, self.games.frame, self.games.stack, self.options.games, self.options.replay, least
        )
        self.begun = self.resumed = saved is not None
        if saved is not None:
            self.replay.resume(saved["rows"])
            self.players.resume(saved["players"])
            if not np.array_equal(self.players.stacks, self.replay.newest()):
                raise UserError(
                    f"the games do not come back as they were in {self.replay.path.parent}, perhaps by another version "
                    "of the emulator; delete the checkpoint to start the run again"
                )
            self.target, self.scores = dict(saved["target"]), list(saved["scores"])

    def due(self) -> bool:
        """Whether the replay memory would soon overwrite what the last checkpoint needs."""
        return self.replay.due()

    def state(self) -> dict[str, Any]:
        """Rows of the replay memory, games, target network, scores since the last row."""
        return {
            "rows": self.replay.keep(),
            "players": self.players.state(),
            "target": self.target,
            "scores": self.scores,
        }

    def close(self) -> None:
        """Remove the replay memory."""
        self.replay.close()

    # training

    @property
    def steps(self) -> int:
        """Agent steps so far."""
        return self.replay.count * self.options.games

    def batches(self, model: nn.Module, step: int) -> Iterator[Batch]:
        """Batches with their targets: games are played as far as the update needs, then transitions are drawn.

        Acting and targets take the model in evaluation mode. The target network is copied every `target` agent steps,
        and for the first update whenever its batch is asked for: a method may look at it before training, and change
        the model; but not in a run that goes on.
        """
        every, target = self.options.every, self.options.target
        while True:
            with evaluating(model):
                self.play(model, self.options.start + every * step)
                if every * step // target > every * (step - 1) // target and (step or not self.resumed):
                    self.copy(model)
                batch = self.drawn(model, step)
            yield batch
            step += 1

    def play(self, model: nn.Module, until: int) -> None:
        """Act, and remember, up to so many agent steps."""
        if not self.begun:
            self.players.begin()
            self.replay.begin(self.players.stacks[:, -1])
            self.begun = True
        while self.steps < until:
            epsilon = self.epsilon(self.steps)
            values = np.zeros((self.options.games, self.games.actions))
            if epsilon < 1:
                values = model(observed(self.players.stacks, model)).cpu().numpy()
            actions = greedy(values, epsilon, source(self.seed, playing.ACTIONS, self.steps))
            played = self.players.step(actions)
            rewards = played.rewards.clip(-1, 1) if self.options.clip else played.rewards
            self.replay.add(actions, rewards, played.ends, self.players.stacks[:, -1])
            self.scores += played.scores.values()

    def epsilon(self, step: int) -> float:
        """The share of random actions at an agent step: 1 while the replay memory is filled, then down a line."""
        done = min(1.0, max(0, step - self.options.start) / self.options.explore)
        return 1 - (1 - self.options.epsilon) * done

    def copy(self, model: nn.Module) -> None:
        """Make the target network the model as it is."""
        for name, value in chain(model.named_parameters(), model.named_buffers()):
            if name in self.target:
                self.target[name].copy_(value)
            else:
                self.target[name] = value.detach().clone()

    def drawn(self, model: nn.Module, step: int) -> Batch:
        """The batch of an update: r + gamma max Q'(s', a') for its transitions, r alone behind an end."""
        sample = self.replay.sample(self.batch_size, source(self.seed, playing.SAMPLES, step))
        frames = observed(sample.frames, model)
        rewards, terminal, actions = (
            torch.from_numpy(part).to(frames.device) for part in (sample.rewards, sample.terminal, sample.actions)
        )
        best = functional_call(model, self.target, (frames[:, 1:],)).amax(1)
        targets = rewards.to(best.dtype) + self.options.gamma * torch.where(terminal, 0.0, best)
        return frames[:, :-1], actions, targets

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss whose gradient is the TD error clipped to [-1, 1], summed over the batch (or its mean)."""
        observations, actions, targets = batch
        values = model(observations).gather(1, actions[:, None])[:, 0]
        return functional.smooth_l1_loss(values, targets, reduction=self.options.reduction)

    def tally(self, loss: Tensor) -> Tensor:
        """The loss of a transition."""
        return loss / self.batch_size if self.options.reduction == "sum" else loss

    def trained(self, means: list[float]) -> dict[str, float]:
        """The loss of a transition; since the last row the number of games that ended and their mean raw score (NaN
        where there is none); the share of random actions."""
        scores, self.scores = self.scores, []
        return {
            "train/loss": means[0],
            "train/return": sum(scores) / len(scores) if scores else math.nan,
            "train/episodes": len(scores),
            "train/epsilon": self.epsilon(self.steps),
        }

    # evaluation

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean raw score of whole games, their number, and the mean of the largest value of an observation.

        `test_games` are played at once; games are begun until `test_steps` agent steps are done, and all are ended.
        """
        testing = self.testing
        if self.testers is None:
            self.testers = Players(self.games, testing.games, self.seed, playing.TESTING, lives=False)
        testers, draw = self.testers, source(self.seed, playing.TEST_ACTIONS, self.steps)
        testers.begin(self.steps)
        going, steps, scores, largest = np.ones(testers.n, bool), 0, [], 0.0
        while going.any():
            values = np.zeros((testers.n, self.games.actions))
            values[going] = model(observed(testers.stacks[going], model)).float().cpu().numpy()
            largest += float(values[going].max(1).sum())
            steps += int(going.sum())
            more = steps < testing.steps
            played = testers.step(greedy(values, testing.epsilon, draw), again=more)
            for place, score in played.scores.items():
                if going[place]:
                    scores.append(score)
                    going[place] = more
        return {
            "test/return": sum(scores) / len(scores),
            "test/episodes": len(scores),
            "test/q": largest / steps,
        }


@TASKS.register("dqn", version=1)
def dqn(
    data: Games,
    batch_size: int,
    seed: int,
    *,
    games: int = 1,
    replay: int = 1_000_000,
    start: int = 50_000,
    every: int = 4,
    target: int = 10_000,
    gamma: float = 0.99,
    reduction: Literal["sum", "mean"] = "sum",
    clip: bool = True,
    lives: bool = True,
    explore: int = 1_000_000,
    epsilon: float = 0.1,
    epoch: int = 250_000,
    test_steps: int = 125_000,
    test_epsilon: float = 0.05,
    test_games: int = 8,
) -> DQN:
    """Deep Q-learning of the game `data`, as in Mnih et al. 2015 and its code; `seed` draws games, actions, batches.

    Counted in agent steps: `replay` (transitions kept), `start` (random actions before the first update), `every` (from
    update to update), `target` (from copy to copy of the target network), `explore` (until the share of random actions
    has fallen from 1 to `epsilon`), `epoch`, `test_steps`. games, test_games: played at once. reduction: of the
    clipped TD errors over the batch. clip: rewards to [-1, 1], and lives: a lost life is an end, in training.
    """
    learning = Learning(games, replay, start, every, target, gamma, reduction, clip, lives, explore, epsilon, epoch)
    testing = Testing(test_steps, test_epsilon, test_games)
    check(learning, testing, batch_size)
    return DQN(data, batch_size, seed, learning, testing)
