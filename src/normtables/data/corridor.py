"""A corridor with a pit at one end and a prize at the other: the smallest game that has all that Atari games have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Games, Turn
from normtables.errors import UserError

PRIZE = 2  # points at the last place: not 1, so that clipped rewards differ from raw ones
STACK = 2


@DATASETS.register("corridor", version=1)
def corridor(root: Path, seed: int, *, length: int = 7, lives: int = 2, frames: int = 100) -> Games:
    """Places 0 to `length` - 1: the actions are a step left and a step right, a game's seed draws where it begins.

    A game is over at the last place, with 2 points; a step into place 0 costs one of the `lives` and leads back to
    where the game began, and the last life ends it with nothing. A frame shows the place; after so many `frames` a game
    is cut off.
    """
    if length < 3 or lives < 1 or frames < 2:
        raise UserError(
            f"dataset.length={length}, lives={lives}, frames={frames}: at least 3 places, 1 life and 2 frames"
        )
    return Games((length,), STACK, 2, chance(length, lives), partial(Corridors, length, lives, frames))


def chance(length: int, lives: int) -> float:
    """The mean score of random steps, the limit on frames aside: from place s a life reaches the prize with probability
    s / (length - 1)."""
    falls = 1 - np.arange(1, length - 1) / (length - 1)
    return float(PRIZE * (1 - falls**lives).mean())


class Corridors:
    """`n` corridors walked at once."""

    def __init__(self, length: int, lives: int, frames: int, n: int) -> None:
        self.length, self.most, self.limit = length, lives, frames
        self.first, self.place, self.lives, self.steps = np.zeros((4, n), np.int64)

    def reset(self, chosen: NDArray[Any], seeds: NDArray[Any]) -> Turn:
        """Begin anew at a place between the ends that the seed draws."""
        self.first[chosen] = [np.random.default_rng(seed).integers(1, self.length - 1) for seed in seeds]
        self.place[chosen], self.lives[chosen], self.steps[chosen] = self.first[chosen], self.most, 0
        return self.turn(np.zeros(len(chosen), np.float32))

    def step(self, actions: NDArray[Any]) -> Turn:
        """One step left (0) or right (1)."""
        self.place = np.clip(self.place + 2 * actions - 1, 0, self.length - 1)
        self.steps += 1
        fallen = self.place == 0
        self.lives = np.where(fallen, np.maximum(self.lives - 1, 0), self.lives)
        self.place = np.where(fallen & (self.lives > 0), self.first, self.place)
        return self.turn(np.float32(PRIZE) * (self.place == self.length - 1))

    def turn(self, rewards: NDArray[Any]) -> Turn:
        """What there is to see."""
        frames = np.zeros((len(self.place), self.length), np.uint8)
        frames[np.arange(len(self.place)), self.place] = 255
        over = (self.place == self.length - 1) | (self.lives == 0)
        return Turn(frames, rewards, over, ~over & (self.steps >= self.limit), self.lives.copy())
