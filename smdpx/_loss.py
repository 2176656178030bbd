"""Losses: what `fit` minimises, each a differentiable function of an equation and a batch of windows.

    window      L = mean_j w_j |x̂_j - x_j|² / (g²Δt),  x̂ the reverse unroll from the window's end    (eqs 3-5)
    two-way     L = window(-P + s) + window(P - s), the second unrolled forwards from the window's start
    ISM         L = mean [ ∇·s + ½|s|² ]                                    (Hyvärinen 2005)
    SSM-VR      L = mean [ vᵀ(∇s)v + ½|s|² ],  v = ±1                       (Song et al. 2019)

Errors of windows count in units of the noise of one step, g²Δt, so that a perfect one-step loss is about
1 on any problem and Adam's ε, 1e-8, is small beside the gradients.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ._drift import Score
from ._equation import SDE, AbstractDrift
from ._solve import unroll
from ._terms import sign_of
from ._types import Args, Key, State
from ._window import Windows, first, last

__all__ = ["AbstractLoss", "ImplicitScoreMatching", "SlicedScoreMatching", "TwoWayLoss", "WindowLoss"]


class AbstractLoss(eqx.Module):
    """A loss: a scalar from an equation and a batch of windows.

    Attributes:
        coefficient: the score's coefficient in the equation that the loss is minimised by; None where any
            coefficient trains the same score.
    """

    coefficient: ClassVar[int | None] = None

    @abc.abstractmethod
    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The loss of the equation on these windows; `key` is for noise that the loss draws."""


def scores(equation: AbstractDrift | SDE) -> list[tuple[Any, Score]]:
    """The (signed) coefficient and score of each score term of an equation."""
    return [(term.coefficient, term.drift) for term in equation.summands if isinstance(term.drift, Score)]


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
        error = sum(squares[1:], squares[0]) / _noise_unit(equation, windows)
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


class ImplicitScoreMatching(AbstractLoss):
    """Implicit score matching: E[∇·s + ½|s|²], the divergence over x alone (Hyvärinen 2005).

    Uses the states of the windows but their first (the start of a trajectory may have no density). It
    sees neither the physics nor the noise. Costs one pass per component of the state.

    Attributes:
        weight: the weight λ(t) of the time t; default 1.
    """

    weight: Callable[[Any], Any] | None = None

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The mean over states."""
        return _score_matching(equation, windows, self.weight, args, _exact_divergence, None)


class SlicedScoreMatching(AbstractLoss):
    """Sliced score matching with variance reduction: E[vᵀ(∇s)v + ½|s|²], v = ±1 (Song et al. 2019).

    One random projection a state instead of one pass a component; the quadratic term is exact, which is
    the variance reduction. Uses the states of the windows but their first.

    Attributes:
        weight: the weight λ(t) of the time t; default 1.
    """

    weight: Callable[[Any], Any] | None = None

    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The mean over states and one projection each."""
        return _score_matching(equation, windows, self.weight, args, _sliced_divergence, key)


def _score_matching(equation: Any, windows: Windows, weight: Any, args: Args, divergence: Any, key: Any) -> Array:
    terms = scores(equation)
    if len(terms) != 1:
        raise TypeError(f"Score matching trains one score; `{equation}` has {len(terms)}.")
    net = terms[0][1].net
    x = jtu.tree_map(lambda leaf: leaf[:, 1:].reshape((-1, *leaf.shape[2:])), windows.x)
    t = windows.t[:, 1:].reshape(-1)
    keys = None if key is None else jr.split(key, t.shape[0])

    def loss(t: Array, x: State, key: Any) -> Array:
        flat, unravel = ravel_pytree(x)
        f = lambda y: ravel_pytree(net(t, unravel(y), args))[0]  # noqa: E731
        div, s = divergence(f, flat, key)
        value = div + 0.5 * jnp.sum(s**2)
        return value if weight is None else weight(t) * value

    return jnp.mean(jax.vmap(loss, in_axes=(0, 0, None if keys is None else 0))(t, x, keys))


def _exact_divergence(f: Callable[[Array], Array], x: Array, key: Any) -> tuple[Array, Array]:
    return exact_divergence(f, x)


def exact_divergence(f: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """(∇·f)(x) and f(x), by one forward-mode pass per component."""
    # Not `linearize`: its stored residuals make the gradient of a small network's divergence several times slower.
    value, tangents = jax.vmap(lambda v: jax.jvp(f, (x,), (v,)), out_axes=(None, 0))(jnp.eye(x.size, dtype=x.dtype))
    return jnp.trace(tangents), value


def sliced_divergence(f: Callable[[Array], Array], x: Array, v: Array) -> tuple[Array, Array]:
    """vᵀ(∇f)v and f(x): of a random ±1 vector v an unbiased estimate of (∇·f)(x) (Hutchinson)."""
    value, tangent = jax.jvp(f, (x,), (v,))
    return jnp.sum(v * tangent), value


def _sliced_divergence(f: Callable[[Array], Array], x: Array, key: Key) -> tuple[Array, Array]:
    return sliced_divergence(f, x, jr.rademacher(key, x.shape, x.dtype))


def _noise_unit(equation: AbstractDrift | SDE, windows: Windows) -> float | Array:
    """Σ_components g²Δt, the mean over each window's steps, (1, batch); the number of components without a score."""
    terms = scores(equation)
    leaves = jtu.tree_leaves(windows.x)
    if not terms:
        return float(sum(leaf[0, 0].size for leaf in leaves))
    g = terms[0][1].g
    one = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[2:], leaf.dtype), windows.x)

    def power(t: Array) -> Array:
        return jnp.sum(jnp.square(ravel_pytree(g.like(t, one))[0]))

    if windows.step is not None and not callable(g.g):
        return power(windows.t[0, 0]) * windows.step
    # The later time of each step: where the score is evaluated backwards.
    return jnp.mean(jax.vmap(jax.vmap(power))(windows.t[:, 1:]) * windows.durations(), axis=1)[None]
