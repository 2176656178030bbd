"""The score regressed on the score of the simulator's own step: the process's, with no scheme in it.

    L = mean |√Δt Nᵀ s(t₁, x₁) - ∇_y log p(y₁ | x₀)|²,    y = N⁻¹x/√Δt                      (Vincent 2011)

over neighbours x₀, x₁ of trajectories that the library simulated; N is what multiplies a step's noise (`_transition`).
"""

import functools
import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ..._types import Args, Key, State
from ...equation._algebra import SDE, AbstractDrift, Forward
from ...equation._conditions import map_rows
from ...equation._drift import step_drifts
from ...equation._score import Score, scores
from ...solving._default_solver import solver_of
from ...solving._numbers import in_one_precision
from ...solving._solvers import abilities
from ...solving._terms import over_samples
from ...solving._validate import is_concrete, levels_to_user, widest
from .._windows import Windows
from ._abstract import AbstractLoss
from ._transition import KNOWN, Step, noise_of, total, transition_score

__all__ = ["TransitionLoss", "over_pairs", "process_of"]

# What of the noise is not found again, in deviations, above which steps are called too coarse.
_COARSE = 0.03
# Steps whose noise is looked at.
_FEWEST = 64


class TransitionLoss(AbstractLoss):
    """Denoising score matching with the simulator's own transition, x₀ → x₁ (Vincent 2011, of each single step).

    The score at (t₁, x₁) is regressed on ∇ log p(x₁ | x₀), the score of one step of the forward process. The minimiser
    is ∇ log p_t of the simulated process itself, with no error of a scheme to repair: every solver may use it
    afterwards. It takes one evaluation of the network a state, no unroll, no derivative through it, and no reverse
    physics: `-P + 2*s`, `-P + s` and `P - s` train the same score, and physics is what stands beside the score.

    For trajectories that this library simulated (`simulate`, `FreshPaths`), one step between neighbours. Data of
    another origin, or thinned, have no such transition: `WindowLoss` is for them.

    - `diffrax.Euler()` of rates and of simulators' steps: exact, no derivative of the physics.
    - `sx.ExponentialEuler()`: exact, mode by mode, where g is the same along the basis.
    - `diffrax.Heun()`, `Midpoint()`, `Ralston()`, `sx.ExponentialHeun()`: to second order in Δt, with the derivative of
      the physics; first order where noise reaches components that have none of their own. Needs ½Δt‖∂P/∂x‖, of what is
      not stated as stiff, well below 1.

    Errors count in units of the step's noise, each component or mode in its own, so that a perfect loss is just below
    1 on any problem. Components without noise are left out. All neighbours in a window count; `Stage(window=2)` is
    enough.

    Args:
        solver: the solver that the trajectories were simulated with. Default: that of `simulate`, which the forward
            process decides.

    >>> import diffrax as dfx, jax, jax.numpy as jnp, smdpx as sx
    >>> k = jax.random.split(jax.random.key(0), 4)
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    >>> x0 = jax.random.normal(k[0], (64,))
    >>> paths = sx.simulate(P + g, x0, jnp.linspace(0.0, 1.0, 11), key=k[1], solver=dfx.Heun())
    >>> s = sx.Score(sx.nn.MLP(key=k[2]), g)
    >>> loss = sx.TransitionLoss(solver=dfx.Heun())
    >>> s = sx.fit(-P + 2 * s, paths, key=k[3], loss=loss, curriculum=[sx.Stage(updates=10)])
    """

    solver: dfx.AbstractSolver | None = None

    def check(self, equation: AbstractDrift | SDE) -> None:
        """Raise where the equation does not hold the forward process, or the solver's transition is not known.

        Raises:
            TypeError: not one score, no forward physics beside it, or a solver without a known transition.
        """
        process = process_of(equation)
        solver = self._solver(process)
        if type(solver) not in KNOWN:
            raise TypeError(
                f"`TransitionLoss` does not know the transition of `{type(solver).__name__}`, whose steps are no "
                "function of one Brownian increment that it could find again: simulate with `diffrax.Heun()` (or "
                "`Midpoint`, `Ralston`, `Euler`, `sx.ExponentialHeun`) and say so, `TransitionLoss(solver=...)`; or "
                "use `WindowLoss`, which takes trajectories of any solver."
            )
        steps = step_drifts(process)
        if steps and not abilities(solver).one_increment:
            raise steps[0].no_rate()

    def check_data(self, equation: AbstractDrift | SDE, paths: Any, stages: Sequence[Any]) -> None:
        """Raise where neighbours in a window are not one step apart, or warn where steps are none of this process's.

        Raises:
            ValueError: a stride other than 1, or steps so coarse that their noise cannot be found again.
        """
        for stage in stages:
            if stage.stride != 1:
                raise ValueError(
                    f"`TransitionLoss` needs neighbours that are one step of the simulator apart; `Stage(stride="
                    f"{stage.stride})` skips some. Write `Stage(window=2)`, or use `WindowLoss`."
                )
        if not is_concrete(equation, paths):
            return
        # Of a few steps a variance cannot be told from 1, nor its own error.
        batch = stages[0].batch * math.ceil(_FEWEST / stages[0].batch)
        variance, error, left = _noise_of_data(self, equation, paths.source([1]), batch)
        name = type(self._solver(process_of(equation))).__name__
        if not float(left) < _COARSE:
            raise ValueError(
                f"`TransitionLoss` cannot find the noise of steps as coarse as these of `{name}` again: "
                f"{float(left):.2g} of it is left over. Simulate with smaller steps (½Δt‖∂P/∂x‖ well below 1), or with "
                "`diffrax.Euler()` or `sx.ExponentialEuler()`, whose transitions are exact; or use `WindowLoss`."
            )
        found, spread = (np.concatenate([np.ravel(leaf) for leaf in jtu.tree_leaves(x)]) for x in (variance, error))
        wrong = found[np.abs(found - 1) > np.maximum(0.5, 6 * spread)]
        if wrong.size:
            warnings.warn(
                f"The noise of these trajectories, found as that of single steps of `{name}`, has variance "
                f"{wrong[0]:.3g} where it should have 1 (in {wrong.size} components): they are not steps of "
                f"`{process_of(equation)}`. Give `TransitionLoss(solver=...)` the solver that made them, `Score` the "
                "noise; trajectories that are thinned, measured or of another program are for `WindowLoss`.",
                stacklevel=levels_to_user(),
            )

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """Mean squared error of the score, in units of each step's noise, over noisy components and neighbours."""
        score = scores(equation)[0][1]

        def of_pair(step: Step, x1: State, key: Key) -> Array:
            target = jax.lax.stop_gradient(transition_score(step, key))
            s = step.of_score(_value(score, step.t + step.dt, x1, step.dt, step.args))
            squares = jtu.tree_map(lambda a, b: jnp.square(a - b), s, target)
            return total(squares) / jnp.maximum(total(step.noisy()), 1)

        process = process_of(equation)
        return jnp.mean(over_pairs(of_pair, process, self._solver(process), windows, key, args))

    def _solver(self, process: SDE) -> dfx.AbstractSolver:
        return solver_of(process, self.solver)


@eqx.filter_jit
def _noise_of_data(loss: TransitionLoss, equation: Any, source: Any, batch: int) -> tuple[State, State, Array]:
    """Of a batch of steps: each component's mean square of the noise, its standard error, and what was not found."""
    windows, args = source.draw(size=2, stride=1, batch=batch, key=jr.key(0))

    def of_pair(step: Step, x1: State, key: Key) -> Any:
        xi = noise_of(step)
        left = jnp.zeros_like(step.dt) if step.affine else total(jtu.tree_map(jnp.square, step.left(xi)))
        return xi, step.noisy(), left / jnp.maximum(total(step.noisy()), 1)

    process = process_of(equation)
    xi, noisy, left = over_pairs(of_pair, process, loss._solver(process), windows, jr.key(0), args)
    count = jtu.tree_map(lambda mask: jnp.sum(mask, axis=0), noisy)

    def mean(x: State) -> State:
        return jtu.tree_map(lambda x, m, n: jnp.sum(m * x, axis=0) / jnp.maximum(n, 1), x, noisy, count)

    variance = mean(jtu.tree_map(jnp.square, xi))
    spread = mean(jtu.tree_map(lambda x, v: (x**2 - v[None]) ** 2, xi, variance))
    error = jtu.tree_map(lambda s, n: jnp.sqrt(s / jnp.maximum(n, 1)), spread, count)
    return jtu.tree_map(lambda v, n: jnp.where(n > 0, v, 1), variance, count), error, jnp.sqrt(jnp.mean(left))


def over_pairs(f: Any, process: SDE, solver: dfx.AbstractSolver, windows: Windows, key: Key, args: Args) -> Any:
    """f(step, x1, key) of each two neighbours; x1 is the later state, each array in its own precision."""
    pairs, dtype = windows.t.shape[1] - 1, widest(windows.x)
    flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])  # noqa: E731
    x0, x1 = (jtu.tree_map(lambda leaf, cut=cut: flat(leaf[:, cut]), windows.x) for cut in (np.s_[:-1], np.s_[1:]))
    t, dt = windows.t[:, :-1], jnp.asarray(windows.durations(), dtype)
    t, dt = flat(t), flat(jnp.broadcast_to(dt, t.shape))
    args = map_rows(lambda leaf: jnp.repeat(leaf, pairs, axis=0), args)
    process, x0, _ = in_one_precision(process, x0)

    def of_one(t: Array, dt: Array, x0: State, x1: State, key: Key, args: Args) -> Any:
        wide = jtu.tree_map(lambda leaf: leaf.astype(dtype), x1)
        return f(Step(process, solver, t, dt, x0, wide, args), x1, key)

    return over_samples(of_one, args, t, dt, x0, x1, jr.split(key, len(t)))


def process_of(equation: AbstractDrift | SDE) -> SDE[Forward]:
    """The forward process that an equation with a score belongs to: its physics, run forward, and the score's noise."""
    found = scores(equation)
    if len(found) != 1:
        raise TypeError(f"`TransitionLoss` trains one score; `{equation}` has {len(found)}. Write `-P + 2*s`.")
    physics = [term for term in equation.summands if not term.drift.is_score]
    if not physics or any(term.drift.direction is not Forward for term in physics):
        raise TypeError(
            f"`TransitionLoss` needs the process that made the trajectories, and `{equation}` does not hold its "
            "forward physics: train `-P + 2*s` (or `P - s`, if it is not stated how P runs backwards), with the P that "
            "they were simulated with; pure noise is `P = sx.Drift(lambda t, x, args: 0 * x)`."
        )
    forward: list[Any] = [term if term.direction is Forward else -term for term in physics]
    return functools.reduce(operator.add, forward) + found[0][1].g


def _value(score: Score, t: Array, x: State, dt: Array, args: Args) -> State:
    """∇ log p of one sample; where it is counted from a simulator's step, which has no rate, over the interval dt."""
    if score.around is None or not step_drifts(score.around):
        return score(t, x, args)
    change = score.increment(t, x, dt, args)  # ½g²Δt ∇log p
    double = lambda g, c: jnp.where(g != 0, 2 * c / jnp.where(g != 0, g**2 * dt.astype(c.dtype), 1), 0)  # noqa: E731
    return jtu.tree_map(double, score.g.like(t, x, args), change)
