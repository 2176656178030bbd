"""One equation, one solve: `solve` calls diffrax once for the whole batch.

    x(ts[0]) = x0,    dx = f dt + g dW    saved at every ts

At fixed steps it is a march (`_march`); where steps adapt or the user passes an adjoint, a path, or another `SaveAt`,
`diffrax.diffeqsolve` on the same terms. Solver, adjoint and step-size controller are diffrax's own objects.
"""

import warnings
from functools import partial
from typing import Any, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import rows, with_conditions
from ..equation._score import scores, unrecorded
from . import _validate as validate
from ._default_solver import solver_of
from ._failing import said_before
from ._finite import largest, warn_of_explosions
from ._march import Table, march
from ._numbers import as_arrays, in_one_precision
from ._options import check_path, check_solver, check_stepping
from ._remembered import (
    warn_of_another_resolution,
    warn_of_another_solver,
    warn_of_missing_args,
    warn_of_untrained_steps,
    warn_of_untrained_times,
)
from ._solvers import abilities, levy_area
from ._terms import Clock, GridNoise, WarpedClock, lower, sign_of

__all__ = ["solve"]

# An adaptive solve that takes this many steps has failed; fixed steps are as many as the grid has.
_MAX_ADAPTIVE_STEPS = 16**4
_TOO_MANY_STEPS = f"It is {_MAX_ADAPTIVE_STEPS}: loosen the tolerances, or "


def solve(
    equation: AbstractDrift | SDE,
    x0: State,
    ts: Any,
    *,
    key: Key | None = None,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    saveat: dfx.SaveAt | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    brownian_path: dfx.AbstractBrownianPath | None = None,
) -> State:
    """Solve an equation from x0 at ts[0] to ts[-1], for a batch of states.

    A forward equation wants increasing times, a reverse one decreasing times: `-P + s` from
    `ts[::-1][0] = T` down to 0. The whole batch is one solve, so an adaptive controller chooses one step
    size for all samples (implicit solvers solve each sample by itself, with its own steps).

    Args:
        equation: a drift (an ODE) or an `SDE`.
        x0: states at ts[0]; any pytree of floating arrays of shape (samples, ...).
        ts: strictly monotone physical times, at least two. With fixed steps they are the steps.
        key: a JAX key; needed by an `SDE`, refused by an ODE.
        args: handed to every callable; Python floats become arrays, so that no value of theirs compiles anew.
        solver: any diffrax solver for the kind of equation. Default: `diffrax.Heun()`, of second order;
            `ExponentialHeun()` where physics and score state a stiff linear part, and `diffrax.Euler()` where a drift
            is a simulator's step. `simulate`, `fit` and inference choose alike.
        stepsize_controller: a diffrax controller such as `diffrax.PIDController(rtol=1e-5, atol=1e-7)`.
            Default: one step per interval of `ts`.
        saveat: a `diffrax.SaveAt` without times, `SaveAt(t1=True)` for the end alone. Its functions see the physical
            time and the whole batch, and return arrays with the samples in front. Default: every ts.
        adjoint: a diffrax adjoint, for gradients through the solve. Default: at fixed steps a scan whose gradient
            keeps the states and runs each step again; else `diffrax.RecursiveCheckpointAdjoint()`.
        brownian_path: a path on the solver's clock τ = |t - ts[0]|, to share noise between solves (a
            convergence study, say). Default: fresh normals on the steps, or a `VirtualBrownianTree`
            where the steps are adaptive.

    Returns:
        States shaped like x0 with the times as a second axis: (samples, times, ...).

    Raises:
        ValueError: times that are not monotone, repeat, are not finite or run against the equation; states that lack
            the sample axis, are not finite, or that a drift does not return alike; a key too few or too many.
        TypeError: states that are integers, complex or of half precision; a solver for the other kind of equation, or
            without the Brownian information it needs.
        RuntimeError: an adaptive or implicit solve that failed: diffrax's reason and the time reached.

    Warns:
        NonFiniteWarning: states that are not finite, or so large that their squares are not: how many, which samples,
            and from what time on.

    >>> import jax.numpy as jnp, smdpx as sx, diffrax as dfx
    >>> decay = sx.Drift(lambda t, x, args: -x)
    >>> x = sx.solve(decay, jnp.ones(3), jnp.linspace(0.0, 1.0, 11), solver=dfx.Tsit5())
    >>> x.shape, round(float(x[0, -1]), 4)
    ((3, 11), 0.3679)
    """
    how = (solver, stepsize_controller, saveat, adjoint, brownian_path)
    ys, most, _ = solved(equation, x0, ts, key, args, *how)
    known = np.asarray(ts) if saveat is None and validate.is_concrete(ts) else None
    said = None if known is None else partial(said_before, equation, ys, known, args)
    warn_of_explosions(most, ys, "sample", known, said=said, scored=bool(scores(equation)))
    return ys


def solved(
    equation: AbstractDrift | SDE,
    x0: State,
    ts: Any,
    key: Key | None = None,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    saveat: dfx.SaveAt | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    brownian_path: dfx.AbstractBrownianPath | None = None,
) -> tuple[State, Any, Any]:
    """What `solve` returns, for callers that warn themselves.

    Returns:
        The states; the `largest` numbers in them; and of each sample whether it ever was outside of what a score knows.
        None where these are unknown.
    """
    if not isinstance(equation, AbstractDrift | SDE):
        raise TypeError(f"`solve` needs an equation such as `-P + s`; got {type(equation).__name__}.")
    solver = solver_of(equation, solver)
    ts = validate.check_times(ts, equation)
    x0 = validate.check_states(x0, "x0")
    validate.check_finite_states(x0, "x0")
    if brownian_path is None:
        validate.check_key(equation, key)
    elif key is not None:
        raise ValueError("`brownian_path` holds the noise, so `key` would be ignored: give one of them.")
    if brownian_path is not None and not isinstance(equation, SDE):
        raise ValueError(
            f"`{equation}` has no noise, so `brownian_path` would be ignored: drop it, or write `... + g`."
        )
    check_solver(equation, solver, brownian_path)
    check_path(brownian_path, x0, ts)
    validate.check_step_grid(equation, ts)
    check_stepping(solver, stepsize_controller, saveat, adjoint)
    if stepsize_controller is None:
        warn_of_untrained_steps(equation, ts)
    warn_of_another_solver(equation, solver)
    warn_of_untrained_times(equation, ts)
    warn_of_missing_args(equation, args)
    warn_of_another_resolution(equation, x0)
    tau, steps = abs(ts - ts[0]), abs(ts[1:] - ts[:-1])
    validate.check_resolution(ts, x0)
    times = tuple(validate.narrowed(table, validate.widest(x0)) for table in (ts, tau, steps))
    equation, args = as_arrays(unrecorded(equation), args)
    keep = _march_keeps(solver, stepsize_controller, saveat, adjoint, brownian_path)
    if keep is not None:
        return _march(equation, x0, times, key, args, solver, keep)
    how = (solver, stepsize_controller, saveat, adjoint, brownian_path)
    ys, reached, result = _solve(equation, x0, times, key, args, how)
    if not validate.is_concrete(result, ys):
        ys = result.error_if(ys, result != dfx.RESULTS.successful)
    else:
        _raise_if_failed(equation, solver, result, reached)
    # Room that was not needed for saving is filled with infinities by diffrax.
    return ys, largest(ys) if saveat is None or plainly(saveat) == "end" else None, None


# Above how many steps a window's gradient runs them again, and up to how many numbers a state. Measured in
# `benchmarks/window.py`: what a small network's steps leave for the gradient falls out of the cache, and to compute it
# once more is faster than to fetch it; a convolution is not.
_AGAIN_FROM_STEPS, _AGAIN_UP_TO_NUMBERS = 32, 64


def unroll(
    equation: AbstractDrift | SDE,
    x: State,
    table: Table,
    key: Key | None,
    args: Args,
    solver: dfx.AbstractSolver,
    adjoint: dfx.AbstractAdjoint | None,
) -> State:
    """The states after each of a table's steps, (steps, samples, ...): what losses and windows are made from.

    Without `solve`'s checks, and with samples that may each have times of their own.
    """
    noise = key if isinstance(equation, SDE) else None
    equation, x, own = in_one_precision(equation, x)
    if adjoint is None and not abilities(solver).keeps_times:
        numbers = sum(leaf[0].size for leaf in jtu.tree_leaves(x))
        again = table.t.shape[0] >= _AGAIN_FROM_STEPS and numbers <= _AGAIN_UP_TO_NUMBERS
        return own(march(equation, x, table, noise, args, solver, again=again)[0])
    clock, tau = _on_one_clock(table, sign_of(equation))
    path = None
    if isinstance(equation, SDE):
        assert key is not None
        path = GridNoise(key, jax.eval_shape(lambda x: x, x), levy_area(solver), clock, tau)
    solution = _diffeqsolve(
        lower(equation, clock, solver, path),
        solver,
        t0=tau[0],
        t1=tau[-1],
        dt0=None,
        y0=x,
        args=args,
        stepsize_controller=dfx.StepTo(ts=tau),
        saveat=dfx.SaveAt(steps=True),
        adjoint=dfx.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        max_steps=table.t.shape[0],
        throw=False,
    )
    return own(cast(Any, solution.ys))


def _on_one_clock(table: Table, sign: int) -> tuple[Clock | WarpedClock, Any]:
    """A clock that runs through a whole table, for diffrax's loop, and its readings between the steps."""
    if table.dt.ndim == 1:
        return Clock(table.t[0], sign), jnp.concatenate([jnp.zeros_like(table.dt[:1]), jnp.cumsum(table.dt)])
    end = table.t[-1:] + sign * table.dt[-1:]
    return WarpedClock(jnp.concatenate([table.t, end])), jnp.arange(len(table.t) + 1, dtype=table.t.dtype)


def _diffeqsolve(*args: Any, **kwargs: Any) -> dfx.Solution:
    with warnings.catch_warnings():
        # States are real, as was checked; diffrax looks at the networks' weights as well, and these may be complex.
        warnings.filterwarnings("ignore", "Complex dtype support in Diffrax")
        return dfx.diffeqsolve(*args, **kwargs)


def _march_keeps(solver: Any, controller: Any, saveat: Any, adjoint: Any, path: Any) -> str | None:
    """What the march would save; None where it cannot solve this."""
    others = controller is not None or adjoint is not None or path is not None
    can = abilities(solver)
    return None if others or not can.whole_steps or can.keeps_times else plainly(saveat)


def plainly(saveat: dfx.SaveAt | None) -> str | None:
    """What is saved: "all" states, those "after" the first, the "end"; None for what diffrax alone knows to save."""
    plain = {
        "all": dfx.SaveAt(t0=True, steps=True),
        "after": dfx.SaveAt(steps=True),
        "end": dfx.SaveAt(t1=True),
    }
    if saveat is None:
        return "all"
    return next((keep for keep, like in plain.items() if eqx.tree_equal(like, saveat) is True), None)


@eqx.filter_jit
def _march(
    equation: Any, x0: State, times: Any, key: Key | None, args: Args, solver: Any, keep: str
) -> tuple[State, Any, Any]:
    validate.check_drifts(equation, x0, args, "x0")  # here, and not in every call: it traces the drifts
    equation, x0, own = in_one_precision(equation, x0)
    ts, _, steps = times
    watch = any(term.drift.has_outside for term in equation.summands)

    def run(x0: State, key: Key | None, args: Args) -> tuple[State, Any]:
        table = Table(ts[:-1], steps)
        # Gradients run steps again: what a solve of many steps computed would not fit into memory.
        x, left = march(equation, x0, table, key, args, solver, every=keep != "end", again=True, watch=watch)
        if keep == "end":
            return jtu.tree_map(lambda leaf: leaf[:, None], x), left
        if keep == "all":
            x = jtu.tree_map(lambda a, b: jnp.concatenate([a[None], b]), x0, x)
        return jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, 1), x), left

    if abilities(solver).dense:
        ys, left = jtu.tree_map(lambda y: y[:, 0], _sample_by_sample(run, x0, key, args))
    else:
        ys, left = run(x0, key, args)
    ys = own(ys)
    return ys, largest(ys), left


def _sample_by_sample(run: Any, x0: State, key: Key | None, args: Args) -> Any:
    """Each sample alone, for solvers that form matrices of the state's size."""
    samples = jtu.tree_leaves(x0)[0].shape[0]
    keys = None if key is None else jax.random.split(key, samples)

    def alone(x0: State, key: Key | None, values: Any) -> Any:
        one = lambda x: jtu.tree_map(lambda leaf: leaf[None], x)  # noqa: E731
        return run(one(x0), key, with_conditions(args, one(values)))

    return eqx.filter_vmap(alone)(x0, keys, rows(args))


@eqx.filter_jit
def _solve(equation: Any, x0: State, times: Any, key: Key | None, args: Args, how: Any) -> Any:
    validate.check_drifts(equation, x0, args, "x0")
    equation, x0, own = in_one_precision(equation, x0)
    solver, controller, saveat, adjoint, path = how
    ts, tau, _ = times
    clock = Clock(ts[0], sign_of(equation))
    options: dict[str, Any]
    if controller is None:
        save = dfx.SubSaveAt(t0=True, steps=True)
        options = {"stepsize_controller": dfx.StepTo(ts=tau), "dt0": None, "max_steps": len(tau) - 1}
    else:
        if isinstance(equation, SDE):
            # Linear interpolation between steps has too small a variance: step to every saved time; and
            # without the rejected times a Brownian path would be seen only where it was kind.
            controller = dfx.ClipStepSizeController(controller, step_ts=tau, store_rejected_steps=256)
        save = dfx.SubSaveAt(ts=tau)
        options = {"stepsize_controller": controller, "dt0": tau[1], "max_steps": _MAX_ADAPTIVE_STEPS}
    save = save if saveat is None else _at_physical_times(saveat.subs, clock)
    reached = dfx.SubSaveAt(t1=True, fn=lambda t, y, args: clock(t))

    def brownian(x0: State, key: Key | None) -> Any:
        if path is not None or key is None:
            return path
        shape = jax.eval_shape(lambda x: x, x0)
        if controller is None and abilities(solver).whole_steps:
            return GridNoise(key, shape, levy_area(solver), clock, tau)
        return dfx.VirtualBrownianTree(0.0, tau[-1], tau[-1] / 2**16, shape, key, levy_area(solver))

    def run(x0: State, key: Key | None, args: Args) -> Any:
        solution = _diffeqsolve(
            lower(equation, clock, solver, brownian(x0, key)),
            solver,
            t0=tau[0],
            t1=tau[-1],
            y0=x0,
            args=args,
            saveat=dfx.SaveAt(subs=(save, reached)),
            adjoint=dfx.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
            throw=False,
            **options,
        )
        ys, now = cast(Any, solution.ys)
        return jtu.tree_map(lambda y: jnp.moveaxis(y, 0, 1), ys), now[-1], solution.result

    if not abilities(solver).dense:
        ys, reached, result = run(x0, key, args)
    else:
        ys, reached, result = _sample_by_sample(run, x0, key, args)
        ys = jtu.tree_map(lambda y: y[:, 0], ys)
    return own(ys), reached, result


def _at_physical_times(subs: Any, clock: Clock) -> Any:
    """What a user's `SaveAt` saves, its functions called with the physical time in place of the solver's."""

    def of_one(sub: dfx.SubSaveAt) -> dfx.SubSaveAt:
        return eqx.tree_at(lambda sub: sub.fn, sub, lambda tau, x, args: sub.fn(clock(tau), x, args))

    return jtu.tree_map(of_one, subs, is_leaf=lambda sub: isinstance(sub, dfx.SubSaveAt))


def _raise_if_failed(equation: Any, solver: dfx.AbstractSolver, result: Any, reached: Any) -> None:
    failed = np.atleast_1d(np.asarray(result != dfx.RESULTS.successful))
    if not failed.any():
        return
    first = int(np.argmax(failed))
    reason = dfx.RESULTS[jtu.tree_map(lambda value: jnp.atleast_1d(value)[first], result)]
    # Stiff solvers are for ODEs.
    noisy = isinstance(equation, SDE)
    mend = "take fixed steps, the intervals of `ts`." if noisy else "use a stiff solver such as `diffrax.Kvaerno5()`."
    reason = reason.replace("Try increasing `max_steps`.", _TOO_MANY_STEPS + mend)
    raise RuntimeError(
        f"`{type(solver).__name__}` failed on `{equation}` at t = {np.atleast_1d(reached)[first]:.6g} "
        f"({failed.sum()} of {failed.size} solves): {reason}"
    )
