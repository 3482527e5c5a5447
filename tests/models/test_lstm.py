"""The language model against torch's LSTM of two layers, its initial weights, its size, and the state it carries."""

import math

import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit

SIZES = {"inputs": (4,), "outputs": 7, "streams": 3}


def build(norm="none", sizes=SIZES, **options):
    settings = {"name": "lstm", "width": 0.03, **options}
    return MODELS.build(settings, Kit(METHODS.build({"name": norm})), sizes).double()


def symbols(time=4, n=3):
    return torch.randint(7, (time, n))


def torchs(net):
    """nn.LSTM of two layers with the weights of the model's layers."""
    units = net.embedding.embedding_dim
    lstm = nn.LSTM(units, units, 2).double()
    with torch.no_grad():
        for number, layer in enumerate(net.layers):
            for name, parameter in layer.named_parameters():
                getattr(lstm, name.replace("l0", f"l{number}")).copy_(parameter)
    return lstm


@pytest.mark.parametrize("training", [True, False])
def test_windows_in_a_row_are_one_long_sequence(training):
    """Zaremba et al.: the state behind a window is where the next one begins; gradients end there."""
    net, x = build(size="small").train(training), symbols(12)
    lstm = torchs(net)
    expected = net.head(lstm(net.embedding(x))[0])
    found = [net(part, number == 0) for number, part in enumerate(x.split(4))]
    torch.testing.assert_close(torch.cat(found), expected)
    torch.testing.assert_close(net(x[:4], True), expected[:4])


def test_no_gradient_flows_into_the_window_before():
    net, x = build(size="small"), symbols(8)
    net(x[:4])
    before = net.carried.clone()
    assert not before.requires_grad
    net(x[4:], False).square().sum().backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    lstm = torchs(net)
    y = net.head(lstm(net.embedding(x[4:]), (before[0], before[1]))[0])
    net.zero_grad()
    y.square().sum().backward()
    torch.testing.assert_close(found["layers.1.weight_hh_l0"], lstm.weight_hh_l1.grad)
    torch.testing.assert_close(found["embedding.weight"], net.embedding.weight.grad)


@pytest.mark.parametrize("norm", ["none", "bn_recurrent", "ln"])
def test_evaluation_has_a_state_of_its_own(norm):
    net, x = build(norm, size="small"), symbols(8)
    net(x[:4])
    before = net.carried.clone()
    net.eval()
    first = net(x[:4], True)
    second = net(x[4:], False)
    assert torch.equal(net.carried, before)
    assert torch.equal(net(x[:4], True), first)
    assert not torch.equal(net(x[4:], True), second)


def test_a_state_dict_carries_the_state_of_training():
    one, other, x = build(size="small"), build(size="small"), symbols()
    one(x)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(x, False), other(x, False), rtol=0, atol=0)
    assert "evaluated" not in one.state_dict()


@pytest.mark.parametrize(("size", "dropout"), [("small", 0.0), ("medium", 0.5), ("large", 0.65)])
def test_dropout_behind_embedding_and_layers(size, dropout):
    assert [layer.p for layer in build(size=size).dropouts] == [dropout] * 3
    assert [layer.p for layer in build(size=size, dropout=0.25).dropouts] == [0.25] * 3
    net = build(size="small", dropout=0.5)
    seen = []
    net.layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net.head.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net(symbols())
    assert all(0.1 < (x == 0).double().mean() < 0.9 for x in seen)


@pytest.mark.parametrize(
    ("size", "units", "millions"), [("small", 200, 4.65), ("medium", 650, 19.78), ("large", 1500, 66.03)]
)
def test_parameters_of_the_papers_networks(size, units, millions):
    """Embedding, 2 layers of 4 gates with two biases each (Zaremba's code), softmax with bias, on 10,000 words."""
    with torch.device("meta"):
        net = MODELS.build(
            {"name": "lstm", "size": size}, Kit(METHODS.build({"name": "none"})), {**SIZES, "outputs": 10_000}
        )
    count = sum(p.numel() for p in net.parameters())
    assert count == 2 * 10_000 * units + 10_000 + 2 * 4 * (2 * units**2 + 2 * units)
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("norm", ["none", "bn_recurrent", "ln", "wn"])
@pytest.mark.parametrize(("size", "limit"), [("small", 0.1), ("medium", 0.05), ("large", 0.04)])
def test_initial_weights_and_biases_are_uniform(norm, size, limit):
    net = build(norm, size=size, width=10 / 200 if size == "small" else 0.02)
    layer = net.layers[1]
    drawn = [net.embedding.weight, net.head.weight, net.head.bias, layer.weight_ih_l0, layer.weight_hh_l0]
    drawn += [layer.bias_ih_l0, layer.bias_hh_l0] if norm in ("none", "wn") else []
    for values in drawn:
        assert values.abs().max() <= limit * (1 + 1e-6)
        assert values.abs().max() > 0.7 * limit
    if norm == "bn_recurrent":
        assert (layer.norm_ih.gamma == 1).all()
        assert (layer.norm_ih.beta == 0).all()
        assert not hasattr(layer, "bias_ih_l0")


@pytest.mark.parametrize(
    "options",
    [{"width": 0.0}, {"width": math.inf}, {"layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"size": "huge"}],
    ids=str,
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(**options)
    assert "\n" not in str(error.value)


def test_images_are_refused():
    with pytest.raises(UserError, match="language model"):
        build(sizes={"inputs": (1, 8, 8), "outputs": 10})
