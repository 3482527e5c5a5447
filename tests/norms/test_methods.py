"""What every method keeps, whichever it is: shapes, modes, state in buffers, biases, order."""

import copy

import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit, Method

SHAPES = {0: [6, 4], 1: [6, 4, 5], 2: [6, 4, 3, 5]}
BOTH = [(name, dims) for name in METHODS for dims in SHAPES]


def method(name, **options):
    return METHODS.build({"name": name, **options})


def stateful(name, dims):
    return nn.Sequential(method(name).norm(4, dims)).double()


@pytest.mark.parametrize(("name", "dims"), BOTH)
@pytest.mark.parametrize("training", [True, False])
def test_shape_type_and_gradients(name, dims, training):
    layer = stateful(name, dims).train(training)
    x = torch.randn(SHAPES[dims], dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    y.pow(2).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (x, *layer.parameters()))


@pytest.mark.parametrize(("name", "dims"), BOTH)
def test_state_is_in_parameters_and_buffers_alone(name, dims):
    torch.manual_seed(1)
    layer = stateful(name, dims)
    for _ in range(3):
        layer(torch.randn(SHAPES[dims], dtype=torch.float64))
    other = stateful(name, dims)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    for training in (True, True, False):
        x = torch.randn(SHAPES[dims], dtype=torch.float64)
        assert torch.equal(layer.train(training)(x), other.train(training)(x))


@pytest.mark.parametrize(("name", "dims"), BOTH)
def test_evaluation_changes_nothing_and_sees_one_example_at_a_time(name, dims):
    layer = stateful(name, dims)
    layer(torch.randn(SHAPES[dims], dtype=torch.float64))
    before = copy.deepcopy(layer.state_dict())
    layer.eval()
    x = torch.randn(SHAPES[dims], dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.cat([layer(one[None]) for one in x]))
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_bias_before_a_shift_is_dropped_and_no_other(name):
    kit = Kit(method(name))
    kept = kit.method.after or not kit.method.shifts
    for layer in (kit.linear(3, 4), kit.conv(3, 4, 3)):
        assert all(
            (part.bias is not None) == kept for part in layer.modules() if isinstance(part, nn.Linear | nn.Conv2d)
        )
    assert all(part.bias is not None for part in kit.head(3, 4).modules() if isinstance(part, nn.Linear))


@pytest.mark.parametrize("name", ["bn", "dbn"])
def test_norm_comes_before_or_after_the_nonlinearity(name):
    for position, order in (("before", (0, 1)), ("after", (1, 0))):
        kit = Kit(method(name, position=position))
        layers = kit.norm_act(4, 2)
        assert isinstance(layers[order[1]], nn.ReLU)
        assert not isinstance(layers[order[0]], nn.ReLU)
        assert kit.bias == (position == "after")


def test_a_method_may_touch_each_part_of_a_model():
    norms, wrapped = [], []

    def norm(channels, dims):
        norms.append((channels, dims))
        return nn.Identity()

    def wrap(layer):
        wrapped.append(layer)
        return layer

    kit = Kit(Method(norm=norm, wrap=wrap, act=nn.SELU))
    made = [kit.linear(1, 2), kit.conv(1, 2, 3, dims=1), kit.conv(1, 2, 3, stride=2, padding=1), kit.head(1, 2)]
    assert wrapped == made
    assert [type(layer) for layer in made] == [nn.Linear, nn.Conv1d, nn.Conv2d, nn.Linear]
    assert (made[2].stride, made[2].padding) == ((2, 2), (1, 1))
    assert isinstance(kit.norm_act(7, 1)[1], nn.SELU)
    kit.norm_act(5)
    assert norms == [(7, 1), (5, 0)]


def test_none_is_the_plain_network():
    x = torch.randn(6, 4)
    assert torch.equal(method("none").norm(4, 0)(x), x)
    assert Kit(method("none")).bias


@pytest.mark.parametrize("dims", SHAPES)
def test_bn_is_torchs_layer_with_the_options(dims):
    layer = method("bn", epsilon=0.25, momentum=0.5).norm(4, dims)
    x = torch.randn(SHAPES[dims]) * 3 + 2
    y = layer(x)
    axes = [0, *range(2, x.dim())]
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
    torch.testing.assert_close(y, (x - mean) / (variance + 0.25).sqrt())
    torch.testing.assert_close(layer.running_mean, 0.5 * mean.flatten())
    torch.testing.assert_close(layer.running_var, 0.5 + 0.5 * x.var(axes))


@pytest.mark.parametrize("options", [{"epsilon": "small"}, {"momentum": None}, {"position": "on"}], ids=str)
def test_bn_refuses_bad_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        method("bn", **options)
