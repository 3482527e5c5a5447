"""No normalization: the plain network that every method is compared with."""

from normtables.norms import METHODS, Method


@METHODS.register("none", version=1)
def none() -> Method:
    """No normalization: y = x, the network as it is."""
    return Method()
