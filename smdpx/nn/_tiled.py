"""A wrapper that makes a network of larger fields one of periodic fields, by padding and cropping.

tiled(t, x) = crop(net(t, pad(x))),    pad: x's periodic continuation by some cells on every side.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Args, RealScalarLike
from ._one_array import check_one_array


class Tiled(eqx.Module):
    """A network of (n + 2 cells)² fields as one of periodic n² fields; of one and three dimensions alike.

    What the network does at its border then lies ``cells`` away from what is returned: nearly, but not exactly,
    periodic, at (1 + 2 cells / n)² times the work. The published networks are so: `Tiled(UNet(64, key=key), 16)`.

    Args:
        net: called ``net(t, x, args)`` with fields of shape (n + 2 cells, n + 2 cells). Its own `shape`, where it has
            one, says how many axes; else there are two.
        cells: width of the frame, >= 0.

    Attributes:
        shape: (n, n), or None where ``net`` has no `shape`.

    Raises:
        ValueError: ``cells`` is negative, or leaves nothing of the network's shape; or, when called, x is not one
            field of shape (n, n).

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> net = Tiled(sx.nn.ResNet(16, width=4, blocks=1, boundary="zero", key=jax.random.key(0)), 4)
    >>> net.shape, net(0.1, jnp.zeros((8, 8))).shape
    ((8, 8), (8, 8))
    """

    net: Callable[[Any, Any, Any], Any]
    cells: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        if self.cells < 0:
            raise ValueError(f"`cells` must be at least 0, got {self.cells}")
        inner = getattr(self.net, "shape", None)
        if inner is not None and (not 1 <= len(inner) <= 3 or min(inner) <= 2 * self.cells):
            raise ValueError(
                f"`net` must take fields of (n + {2 * self.cells}, n + {2 * self.cells}) for `cells` = {self.cells}, "
                f"and takes {tuple(inner)}. For n = 32, build it with shape {32 + 2 * self.cells}"
            )

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the fields that it takes."""
        inner = getattr(self.net, "shape", None)
        return None if inner is None else tuple(n - 2 * self.cells for n in inner)

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Pad one field, evaluate the network and crop.

        Args:
            t: physical time, a scalar.
            x: one field, shape (n, n).
            args: handed to the network.

        Returns:
            A field shaped like ``x``.

        Raises:
            ValueError: ``x`` is not one field of shape (n, n).
        """
        check_one_array(x, "Tiled")
        x = jnp.asarray(x)
        if self.shape not in (None, x.shape) or (self.shape is None and x.ndim != 2):
            expected = "(n, n)" if self.shape is None else f"{self.shape}, {self.cells} cells less than the network's"
            raise ValueError(
                f"`x` must be one field of shape {expected}, got {x.shape}. For a batch, write "
                "`jax.vmap(net, in_axes=(None, 0))(t, x)`; for other sizes, wrap a network of another `shape`"
            )
        y = self.net(t, jnp.pad(x, self.cells, mode="wrap"), args)
        return y[tuple(slice(self.cells, self.cells + n) for n in x.shape)]
