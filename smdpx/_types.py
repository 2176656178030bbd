"""Type aliases that the whole library shares; no code lives here.

A *state* is any pytree of floating arrays. Users' callables see one sample; arrays that the library
takes and gives carry one more axis in front, the samples.
"""

from typing import Any, TypeAlias

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

State: TypeAlias = PyTree[Float[Array, "..."], "S"]
"""One state, or a batch of them: a pytree of floating arrays."""

Args: TypeAlias = Any
"""Whatever the user passes through to the callables, untouched."""

RealScalarLike: TypeAlias = bool | int | float | Float[Array, ""] | jax.core.Tracer
"""A real number: Python's, NumPy's, or JAX's, traced or not."""

Times: TypeAlias = Float[Array, " times"]
"""A strictly monotone grid of physical times."""

Key: TypeAlias = PRNGKeyArray
"""A JAX random key, as from ``jax.random.key(0)``."""
