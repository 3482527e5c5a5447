"""Every model with every method: shapes, gradients, both modes, the smallest widths, initial weights."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from normtables import schema
from normtables.errors import UserError
from normtables.models import INITS, MODELS, initialise, nonlinearity
from normtables.norms import METHODS, Kit

SIZES = {"inputs": (2, 8, 8), "outputs": 5}
N = 6  # examples in a batch


@dataclass(frozen=True)
class Case:
    """Options of a small network and of the smallest there is, and what it is given."""

    small: Mapping[str, Any]
    least: Mapping[str, Any]
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)  # as a task says them

    axis = 0  # along which examples lie

    def batch(self, n: int = N) -> torch.Tensor:
        return torch.randn(n, *self.sizes["inputs"], dtype=torch.float64)

    def shape(self, n: int = N) -> tuple[int, ...]:
        return (n, self.sizes["outputs"])


@dataclass(frozen=True)
class Texts(Case):
    """Symbols [time, n] to scores [time, n, symbols]."""

    sizes: Mapping[str, Any] = field(default_factory=lambda: {"inputs": (4,), "outputs": 5, "streams": N})
    axis = 1

    def batch(self, n: int = N) -> torch.Tensor:
        return torch.randint(self.sizes["outputs"], (*self.sizes["inputs"], n))

    def shape(self, n: int = N) -> tuple[int, ...]:
        return (*self.sizes["inputs"], n, self.sizes["outputs"])


# a model that is added later gets a line here
CASES = {
    "mlp": Case({"widths": [6, 4]}, {"widths": [1]}),
    "cnn4": Case(
        {"widths": [4, 6], "hidden": 7, "dropout": [0.25, 0.25, 0.5]},
        {"widths": [1, 1], "hidden": 1, "dropout": [0.0, 0.0, 0.0]},
    ),
    "bn_inception": Case(
        {"width": 0.05, "stride": None, "activation": "relu", "dropout": 0.25, "lrn": True, "projection": 96},
        {"width": 0.001, "stride": 1, "activation": "tanh", "dropout": 0.0, "lrn": False, "projection": 1},
    ),
    "nin": Case(
        {
            "variant": "cifar",
            "width": 0.05,
            "pool2": "max",
            "dropout": [0.5, 0.5],
            "deviations": [0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05],
            "last_rate": 0.1,
        },
        {
            "variant": "svhn",
            "width": 0.001,
            "pool2": "average",
            "dropout": [0.0, 0.0],
            "deviations": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
            "last_rate": 1.0,
        },
    ),
    "maxout": Case(
        {"variant": "cifar", "width": 0.03, "dropout": [0.2, 0.5]},
        {"variant": "svhn", "width": 0.001, "dropout": [0.0, 0.0]},
    ),
    "mim": Case(
        {"variant": "mnist", "width": 0.05, "pieces": 3, "dropout": [0.5, 0.5]},
        {"variant": "cifar", "width": 0.001, "pieces": 1, "dropout": [0.0, 0.0]},
    ),
    "rcnn": Case(
        {"maps": 8, "width": 0.5, "iterations": 2, "lrn": True, "norm": "each", "dropout": 0.5},
        {"maps": 1, "width": 1.0, "iterations": 1, "lrn": False, "norm": "shared", "dropout": 0.0},
    ),
    "acoustic_cnn": Case(
        {"filters": [4, 6], "bands": [3, 2], "pool": 2, "hidden": [7, 5], "activation": "relu"},
        {"filters": [1, 1], "bands": [1, 1], "pool": 1, "hidden": [1], "activation": "sigmoid"},
    ),
    "alexnet": Case(
        {
            "weights": "none",
            "width": 0.005,
            "dropout": 0.5,
            "bottleneck": 3,
            "last_rate": 10.0,
            "bias_rate": 2.0,
            "deviation": 0.1,
        },
        {
            "weights": "none",
            "width": 0.0001,
            "dropout": 0.0,
            "bottleneck": None,
            "last_rate": 1.0,
            "bias_rate": 1.0,
            "deviation": None,
        },
        {"inputs": (2, 64, 64), "outputs": 5},
    ),
    "googlenet": Case(
        {"weights": "none", "width": 0.05, "dropout": 0.2, "last_rate": 10.0, "bias_rate": 2.0},
        {"weights": "none", "width": 0.001, "dropout": 0.0, "last_rate": 1.0, "bias_rate": 1.0},
        {"inputs": (2, 48, 48), "outputs": 5},
    ),
    "fnn": Case(
        {"depth": 3, "width": 8, "form": "conic", "dropout": 0.5},
        {"depth": 1, "width": 1, "form": "rectangular", "dropout": 0.0},
    ),
    "highway": Case(
        {"depth": 2, "dropout": 0.5, "gate_bias": -1.0},
        {"depth": 1, "dropout": 0.0, "gate_bias": 0.0},
        {"inputs": (2, 2, 2), "outputs": 5},
    ),
    "resnet_fnn": Case(
        {"depth": 2, "width": 8, "block": "diavolo_25", "dropout": 0.5},
        {"depth": 1, "width": 1, "block": "rectangular_2", "dropout": 0.0},
    ),
}
CASES["nature_cnn"] = Case(
    {"filters": [4, 6, 5], "hidden": 7}, {"filters": [1, 1, 1], "hidden": 1}, {"inputs": (2, 42, 44), "outputs": 5}
)
CASES["lstm"] = Texts(
    {"size": "medium", "layers": 2, "width": 0.01, "dropout": None},
    {"size": "large", "layers": 1, "width": 0.0001, "dropout": 0.0},
)
# classical models and features have no layers: tests/models/test_classical.py, tests/tasks/test_adapt.py
LAYERLESS = ("normtables.models.classical", "normtables.models.features")
NETWORKS = [name for name, entry in MODELS.items() if entry.factory.__module__ not in LAYERLESS]
PAIRS = list(itertools.product(NETWORKS, METHODS))


def case_of(model):
    if model not in CASES:
        pytest.fail(f"model {model!r} has no line in CASES here: options of a small and of the smallest network, sizes")
    return CASES[model]


def build(model, norm="none", sizes=None, /, **options):
    case = case_of(model)
    settings = {"name": model, **case.small, **options}
    return MODELS.build(settings, Kit(METHODS.build({"name": norm})), sizes or case.sizes)


@pytest.mark.parametrize("model", NETWORKS)
def test_every_model_is_listed_here(model):
    assert case_of(model).small.keys() >= case_of(model).least.keys()


def test_every_line_is_a_model():
    assert set(CASES) <= set(NETWORKS)


@pytest.mark.parametrize(("model", "norm"), PAIRS)
@pytest.mark.parametrize("size", ["small", "least"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_forward_and_backward(model, norm, size, training):
    case = case_of(model)
    net = build(model, norm, **getattr(case, size)).double()
    net(case.batch())
    net.train(training)
    outputs = net(case.batch())
    assert outputs.shape == case.shape()
    assert torch.isfinite(outputs).all()
    rows = outputs.flatten(0, -2)
    nn.functional.cross_entropy(rows, torch.arange(len(rows)) % case.sizes["outputs"]).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, f"{name} is not part of the network"
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("model", "norm"), PAIRS)
def test_two_draws_by_one_seed_are_one_network(model, norm):
    nets = [build(model, norm) for seed in (3, 3, 4) if torch.manual_seed(seed)]
    vectors = [nn.utils.parameters_to_vector(net.parameters()) for net in nets]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@pytest.mark.parametrize(("model", "norm"), PAIRS)
def test_evaluation_is_a_function_of_each_example(model, norm):
    net, case = build(model, norm).double(), case_of(model)
    net(case.batch())
    net.eval()
    x = case.batch()
    torch.testing.assert_close(net(x), torch.cat([net(one) for one in x.split(1, case.axis)], case.axis))


@pytest.mark.parametrize("widths", [[], [3], [6, 4, 5]])
def test_an_mlp_of_any_depth(widths):
    net = build("mlp", widths=widths)
    linears = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == list(itertools.pairwise([128, *widths, 5]))
    assert sum(isinstance(layer, nn.ReLU) for layer in net.modules()) == len(widths)


def test_an_mlp_computes_what_it_says():
    """Table 3's MNIST network: 784-300-300-10 has 328,810 parameters; flatten, linear, norm, ReLU, ..., linear."""
    net = build("mlp", "bn", {"inputs": (1, 28, 28), "outputs": 10}, widths=[300, 300])
    assert sum(p.numel() for p in net.parameters()) == 784 * 300 + 300 * 300 + 3010 + 4 * 300 == 329_410
    plain = build("mlp", "none", {"inputs": (1, 28, 28), "outputs": 10}, widths=[300, 300])
    assert sum(p.numel() for p in plain.parameters()) == 328_810
    linears = [layer for layer in plain.modules() if isinstance(layer, nn.Linear)]
    x = torch.randn(3, 1, 28, 28)
    hidden = x.reshape(3, 784)
    for layer in linears[:-1]:
        hidden = (hidden @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(plain(x), hidden @ linears[-1].weight.T + linears[-1].bias)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("mlp", {"widths": [0]}),
        ("mlp", {"widths": [5, -1]}),
        ("cnn4", {"widths": [4]}),
        ("cnn4", {"widths": [4, 0]}),
        ("cnn4", {"dropout": [0.1, 0.2]}),
        ("cnn4", {"dropout": [0.1, 0.2, 1.0]}),
        ("cnn4", {"dropout": [-0.1, 0.2, 0.3]}),
        ("cnn4", {"hidden": 0}),
    ],
    ids=str,
)
def test_impossible_options_are_refused(model, options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(model, **options)
    assert "\n" not in str(error.value)


# initial weights


@pytest.mark.parametrize("scheme", INITS)
def test_initial_weights(scheme):
    """Moments and bounds from the papers: limits of the uniform draw, standard deviations of the normal ones."""
    net = nn.Sequential(nn.Linear(300, 200), nn.Conv2d(30, 40, 3), nn.Conv1d(60, 50, 3), nn.BatchNorm1d(7))
    nn.init.constant_(net[3].bias, 3.0)
    initialise(net, scheme)
    for layer, (fan_in, fan_out) in zip(net, ((300, 200), (270, 360), (180, 150))):
        weight = layer.weight.detach()
        sigma = {"he_normal": math.sqrt(2 / fan_in), "lecun_normal": math.sqrt(1 / fan_in)}
        sigma["glorot_uniform"] = math.sqrt(6 / (fan_in + fan_out)) / math.sqrt(3)
        assert weight.std().item() == pytest.approx(sigma[scheme], rel=0.03)
        assert abs(weight.mean().item()) < 0.1 * sigma[scheme]
        if scheme == "glorot_uniform":
            assert weight.abs().max() == pytest.approx(math.sqrt(3) * sigma[scheme], rel=0.01)
        else:
            assert weight.abs().max() > 3 * sigma[scheme]
        assert (layer.bias == 0).all()
    assert (net[3].bias == 3).all(), "norm layers keep their own beginning"


def test_torchs_draw_is_left_alone():
    net = build("mlp")
    before = nn.utils.parameters_to_vector(net.parameters()).clone()
    initialise(net, "torch")
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), before)


def test_the_schemes_are_those_of_the_configuration():
    assert set(schema.INITS) == {"torch", *INITS}


def test_a_nonlinearity_by_name_and_a_kit_that_uses_it():
    kit = Kit(METHODS.build({"name": "bn"})).using(nonlinearity("sigmoid"))
    assert isinstance(kit.norm_act(3)[1], nn.Sigmoid)
    with pytest.raises(UserError, match="no activation 'sigmoide'; did you mean 'sigmoid'"):
        nonlinearity("sigmoide")
