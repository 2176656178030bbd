"""Sweeps: one computation over every combination of some parameters, compiled once."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.typing import ArrayLike

__all__ = ["sweep"]


def sweep(f: Callable[..., Any], /, **values: ArrayLike | Sequence[float | int]) -> Any:
    """A function at every combination of parameters, as one compiled program that runs them in turn.

    The parameters reach f as traced numbers, so anything in an equation can be swept that is a number: a
    conductivity, the noise, the score's coefficient. What f returns is for each combination; nothing of f may
    depend on the values in Python (`if alpha > 1`).

    Args:
        f: called with the parameters by name, `f(alpha=..., g=...)`; returns a pytree of arrays.
        values: for each parameter a one-dimensional array of real numbers; whole ones become floats.

    Returns:
        The pytree of f with one axis a parameter in front, in the order in which they were given.

    Raises:
        TypeError: no parameters, or values that are not real numbers.
        ValueError: values that are not one-dimensional, or none.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> def end(rate):
    ...     return sx.solve(sx.Drift(lambda t, x, args: -rate * x), jnp.ones(1), [0.0, 0.5, 1.0])[0, -1]
    >>> sx.sweep(end, rate=[0.0, 1.0, 2.0])
    Array([1.      , 0.390625, 0.25    ], dtype=float32)
    """
    if not values:
        raise TypeError("`sweep` needs at least one parameter: `sweep(f, alpha=[0.5, 1.0, 2.0])`.")
    arrays = {name: np.asarray(value) for name, value in values.items()}
    for name, value in arrays.items():
        if value.ndim != 1 or not value.size:
            raise ValueError(f"`sweep`: `{name}` must be one-dimensional with at least one value; got {value.shape}.")
        if value.dtype.kind not in "biuf":
            raise TypeError(f"`sweep`: `{name}` must be real numbers; got dtype {value.dtype}.")
    grid = np.array(list(itertools.product(*arrays.values())), dtype=jnp.result_type(float))
    columns = {name: jnp.asarray(grid[:, i]) for i, name in enumerate(arrays)}
    results = eqx.filter_jit(lambda columns: jax.lax.map(lambda row: f(**row), columns))(columns)
    shape = tuple(value.size for value in arrays.values())
    return jtu.tree_map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), results)
