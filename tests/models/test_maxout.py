"""The authors' maxout networks: sizes from their files, counts by hand, outputs against a slow reference in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.models.maxout import Places, Thinned
from normtables.norms import METHODS, Kit, Maxout

COLOUR, GREY = {"inputs": (3, 32, 32), "outputs": 10}, {"inputs": (1, 28, 28), "outputs": 10}
SIZES = {"cifar": COLOUR, "svhn": COLOUR, "mnist": GREY}


def build(variant, norm="none", sizes=None, width=0.05, dropout=(0.2, 0.5)):
    settings = {"name": "maxout", "variant": variant, "width": width, "dropout": list(dropout)}
    return MODELS.build(settings, Kit(METHODS.build({"name": norm})), sizes or SIZES[variant])


def count(net):
    return sum(p.numel() for p in net.parameters())


# By hand: kernels and biases of two or four pieces a map, the hidden layer's five pieces a unit, the last layer. In the
# network for MNIST biases are one for each place of the maps in front of the pools, 21 x 21, 9 x 9 and 6 x 6.
CIFAR = 192 * (3 * 64 + 1) + 384 * (96 * 64 + 1) + 384 * (192 * 25 + 1) + 2500 * (192 * 25 + 1) + 10 * 501
SVHN = 128 * (3 * 25 + 1) + 256 * (64 * 25 + 1) + 256 * (128 * 25 + 1) + 2000 * (128 * 36 + 1) + 10 * 401
MNIST = 96 * (64 + 21**2) + 96 * (48 * 64 + 9**2) + 96 * (48 * 25 + 6**2) + 10 * (24 * 9 + 1)


def test_parameters_counted_by_hand():
    counts = {variant: count(build(variant, width=1.0)) for variant in SIZES}
    assert counts == {"cifar": CIFAR, "svhn": SVHN, "mnist": MNIST}
    hundred = build("cifar", sizes={"inputs": (3, 32, 32), "outputs": 100}, width=1.0)
    assert count(hundred) == CIFAR + 90 * 501


def test_norm_stands_in_front_of_the_maxima_and_the_biases_go():
    units = 192 + 384 + 384 + 2500
    assert count(build("cifar", "bn", width=1.0)) == CIFAR + 2 * units - units


@pytest.mark.parametrize(
    ("variant", "maps", "pools"),
    [("cifar", (33, 15, 9), (16, 7, 5)), ("svhn", (36, 20, 12), (18, 10, 6)), ("mnist", (21, 9, 6), (10, 4, 3))],
)
def test_sizes_are_those_of_the_files(variant, maps, pools):
    """33 and 15 stand in the CIFAR-10 file as partial_sum; they need pools that count the last, partial window."""
    net, found = build(variant), {}
    for name in ("stage1", "stage2", "stage3"):
        for part in (0, -1):
            net.get_submodule(name)[part].register_forward_hook(
                lambda layer, inputs, out, key=(name, part): found.__setitem__(key, out.shape[-1])
            )
    net(torch.randn(2, *SIZES[variant]["inputs"]))
    assert tuple(found[f"stage{i}", 0] for i in (1, 2, 3)) == maps
    assert tuple(found[f"stage{i}", -1] for i in (1, 2, 3)) == pools


# outputs


def convolve(x, kernel, padding):
    """[n, i, h, w] and [o, i, k, k] to [n, o, h', w'] by sliding windows."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    return np.einsum("nihwab,oiab->nohw", windows, kernel)


def largest(x, pieces):
    """The largest of channels j, j + channels, ... for every j."""
    channels = x.shape[1] // pieces
    return np.max([x[:, p * channels : (p + 1) * channels] for p in range(pieces)], axis=0)


def pool(x, side):
    """Windows of `side` at every second place, the last ones cut off at the edge."""
    places = [range(math.ceil(max(0, size - side) / 2) + 1) for size in x.shape[2:]]
    rows = [[x[:, :, 2 * i : 2 * i + side, 2 * j : 2 * j + side].max((2, 3)) for j in places[1]] for i in places[0]]
    return np.array(rows).transpose(2, 3, 0, 1)


def reference(net, x, stages, hidden):
    """The network in float64: stages are (padding, pieces, pool)."""
    weights = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    for number, (padding, pieces, side) in enumerate(stages, 1):
        bias = weights.get(f"stage{number}.1.bias")
        bias = weights[f"stage{number}.0.bias"][:, None, None] if bias is None else bias
        x = pool(largest(convolve(x, weights[f"stage{number}.0.weight"], padding) + bias, pieces), side)
    x = x.reshape(len(x), -1)
    if hidden:
        x = largest(x @ weights["hidden.0.weight"].T + weights["hidden.0.bias"], 5)
    return x @ weights["head.weight"].T + weights["head.bias"]


@pytest.mark.parametrize(
    ("variant", "sizes", "stages"),
    [
        ("cifar", COLOUR, ((4, 2, 4), (3, 2, 4), (3, 2, 2))),
        ("cifar", {"inputs": (2, 9, 6), "outputs": 3}, ((4, 2, 4), (3, 2, 4), (3, 2, 2))),
        ("svhn", COLOUR, ((4, 2, 3), (3, 2, 3), (3, 2, 3))),
        ("mnist", GREY, ((0, 2, 4), (3, 2, 4), (3, 4, 2))),
    ],
)
def test_outputs_are_those_of_the_reference(variant, sizes, stages):
    net = build(variant, sizes=sizes).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    x = torch.randn(2, *sizes["inputs"], dtype=torch.float64)
    np.testing.assert_allclose(net(x).detach(), reference(net, x.numpy(), stages, variant != "mnist"), rtol=1e-9)


def test_dropout_in_front_of_every_layer_and_the_inputs_keep_their_scale():
    net = build("cifar", dropout=(0.2, 0.4))
    names = [name for name, layer in net.named_children() if isinstance(layer, nn.Dropout | Thinned)]
    assert names == [f"dropout{i}" for i in range(5)]
    assert [net.get_submodule(f"dropout{i}").p for i in range(1, 5)] == [0.4] * 4
    x = torch.rand(10_000) + 1
    y = net.dropout0(x)
    torch.testing.assert_close(y[y > 0], x[y > 0])
    assert (y > 0).double().mean().item() == pytest.approx(0.8, abs=0.02)
    assert torch.equal(net.dropout0.eval()(x), x)


def test_initial_weights_are_small_and_uniform_and_biases_0():
    net = build("mnist", width=1.0)
    kernel = net.stage2[0].weight
    assert 0.00499 < kernel.abs().max() < 0.005
    assert kernel.std().item() == pytest.approx(0.005 / math.sqrt(3), rel=0.01)
    assert not net.head.bias.any()
    assert 0.0099 < build("mnist", width=0.25).stage2[0].weight.abs().max() < 0.01
    assert isinstance(net.stage1[1], Places)
    assert not net.stage1[1].bias.any()
    assert sum(isinstance(layer, Maxout) for layer in net.modules()) == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"width": 0.0}, "width"),
        ({"dropout": [0.5]}, "dropout"),
        ({"dropout": [0.2, 1.0]}, "dropout"),
        ({"sizes": {"inputs": (64,), "outputs": 3}}, "takes images"),
        ({"sizes": {"inputs": (1, 11, 28), "outputs": 3}}, "larger images"),
        ({"sizes": {"inputs": (1, 28, 7), "outputs": 3}}, "larger images"),
    ],
)
def test_what_it_cannot_be(options, part):
    with pytest.raises(UserError, match=part) as error:
        build("mnist", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("variant", "side"), [("cifar", 4), ("svhn", 1), ("mnist", 12)])
def test_the_smallest_images(variant, side):
    net = build(variant, sizes={"inputs": (1, side, side + 9), "outputs": 3})
    assert net(torch.randn(2, 1, side, side + 9)).shape == (2, 3)
