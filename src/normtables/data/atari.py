"""Atari 2600 games, played by the Arcade Learning Environment; the ale-py wheel holds emulator and games. Embedded."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Games, Turn
from normtables.errors import UserError, lookup

# Scores of uniformly random actions: Mnih et al. 2015 (Nature 518), extended data table 2.
RANDOM = {"breakout": 1.7, "enduro": 0.0, "seaquest": 68.4, "space_invaders": 148.0}


@DATASETS.register("atari", version=1)
def atari(
    root: Path,
    seed: int,
    *,
    game: str = "breakout",
    skip: int = 4,
    sticky: float = 0.0,
    noops: int = 30,
    size: int = 84,
    stack: int = 4,
    frames: int = 108_000,
) -> Games:
    """One of ale-py's games as in Mnih et al. 2015: an action lasts `skip` emulated frames, an observation is the last
    `stack` maxima over two frames, grey, `size` x `size`; the actions are those that do something in the game.

    sticky: probability that the emulator repeats the action before. noops: a game begins with 0 to `noops` - 1 frames
    of doing nothing, drawn by its seed. frames: emulated frames after which a game is cut off. Scaling is by area where
    the paper's is bilinear. Raises UserError without ale-py, for an unknown game, and for impossible settings.
    """
    try:
        from ale_py import roms
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise UserError("dataset=atari needs ale-py and gymnasium: pip install 'ale-py>=0.12' gymnasium") from error
    lookup(dict.fromkeys(roms.get_all_rom_ids()), game, "Atari game")
    check(skip, sticky, noops, size, stack, frames)
    make = partial(
        AtariVectorEnv,
        game,
        frameskip=skip,
        repeat_action_probability=sticky,
        noop_max=noops,
        img_height=size,
        img_width=size,
        max_num_frames_per_episode=frames,
        stack_num=1,
        reward_clipping=False,
        use_fire_reset=False,
    )
    actions = len(make(1).ale.get_action_set())
    return Games((size, size), stack, actions, RANDOM.get(game, math.nan), partial(Emulators, make))


def check(skip: int, sticky: float, noops: int, size: int, stack: int, frames: int) -> None:
    """Raise UserError for settings that no game can have."""
    if min(skip, size, stack) < 1 or noops < 0 or not 0 <= sticky < 1:
        raise UserError(
            f"dataset.skip={skip}, size={size}, stack={stack}: at least 1; noops={noops}: at least 0; "
            f"sticky={sticky}: a probability below 1"
        )
    if frames < 2 * skip:
        raise UserError(f"dataset.frames={frames}: at least two actions, {2 * skip} frames")


class Emulators:
    """`n` emulators of one game, on as many threads as torch has.

    They would begin a game anew by themselves a step after its end; whoever plays them does so before.
    """

    def __init__(self, make: Any, n: int) -> None:
        import torch

        self.vector = make(num_envs=n, num_threads=min(n, torch.get_num_threads()))

    def reset(self, chosen: NDArray[Any], seeds: NDArray[Any]) -> Turn:
        """Begin anew with the emulator loaded anew, so that nothing is left of the games before (70 ms each)."""
        frames, info = self.vector.reset(
            seed=np.asarray(seeds), options=None if chosen.all() else {"reset_mask": chosen}
        )
        nothing = np.zeros(len(chosen), bool)
        return Turn(frames[:, 0], nothing.astype(np.float32), nothing, nothing, info["lives"])

    def step(self, actions: NDArray[Any]) -> Turn:
        """Take an action, by its number among the game's own."""
        frames, rewards, over, cut, info = self.vector.step(np.asarray(actions, np.int64))
        return Turn(frames[:, 0], rewards.astype(np.float32), over, cut, info["lives"])
