"""The losses of the paper: windows unrolled by the equation and compared with the trajectories.

    L = mean_j w_j |x̂_j - x_j|² / (g²Δt),  x̂ the unroll from the window's end          (arXiv:2301.10250, eqs 3-5)

Each component's error counts in units of its own noise of one step, g²Δt, so that a perfect one-step loss is about 1 on
any problem, no component outweighs another, and Adam's ε, 1e-8, is small beside the gradients.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ..._types import Args, Key
from ...equation._algebra import SDE, AbstractDrift
from ...equation._score import scores
from ...solving._default_solver import solver_of
from ...solving._options import check_object, check_unrolls
from ...solving._solve import unroll
from ...solving._solvers import abilities
from ...solving._terms import over_samples, per_sample, sign_of
from ...solving._validate import says_no_derivative, widest
from .._windows import Windows, first, last
from ._abstract import AbstractLoss

__all__ = ["TwoWayLoss", "WindowLoss"]


class WindowLoss(AbstractLoss):
    """Squared error of the unrolled equation against the window (arXiv:2301.10250, eqs 3-5).

    A window of two states is the one-step loss, eq 3: trained backwards, its exact minimiser is the drift
    with coefficient 2, so it trains `-P + 2*s`. Longer windows accumulate the error of several steps.
    With an SDE (`-P + 2*s + g`) the unroll is noisy.

    Attributes:
        weights: the weight of the state j steps from where the unroll starts, `weights(j)` for j = 1, 2, ...;
            default: equal weights.
        solver: the diffrax solver of the unroll. Default: as `solve`, `diffrax.Heun()` where drifts have rates, so that
            the score is the process's own, and every solver of second order agrees; through `diffrax.Euler()` it
            repairs Euler's error too, and belongs to that method.
        adjoint: a diffrax adjoint, such as `diffrax.RecursiveCheckpointAdjoint()`, which keeps few states and fits long
            windows of fields into memory. Default: a scan that keeps what its steps computed, or, for long windows of
            small states, runs them again, whichever is faster.
    """

    coefficient: ClassVar[int | None] = 2
    in_noise: ClassVar[bool] = True

    weights: Callable[[Any], Any] | None = None
    solver: dfx.AbstractSolver | None = None
    adjoint: dfx.AbstractAdjoint | None = None

    def __check_init__(self) -> None:
        if self.weights is not None and not callable(self.weights):
            raise TypeError(
                "`WindowLoss(weights=...)` is a function of the step j = 1, 2, ...; got "
                f"{type(self.weights).__name__}. Of a table of them write `lambda j: jnp.asarray(table)[jnp.int32(j) - "
                "1]`."
            )
        check_object("adjoint", self.adjoint, dfx.AbstractAdjoint, "diffrax.RecursiveCheckpointAdjoint()")

    def check(self, equation: AbstractDrift | SDE) -> None:
        """Raise where the solver cannot unroll this kind of equation, or a score is unrolled forwards.

        Raises:
            ValueError: a forward equation with a score; an implicit solver without tolerances.
            TypeError: a solver for the other kind of equation.
        """
        if sign_of(equation) > 0 and scores(equation):
            raise ValueError(
                f"`WindowLoss` unrolls `{equation}` forwards, where physics alone fits best, so it learns no score: "
                "train `-P + 2*s`, or `-P + s` by `TwoWayLoss()`, and use s in any equation afterwards."
            )
        check_unrolls(equation, self.unrolls_by(equation))

    def unrolls_by(self, equation: AbstractDrift | SDE) -> dfx.AbstractSolver:
        """The solver that was given, or the equation's default."""
        return solver_of(equation, self.solver)

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """Mean weighted squared error of the unroll, in units of g²Δt."""
        sign = sign_of(equation)
        start, target = (first, lambda leaf: leaf[:, 1:]) if sign > 0 else (last, lambda leaf: leaf[:, -2::-1])
        table = windows.table(sign)
        try:
            x = unroll(equation, start(windows.x), table, key, args, self.unrolls_by(equation), self.adjoint)
        except (NotImplementedError, ValueError) as error:
            if not says_no_derivative(error):
                raise
            once = abilities(self.unrolls_by(equation)).one_increment
            how, mend = (
                ("", "")
                if once
                else (" by a solver of several stages", " through `sx.WindowLoss(solver=diffrax.Euler())`")
            )
            raise TypeError(
                f"`{equation}` has a part that JAX cannot differentiate (code behind `jax.pure_callback`, say), and a "
                f"window of {table.t.shape[0] + 1} states{how} needs its derivative: train with `Stage(window=2)`"
                f"{mend}, which needs none, or give the part a derivative by `jax.custom_jvp` or `jax.custom_vjp`."
            ) from error
        target = jtu.tree_map(target, windows.x)
        # In time-major order, as the solve saves them: (steps, batch).
        units = _noise_units(equation, windows, args)
        squares = [
            _summed(jnp.square(a - jnp.moveaxis(b, 1, 0)), w, widest(windows.x))
            for a, b, w in zip(jtu.tree_leaves(x), jtu.tree_leaves(target), units, strict=True)
        ]
        error = sum(squares[1:], squares[0])
        if self.weights is not None:
            weights = jax.vmap(self.weights)(jnp.arange(1, error.shape[0] + 1, dtype=error.dtype))
            error = error * jnp.asarray(weights, error.dtype)[:, None]
        return jnp.mean(error)


class TwoWayLoss(AbstractLoss):
    """Windows unrolled backwards by the equation and forwards by its negative (arXiv:2301.10250, §3.1).

    The backward loss alone is minimised by the coefficient-2 drift and the forward loss alone by no score
    at all; their sum by the probability flow. So it trains `-P + s`.

    Attributes:
        window: the loss of each way.
    """

    coefficient: ClassVar[int | None] = 1
    in_noise: ClassVar[bool] = True

    window: WindowLoss = WindowLoss()

    def check(self, equation: AbstractDrift | SDE) -> None:
        """Raise where the solver cannot unroll this kind of equation."""
        check_unrolls(equation, self.unrolls_by(equation))

    def unrolls_by(self, equation: AbstractDrift | SDE) -> dfx.AbstractSolver:
        """The window's."""
        return self.window.unrolls_by(equation)

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The mean of both ways' losses."""
        drift, noise = (equation.drift, equation.diffusion) if isinstance(equation, SDE) else (equation, None)
        other = -drift if noise is None else -drift + noise
        back, forth = jr.split(key)
        return 0.5 * (self.window(equation, windows, back, args) + self.window(other, windows, forth, args))


def _noise_units(equation: AbstractDrift | SDE, windows: Windows, args: Args) -> list[Array]:
    """What multiplies the squared error of each array of the state: a number, one a window, or (batch, ...).

    One over g²Δt, component by component, the mean over each window's steps, and over the number of components that
    have noise: those without it have no score, and nothing to learn one from. Without a score, one over all components.
    """
    terms, leaves = scores(equation), jtu.tree_leaves(windows.x)
    dtype, size = widest(windows.x), sum(leaf[0, 0].size for leaf in leaves)
    if not terms:
        return [jnp.ones((), leaf.dtype) / size for leaf in leaves]
    g = terms[0][1].g
    if isinstance(g.g, int | float) or (eqx.is_array(g.g) and g.g.ndim == 0):
        durations = jnp.mean(jnp.atleast_1d(jnp.asarray(windows.durations(), dtype)), axis=-1)
        return [1 / (size * jnp.asarray(g(0.0), dtype) ** 2 * durations)] * len(leaves)
    one = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[2:], leaf.dtype), windows.x)
    # The later time of each step: where the score is evaluated backwards.
    steps = jnp.broadcast_to(jnp.asarray(windows.durations(), dtype), windows.t[:, 1:].shape)

    def powers(t: Array, steps: Array, args: Args) -> list[Array]:
        each = jax.vmap(lambda t, dt: [g**2 * dt.astype(g.dtype) for g in jtu.tree_leaves(g.like(t, one, args))])
        return [jnp.mean(power, axis=0) for power in each(t, steps)]

    each = over_samples(powers, args, windows.t[:, 1:], steps)
    noisy = sum(jnp.sum(power > 0, axis=tuple(range(1, power.ndim))) for power in each)
    count = jnp.maximum(jnp.asarray(noisy), 1).astype(dtype)
    return [
        jnp.where(power > 0, 1 / jnp.where(power > 0, power * per_sample(count, power.ndim).astype(power.dtype), 1), 0)
        for power in each
    ]


def _summed(squares: Array, w: Array, dtype: Any) -> Array:
    """Weighted squares, (steps, batch, ...), summed over their components."""
    axes, few = tuple(range(2, squares.ndim)), w.ndim <= 1
    w = w if w.ndim == 0 else w[None]
    if few:  # the same for all components
        return w * jnp.sum(squares, axis=axes, dtype=dtype)
    return jnp.sum(w.astype(squares.dtype) * squares, axis=axes, dtype=dtype)
