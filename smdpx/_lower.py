"""Equation -> diffrax terms: the one place where time is reversed and a Brownian path is chosen.

diffrax integrates a clock τ that only ever grows; the terms hand every callable the physical time

    t = start + τ   (forward)        t = start - τ   (reverse)

Negative steps are never taken: diffrax's stochastic Runge-Kutta solvers are wrong on them (diffrax
issue 598). States carry a leading sample axis and the drifts are vmapped inside the one solve, which
costs half of a vmapped solve; `start` may differ from sample to sample, so that windows of
trajectories that begin at different times share one τ grid.
"""

import math
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Float

from ._diffusion import Diffusion
from ._equation import SDE, AbstractDrift, Forward
from ._step import step_drifts
from ._types import Args, Key, RealScalarLike, State

__all__ = ["Clock", "GridNoise", "Steps", "WarpedClock", "levy_area", "lower"]


# Solvers that ask a drift for one increment a step, from the step's start, and for nothing else.
_ONE_INCREMENT = (dfx.Euler, dfx.EulerHeun, dfx.ItoMilstein, dfx.StratonovichMilstein)


# Solvers that multiply by the solver's own step, and not by the physical time that passes for each sample.
_ON_ONE_CLOCK = (dfx.AbstractSRK, dfx.EulerHeun, dfx.ItoMilstein, dfx.StratonovichMilstein)


class Clock(eqx.Module):
    """The solver's clock τ ≥ 0 and the physical time t = start ± τ that the callables see."""

    start: Float[Array, "*samples"]
    sign: int = eqx.field(static=True)

    def __call__(self, tau: RealScalarLike) -> Float[Array, "*samples"]:
        """The physical time: a scalar, or one per sample."""
        return self.start + self.sign * jnp.asarray(tau)

    def elapsed(self, tau0: RealScalarLike, tau1: RealScalarLike) -> Float[Array, "*samples"]:
        """The physical time between two readings: a scalar."""
        return jnp.asarray(tau1) - jnp.asarray(tau0)


class WarpedClock(eqx.Module):
    """A clock for windows on uneven grids: τ counts steps, and each sample has times of its own.

    Solvers that multiply the rate by the term's control (Runge-Kutta, Euler) are exact on it, since the
    control is the physical time that passed; those that use τ itself (stochastic Runge-Kutta) are refused.
    """

    times: Float[Array, "steps samples"]

    def __call__(self, tau: RealScalarLike) -> Float[Array, " samples"]:
        """The physical times at τ, linear between the grid's."""
        tau = jnp.asarray(tau)
        index = jnp.clip(jnp.floor(tau).astype(jnp.int32), 0, self.times.shape[0] - 2)
        fraction = tau - index.astype(self.times.dtype)
        return (1 - fraction) * self.times[index] + fraction * self.times[index + 1]

    def elapsed(self, tau0: RealScalarLike, tau1: RealScalarLike) -> Float[Array, " samples"]:
        """The physical time between two readings, one per sample."""
        return jnp.abs(self(tau1) - self(tau0))


def _per_sample(x: Array, ndim: int) -> Array:
    """A scalar or a vector over samples, made to multiply an array of `ndim` axes, the samples in front."""
    return x if x.ndim == 0 else x.reshape(x.shape + (1,) * (ndim - 1))


def over_samples(f: Callable[..., Any], t: Array, *args: Any) -> Any:
    """f(t, *args) vmapped over the samples in args, and over t where it has one per sample."""
    return jax.vmap(f, in_axes=(None if t.ndim == 0 else 0,) + (0,) * len(args))(t, *args)


class Steps(dfx.StepTo):
    """Fixed steps on the solver's clock. `StepTo` without its run-time checks, a callback each call.

    The grid comes from times that were checked on the host, and τ grows by construction; the checks are a
    callback in every call, which a small network's one-step loss feels (diffrax issue 592).
    """

    def wrap(self, direction: Any) -> "Steps":
        """Itself: τ grows."""
        return self

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any) -> Any:
        """The first step's end, and the index of the second's."""
        return self.ts[1], 2


class DriftTerm(dfx.AbstractTerm):
    """A drift as a diffrax term; its control is the physical time that passes."""

    drift: AbstractDrift
    clock: Clock | WarpedClock

    def vf(self, t: RealScalarLike, y: State, args: Args) -> State:
        """The rate at the physical time, over the samples."""
        if step_drifts(self.drift):
            # diffrax asks for the shape of the rate before it solves; `lower` refused whoever uses its value.
            return jtu.tree_map(lambda leaf: jnp.full_like(leaf, jnp.nan), y)
        return over_samples(lambda t, x: self.drift.rate(t, x, args), self.clock(t), y)

    def contr(self, t0: RealScalarLike, t1: RealScalarLike, **kwargs: Any) -> Any:
        """The physical time that passes: a scalar, or one per sample on a warped clock."""
        return self.clock.elapsed(t0, t1)

    def prod(self, vf: State, control: Any) -> State:
        """Rate times time."""
        return jtu.tree_map(lambda v: _per_sample(jnp.asarray(control).astype(v.dtype), v.ndim) * v, vf)

    def vf_prod(self, t: RealScalarLike, y: State, args: Args, control: Any) -> State:
        """The increment over the step: a step drift takes exactly one step of its own here."""
        now, dt = self.clock(t), jnp.asarray(control)
        axes = (None if now.ndim == 0 else 0, 0, None if dt.ndim == 0 else 0)
        return jax.vmap(lambda t, x, dt: self.drift.increment(t, x, dt, args), in_axes=axes)(now, y, dt)


class ZeroTerm(DriftTerm):
    """No drift at all: the explicit half of an implicit-explicit solver that is given one drift."""

    def vf(self, t: RealScalarLike, y: State, args: Args) -> State:
        """Zero."""
        return jtu.tree_map(jnp.zeros_like, y)

    def vf_prod(self, t: RealScalarLike, y: State, args: Args, control: Any) -> State:
        """Zero."""
        return jtu.tree_map(jnp.zeros_like, y)


class GridNoise(dfx.AbstractBrownianPath):
    """Brownian increments on a fixed grid of steps: a fresh normal for each step, found by its start.

    What `diffrax.UnsafeBrownianPath` does, but it may be differentiated through: the steps are the grid's
    own numbers, so a checkpointed step that runs again draws the same noise, bit for bit. Adaptive
    steps, which reject and halve, need a `diffrax.VirtualBrownianTree`.
    """

    key: Key
    shape: Any = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)
    clock: Clock | WarpedClock
    t0: Any = eqx.field(static=True, default=-math.inf)
    t1: Any = eqx.field(static=True, default=math.inf)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """W(t1) - W(t0), with the space-time Lévy areas that the solver needs (diffrax's H and K)."""
        t0 = jnp.asarray(t0)
        key = self.key
        for bits in jnp.atleast_1d(jax.lax.bitcast_convert_type(t0, jnp.uint32)):  # one word, in x64 two
            key = jr.fold_in(key, bits)
        leaves, tree = jtu.tree_flatten(self.shape)
        dt = self.clock.elapsed(t0, t1)

        def normals(index: int, std: float) -> State:
            draws = [
                _per_sample((std * jnp.sqrt(dt)).astype(leaf.dtype), len(leaf.shape))
                * jr.normal(jr.fold_in(key, index * len(leaves) + i), leaf.shape, leaf.dtype)
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


def levy_area(solver: dfx.AbstractSolver) -> Any:
    """The least Brownian information that the solver's steps ask for."""
    least = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
    if issubclass(least, dfx.AbstractSpaceTimeTimeLevyArea):
        return dfx.SpaceTimeTimeLevyArea
    return dfx.SpaceTimeLevyArea if issubclass(least, dfx.AbstractSpaceTimeLevyArea) else dfx.BrownianIncrement


def _noise_term(diffusion: Diffusion, clock: Clock | WarpedClock, path: dfx.AbstractBrownianPath) -> Any:
    def vector_field(t: RealScalarLike, y: State, args: Args) -> lx.AbstractLinearOperator:
        # Diagonal and independent of y, which is what the additive-noise solvers check for.
        shapes = jax.eval_shape(lambda y: y, y)
        ones = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
        return lx.DiagonalLinearOperator(over_samples(diffusion.like, clock(t), ones))

    return dfx.ControlTerm(vector_field, path)


def lower(
    equation: AbstractDrift | SDE,
    clock: Clock | WarpedClock,
    solver: dfx.AbstractSolver,
    path: dfx.AbstractBrownianPath | None = None,
) -> Any:
    """The diffrax terms of an equation on batched states, for this solver.

    Arguments:
        equation: a drift, or an `SDE`.
        clock: what physical time the callables see.
        solver: the diffrax solver that will take the terms.
        path: the Brownian path on the solver's clock; needed where the equation is an `SDE`.

    Returns:
        A diffrax term.
    """
    steps = step_drifts(equation)
    if steps and not isinstance(solver, _ONE_INCREMENT):
        raise steps[0].no_rate()
    if isinstance(clock, WarpedClock) and isinstance(solver, _ON_ONE_CLOCK):
        raise TypeError(
            f"`{type(solver).__name__}` takes one time for all samples, and here each has times of its own "
            "(`FreshPaths`, or windows on an uneven grid): use `diffrax.Euler()`, `diffrax.Heun()` or "
            "`sx.ExponentialEuler()`."
        )
    if isinstance(equation, SDE):
        assert path is not None
        return dfx.MultiTerm(DriftTerm(equation.drift, clock), _noise_term(equation.diffusion, clock, path))
    drift = DriftTerm(equation, clock)
    if isinstance(solver, dfx.KenCarp3 | dfx.KenCarp4 | dfx.KenCarp5 | dfx.Sil3):
        return dfx.MultiTerm(ZeroTerm(equation, clock), drift)
    return drift


def sign_of(equation: AbstractDrift | SDE) -> int:
    """+1 where physical time grows with the solver's clock, -1 where it falls."""
    return 1 if equation.direction is Forward else -1
