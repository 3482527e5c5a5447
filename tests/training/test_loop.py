"""The loop on a task it has never heard of: updates by hand, pauses, rates, divergence, modes."""

import itertools
import math

import pytest
import torch
from torch import nn

from normtables.norms.modes import evaluating
from normtables.tasks import MeanLoss
from normtables.training import loop
from normtables.training.loop import Diverged, Position, train


class Toy(MeanLoss):
    """Pull one number towards words: a batch is a word, its loss (w - length)^2 / 2."""

    def __init__(self):
        self.asked = []

    def loss(self, model, batch):
        self.asked.append(batch)
        return (model.weight.squeeze() - len(batch)).square() / 2


WORDS = ("a", "bb", "cccc")


@pytest.fixture
def model():
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, 10.0)
    return net


def paused(model, steps, every, *, task=None, stream=None, schedule=lambda step: 1.0, position=None, optimizer=None):
    """(position, weight) at every pause."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.5)
    position = position or Position(losses=torch.zeros((), dtype=torch.float64))
    stream = stream or itertools.cycle(WORDS)
    for at in train(task or Toy(), stream, model, optimizer, schedule, steps, every, position):
        yield at.step, model.weight.item()


def by_hand(steps, rate=lambda step: 0.5):
    w, found = 10.0, [10.0]
    for step in range(steps):
        w -= rate(step) * (w - len(WORDS[step % 3]))
        found.append(w)
    return found


def test_updates_are_those_by_hand_and_pauses_where_due(model, monkeypatch):
    monkeypatch.setattr(loop, "STOP", 4)
    expected, task = by_hand(10), Toy()
    pauses = list(paused(model, 10, 3, task=task))
    assert [step for step, _ in pauses] == [3, 4, 6, 8, 9, 10]
    assert [w for _, w in pauses] == pytest.approx([expected[step] for step, _ in pauses])
    assert task.asked == [WORDS[i % 3] for i in range(10)], "one batch an update and none more"


@pytest.mark.parametrize("done", [3, 7, 10])
def test_it_goes_on_from_a_position(model, done):
    position = Position(step=done, losses=torch.zeros((), dtype=torch.float64))
    task = Toy()
    list(paused(model, 10, 100, task=task, position=position))
    assert len(task.asked) == 10 - done
    assert position.step == 10


def test_who_stops_a_position_ends_the_loop(model):
    position, task = Position(losses=torch.zeros((), dtype=torch.float64)), Toy()
    for step, _ in paused(model, 10, 3, task=task, position=position):
        position.stopped = step == 6
    assert (position.step, len(task.asked)) == (6, 6)
    assert list(paused(model, 10, 3, task=task, position=position)) == []


def test_the_mean_loss_is_that_of_the_updates_since_the_last_look(model):
    position, w, means = Position(losses=torch.zeros((), dtype=torch.float64)), by_hand(6), []
    assert math.isnan(*position.means())
    for _ in paused(model, 6, 2, position=position):
        means += position.means()
    losses = [(w[i] - len(WORDS[i % 3])) ** 2 / 2 for i in range(6)]
    assert means == pytest.approx([sum(losses[i : i + 2]) / 2 for i in (0, 2, 4)])
    assert math.isnan(*position.means())


def test_a_task_may_have_several_numbers_of_an_update_averaged(model):
    class Powers(Toy):
        def tally(self, loss):
            return torch.stack([loss, loss**2])

    position, w, means = Position(losses=torch.zeros((), dtype=torch.float64)), by_hand(6), []
    for _ in paused(model, 6, 3, position=position, task=Powers()):
        means.append(position.means())
    losses = [(w[i] - len(WORDS[i % 3])) ** 2 / 2 for i in range(6)]
    expected = [[sum(x**k for x in losses[i : i + 3]) / 3 for k in (1, 2)] for i in (0, 3)]
    assert [x for pair in means for x in pair] == pytest.approx([x for pair in expected for x in pair])


def test_the_rate_of_an_update_follows_the_updates_before_it(model):
    def schedule(done):
        return 0.1 ** (done // 2)

    expected = by_hand(5, lambda done: 0.5 * schedule(done))
    assert [w for _, w in paused(model, 5, 1, schedule=schedule)] == pytest.approx(expected[1:])


def test_a_resumed_optimizer_remembers_the_rate_it_started_from(model):
    def schedule(done):
        return 0.5**done

    expected = by_hand(6, lambda done: 0.5 * schedule(done))
    first = torch.optim.SGD(model.parameters(), lr=0.5)
    list(paused(model, 3, 1, schedule=schedule, optimizer=first))
    second = torch.optim.SGD(model.parameters(), lr=7.0)
    second.load_state_dict(first.state_dict())
    position = Position(step=3, losses=torch.zeros((), dtype=torch.float64))
    rest = list(paused(model, 6, 1, schedule=schedule, optimizer=second, position=position))
    assert [w for _, w in rest] == pytest.approx(expected[4:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [1, 5, 7])
def test_a_loss_that_is_not_finite_is_noticed_at_the_next_pause(model, monkeypatch, at, bad):
    monkeypatch.setattr(loop, "STOP", 5)

    class Bad(Toy):
        def loss(self, model, batch):
            value = super().loss(model, batch)
            return value * bad if len(self.asked) == at else value

    seen, task = [], Bad()
    with pytest.raises(Diverged, match="not finite by update"):
        seen.extend(paused(model, 20, 100, task=task))
    noticed = 5 if at <= 5 else 10
    assert len(task.asked) == noticed
    assert [step for step, _ in seen] == ([5] if noticed == 10 else [])


def frozen_network():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), nn.ReLU())
    net[1][0].eval()  # a part that its owner keeps in evaluation mode
    return net


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_every_module_gets_its_own_mode_back(error):
    net = frozen_network()
    before = [m.training for m in net.modules()]
    assert len(set(before)) == 2
    try:
        with evaluating(net):
            assert not any(m.training for m in net.modules())
            assert not net(torch.ones(1, 2)).requires_grad
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert [m.training for m in net.modules()] == before
    assert net(torch.ones(1, 2)).requires_grad
