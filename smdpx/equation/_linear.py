"""Linear operators that are diagonal in some basis: the stiff part of a drift, stated by whoever knows it.

    f(t, x) = L(t) x + N(t, x),     L = B⁻¹ diag(rates) B

A function given to `Drift` or `Score` may have a method `linear(t)` that returns its L. The algebra adds
them up, so that `-P + 2*s` has one too, and `ExponentialEuler` treats it exactly.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from .._types import RealScalarLike

__all__ = ["AbstractLinear", "Diagonal", "Fourier"]


def squared_wavenumbers(n: int) -> Float[np.ndarray, "n n"]:
    """|k|² of the modes of n × n cells, k of whole numbers in the order of `numpy.fft.fft2`."""
    k = np.rint(np.fft.fftfreq(n, 1 / n))
    return k[:, None] ** 2 + k[None, :] ** 2


def _real(rates: Any) -> Array:
    """Rates as floats: whole numbers would make the exponential solver's step a whole number too."""
    rates = jnp.asarray(rates)
    if jnp.issubdtype(rates.dtype, jnp.complexfloating):
        raise TypeError(f"A stiff linear part needs real rates; got {rates.dtype}. Leave what rotates to the rest.")
    return rates if jnp.issubdtype(rates.dtype, jnp.floating) else rates.astype(float)


class AbstractLinear(eqx.Module):
    """A linear operator B⁻¹ diag(rates) B on one state; operators in one basis can be added and scaled.

    Attributes:
        rates: the eigenvalues, real, in units of 1/time.
    """

    rates: eqx.AbstractVar[Array]
    # NumPy would otherwise take `np.float64(2.) * L` apart itself.
    __array_ufunc__ = None

    @abc.abstractmethod
    def to_basis(self, x: Array) -> Inexact[Array, ...]:
        """The coefficients B x, shaped like the rates."""

    @abc.abstractmethod
    def from_basis(self, coefficients: Inexact[Array, ...], x: Array) -> Array:
        """The state with these coefficients, shaped and typed like x."""

    def __call__(self, x: Array) -> Array:
        """The operator applied to one state."""
        return self.function(lambda rates: rates, x)

    def function(self, f: Callable[[Array], Array], x: Array) -> Array:
        """B⁻¹ f(rates) B x: a function of the operator, applied to one state."""
        coefficients = self.to_basis(x)
        return self.from_basis(f(self.rates).astype(coefficients.dtype) * coefficients, x)

    def __add__(self, other: Any) -> AbstractLinear:
        if type(other) is not type(self):
            raise TypeError(
                f"The stiff linear parts of one equation must be diagonal in one basis; got {type(self).__name__} "
                f"and {type(other).__name__}. State both in the same one."
            )
        try:
            rates = jnp.add(*jnp.broadcast_arrays(self.rates, other.rates))
        except ValueError:
            shapes = f"{self.rates.shape} and {other.rates.shape}"
            raise ValueError(f"The stiff linear parts of one equation act on one state; got rates {shapes}.") from None
        return eqx.tree_at(lambda L: L.rates, self, rates)

    def __rmul__(self, c: RealScalarLike) -> AbstractLinear:
        c = c if isinstance(c, int | float) else jnp.asarray(c).astype(self.rates.dtype)
        return eqx.tree_at(lambda L: L.rates, self, c * self.rates)


class Diagonal(AbstractLinear):
    """A linear operator that acts on each component of the state by itself.

    Args:
        rates: one per component, or one for all.

    Raises:
        TypeError: rates that are complex.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> sx.Diagonal(jnp.array([-1.0, -2.0]))(jnp.ones(2))
    Array([-1., -2.], dtype=float32)
    """

    rates: Array = eqx.field(converter=_real)

    def to_basis(self, x: Array) -> Array:
        """The state itself."""
        return x

    def from_basis(self, coefficients: Array, x: Array) -> Array:
        """The coefficients themselves."""
        return coefficients


class Fourier(AbstractLinear):
    """A linear operator on periodic fields (n, n) that is diagonal in Fourier space.

    Args:
        rates: one per mode of `jnp.fft.rfft2`, shape (n, n // 2 + 1), even in the wavenumber.

    Raises:
        TypeError: rates that are complex.
        ValueError: rates of another shape; or, when called, a field that is not (n, n).

    >>> import jax.numpy as jnp, smdpx as sx
    >>> decay = sx.Fourier(-jnp.ones((4, 3)))
    >>> float(decay(jnp.ones((4, 4)))[0, 0])
    -1.0
    """

    rates: Array = eqx.field(converter=_real)

    def __check_init__(self) -> None:
        shape = self.rates.shape
        if len(shape) != 2 or shape[1] != shape[0] // 2 + 1:
            raise ValueError(
                f"`Fourier` needs one rate for each mode of `jnp.fft.rfft2`, shape (n, n // 2 + 1); got {shape}. "
                "Of rates for all modes, (n, n), take `rates[:, : n // 2 + 1]`."
            )

    def to_basis(self, x: Array) -> Array:
        """The half spectrum, `jnp.fft.rfft2(x)`."""
        n = self.rates.shape[0]
        if x.shape != (n, n):
            raise ValueError(f"`x` should be one field of shape {(n, n)}, got {x.shape}; batch with `jax.vmap`.")
        return jnp.fft.rfft2(x)

    def from_basis(self, coefficients: Array, x: Array) -> Array:
        """The real field with this half spectrum."""
        return jnp.fft.irfft2(coefficients, s=x.shape)
