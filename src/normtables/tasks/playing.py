"""Several games played at once by epsilon-greedy actions, every draw of which follows from seeds and counts alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from normtables.data import Games
from normtables.tasks.replay import CUT, GOES_ON, TERMINAL

ACTIONS, SAMPLES, TRAINING, TESTING, TEST_ACTIONS = range(5)  # what numbers are drawn for


def source(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """Where numbers are drawn from: a function of seed, purpose and up to three numbers (counter-based: Philox)."""
    counter = [0, *numbers, *[0] * (3 - len(numbers))]  # the generator itself counts in the first
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=counter))


def observed(frames: NDArray[Any], model: nn.Module) -> Tensor:
    """Frames uint8 as the model takes them: on its device, in its type, from 0 to 1."""
    like = next(model.parameters())
    return torch.from_numpy(frames).to(like.device).to(like.dtype).div_(255)


def greedy(values: NDArray[Any], epsilon: float, draw: np.random.Generator) -> NDArray[Any]:
    """The action with the largest of the values [n, actions], or with probability epsilon any of them; int64 [n]."""
    n, actions = values.shape
    anything = draw.random(n) < epsilon
    return np.where(anything, draw.integers(actions, size=n), values.argmax(1))


class Played(NamedTuple):
    """What came of a step of n games: raw rewards and ends [n], and scores of the games that are over, by their number
    among the n."""

    rewards: NDArray[Any]
    ends: NDArray[Any]
    scores: Mapping[int, float]


class Players:
    """`n` games at once. `stacks` uint8 [n, stack, ...] is what there is to see: frames since the game began, or since
    the last life was lost where `lives` says that this is an end; zeros before.

    A game's seed follows from `seed`, `purpose`, `about`, its place among the n and how many were played there before.
    """

    def __init__(self, games: Games, n: int, seed: int, purpose: int, lives: bool) -> None:
        self.games, self.n, self.seed, self.purpose, self.by_lives = games.play(n), n, seed, purpose, lives
        self.stacks = np.zeros((n, games.stack, *games.frame), np.uint8)

    def begin(self, about: int = 0) -> None:
        """The first game everywhere."""
        self.about, self.scores = about, np.zeros(self.n)
        self.numbers, self.lives = np.full(self.n, -1), np.zeros(self.n, np.int64)
        self.actions: list[list[int]] = [[] for _ in range(self.n)]  # since the game began
        self.renew(np.ones(self.n, bool))

    def renew(self, chosen: NDArray[Any]) -> None:
        """A new game where chosen."""
        self.numbers[chosen] += 1
        turn = self.games.reset(chosen, self.seeds(chosen))
        self.stacks[chosen] = 0
        self.stacks[chosen, -1] = turn.frames[chosen]
        self.scores[chosen], self.lives[chosen] = 0, turn.lives[chosen]
        for place in np.flatnonzero(chosen):
            self.actions[place].clear()

    def seeds(self, chosen: NDArray[Any]) -> NDArray[Any]:
        """The seeds of the games that are now played where chosen."""
        numbers = ((int(self.numbers[place]), int(place), self.about) for place in np.flatnonzero(chosen))
        return np.array([source(self.seed, self.purpose, *n).integers(2**31 - 1) for n in numbers])

    def step(self, actions: NDArray[Any], again: bool = True) -> Played:
        """Take an action in each game; a game that is over is followed by a new one, unless there is not to be one."""
        turn = self.games.step(actions)
        for taken, action in zip(self.actions, actions.tolist()):
            taken.append(action)
        self.scores += turn.rewards
        terminal = turn.over | (self.by_lives & (turn.lives < self.lives))
        ends = np.where(terminal, TERMINAL, np.where(turn.cut, CUT, GOES_ON))
        self.stacks[:, :-1] = self.stacks[:, 1:]
        self.stacks[:, -1] = turn.frames
        self.stacks[terminal, :-1] = 0
        self.lives = turn.lives.astype(np.int64)
        done = turn.over | turn.cut
        scores = {int(place): float(self.scores[place]) for place in np.flatnonzero(done)}
        if again and done.any():
            self.renew(done)
        return Played(turn.rewards, ends, scores)

    def state(self) -> dict[str, Any]:
        """What `resume` needs: how many games were begun, and the actions since the last beginnings."""
        return {"numbers": self.numbers.tolist(), "actions": [bytes_of(taken) for taken in self.actions]}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Play the games of `state` again from their seeds, up to where they stood."""
        self.begin()
        taken = [part.tolist() for part in state["actions"]]
        longest = max(map(len, taken))
        for passed in range(longest + 1):
            late = np.array([len(part) == longest - passed for part in taken])
            if late.any():  # begins only now, so that all stand where they stood at the same time
                self.numbers[late] = np.array(state["numbers"])[late] - 1
                self.renew(late)
            if passed < longest:
                at = [passed - (longest - len(part)) for part in taken]
                actions = np.array([part[i] if i >= 0 else 0 for part, i in zip(taken, at)])
                self.step(actions, again=False)


def bytes_of(actions: list[int]) -> Tensor:
    """Actions as uint8 [n]."""
    return torch.tensor(actions, dtype=torch.uint8)
