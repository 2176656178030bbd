"""Fixed steps: one `lax.scan` over the solver's own step, diffrax's documented manual stepping.

    x_{i+1} = solver.step(terms_i, 0, dt_i, x_i),    i = 0, 1, ...

Each step has its own clock from 0 to its own dt, and the physical time at which it begins is taken from the table of
times, not summed up. Explicit Runge-Kutta steps are written out (`_stages`). The noise of step i comes from
`fold_in(key, i)`. Everything at fixed steps runs here: windows, `solve`, `simulate`, inference. Adaptive steps, dense
output, events and adjoints of the user's are `diffeqsolve`.
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ._solvers import levy_area
from ._stages import explicit_step, has_stages
from ._terms import Clock, GridNoise, lower, outside, sign_of

__all__ = ["Table", "march"]


class Table(eqx.Module):
    """When the steps begin and how long they are, in the order in which they are taken.

    Attributes:
        t: physical times at which the steps begin, one per step, or (steps, samples).
        dt: their lengths, > 0: one per step, or (steps, samples) where each sample has steps of its own.
    """

    t: Float[Array, "steps *samples"]
    dt: Float[Array, "steps *own"]


def march(
    equation: AbstractDrift | SDE,
    x: State,
    table: Table,
    key: Key | None,
    args: Args,
    solver: dfx.AbstractSolver,
    *,
    every: bool = True,
    again: bool,
    watch: bool = False,
) -> tuple[State, Bool[Array, " samples"] | None]:
    """Take the steps of a table.

    Args:
        equation: a drift, or an `SDE`.
        x: the states at the first time, (samples, ...).
        table: the steps.
        key: a JAX key, where there is noise.
        args: handed to every callable.
        solver: a diffrax solver at fixed steps.
        every: whether to return the states after each step, (steps, samples, ...), or the last alone.
        again: whether a gradient runs each step again and keeps states alone, or keeps what the steps computed.
        watch: whether to look, at the start of each step, if a score knows where it is.

    Returns:
        States; and of each sample whether it ever was where a score said that it does not know, None if nobody looked.
    """
    shape, stages = jax.eval_shape(lambda x: x, x), has_stages(solver)

    def begin(i: Any, t: Array, dt: Array) -> tuple[Any, Array]:
        own = dt.ndim == 1
        clock = Clock(t, sign_of(equation), dt if own else None)
        path = None
        if isinstance(equation, SDE):
            assert key is not None
            path = GridNoise(jr.fold_in(key, i), shape, levy_area(solver), clock)
        return lower(equation, clock, solver, path), jnp.ones((), dt.dtype) if own else dt

    def step(carry: Any, inputs: Any) -> Any:
        x, state, left = carry
        terms, end = begin(*inputs)
        left = left | outside(equation, inputs[1], x, args) if watch else left
        if stages:
            y = explicit_step(solver, terms, jnp.zeros_like(end), end, x, args)
        else:
            y, _, _, state, _ = solver.step(terms, jnp.zeros_like(end), end, x, args, state, made_jump=False)
        return (y, state, left), (y if every else None)

    rows = (jnp.arange(table.t.shape[0]), table.t, table.dt)
    terms, end = begin(*jtu.tree_map(lambda leaf: leaf[0], rows))
    nowhere = jnp.zeros(jtu.tree_leaves(x)[0].shape[:1], bool) if watch else None
    state = None if stages else solver.init(terms, jnp.zeros_like(end), end, x, args)
    carry = (x, state, nowhere)
    if rows[0].size == 1:  # no loop for one step: it compiles faster, and runs as fast
        (last, _, left), _ = step(carry, jtu.tree_map(lambda leaf: leaf[0], rows))
        return (jtu.tree_map(lambda leaf: leaf[None], last) if every else last), left
    # Inside a scan nothing can be merged with the steps that run again, so XLA need not be kept from it.
    body = jax.checkpoint(step, prevent_cse=False) if again else step
    (last, _, left), ys = jax.lax.scan(body, carry, rows)
    return (ys if every else last), left
