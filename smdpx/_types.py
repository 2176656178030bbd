"""Type aliases that the whole library shares; no code lives here.

A *state* is any pytree of floating arrays. Users' callables see one sample; arrays that the library
takes and gives carry one more axis in front, the samples.
"""

from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray, PyTree, Real

State: TypeAlias = PyTree[ArrayLike]
"""One state, or a batch of them: a pytree of floating arrays.

Wider than its meaning, so that integers and bare numbers reach the checks that say what to write instead.
"""

Args: TypeAlias = Any
"""Whatever the user passes through to the callables, untouched."""

RealScalarLike: TypeAlias = bool | int | float | np.generic | Real[np.ndarray, ""] | Real[Array, ""]
"""A real number: Python's, NumPy's, or JAX's, traced or not."""

Key: TypeAlias = PRNGKeyArray
"""A JAX random key, as from ``jax.random.key(0)``."""
