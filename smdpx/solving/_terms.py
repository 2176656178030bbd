"""Equation -> diffrax terms: the one place where time is reversed and a Brownian path is chosen.

diffrax integrates a clock τ that only ever grows; the terms hand every callable the physical time

    t = start + τ   (forward)        t = start - τ   (reverse)

Negative steps are never taken: diffrax's stochastic Runge-Kutta solvers are wrong on them (diffrax
issue 598). States carry a leading sample axis and the drifts are vmapped inside the one solve, which
costs less than a vmapped solve; `start` may differ from sample to sample, so that windows of
trajectories that begin at different times share one τ grid.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Bool, Float

from .._types import Args, Key, RealScalarLike, State
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._conditions import conditions, rows, with_rows
from ..equation._diffusion import Diffusion
from ..equation._drift import step_drifts
from ._failing import batched
from ._solvers import abilities, steps_as_diffrax

__all__ = ["Clock", "FormulaStep", "GridNoise", "StepTimes", "WarpedClock", "lower", "sign_of", "terms"]


class Clock(eqx.Module):
    """The solver's clock τ ≥ 0 and the physical time t = start ± span·τ that the callables see.

    Attributes:
        start: the physical time at τ = 0: a scalar, or one per sample.
        sign: +1 where physical time grows with τ, -1 where it falls.
        span: the physical time that passes in one unit of τ, > 0: 1, or one number per sample where each has steps
            of its own. Solvers that multiply rates by the term's control are exact on such a clock, since the control
            is the physical time that passed; those that use τ itself are refused (`Abilities.own_clock`).
    """

    start: Float[Array, "*samples"]
    sign: int = eqx.field(static=True)
    span: Float[Array, " samples"] | None = None

    def __call__(self, tau: RealScalarLike) -> Float[Array, "*samples"]:
        """The physical time: a scalar, or one per sample."""
        return self.start + self.sign * self._physical(tau)

    def elapsed(self, tau0: RealScalarLike, tau1: RealScalarLike) -> Float[Array, "*samples"]:
        """The physical time between two readings: a scalar, or one per sample."""
        return self._physical(jnp.asarray(tau1) - jnp.asarray(tau0))

    def _physical(self, tau: RealScalarLike) -> Array:
        return jnp.asarray(tau) if self.span is None else self.span * jnp.asarray(tau)


class WarpedClock(eqx.Module):
    """A clock that reads a table: τ counts steps, and each sample has times of its own.

    For solves that diffrax's own loop runs (an adjoint that the user passes) on windows of uneven grids.
    """

    times: Float[Array, "steps samples"]

    def __call__(self, tau: RealScalarLike) -> Float[Array, " samples"]:
        """The physical times at τ, linear between the table's."""
        tau = jnp.asarray(tau)
        index = jnp.clip(jnp.floor(tau).astype(jnp.int32), 0, self.times.shape[0] - 2)
        fraction = tau - index.astype(self.times.dtype)
        return (1 - fraction) * self.times[index] + fraction * self.times[index + 1]

    def elapsed(self, tau0: RealScalarLike, tau1: RealScalarLike) -> Float[Array, " samples"]:
        """The physical time between two readings, one per sample."""
        return jnp.abs(self(tau1) - self(tau0))


def per_sample(x: Array, ndim: int) -> Array:
    """A scalar or a vector over samples, made to multiply an array of `ndim` axes, the samples in front."""
    return x if x.ndim == 0 else x.reshape(x.shape + (1,) * (ndim - 1))


def over_samples(f: Callable[..., Any], args: Args, *arguments: Any) -> Any:
    """f(*arguments, args) of every sample, with its own row of the conditions; an array of no axis is shared."""
    axes = jtu.tree_map(lambda x: None if isinstance(x, jax.Array) and x.ndim == 0 else 0, arguments)
    values = rows(args)
    with batched():
        return jax.vmap(lambda values, *a: f(*a, with_rows(args, values)), in_axes=(0, *axes))(values, *arguments)


def outside(equation: AbstractDrift | SDE, t: Array, x: State, args: Args) -> Bool[Array, " samples"]:
    """Which samples are where a score of the equation says that it knows little: half of the way out or further."""

    def of_one(t: Array, x: State, args: Args) -> Array:
        ways = [term.drift.outside(t, x, args) for term in equation.summands]
        return jnp.any(
            jnp.stack([jnp.any(jnp.abs(leaf) >= 0.5) for leaf in jtu.tree_leaves(ways)] or [jnp.array(False)])
        )

    return over_samples(of_one, args, t, x)


def for_one(args: Args) -> Args:
    """The `args` of one state's terms, or an error where they hold conditions of many samples."""
    if conditions(args):
        raise TypeError(
            "`args` holds a `PerSample`, and `sx.terms` are those of one state: pass that state's own value, and "
            "`jax.vmap` over states and values together; or call `sx.solve`."
        )
    return args


class StepTimes(NamedTuple):
    """The physical times at which a step begins, is half over and ends: scalars, or one per sample."""

    start: Float[Array, "*samples"]
    middle: Float[Array, "*samples"]
    end: Float[Array, "*samples"]


class FormulaStep(eqx.Module):
    """The control of a step by a formula that needs to know the drift, and not its rate alone.

    Attributes:
        change: the solver's formula, called (drift, times, x, dt, kick, args) of one sample.
        times: the step's.
        dt: the physical time that passes.
        kick: the noise of the step, if any.
    """

    change: Callable[..., State] = eqx.field(static=True)
    times: StepTimes
    dt: Float[Array, "*samples"]
    kick: Any = None

    def kicked(self, kick: Any) -> "FormulaStep":
        """The same step with this noise."""
        return FormulaStep(self.change, self.times, self.dt, kick)


class NoRate(eqx.Module):
    """What a simulator's step has in place of a rate: no numbers, and an error for whoever multiplies it.

    diffrax asks for the shape of the rate before it solves, and a solver of increments never for more.
    """

    error: Callable[[], TypeError] = eqx.field(static=True)


class DriftTerm(dfx.AbstractTerm):
    """A drift as a diffrax term; its control is the physical time that passes.

    Of one state, or (`batched`) of many, with the samples in front: then the drift is vmapped inside.
    """

    drift: AbstractDrift
    clock: Clock | WarpedClock
    batched: bool = eqx.field(static=True)

    def vf(self, t: RealScalarLike, y: State, args: Args) -> State:
        """The rate at the physical time; of a simulator's step `NoRate`."""
        if steps := step_drifts(self.drift):
            return NoRate(steps[0].no_rate)
        return self._each(self.drift.rate, args, self.clock(t), y)

    def contr(
        self, t0: RealScalarLike, t1: RealScalarLike, *, formula: Callable[..., State] | None = None, **kwargs: Any
    ) -> Any:
        """The physical time that passes, a scalar or one per sample; for a formula its own control."""
        elapsed = self.clock.elapsed(t0, t1)
        if formula is None:
            return elapsed
        middle = (jnp.asarray(t0) + jnp.asarray(t1)) / 2
        return FormulaStep(formula, StepTimes(*map(self.clock, (t0, middle, t1))), elapsed)

    def prod(self, vf: State, control: Any) -> State:
        """Rate times time."""
        if isinstance(vf, NoRate):
            raise vf.error()
        return jtu.tree_map(lambda v: per_sample(jnp.asarray(control).astype(v.dtype), v.ndim) * v, vf)

    def vf_prod(self, t: RealScalarLike, y: State, args: Args, control: Any) -> State:
        """The increment over the step: a step drift takes exactly one step of its own here."""
        if isinstance(control, FormulaStep):
            change = functools.partial(control.change, self.drift)
            return self._each(change, args, control.times, y, control.dt, control.kick)
        return self._each(self.drift.increment, args, self.clock(t), y, jnp.asarray(control))

    def _each(self, f: Callable[..., Any], args: Args, *arguments: Any) -> Any:
        """f(*arguments, args), over the samples where there are many."""
        return over_samples(f, args, *arguments) if self.batched else f(*arguments, for_one(args))


class ZeroTerm(DriftTerm):
    """No drift at all: the explicit half of an implicit-explicit solver that is given one drift."""

    def vf(self, t: RealScalarLike, y: State, args: Args) -> State:
        """Zero."""
        return jtu.tree_map(jnp.zeros_like, y)

    def vf_prod(self, t: RealScalarLike, y: State, args: Args, control: Any) -> State:
        """Zero."""
        return jtu.tree_map(jnp.zeros_like, y)


class GridNoise(dfx.AbstractBrownianPath):
    """Brownian increments over whole steps: fresh normals for the i-th, from `fold_in(key, i)`.

    What `diffrax.UnsafeBrownianPath` does, but it may be differentiated through: a checkpointed step that runs
    again draws the same noise, bit for bit. Steps that are rejected or halved need a `diffrax.VirtualBrownianTree`.

    Attributes:
        key: the solve's, where there is a grid; else that of the one step.
        shape: the state's shapes and dtypes.
        levy_area: the Brownian information that the solver asks for.
        clock: what physical time passes.
        grid: the readings of the solver's clock between which the steps lie. The index of a step is that of its start.
    """

    key: Key
    shape: Any = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)
    clock: Clock | WarpedClock
    grid: Float[Array, " readings"] | None = None
    t0: Any = eqx.field(static=True, default=-math.inf)
    t1: Any = eqx.field(static=True, default=math.inf)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """W(t1) - W(t0), with the space-time Lévy areas that the solver needs (diffrax's H and K)."""
        key = self.key
        if self.grid is not None:
            key = jr.fold_in(key, jnp.argmin(jnp.abs(self.grid - jnp.asarray(t0, self.grid.dtype))))
        leaves, tree = jtu.tree_flatten(self.shape)
        dt = self.clock.elapsed(t0, t1)

        kinds = 1 + (issubclass(self.levy_area, dfx.AbstractSpaceTimeLevyArea) and use_levy)
        only = len(leaves) == 1 and kinds == 1  # one draw takes the step's key: a second hash costs as much as the draw

        def normals(index: int, std: float) -> State:
            draws = [
                per_sample((std * jnp.sqrt(dt)).astype(leaf.dtype), len(leaf.shape))
                * jr.normal(key if only else jr.fold_in(key, index * len(leaves) + i), leaf.shape, leaf.dtype)
                for i, leaf in enumerate(leaves)
            ]
            return jtu.tree_unflatten(tree, draws)

        w = normals(0, 1.0)
        if not use_levy:
            return w
        # Variances of the Lévy areas over a unit step: 1/12 and 1/720 (Foster et al., arXiv:2210.17543).
        levy = {}
        if self.levy_area in (dfx.SpaceTimeLevyArea, dfx.SpaceTimeTimeLevyArea):
            levy["H"] = normals(1, 12**-0.5)
        if self.levy_area is dfx.SpaceTimeTimeLevyArea:
            levy["K"] = normals(2, 720**-0.5)
        return self.levy_area(dt=jtu.tree_map(lambda leaf: dt.astype(leaf.dtype), self.shape), W=w, **levy)


def _noise_term(diffusion: Diffusion, clock: Any, path: dfx.AbstractBrownianPath, batched: bool) -> Any:
    def vector_field(t: RealScalarLike, y: State, args: Args) -> lx.AbstractLinearOperator:
        # Diagonal and independent of y, which is what the additive-noise solvers check for.
        shapes = jax.eval_shape(lambda y: y, y)
        ones = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
        like = over_samples(diffusion.like, args, clock(t), ones) if batched else diffusion.like(clock(t), ones, args)
        return lx.DiagonalLinearOperator(like)

    return dfx.ControlTerm(vector_field, path)


def lower(
    equation: AbstractDrift | SDE,
    clock: Clock | WarpedClock,
    solver: dfx.AbstractSolver,
    path: dfx.AbstractBrownianPath | None = None,
) -> Any:
    """The diffrax terms of an equation on batched states, for this solver.

    Args:
        equation: a drift, or an `SDE`.
        clock: what physical time the callables see.
        solver: the diffrax solver that will take the terms.
        path: the Brownian path on the solver's clock; needed where the equation is an `SDE`.

    Returns:
        A diffrax term.
    """
    can, steps = abilities(solver), step_drifts(equation)
    if steps and not can.one_increment:
        raise steps[0].no_rate()
    if can.own_clock and (isinstance(clock, WarpedClock) or clock.span is not None):
        own = (
            ""
            if steps_as_diffrax(solver)
            else (
                "; or let your own multiply rates by `terms.contr(t0, t1)`, the time that passes for each sample, and "
                "not by `t1 - t0`: `y0 + terms.vf_prod(t0, y0, args, terms.contr(t0, t1))`"
            )
        )
        raise TypeError(
            f"`{type(solver).__name__}` takes one time for all samples, and here each has times of its own "
            "(`FreshPaths`, or windows on an uneven grid): use `diffrax.Euler()`, `diffrax.Heun()` or "
            f"`sx.ExponentialHeun()`{own}."
        )
    made = _made(equation, clock, path, batched=True)
    return dfx.MultiTerm(ZeroTerm(made.drift, clock, batched=True), made) if can.two_drifts else made


def _made(equation: Any, clock: Any, path: Any, *, batched: bool) -> Any:
    if isinstance(equation, SDE):
        drift = DriftTerm(equation.drift, clock, batched)
        return dfx.MultiTerm(drift, _noise_term(equation.diffusion, clock, path, batched))
    return DriftTerm(equation, clock, batched)


def terms(
    equation: AbstractDrift | SDE, t0: RealScalarLike, path: dfx.AbstractBrownianPath | None = None
) -> dfx.AbstractTerm:
    """The diffrax terms of an equation, for one state, in a `diffrax.diffeqsolve` of your own.

    The solver's clock τ starts at 0 and only grows; the equation's callables see the physical time, t0 + τ where the
    equation runs forward and t0 - τ where it runs in reverse. So solve from τ = 0 to τ = |t1 - t0|, with any solver,
    controller, event, adjoint or `SaveAt`; many states at once by `jax.vmap`. `solve` is this, batched and checked.
    Implicit-explicit solvers (`diffrax.KenCarp3`, `KenCarp4`, `KenCarp5`, `Sil3`) want a pair:
    `diffrax.MultiTerm(terms(explicit, t0), terms(implicit, t0))` of two drifts whose sum is the equation.

    Args:
        equation: a drift, or an `SDE`.
        t0: the physical time at which the solve starts: T for a reverse equation.
        path: a Brownian path on the clock τ, shaped like the state: `diffrax.VirtualBrownianTree(0.0, T, tol, shape,
            key)`. Needed by an `SDE`, refused without noise.

    Returns:
        A term for ODE solvers; for an `SDE` a `diffrax.MultiTerm` of drift and noise. The noise is diagonal and does
        not depend on the state, so solvers for additive noise take it.

    Raises:
        TypeError: what is no equation.
        ValueError: an `SDE` without a path, or a path without noise.

    >>> import diffrax as dfx, jax.numpy as jnp, smdpx as sx
    >>> P = sx.Drift(lambda t, x, args: -x)
    >>> solution = dfx.diffeqsolve(sx.terms(-P, 1.0), dfx.Tsit5(), 0.0, 1.0, 0.01, jnp.ones(2))
    >>> [f"{x:.3f}" for x in solution.ys[0]]
    ['2.718', '2.718']
    """
    if not isinstance(equation, AbstractDrift | SDE):
        raise TypeError(f"`terms` needs an equation such as `-P + s`; got {type(equation).__name__}.")
    if isinstance(equation, SDE) and path is None:
        raise ValueError(
            f"`{equation}` has noise: give `terms` a Brownian path on the clock τ, such as "
            "`diffrax.VirtualBrownianTree(0.0, T, 1e-3, shape, key)`."
        )
    if not isinstance(equation, SDE) and path is not None:
        raise ValueError(f"`{equation}` has no noise, so `path` would be ignored: drop it, or write `... + g`.")
    return _made(equation, Clock(jnp.asarray(t0, float), sign_of(equation)), path, batched=False)


def sign_of(equation: AbstractDrift | SDE) -> int:
    """+1 where physical time grows with the solver's clock, -1 where it falls."""
    return 1 if equation.direction is Forward else -1
