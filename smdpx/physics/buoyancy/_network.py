"""Networks of channels as networks of states: what they are shown of the staggered grid, of obstacles and of place."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import RealScalarLike
from ._grid import StaggeredState, from_channels, to_channels

__all__ = ["OnCells"]


class OnCells(eqx.Module):
    """A network of channels as one of `StaggeredState`s, called (t, x, args) with the obstacles' mask as `args`.

    It is shown six channels, (n, n, 6): marker, u and v as `to_channels` has them, the mask (zeros for None), and where
    the cells are, x and y from 0 to 1 (arXiv:2301.10250, appendix E; t is the network's own argument). Of what it
    returns, (n, n, 3), `from_channels` makes a state.

    Args:
        net: called (t, h) on an array (n, n, 6), which returns one (n, n, 3): such as
            `nn.DilResNet(n, channels=(6, 3), boundary="zero", key=key)`.

    >>> import jax, smdpx as sx
    >>> from smdpx.physics import buoyancy as b
    >>> net = sx.nn.DilResNet(8, width=4, blocks=1, channels=(6, 3), boundary="zero", key=jax.random.key(0))
    >>> b.OnCells(net)(0.1, b.StaggeredState.zeros(8), None).u.shape
    (7, 8)
    """

    net: Callable[..., Any]

    def __call__(self, t: RealScalarLike, x: StaggeredState, args: Float[Array, "n n"] | None = None) -> StaggeredState:
        """What the network makes of one state."""
        seen = to_channels(x)
        n, dtype = seen.shape[0], seen.dtype
        mask = jnp.zeros((n, n), dtype) if args is None else jnp.asarray(args, dtype)
        middles = (jnp.arange(n, dtype=dtype) + 0.5) / n
        places = jnp.meshgrid(middles, middles, indexing="ij")
        return from_channels(self.net(t, jnp.concatenate([seen, jnp.stack([mask, *places], axis=-1)], axis=-1)))
