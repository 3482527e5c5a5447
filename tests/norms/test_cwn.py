"""Centred weight normalization against NumPy and timm's scaled weight standardisation."""

import math

import numpy as np
import pytest
import torch
from timm.layers import ScaledStdConv2d
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit


def wrapped(layer, **options):
    return METHODS.build({"name": "cwn", **options}).wrap(layer.double())


@pytest.mark.parametrize("learned", [False, True])
def test_it_is_timms_scaled_standardised_convolution(learned):
    """timm divides by the standard deviation and multiplies by gamma / sqrt(fan-in): the same as by the norm."""
    timms = ScaledStdConv2d(3, 4, 3, stride=2, padding=1, gamma=math.sqrt(2), eps=1e-14).double()
    ours = wrapped(nn.Conv2d(3, 4, 3, stride=2, padding=1), learned=learned, epsilon=1e-300)
    weights = ours.parametrizations.weight
    v = weights.original1 if learned else weights.original
    with torch.no_grad():
        v.copy_(timms.weight)
        ours.bias.copy_(timms.bias)
        if learned:
            nn.init.normal_(timms.gain)
            weights.original0.copy_(timms.gain * math.sqrt(2))
    found = []
    x, push = torch.randn(2, 3, 7, 7, dtype=torch.float64), torch.randn(2, 4, 4, 4, dtype=torch.float64)
    for layer, inner in ((timms, timms.weight), (ours, v)):
        inputs = x.clone().requires_grad_()
        outputs = layer(inputs)
        found.append([outputs, *torch.autograd.grad((outputs * push).sum(), [inputs, inner, layer.bias])])
    for theirs, mine in zip(*found):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    "layer", [nn.Linear(7, 4), nn.Conv1d(3, 4, 2), nn.Conv2d(3, 4, 2)], ids=lambda x: type(x).__name__
)
def test_weights_are_centred_and_of_the_scale(layer):
    layer = wrapped(layer, scale=1.3, epsilon=1e-12)
    rows = layer.weight.detach().flatten(1).numpy()
    np.testing.assert_allclose(rows.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose((rows**2).sum(1), 1.3**2, rtol=1e-9)


def test_defaults_are_the_authors():
    v = np.random.default_rng(0).normal(0.5, 1e-5, [4, 6])  # so small that their epsilon is seen
    layer = wrapped(nn.Linear(6, 4))
    with torch.no_grad():
        layer.weight = torch.tensor(v)
    d = v - v.mean(1, keepdims=True)
    norm = np.sqrt((d**2).sum(1, keepdims=True))
    np.testing.assert_allclose(layer.weight.detach(), math.sqrt(2) * d / (norm + 1e-5), rtol=1e-6)
    assert len(list(layer.parameters())) == 2


def test_a_shift_and_a_scale_of_v_do_not_count():
    layer = wrapped(nn.Linear(6, 4), epsilon=1e-12)
    v, x = layer.parametrizations.weight.original, torch.randn(3, 6, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        v.mul_(7).add_(3)
    torch.testing.assert_close(layer(x), before)
    (grad,) = torch.autograd.grad(layer(x).pow(3).sum(), v)
    torch.testing.assert_close(grad.sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close((grad * v).sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-8)


def test_learned_gains_begin_at_the_scale():
    layer = wrapped(nn.Conv2d(3, 4, 2), learned=True, scale=0.9)
    gains = layer.parametrizations.weight.original0
    assert gains.shape == (4, 1, 1, 1)
    assert (gains == 0.9).all()
    assert gains.requires_grad


def test_a_unit_of_one_input_gives_its_bias():
    layer = wrapped(nn.Linear(1, 3))
    y = layer(torch.randn(5, 1, dtype=torch.float64))
    assert torch.equal(y, layer.bias.expand(5, 3))
    y.sum().backward()
    assert (layer.parametrizations.weight.original.grad == 0).all()


def test_every_layer_keeps_its_bias():
    kit = Kit(METHODS.build({"name": "cwn"}))
    for layer in (kit.linear(3, 4), kit.conv(3, 4, 3), kit.head(3, 4)):
        assert layer.bias is not None
        assert hasattr(layer.parametrizations, "weight")


@pytest.mark.parametrize(
    "options", [{"scale": 0}, {"scale": -1.0}, {"scale": float("nan")}, {"epsilon": 0}, {"learned": "yes"}], ids=str
)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        METHODS.build({"name": "cwn", **options})
    assert "\n" not in str(error.value)
