"""Inception against the numbers of its paper's figure 5, layer by layer; shapes on tensors without data."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit, Method

OPTIONS = {"width": 1.0, "stride": None, "activation": "relu", "dropout": 0.0, "lrn": False, "projection": 96}
IMAGENET = {"inputs": (3, 224, 224), "outputs": 1000}
SMALL = {"inputs": (3, 32, 32), "outputs": 10}
# Outputs as figure 5 prints them, channels and side; 3c and 4e are printed with the side that they take in.
FIGURE = {
    "stem": (192, 28),
    "3a": (256, 28),
    "3b": (320, 28),
    "3c": (576, 14),
    "4a": (576, 14),
    "4b": (576, 14),
    "4c": (576, 14),
    "4d": (576, 14),
    "4e": (1024, 7),
    "5a": (1024, 7),
    "5b": (1024, 7),
}


def build(norm="none", sizes=IMAGENET, **options):
    with torch.device("meta"):
        kit = Kit(norm if isinstance(norm, Method) else METHODS.build({"name": norm}))
        return MODELS.build({"name": "bn_inception", **OPTIONS, **options}, kit, sizes)


def count(net):
    return sum(p.numel() for p in net.parameters())


def sizes_of(net, inputs):
    """Channels and side (or height and width) of what each part of the network gives for an image."""
    x, found = torch.empty(1, *inputs, device="meta"), {}
    for name, part in net.eval().named_children():
        x = part(x)
        found[name] = tuple(x.shape[1:]) if len({*x.shape[2:]}) != 1 else tuple(x.shape[1:3])
    return found


def kinds(net, kind):
    return [part for part in net.modules() if isinstance(part, kind)]


def test_every_output_of_the_figure():
    found = sizes_of(build("bn"), (3, 224, 224))
    assert {name: found[name] for name in FIGURE} == FIGURE
    assert found["pool"] == (1024, 1)
    assert found["head"] == (1000,)


def test_the_printed_projection_contradicts_the_printed_outputs():
    found = sizes_of(build("bn", projection=128), (3, 224, 224))
    assert (found["4c"][0], found["4d"][0], found["4e"][0]) == (608, 608, 1056)


@pytest.mark.parametrize(("projection", "millions"), [(96, 11.19), (128, 11.29)])
def test_parameters_of_both_readings(projection, millions):
    plain, normed = build("none", projection=projection), build("bn", projection=projection)
    assert round(count(normed) / 1e6, 2) == millions
    channels = sum(conv.out_channels for conv in kinds(plain, nn.Conv2d))
    assert count(normed) - count(plain) == channels, "gain and shift instead of the bias"


def test_multiply_adds():
    """Counted from the figure: pixels times kernel times channels of every convolution."""
    with FlopCounterMode(display=False) as counter:
        build().eval()(torch.empty(1, 3, 224, 224, device="meta"))
    pixels = {"a": 28 * 28, "b": 14 * 14, "c": 7 * 7}
    found = 112**2 * 49 * 3 * 64 + 56**2 * (64 * 64 + 9 * 64 * 192)
    for size, inputs, one, reduce, three, reduce2, double, projection in (
        ("a", 192, 64, 64, 64, 64, 96, 32),
        ("a", 256, 64, 64, 96, 64, 96, 64),
        ("b", 576, 224, 64, 96, 96, 128, 128),
        ("b", 576, 192, 96, 128, 96, 128, 128),
        ("b", 576, 160, 128, 160, 128, 160, 96),
        ("b", 576, 96, 128, 192, 160, 192, 96),
        ("c", 1024, 352, 192, 320, 160, 224, 128),
        ("c", 1024, 352, 192, 320, 192, 224, 128),
    ):
        found += pixels[size] * inputs * (one + reduce + reduce2 + projection)
        found += pixels[size] * 9 * (reduce * three + reduce2 * double + double * double)
    found += 28**2 * (320 * (128 + 64) + 9 * 64 * 96) + 14**2 * 9 * (128 * 160 + 96 * 96)
    found += 14**2 * (576 * (128 + 192) + 9 * 192 * 256) + 7**2 * 9 * (128 * 192 + 256 * 256)
    assert counter.get_total_flops() == 2 * (found + 1024 * 1000)


def branches(block, x):
    """What a block should give, from the weights of its convolutions in the order of the figure's columns."""
    relu = functional.relu
    convs = iter(kinds(block, nn.Conv2d))

    def step(x, stride=1):
        conv = next(convs)
        return relu(functional.conv2d(x, conv.weight, conv.bias, stride, conv.kernel_size[0] // 2))

    return step, x


@pytest.mark.parametrize(("name", "pool"), [("3a", "average"), ("5b", "maximum")])
def test_a_block_computes_its_four_branches(name, pool):
    block = build(sizes=SMALL, width=0.1).get_submodule(name).to_empty(device="cpu")
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    step, x = branches(block, torch.randn(2, kinds(block, nn.Conv2d)[0].in_channels, 6, 6))
    window = functional.avg_pool2d if pool == "average" else functional.max_pool2d
    expected = [step(x), step(step(x)), step(step(step(x))), step(window(x, 3, 1, 1))]
    torch.testing.assert_close(block(x), torch.cat(expected, 1))


@pytest.mark.parametrize("side", [6, 2])
def test_a_halving_block_passes_the_pool_on(side):
    net = build(
        sizes={"inputs": (3, 12 if side == 6 else 4, 12 if side == 6 else 4), "outputs": 2}, width=0.1, stride=2
    )
    block = net.get_submodule("3c").to_empty(device="cpu")
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    step, x = branches(block, torch.randn(2, kinds(block, nn.Conv2d)[0].in_channels, side, side))
    pooled = functional.max_pool2d(x, 3, 2, ceil_mode=True)
    expected = [step(step(x), 2), step(step(step(x)), 2), pooled]
    torch.testing.assert_close(block(x), torch.cat(expected, 1))


@pytest.mark.parametrize(
    ("side", "stride", "sides"),
    [
        (64, None, (16, 16, 8, 8, 4, 4)),
        (32, None, (16, 16, 8, 8, 4, 4)),
        (28, None, (14, 14, 7, 7, 4, 4)),
        (16, None, (16, 16, 8, 8, 4, 4)),
        (8, None, (8, 8, 4, 4, 2, 2)),
        (95, None, (24, 24, 12, 12, 6, 6)),
        (96, None, (12, 12, 6, 6, 3, 3)),
        (64, 8, (8, 8, 4, 4, 2, 2)),
        (32, 1, (32, 32, 16, 16, 8, 8)),
        (1, 8, (1, 1, 1, 1, 1, 1)),
    ],
)
def test_stems(side, stride, sides):
    inputs = (1, side, side)
    found = sizes_of(build("bn", {"inputs": inputs, "outputs": 10}, width=0.125, stride=stride), inputs)
    assert tuple(found[name][1] for name in ("stem", "3b", "3c", "4d", "4e", "5b")) == sides
    assert [found[name][0] for name in ("stem", "5b", "head")] == [24, 128, 10]


def test_the_first_layer_of_the_smaller_stems_is_the_only_one_that_differs():
    published = build("bn", IMAGENET | {"outputs": 10})
    for stride in (1, 2, 4):
        assert count(published) - count(build("bn", SMALL, stride=stride)) == (49 - 9) * 3 * 64
    first = kinds(published, nn.Conv2d)[0]
    assert (first.kernel_size, first.stride, first.padding) == ((7, 7), (2, 2), (3, 3))


def test_images_that_are_not_square_and_odd():
    inputs = (2, 50, 37)
    found = sizes_of(build(sizes={"inputs": inputs, "outputs": 3}, width=0.1), inputs)
    assert [found[name][1:] for name in ("stem", "3c", "5b")] == [(25, 19), (13, 10), (7, 5)]


def test_norm_and_activation_behind_every_convolution_and_nowhere_else():
    net = build("bn", activation="sigmoid")
    convs = kinds(net, nn.Conv2d)
    assert len(convs) == len(kinds(net, nn.BatchNorm2d)) == len(kinds(net, nn.Sigmoid)) == 69
    assert not kinds(net, nn.ReLU)
    assert all(conv.bias is None for conv in convs)
    assert len(kinds(build("none"), nn.ReLU)) == 69


def test_lrn_stands_where_googlenet_has_it():
    stem = build(lrn=True).get_submodule("stem")
    names = [type(part).__name__ for part in stem]
    lrn, pool, layer = "LocalResponseNorm", "MaxPool2d", "Sequential"
    assert names == [layer, pool, lrn, layer, layer, lrn, pool]
    norm = stem[2]
    assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 1.0)
    assert len(kinds(build(sizes=SMALL, lrn=True, stride=1), nn.LocalResponseNorm)) == 2
    assert not kinds(build(), nn.LocalResponseNorm)


def test_dropout_stands_in_front_of_the_last_layer():
    net = build(dropout=0.4)
    assert [name for name, _ in net.named_children()][-2:] == ["dropout", "head"]
    assert [layer.p for layer in kinds(net, nn.Dropout)] == [0.4]


def test_every_pool_is_the_methods_to_change():
    """Two in the stem, one a block, the last one; the four branches' order is that of the figure."""
    asked = []
    build(Method(pool=lambda layer: asked.append(type(layer).__name__) or layer))
    blocks = ["AvgPool2d"] * 2 + ["MaxPool2d"] + ["AvgPool2d"] * 4 + ["MaxPool2d", "AvgPool2d", "MaxPool2d"]
    assert asked == ["MaxPool2d"] * 2 + blocks + ["AdaptiveAvgPool2d"]


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0.0},
        {"stride": 3},
        {"stride": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"projection": 0},
        {"activation": "rely"},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(**options)
    assert "\n" not in str(error.value)


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(UserError, match="bn_inception"):
        build(sizes={"inputs": (118,), "outputs": 5})
