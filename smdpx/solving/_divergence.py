"""The divergence of a vector field, exact or by random projections: score matching and likelihoods need it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def exact_divergence(f: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """(∇·f)(x) and f(x), by one forward-mode pass per component."""
    # Not `linearize`: its stored residuals make the gradient of a small network's divergence several times slower.
    value, tangents = jax.vmap(lambda v: jax.jvp(f, (x,), (v,)), out_axes=(None, 0))(jnp.eye(x.size, dtype=x.dtype))
    return jnp.trace(tangents), value


def sliced_divergence(f: Callable[[Array], Array], x: Array, v: Array) -> tuple[Array, Array]:
    """vᵀ(∇f)v and f(x): of a random ±1 vector v an unbiased estimate of (∇·f)(x) (Hutchinson)."""
    value, tangent = jax.jvp(f, (x,), (v,))
    return jnp.sum(v * tangent), value
