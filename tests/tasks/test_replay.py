"""The replay memory: stacks that stay inside an episode, whatever was played; its file, full disks, going on."""

import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normtables.errors import UserError
from normtables.tasks import replay
from normtables.tasks.replay import CUT, GOES_ON, TERMINAL, Replay


def frame_of(row, game):
    """Never zero, different for every row (up to 255^2) and game."""
    return np.array([row // 255 + 1, row % 255 + 1, game + 1], np.uint8)


def fill(memory, ends):
    """Play so many rows [rows, games] of ends; action and reward follow from row and game."""
    for row_ends in ends:
        games = np.arange(memory.games)
        row = memory.count
        memory.add((row + games) % 7, row + games / 8, row_ends, np.stack([frame_of(row + 1, g) for g in games]))


def begun(folder, stack, games, capacity, least=5):
    memory = Replay(folder / "replay.bin", (3,), stack, games, capacity, least)
    memory.begin(np.stack([frame_of(0, g) for g in range(games)]))
    return memory


def stack_by_hand(ends, row, game, stack):
    """Frame by frame backwards from a row, up to the beginning or an end."""
    found = [frame_of(row, game)]
    while len(found) < stack and row > 0 and ends[row - 1][game] == GOES_ON:
        row -= 1
        found.append(frame_of(row, game))
    return np.stack([np.zeros(3, np.uint8)] * (stack - len(found)) + found[::-1])


@st.composite
def played(draw):
    """(stack, games, capacity, ends [rows, games], rows at which a checkpoint is made)."""
    games = draw(st.integers(1, 3))
    rows = draw(st.integers(2, 60))
    kinds = st.sampled_from([GOES_ON, GOES_ON, GOES_ON, TERMINAL, CUT])
    ends = draw(st.lists(st.lists(kinds, min_size=games, max_size=games), min_size=rows, max_size=rows))
    ends[-1] = [GOES_ON] * games  # something to learn from
    return draw(st.integers(1, 4)), games, draw(st.integers(1, 40)), np.array(ends), draw(st.integers(1, rows))


@settings(max_examples=150, deadline=None)
@given(case=played())
def test_samples_are_the_newest_transitions_and_never_cross_an_end(case, tmp_path_factory):
    stack, games, capacity, ends, _ = case
    memory = begun(tmp_path_factory.mktemp("replay"), stack, games, capacity)
    fill(memory, ends)
    sample = memory.sample(300, np.random.default_rng(0))
    kept = range(max(0, len(ends) - max(1, capacity // games)), len(ends))
    for frames, action, reward, terminal in zip(*sample):
        game = round(8 * float(reward % 1))
        row = int(reward)
        assert row in kept
        assert ends[row][game] != CUT
        assert action == (row + game) % 7
        assert terminal == (ends[row][game] == TERMINAL)
        np.testing.assert_array_equal(frames[:-1], stack_by_hand(ends, row, game, stack))
        if not terminal:
            np.testing.assert_array_equal(frames[1:], stack_by_hand(ends, row + 1, game, stack))
    newest = np.stack([stack_by_hand(ends, len(ends), game, stack) for game in range(games)])
    np.testing.assert_array_equal(memory.newest(), newest)
    memory.close()


@settings(max_examples=100, deadline=None)
@given(case=played(), more=st.integers(0, 60))
def test_what_a_checkpoint_needs_outlives_the_slack(case, more, tmp_path_factory):
    """Rows written behind a checkpoint by a process that is then killed do not disturb those that it needs."""
    stack, games, capacity, ends, kept = case
    ends[kept - 1] = GOES_ON
    memory = begun(tmp_path_factory.mktemp("replay"), stack, games, capacity, least=60)
    fill(memory, ends[:kept])
    assert memory.keep() == kept
    expected, newest = memory.sample(50, np.random.default_rng(1)), memory.newest()
    fill(memory, np.resize(ends, (more, games)))
    again = Replay(memory.path, (3,), stack, games, capacity, 60)
    again.resume(kept)
    for one, other in zip(again.sample(50, np.random.default_rng(1)), expected):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.newest(), newest)
    memory.close()


@pytest.mark.parametrize("kept", [3, 20, 21, 29, 30, 200])
def test_all_of_the_slack_may_be_written(tmp_path, kept):
    """Every row that a checkpoint needs is whole, the frames before the oldest one too."""
    memory = begun(tmp_path, 4, 1, 20, least=10)
    fill(memory, np.zeros((kept, 1), int))
    rows = np.arange(max(0, memory.keep() - 20), kept)
    expected = memory.windows(rows)
    fill(memory, np.zeros((10, 1), int))
    np.testing.assert_array_equal(memory.windows(rows), expected)
    if kept >= 30:
        assert (expected[0] != 0).all()


def test_draws_are_uniform_over_rows_and_games(tmp_path):
    memory = begun(tmp_path, 2, 2, 20)
    fill(memory, np.zeros((30, 2), int))
    drawn = Counter((float(r)) for r in memory.sample(20_000, np.random.default_rng(0)).rewards)
    assert set(drawn) == {row + game / 8 for row in range(20, 30) for game in range(2)}
    assert max(abs(n - 1000) for n in drawn.values()) < 5 * np.sqrt(1000)


def test_a_checkpoint_is_due_at_half_of_the_slack_and_overdue_at_all_of_it(tmp_path):
    memory = begun(tmp_path, 2, 1, 20, least=8)
    fill(memory, np.zeros((30, 1), int))
    assert not memory.due(), "without a checkpoint there is nothing to keep"
    memory.keep()
    fill(memory, np.zeros((3, 1), int))
    assert not memory.due()
    fill(memory, np.zeros((1, 1), int))
    assert memory.due()
    fill(memory, np.zeros((4, 1), int))
    with pytest.raises(AssertionError, match="due"):
        fill(memory, np.zeros((1, 1), int))


def test_a_million_transitions_of_atari_take_less_than_8_gb():
    memory = Replay(None, (84, 84), 4, 1, 1_000_000, 800)
    assert 7.05e9 < memory.bytes < 8e9
    assert memory.rows == 1_000_000


def test_a_disk_that_is_too_small_is_told_before_a_file_is_made(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(replay.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"needs 0\.00 GB in .*: 0\.00 GB are free; choose another folder") as error:
        begun(tmp_path, 2, 1, 1000)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_turns_out_too_small_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replay.os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left on device"):
        begun(tmp_path, 2, 1, 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_one_is_refused(tmp_path):
    memory = begun(tmp_path, 2, 1, 1000)
    other = Replay(memory.path, (3,), 2, 1, 999, 5)
    with pytest.raises(UserError, match="missing or damaged"):
        other.resume(3)
    memory.close()
    assert not memory.path.exists()
    with pytest.raises(UserError, match="missing or damaged"):
        memory.resume(3)
