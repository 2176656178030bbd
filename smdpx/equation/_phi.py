"""The formula of an exponential step, and its φ-function: (eᶻ - 1)/z stands here and nowhere else.

    x' - x = h φ₁(hL) f(t, x) + √φ₁(2hL) g ΔW,    φ₁(z) = (eᶻ - 1)/z

for a drift f that states its linear part L. The solver is `_exponential`'s.
"""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._types import Args, State
from ._algebra import AbstractDrift

__all__ = ["exponential_increment", "phi1"]


def exponential_increment(drift: AbstractDrift, t: Array, x: State, dt: Array, kick: Any, args: Args) -> State:
    """The change of one sample over a step: h φ₁(hL) f(t, x) + √φ₁(2hL) kick."""
    L = drift.linear(t, args)
    if L is None or jtu.tree_structure(x) != jtu.tree_structure(0):
        raise TypeError(
            f"`ExponentialEuler` needs a stiff linear part, and `{drift!r}` states none (or its state is not one "
            "array): give a function with a method `linear(t)` that returns a `sx.Fourier` or a `sx.Diagonal`, "
            "or use `diffrax.Euler()`."
        )
    h = dt.astype(L.rates.dtype)
    z = h * L.rates
    rate = L.to_basis(drift.rate(t, x, args))
    change = (h * phi1(z)).astype(rate.dtype) * rate
    if kick is not None:
        change = change + jnp.sqrt(phi1(2 * z)).astype(rate.dtype) * L.to_basis(kick)
    return L.from_basis(change, x)


def phi1(z: Array) -> Array:
    """(eᶻ - 1)/z, values and derivatives right at 0."""
    # The series to z⁶, as far as double precision sees at 10⁻²; nearer to 0 the quotient's derivative cancels.
    near = jnp.abs(z) < 1e-2
    safe = jnp.where(near, 1, z)
    series = jnp.ones_like(z)
    for n in range(7, 1, -1):
        series = 1 + z / n * series
    return jnp.where(near, series, jnp.expm1(safe) / safe)
