"""Layer, group and instance normalization: torch's layers, each against its formula in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from normtables.errors import UserError
from normtables.norms import METHODS
from normtables.norms.gn import groups_of

EPSILON = 0.05  # large, so that a misplaced one is seen
SHAPES = {0: [5, 8], 1: [5, 8, 3], 2: [5, 8, 3, 2]}
NAMES = ("ln", "gn", "inorm")
BOTH = [(name, dims) for name in NAMES for dims in SHAPES]
TORCHS = {
    ("ln", 0): lambda: nn.LayerNorm(8, eps=EPSILON),
    ("ln", 1): lambda: nn.GroupNorm(1, 8, eps=EPSILON),
    ("ln", 2): lambda: nn.GroupNorm(1, 8, eps=EPSILON),
    ("gn", 0): lambda: nn.GroupNorm(4, 8, eps=EPSILON),
    ("gn", 1): lambda: nn.GroupNorm(4, 8, eps=EPSILON),
    ("gn", 2): lambda: nn.GroupNorm(4, 8, eps=EPSILON),
    ("inorm", 1): lambda: nn.InstanceNorm1d(8, eps=EPSILON, affine=True),
    ("inorm", 2): lambda: nn.InstanceNorm2d(8, eps=EPSILON, affine=True),
}


def build(name, dims=0, channels=8, dtype=torch.float64, **options):
    layer = METHODS.build({"name": name, "epsilon": EPSILON, **options}).norm(channels, dims).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1, 0.5)
    return layer


def formula(name, x, gamma, beta):
    """Each example by itself: its channels in one block, in blocks of two, or each a block."""
    per_channel = [1, -1] + [1] * (x.ndim - 2)
    if name != "inorm" or x.ndim > 2:
        groups = {"ln": 1, "gn": 4, "inorm": 8}[name]
        blocks = x.reshape(len(x), groups, -1)
        mean = blocks.mean(2, keepdims=True)
        variance = ((blocks - mean) ** 2).mean(2, keepdims=True)
        x = ((blocks - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    return gamma.reshape(per_channel) * x + beta.reshape(per_channel)


@pytest.mark.parametrize(("name", "dims"), BOTH)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_the_formulas(name, dims, training):
    layer = build(name, dims).train(training)
    x = torch.randn(SHAPES[dims], dtype=torch.float64) * 3 + 1
    gamma, beta = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach(), formula(name, x.numpy(), gamma, beta), rtol=1e-10, atol=1e-10)
    inputs = x[:2].requires_grad_()

    def forward(x, weight, bias):
        return functional_call(layer, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (inputs, layer.weight, layer.bias))


@pytest.mark.parametrize(("name", "dims"), TORCHS)
def test_they_are_torchs_layers(name, dims):
    ours, theirs = build(name, dims), TORCHS[name, dims]().double()
    assert isinstance(ours, type(theirs))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(SHAPES[dims], dtype=torch.float64)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(("name", "dims"), BOTH)
def test_an_example_does_not_see_the_others_or_the_mode(name, dims):
    layer = build(name, dims)
    x = torch.randn(SHAPES[dims], dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(torch.cat([layer(one[None]) for one in x]), y)
    assert torch.equal(layer.eval()(x), y)


@pytest.mark.parametrize(("name", "dims"), BOTH)
def test_they_begin_as_plain_normalization(name, dims):
    layer = METHODS.build({"name": name}).norm(8, dims)
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(("name", "dims"), BOTH)
def test_stacked_members_compute_as_each_alone(name, dims):
    layers = [build(name, dims) for _ in range(3)]
    stacked, _ = stack_module_state(layers)
    x = torch.randn(3, *SHAPES[dims], dtype=torch.float64)
    y = vmap(lambda parameters, x: functional_call(layers[0], parameters, x))(stacked, x)
    torch.testing.assert_close(y, torch.stack([layer(one) for layer, one in zip(layers, x)]))


@pytest.mark.parametrize(("name", "dims"), BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_other_types_and_layouts_compute_the_same(name, dims, dtype):
    exact = build(name, dims)
    layer = build(name, dims, dtype=torch.float32)
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(SHAPES[dims]).to(dtype)
    if dims == 2:
        x = x.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        y = layer(x)
    close = 1e-5 if dtype is torch.float32 else 0.05
    torch.testing.assert_close(y.double(), exact(x.double()), rtol=close, atol=close)


@pytest.mark.parametrize(("name", "dims"), [("ln", 0), ("gn", 2), ("inorm", 0), ("inorm", 2)])
def test_they_compile_in_one_graph(name, dims):
    layer = build(name, dims)
    x = torch.randn(SHAPES[dims], dtype=torch.float64)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(NAMES), shape=st.lists(st.integers(2, 6), min_size=2, max_size=4))
def test_any_shape(name, shape):
    layer = METHODS.build({"name": name}).norm(shape[1], len(shape) - 2)
    x = torch.randn(shape, requires_grad=True)
    y = layer(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    y.pow(2).sum().backward()
    assert torch.isfinite(x.grad).all()


# groups


@pytest.mark.parametrize(
    ("channels", "groups", "found"),
    [
        (64, 32, 32),
        (32, 32, 16),
        (256, 32, 32),
        (100, 32, 25),
        (300, 32, 30),
        (7, 32, 1),
        (4, 4, 2),
        (8, 3, 2),
        (1, 32, 1),
    ],
)
def test_groups_of_a_layer(channels, groups, found):
    assert groups_of(channels, groups) == found
    assert METHODS.build({"name": "gn", "groups": groups}).norm(channels, 2).num_groups == found


@given(channels=st.integers(1, 500), groups=st.integers(1, 64))
def test_groups_divide_the_channels_and_are_as_many_as_may_be(channels, groups):
    allowed = [g for g in range(1, groups + 1) if channels % g == 0 and channels // g >= 2]
    assert groups_of(channels, groups) == max(allowed, default=1)


# options


def test_instance_norm_leaves_flat_inputs_as_they_are_but_for_gain_and_shift():
    x = torch.randn(4, 8)
    assert torch.equal(METHODS.build({"name": "inorm"}).norm(8, 0)(x), x)


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_refuses_a_channel_of_one_value(dims, training):
    layer, x = build("inorm", dims).train(training), torch.randn([4, 8, 1, 1][: dims + 2], dtype=torch.float64)
    with pytest.raises(UserError, match="norm=gn") as error:
        layer(x)
    assert "\n" not in str(error.value)


def test_instance_norm_in_channels_last_is_torchs_too():
    layer, x = build("inorm", 2), torch.randn(SHAPES[2], dtype=torch.float64)
    last = x.clone(memory_format=torch.channels_last)
    found = []
    for inputs in (x.requires_grad_(), last.requires_grad_()):
        y = layer(inputs)
        found.append([y, *torch.autograd.grad(y.pow(3).sum(), [inputs, *layer.parameters()])])
    torch.testing.assert_close(*found)
    assert found[1][0].is_contiguous(memory_format=torch.channels_last)


# LSTM layers of ln


def lstm(dtype=torch.float64, **options):
    layer = METHODS.build({"name": "ln", "epsilon": EPSILON, **options}).recurrent(3, 4).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    return layer


def standard(x):
    """Rows of mean 0 and variance 1 but for epsilon."""
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + EPSILON).sqrt()


def plain(p, x, h, c):
    """Ba, Kiros & Hinton's supplement, step by step and gate by gate."""
    outputs = []
    for frame in x:
        gates = standard(frame @ p["weight_ih_l0"].T) * p["norm_ih.weight"] + p["norm_ih.bias"]
        gates = gates + standard(h @ p["weight_hh_l0"].T) * p["norm_hh.weight"]
        i, f, g, o = gates[:, :4], gates[:, 4:8], gates[:, 8:12], gates[:, 12:]
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (standard(c) * p["norm_c.weight"] + p["norm_c.bias"]).tanh()
        outputs.append(h)
    return torch.stack(outputs), h, c


def test_an_lstm_is_the_papers():
    layer, x = lstm(), torch.randn(5, 6, 3, dtype=torch.float64, requires_grad=True)
    h, c = (torch.randn(1, 6, 4, dtype=torch.float64) for _ in range(2))
    y, (last, cells) = layer(x, (h, c))
    ours, theirs = (y, last[0], cells[0]), plain(dict(layer.named_parameters()), x, h[0], c[0])
    torch.testing.assert_close(ours, theirs)
    inputs = [x, *layer.parameters()]
    push = [torch.randn_like(part) for part in ours]
    found = [torch.autograd.grad(parts, inputs, push) for parts in (ours, theirs)]
    torch.testing.assert_close(*found)
    zeros = torch.zeros(1, 6, 4, dtype=torch.float64)
    assert torch.equal(layer(x)[0], layer(x, (zeros, zeros))[0])


def test_gradcheck_of_an_lstm():
    layer, x = lstm(), torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], x)


def test_an_lstm_begins_as_plain_normalization():
    layer = METHODS.build({"name": "ln"}).recurrent(3, 4)
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            assert (parameter == ("weight" in name)).all()
    assert layer.norm_c.eps == 1e-5
    assert {name for name, _ in layer.named_parameters() if "hh" in name} == {"weight_hh_l0", "norm_hh.weight"}


def test_an_lstm_compiles_and_stacks():
    layers, x = [lstm() for _ in range(3)], torch.randn(2, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(layers[0], fullgraph=True, backend="eager")(x), layers[0](x))
    stacked, _ = stack_module_state(layers)
    y = vmap(lambda parameters: functional_call(layers[0], parameters, (x,))[0])(stacked)
    torch.testing.assert_close(y, torch.stack([layer(x)[0] for layer in layers]))


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_stands_where_position_says(name):
    for position in ("before", "after"):
        method = METHODS.build({"name": name, "position": position})
        assert method.after == (position == "after")
        assert method.shifts


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[(name, {"epsilon": value}) for name in NAMES for value in (0, -1e-5, math.nan, math.inf, "small")],
        *[(name, {"position": "between"}) for name in NAMES],
        *[("gn", {"groups": value}) for value in (0, -1, 1.5)],
    ],
    ids=str,
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        METHODS.build({"name": name, **options})
    assert "\n" not in str(error.value)
