"""Every method, now and later, in `mlp` and `cnn4`: compiled, stacked, in each type, in channels_last, for one example.

And in runs. What a method cannot is data, CANNOT, the same as in docs/design.md, and is tested to be so.
"""

import copy
import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit
from normtables.places import ROOT

NETS = {"mlp": {"widths": [6, 4]}, "cnn4": {"widths": [4, 6], "hidden": 7, "dropout": [0.0, 0.0, 0.0]}}
PAIRS = list(itertools.product(METHODS, NETS))
SIZES = {"inputs": (2, 8, 8), "outputs": 5}
# what cannot be done: (methods, reason); the rows of the table in docs/design.md
CANNOT = {
    "training on one example": (
        ("bn", "bn_recurrent", "brn", "dbn", "hg", "l1bn", "riemannian", "wn_mean"),
        "statistics of a batch need two values a channel: an error says so",
    ),
    "torch.func.vmap in one operation": (
        ("wn", "wn_mean"),
        "torch's weight norm has no batching rule: right, but member by member, and torch warns",
    ),
    "an optimizer of stacked members": (
        ("riemannian",),
        "its steps read [outputs, ...] off each parameter; the layers stack as bn's",
    ),
}


def cannot(norm, what):
    return norm in CANNOT[what][0]


def build(model, norm):
    """A small network as a run builds it, and away from its beginning."""
    method = METHODS.build({"name": norm})
    net = MODELS.build({"name": model, **NETS[model]}, Kit(method), SIZES)
    method.init(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def images(n=6, dtype=torch.float64):
    return torch.randn(n, *SIZES["inputs"], dtype=dtype)


def step(net, x):
    """Outputs and the gradient of every parameter."""
    for parameter in net.parameters():
        parameter.grad = None
    outputs = net(x)
    targets = torch.arange(len(x), device=x.device) % 5
    cross_entropy(outputs.float() if outputs.dtype is torch.bfloat16 else outputs, targets).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    return outputs.detach(), {name: parameter.grad for name, parameter in net.named_parameters()}


def test_the_documentation_has_the_same_table():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for what, (methods, reason) in CANNOT.items():
        assert f"| {what} | {', '.join(f'`{name}`' for name in methods)} | {reason} |" in text
        assert set(methods) <= set(METHODS)


# torch.compile


def compare_compiled(norm, model, backend, dtype=torch.float64):
    """Two training steps and an evaluation as one graph each, beside the network as it is."""
    torch._dynamo.reset()
    net = build(model, norm).to(dtype)
    other = copy.deepcopy(net)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    for _ in range(2):
        x = images(dtype=dtype)
        torch.testing.assert_close(step(compiled, x)[0], step(other, x)[0])
        gradients = [[parameter.grad for parameter in one.parameters()] for one in (net, other)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.state_dict(), other.state_dict())
    return net.eval(), other.eval(), compiled


@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_one_graph(norm, model):
    """The smaller network also through the backward pass that torch's compiler derives, which may compute again."""
    _, other, compiled = compare_compiled(norm, model, "aot_eager" if model == "mlp" else "eager")
    if model == "mlp":
        x = images()
        torch.testing.assert_close(compiled(x), other(x))


@pytest.mark.parametrize("norm", ["brn"])
def test_torchs_own_compiler(norm):
    compare_compiled(norm, "mlp", "inductor", torch.float32)


# torch.func.vmap


@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_stacked_members_train_as_each_alone(norm, model):
    """Gradients and buffers of a training step; randomness only because dropout of rate 0 asks for it."""
    nets = [build(model, norm).double() for _ in range(2)]
    parameters, buffers = stack_module_state(nets)
    parameters = {name: value.detach() for name, value in parameters.items()}
    x, targets = torch.stack([images(), images()]), torch.arange(6) % 5

    def loss(parameters, buffers, x):
        state = parameters | buffers  # functional_call leaves new buffers in the dictionary that it is given
        return cross_entropy(functional_call(nets[0], state, x), targets), {name: state[name] for name in buffers}

    alone = copy.deepcopy(nets)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        grads, buffers = vmap(grad(loss, has_aux=True), randomness="different")(parameters, buffers, x)
    assert any("performance drop" in str(w.message) for w in warned) == cannot(norm, "torch.func.vmap in one operation")
    for i, net in enumerate(alone):
        _, expected = step(net, x[i])
        torch.testing.assert_close({name: value[i] for name, value in grads.items()}, expected)
        torch.testing.assert_close({name: value[i] for name, value in buffers.items()}, dict(net.named_buffers()))


@pytest.mark.parametrize("norm", METHODS)
def test_stacked_parameters_have_an_optimizer(norm):
    """A method either leaves the optimizer to the configuration or is listed."""
    net = build("mlp", norm)
    given = torch.optim.SGD(net.parameters(), lr=0.1)
    own = METHODS.build({"name": norm}).optimizer(net, given) is not given
    assert own == cannot(norm, "an optimizer of stacked members")


# types


@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_single_and_half_precision(norm, model):
    """float32 and autocast bfloat16 beside float64: values, gradients, and state in float32."""
    exact = build(model, norm).double()
    single, half = copy.deepcopy(exact).float(), copy.deepcopy(exact).float()
    layers = [layer for layer in half.modules() if not list(layer.children())]
    wrong = []
    for layer in layers:
        layer.register_forward_hook(
            lambda layer, x, y: wrong.append(layer) if x[0].dtype is torch.bfloat16 is not y.dtype else None
        )
    x = images()
    expected = step(exact, x)
    torch.testing.assert_close(as_double(step(single, x.float())), expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        found = step(half, x.float())
    assert found[0].dtype is torch.bfloat16
    assert not wrong, "a layer left bfloat16"
    torch.testing.assert_close(found[0].double(), expected[0], rtol=0.1, atol=0.15)
    for name, parameter in half.named_parameters():
        assert parameter.dtype is parameter.grad.dtype is torch.float32
        assert torch.isfinite(parameter.grad).all(), name
    for name, buffer in half.named_buffers():
        assert buffer.dtype in (torch.float32, torch.int64), name
    for net in (exact, single, half):
        net.eval()
    torch.testing.assert_close(single(x.float()).double(), exact(x), rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(half(x.float()).double(), exact(x), rtol=0.1, atol=0.15)


def as_double(found):
    return found[0].double(), {name: gradient.double() for name, gradient in found[1].items()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_cuda_computes_the_same(norm, model):
    """In float64; then a step in half precision and channels_last."""
    net = build(model, norm).double()
    other = copy.deepcopy(net).cuda()
    for x in (images(), images()):
        torch.testing.assert_close(step(other, x.cuda()), step(net, x), check_device=False)
    torch.testing.assert_close(other.state_dict(), net.state_dict(), check_device=False)
    torch.testing.assert_close(other.eval()(x.cuda()), net.eval()(x), check_device=False)
    other = other.train().float().to(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16):
        outputs, gradients = step(other, x.float().cuda().to(memory_format=torch.channels_last))
    assert all(torch.isfinite(value).all() for value in (outputs, *gradients.values()))


# channels_last


@pytest.mark.parametrize("norm", METHODS)
def test_channels_last_stays_and_computes_the_same(norm):
    net = build("cnn4", norm).double()
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    lost = []

    def watch(layer, x, y):
        if y.dim() == 4 and y.shape[1] > 1 and not y.is_contiguous(memory_format=torch.channels_last):
            lost.append(layer)

    for layer in other.modules():
        if "parametri" not in type(layer).__module__:
            layer.register_forward_hook(watch)
    for x in (images(), images()):
        torch.testing.assert_close(step(other, x.to(memory_format=torch.channels_last)), step(net, x))
    assert not lost
    torch.testing.assert_close(other.state_dict(), net.state_dict())
    torch.testing.assert_close(other.eval()(x.to(memory_format=torch.channels_last)), net.eval()(x))


# one example


@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_one_example_is_as_in_a_batch_or_refused(norm, model):
    net = build(model, norm).double()
    x = images()
    if not cannot(norm, "training on one example"):
        torch.testing.assert_close(torch.cat([net(one[None]) for one in x]), net(x))
        step(net, x[:1])
        return
    with pytest.raises(UserError, match="batch_size") as error:
        net(x[:1])
    assert "\n" not in str(error.value)
    net.eval()
    torch.testing.assert_close(torch.cat([net(one[None]) for one in x]), net(x))


# state and shapes


@pytest.mark.parametrize(("norm", "model"), PAIRS)
def test_a_state_dict_carries_everything(norm, model):
    """What a method measured before training included."""
    net, other = build(model, norm).double(), build(model, norm).double()
    METHODS.build({"name": norm}).prepare(net, lambda: net(3 * images() + 1).sum(), {"step": 1, "epoch": 2})
    step(net, images())
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    for training in (True, True, False):
        x = images()
        assert torch.equal(net.train(training)(x), other.train(training)(x))
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0, atol=0)


def channels_of(kit, dims, inputs, outputs, space):
    """A weight layer, its norm and nonlinearity, for inputs [n, inputs, ...], and the trailing sizes that it makes."""
    weight = kit.conv(inputs, outputs, 2, dims=dims) if dims else kit.linear(inputs, outputs)
    return nn.Sequential(weight, kit.norm_act(outputs, dims)).double(), [size - 1 for size in space]


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(2, 5),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    space=st.lists(st.integers(3, 6), max_size=2),
)
@pytest.mark.parametrize("norm", METHODS)
def test_any_shape(norm, n, channels, space):
    block, after = channels_of(Kit(METHODS.build({"name": norm})), len(space), *channels, space)
    x = torch.randn(n, channels[0], *space, dtype=torch.float64, requires_grad=True)
    for training in (True, False):
        y = block.train(training)(x)
        assert y.shape == (n, channels[1], *after)
        assert torch.isfinite(y).all()
    y.pow(2).sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in (x, *block.parameters()))


# LSTM layers


@pytest.mark.parametrize("norm", METHODS)
def test_lstm_layers_are_called_as_torchs(norm):
    kit = Kit(METHODS.build({"name": norm}))
    layer, other = kit.recurrent(3, 4).double(), kit.recurrent(3, 4).double()
    state = tuple(torch.randn(1, 6, 4, dtype=torch.float64) for _ in range(2))
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    outputs, (h, c) = layer(x, state)
    assert (outputs.shape, h.shape, c.shape) == ((5, 6, 4), (1, 6, 4), (1, 6, 4))
    torch.testing.assert_close(outputs[-1], h[0])
    (outputs.sum() + c.sum()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
    other.load_state_dict(layer.state_dict())
    layer.eval(), other.eval()
    y = layer(x)[0]
    assert torch.equal(other(x)[0], y)
    torch.testing.assert_close(torch.cat([layer(x[:, i : i + 1])[0] for i in range(6)], 1), y)
    assert layer.float()(x.float())[0].dtype is torch.float32
