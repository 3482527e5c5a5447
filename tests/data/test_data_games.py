"""Games: the corridor by hand, Atari's emulators brought back from a seed, what a wrong setting says."""

import sys

import numpy as np
import pytest

from normtables.data import load
from normtables.errors import UserError


def corridor(**options):
    return load({"name": "corridor", **options}, ".", 0)


def atari(**options):
    return load({"name": "atari", **options}, ".", 0)


def everywhere(n=1):
    return np.ones(n, bool)


# the corridor


def value_of_random_steps(length, lives, first, limit=5000):
    """The mean score of random steps from a place, step by step over (place, lives)."""
    mass, won = {(first, lives): 1.0}, 0.0
    for _ in range(limit):
        after = {}
        for (place, left), share in mass.items():
            for step in (-1, 1):
                there, more = place + step, left
                if there == length - 1:
                    won += share / 2
                    continue
                if there == 0:
                    there, more = first, left - 1
                if more:
                    after[there, more] = after.get((there, more), 0) + share / 2
        mass = after
    return 2 * won


@pytest.mark.parametrize(("length", "lives"), [(3, 1), (5, 1), (7, 2), (6, 3)])
def test_the_chance_of_a_corridor_is_that_of_random_steps(length, lives):
    expected = np.mean([value_of_random_steps(length, lives, first) for first in range(1, length - 1)])
    assert corridor(length=length, lives=lives).chance == pytest.approx(expected, rel=1e-9)


def test_a_corridor_by_hand():
    """Seeds draw the first place; left into the pit costs a life, right to the end wins 2 points."""
    games = corridor(length=5)
    assert (games.frame, games.stack, games.actions) == ((5,), 2, 2)
    play = games.play(1)
    starts = {}
    for seed in range(20):
        starts.setdefault(int(play.reset(everywhere(), np.array([seed])).frames[0].argmax()), seed)
    assert set(starts) == {1, 2, 3}
    first = play.reset(everywhere(), np.array([starts[2]]))
    assert first.frames.tolist() == [[0, 0, 255, 0, 0]]
    seen = []
    for action in (0, 0, 1, 1):
        turn = play.step(np.array([action]))
        seen.append((int(turn.frames[0].argmax()), int(turn.lives[0]), float(turn.rewards[0]), bool(turn.over[0])))
    assert seen == [(1, 2, 0, False), (2, 1, 0, False), (3, 1, 0, False), (4, 1, 2, True)]
    play.reset(everywhere(), np.array([starts[1]]))
    turns = [play.step(np.array([0])) for _ in range(2)]
    assert [(bool(t.over[0]), int(t.lives[0])) for t in turns] == [(False, 1), (True, 0)]


def test_a_corridor_is_cut_at_its_limit_and_not_where_it_is_over():
    play = corridor(length=5, frames=4).play(2)
    play.reset(everywhere(2), np.array([1, 1]))
    place = play.place[0]
    turns = [play.step(np.array([i % 2 if place == 1 else (i + 1) % 2, 1])) for i in range(4)]
    assert not any(turn.cut[0] for turn in turns[:3])
    assert turns[3].cut[0] == (not turns[3].over[0])
    assert not any(turn.cut[1] for turn in turns if turn.over[1])


def test_one_of_several_corridors_begins_anew():
    play = corridor().play(3)
    play.reset(everywhere(3), np.array([1, 2, 3]))
    before = play.step(np.array([1, 1, 1])).frames
    after = play.reset(np.array([False, True, False]), np.array([9])).frames
    assert (after[[0, 2]] == before[[0, 2]]).all()
    assert (after[1] == corridor().play(1).reset(everywhere(), np.array([9])).frames[0]).all()


@pytest.mark.parametrize("options", [{"length": 2}, {"lives": 0}, {"frames": 1}])
def test_impossible_corridors_are_refused(options):
    with pytest.raises(UserError, match=rf"{next(iter(options))}="):
        corridor(**options)


# Atari


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other))


@pytest.mark.parametrize(
    ("game", "actions", "chance"),
    [("breakout", 4, 1.7), ("enduro", 9, 0), ("seaquest", 18, 68.4), ("space_invaders", 6, 148)],
)
def test_the_four_games(game, actions, chance):
    """Their minimal actions; scores of random play as published."""
    games = atari(game=game)
    assert (games.frame, games.stack, games.actions, games.chance) == ((84, 84), 4, actions, chance)


def test_a_game_is_a_function_of_its_seed_and_actions():
    """Also with sticky actions, whatever was played in the emulator before, and beside other games."""
    games, draw = atari(game="seaquest", sticky=0.25, size=36), np.random.default_rng(0)
    play, other = games.play(2), games.play(1)
    play.reset(everywhere(2), np.array([1, 2]))
    for _ in range(40):
        play.step(draw.integers(18, size=2))
    assert same(
        [part[1:] for part in play.reset(np.array([False, True]), np.array([7]))],
        other.reset(everywhere(), np.array([7])),
    )
    different = 0
    for _ in range(60):
        actions = draw.integers(18, size=2)
        turn = play.step(actions)
        assert same([part[1:] for part in turn], other.step(actions[1:]))
        different += (turn.frames[0] != turn.frames[1]).any()
    assert different > 50


def test_lives_and_ends_of_breakout():
    """Five lives; the last one ends the game; a reward is what the game says, not its sign."""
    play = atari(size=36).play(1)
    turn, seen = play.reset(everywhere(), np.array([0])), [5]
    assert turn.lives.tolist() == [5]
    for step in range(2000):
        turn = play.step(np.array([1 if step % 4 == 0 else 0]))
        seen.append(int(turn.lives[0]))
        if turn.over[0]:
            break
    assert turn.over[0]
    assert sorted(set(seen)) == [0, 1, 2, 3, 4, 5]
    assert seen == sorted(seen, reverse=True)


def test_a_long_game_is_cut_and_not_over():
    play = atari(frames=100, noops=0, size=36).play(1)
    play.reset(everywhere(), np.array([0]))
    turns = [play.step(np.array([0])) for _ in range(25)]
    assert [bool(t.cut[0]) for t in turns] == [False] * 24 + [True]
    assert not any(t.over[0] for t in turns)


def test_seeds_draw_how_long_nothing_is_done():
    play = atari(game="space_invaders", size=36).play(1)
    firsts = {play.reset(everywhere(), np.array([seed])).frames.tobytes() for seed in range(6)}
    assert len(firsts) > 1
    still = atari(game="space_invaders", noops=0, size=36).play(1)
    assert len({still.reset(everywhere(), np.array([seed])).frames.tobytes() for seed in range(3)}) == 1


def test_without_ale_py_one_line_says_what_to_do(monkeypatch):
    for name in ("ale_py", "ale_py.roms", "ale_py.vector_env"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'ale-py>=0\.12' gymnasium") as error:
        atari(noops=29)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"game": "brekout"}, "no Atari game 'brekout'; did you mean 'breakout'"),
        ({"skip": 0}, "dataset.skip=0"),
        ({"sticky": 1.0}, r"sticky=1\.0: a probability"),
        ({"noops": -1}, "noops=-1"),
        ({"frames": 7}, "dataset.frames=7: at least two actions, 8 frames"),
    ],
    ids=str,
)
def test_impossible_games_are_refused(options, says):
    with pytest.raises(UserError, match=says) as error:
        atari(**options)
    assert "\n" not in str(error.value)
