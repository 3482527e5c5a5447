"""Optimizers against updates computed by hand, L2 on matrices alone, and learning-rate schedules."""

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


BY_HAND = {"sgd": sgd, "adagrad": adagrad, "adam": adam}


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
        ("sgd", {"momentum": -0.5}),
        ("sgd", {"momentum": 0.0, "nesterov": True}),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(name, options):
    with pytest.raises(UserError, match="|".join(options)) as error:
        OPTIMIZERS.build({"name": name, **SETTINGS[name], **options}, network())
    assert "\n" not in str(error.value)


# schedules


def test_constant():
    schedule = SCHEDULES.build({"name": "constant"}, CLOCK, 100)
    assert {schedule(step) for step in (0, 1, 99, 10_000)} == {1.0}


def test_step_falls_after_every_so_many_updates():
    schedule = SCHEDULES.build({"name": "step", "every": "2epochs", "factor": 0.5}, CLOCK, 1000)
    assert [schedule(done) for done in (0, 117, 118, 235, 236)] == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("options", [{"factor": 0.0}, {"factor": -1}, {"every": "2"}, {"every": "2weeks"}], ids=str)
def test_impossible_schedules_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        SCHEDULES.build({"name": "step", "every": "1epoch", "factor": 0.1, **options}, CLOCK, 100)
