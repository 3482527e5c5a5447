"""RevGrad: the sign of the gradient on either side of the reversal, its schedule, the critic's loss."""

import math

import pytest
import torch
from torch import nn

from normtables.tasks.adversary import Adversarial, Reversal, reversal


def test_the_reversal_is_the_identity_with_a_gradient_turned_round():
    x = torch.randn(4, 3, requires_grad=True)
    y = Reversal.apply(x, 0.3)
    assert torch.equal(y, x)
    gradient = torch.randn(4, 3)
    y.backward(gradient)
    torch.testing.assert_close(x.grad, -0.3 * gradient)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.1, math.tanh(0.5)), (1.0, math.tanh(5))])
def test_the_schedule_is_a_hyperbolic_tangent(progress, factor):
    """2 / (1 + exp(-10 p)) - 1 = tanh(5 p)."""
    assert reversal(progress) == pytest.approx(factor, abs=1e-12)


def built(widths=(5,)):
    network = nn.Linear(3, 2)
    return Adversarial(network, 2, list(widths)), network


def test_the_critic_learns_to_tell_and_the_network_to_hide():
    """A step along either gradient: the critic's lowers the loss, the network's raises it."""
    model, network = built()
    source, target = torch.randn(40, 3), torch.randn(40, 3) + 1

    def loss():
        return model.dispute(network(source), network(target), 1.0)

    before = loss()
    before.backward()
    for part, better in ((model.critic, True), (network, False)):
        old = [p.detach().clone() for p in part.parameters()]
        with torch.no_grad():
            for p in part.parameters():
                p -= 1e-2 * p.grad
        assert (loss() < before).item() is better
        with torch.no_grad():
            for p, value in zip(part.parameters(), old):
                p.copy_(value)


def test_the_critic_gets_its_whole_gradient_whatever_the_factor():
    grads = []
    for progress in (0.0, 0.5):
        torch.manual_seed(1)
        model, network = built()
        model.dispute(network(torch.ones(2, 3)), network(-torch.ones(2, 3)), progress).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
        assert (network.weight.grad == 0).all() == (progress == 0)
    for one, other in zip(grads[0][2:], grads[1][2:]):
        assert torch.equal(one, other)


def test_the_loss_is_the_cross_entropy_of_two_domains():
    model, _ = built(())
    source, target = torch.randn(3, 2), torch.randn(5, 2)
    p, q = (torch.sigmoid(model.critic(x))[:, 0] for x in (source, target))
    expected = -((1 - p).log().sum() + q.log().sum()) / 8
    torch.testing.assert_close(model.dispute(source, target, 0.5), expected)


def test_it_is_called_as_the_network_alone():
    model, network = built((4, 4))
    x = torch.randn(2, 3)
    assert torch.equal(model(x), network(x))
    assert [part.out_features for part in model.critic if isinstance(part, nn.Linear)] == [4, 4, 1]
