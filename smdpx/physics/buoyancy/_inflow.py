"""What flows into the box: a disc that adds marker for a while.

∂m/∂t = rate · s(x)  for t < until,    s = clip(½ - d/ρ, 0, 1),    d = |x - centre| - radius,  ρ = h/√2

so that the disc's border is as soft as a cell is wide (ρ is half a cell's diagonal).
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._types import RealScalarLike
from ...solving._validate import is_concrete

__all__ = ["Inflow"]


class Inflow(eqx.Module):
    """A disc that adds marker for a while; by default that of arXiv:2301.10250, §4.3.

    Args:
        centre: (x, y), in the box' units of length.
        radius: > 0.
        rate: marker per unit of the solver's time in the disc. May be traced: it has a gradient.
        until: the time t at which it ends, in units of the equation's time. What of a step lies beyond adds nothing.

    Raises:
        ValueError: a radius that is not positive.

    >>> import smdpx as sx
    >>> round(float(sx.physics.buoyancy.Inflow().share(64).sum() * (100 / 64) ** 2))  # π 5²
    79
    """

    centre: tuple[RealScalarLike, RealScalarLike] = (50.0, 10.0)
    radius: RealScalarLike = 5.0
    rate: RealScalarLike = 1.0
    until: RealScalarLike = 0.2

    def __check_init__(self) -> None:
        if len(self.centre) != 2:
            raise ValueError(f"`Inflow(centre=...)` is a point (x, y); got {self.centre}.")
        if is_concrete(self.radius) and not 0 < float(self.radius) < float("inf"):
            raise ValueError(f"`Inflow` needs a radius > 0; got {self.radius}.")

    def share(self, n: int, length: float = 100.0) -> Float[Array, "n n"]:
        """How much of the inflow's rate each cell gets, in [0, 1].

        Args:
            n: cells a side.
            length: the box' side.
        """
        dtype = jnp.result_type(float)
        r = (jnp.arange(n, dtype=dtype) + 0.5) * (length / n)
        x, y = (jnp.asarray(part, dtype) for part in self.centre)
        # Never 0 at the square root, whose derivative there is not finite.
        squares = (r[:, None] - x) ** 2 + (r[None, :] - y) ** 2
        distance = jnp.sqrt(jnp.maximum(squares, 1e-12 * length**2)) - jnp.asarray(self.radius, dtype)
        return jnp.clip(0.5 - distance * (2**0.5 * n / length), 0, 1)

    def misses(self, n: int, length: float) -> bool:
        """Whether it is known to give something to no cell: not even to the one that is nearest to its centre."""
        given = (self.centre, self.radius)
        if not is_concrete(given) or any(np.ndim(part) for part in (*self.centre, self.radius)):
            return False
        if is_concrete(self.rate) and not np.any(np.asarray(self.rate)):
            return False
        # Plain numbers: a flow may be made where nothing is to be compiled.
        centre, h = [float(part) for part in self.centre], length / n
        nearest = [(min(max(math.floor(part / h), 0), n - 1) + 0.5) * h for part in centre]
        return math.dist(centre, nearest) - float(self.radius) >= h / 8**0.5

    def active(self, t: RealScalarLike, dt: RealScalarLike) -> Float[Array, ""]:
        """The part of the step from t to t + dt, dt of either sign, during which there is inflow: in [0, 1].

        Args:
            t: where the step begins, in units of the equation's time.
            dt: its length.

        >>> import smdpx as sx
        >>> inflow = sx.physics.buoyancy.Inflow(until=0.5)
        >>> [float(inflow.active(*step)) for step in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.25), (0.5, -0.25))]
        [1.0, 0.5, 0.0, 1.0]
        """
        dtype = jnp.result_type(float) if not isinstance(t, Array) else t.dtype
        t, dt, until = (jnp.asarray(part, dtype) for part in (t, dt, self.until))
        # The step's earlier end is t + dt where dt < 0; written so that a step that ends at `until` counts whole.
        left = (until - t) / jnp.maximum(jnp.abs(dt), jnp.finfo(dtype).tiny)
        return jnp.clip(left + (dt < 0).astype(dtype), 0, 1)
