"""Network in network against its authors' configuration files: layers, sizes, parameters, initial weights, rates."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS, initialise
from normtables.norms import METHODS, Kit, Method

CIFAR = {"inputs": (3, 32, 32), "outputs": 10}
MNIST = {"inputs": (1, 28, 28), "outputs": 10}
OPTIONS = {
    "variant": "cifar",
    "width": 1.0,
    "pool2": "max",
    "dropout": [0.5, 0.5],
    "deviations": [0.05] * 9,
    "last_rate": 0.1,
}
# Kernel and channels of the nine layers of each network.
FILES = {
    "cifar": ([5, 1, 1, 5, 1, 1, 3, 1, 1], [192, 160, 96, 192, 192, 192, 192, 192, 10]),
    "svhn": ([5, 1, 1, 5, 1, 1, 5, 1, 1], [128, 96, 64, 320, 256, 128, 384, 256, 10]),
    "mnist": ([5, 1, 1, 5, 1, 1, 5, 1, 1], [96, 64, 48, 128, 96, 48, 128, 96, 10]),
}
NAMES = ["conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6"]


def build(norm="none", sizes=CIFAR, **options):
    kit = Kit(norm if isinstance(norm, Method) else METHODS.build({"name": norm}))
    return MODELS.build({"name": "nin", **OPTIONS, **options}, kit, sizes)


def count(net):
    return sum(p.numel() for p in net.parameters())


def convolutions(net):
    return [part for part in net.modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize(
    ("variant", "sizes", "millions"), [("cifar", CIFAR, 0.967), ("svhn", CIFAR, 1.99), ("mnist", MNIST, 0.35)]
)
def test_parameters_of_the_authors_networks(variant, sizes, millions):
    plain, normed = build(sizes=sizes, variant=variant), build("bn", sizes, variant=variant)
    kernels, channels = FILES[variant]
    inputs = [sizes["inputs"][0], *channels]
    by_hand = sum(k * k * i * o + o for k, i, o in zip(kernels, inputs, channels))
    assert count(plain) == by_hand == pytest.approx(1e6 * millions, rel=0.003)
    assert count(normed) == by_hand + sum(channels), "gain and shift instead of the bias, the class maps' too"


@pytest.mark.parametrize(
    ("variant", "sizes", "sides"),
    [("cifar", CIFAR, (32, 16, 8)), ("svhn", CIFAR, (32, 16, 8)), ("mnist", MNIST, (28, 14, 7))],
)
def test_sizes(variant, sizes, sides):
    net = build(sizes=sizes, variant=variant, width=0.1)
    x, found = torch.randn(2, *sizes["inputs"]), {}
    for name, part in net.named_children():
        x = part(x)
        found[name] = tuple(x.shape[2:])
    for names, side in zip((NAMES[:3], ["pool1", *NAMES[3:6]], ["pool2", *NAMES[6:]]), sides):
        assert {found[name] for name in names} == {(side, side)}
    assert found["pool3"] == (1, 1)
    assert x.shape == (2, 10)


def test_the_order_of_the_layers():
    names = [name for name, _ in build().named_children()]
    stages = [*NAMES[:3], "pool1", "dropout1", *NAMES[3:6], "pool2", "dropout2", *NAMES[6:]]
    assert names == ["inputs", *stages, "pool3", "flatten"]


def test_it_computes_what_it_says():
    """Every layer with ReLU, the class maps too; the last stage averages them."""
    net = build(width=0.05, variant="svhn", deviations=[0.5] * 9).eval()
    hidden = x = torch.randn(3, 3, 32, 32)
    for number, layer in enumerate(convolutions(net), 1):
        hidden = functional.relu(functional.conv2d(hidden, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2))
        if number in (3, 6):
            hidden = functional.max_pool2d(hidden, 3, 2, ceil_mode=True)
    torch.testing.assert_close(net(x), hidden.mean((2, 3)))
    assert (net(x) > 0).any()


@pytest.mark.parametrize("norm", ["bn", "normprop"])
def test_a_method_acts_on_the_class_maps_as_on_every_layer(norm):
    net = build(norm)
    for name in NAMES:
        assert net.get_submodule(name)[0].bias is None
        assert sum(1 for _ in net.get_submodule(name)[1].parameters()) == 2


def test_pools_and_dropout():
    net = build(dropout=[0.1, 0.2])
    assert [part.p for part in net.modules() if isinstance(part, nn.Dropout)] == [0.1, 0.2]
    assert [type(net.get_submodule(f"pool{n}")).__name__ for n in (1, 2)] == ["MaxPool2d", "MaxPool2d"]
    net = build(pool2="average")
    assert [type(net.get_submodule(f"pool{n}")).__name__ for n in (1, 2)] == ["MaxPool2d", "AvgPool2d"]
    asked = []
    build(Method(pool=lambda layer: asked.append(layer) or layer))
    assert len(asked) == 3


def test_the_width_leaves_the_class_maps():
    assert [c.out_channels for c in convolutions(build(width=0.25))] == [48, 40, 24, 48, 48, 48, 48, 48, 10]


def test_the_networks_own_initial_weights():
    deviations = [0.01 * (n + 1) for n in range(9)]
    net = build(deviations=deviations)
    initialise(net, "torch")
    for layer, deviation in zip(convolutions(net), deviations):
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.06)
        assert layer.weight.abs().max() > 2.5 * deviation, "a normal draw has tails"
        assert (layer.bias == 0).all()


def test_narrow_networks_draw_wider_so_that_pre_activations_vary_as_much():
    full, narrow = convolutions(build()), convolutions(build(width=0.25))
    ratios = [b.weight.std().item() / a.weight.std().item() for a, b in zip(full, narrow)]
    assert ratios == pytest.approx([1, *[2] * 8], rel=0.12)


def test_another_scheme_replaces_them():
    net = build()
    initialise(net, "he_normal")
    for layer in convolutions(net):
        assert layer.weight.std().item() == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.06)


def test_rates_of_kernels_and_biases():
    for last in (0.1, 1.0):
        net = build("normprop", last_rate=last)
        assert [net.get_submodule(name)[0].rates for name in NAMES] == [(1.0, 2.0)] * 8 + [(last, 2 * last)]


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"dropout": [0.5]},
        {"dropout": [0.5, 1.0]},
        {"dropout": [-0.5, 0.5]},
        {"deviations": [0.05]},
        {"deviations": [0.05] * 8 + [0]},
        {"last_rate": 0.0},
        {"variant": "imagenet"},
        {"pool2": "mean"},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inputs", [(118,), (1, 3, 8), (1, 8, 3)])
def test_inputs_that_are_no_images_or_too_small_are_refused(inputs):
    with pytest.raises(UserError, match="nin"):
        build(sizes={"inputs": inputs, "outputs": 5})
