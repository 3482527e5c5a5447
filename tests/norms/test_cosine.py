"""Cosine normalization against explicit patches in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.norms import METHODS, Kit

CENTRED = pytest.mark.parametrize("centred", [False, True])


def wrapped(layer, **options):
    return METHODS.build({"name": "cosine", "head": "cosine", "epsilon": 1e-12, **options}).wrap(layer.double())


def cosines(w, x, centred):
    """The cosine of every row of w [out, k] with every vector x [..., k, places]: [..., out, places]."""
    if centred:
        w, x = w - w.mean(1, keepdim=True), x - x.mean(-2, keepdim=True)
    return (w / w.norm(dim=1, keepdim=True)) @ (x / x.norm(dim=-2, keepdim=True))


def patches(x, conv):
    """[n, fan-in, places] of an image or a sequence [n, channels, ...], zeros at the border included."""
    if isinstance(conv, nn.Conv1d):  # as an image of height 1
        sizes = [(1, *conv.kernel_size), (1, *conv.dilation), (0, *conv.padding), (1, *conv.stride)]
        return functional.unfold(x[:, :, None], *sizes)
    return functional.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)


@CENTRED
@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(2, 3),
    out=st.integers(1, 3),
    kernel=st.integers(2, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_the_cosine_with_every_patch(centred, dims, channels, out, kernel, stride, padding, seed):
    torch.manual_seed(seed)
    conv = (nn.Conv1d if dims == 1 else nn.Conv2d)(channels, out, kernel, stride, padding, bias=False)
    layer = wrapped(conv, centred=centred)
    v = conv.parametrizations.weight.original
    x = torch.randn([2, channels, 5, 6][: 2 + dims], dtype=torch.float64, requires_grad=True)
    y = layer(x + 0.5)
    expected = cosines(v.flatten(1), patches(x + 0.5, conv), centred).view_as(y)
    torch.testing.assert_close(y, expected)
    assert y.abs().max() <= 1 + 1e-12
    push = torch.randn_like(y)
    for mine, theirs in zip(*(torch.autograd.grad((one * push).sum(), [x, v]) for one in (y, expected))):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@CENTRED
@settings(max_examples=15, deadline=None)
@given(inputs=st.integers(3, 6), out=st.integers(1, 4), middle=st.sampled_from([[], [3]]), seed=st.integers(0, 99))
def test_a_linear_layer_is_the_cosine_with_every_input(centred, inputs, out, middle, seed):
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, out, bias=False)
    layer = wrapped(linear, centred=centred)
    v = linear.parametrizations.weight.original
    x = (torch.randn(2, *middle, inputs, dtype=torch.float64) * 3 + 1).requires_grad_()
    y = layer(x)
    expected = cosines(v, x[..., None], centred)[..., 0]
    torch.testing.assert_close(y, expected)
    assert y.abs().max() <= 1 + 1e-12
    push = torch.randn_like(y)
    for mine, theirs in zip(*(torch.autograd.grad((one * push).sum(), [x, v]) for one in (y, expected))):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@CENTRED
def test_gradcheck(centred):
    for layer, shape in ((nn.Linear(3, 2), [2, 3]), (nn.Conv1d(2, 2, 2, padding=1), [2, 2, 3])):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(wrapped(layer, centred=centred), x)


@CENTRED
def test_against_numpys_correlation(centred):
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=[4, 6]), rng.normal(size=[5, 6])
    linear = nn.Linear(6, 4, bias=False)
    layer = wrapped(linear, centred=centred)
    linear.weight = torch.tensor(w)
    pairs = np.array(
        [[np.corrcoef(a, b)[0, 1] if centred else a @ b / math.hypot(*a) / math.hypot(*b) for a in w] for b in x]
    )
    np.testing.assert_allclose(layer(torch.tensor(x)).detach(), pairs, rtol=1e-10)


@CENTRED
def test_the_scale_of_weights_and_inputs_does_not_count(centred):
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    layer, x = wrapped(conv, centred=centred), torch.randn(2, 2, 5, 5, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        conv.parametrizations.weight.original.mul_(30)
    torch.testing.assert_close(layer(x * 0.01), before)


@CENTRED
@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_and_constants_stay_finite_and_bounded(centred, kind, dtype):
    """An all-zero patch, and one without variation where rounding is all that is left of its deviation."""
    layer = nn.Linear(8, 3, bias=False) if kind == "linear" else nn.Conv2d(2, 3, 2, bias=False)
    layer = METHODS.build({"name": "cosine", "centred": centred}).wrap(layer).to(dtype)
    for value in (0.0, 1.0, 123.456, 1e4):
        x = torch.full([2, 8] if kind == "linear" else [2, 2, 4, 4], value, dtype=dtype, requires_grad=True)
        y = layer(x)
        assert torch.isfinite(y).all()
        assert y.abs().max() <= (0.02 if centred or not value else 1 + 1e-6)
        y.sum().backward()
        assert all(torch.isfinite(t.grad).all() for t in (x, *layer.parameters()))


@CENTRED
def test_half_precision_is_bounded_too(centred):
    for layer, shape in ((nn.Linear(50, 20, bias=False), [30, 50]), (nn.Conv2d(3, 8, 3, bias=False), [4, 3, 9, 9])):
        layer = METHODS.build({"name": "cosine", "centred": centred}).wrap(layer)
        x = torch.randn(shape) * 20 + 3
        full = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), full, rtol=0, atol=0.03)


def test_a_centred_linear_layer_in_half_precision_is_blind_to_a_shift():
    """Centred before the product, in full precision: at 200, neighbours in bfloat16 are 1 apart."""
    layer = METHODS.build({"name": "cosine", "centred": True}).wrap(nn.Linear(50, 20, bias=False))
    x = torch.randn(30, 50)
    with torch.autocast("cpu", torch.bfloat16):
        shifted = layer(x + 200)
    torch.testing.assert_close(shifted.float(), layer(x), rtol=0, atol=0.03)


# where it stands


@CENTRED
@pytest.mark.parametrize(("head", "scale"), [("cosine", 1), ("scaled", math.sqrt(6))])
def test_a_head_of_cosines_has_a_bias_and_perhaps_a_scale(centred, head, scale):
    x = torch.randn(5, 6, dtype=torch.float64)
    layer = Kit(METHODS.build({"name": "cosine", "centred": centred, "head": head})).head(6, 4).double()
    w, bias = layer.layer.parametrizations.weight.original, layer.layer.bias
    torch.testing.assert_close(layer(x), scale * cosines(w, x.T, centred).T + bias, rtol=1e-5, atol=1e-5)
    assert len(list(layer.parameters())) == (3 if head == "scaled" else 2)


def test_the_head_is_an_ordinary_layer_without_being_asked():
    assert type(Kit(METHODS.build({"name": "cosine"})).head(6, 4)) is nn.Linear


def test_hidden_layers_have_unit_weights_and_neither_gain_nor_bias():
    kit = Kit(METHODS.build({"name": "cosine", "head": "scaled"}))
    for layer in (kit.linear(6, 4), kit.conv(3, 4, 3), kit.conv(3, 4, 3, dims=1)):
        assert len(list(layer.parameters())) == 1
        torch.testing.assert_close(layer.layer.weight.flatten(1).norm(dim=1), torch.ones(4))
    assert isinstance(kit.norm_act(4)[0], nn.Identity)


def test_training_and_evaluation_agree_and_a_state_dict_carries_everything():
    first, second = (wrapped(nn.Conv2d(2, 3, 2)) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(first.train()(x), second.eval()(x))


def test_groups_are_refused():
    with pytest.raises(UserError, match="groups"):
        wrapped(nn.Conv2d(4, 4, 3, groups=2))


@pytest.mark.parametrize("options", [{"epsilon": 0}, {"epsilon": -1.0}, {"head": "softmax"}, {"centred": 1}], ids=str)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        METHODS.build({"name": "cosine", **options})
    assert "\n" not in str(error.value)
