"""Recurrent convolutional networks: published counts, the recurrence by formula, torch's response normalization."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.models.rcnn import Recurrent, ResponseNorm
from normtables.norms import METHODS, Kit

COLOUR = {"inputs": (3, 32, 32), "outputs": 10}
SMALL = {"name": "rcnn", "maps": 16, "width": 1.0, "iterations": 3, "lrn": True, "norm": "each", "dropout": 0.5}


def build(norm_method="none", sizes=COLOUR, **options):
    return MODELS.build(SMALL | options, Kit(METHODS.build({"name": norm_method})), sizes)


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("maps", "millions"), [(96, 0.67), (128, 1.19), (160, 1.86)])
def test_parameters_are_the_published_ones(maps, millions):
    net = build(maps=maps)
    assert count(net) == (75 + 1) * maps + 4 * (18 * maps + 1) * maps + 10 * (maps + 1)
    assert round(count(net) / 1e6, 2) == millions
    assert count(build(maps=2 * maps, width=0.5)) == count(net)


def test_norm_layers_for_each_state_or_one_for_all():
    bare = count(build(lrn=False)) - 5 * 16  # the norm layers' shifts replace the biases
    assert count(build("bn", norm="each", lrn=False)) == bare + 2 * 16 * (1 + 4 * 4)
    assert count(build("bn", norm="shared", lrn=False)) == bare + 2 * 16 * (1 + 4)


@pytest.mark.parametrize(("maps", "window"), [(16, 3), (7, 4), (5, 1), (12, 21)])
def test_response_norm_is_torchs(maps, window):
    own = ResponseNorm(maps, window).double()
    own.band *= 1000  # a strength at which the sums matter
    other = nn.LocalResponseNorm(window, alpha=1.0, beta=0.75, k=1.0)
    x = torch.randn(2, maps, 3, 4, dtype=torch.float64, requires_grad=True)
    push = torch.randn_like(x)
    results = [layer(x) for layer in (own, other)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad((y * push).sum(), x)[0] for y in results))


def test_the_papers_response_norm():
    net = build(maps=160)
    layer = net.rcl2.states[0][1]
    assert layer.band.shape == (160, 160, 1, 1)
    rows = layer.band[:, :, 0, 0].double()
    torch.testing.assert_close(rows[80].sum(), torch.tensor(0.001, dtype=torch.float64), atol=1e-9, rtol=0)
    assert int((rows[80] > 0).sum()) == 21  # 160 / 8 + 1
    assert "band" not in "".join(net.state_dict())


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_recurrence_by_formula(iterations):
    layer = Recurrent(Kit(METHODS.build({"name": "none"})), 16, iterations, "each", True).double()
    u = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    fed = functional.conv2d(u, layer.feed.weight, layer.feed.bias, padding=1)
    x = torch.zeros_like(fed)
    for _ in range(iterations + 1):
        z = fed + functional.conv2d(x, layer.back.weight, padding=1)
        x = functional.local_response_norm(z.relu(), 3, alpha=0.001, beta=0.75, k=1.0)
    torch.testing.assert_close(layer(u), x)


@pytest.mark.parametrize(("norm", "used"), [("each", [0, 1, 2, 3]), ("shared", [0, 0, 0, 0])])
def test_which_norm_layer_sees_which_state(norm, used):
    layer, seen = Recurrent(Kit(METHODS.build({"name": "bn"})), 4, 3, norm, False), []
    for i, state in enumerate(layer.states):
        state.register_forward_hook(lambda *_, i=i: seen.append(i))
    layer(torch.randn(2, 4, 3, 3))
    assert seen == used


def test_order_sizes_and_dropout():
    """Pools behind the first convolution and the second recurrent layer; no dropout behind the last of these."""
    net, sizes = build(sizes={"inputs": (3, 28, 31), "outputs": 10}), {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda layer, inputs, out, name=name: sizes.__setitem__(name, tuple(out.shape[2:])))
    net(torch.randn(2, 3, 28, 31))
    assert list(sizes.items()) == [
        ("inputs", (28, 31)),
        ("conv1", (28, 31)),
        ("pool1", (14, 15)),
        ("rcl2", (14, 15)),
        ("dropout2", (14, 15)),
        ("rcl3", (14, 15)),
        ("pool3", (7, 7)),
        ("dropout3", (7, 7)),
        ("rcl4", (7, 7)),
        ("dropout4", (7, 7)),
        ("rcl5", (7, 7)),
        ("pool5", (1, 1)),
        ("flatten", ()),
        ("head", ()),
    ]
    assert isinstance(net.conv1[1][1], nn.ReLU)
    assert not any(isinstance(layer, ResponseNorm) for layer in net.conv1.modules())


def test_initial_weights():
    net = build(maps=96)
    assert net.rcl3.back.weight.std().item() == pytest.approx(0.03, rel=0.02)
    assert not net.rcl3.feed.bias.any()
    assert build(maps=384, width=0.25).rcl3.back.weight.std().item() == pytest.approx(0.06, rel=0.02)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"maps": 0}, "maps"),
        ({"iterations": 0}, "iterations"),
        ({"width": 0.0}, "width"),
        ({"dropout": 1.0}, "dropout"),
        ({"sizes": {"inputs": (3, 3, 9), "outputs": 3}}, "4 px"),
    ],
)
def test_what_it_cannot_be(options, part):
    with pytest.raises(UserError, match=part) as error:
        build(**options)
    assert "\n" not in str(error.value)
