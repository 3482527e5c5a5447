"""Filters on spheres: against rotations by matrix exponentials, other optimizers beside them, saving and resuming."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit
from normtables.norms.riemannian import along_geodesic, tangent
from normtables.training.run import execute

RULES = ["sgd_g", "adam_g"]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1, fused=True, foreach=False),
}


def riemannian(**options):
    return METHODS.build({"name": "riemannian", **options})


def network(method, dtype=torch.float64):
    """Filters on spheres in 0 and 3; 4 has as many outputs as inputs; the last layer is nobody's."""
    kit = Kit(method)
    net = nn.Sequential(
        kit.conv(2, 5, 3),
        kit.norm_act(5, 2),
        nn.Flatten(),
        kit.linear(5 * 2 * 2, 6),
        kit.linear(6, 6),
        kit.norm_act(6),
        kit.head(6, 3),
    ).to(dtype)
    method.init(net)
    return net


FILTERS = ["0.weight", "3.weight"]


def build(name="sgd", dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    method = riemannian(**options)
    net = network(method, dtype)
    return net, method.optimizer(net, OPTIMIZERS[name](net.parameters()))


def loss_of(net, dtype=torch.float64, generator=None):
    x = torch.randn(8, 2, 4, 4, dtype=dtype, generator=generator)
    return nn.functional.cross_entropy(net(x), torch.arange(8) % 3)


def train(net, optimizer, steps, dtype=torch.float64, seed=7):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = loss_of(net, dtype, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def lengths(net):
    weights = dict(net.named_parameters())
    return torch.cat([weights[name].detach().flatten(1).norm(dim=1) for name in FILTERS])


# who lives on a sphere


def test_filters_start_on_the_sphere_and_others_as_they_were_drawn():
    method = riemannian()
    kit = Kit(method)
    layers = {
        "few": kit.conv(3, 4, 3),
        "one": kit.linear(2, 1),
        "signal": kit.conv(2, 5, 3, dims=1),
        "square": kit.linear(4, 4),
        "wide": kit.linear(3, 9),
        "head": kit.head(9, 2),
    }
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    method.init(nn.Sequential(*layers.values()))
    for name, layer in layers.items():
        rows, old = layer.weight.detach().flatten(1), before[name].flatten(1)
        if name in ("few", "one", "signal"):
            old = old / old.norm(dim=1, keepdim=True)
        torch.testing.assert_close(rows, old)


def test_the_last_group_is_the_filters_and_no_other_group_has_them():
    net, optimizer = build(lr=0.3)
    weights = dict(net.named_parameters())
    *others, sphere = optimizer.param_groups
    assert [id(p) for p in sphere["params"]] == [id(weights[name]) for name in FILTERS]
    assert sphere["lr"] == 0.3
    rest = [id(p) for group in others for p in group["params"]]
    assert sorted(rest) == sorted(id(p) for name, p in weights.items() if name not in FILTERS)
    assert others[0]["lr"] == 0.1


@pytest.mark.parametrize(("rule", "lr"), [("sgd_g", 0.2), ("adam_g", 0.05)])
def test_the_papers_rates(rule, lr):
    assert build(rule=rule)[1].param_groups[-1]["lr"] == lr


def test_layers_are_batch_normalization():
    layer = riemannian(epsilon=0.5, momentum=0.25).norm(4, 2)
    assert isinstance(layer, nn.BatchNorm2d)
    assert (layer.eps, layer.momentum) == (0.5, 0.25)
    assert not Kit(riemannian()).bias


def test_the_length_of_a_filter_means_nothing_to_the_network():
    net = network(riemannian(epsilon=1e-12))
    x = torch.randn(8, 2, 4, 4, dtype=torch.float64)
    y = net(x)
    with torch.no_grad():
        net[0].weight.mul_(3.7)
    torch.testing.assert_close(net(x), y)


# the step


def reference(rule, y, gradients, lr, clip, orthogonality, beta1=0.9, beta2=0.99):
    """Filters one by one in NumPy; each step and transport is a rotation, the exponential of a skew matrix."""
    y = y.copy()
    m, v = np.zeros_like(y), np.zeros(len(y))
    for t, g in enumerate(gradients, 1):
        gram = y @ y.T
        pull = np.array([sum(2 * (gram[i, j] - (i == j)) * y[j] for j in range(len(y))) for i in range(len(y))])
        new = y.copy()
        for i in range(len(y)):
            h = (np.eye(y.shape[1]) - np.outer(y[i], y[i])) @ (g[i] + orthogonality * pull[i])
            h *= min(1, clip / np.linalg.norm(h))
            if rule == "sgd_g":
                d = m[i] = beta1 * m[i] - lr * h
            else:
                m[i] = beta1 * m[i] + (1 - beta1) * h
                v[i] = beta2 * v[i] + (1 - beta2) * h @ h
                corrected = math.sqrt(1 - beta2**t) / (1 - beta1**t)
                d = -lr * corrected * m[i] / math.sqrt(v[i] + 1e-8)
            rotation = expm(np.outer(d, y[i]) - np.outer(y[i], d))
            new[i], m[i] = rotation @ y[i], rotation @ m[i]
        y = new
    return y


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [0.01, 1.0])  # below and above the clip
@pytest.mark.parametrize("orthogonality", [0.0, 0.1])
def test_steps_are_rotations(rule, scale, orthogonality):
    rng = np.random.default_rng(0)
    options = {"lr": 0.7, "clip": 0.2, "orthogonality": orthogonality, "beta1": 0.8, "beta2": 0.95}
    method = riemannian(rule=rule, **options)
    layer = Kit(method).linear(6, 4).double()
    method.init(layer)
    optimizer = method.optimizer(layer, torch.optim.SGD([layer.weight], lr=1))
    gradients = scale * rng.normal(size=(5, 4, 6))
    start = layer.weight.detach().numpy().copy()
    for g in gradients:
        layer.weight.grad = torch.tensor(g)
        optimizer.step()
        assert np.array_equal(layer.weight.grad, g), "the gradient is not touched"
    expected = reference(rule, start, gradients, **options)
    np.testing.assert_allclose(layer.weight.detach(), expected, atol=1e-12)
    assert np.abs(expected - start).max() > 0.05


@given(
    filters=st.integers(1, 4),
    size=st.integers(2, 9),
    angle=st.floats(0, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_a_step_goes_along_a_great_circle(filters, size, angle, seed):
    """The end is `angle` away from y, in the plane of y and d; the direction is carried along, its length kept."""
    generator = torch.Generator().manual_seed(seed)
    y, d = (torch.randn(filters, size, generator=generator, dtype=torch.float64) for _ in range(2))
    y = y / y.norm(dim=1, keepdim=True)
    d = d - (d * y).sum(1, keepdim=True) * y
    d = angle * d / d.norm(dim=1, keepdim=True)
    end, (carried,) = along_geodesic(y, d, d)
    torch.testing.assert_close(end.norm(dim=1), torch.ones(filters, dtype=torch.float64))
    torch.testing.assert_close((end * y).sum(1), torch.full([filters], math.cos(angle), dtype=torch.float64))
    torch.testing.assert_close(carried.norm(dim=1), torch.full([filters], angle, dtype=torch.float64))
    torch.testing.assert_close((carried * end).sum(1), torch.zeros(filters, dtype=torch.float64))
    back, _ = along_geodesic(end, -carried)
    torch.testing.assert_close(back, y)


def test_the_regulariser_is_the_gradient_of_its_formula():
    y = torch.randn(4, 6, dtype=torch.float64)
    y = (y / y.norm(dim=1, keepdim=True)).requires_grad_()
    penalty = 0.3 / 2 * (y @ y.T - torch.eye(4)).square().sum()
    (g,) = torch.autograd.grad(penalty, y)
    y = y.detach()
    expected = g - (g * y).sum(1, keepdim=True) * y
    got = tangent(y, torch.zeros_like(y), {"orthogonality": 0.3, "clip": 1e9})
    torch.testing.assert_close(got, expected)


def test_long_gradients_are_shortened_filter_by_filter():
    y = torch.eye(3, 5, dtype=torch.float64)
    g = torch.zeros_like(y)
    g[0, 4], g[1, 4] = 3.0, 0.05
    h = tangent(y, g, {"orthogonality": 0.0, "clip": 0.1})
    assert h.norm(dim=1).tolist() == pytest.approx([0.1, 0.05, 0.0])


@pytest.mark.parametrize("rule", RULES)
def test_filters_stay_on_the_sphere(rule):
    net, optimizer = build(dtype=torch.float32, rule=rule)
    start = copy.deepcopy(net.state_dict())
    train(net, optimizer, 300, torch.float32)
    assert (lengths(net) - 1).abs().max() < 1e-6
    for name in FILTERS:
        assert (net.state_dict()[name] - start[name]).abs().max() > 0.1


@pytest.mark.parametrize("rule", RULES)
def test_a_filter_without_a_gradient_rests(rule):
    """No weight decay, no momentum from nowhere, no 0/0."""
    net, optimizer = build(rule=rule, orthogonality=0)
    before = copy.deepcopy(net.state_dict())
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    net[3].weight.grad = None
    for _ in range(2):
        optimizer.step()
    for name in FILTERS:
        torch.testing.assert_close(net.state_dict()[name], before[name], rtol=0, atol=1e-15)
    assert not torch.equal(net.state_dict()["4.weight"], before["4.weight"]), "others decay"


@pytest.mark.parametrize("rule", RULES)
def test_channels_last_changes_nothing(rule):
    nets = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        method = riemannian(rule=rule)
        net = network(method).to(memory_format=memory_format)
        train(net, method.optimizer(net, OPTIMIZERS["sgd"](net.parameters())), 3)
        nets.append(net)
    assert nets[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())


# beside other optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rest_is_the_configurations_optimizers(name):
    """The same gradients to the optimizer alone, on everything but the filters."""
    net, optimizer = build(name)
    other = copy.deepcopy(net)
    theirs = {n: p for n, p in other.named_parameters() if n not in FILTERS}
    alone = OPTIMIZERS[name](theirs.values())
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        for n, parameter in net.named_parameters():
            parameter.grad = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            if n in theirs:
                theirs[n].grad = parameter.grad.clone()
        optimizer.step()
        alone.step()
    for n, parameter in theirs.items():
        assert torch.equal(net.state_dict()[n], parameter), n
    assert len(optimizer.state) == len(list(net.parameters()))


def test_gradients_are_cleared_everywhere_and_closures_called():
    net, optimizer = build()

    def closure():
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert all(p.grad is not None for p in net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_to_the_same_numbers(name, rule):
    whole, optimizer = build(name, rule=rule)
    train(whole, optimizer, 3)
    buffer = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    torn, other = build(name, seed=1, rule=rule)
    torn.load_state_dict(state["model"])
    other.load_state_dict(state["optimizer"])
    for net, one in ((whole, optimizer), (torn, other)):
        for group in one.param_groups:  # what the loop does must reach both kinds
            group["lr"] *= 0.5
        train(net, one, 3, seed=8)
    for name, value in whole.state_dict().items():
        assert torch.equal(torn.state_dict()[name], value), name


def test_a_rate_of_zero_stops_each_kind_alone():
    for still in (0, -1):
        net, optimizer = build()
        before = copy.deepcopy(net.state_dict())
        optimizer.param_groups[still]["lr"] = 0.0
        train(net, optimizer, 2)
        moved = {n for n, p in net.named_parameters() if (p - before[n]).abs().max() > 1e-12}
        everything = dict(net.named_parameters()).keys()
        assert moved == (everything - set(FILTERS) if still else set(FILTERS))


def test_networks_without_filters_of_the_kind_train_too():
    method = riemannian()
    kit = Kit(method)
    net = nn.Sequential(kit.linear(3, 3), kit.norm_act(3), kit.head(3, 2))
    method.init(net)
    optimizer = method.optimizer(net, OPTIMIZERS["sgd"](net.parameters()))
    net(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())


# runs


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optim", ["sgd", "adagrad", "adam"])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(small, same_in_two_parts, tmp_path, rule, optim):
    settings = {
        "norm": "riemannian",
        "norm__rule": rule,
        "optim": optim,
        "runtime__checkpoint": 0,
        "budget": "9steps",
        "schedule": "step",
        "schedule__every": "3steps",
        "schedule__factor": 0.5,
    }
    whole, torn = (small(results=str(tmp_path / name), **settings) for name in ("whole", "torn"))
    same_in_two_parts(whole, torn, step=6)


def test_a_convolutional_run(small):
    cfg = small(model="cnn4", model__widths=[2, 3], norm="riemannian", optim__momentum=0.9, optim__weight_decay=0.01)
    assert execute(cfg).status == "finished"


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "sgd"},
        {"lr": 0},
        {"lr": float("nan")},
        {"clip": -1},
        {"beta1": 1},
        {"beta2": -0.1},
        {"orthogonality": -0.1},
        {"epsilon": 0},
        {"momentum": 2},
    ],
    ids=str,
)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        riemannian(**options)
    assert "\n" not in str(error.value)
