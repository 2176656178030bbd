"""What networks of one array say where a state is a tree of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

__all__ = ["as_state", "check_one_array", "check_positive", "check_shape"]

_MEND = (
    "For states that are trees write a small `eqx.Module` that joins their arrays, calls the network, and takes what "
    'it returns apart again: docs/your-data.md has one, under "States of several arrays".'
)


def check_one_array(x: Any, owner: str) -> None:
    """Raise where a state is a tree."""
    if jtu.tree_structure(x) != jtu.tree_structure(0):
        raise TypeError(f"`{owner}` takes states that are one array; got {_kind(x)}. {_MEND}")


def as_state(x: Any, owner: str) -> jax.Array:
    """One state as an array, or an error; whole numbers as floats, or times would be cut to whole numbers too."""
    check_one_array(x, owner)
    x = jnp.asarray(x)
    return x.astype(float) if jnp.issubdtype(x.dtype, jnp.integer) else x


def check_shape(shape: Any, owner: str) -> None:
    """Raise where a shape is not that of one array."""
    if isinstance(shape, int) or not all(isinstance(n, int | np.integer) for n in jtu.tree_leaves(shape)):
        raise TypeError(f"`{owner}(shape=...)` must be a tuple of integers, such as (3,); got {shape!r}.")
    if not isinstance(shape, tuple | list) or any(not isinstance(n, int | np.integer) for n in shape):
        raise TypeError(f"`{owner}(shape=...)` must be the shape of one array; got {_kind(shape)}. {_MEND}")


def check_positive(**numbers: Any) -> None:
    """Raise where a scale is not one number, or not positive, naming it."""
    for name, value in numbers.items():
        if np.shape(value):
            raise TypeError(
                f"`{name}` is one number; got an array of shape {np.shape(value)}. Components of several scales are "
                "what `sx.nn.Whitened(net, paths)` is for: it takes theirs from the data."
            )
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}")


def _kind(x: Any) -> str:
    return f"a {type(x).__name__} of {', '.join(map(repr, x))}" if isinstance(x, dict) else f"a {type(x).__name__}"
