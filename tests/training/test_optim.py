"""Optimizers against updates computed by hand, L2 on matrices alone, and learning-rate schedules."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.optim import OPTIMIZERS, SCHEDULES

CLOCK = {"step": 1, "epoch": 59}
SETTINGS = {
    "sgd": {"lr": 0.5, "momentum": 0.9, "nesterov": False, "weight_decay": 0.25},
    "adagrad": {"lr": 0.5, "epsilon": 0.125, "weight_decay": 0.25},
    "adam": {"lr": 0.5, "betas": [0.8, 0.9], "epsilon": 0.125, "weight_decay": 0.25},
    "adamax": {"lr": 0.5, "betas": [0.8, 0.9], "epsilon": 0.125, "weight_decay": 0.25},
    "rmsprop": {"lr": 0.5, "decay": 0.75, "epsilon": 0.125, "weight_decay": 0.25},
}


def sgd(w, gradients, lr=0.5, momentum=0.9, nesterov=False):
    velocity = np.zeros_like(w)
    for gradient in gradients:
        g = gradient(w)
        velocity = momentum * velocity + g
        w = w - lr * (g + momentum * velocity if nesterov else velocity)
    return w


def adagrad(w, gradients, lr=0.5, epsilon=0.125):
    total = np.zeros_like(w)
    for gradient in gradients:
        g = gradient(w)
        total = total + g**2
        w = w - lr * g / (np.sqrt(total) + epsilon)
    return w


def adam(w, gradients, lr=0.5, beta1=0.8, beta2=0.9, epsilon=0.125):
    first = second = np.zeros_like(w)
    for t, gradient in enumerate(gradients, 1):
        g = gradient(w)
        first, second = beta1 * first + (1 - beta1) * g, beta2 * second + (1 - beta2) * g**2
        w = w - lr * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + epsilon)
    return w


def adamax(w, gradients, lr=0.5, beta1=0.8, beta2=0.9, epsilon=0.125):
    first = largest = np.zeros_like(w)
    for t, gradient in enumerate(gradients, 1):
        g = gradient(w)
        first, largest = beta1 * first + (1 - beta1) * g, np.maximum(beta2 * largest, np.abs(g) + epsilon)
        w = w - lr / (1 - beta1**t) * first / largest
    return w


def rmsprop(w, gradients, lr=0.5, decay=0.75, epsilon=0.125):
    """As the code of Mnih et al. 2015 writes it: g, g2 <- running means of the gradient and its square."""
    mean = square = np.zeros_like(w)
    for gradient in gradients:
        g = gradient(w)
        mean, square = decay * mean + (1 - decay) * g, decay * square + (1 - decay) * g * g
        w = w - lr * g / np.sqrt(square - mean * mean + epsilon)
    return w


BY_HAND = {"sgd": sgd, "adagrad": adagrad, "adam": adam, "adamax": adamax, "rmsprop": rmsprop}


def network():
    """A matrix, a kernel, and vectors: biases, gains, shifts."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3)).double()


def updated(name, pushes, **options):
    """Initial and final parameters by name, the gradient of update t being pushes[t]."""
    net = network()
    before = {k: p.detach().numpy().copy() for k, p in net.named_parameters()}
    optimizer = OPTIMIZERS.build({"name": name, **SETTINGS[name], **options}, net)
    for push in pushes:
        for key, parameter in net.named_parameters():
            parameter.grad = torch.tensor(push[key])
        optimizer.step()
    return before, {k: p.detach().numpy() for k, p in net.named_parameters()}


@pytest.fixture
def pushes():
    rng = np.random.default_rng(0)
    shapes = {k: p.shape for k, p in network().named_parameters()}
    return [{k: rng.normal(size=shape) for k, shape in shapes.items()} for _ in range(4)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_by_hand_with_l2_on_matrices_and_kernels_alone(name, pushes):
    before, after = updated(name, pushes)
    decayed = {"0.weight", "3.weight"}
    assert decayed < set(before)
    for key, w in before.items():
        decay = 0.25 if key in decayed else 0.0
        gradients = [lambda w, g=push[key], d=decay: g + d * w for push in pushes]
        np.testing.assert_allclose(after[key], BY_HAND[name](w, gradients), rtol=1e-9, err_msg=key)


def test_nesterov(pushes):
    before, after = updated("sgd", pushes, nesterov=True, weight_decay=0.0)
    for key, w in before.items():
        gradients = [lambda w, g=push[key]: g for push in pushes]
        np.testing.assert_allclose(after[key], sgd(w, gradients, nesterov=True), rtol=1e-9)


def test_plain_sgd(pushes):
    before, after = updated("sgd", pushes[:1], momentum=0.0, weight_decay=0.0)
    for key, w in before.items():
        np.testing.assert_allclose(after[key], w - 0.5 * pushes[0][key], rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("clip", [0.5, 1000.0])
def test_the_norm_of_the_whole_gradient_is_clipped(name, clip, pushes):
    """Of all parameters together, and before the L2 that the optimizer adds."""
    before, after = updated(name, pushes, clip=clip)
    factors = [min(1.0, clip / np.sqrt(sum((g**2).sum() for g in push.values()))) for push in pushes]
    assert (min(factors) == 1) == (clip == 1000)
    for key, w in before.items():
        decay = 0.25 if key in {"0.weight", "3.weight"} else 0.0
        gradients = [lambda w, g=f * push[key], d=decay: g + d * w for f, push in zip(factors, pushes)]
        np.testing.assert_allclose(after[key], BY_HAND[name](w, gradients), rtol=1e-5, err_msg=key)


def test_rmsprop_under_a_constant_gradient():
    """Closed form: m = (1 - d^t) g and s = (1 - d^t) g^2, so s - m^2 = d^t (1 - d^t) g^2."""
    net = network()
    before = net[3].bias.detach().clone()
    optimizer = OPTIMIZERS.build({"name": "rmsprop", **SETTINGS["rmsprop"]}, net)
    g, d, moved = 3.0, 0.75, 0.0
    for t in range(1, 6):
        net[3].bias.grad = torch.full((3,), g, dtype=torch.float64)
        optimizer.step()
        moved += 0.5 * g / np.sqrt(d**t * (1 - d**t) * g**2 + 0.125)
    torch.testing.assert_close(net[3].bias.detach(), before - moved)
    assert all(p.grad is None or p is net[3].bias for p in net.parameters())


def test_rmsprop_is_torchs_but_for_where_epsilon_stands(pushes):
    """With next to no epsilon they agree, with the source's they do not."""
    for epsilon, agree in ((1e-14, True), (0.01, False)):
        _, after = updated("rmsprop", pushes, epsilon=epsilon, weight_decay=0.0, lr=0.001)
        net = network()
        torchs = torch.optim.RMSprop(net.parameters(), lr=0.001, alpha=0.75, eps=epsilon, centered=True)
        for push in pushes:
            for key, parameter in net.named_parameters():
                parameter.grad = torch.tensor(push[key])
            torchs.step()
        same = [np.allclose(after[key], p.detach().numpy(), rtol=1e-5) for key, p in net.named_parameters()]
        assert all(same) if agree else not any(same)


def test_the_state_of_rmsprop_is_saved_and_loaded(pushes):
    nets = [network() for _ in range(2)]
    optimizers = [OPTIMIZERS.build({"name": "rmsprop", **SETTINGS["rmsprop"]}, net) for net in nets]
    for i, push in enumerate(pushes):
        for net, optimizer in zip(nets, optimizers):
            for key, parameter in net.named_parameters():
                parameter.grad = torch.tensor(push[key])
            if net is nets[0] or i >= 2:
                optimizer.step()
        if i == 1:
            nets[1].load_state_dict(nets[0].state_dict())
            optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for one, other in zip(nets[0].parameters(), nets[1].parameters()):
        assert torch.equal(one, other)


def test_frozen_parameters_stay_out():
    net = network()
    net[0].weight.requires_grad_(False)
    optimizer = OPTIMIZERS.build({"name": "sgd", **SETTINGS["sgd"]}, net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"lr": lr}) for name in OPTIMIZERS for lr in (0.0, -0.1, float("nan"), float("inf"))),
        *((name, {"weight_decay": value}) for name in OPTIMIZERS for value in (-0.1, float("nan"))),
        ("adagrad", {"epsilon": 0}),
        ("adam", {"epsilon": -1e-8}),
        ("adam", {"betas": [0.9]}),
        ("adam", {"betas": [0.9, 1.0]}),
        ("adamax", {"betas": [0.9, 1.0]}),
        ("adamax", {"epsilon": 0.0}),
        ("rmsprop", {"decay": 1.0}),
        ("rmsprop", {"epsilon": 0.0}),
        ("sgd", {"momentum": -0.5}),
        *((name, {"clip": value}) for name in ("sgd", "adam") for value in (0.0, -1.0, float("nan"), float("inf"))),
        ("sgd", {"momentum": 0.0, "nesterov": True}),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(name, options):
    with pytest.raises(UserError, match="|".join(options)) as error:
        OPTIMIZERS.build({"name": name, **SETTINGS[name], **options}, network())
    assert "\n" not in str(error.value)


# schedules

BOB = {"name": "newbob", "score": "valid/loss", "start": 0.01, "stop": 0.001, "factor": 0.5}


def test_constant():
    schedule = SCHEDULES.build({"name": "constant"}, CLOCK, 100)
    assert {schedule(step, []) for step in (0, 1, 99, 10_000)} == {1.0}


def test_step_falls_after_every_so_many_updates():
    schedule = SCHEDULES.build({"name": "step", "every": "2epochs", "factor": 0.5}, CLOCK, 1000)
    assert [schedule(done, []) for done in (0, 117, 118, 235, 236)] == [1, 1, 0.5, 0.5, 0.25]


def test_step_may_begin_elsewhere():
    late = {"name": "step", "every": "1epochs", "factor": 0.5, "start": "3epochs"}
    schedule, length = SCHEDULES.build(late, CLOCK, 1000), CLOCK["epoch"]
    rates = [schedule(done, []) for done in (0, 3 * length - 1, 3 * length, 4 * length - 1, 4 * length)]
    assert rates == [1, 1, 0.5, 0.5, 0.25]


def test_exponential_falls_smoothly():
    schedule = SCHEDULES.build({"name": "exponential", "every": "2epochs", "factor": 0.25}, CLOCK, 1000)
    assert [schedule(done, []) for done in (0, 59, 118, 236)] == pytest.approx([1, 0.5, 0.25, 0.0625])
    assert schedule(1, []) == pytest.approx(0.25 ** (1 / 118))


def test_a_sixth_power_of_the_factor_decays_six_times_faster():
    slow = SCHEDULES.build({"name": "exponential", "every": "6epochs", "factor": 0.96}, CLOCK, 1000)
    fast = SCHEDULES.build({"name": "exponential", "every": "6epochs", "factor": 0.96**6}, CLOCK, 1000)
    assert [fast(done, []) for done in (7, 100)] == pytest.approx([slow(6 * done, []) for done in (7, 100)])


def test_milestones():
    schedule = SCHEDULES.build({"name": "milestones", "at": ["2epochs", "150steps"], "factor": 0.5}, CLOCK, 1000)
    assert [schedule(done, []) for done in (0, 117, 118, 149, 150, 900)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert SCHEDULES.build({"name": "milestones", "at": [], "factor": 0.5}, CLOCK, 1000)(900, []) == 1


def test_durations_may_be_shares_of_the_budget():
    schedule = SCHEDULES.build({"name": "milestones", "at": ["0.5budget", "0.75budgets"], "factor": 0.5}, CLOCK, 400)
    assert [schedule(done, []) for done in (199, 200, 299, 300)] == [1, 0.5, 0.5, 0.25]
    for name in ("step", "exponential"):
        assert SCHEDULES.build({"name": name, "every": "0.1budget", "factor": 0.5}, CLOCK, 400)(80, []) == 0.25


IMPOSSIBLE = [
    *((name, {"factor": value}) for name in ("step", "exponential", "milestones") for value in (0.0, -1)),
    *((name, {"every": value}) for name in ("step", "exponential") for value in ("2", "2weeks")),
    ("milestones", {"at": ["1epoch", "2weeks"]}),
]
POSSIBLE = {"step": {"every": "1epoch"}, "exponential": {"every": "1epoch"}, "milestones": {"at": ["1epoch"]}}


@pytest.mark.parametrize(("name", "options"), IMPOSSIBLE, ids=str)
def test_impossible_schedules_are_refused(name, options):
    with pytest.raises(UserError, match=f"schedule.{next(iter(options))}="):
        SCHEDULES.build({"name": name, **POSSIBLE[name], "factor": 0.1, **options}, CLOCK, 100)


def test_linear_goes_through_its_points():
    options = {"name": "linear", "at": ["2epochs", "0.5budget"], "factors": [1.0, 0.2]}
    schedule = SCHEDULES.build(options, CLOCK, 318)
    assert [schedule(done, []) for done in (0, 117, 118)] == [1, 1, 1]
    assert [schedule(done, []) for done in (128, 158, 318)] == pytest.approx(
        [1 - 0.8 * 10 / 41, 0.2 + 0.8 * 1 / 41, 0.2]
    )
    falling = SCHEDULES.build({"name": "linear", "at": ["1budget"], "factors": [0.0]}, CLOCK, 100)
    assert [falling(done, []) for done in (0, 25, 100, 1000)] == [1, 0.75, 0, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"at": ["1epoch"], "factors": [0.1, 0.2]},
        {"at": ["2epochs", "1epoch"], "factors": [0.1, 0.2]},
        {"at": ["1epoch"], "factors": [-0.1]},
        {"at": ["1year"], "factors": [0.1]},
    ],
    ids=str,
)
def test_impossible_lines_are_refused(options):
    with pytest.raises(UserError, match=r"schedule\.(at|factors)"):
        SCHEDULES.build({"name": "linear", **options}, CLOCK, 100)


def newbob(losses, **options):
    """The factor after each of the rows with these losses, and before the first."""
    schedule = SCHEDULES.build(BOB | options, CLOCK, 100)
    return [
        schedule(59 * n, [{"step": 59 * i, "valid/loss": loss} for i, loss in enumerate(losses[:n])])
        for n in range(len(losses) + 1)
    ]


def kaldi(losses, start=0.01, stop=0.001, factor=0.5):
    """The same as nnet1's train_scheduler.sh goes about it, told the loss of the first epoch before it starts."""
    loss, rate, halving, found = losses[0], 1.0, False, [1.0, 1.0]
    for new in losses[1:]:
        previous, loss = loss, new if new < loss else loss
        gain = (previous - loss) / previous
        if halving and gain < stop:
            return [*found, 0.0]
        halving = halving or gain < start
        rate *= factor if halving else 1
        found.append(rate)
    return found


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0], [1, 1]),
        ([2.0, 1.9, 1.8], [1, 1, 1, 1]),
        ([2.0, 1.99, 1.98], [1, 1, 0.5, 0.25]),
        ([2.0, 1.99, 1.2, 1.0], [1, 1, 0.5, 0.25, 0.125]),
        ([2.0, 2.1, 1.9], [1, 1, 0.5, 0.25]),
        ([2.0, 1.0, 1.5, 1.2], [1, 1, 1, 0.5, 0]),
        ([2.0, 1.99, 1.9885], [1, 1, 0.5, 0]),
        ([2.0, float("nan"), 1.9], [1, 1, 0.5, 0.25]),
        ([2.0, float("inf"), float("nan")], [1, 1, 0.5, 0]),
    ],
    ids=str,
)
def test_newbob_by_hand(losses, expected):
    assert newbob(losses) == expected


def test_newbob_is_kaldis_scheduler():
    rng, ends = np.random.default_rng(3), 0
    for _ in range(200):
        losses = list(np.exp(np.cumsum(rng.normal(-0.02, 0.03, 8))))
        expected = kaldi(losses)
        ends += expected[-1] == 0
        assert newbob(losses)[: len(expected)] == expected
    assert 20 < ends < 180


def test_newbobs_numbers_are_options():
    losses = [2.0, 1.7, 1.5, 1.4]
    assert newbob(losses, start=0.2, stop=0.1, factor=0.1) == [1, 1, 0.1, pytest.approx(0.01), 0]


def test_newbob_names_the_scores_there_are():
    with pytest.raises(UserError, match="no metric 'valid/los'; did you mean 'valid/loss'"):
        newbob([1.0], score="valid/los")


@pytest.mark.parametrize("options", [{"factor": 0.0}, {"factor": 1.0}, {"start": 0.0005}, {"stop": -0.1}], ids=str)
def test_impossible_newbobs_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        SCHEDULES.build(BOB | options, CLOCK, 100)
