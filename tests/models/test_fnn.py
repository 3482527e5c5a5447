"""The networks of the self-normalizing networks paper: sizes in closed form, what they compute, how they begin."""

import itertools

import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, initialise
from normtables.models.highway import Highway
from normtables.models.resnet_fnn import BLOCKS, Residual
from normtables.norms import METHODS, Kit

SIZES = {"inputs": (9,), "outputs": 3}
FNN = {"name": "fnn", "depth": 3, "width": 8, "form": "rectangular", "dropout": 0.0}
HIGHWAY = {"name": "highway", "depth": 2, "dropout": 0.0, "gate_bias": -1.0}
RESNET = {"name": "resnet_fnn", "depth": 2, "width": 8, "block": "rectangular_2", "dropout": 0.0}


def build(settings, norm="none", sizes=SIZES, /, init="torch", **options):
    """A network as a run builds it."""
    method = METHODS.build({"name": norm})
    net = MODELS.build(settings | options, Kit(method), sizes)
    initialise(net, init)
    method.init(net)
    return net


def count(net):
    return sum(p.numel() for p in net.parameters())


def linears(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("depth", [2, 3, 4, 8, 16, 32])
@pytest.mark.parametrize(("norm", "each"), [("none", 1), ("snn", 1), ("bn", 2), ("ln", 2), ("wn", 2)])
def test_parameters_of_a_rectangular_fnn(depth, norm, each):
    """(9 + 1) 8 + (depth - 1) (8 + 1) 8 + (8 + 1) 3; bn and ln put a gain beside each hidden shift, wn beside each."""
    plain = 9 * 8 + (depth - 1) * 8 * 8 + 8 * 3
    shifts = each * depth * 8 + (2 * 3 if norm == "wn" else 3)
    assert count(build(FNN, norm, depth=depth)) == plain + shifts


@pytest.mark.parametrize(
    ("depth", "width", "outputs", "widths"),
    [
        (3, 8, 1, [8, 4, 2]),
        (4, 1024, 4, [1024, 256, 64, 16]),
        (2, 256, 4, [256, 32]),
        (2, 3, 48, [3, 12]),  # more classes than units: the cone grows
        (32, 256, 2, None),
    ],
)
def test_a_cone_shrinks_by_a_constant_factor_down_to_the_outputs(depth, width, outputs, widths):
    layers = linears(build(FNN, "none", {"inputs": (9,), "outputs": outputs}, form="conic", depth=depth, width=width))
    found = [layer.out_features for layer in layers]
    assert found[0] == width
    assert found[-1] == outputs
    assert len(found) == depth + 1
    if widths:
        assert found[:-1] == widths
    factor = (outputs / width) ** (1 / depth)
    assert all(abs(b - a * factor) <= 0.5 + 0.5 * factor for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(("norm", "dropout"), [("snn", nn.AlphaDropout), ("bn", nn.Dropout)])
def test_dropout_lies_behind_every_hidden_layer(norm, dropout):
    net = build(FNN, norm, dropout=0.05)
    rates = [layer.p for layer in net.modules() if isinstance(layer, dropout)]
    assert rates == [0.05] * 3
    assert isinstance(net[-1], nn.Linear)
    assert not any(isinstance(layer, nn.Dropout | nn.AlphaDropout) for layer in build(FNN, norm).modules())


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_a_deep_snn_keeps_mean_and_variance_at_the_start(dropout):
    """The fixed point (0, 1) of the paper, with alpha dropout too; ReLU with torch's own weights dies out instead."""
    torch.manual_seed(0)
    x = torch.randn(400, 512)
    sizes = {"inputs": (512,), "outputs": 3}
    net = build(FNN, "snn", sizes, depth=32, width=512, dropout=dropout)
    moments = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Sequential):
            moments.append((x.mean().item(), x.var().item()))
    assert len(moments) == 32
    assert all(abs(mean) < 0.15 and 0.7 < variance < 1.35 for mean, variance in moments), moments
    plain = build(FNN, "none", sizes, depth=32, width=512)
    assert plain[:-1](torch.randn(400, 512)).var(0).mean() < 1e-6  # over examples


def test_he_normal_weights_keep_the_second_moment_of_a_deep_relu_network():
    torch.manual_seed(0)
    net = build(FNN, "none", {"inputs": (512,), "outputs": 3}, init="he_normal", depth=16, width=512)
    assert 0.3 < net[:-1](torch.randn(400, 512)).square().mean() < 3


# highway


@pytest.mark.parametrize("depth", [1, 2, 32])
def test_parameters_of_a_highway_network(depth):
    assert count(build(HIGHWAY, depth=depth)) == depth * 2 * (9 * 9 + 9) + 9 * 3 + 3


def test_a_highway_layer_computes_what_it_says():
    net = build(HIGHWAY, depth=1, gate_bias=-3.0).double()
    x = torch.randn(5, 9, dtype=torch.float64)
    plain, gate, head = linears(net)
    t = 1 / (1 + torch.exp(-(x @ gate.weight.T + gate.bias - 3)))
    y = (x @ plain.weight.T + plain.bias).clamp_min(0) * t + x * (1 - t)
    torch.testing.assert_close(net(x), y @ head.weight.T + head.bias)


@pytest.mark.parametrize(
    ("norm", "init"), [("none", "torch"), ("none", "he_normal"), ("snn", "torch"), ("wn", "torch")]
)
def test_gates_begin_nearly_closed_however_weights_are_drawn(norm, init):
    """With x = 0 the gate is sigmoid(gate_bias), so a network with a very negative one carries its inputs through."""
    net = build(HIGHWAY, norm, init=init, gate_bias=-2.0)
    layer = net[2]
    torch.testing.assert_close(layer.gate(torch.zeros(1, 9)), torch.zeros(1, 9))
    closed = build(HIGHWAY, norm, init=init, gate_bias=-40.0, depth=32)
    x = torch.randn(4, 9)
    torch.testing.assert_close(closed[:-1](x), x)


# residual


def residual_parameters(depth, width, shares, inputs, outputs):
    sizes = [width, *(round(share * width) for share in shares)]
    block = sum(a * b + b for a, b in itertools.pairwise(sizes))
    return inputs * width + width + depth * block + width * outputs + outputs


@pytest.mark.parametrize("block", BLOCKS)
def test_parameters_of_a_residual_network(block):
    net = build(RESNET, block=block, depth=5, width=16)
    assert count(net) == residual_parameters(5, 16, BLOCKS[block], 9, 3)


def test_blocks_are_of_two_or_three_layers_and_a_bottleneck_of_a_quarter_or_a_half():
    by_hand = {
        "rectangular_2": 2 * 272,
        "rectangular_3": 3 * 272,
        "diavolo_25": 68 + 20 + 80,
        "diavolo_50": 136 + 72 + 144,
    }
    for block, parameters in by_hand.items():
        assert count(build(RESNET, block=block, depth=1, width=16)) == 160 + parameters + 51


def test_a_residual_block_computes_what_it_says():
    net = build(RESNET, depth=1, block="diavolo_50").double()
    x = torch.randn(5, 9, dtype=torch.float64)
    first, *inner, last, head = [lambda v, w=layer: v @ w.weight.T + w.bias for layer in linears(net)]
    x_0 = first(x).clamp_min(0)
    y = x_0
    for layer in inner:
        y = layer(y).clamp_min(0)
    torch.testing.assert_close(net(x), head((x_0 + last(y)).clamp_min(0)))


def test_norm_layers_of_a_block_lie_on_the_residual_only():
    """A block whose last gain is 0 is the nonlinearity of its input."""
    net = build(RESNET, "bn", depth=1)
    nn.init.zeros_(net[4].residual[-1].weight)
    x = torch.randn(6, 8)
    torch.testing.assert_close(net[4](x), x.clamp_min(0))


@pytest.mark.parametrize(("settings", "layer"), [(HIGHWAY, Highway), (RESNET, Residual)], ids=["highway", "residual"])
def test_dropout_lies_behind_every_highway_layer_and_every_block(settings, layer):
    net = build(settings, dropout=0.3)
    behind = [after for before, after in itertools.pairwise(net) if isinstance(before, layer)]
    assert [type(part) for part in behind] == [nn.Dropout] * 2
    assert [part.p for part in net.modules() if isinstance(part, nn.Dropout)] == [0.3] * 2
    assert not any(isinstance(part, nn.Dropout) for part in build(settings).modules())


@pytest.mark.parametrize("settings", [FNN, HIGHWAY, RESNET], ids=lambda s: s["name"])
@pytest.mark.parametrize(("norm", "depth"), [("none", 32), ("bn", 16), ("snn", 32), ("ln", 2)])
def test_the_first_layer_of_any_depth_has_a_gradient(settings, norm, depth):
    torch.manual_seed(0)
    width = {"width": 64} if "width" in settings else {}
    net = build(settings, norm, init="he_normal", depth=depth, **width)
    nn.functional.cross_entropy(net(torch.randn(12, 9)), torch.arange(12) % 3).backward()
    assert linears(net)[0].weight.grad.abs().sum() > 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (FNN, {"depth": 0}),
        (FNN, {"width": 0}),
        (FNN, {"dropout": 1.0}),
        (HIGHWAY, {"depth": 0}),
        (HIGHWAY, {"dropout": -0.1}),
        (RESNET, {"depth": 0}),
        (RESNET, {"width": -1}),
        (RESNET, {"block": "diavolo"}),
        (FNN, {"form": "cone"}),
    ],
    ids=str,
)
def test_impossible_options_are_refused(settings, options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(settings, **options)
    assert "\n" not in str(error.value)
