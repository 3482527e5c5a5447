"""The Q-network of Mnih et al. 2015: its size, what it computes, what it refuses."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit

ATARI = {"inputs": (4, 84, 84), "outputs": 18}


def build(sizes=ATARI, norm="none", **options):
    settings = {"name": "nature_cnn", "filters": [32, 64, 64], "hidden": 512, **options}
    return MODELS.build(settings, Kit(METHODS.build({"name": norm})), sizes)


def test_the_number_of_parameters():
    """32 filters 8x8 on 4 frames, 64 of 4x4, 64 of 3x3 on 20 x 20, 9 x 9 and 7 x 7 places, 512 units, 18 actions."""
    expected = (4 * 64 + 1) * 32 + (32 * 16 + 1) * 64 + (64 * 9 + 1) * 64 + (49 * 64 + 1) * 512 + 513 * 18
    assert sum(p.numel() for p in build().parameters()) == expected == 1_693_362
    assert sum(p.numel() for p in build({**ATARI, "outputs": 4}).parameters()) == 1_686_180


def test_weight_normalization_adds_a_length_to_every_unit():
    plain, wn = (sum(p.numel() for p in build(norm=name).parameters()) for name in ("none", "wn"))
    assert wn - plain == 32 + 64 + 64 + 512 + 18


def test_what_it_computes():
    net = build({"inputs": (2, 36, 34), "outputs": 3}, filters=[3, 4, 5], hidden=6).double()
    weights = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    x = torch.randn(2, 2, 36, 34, dtype=torch.float64)
    y = x
    for layer, stride, padding in zip(weights, (4, 2, 1), (1, 0, 0)):
        y = functional.conv2d(y, layer.weight, layer.bias, stride, padding).clamp_min(0)
    y = functional.linear(y.flatten(1), weights[3].weight, weights[3].bias).clamp_min(0)
    torch.testing.assert_close(net(x), functional.linear(y, weights[4].weight, weights[4].bias))


@pytest.mark.parametrize(
    ("sizes", "options", "says"),
    [
        ({"inputs": (14,), "outputs": 2}, {}, "at least 34 px, not inputs of size \\[14\\]"),
        ({"inputs": (4, 33, 84), "outputs": 2}, {}, "at least 34 px"),
        (ATARI, {"filters": [32, 64]}, "three numbers"),
        (ATARI, {"hidden": 0}, "model.hidden=0"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(sizes, options, says):
    with pytest.raises(UserError, match=says) as error:
        build(sizes, **options)
    assert "\n" not in str(error.value)
