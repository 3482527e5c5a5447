"""Shallow domain adaptation: features of two domains brought together, then a classifier of the source's."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from normtables.errors import UserError

Classifier = Literal["nearest", "svm"]
Maps = tuple[Tensor, Tensor]  # matrices [d, k] for standardised features of the source and of the target
Align = Callable[[Tensor, Tensor, int], Maps]  # standardised features [n, d] of both, dimension of subspaces

# Values of the SVM's C. CORAL's experiments go on to 10^4: from 0.01 on standardised features are separated and nothing
# changes; in the 20 dimensions of a subspace nothing is separable and the solver then takes hours.
PENALTIES = [0.001, 0.01, 0.1, 1.0]
PAIRS = 20_000_000  # distances held at once


class Scale(NamedTuple):
    """Mean and standard deviation of each feature, [d]; a feature that never changes has deviation 1."""

    mean: Tensor
    deviation: Tensor

    def of(self, features: Tensor) -> Tensor:
        """Standardised features."""
        return (features - self.mean) / self.deviation


def scale_of(features: Tensor) -> Scale:
    """The scale that gives these features mean 0 and variance 1 (biased)."""
    deviation = features.std(0, correction=0)
    return Scale(features.mean(0), torch.where(deviation > 0, deviation, 1.0))


class Aligned:
    """Examples of a source and of a target by comparable features: fitted on unlabelled features of both."""

    def __init__(self, align: str, source: Tensor, target: Tensor, dimension: int) -> None:
        source, target = source.double(), target.double()
        self.scales = scale_of(source), scale_of(target)
        x, y = self.scales[0].of(source), self.scales[1].of(target)
        self.maps = ALIGNMENTS[align](x, y, dimension)

    def source(self, features: Tensor) -> Tensor:
        """Comparable features of examples of the source."""
        return self.scales[0].of(features.double()) @ self.maps[0]

    def target(self, features: Tensor) -> Tensor:
        """Comparable features of examples of the target."""
        return self.scales[1].of(features.double()) @ self.maps[1]


def features(source: Tensor, target: Tensor, dimension: int) -> Maps:
    """No alignment but the standardisation of each domain by itself."""
    eye = torch.eye(source.shape[1], dtype=source.dtype, device=source.device)
    return eye, eye


def sa(source: Tensor, target: Tensor, dimension: int) -> Maps:
    """Fernando et al. 2013 (subspace alignment, ICCV), section 3: x P_s P_s' P_t against y P_t."""
    p, q = basis(source, dimension), basis(target, dimension)
    return p @ p.T @ q, q


def gfk(source: Tensor, target: Tensor, dimension: int) -> Maps:
    """Gong et al. 2012 (geodesic flow kernel, CVPR), equations 5 to 7: G = W W', and x W as features for its metric.

    The flow from the subspace of the source to that of the target is Phi(t) = P U cos(t theta) + H sin(t theta), with
    P' Q = U cos(theta) V' and H the directions in which Q V leaves the source's subspace; G is the integral of
    Phi(t) Phi(t)' over t in (0, 1).
    """
    p, q = basis(source, dimension), basis(target, dimension)
    u, cosines, vt = torch.linalg.svd(p.T @ q)
    start = p @ u
    leaving = q @ vt.T - start * cosines
    sines = torch.linalg.vector_norm(leaving, dim=0)
    theta = torch.atan2(sines, cosines)
    leaving = leaving / sines.clamp_min(torch.finfo(sines.dtype).tiny)
    double = torch.sinc(2 * theta / torch.pi)  # sin(2 theta) / (2 theta), 1 at 0
    inner, outer = (1 + double) / 2, (1 - double) / 2
    cross = torch.sin(theta) * torch.sinc(theta / torch.pi) / 2  # (1 - cos(2 theta)) / (4 theta), 0 at 0
    blocks = torch.stack([torch.stack([inner, cross], 1), torch.stack([cross, outer], 1)], 1)  # [k, 2, 2]
    roots = power(blocks, 0.5)
    w = torch.einsum("dik,kij->djk", torch.stack([start, leaving], 1), roots).flatten(1)
    return w, w


def coral(source: Tensor, target: Tensor, dimension: int) -> Maps:
    """Sun et al. 2016 (CORAL, arXiv 1511.05547), Algorithm 1: x (C_s + I)^(-1/2) (C_t + I)^(1/2) against y."""
    eye = torch.eye(source.shape[1], dtype=source.dtype, device=source.device)
    return power(source.T.cov() + eye, -0.5) @ power(target.T.cov() + eye, 0.5), eye


ALIGNMENTS: dict[str, Align] = {"features": features, "sa": sa, "gfk": gfk, "coral": coral}
SUBSPACES = ("sa", "gfk")  # those that take a dimension


def check_dimension(dimension: int, most: int) -> None:
    """Raise UserError for a subspace of no dimension, or of more than there are."""
    if not 1 <= dimension <= most:
        raise UserError(f"dataset.task.dimension={dimension}: subspaces of these features have 1 to {most} dimensions")


def basis(x: Tensor, dimension: int) -> Tensor:
    """The first principal directions [d, dimension] of centred features; raises UserError where there are fewer."""
    check_dimension(dimension, min(x.shape[1], len(x) - 1))
    return torch.linalg.eigh(x.T @ x)[1][:, -dimension:].flip(1)


def power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of symmetric matrices [..., d, d] without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).pow(exponent)[..., None, :] @ vectors.mT


def predictions(classifier: Classifier, train: Tensor, targets: Tensor, test: Tensor) -> Tensor:
    """The classes [m] of examples, learned from labelled ones of the source."""
    return CLASSIFIERS[classifier](train, targets, test)


def nearest(train: Tensor, targets: Tensor, test: Tensor) -> Tensor:
    """The class of the nearest training example, Euclidean."""
    size = max(1, PAIRS // len(train))
    return torch.cat([targets[torch.cdist(part, train).argmin(1)] for part in test.split(size)])


def svm(train: Tensor, targets: Tensor, test: Tensor) -> Tensor:
    """Linear support vector machine, one against one (SVC); its C is the one of PENALTIES that is best in 2-fold
    cross-validation on the source, the smallest of equal ones, as in CORAL's experiments."""
    from sklearn.model_selection import GridSearchCV  # here, for it takes a second and a network needs none of it
    from sklearn.svm import SVC

    with threadpool_limits(torch.get_num_threads()):
        search = GridSearchCV(SVC(kernel="linear"), {"C": PENALTIES}, cv=2)
        search.fit(train.cpu().numpy(), targets.cpu().numpy())
        return torch.from_numpy(search.predict(test.cpu().numpy())).to(targets)


CLASSIFIERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"nearest": nearest, "svm": svm}
