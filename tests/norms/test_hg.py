"""Hendrycks & Gimpel: constants against scipy, initial weights against variances that they keep, BN's variance."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit
from normtables.norms.hg import ERRATA, PRINTED, moments_of
from normtables.training.run import Training, execute


def hg(**options):
    return METHODS.build({"name": "hg", **options})


def phi(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def cdf(z):
    return math.erfc(-z / math.sqrt(2)) / 2


def step(z):
    return float(z > 0)


# nonlinearity: (layer, f, f', kinks)
FUNCTIONS = {
    "ReLU": (nn.ReLU, lambda z: max(z, 0), step, [0]),
    "inplace": (lambda: nn.ReLU(inplace=True), lambda z: max(z, 0), step, [0]),
    "GELU": (nn.GELU, lambda z: z * cdf(z), lambda z: cdf(z) + z * phi(z), []),
    "Tanh": (nn.Tanh, math.tanh, lambda z: 1 - math.tanh(z) ** 2, []),
    "Identity": (nn.Identity, lambda z: z, lambda z: 1.0, []),
    "ELU": (nn.ELU, lambda z: z if z > 0 else math.expm1(z), lambda z: 1.0 if z > 0 else math.exp(z), [0]),
    "Leaky": (lambda: nn.LeakyReLU(0.2), lambda z: max(z, 0.2 * z), lambda z: 1.0 if z > 0 else 0.2, [0]),
    "ReLU6": (nn.ReLU6, lambda z: min(max(z, 0), 6), lambda z: float(0 < z < 6), [0, 6]),
    "Hardtanh": (nn.Hardtanh, lambda z: min(max(z, -1), 1), lambda z: float(abs(z) < 1), [-1, 1]),
    "Softshrink": (
        nn.Softshrink,
        lambda z: math.copysign(max(abs(z) - 0.5, 0), z),
        lambda z: float(abs(z) > 0.5),
        [-0.5, 0.5],
    ),
    "PReLU": (nn.PReLU, lambda z: max(z, 0.25 * z), lambda z: 1.0 if z > 0 else 0.25, [0]),
}


def expected_square(f, kinks):
    ends = [-12, *kinks, 12]
    return sum(quad(lambda z: f(z) ** 2 * phi(z), *pair, epsabs=1e-13)[0] for pair in itertools.pairwise(ends))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_constants_are_scipys(name):
    make, f, slope, kinks = FUNCTIONS[name]
    found = moments_of(make())
    assert found.energy == pytest.approx(expected_square(f, kinks), abs=1e-10)
    assert found.slope == pytest.approx(expected_square(slope, kinks), abs=1e-10)


def test_the_printed_constants_and_their_erratum():
    """All are the computed ones to three places, but for the three listed: those differ as listed."""
    wrong = {}
    for name, printed in PRINTED.items():
        computed = moments_of(getattr(nn, name)())
        assert computed.energy == pytest.approx(printed.energy, abs=6e-4)
        if abs(computed.slope - printed.slope) > 6e-4:
            wrong[name] = (printed.slope, round(computed.slope, 3))
    assert wrong == ERRATA
    assert PRINTED["Tanh"].slope == round(moments_of(nn.Tanh()).slope ** 2, 3), "printed squared"


def test_the_nonlinearity_is_left_as_it_was():
    act = nn.PReLU()
    before = copy.deepcopy(act.state_dict())
    moments_of(act)
    assert act.weight.dtype == torch.float32
    assert act.weight.grad is None
    assert torch.equal(act.weight, before["weight"])
    assert act.training


# initial weights


def drawn(rates=(0.0, 0.0), activation=nn.ReLU, width=40, **options):
    """inputs - dropout - linear - act - dropout - linear - act - ... - head, with a dropout in front of each layer."""
    method = hg(norm="none", **options)
    kit = Kit(method, activation)
    layers = []
    for rate in rates[:-1]:
        layers += [kit.dropout(rate), kit.linear(width, width), kit.norm_act(width)]
    net = nn.Sequential(*layers, kit.dropout(rates[-1]), kit.head(width, width))
    for layer in weighted(net):
        nn.init.constant_(layer.bias, 3.0)
    method.init(net)
    return net


def weighted(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]


def squared_lengths(net):
    """Of the rows of each layer, all equal."""
    found = []
    for layer in weighted(net):
        lengths = layer.weight.flatten(1).square().sum(1)
        torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths))
        assert layer.bias is None or (layer.bias == 0).all()
        found.append(lengths[0].item())
    return found


@pytest.mark.parametrize("weights", ["sphere", "orthonormal"])
@pytest.mark.parametrize("backward", [True, False])
def test_lengths_are_the_formulas(weights, backward):
    """By hand for ReLU: 1/2 of the nonlinearity in front, 1 of the inputs; behind the last layer there is none."""
    p = [0.9, 0.6, 0.5]
    net = drawn([1 - keep for keep in p], weights=weights, backward=backward)
    forward = [1 / p[0], 0.5 / p[1], 0.5 / p[2]]
    gradient = [p[1] * 0.5, p[2] * 0.5, 1.0]
    expected = [1 / (f + backward * g) for f, g in zip(forward, gradient)]
    assert squared_lengths(net) == pytest.approx(expected, rel=1e-5)


def test_at_equal_rates_inner_layers_have_the_papers_one_rate():
    p = 0.7
    net = drawn([1 - p] * 4, activation=nn.GELU)
    energy, slope = moments_of(nn.GELU())
    assert squared_lengths(net)[1:3] == pytest.approx([1 / (energy / p + p * slope)] * 2, rel=1e-5)


def test_printed_constants_are_an_option():
    computed, printed = (squared_lengths(drawn([0, 0, 0], nn.Tanh, constants=c)) for c in ("computed", "printed"))
    assert computed[1] == pytest.approx(1 / (0.394294 + 0.464403), rel=1e-4)
    assert printed[1] == pytest.approx(1 / (0.394 + 0.216), rel=1e-5)
    with pytest.raises(UserError, match="SiLU") as error:
        drawn(activation=nn.SiLU, constants="printed")
    assert "\n" not in str(error.value)


def test_convolutions_take_what_lies_between_them_in_the_models_order():
    method = hg()
    kit = Kit(method)
    net = nn.Sequential(
        kit.conv(2, 5, 3),
        kit.norm_act(5, 2),
        kit.pool(nn.MaxPool2d(2)),
        kit.dropout(0.5),
        kit.conv(5, 60, 3),
        kit.norm_act(60, 2),
        nn.Flatten(),
        kit.head(60, 3),
    )
    method.init(net)
    expected = [1 / (1 + 0.5 * 0.5), 1 / (0.5 / 0.5 + 0.5), 1 / (0.5 + 1)]
    assert squared_lengths(net) == pytest.approx(expected, rel=1e-5)


def test_directions_are_random_and_uniform():
    torch.manual_seed(1)
    first, second = (drawn([0.0], width=60)[-1].weight for _ in range(2))
    assert not torch.equal(first, second)
    unit = first / first.norm(dim=1, keepdim=True)
    assert unit.mean().item() == pytest.approx(0, abs=0.01)
    assert unit.pow(2).mean().item() == pytest.approx(1 / 60)
    assert unit.pow(4).mean().item() == pytest.approx(3 / (60 * 62), rel=0.1), "a Gaussian's directions"


@given(outputs=st.integers(1, 20), inputs=st.integers(1, 8), kernel=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_orthonormal_rows_in_groups_of_fan_in(outputs, inputs, kernel):
    layer = nn.Conv2d(inputs, outputs, kernel)
    hg(weights="orthonormal", backward=False).init(layer)
    for group in layer.weight.detach().flatten(1).split(inputs * kernel**2):
        torch.testing.assert_close(group @ group.T, torch.eye(len(group)), atol=1e-5, rtol=0)


def variances(net, x):
    found = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append(x.var().item())
    return found


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("weights", ["sphere", "orthonormal"])
def test_variance_is_kept_through_layers_with_dropout(activation, weights):
    """The first term alone: every pre-activation of eight layers has the inputs' variance, in training mode."""
    net = drawn([0.2, 0.5, 0.3, 0.5, 0.1, 0.5, 0.4, 0.5], activation, width=600, backward=False, weights=weights)
    assert variances(net, torch.randn(300, 600)) == pytest.approx([1] * 8, rel=0.25)


def test_with_both_terms_each_layer_keeps_the_forward_terms_share():
    """Half of it for ReLU without dropout; nonlinearities that are homogeneous keep the shares of all layers."""
    assert variances(drawn([0.0] * 5, width=600), torch.randn(300, 600)) == pytest.approx(
        [1 / 1.5, 1 / 3, 1 / 6, 1 / 12, 1 / 12 / 3], rel=0.2
    )
    # p = 1/2 in front and behind: 1 / (1 + 1/4)
    found = variances(drawn([0.5] * 4, width=600), torch.randn(300, 600))
    assert found[2] / found[1] == pytest.approx(0.8, rel=0.1)


# BN's variance


def normed(rate=0.5):
    method = hg(momentum=0.3)
    kit = Kit(method)
    net = nn.Sequential(
        kit.linear(4, 6), kit.norm_act(6), kit.dropout(rate), kit.linear(6, 5), kit.norm_act(5), kit.head(5, 2)
    ).double()
    method.init(net)
    return method, net


def norms(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]


def test_settling_moves_the_running_variance_alone_and_as_without_dropout():
    method, net = normed()
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randn(8, 4, dtype=torch.float64, generator=generator) for _ in range(4)]
    for x in batches:
        net(x)
    net[2].eval()  # modes are put back as they were, not all to one
    modes = [module.training for module in net.modules()]
    before = copy.deepcopy(net.state_dict())
    stream = iter(batches)
    with torch.no_grad():
        method.settle(net, lambda: net(next(stream)).sum(), {"step": 1, "epoch": 3})
    assert len(list(stream)) == 1, "one epoch of batches"
    assert [module.training for module in net.modules()] == modes
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"1.0.running_var", "4.0.running_var"}
    expected = [before["1.0.running_var"].numpy(), before["4.0.running_var"].numpy()]
    for x in batches[:3]:
        first = x.numpy() @ net[0].weight.detach().numpy().T
        hidden = np.maximum((first - first.mean(0)) / np.sqrt(first.var(0) + 1e-5), 0)
        second = hidden @ net[3].weight.detach().numpy().T
        expected = [0.7 * old + 0.3 * new.var(0, ddof=1) for old, new in zip(expected, (first, second))]
    for layer, variance in zip(norms(net), expected):
        np.testing.assert_allclose(layer.running_var, variance, rtol=1e-10)


def test_settling_mends_what_dropout_did_to_the_variance():
    """The paper's point: in training the units behind dropout vary more than they do in the test."""
    torch.manual_seed(0)
    method, net = normed(rate=0.5)
    data = [torch.randn(200, 4, dtype=torch.float64) for _ in range(60)]
    for x in data:
        net(x)
    layer = norms(net)[1]
    trained = layer.running_var.clone()
    stream = iter(data)
    with torch.no_grad():
        method.settle(net, lambda: net(next(stream)).sum(), {"epoch": 60})
    net.eval()
    seen = net[3](net[:3](torch.cat(data))).var(0)
    assert (trained > 1.2 * seen).all()
    torch.testing.assert_close(layer.running_var, seen, rtol=0.25, atol=0)


def test_layers_without_norms_have_nothing_to_settle():
    method = hg(norm="none")
    assert isinstance(method.norm(4, 0), nn.Identity)
    assert Kit(method).bias
    assert not Kit(hg()).bias
    assert isinstance(hg(epsilon=0.5, momentum=0.25).norm(4, 2), nn.BatchNorm2d)
    layer = hg(epsilon=0.5, momentum=0.25).norm(4, 0)
    assert (layer.eps, layer.momentum) == (0.5, 0.25)

    def forward():
        raise AssertionError

    method.settle(nn.Linear(2, 2), forward, {"epoch": 3})


@pytest.mark.parametrize("option", ["weights", "backward", "constants", "norm", "epsilon", "momentum"])
def test_bad_options_are_refused(option):
    with pytest.raises(UserError, match=option) as error:
        hg(**{option: "other"})
    assert "\n" not in str(error.value)


def test_a_run_is_settled_before_its_last_row(small, tmp_path, monkeypatch):
    calls = []
    cfg = small(model="cnn4", model__widths=[2, 2], norm="hg", batch_size=200)
    settle = Training.evaluate

    def evaluate(self):
        layers = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        before = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
        settle(self)
        same = [(torch.equal(m, la.running_mean), torch.equal(v, la.running_var)) for la, (m, v) in zip(layers, before)]
        calls.append(same)

    monkeypatch.setattr(Training, "evaluate", evaluate)
    record = execute(cfg)
    assert record.status == "finished"
    assert calls == [[(True, True)] * 4, [(True, False)] * 4]
