"""What to say of a user's function that fails at a state: what it was given, and what to write."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.core import Tracer

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import rows, with_rows

__all__ = ["batched", "one_state_given", "said_at_the_end", "said_before", "without_axis"]


@contextlib.contextmanager
def batched() -> Iterator[None]:
    """Say of code behind a callback, which was not told what to do with many samples, what to write."""
    try:
        yield
    except NotImplementedError as error:
        if "vmap_method" not in str(error):
            raise
        raise TypeError(
            "A function calls `jax.pure_callback` without saying what many samples are to it: write "
            '`jax.pure_callback(..., vmap_method="broadcast_all")` where the code behind it takes arrays with the '
            'samples in front, else `vmap_method="sequential"`, one sample after the other.'
        ) from error


@contextlib.contextmanager
def one_state_given(drift: AbstractDrift, x: State, name: str | None) -> Iterator[None]:
    """Say of a failing function that x, which is one state without a sample axis, was read as many numbers."""
    whose = "the trajectories" if name is None else f"`{name}`"
    try:
        yield
    except KeyError as error:
        if not isinstance(x, dict):
            raise
        names = ", ".join(map(repr, x))
        raise TypeError(
            f"`{drift!r}` asks for {error} at one sample of {whose}, which is a dict of {names}: give states, and "
            "`args`, with the names that its function reads."
        ) from error
    except (IndexError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if isinstance(error, jax.errors.TracerBoolConversionError):
            raise TypeError(
                f"`{drift!r}` asks by `if`, `while`, `and` or `or` for a number that JAX has not computed yet: choose "
                "by `jnp.where(x > 0, a, b)`, and join conditions by `&` and `|`."
            ) from error
        if isinstance(error, jax.errors.TracerArrayConversionError):
            raise TypeError(
                f"`{drift!r}` hands an array of JAX's to NumPy or to another library: write its function with "
                "`jax.numpy`, `jnp.sin` for `np.sin`, or call the other library by `jax.pure_callback`."
            ) from error
        if "'NoneType' object is not subscriptable" in str(error):
            raise TypeError(
                f"`{drift!r}` failed at one sample of {whose} ({why}). If it reads `args`, hand them over: `args=...`."
            ) from error
        if not without_axis(x, name):
            if not isinstance(error, IndexError):
                raise
            shapes = [leaf.shape[1:] for leaf in jtu.tree_leaves(x)]
            raise IndexError(
                f"`{drift!r}` failed at one sample of {whose}, of shape {shapes[0] if len(shapes) == 1 else shapes} "
                f"({why}). Its function sees one sample, without the leading sample axis."
            ) from error
        raise ValueError(f"`{drift!r}` failed at one sample of {whose} ({why}).{without_axis(x, name)}") from error


def said_before(equation: AbstractDrift | SDE, x: State, ts: Any, args: Args, i: int, m: int) -> str:
    """What the drifts themselves say of the step to sample i's m-th state, which is not finite.

    Compiled code cannot raise: a simulator that refuses a mask, a step or a solve that did not converge returns NaN
    there. Called once more, with numbers, it may say why. Nothing is said of what is not known, under a transformation.

    Args:
        equation: what was solved.
        x: its solutions, samples, then times, in front.
        ts: the times.
        args: the user's, with conditions.
        i: which sample.
        m: which of its states.
    """
    if m == 0 or any(isinstance(leaf, Tracer) for leaf in jtu.tree_leaves((equation, x, ts, args))):
        return ""
    own = with_rows(args, jtu.tree_map(lambda leaf: leaf[i], rows(args)))
    before = jtu.tree_map(lambda leaf: jnp.asarray(leaf[i, m - 1]), x)
    t, dt = jnp.asarray(ts[m - 1], float), jnp.asarray(abs(ts[m] - ts[m - 1]), float)
    for term in equation.summands:
        try:
            term.increment(t, before, dt, own)
        except Exception as error:  # of the user's code, whatever it is
            return f"`{term.drift!r}` says of the step there: {type(error).__name__}: {str(error).removesuffix('.')}."
    return ""


def said_at_the_end(equation: AbstractDrift | SDE, xT: State, ts: Any, args: Args) -> Callable[[int, int], str]:
    """The same of the first step from an end state, whatever the m: of later states nothing was kept."""
    return lambda i, m: said_before(equation, jtu.tree_map(lambda leaf: leaf[:, None], xT), ts, args, i, 1)


def without_axis(x: State, name: str | None) -> str:
    """What to write where the sample axis may have been forgotten: each sample is a number."""
    shapes = [leaf.shape for leaf in jtu.tree_leaves(x)]
    if any(len(shape) != 1 for shape in shapes):
        return ""
    if name is None:
        return " Their states are numbers: those of several components have shape (trajectories, times, components)."
    return f" `{name}` of shape {shapes[0]} is {shapes[0][0]} samples of a scalar state; if it is one state, write " + (
        f"`{name}[None]`." if jtu.tree_structure(x) == jtu.tree_structure(0) else "`[None]` for each array in it."
    )
