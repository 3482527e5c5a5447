"""The network of Table 3's CIFAR-10 column, counted by hand."""

import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit

CIFAR = {"inputs": (3, 32, 32), "outputs": 10}
PUBLISHED = {"name": "cnn4", "widths": [32, 64], "hidden": 512, "dropout": [0.25, 0.25, 0.5]}
CONV, POOL, DROP, FLAT, FC = "Conv2d", "MaxPool2d", "Dropout", "Flatten", "Linear"


def build(norm, sizes=CIFAR, **options):
    return MODELS.build(PUBLISHED | options, Kit(METHODS.build({"name": norm})), sizes)


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters_counted_by_hand():
    """3x3 kernels and biases of four convolutions, 64 channels of 8x8 into 512, 512 into 10."""
    convolutions = (3 * 32 * 9 + 32) + (32 * 32 * 9 + 32) + (32 * 64 * 9 + 64) + (64 * 64 * 9 + 64)
    assert count(build("none")) == convolutions + (64 * 8 * 8 * 512 + 512) + (512 * 10 + 10) == 2_168_362


@pytest.mark.parametrize("norm", ["bn", "dbn"])
def test_norm_stands_behind_the_four_convolutions_and_the_first_fc(norm):
    """Gain and shift for 32 + 32 + 64 + 64 + 512 channels; the biases in front of them are dropped."""
    assert count(build(norm)) == 2_168_362 + 704


def test_the_order_of_the_layers():
    layers = [layer for layer in build("bn").modules() if not isinstance(layer, nn.Sequential | nn.Identity)]
    names = [type(layer).__name__ for layer in layers]
    stage = [CONV, "BatchNorm2d", "ReLU", CONV, "BatchNorm2d", "ReLU", POOL, DROP]
    assert names == [*stage, *stage, FLAT, FC, "BatchNorm1d", "ReLU", DROP, FC]


def test_sizes_and_rates():
    net = build("none", dropout=[0.1, 0.2, 0.3])
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 32), (32, 32), (32, 64), (64, 64)]
    assert all((c.kernel_size, c.padding, c.stride) == ((3, 3), (1, 1), (1, 1)) for c in convolutions)
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.1, 0.2, 0.3]
    assert all((layer.kernel_size, layer.stride) == (2, 2) for layer in net if isinstance(layer, nn.MaxPool2d))


@pytest.mark.parametrize("inputs", [(1, 4, 4), (1, 5, 7), (3, 32, 32)])
def test_images_of_other_sizes_fit(inputs):
    net = build("bn", {"inputs": inputs, "outputs": 3}, widths=[2, 3], hidden=4)
    assert net(torch.randn(2, *inputs)).shape == (2, 3)


@pytest.mark.parametrize("inputs", [(118,), (1, 3, 8), (1, 8, 3)])
def test_inputs_that_are_no_images_or_too_small_are_refused(inputs):
    with pytest.raises(UserError, match="cnn4"):
        build("bn", {"inputs": inputs, "outputs": 5})
