"""Classical methods of scikit-learn as models: no layers, fitted at once to all training examples."""

from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.norms import Kit, Method

# scikit-learn is imported by what needs it: that takes a second, and a network needs none of it.

SMALLEST = float(np.finfo(np.float32).eps)  # probability below which a logarithm is not taken, as in sklearn's log_loss


class Classical(nn.Module):
    """A classifier of scikit-learn: `fit`, then [n, *inputs] to [n, classes]; it has neither parameters nor state.

    Outputs are log-probabilities, or the decision function of a classifier without probabilities; the largest is that
    of the class which the classifier itself predicts. Threads are as many as torch has.
    """

    def __init__(self, kit: Kit, sizes: Sizes, estimator: Any) -> None:
        super().__init__()
        if kit.method != Method():
            raise UserError(f"{type(estimator).__name__} has no layers that a method could normalise; set norm=none")
        self.estimator, self.classes = estimator, sizes["outputs"]

    def fit(self, inputs: Tensor, targets: Tensor, seed: int) -> None:
        """Fit to inputs [n, ...], which are flattened, and targets [n]; what is drawn is drawn by `seed`.

        Raises UserError for more neighbours than examples.
        """
        options = self.estimator.get_params()
        if options.get("n_neighbors", 0) > len(inputs):
            asked = f"model.n_neighbors={options['n_neighbors']}"
            raise UserError(f"{asked}: the training set has {len(inputs)} examples; no more will do")
        if "random_state" in options:
            self.estimator.set_params(random_state=seed)
        with threadpool_limits(torch.get_num_threads()):
            self.estimator.fit(flat(inputs), targets.cpu().numpy())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes; one that was not in the training data gets the least."""
        with threadpool_limits(torch.get_num_threads()):
            found, said = self.scores(flat(x)), self.estimator.predict(flat(x))
        scores = np.full((len(found), self.classes), found.min(), np.float32)
        scores[:, self.estimator.classes_] = found
        scores[np.arange(len(said)), said] = np.nextafter(scores.max(1), np.float32(np.inf))  # it breaks ties
        return torch.from_numpy(scores).to(x.device, x.dtype)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """[n, classes seen in training]."""
        if hasattr(self.estimator, "predict_proba"):
            return np.log(self.estimator.predict_proba(x).clip(SMALLEST))
        margins = self.estimator.decision_function(x)
        return margins if margins.ndim == 2 else np.stack([-margins, margins], 1)

    def extra_repr(self) -> str:
        """scikit-learn's own words."""
        return " ".join(str(self.estimator).split())


def flat(inputs: Tensor) -> np.ndarray:
    """[n, ...] to an array [n, features]."""
    return inputs.flatten(1).cpu().numpy()


@MODELS.register("svm", version=1)
def svm(kit: Kit, sizes: Sizes, *, C: float, gamma: float | Literal["scale", "auto"]) -> nn.Module:  # noqa: N803
    """Support vector machine (Cortes & Vapnik 1995) with the kernel exp(-gamma |x - y|^2), one against one: SVC."""
    if not C > 0 or (isinstance(gamma, int | float) and not gamma > 0):
        raise UserError(f"model.C={C}, model.gamma={gamma}: numbers above 0, or for gamma scale or auto")
    from sklearn.svm import SVC

    return Classical(kit, sizes, SVC(C=C, gamma=gamma))


@MODELS.register("random_forest", version=1)
def random_forest(
    kit: Kit, sizes: Sizes, *, n_estimators: int, max_features: float | Literal["sqrt", "log2"]
) -> nn.Module:
    """Random forest (Breiman 2001): RandomForestClassifier; `max_features`: a share of them, their root or log2."""
    if n_estimators < 1 or (isinstance(max_features, int | float) and not 0 < max_features <= 1):
        raise UserError(
            f"model.n_estimators={n_estimators}, model.max_features={max_features}: "
            "at least one tree, and a share in (0, 1], sqrt or log2"
        )
    from sklearn.ensemble import RandomForestClassifier

    share = max_features if isinstance(max_features, str) else float(max_features)  # 1 would be one feature
    return Classical(kit, sizes, RandomForestClassifier(n_estimators=n_estimators, max_features=share))


@MODELS.register("nearest_neighbour", version=1)
def nearest_neighbour(
    kit: Kit, sizes: Sizes, *, n_neighbors: int, weights: Literal["uniform", "distance"]
) -> nn.Module:
    """The commonest class of the nearest training examples (Cover & Hart 1967), Euclidean: KNeighborsClassifier."""
    if n_neighbors < 1:
        raise UserError(f"model.n_neighbors={n_neighbors}: at least 1")
    from sklearn.neighbors import KNeighborsClassifier

    return Classical(kit, sizes, KNeighborsClassifier(n_neighbors=n_neighbors, weights=weights))


@MODELS.register("naive_bayes", version=1)
def naive_bayes(kit: Kit, sizes: Sizes, *, var_smoothing: float) -> nn.Module:
    """Naive Bayes with a normal distribution for each feature and class: GaussianNB."""
    if not var_smoothing >= 0:
        raise UserError(f"model.var_smoothing={var_smoothing}: a number of at least 0")
    from sklearn.naive_bayes import GaussianNB

    return Classical(kit, sizes, GaussianNB(var_smoothing=var_smoothing))


@MODELS.register("logistic_regression", version=1)
def logistic_regression(kit: Kit, sizes: Sizes, *, C: float, max_iter: int) -> nn.Module:  # noqa: N803
    """Multinomial logistic regression with L2: LogisticRegression; C is the inverse of the penalty."""
    if not C > 0 or max_iter < 1:
        raise UserError(f"model.C={C}, model.max_iter={max_iter}: a number above 0 and at least one iteration")
    from sklearn.linear_model import LogisticRegression

    return Classical(kit, sizes, LogisticRegression(C=C, max_iter=max_iter))


@MODELS.register("boosted_trees", version=1)
def boosted_trees(kit: Kit, sizes: Sizes, *, learning_rate: float, max_iter: int, max_leaf_nodes: int) -> nn.Module:
    """Gradient boosting (Friedman 2001) on binned features: HistGradientBoostingClassifier, all iterations made."""
    if not learning_rate > 0 or max_iter < 1 or max_leaf_nodes < 2:
        raise UserError(
            f"model.learning_rate={learning_rate}, model.max_iter={max_iter}, model.max_leaf_nodes={max_leaf_nodes}: "
            "above 0, at least 1 and at least 2"
        )
    from sklearn.ensemble import HistGradientBoostingClassifier

    return Classical(
        kit,
        sizes,
        HistGradientBoostingClassifier(
            learning_rate=learning_rate, max_iter=max_iter, max_leaf_nodes=max_leaf_nodes, early_stopping=False
        ),
    )
