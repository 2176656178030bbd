"""Conditions: what differs from sample to sample and is no part of the state.

A viscosity, an obstacle mask, a sensor's reading, a forcing, a dropout key: a leaf of `args` that is wrapped in
`PerSample` has one row for each sample, and drifts, networks and noise see their own sample's row in its place. What is
not wrapped is shared. Whatever runs over samples takes the rows out of `args` (`rows`), maps over them beside the
states, and puts each sample's back (`with_rows`).
"""

from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from .._types import Args

__all__ = ["PerSample"]


class PerSample(eqx.Module):
    """A condition: an array with one row for each sample, inside of `args`.

    Give it to whatever has samples: `simulate` and `solve` (a row for each state), `Trajectories` and `FreshPaths` (for
    each trajectory or start), `posterior` and `point_estimate` (for each case; a row is repeated over its draws).

    Args:
        value: an array, or a tree of them, with the samples in front: shape (samples, ...).

    Raises:
        TypeError: numbers without an axis for the samples.
        ValueError: arrays of different numbers of rows.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> decay = sx.Drift(lambda t, x, args: -args["rate"] * x)
    >>> rates = sx.PerSample(jnp.array([0.0, 1.0, 2.0]))
    >>> paths = sx.simulate(decay, jnp.ones(3), [0.0, 0.5, 1.0], args={"rate": rates})
    >>> paths.end
    Array([1.      , 0.390625, 0.25    ], dtype=float32)
    """

    value: PyTree[Shaped[Array, "samples ..."]] = eqx.field(
        converter=lambda value: jtu.tree_map(lambda leaf: leaf if eqx.is_array(leaf) else _array(leaf), value)
    )

    def __check_init__(self) -> None:
        leaves = [leaf for leaf in jtu.tree_leaves(self.value) if hasattr(leaf, "shape")]
        if any(leaf.shape == () for leaf in leaves):
            if isinstance(self.value, list | tuple) and all(leaf.shape == () for leaf in leaves):
                raise TypeError(
                    f"`PerSample` needs an array with a row for each sample; got a {type(self.value).__name__} of "
                    f"{len(leaves)} numbers. Write `PerSample(jnp.asarray([...]))`."
                )
            raise TypeError(
                "`PerSample` needs a row for each sample, shape (samples, ...); got a number. What is the same for all "
                "samples needs no wrapper; for one sample write `PerSample(value[None])`."
            )
        if len({leaf.shape[0] for leaf in leaves}) > 1:
            raise ValueError(f"`PerSample` got arrays with {sorted({leaf.shape[0] for leaf in leaves})} rows.")


def _array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, int | float) else leaf


def _is_condition(x: Any) -> bool:
    return isinstance(x, PerSample)


def conditions(args: Args) -> list[PerSample]:
    """The wrapped leaves of `args`."""
    return [leaf for leaf in jtu.tree_leaves(args, is_leaf=_is_condition) if _is_condition(leaf)]


def rows(args: Args) -> tuple[Any, ...]:
    """The conditions' values, samples in front: what to map over beside the states."""
    return tuple(condition.value for condition in conditions(args))


def with_rows(args: Args, values: tuple[Any, ...]) -> Args:
    """The `args` that one sample's functions see: its rows where the conditions are."""
    if not values:
        return args
    remaining = iter(values)
    return jtu.tree_map(lambda leaf: next(remaining) if _is_condition(leaf) else leaf, args, is_leaf=_is_condition)


def with_conditions(args: Args, values: tuple[Any, ...]) -> Args:
    """The `args` with these values, samples in front, in the conditions: of other samples, or of some of them."""
    return with_rows(args, tuple(PerSample(value) for value in values))


def map_rows(f: Callable[[Any], Any], args: Args) -> Args:
    """The `args` with f applied to every array of the conditions: other rows, or the same in another order."""

    def each(leaf: Any) -> Any:
        return PerSample(jtu.tree_map(f, leaf.value)) if _is_condition(leaf) else leaf

    return jtu.tree_map(each, args, is_leaf=_is_condition)


def first_row(args: Args) -> Args:
    """The `args` that the first sample's functions see."""
    return with_rows(args, tuple(jtu.tree_map(lambda leaf: leaf[0], value) for value in rows(args)))


def check_args(args: Args) -> None:
    """Raise where `args` hold what is neither a tree, nor an array, nor what a compiled program can be known by."""
    for leaf in jtu.tree_leaves(args):
        if not isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, Hashable):
            raise TypeError(
                f"`args` holds a {type(leaf).__name__}, which JAX cannot take: give numbers and arrays, in tuples, "
                "lists, dictionaries or `eqx.Module`s."
            )


def check_conditions(args: Args, count: int, what: str) -> None:
    """Raise where conditions have not one row for each of `count` samples."""
    check_args(args)
    for condition in conditions(args):
        for leaf in jtu.tree_leaves(condition.value):
            if leaf.shape[0] != count:
                raise ValueError(
                    f"`args`: a `PerSample` has {leaf.shape[0]} rows (shape {leaf.shape}), and there are {count} "
                    f"{what}: a condition has one row for each."
                )


def hint_of_missing_wrapper(args: Args, count: int) -> str:
    """What to say of an error where an array of `args` looks like one row for each sample, and is not marked so."""
    unwrapped = [leaf for leaf in jtu.tree_leaves(args, is_leaf=_is_condition) if not _is_condition(leaf)]
    like = [leaf.shape for leaf in unwrapped if isinstance(leaf, jax.Array) and leaf.ndim and leaf.shape[0] == count]
    if not like or count < 2:
        return ""
    return (
        f" `args` holds an array of shape {like[0]}, as many rows as there are samples: if each sample has its own, "
        "write `sx.PerSample(array)`."
    )
