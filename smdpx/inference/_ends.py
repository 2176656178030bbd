"""What inference starts from: end states, checked by their name, and the numbers that one of them costs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array, Int

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import first_row
from ..learning._trajectories import AbstractPaths
from ..solving import _validate as validate
from ..solving._failing import batched
from ..solving._numbers import as_arrays

# Of an array that has a row for each of so many samples, no other size is a multiple: it tells what grows with them.
_MANY = 7919


def check_ends(equation: AbstractDrift | SDE, xT: State, args: Args) -> tuple[Any, int]:
    """The end states as arrays, or an error; and how many numbers a step of the equation holds for one of them.

    Args:
        equation: whose drift is evaluated, by its shapes only, once for each program.
        xT: what the user gave, arrays of shape (cases, ...).
        args: the user's.

    Returns:
        xT as `check_states` returns it, and the size of the largest array that one sample's drift computes on its way.
    """
    if isinstance(xT, AbstractPaths):
        raise TypeError("`xT` are end states, and these are whole trajectories: write `paths.end`.")
    xT = validate.check_states(xT, "xT", "case")
    validate.check_finite_states(xT, "xT", "case")
    if validate.is_concrete(equation, xT, args):
        equation, args = as_arrays(equation, args)
        widest = _traced_once(equation, xT, args)
        if validate.is_concrete(widest):  # in a program of the user's it is not, though all that goes in is
            return xT, int(widest)
    return xT, _widest(equation, xT, args)


@eqx.filter_jit
def _traced_once(equation: AbstractDrift | SDE, xT: State, args: Args) -> Int[Array, ""]:
    # To trace a large network takes some tenths of a second; jit remembers what came out.
    return jnp.asarray(_widest(equation, xT, args))


def _widest(equation: AbstractDrift | SDE, xT: State, args: Args) -> int:
    validate.check_drifts(equation, xT, args, "xT")
    drift = equation.drift if isinstance(equation, SDE) else equation
    many = jtu.tree_map(lambda leaf: jax.ShapeDtypeStruct((_MANY, *leaf.shape[1:]), leaf.dtype), xT)
    now = jax.ShapeDtypeStruct((), validate.widest(xT))
    step = jax.make_jaxpr(lambda x, t, dt: jax.vmap(lambda x: drift.increment(t, x, dt, first_row(args)))(x))
    with batched():
        return _largest_row(step(many, now, now).jaxpr)


def _largest_row(jaxpr: Jaxpr) -> int:
    """The most numbers for one sample among all that a program computes, inner programs included."""
    most = 0
    for equation in jaxpr.eqns:
        outputs = [getattr(output.aval, "size", 0) for output in equation.outvars]
        most = max([most, *(size // _MANY for size in outputs if size % _MANY == 0)])
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
                most = max(most, _largest_row(inner)) if isinstance(inner, Jaxpr) else most
    return most


def draw_starts(x0: Any, xT: State, size: int, key: Key) -> State:
    """So many starts: drawn by the user's function, or from the user's arrays with replacement."""
    if callable(x0):
        start, name = validate.check_states(x0(key, size), "x0(key, n)"), "x0(key, n)"
    else:
        given, name = validate.check_states(x0, "x0"), "x0"
        index = jr.randint(key, (size,), 0, jtu.tree_leaves(given)[0].shape[0])
        start = jtu.tree_map(lambda leaf: leaf[index], given)
    if jtu.tree_leaves(start)[0].shape[0] != size:
        raise ValueError(
            f"`x0(key, n)` must draw n states; asked for {size} it returned {jtu.tree_leaves(start)[0].shape[0]}. "
            "Write `lambda key, n: jax.random.normal(key, (n, ...))`, say."
        )
    shapes = [jtu.tree_map(lambda leaf: (leaf.shape[1:], str(leaf.dtype)), x) for x in (start, xT)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`{name}` and `xT` must hold states of one kind, with samples and cases in front; got states of "
            f"{shapes[0]} and {shapes[1]} (shape, precision)."
        )
    return start
