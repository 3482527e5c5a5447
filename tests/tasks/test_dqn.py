"""Deep Q-learning: values, targets and gradients by hand, what is counted, modes, a game that is solved."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from normtables.config import facts
from normtables.data import load
from normtables.errors import UserError
from normtables.norms.modes import evaluating
from normtables.records import Store
from normtables.tasks import TASKS
from normtables.training.run import Training, execute, silent

SMALL = {"start": 20, "replay": 200, "explore": 100, "target": 16, "epoch": 40, "test_steps": 30, "test_games": 2}
# a run whose numbers are small ones of every kind
RUN = {
    "dataset": "corridor",
    "model": "mlp",
    "model.widths": [16],
    "norm": "none",
    "optim": "adam",
    "optim.lr": 0.01,
    "batch_size": 16,
    "budget": "60steps",
    "evaluate": "10steps",
    **{f"dataset.task.{name}": value for name, value in SMALL.items()},
}


def corridor(**options):
    return load({"name": "corridor", **options}, ".", 0)


def build(folder, batch_size=8, seed=0, games_of=None, **options):
    task = TASKS.build({"name": "dqn", "version": 1, **SMALL, **options}, games_of or corridor(), batch_size, seed)
    task.open(folder, None)
    return task


class Linear(nn.Module):
    """Values linear in the observation, and the modes and numbers of observations of all calls."""

    def __init__(self, inputs=14, outputs=2, seed=0):
        super().__init__()
        self.calls = []
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator, dtype=torch.float64))

    def forward(self, x):
        self.calls.append((self.training, len(x)))
        return x.flatten(1) @ self.weight.T


def after(stream, n):
    return next(itertools.islice(stream, n - 1, None))


# the loss and its targets


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_and_gradient_by_hand(tmp_path, reduction):
    """The gradient by a transition's value is its TD error, clipped to [-1, 1]; summed, or the mean."""
    task = build(tmp_path, batch_size=3, reduction=reduction)
    model = Linear(inputs=2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
    x = torch.tensor([[1.0, 0.0], [0.5, 1.0], [2.0, -1.0]], dtype=torch.float64)
    actions = torch.tensor([0, 1, 0])  # values 1, 0, 0
    targets = torch.tensor([0.75, 3.0, -1.5], dtype=torch.float64)  # errors 0.25, -3, 1.5
    loss = task.loss(model, (x, actions, targets))
    losses = [0.25**2 / 2, 3 - 0.5, 1.5 - 0.5]
    parts = 3 if reduction == "mean" else 1
    assert loss.item() == pytest.approx(sum(losses) / parts)
    assert task.tally(loss).item() == pytest.approx(sum(losses) / 3)
    loss.backward()
    push = [0.25 * x[0] + 1 * x[2], -1 * x[1]]
    torch.testing.assert_close(model.weight.grad, torch.stack(push) / parts)


def test_targets_by_hand(tmp_path):
    """r + gamma max Q'(s') with the copied network, r alone behind an end; whatever the model has become."""
    task, model = build(tmp_path, batch_size=150, gamma=0.9, start=200), Linear()
    stream = task.batches(model, 0)
    first = next(stream)
    copied = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    for observations, actions, targets in (first, next(stream)):
        place = lambda frames: frames[:, -1].argmax(1)  # noqa: E731
        at = place(observations)
        won = (at == 5) & (actions == 1)
        fell = (at == 1) & (actions == 0)
        assert won.any()
        assert fell.any()
        going = torch.zeros(len(at), 7, dtype=torch.float64)
        going[torch.arange(len(at)), at + 2 * actions - 1] = 1
        following = torch.cat([observations[:, -1], going], 1)
        best = (following @ copied.T).amax(1)
        expected = torch.where(won, 1.0, torch.where(fell, 0.0, 0.9 * best))
        torch.testing.assert_close(targets, expected)
        assert not targets.requires_grad


def test_unclipped_rewards_and_lives_that_are_no_ends(tmp_path):
    task = build(tmp_path, batch_size=150, start=200, clip=False, lives=False, gamma=0.0)
    observations, actions, targets = next(task.batches(Linear(), 0))
    at = observations[:, -1].argmax(1)
    assert torch.equal(targets, torch.where((at == 5) & (actions == 1), 2.0, 0.0).double())
    ends = task.replay.ends[: task.replay.count * task.replay.games]
    assert (ends == 1).sum() < (build_ends(tmp_path) == 1).sum()


def build_ends(folder):
    """The ends of the same random steps where lives are ends."""
    task = build(folder, start=200)
    next(task.batches(Linear(), 0))
    return task.replay.ends[: task.replay.count * task.replay.games]


# what is counted


def test_agent_steps_and_copies_of_the_target(tmp_path):
    """An update takes the steps it needs, and a copy is made every `target` of them; asking again plays nothing."""
    task, model, copies = build(tmp_path, every=4, target=12), Linear(), []
    copy = task.copy
    task.copy = lambda net: (copies.append(task.steps), copy(net))
    stream = task.batches(model, 0)
    for update in range(10):
        next(stream)
        assert task.steps == 20 + 4 * update
    assert copies == [20, 32, 44, 56]
    next(task.batches(model, 0))
    assert task.steps == 56
    assert task.clock == {"step": 1, "epoch": 10, "action": 0.25}


def test_several_games_at_once_share_the_steps(tmp_path):
    task = build(tmp_path, games=3, every=4)
    stream, counts = task.batches(Linear(), 0), []
    for _ in range(4):
        next(stream)
        counts.append(task.steps)
    assert counts == [21, 24, 30, 33]  # the first multiples of 3 from 20, 24, 28 and 32 on
    assert task.sizes == {"inputs": (2, 7), "outputs": 2}


def test_exploration_falls_in_a_line_after_the_random_steps(tmp_path):
    task = build(tmp_path, start=20, explore=100, epsilon=0.2)
    assert [task.epsilon(step) for step in (0, 19, 20, 70, 120, 1000)] == pytest.approx([1, 1, 1, 0.6, 0.2, 0.2])


def test_the_batch_of_an_update_is_a_function_of_seed_and_update(tmp_path):
    """Also where a stream begins with it, once the games have come that far."""
    batches = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        task, model = build(tmp_path / name, seed=seed), Linear()
        batches[name] = after(task.batches(model, 0), 9)
        again = next(task.batches(model, 8))
        assert all(torch.equal(a, b) for a, b in zip(batches[name], again))
    assert all(torch.equal(a, b) for a, b in zip(batches["one"], batches["same"]))
    assert not torch.equal(batches["one"][0], batches["other"][0])


def test_acting_targets_and_evaluation_take_the_model_in_evaluation_mode(tmp_path):
    task, model = build(tmp_path, start=20), Linear().train()
    stream = task.batches(model, 0)
    batch = after(stream, 30)
    assert {training for training, _ in model.calls} == {False}
    assert {n for _, n in model.calls} == {1, 8}
    assert model.training
    assert all(not part.requires_grad for part in batch)
    model.calls.clear()
    task.loss(model, batch)
    assert model.calls == [(True, 8)]
    model.calls.clear()
    with evaluating(model):
        task.evaluate(model)
    assert {training for training, _ in model.calls} == {False}


def test_acting_is_greedy_but_for_epsilon(tmp_path):
    """A model that always prefers the step right never takes one left once nothing is left to chance."""
    model = Linear()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]).expand(2, 14))
    task = build(tmp_path, start=20, explore=40, epsilon=0.0)
    after(task.batches(model, 0), 40)
    actions = task.replay.actions[:176]
    assert set(actions[:20]) == {0, 1}
    assert 0 in actions[20:60]
    assert set(actions[60:]) == {1}


def test_what_is_acted_on_is_what_is_learned_from(tmp_path):
    """The stack in front of the players is the newest one of the memory, behind lost lives and ends too."""
    task, model = build(tmp_path, start=20, games=2, epsilon=1.0, games_of=corridor(length=4)), Linear(8)
    ends = 0
    for until in range(20, 120, 2):
        task.play(model, until)
        assert np.array_equal(task.players.stacks, task.replay.newest())
        ends += (task.replay.ends[task.replay.row(task.replay.count - 1)] != 0).sum()
    assert ends > 10


def test_rows_tell_of_the_games_since_the_last_one(tmp_path):
    task, model = build(tmp_path, start=100), Linear()
    next(task.batches(model, 0))
    scores = list(task.scores)
    assert set(scores) == {0.0, 2.0}
    found = task.trained([0.5])
    assert (found["train/loss"], found["train/episodes"]) == (0.5, len(scores))
    assert found["train/return"] == pytest.approx(np.mean(scores))
    again = task.trained([0.25])
    assert again["train/episodes"] == 0
    assert math.isnan(again["train/return"])


# evaluation


class Right(nn.Module):
    """Prefers the step right where asked to."""

    def __init__(self, prefers=1):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        self.values = torch.tensor([1.0 - prefers, prefers]) * 3

    def forward(self, x):
        return self.values.expand(len(x), 2) + self.nothing


def scored(task, model):
    with torch.no_grad():
        return task.evaluate(model.eval())


@pytest.mark.parametrize(("prefers", "score"), [(1, 2.0), (0, 0.0)])
def test_scores_of_policies_that_are_known(tmp_path, prefers, score):
    task = build(tmp_path, test_epsilon=0.0, test_steps=50)
    found = scored(task, Right(prefers))
    assert found["test/return"] == score
    assert found["test/q"] == 3.0
    assert found["test/episodes"] > 5


def test_a_random_policy_scores_what_the_data_set_says(tmp_path):
    task = build(tmp_path, test_epsilon=1.0, test_steps=20_000, test_games=50, games_of=corridor(frames=100_000))
    found = scored(task, Right())
    spread = 1 / math.sqrt(found["test/episodes"])  # a score is 0 or 2
    assert abs(found["test/return"] - task.chance) < 4 * spread


def test_all_games_that_are_begun_at_evaluation_are_ended(tmp_path):
    """One step is left: a game is played in each place, and no second one."""
    task = build(tmp_path, test_steps=1, test_games=7, test_epsilon=0.0)
    assert scored(task, Right())["test/episodes"] == 7


def test_an_evaluation_is_a_function_of_seed_and_agent_steps(tmp_path):
    model, found = Linear(), []
    for seed in (1, 1, 2):
        task = build(tmp_path, seed=seed, test_epsilon=0.5)
        next(task.batches(Linear(), 0))
        found.append([scored(task, model) for _ in range(2)])
    assert found[0][0] == found[0][1] == found[1][0]
    assert found[0] != found[2]


def test_every_evaluation_plays_other_games(tmp_path):
    task, model = build(tmp_path, test_epsilon=0.0, test_steps=60), Linear()
    stream, found = task.batches(Linear(), 0), set()
    for _ in range(4):
        next(stream)
        found.add(scored(task, model)["test/q"])
    assert len(found) == 4


# runs


def configured(composer, folder, **settings):
    named = {key.replace("__", "."): value for key, value in settings.items()}
    common = RUN if "model" not in named else {k: v for k, v in RUN.items() if not k.startswith("model")}
    return composer.config(common | {"results": str(folder)} | named)


def test_the_corridor_is_solved(composer, tmp_path):
    """The best score, 2, and values near gamma to the power of the steps that are left before the prize."""
    settings = {"dataset.task.start": 200, "dataset.task.replay": 2000, "dataset.task.explore": 1000}
    settings |= {"dataset.task.target": 100, "dataset.task.gamma": 0.9, "dataset.task.test_epsilon": 0.0}
    settings |= {"batch_size": 32, "model.widths": [32], "budget": "500steps", "evaluate": "500steps"}
    cfg = configured(composer, tmp_path, **settings, dataset__frames=1000)
    training = Training(cfg, facts(cfg), tmp_path, silent)
    record = training.record()
    assert record.final["test/return"] == 2.0
    assert record.score == {"name": "test/return", "better": "higher", "chance": pytest.approx(corridor().chance)}
    places = range(1, 6)
    states = torch.zeros(5, 2, 7)
    for place in places:
        states[place - 1, 0, place - 1 if place > 1 else place + 1] = states[place - 1, 1, place] = 1
    values = training.model(states).detach()
    expected = torch.tensor([0.9 ** (5 - place) for place in places])
    torch.testing.assert_close(values[:, 1], expected, atol=0.05, rtol=0)
    assert (values.argmax(1) == 1).all()


KINDS = {
    "plain": {},
    "wn from data": {"norm": "wn", "norm.data_init": True},
    "bn": {"norm": "bn"},
    "three games, cut off, the file goes round": {
        "dataset.task.games": 3,
        "dataset.frames": 6,
        "dataset.task.replay": 60,
        "dataset.task.every": 2,
        "budget": "400steps",
        "evaluate": "60steps",
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [2, 6])
def test_a_run_that_is_stopped_goes_on_to_the_same_numbers(composer, cut_off, same_run, tmp_path, kind, stop):
    """It is stopped in front of a checkpoint, so rows of the replay memory are played twice."""
    settings = {"runtime__checkpoint": 0, "norm__data_init": False, **KINDS[kind]}
    if settings.get("norm") != "wn":
        del settings["norm__data_init"]
    whole, torn = (configured(composer, tmp_path / name, **settings) for name in ("whole", "torn"))
    record = execute(whole)
    cut_off(torn, row=stop)
    folder = Store(torn.results).folder(record.id)
    assert {"checkpoint.pt", "replay.bin"} <= {path.name for path in folder.iterdir()}
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    goes_round = saved["task"]["rows"] > (folder / "replay.bin").stat().st_size / (3 * 16)
    assert goes_round == (stop == 6 and "goes round" in kind)
    execute(torn)
    same_run(whole, torn)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "history.csv", "record.json"]


@pytest.fixture
def stopped(composer, cut_off, tmp_path):
    """A configuration whose run was stopped behind a checkpoint, and its folder."""
    cfg = configured(composer, tmp_path, runtime__checkpoint=0)
    cut_off(cfg, step=30)
    [folder] = (tmp_path / "runs").iterdir()
    return cfg, folder


def test_a_replay_memory_that_is_gone_is_told(stopped):
    cfg, folder = stopped
    (folder / "replay.bin").unlink()
    with pytest.raises(UserError, match=r"replay\.bin is missing or damaged; delete the checkpoint"):
        execute(cfg)


def test_games_that_do_not_come_back_are_told(stopped):
    """As by an emulator of another version."""
    cfg, folder = stopped
    memory = np.memmap(folder / "replay.bin", np.uint8, "r+")
    memory[:] = np.where(memory == 255, 254, memory)
    memory.flush()
    with pytest.raises(UserError, match="do not come back"):
        execute(cfg)


def test_a_checkpoint_is_made_before_the_memory_overwrites_what_it_needs(composer, tmp_path, monkeypatch):
    """However long the time between two checkpoints: here one is made at the start, the others when they are due."""
    cfg = configured(composer, tmp_path, budget="900steps", evaluate="900steps", dataset__task__replay=60)
    saves, save, due = [], Training.save, Training.due
    monkeypatch.setattr(Training, "save", lambda self: (saves.append(self.position.step), save(self)))
    monkeypatch.setattr(Training, "due", lambda self: due(self) or not saves)
    cfg.runtime.checkpoint = 1e9
    execute(cfg)
    assert saves == [50, 150, 250, 350, 450, 550, 650, 750, 850]


def test_weights_are_initialised_by_data_before_the_target_is_copied(composer, tmp_path):
    """By the observations of the first update, whose pre-activations are standardised; not by the next ones."""
    cfg = configured(composer, tmp_path, norm="wn", norm__data_init=True, precision="float64")
    training = Training(cfg, facts(cfg), tmp_path, silent)
    task, model = training.task, training.model
    observations, *_ = next(task.batches(model, 0))
    assert task.steps == 20
    for name, value in model.named_parameters():
        assert torch.equal(task.target[name], value)
    layer = next(part for part in model.modules() if isinstance(part, nn.Linear))
    found = layer(observations.flatten(1)).detach()
    torch.testing.assert_close(found.mean(0), torch.zeros(16, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.var(0, correction=0), torch.ones(16, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_the_target_is_another_network_in_every_precision(composer, tmp_path, precision):
    """Autocast replaces the model's forward function; the copied weights must be those that are used."""
    cfg = configured(composer, tmp_path, precision=precision, dataset__task__target=1000)
    training = Training(cfg, facts(cfg), tmp_path, silent)
    model, task = training.model, training.task
    batch = next(task.batches(model, 0))
    before = model(batch[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    assert not torch.equal(model(batch[0]), before)
    task.resumed = True  # the copy stays
    again = next(task.batches(model, 0))
    assert all(torch.equal(one, other) for one, other in zip(again, batch))


# Atari

ATARI = {
    "dataset": "atari",
    "dataset.size": 36,
    "dataset.frames": 80,
    "dataset.sticky": 0.25,
    "model": "nature_cnn",
    "model.filters": [2, 3, 4],
    "model.hidden": 5,
    "optim": "adamax",
    "batch_size": 4,
    "dataset.task.test_steps": 1,
    "dataset.task.test_games": 1,
    "dataset.task.games": 2,
    "budget": "120actions",
    "evaluate": "40actions",
}


def test_breakout_runs_and_goes_on_behind_a_stop(composer, same_in_two_parts, tmp_path):
    """Sticky actions, games of twenty steps that are cut off: emulators come back from their seeds."""
    whole, torn = (configured(composer, tmp_path / name, **ATARI, runtime__checkpoint=0) for name in ("whole", "torn"))
    _, rows = same_in_two_parts(whole, torn, step=20)
    assert [row["action"] for row in rows] == [40, 80, 120]
    assert {row["test/episodes"] for row in rows} == {1}
    assert sum(row["train/episodes"] for row in rows) == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"games": 0}, "games=0: at least 1"),
        ({"every": 0}, "every=0"),
        ({"test_steps": 0}, "test_steps=0"),
        ({"gamma": 1.5}, "gamma=1.5: a number from 0 to 1"),
        ({"epsilon": -0.1}, "epsilon="),
        ({"start": 7}, r"start=7: at least a batch \(8\)"),
        ({"start": 300}, "start=300: .*at most dataset.task.replay=200"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(tmp_path, options, says):
    with pytest.raises(UserError, match=says) as error:
        build_options(tmp_path, **options)
    assert "\n" not in str(error.value)


def build_options(folder, **options):
    return TASKS.build({"name": "dqn", "version": 1, **SMALL, **options}, corridor(), 8, 0)
