"""The batch-normalized maxout network in network: published counts, order of layers, one block by formula."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.models.mim import orthonormal
from normtables.norms import METHODS, Kit, Maxout
from normtables.optim import parameter_groups

COLOUR, GREY = {"inputs": (3, 32, 32), "outputs": 10}, {"inputs": (1, 28, 28), "outputs": 10}


def build(norm="bn", sizes=COLOUR, **options):
    settings = {"name": "mim", "variant": "cifar", "width": 0.05, "pieces": 5, "dropout": [0.5, 0.5]} | options
    return MODELS.build(settings, Kit(METHODS.build({"name": norm})), sizes)


def kernels(net):
    return [layer.weight for layer in net.modules() if isinstance(layer, nn.Conv2d)]


def test_weights_and_norm_parameters_are_the_published_ones():
    """1.60 M weights and 9.6 k of batch normalization."""
    net = build(width=1.0)
    first, second, third = 75 * 192 + 192 * 800 + 160 * 480, 25 * 96 * 192 + 2 * 192 * 960, 9 * 192**2 + 192 * 1010
    assert sum(kernel.numel() for kernel in kernels(net)) == first + second + third == 1_599_936
    norms = [layer.num_features for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms == [192, 800, 480, 192, 960, 960, 192, 960, 50]
    assert sum(p.numel() for p in net.parameters()) == 1_599_936 + 2 * 4786 == 1_609_508
    assert all(layer.bias is None for layer in net.modules() if isinstance(layer, nn.Conv2d))


def test_without_a_norm_layer_every_kernel_has_biases():
    assert sum(p.numel() for p in build("none", width=1.0).parameters()) == 1_599_936 + 4786


def test_the_network_for_mnist_has_nins_widths():
    net = build(sizes=GREY, variant="mnist", width=1.0)
    shapes = [tuple(kernel.shape[:3]) for kernel in kernels(net)]
    one = [(96, 1, 5), (320, 96, 1), (240, 64, 1)]
    assert shapes == [*one, (128, 48, 5), (480, 128, 1), (240, 96, 1), (128, 48, 5), (480, 128, 1), (50, 96, 1)]
    assert net(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_the_order_of_the_layers():
    net = build()
    layers = [layer for layer in net.modules() if not isinstance(layer, nn.Sequential | nn.Identity)]
    conv, norm, maxout = "Conv2d", "BatchNorm2d", "Maxout"
    block = [conv, norm, conv, norm, maxout, conv, norm, maxout]
    between = ["AvgPool2d", "Dropout"]
    assert [type(layer).__name__ for layer in layers] == [
        *block,
        *between,
        *block,
        *between,
        *block,
        "AdaptiveAvgPool2d",
        "Flatten",
    ]
    assert {layer.pieces for layer in layers if isinstance(layer, Maxout)} == {5}


def test_a_block_by_formula():
    """No nonlinearity behind the first convolution; batch normalization of all pieces, then the largest."""
    net = build(pieces=2).double()
    block, x = net.block1, torch.randn(4, 3, 8, 8, dtype=torch.float64)

    def normed(z):
        return functional.batch_norm(z, None, None, training=True)

    expected = normed(functional.conv2d(x, block[0].weight, padding=2))
    for layer in (block[2], block[4]):
        z = normed(functional.conv2d(expected, layer.weight))
        channels = z.shape[1] // 2
        expected = torch.maximum(z[:, :channels], z[:, channels:])
    torch.testing.assert_close(block(x), expected)


def test_pools_average_the_pixels_that_are_there():
    """32 to 16 to 8, as with one row and column of padding that is not counted."""
    x = torch.ones(1, 2, 32, 32)
    once = build().pool1(x)
    assert torch.equal(once, torch.ones(1, 2, 16, 16))
    assert build().pool2(once).shape == (1, 2, 8, 8)


def test_learning_rates_of_the_code():
    groups = parameter_groups(build("none"), 5e-4)
    found = {(g.get("rate", 1.0), g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(1.0, 5e-4): 0, (1.0, 0.0): 8, (0.1, 5e-4): 8, (0.01, 5e-4): 1, (0.1, 0.0): 1}


def test_initial_kernels_are_orthonormal_as_in_the_code():
    kernel = torch.empty(8, 3, 5, 5)
    orthonormal(kernel)
    rows = kernel.flatten().view(5, -1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5), atol=1e-5, rtol=0)
    net = build()
    assert net.block1[2].weight.norm().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"width": -1.0}, "width"),
        ({"pieces": 0}, "pieces"),
        ({"dropout": [0.5]}, "dropout"),
        ({"sizes": {"inputs": (3, 3, 9), "outputs": 3}}, "4 px"),
    ],
)
def test_what_it_cannot_be(options, part):
    with pytest.raises(UserError, match=part) as error:
        build(**options)
    assert "\n" not in str(error.value)
