"""The losses of the paper: windows unrolled by the equation and compared with the trajectories.

    L = mean_j w_j |x̂_j - x_j|² / (g²Δt),  x̂ the unroll from the window's end          (arXiv:2301.10250, eqs 3-5)

Errors count in units of the noise of one step, g²Δt, so that a perfect one-step loss is about 1 on any problem and
Adam's ε, 1e-8, is small beside the gradients.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._types import Args, Key
from ...equation._algebra import SDE, AbstractDrift
from ...equation._drift import scores
from ...solving._solve import unroll
from ...solving._terms import over_samples, sign_of
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
        solver: the diffrax solver of the unroll, default Euler.
        adjoint: a diffrax adjoint, such as `diffrax.RecursiveCheckpointAdjoint()`, which keeps few states and fits long
            windows of fields into memory. Default: a scan that keeps what its steps computed, or, for long windows of
            small states, runs them again, whichever is faster.
    """

    coefficient: ClassVar[int | None] = 2

    weights: Callable[[Any], Any] | None = None
    solver: dfx.AbstractSolver = dfx.Euler()
    adjoint: dfx.AbstractAdjoint | None = None

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """Mean weighted squared error of the unroll, in units of g²Δt."""
        sign = sign_of(equation)
        start, target = (first, lambda leaf: leaf[:, 1:]) if sign > 0 else (last, lambda leaf: leaf[:, -2::-1])
        x = unroll(equation, start(windows.x), windows.table(sign), key, args, self.solver, self.adjoint)
        target = jtu.tree_map(target, windows.x)
        # In time-major order, as the solve saves them: (steps, batch).
        squares = [
            jnp.sum(jnp.square(a - jnp.moveaxis(b, 1, 0)), axis=tuple(range(2, a.ndim)))
            for a, b in zip(jtu.tree_leaves(x), jtu.tree_leaves(target), strict=True)
        ]
        error = sum(squares[1:], squares[0]) / _noise_unit(equation, windows, args)
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

    window: WindowLoss = WindowLoss()

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The mean of both ways' losses."""
        drift, noise = (equation.drift, equation.diffusion) if isinstance(equation, SDE) else (equation, None)
        other = -drift if noise is None else -drift + noise
        back, forth = jr.split(key)
        return 0.5 * (self.window(equation, windows, back, args) + self.window(other, windows, forth, args))


def _noise_unit(equation: AbstractDrift | SDE, windows: Windows, args: Args) -> float | Array:
    """Σ_components g²Δt, the mean over each window's steps, (1, batch); the number of components without a score."""
    terms = scores(equation)
    leaves = jtu.tree_leaves(windows.x)
    if not terms:
        return float(sum(leaf[0, 0].size for leaf in leaves))
    g = terms[0][1].g
    one = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[2:], leaf.dtype), windows.x)

    def power(t: Array, args: Args) -> Array:
        return jnp.sum(jnp.square(ravel_pytree(g.like(t, one, args))[0]))

    if windows.step is not None and not callable(g.g):
        return power(windows.t[0, 0], None) * windows.step
    # The later time of each step: where the score is evaluated backwards.
    powers = over_samples(lambda t, args: jax.vmap(lambda t: power(t, args))(t), args, windows.t[:, 1:])
    return jnp.mean(powers * windows.durations(), axis=1)[None]
