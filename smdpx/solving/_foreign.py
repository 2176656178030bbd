"""What other libraries' arrays hold and JAX's do not: masks, dates, another order of bytes, rows of unequal lengths."""

import datetime
import reprlib
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

__all__ = ["native", "numbers_of_times"]


def native(x: Any, name: str) -> Any:
    """The arrays of a tree in the machine's own order of bytes, or an error: numbers, and none of them masked.

    Raises:
        ValueError: masked entries, of which JAX would take the fill values for numbers.
        TypeError: arrays of Python objects.
    """
    return jtu.tree_map(lambda leaf: _native(leaf, name) if isinstance(leaf, np.ndarray) else leaf, x)


def _native(leaf: np.ndarray, name: str) -> np.ndarray:
    _check_unmasked(leaf, name)
    if leaf.dtype == object:
        raise TypeError(
            f"`{name}` is an array of Python objects, as NumPy makes of rows of unequal lengths. Trajectories of "
            "unequal lengths are a list of arrays with a list of their times, `sx.Trajectories([x0, x1], [t0, t1])`; "
            f"of rows that are alike write `np.stack(list({name})).astype(np.float32)`."
        )
    return np.asarray(leaf, leaf.dtype.newbyteorder("="))


def _check_unmasked(leaf: Any, name: str) -> None:
    if np.ma.is_masked(leaf):
        raise ValueError(
            f"`{name}` has {np.ma.count_masked(leaf)} masked entries, and a mask is no part of JAX's arrays: the fill "
            f"values would be taken for data. Keep what is whole, `x[~np.ma.getmaskarray(x).any(axis=...)]`, or cut "
            "trajectories where they have gaps, into a list of arrays with a list of their times."
        )


def numbers_of_times(ts: Any) -> Any:
    """Times as numbers in double precision, JAX's as they are, or an error: no dates, and nothing masked.

    Raises:
        ValueError: masked times.
        TypeError: dates or durations, whose unit decides what a rate means; or what is no number at all.
    """
    if isinstance(ts, jax.Array):
        return ts
    _check_unmasked(ts, "ts")
    try:
        found = np.asanyarray(ts)
    except ValueError:  # rows of unequal lengths
        raise _no_numbers(ts) from None
    first = found.flat[0] if found.dtype == object and found.size else None
    dates = found.dtype.kind == "M" or isinstance(first, datetime.date)
    if dates or found.dtype.kind == "m" or isinstance(first, datetime.timedelta):
        kind, since, unit = ("dates", "(t - t[0])", "datetime64") if dates else ("durations", "t", "timedelta64")
        raise TypeError(
            f"`ts` are {kind}, and equations run in numbers, whose unit is that of your rates: write `{since} / "
            f"np.timedelta64(1, 'h')` for hours, with `t = np.array(ts, '{unit}[us]')`."
        )
    try:
        return np.asarray(found, np.float64)
    except (TypeError, ValueError):
        raise _no_numbers(ts) from None


def _no_numbers(ts: Any) -> TypeError:
    return TypeError(
        f"`ts` must be a sequence of numbers; got {reprlib.repr(ts)}. Write `jnp.linspace(0.0, 1.0, 101)`, say."
    )
