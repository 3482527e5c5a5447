"""Marks on layers: rates that optimizers read, and lengths that hold after every update."""

import pytest
import torch
from torch import nn

from normtables.config import facts
from normtables.models.marks import hold_lengths, mark
from normtables.norms import METHODS, Kit
from normtables.optim import OPTIMIZERS, parameter_groups
from normtables.records import Store
from normtables.training import run
from normtables.training.run import Training, execute

RULES = {
    "sgd": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "adagrad": {"name": "adagrad", "lr": 0.01, "epsilon": 1e-6, "weight_decay": 0.0},
    "adam": {"name": "adam", "lr": 0.01, "betas": [0.9, 0.999], "epsilon": 1e-8, "weight_decay": 0.0},
}
MAXOUT = {
    "model": "maxout",
    "model.variant": "svhn",
    "model.width": 0.02,
    "norm": "none",
    "init": "he_normal",  # filters of length 1.4
    "optim.lr": 2.0,
    "optim.momentum": 0.5,
    "batch_size": 20,
    "budget": "4steps",
    "evaluate": "4steps",
}


def lengths(weight):
    return weight.detach().flatten(1).norm(dim=1)


def network():
    torch.manual_seed(1)
    net = nn.Sequential(
        mark(nn.Conv2d(2, 4, 3), longest=0.9), nn.Flatten(), mark(nn.Linear(4, 5), longest=1.5), nn.Linear(5, 3)
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(10)
    return net


@pytest.mark.parametrize("rule", RULES)
def test_lengths_hold_after_every_update_of_any_optimizer(rule):
    net = network()
    optimizer = OPTIMIZERS.build(RULES[rule], net)
    hold_lengths(net, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(6, 2, 3, 3)).square().mean().backward()
        optimizer.step()
        assert lengths(net[0].weight).max() <= 0.9 * (1 + 1e-6)
        assert lengths(net[2].weight).max() <= 1.5 * (1 + 1e-6)
    assert lengths(net[3].weight).max() > 2, "a layer without a mark is free"


def test_a_row_that_is_too_long_keeps_its_direction_and_the_others_every_bit():
    layer = mark(nn.Linear(2, 3), longest=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.1], [0.0, 0.0]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    hold_lengths(nn.Sequential(layer), optimizer)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight[0], torch.tensor([0.6, 0.8]))
    assert torch.equal(layer.weight[1:], torch.tensor([[0.3, 0.1], [0.0, 0.0]]))


@pytest.mark.parametrize("norm", ["none", "riemannian", "cosine", "wn", "normprop"])
def test_with_every_kind_of_method(norm):
    """Weights that the method parametrises are its own affair; a layer inside a wrapper is found."""
    method = METHODS.build({"name": norm})
    net = nn.Sequential(mark(Kit(method).linear(4, 3), longest=0.5), mark(Kit(method).head(3, 2), longest=0.5))
    optimizer = method.optimizer(net, OPTIMIZERS.build(RULES["sgd"], net))
    before = [p.clone() for p in net.parameters()]
    hold_lengths(net, optimizer)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    plain = [
        layer for layer in net.modules() if isinstance(layer, nn.Linear) and not hasattr(layer, "parametrizations")
    ]
    assert len(plain) == {"none": 2, "riemannian": 2, "cosine": 1}.get(norm, 0)
    for layer in plain:
        assert lengths(layer.weight).max() <= 0.5 * (1 + 1e-6)
    if norm in ("wn", "normprop"):
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))


def test_nothing_is_hooked_without_a_mark():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    hold_lengths(net, optimizer)
    assert not optimizer._optimizer_step_post_hooks


def test_a_run_holds_the_lengths(composer, results):
    record = execute(composer.config(MAXOUT | {"results": str(results), "runtime.keep_weights": True}))
    weights = torch.load(Store(results).folder(record.id) / "weights.pt")
    bounds = [0.9, 1.9365, 1.9365, 1.9, 1.9365]
    kernels = [value for name, value in weights.items() if name.endswith("weight")]
    assert len(kernels) == len(bounds)
    for kernel, bound in zip(kernels, bounds):
        assert lengths(kernel).max() <= bound * (1 + 1e-6)
    assert any(lengths(kernel).max() > bound * 0.999 for kernel, bound in zip(kernels, bounds)), "nothing was held"


# rates


def test_groups_by_rate_and_decay():
    net = nn.Sequential(mark(nn.Linear(2, 3), rates=(0.1, 2.0)), nn.Linear(3, 4), mark(nn.Linear(4, 1), rates=(0.1, 1)))
    groups = parameter_groups(net, 0.5)
    found = [[len(g["params"]), g["weight_decay"], g.get("rate", 1.0)] for g in groups]
    assert found == [[1, 0.5, 1.0], [2, 0.0, 1.0], [2, 0.5, 0.1], [1, 0.0, 2.0]]


def test_without_marks_there_are_two_groups_as_ever():
    groups = parameter_groups(nn.Linear(2, 3), 0.5)
    assert [sorted(g) for g in groups] == [["params", "weight_decay"]] * 2
    assert [len(g["params"]) for g in groups] == [1, 1]


def test_a_layer_learns_at_its_rate_and_the_schedule_keeps_it(composer, tmp_path):
    """The convolutions of this network learn at 1/20 of the rate, the hidden layer and the last one at the rate."""
    cfg = composer.config(MAXOUT | {"schedule": "step", "schedule.every": "2steps", "schedule.factor": 0.5})
    training = Training(cfg, facts(cfg), tmp_path, run.silent)
    for _ in training.pauses():
        pass
    rates = {p: group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    net = training.model
    assert {rates[p] for stage in (net.stage1, net.stage2, net.stage3) for p in stage.parameters()} == {0.05}
    assert {rates[p] for layer in (net.hidden, net.head) for p in layer.parameters()} == {1.0}
    assert training.optimizer.param_groups[0]["lr"] == 1.0, "what the history prints is the configuration's rate"
