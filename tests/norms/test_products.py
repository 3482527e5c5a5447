"""Products by oneDNN against torch's in float64: as they lie in memory, their gradients, where they are not taken."""

import warnings

import pytest
import torch
from torch.nn import functional

from normtables.norms import METHODS, Kit, products

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
needs_onednn = pytest.mark.skipif(not products.ONEDNN, reason="torch is built without oneDNN")
LSTMS = [{"name": "bn_recurrent"}, {"name": "bn_recurrent", "variant": "per_step"}, {"name": "ln"}]


@pytest.fixture(params=[True, False], ids=["oneDNN", "elsewhere"])
def onednn(request, monkeypatch):
    """Both ways on one machine."""
    monkeypatch.setattr(products, "ONEDNN", request.param and products.ONEDNN)


def lying(rows, columns, turned):
    """[rows, columns], contiguous or as the transpose of what is."""
    return torch.randn(columns, rows).t() if turned else torch.randn(rows, columns)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("n", "inputs", "outputs"), [(32, 40, 24), (2, 3, 4), (3, 1, 5), (5, 4, 1), (1, 1, 1)])
def test_a_product_however_its_factors_lie(onednn, n, inputs, outputs, turned):
    x, weight, more = lying(n, inputs, turned[0]), lying(outputs, inputs, turned[1]), torch.randn(n, outputs)
    before = more.clone()
    expected = (x.double() @ weight.double().t()).float()
    torch.testing.assert_close(products.product(x, weight), expected, **CLOSE)
    torch.testing.assert_close(products.product(x, weight, more), expected + before, **CLOSE)
    assert torch.equal(more, before)


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 3, 5, 6)])
def test_linear_is_torchs_with_its_gradients(onednn, shape):
    x, weight = torch.randn(shape), torch.randn(4, 6)
    push = torch.randn(4).expand(*shape[:-1], 4)  # with strides of zero, as that of a sum
    found = []
    for layer, dtype in ((products.linear, torch.float32), (functional.linear, torch.float64)):
        inputs = [x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()]
        y = layer(*inputs)
        found.append([y, *torch.autograd.grad(y, inputs, push.to(dtype))])
    torch.testing.assert_close(found[0], [part.float() for part in found[1]], **CLOSE)


@needs_onednn
def test_where_onednn_is_taken(monkeypatch):
    """For float32 alone, and not where autocast halves what is multiplied."""
    called = []
    taken = products.Linear.apply
    monkeypatch.setattr(products.Linear, "apply", lambda *inputs: called.append(inputs) or taken(*inputs))
    x, weight = torch.randn(3, 5), torch.randn(4, 5)
    assert products.linear(x.double(), weight.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    assert not called
    products.linear(x, weight)
    assert len(called) == 1


def lstm(options, seed=0):
    torch.manual_seed(seed)
    return Kit(METHODS.build(options)).recurrent(3, 4)


@pytest.mark.parametrize("options", LSTMS, ids=str)
def test_lstm_layers_are_those_of_float64(onednn, options):
    x, found = torch.randn(4, 6, 3), []
    for dtype in (torch.float32, torch.float64):
        layer = lstm(options).to(dtype)
        y, _ = layer(x.to(dtype))
        found.append([part.float() for part in (y, *torch.autograd.grad(y.square().sum(), layer.parameters()))])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("options", LSTMS, ids=str)
def test_lstm_layers_compile_and_stack(options):
    """Stacked, members are taken one by one, of which torch warns."""
    layers, x = [lstm(options, seed) for seed in range(3)], torch.randn(2, 6, 3)

    def loss(parameters, buffers):
        return torch.func.functional_call(layers[0], (parameters, buffers), (x,))[0].square().sum()

    gradient = torch.func.grad(loss)
    alone = [gradient(dict(layer.named_parameters()), dict(layer.named_buffers())) for layer in layers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stacked = torch.func.vmap(gradient)(*torch.func.stack_module_state(layers))
    for name, values in stacked.items():
        torch.testing.assert_close(values, torch.stack([each[name] for each in alone]), **CLOSE)
    compiled = torch.compile(layers[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layers[0](x), **CLOSE)
