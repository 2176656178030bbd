"""The φ-functions of exponential integrators (Hochbruck & Ostermann 2010, §2.1): they stand here and nowhere else.

    φ₁(z) = (eᶻ - 1)/z,    φ₂(z) = (eᶻ - 1 - z)/z²

The solvers that step by them are `_exponential`'s.
"""

import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["phi1", "phi2"]


def phi1(z: Array) -> Array:
    """(eᶻ - 1)/z, values and derivatives right at 0."""
    # The series to z⁶, as far as double precision sees at 10⁻²; nearer to 0 the quotient's derivative cancels.
    near = jnp.abs(z) < 1e-2
    safe = jnp.where(near, 1, z)
    return jnp.where(near, _series(jnp.where(near, z, 0), 1, 7), jnp.expm1(safe) / safe)


def phi2(z: Array) -> Array:
    """(eᶻ - 1 - z)/z², values and derivatives right at 0."""
    # Here the value cancels too, and loses two digits at 10⁻² already: the series to z¹³, and from 1/2 on the quotient.
    near = jnp.abs(z) < 0.5
    safe = jnp.where(near, 1, z)
    return jnp.where(near, _series(jnp.where(near, z, 0), 2, 15) / 2, (jnp.expm1(safe) - safe) / safe**2)


def _series(z: Array, order: int, last: int) -> Array:
    """The φ-function of this order times order!, to the term z^(last - order)."""
    series = jnp.ones_like(z)
    for n in range(last, order, -1):
        series = 1 + z / n * series
    return series
