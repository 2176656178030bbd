"""Arrays of a network that are no weights: training leaves them as they are.

A table of the data's moments, a mask, a grid: arrays that move to the device and trace as weights do, but that no
optimiser may touch, nor weight decay, nor an average.
"""

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import PyTree

__all__ = ["Fixed", "weights"]


class Fixed(eqx.Module):
    """Arrays that `fit` does not train, inside of a network: `self.mask = sx.nn.Fixed(mask)`, used as `self.mask()`.

    Args:
        value: an array, or a tree of them.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> mask = sx.nn.Fixed(jnp.array([1.0, 0.0]))
    >>> mask()
    Array([1., 0.], dtype=float32)
    """

    value: PyTree

    def __call__(self) -> Any:
        """The value, with no derivative."""
        return jax.lax.stop_gradient(self.value)


def weights(net: Any) -> Any:
    """A network's tree with True at each array that is trained."""

    def trained(leaf: Any) -> Any:
        return jtu.tree_map(lambda _: False, leaf) if isinstance(leaf, Fixed) else eqx.is_inexact_array(leaf)

    return jtu.tree_map(trained, net, is_leaf=lambda leaf: isinstance(leaf, Fixed))
