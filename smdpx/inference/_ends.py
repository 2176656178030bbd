"""What inference starts from: end states, checked by their name, and the numbers that one of them costs."""

import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array, Int

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import first_row
from ..solving import _validate as validate

# Of an array that has a row for each of so many samples, no other size is a multiple: it tells what grows with them.
_MANY = 7919


def check_ends(equation: AbstractDrift | SDE, xT: State, args: Args) -> int:
    """Raise where xT is no batch of end states of the equation; else how many numbers a step holds for one of them.

    Args:
        equation: whose drift is evaluated, by its shapes only, once for each program.
        xT: what the user gave, arrays of shape (cases, ...).
        args: the user's.

    Returns:
        The size of the largest array that one sample's drift computes on its way.
    """
    validate.check_states(xT, "xT", "case")
    validate.check_finite_states(xT, "xT", "case")
    if validate.is_concrete(equation, xT, args):
        return int(_traced_once(equation, xT, args))
    return _widest(equation, xT, args)


@eqx.filter_jit
def _traced_once(equation: AbstractDrift | SDE, xT: State, args: Args) -> Int[Array, ""]:
    # To trace a large network takes some tenths of a second; jit remembers what came out.
    return jnp.asarray(_widest(equation, xT, args))


def _widest(equation: AbstractDrift | SDE, xT: State, args: Args) -> int:
    validate.check_drifts(equation, xT, args, "xT")
    drift = equation.drift if isinstance(equation, SDE) else equation
    many = jtu.tree_map(lambda leaf: jax.ShapeDtypeStruct((_MANY, *leaf.shape[1:]), leaf.dtype), xT)
    now = jax.ShapeDtypeStruct((), jnp.result_type(*jtu.tree_leaves(xT)))
    step = jax.make_jaxpr(lambda x, t, dt: jax.vmap(lambda x: drift.increment(t, x, dt, first_row(args)))(x))
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


def whole_number(name: str, value: Any) -> int:
    """A count that the user gave, 1 or more, or an error."""
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise TypeError(f"`{name}` counts samples and must be an integer; got {value!r}. Write `{name}=int(...)`.")
    if count < 1:
        raise ValueError(f"`{name}` must be at least 1; got {count}.")
    return count
