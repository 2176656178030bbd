"""A network that is a filter: linear in the field, diagonal in Fourier space, a table over wavenumber and time.

    net(t, x)_k = -scale · sinh(h(|k|², u)) x_k,    u = log(1 + t/t_min)

The score of any stationary, isotropic Gaussian process on a periodic square has this form, with one over the
variance of mode k, 1/v_k(t), for the filter. The hyperbolic sine is logarithmic where the filter is large, so that
it may span ten orders of magnitude, and linear around 0, so that it may have either sign: what repairs a coarse
scheme has.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Args, RealScalarLike
from ..equation._linear import Fourier, squared_wavenumbers
from ._one_array import as_state


class FourierFilter(eqx.Module):
    """The score of a stationary Gaussian field, learned: one number for each wavenumber and time.

    It knows that the field is periodic, isotropic, stationary and Gaussian, and nothing else. A field of 32 × 32
    pixels costs two Fourier transforms. Each entry of its table is a parameter of its own, which Adam scales by
    itself: the Fisher information of the wavenumbers differs by a factor of 10⁷ in the heat problem, and a
    network that shares weights among them learns the long waves slowly. It states its linear part, so
    `ExponentialEuler` and `ExponentialHeun` can use it.

    Args:
        n: pixels a side, at least 2.
        t_max: the end time, > 0; later times count as ``t_max``.
        t_min: where the table's spacing turns from even in t to even in log t, > 0; a fraction of the time grid's step.
        nodes: times in the table, at least 2; linear between them.
        scale: where the filter turns from linear to logarithmic in its table, > 0, in units of 1/x². For a score,
            1/variance of white noise at the end time, 1/(g²T), is a good value. The filter starts at 0.
        dtype: of the table; by default JAX's default float.

    Raises:
        ValueError: n, a time, ``nodes`` or ``scale`` out of range; or, when called, x is not one field (n, n).

    >>> import jax.numpy as jnp, smdpx as sx
    >>> net = sx.nn.FourierFilter(8, t_max=0.2, t_min=1e-3, scale=500.0)
    >>> net.values.shape, net(0.1, jnp.ones((8, 8))).shape
    ((24, 15), (8, 8))
    """

    values: Float[Array, "nodes wavenumbers"]
    n: int = eqx.field(static=True)
    t_max: float = eqx.field(static=True)
    t_min: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        n: int,
        *,
        t_max: float | int,
        t_min: float | int,
        nodes: int = 24,
        scale: float | int = 1.0,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        if n < 2 or nodes < 2:
            raise ValueError(f"`n` and `nodes` must be at least 2, got {n} and {nodes}")
        for name, value in (("t_max", t_max), ("t_min", t_min), ("scale", scale)):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive, got {value}")
        squares, _ = _wavenumbers(n)
        self.values = jnp.zeros((nodes, len(squares)), jnp.result_type(float) if dtype is None else dtype)
        self.n, self.t_max, self.t_min, self.scale = n, float(t_max), float(t_min), float(scale)

    def __call__(self, t: RealScalarLike, x: Float[Array, "n n"], args: Args = None) -> Float[Array, "n n"]:
        """Filter one field; ``args`` is ignored.

        Args:
            t: physical time, a scalar.
            x: one field.
            args: ignored.

        Returns:
            A field shaped like ``x``.

        Raises:
            ValueError: ``x`` is not one field of the network's size.
        """
        del args
        x = as_state(x, "FourierFilter")
        if x.shape != (self.n, self.n):
            raise ValueError(
                f"`x` should be one field of shape {(self.n, self.n)}, got {x.shape}; batch with `jax.vmap`."
            )
        return self.linear(t)(x)

    def linear(self, t: RealScalarLike) -> Fourier:
        """The filter as an operator: the network is linear in the field.

        Args:
            t: physical time, a scalar.
        """
        _, index = _wavenumbers(self.n)
        nodes, dtype = self.values.shape[0], self.values.dtype
        t = jnp.clip(jnp.asarray(t, dtype), 0, self.t_max)
        u = jnp.log1p(t / self.t_min) * ((nodes - 1) / math.log1p(self.t_max / self.t_min))
        # The weights of all nodes, two of which are not 0: over a batch a product of matrices, not a gather.
        hats = jnp.maximum(1 - jnp.abs(u - jnp.arange(nodes, dtype=dtype)), 0)
        return Fourier(-self.scale * jnp.sinh(hats @ self.values)[index])


def _wavenumbers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The different |k|² of the half spectrum, and which of them each mode has, (n, n // 2 + 1)."""
    squares, index = np.unique(squared_wavenumbers(n)[:, : n // 2 + 1], return_inverse=True)
    return squares, index.reshape(n, -1)
