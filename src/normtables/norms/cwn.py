"""Centred weight normalization."""

import math

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.spheres import LearnedSphere, Sphere, on_sphere


@METHODS.register("cwn", version=1)
def cwn(*, scale: float = math.sqrt(2), learned: bool = False, epsilon: float = 1e-5) -> Method:
    """Huang et al. 2017 (ICCV, Centered Weight Normalization): w = g (v - mean v) / ||v - mean v||.

    For every output unit or filter, mean and norm over its whole fan-in; v has the layer's weight shape [out, ...].
    Every weight layer, the last one included as in the authors' MLP, keeps its bias. A drawn w gives its direction
    alone: the weights have norm `scale` at the start whatever the initialisation. A unit of one input has weight 0.
    scale: g, sqrt(2) for ReLU (the authors' 1.414). learned: g is a parameter of each unit, [out, 1, ...], that begins
    there; else it is fixed (the authors' default). epsilon: added to the norm (the authors' value).
    """
    if not scale > 0:
        raise UserError(f"norm.scale={scale}: a positive number")
    if not epsilon > 0:
        raise UserError(f"norm.epsilon={epsilon}: a positive number")
    sphere = LearnedSphere if learned else Sphere
    return Method(wrap=lambda layer: on_sphere(layer, sphere(scale, centred=True, epsilon=epsilon)))
