"""Denoising with the simulator's own step: the score of the process, with no unroll and no scheme in it.

    x₁ = Φ(x₀, ΔW),    ∇ log p_{t₁}(x₁) = E[∇_{x₁} log p(x₁ | x₀) | x₁]                  (Vincent 2011)

What one step does with its noise is known, so the noise is found again from both ends, and with it the transition's
score. In units of the step's noise, y = N⁻¹x/√Δt and ξ = ΔW/√Δt, where Φ ≈ m(x₀) + N ΔW:

    ∇_y log p(y₁ | x₀) = -M⁻ᵀ(ξ + ∇ log det M),    M = ∂y₁/∂ξ

    Euler           N = g                       M = 1: exact, of rates and of simulators' steps
    exponential     N = B⁻¹ √φ₁(2ΔtL) B g       M = 1: exact, mode by mode of the stated linear part L
    Runge-Kutta     N = Σ bᵢ g(tᵢ)              M = 1 + ½Δt ∂P/∂x + ...: to second order in Δt

M is never formed: ξ and M⁻ᵀv come from a few sweeps y₁ - y₁(ξ) and v - Mᵀv, and ∇ log det M, which vanishes unless the
divergence of P varies, from the trace of M - 1 on one random sign a component.
"""

import functools
import operator
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ..._types import Args, Key, State
from ...equation._algebra import SDE
from ...equation._linear import linear_parts
from ...equation._phi import phi1
from ...solving._exponential import ExponentialEuler, ExponentialHeun
from ...solving._stages import moved
from ...solving._terms import StepTimes
from ...solving._validate import says_no_derivative

__all__ = ["KNOWN", "Step", "noise_of", "total", "transition_score"]

# Each sweep leaves ½Δt‖∂P/∂x‖ of the error: far below that of the simulator, whose own is as large after two.
_SWEEPS = 3
# The solvers whose steps are known as functions of one Brownian increment: others draw Lévy areas too, and a subclass
# may step otherwise.
_AFFINE = (dfx.Euler, ExponentialEuler)
_EXPONENTIAL = (ExponentialEuler, ExponentialHeun)
KNOWN = (*_AFFINE, dfx.Heun, dfx.Midpoint, dfx.Ralston, ExponentialHeun)


class Step(eqx.Module):
    """One step of the simulator, x0 to x1, in units of its noise: y = N⁻¹x/√Δt.

    Attributes:
        process: the forward process.
        solver: what it was simulated with.
        t: the time at x0.
        dt: the step.
        x0: the state at t.
        x1: the state at t + dt.
        args: the sample's own.
    """

    process: SDE
    solver: dfx.AbstractSolver
    t: Float[Array, ""]
    dt: Float[Array, ""]
    x0: State
    x1: State
    args: Args

    @property
    def affine(self) -> bool:
        """Whether it ends in m(x₀) + N ΔW."""
        return isinstance(self.solver, _AFFINE)

    def left(self, xi: State) -> State:
        """y₁ - y₁(ξ): what is left over by a step with this noise."""
        kick = jtu.tree_map(lambda leaf: jnp.sqrt(self.dt) * leaf, xi)
        left_over = self._modes(jtu.tree_map(jnp.subtract, self.x1, self.end(kick)), -0.5)
        unit = lambda g: jnp.where(g != 0, jnp.sqrt(self.dt) * g, 1)  # noqa: E731
        return jtu.tree_map(lambda d, g: jnp.where(g != 0, d / unit(g), 0), left_over, self.spread())

    def of_score(self, s: State) -> State:
        """∇_y log p = √Δt Nᵀ ∇ₓ log p, of a score in any precision."""
        s = self._modes(jtu.tree_map(lambda leaf: leaf.astype(self.dt.dtype), s), 0.5)
        return jtu.tree_map(lambda s, g: jnp.where(g != 0, jnp.sqrt(self.dt) * g * s, 0), s, self.spread())

    def spread(self) -> State:
        """What multiplies each component's increment of noise: g, or its mean over the stages."""
        _, b, c = _stages(self.solver)
        each = [self._noise(c, jtu.tree_map(jnp.ones_like, self.x0)) for c in c]
        return jtu.tree_map(lambda *g: sum(b * g for b, g in zip(b, g, strict=True)), *each)

    def noisy(self) -> State:
        """1 in components with noise, 0 elsewhere."""
        return jtu.tree_map(lambda g: (g != 0).astype(g.dtype), self.spread())

    def _noise(self, c: float, kick: State) -> State:
        g = self.process.diffusion.like(self.t + c * self.dt, self.x0, self.args)
        return jtu.tree_map(jnp.multiply, g, kick)

    def kick(self, xi: State) -> State:
        """What a noise of ξ deviations adds to the end of an affine step, N√Δt ξ."""
        return self._modes(jtu.tree_map(lambda xi, g: jnp.sqrt(self.dt) * g * xi, xi, self.spread()), 0.5)

    def end(self, kick: State) -> State:
        """Where a step with this increment of noise ends, as the solver takes it."""
        drift, t, dt, x0, args = self.process.drift, self.t, self.dt, self.x0, self.args
        if isinstance(self.solver, _EXPONENTIAL):
            times = StepTimes(t, t + dt / 2, t + dt)
            change = self.solver.change(drift, times, x0, dt, self._noise(0.5, kick), args)
            return jtu.tree_map(jnp.add, x0, change)
        a, b, c = _stages(self.solver)
        changes: list[State] = []
        for row, when in zip(a, c, strict=True):
            change = drift.increment(t + when * dt, moved(x0, row, changes), dt, args)
            changes.append(jtu.tree_map(jnp.add, change, self._noise(when, kick)))
        return moved(x0, b, changes)

    def _modes(self, x: State, power: float) -> State:
        """φ₁(2ΔtL)ᵖ x; x itself, where the solver knows no linear part."""
        if not isinstance(self.solver, _EXPONENTIAL):
            return x
        parts = linear_parts(self.process.drift.linear(self.t + self.dt / 2, self.args), x)
        power_of = lambda rates: phi1(2 * self.dt.astype(rates.dtype) * rates) ** power  # noqa: E731
        leaves, tree = jtu.tree_flatten(x)
        return jtu.tree_unflatten(tree, [L.function(power_of, leaf) for L, leaf in zip(parts, leaves, strict=True)])


def _stages(solver: Any) -> tuple[list[list[float]], list[float], list[float]]:
    """A solver's tableau: weights of the stages before each stage, of all at the end, and when they are."""
    if isinstance(solver, _EXPONENTIAL):  # they take their noise from the middle of the step
        return [[]], [1.0], [0.5]
    if isinstance(solver, dfx.Euler):
        return [[]], [1.0], [0.0]
    tableau = solver.tableau
    return [[], *(row.tolist() for row in tableau.a_lower)], tableau.b_sol.tolist(), [0.0, *tableau.c.tolist()]


def noise_of(step: Step) -> State:
    """ξ, the noise of the step in deviations, found from its two ends."""
    xi = step.left(jtu.tree_map(jnp.zeros_like, step.x1))
    for _ in range(0 if step.affine else _SWEEPS):
        xi = jtu.tree_map(jnp.add, xi, step.left(xi))
    return xi


def transition_score(step: Step, key: Key) -> State:
    """∇_y log p(y₁ | x₀)."""
    xi = noise_of(step)
    if step.affine:
        return jtu.tree_map(jnp.negative, xi)
    leaves, tree = jtu.tree_flatten(step.noisy())
    signs = [g * jr.rademacher(k, g.shape, g.dtype) for k, g in zip(jr.split(key, len(leaves)), leaves, strict=True)]
    signs = jtu.tree_unflatten(tree, signs)

    def trace(xi: State) -> Array:
        """That of M, up to its sign and estimated."""
        return total(jtu.tree_map(jnp.multiply, signs, jax.jvp(step.left, (xi,), (signs,))[1]))

    try:
        _, pull = jax.vjp(step.left, xi)
        v = jtu.tree_map(jnp.subtract, xi, jax.grad(trace)(xi))
        u = v
        for _ in range(_SWEEPS):
            u = jtu.tree_map(lambda u, v, p: u + v + p, u, v, pull(u)[0])
    except (NotImplementedError, ValueError) as error:
        if not says_no_derivative(error):
            raise
        raise TypeError(
            f"`{step.process}` has a part that JAX cannot differentiate (code behind `jax.pure_callback`, say), and "
            f"the transition of `{type(step.solver).__name__}` needs its derivative: simulate with `diffrax.Euler()`, "
            "whose transition needs none, or give the part a derivative by `jax.custom_jvp` or `jax.custom_vjp`."
        ) from error
    return jtu.tree_map(jnp.negative, u)


def total(x: State) -> Float[Array, ""]:
    """The sum over all components."""
    return functools.reduce(operator.add, [jnp.sum(leaf) for leaf in jtu.tree_leaves(x)])
