"""How far a learned score is from an exact one: what Q and mean squared errors cannot see.

    relative error = √(E|s - s*|² / E|s*|²),    slope = E[s·s*] / E|s*|²,    (t, x) from the process

A score that is off by a factor of two has slope 2 or ½ and can still have a perfect Q.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .._types import Args, State
from ..equation._diffusion import Diffusion
from ..equation._score import Score
from ..solving._terms import over_samples
from ._common import check_known


class ScoreError(NamedTuple):
    """What `score_error` returns.

    Attributes:
        relative_l2: the density-weighted relative L2 error; 0 is exact.
        slope: the regression slope of the learned on the exact score; 1 is exact.
    """

    relative_l2: float
    slope: float


def score_error(
    score: Score | Callable[[Any, Any, Any], Any],
    exact: Callable[[Any, Any, Any], Any],
    t: ArrayLike,
    x: State,
    args: Args = None,
) -> ScoreError:
    """The error of a score against the exact one over samples of the process.

    Components without noise have no part in any equation, as theirs is ½g²s = 0, and training never sees them: of a
    `Score` only components with g(t) > 0 count. A bare function is compared in all components.

    Args:
        score: the learned `Score`, or a score of one state, `(t, x, args)`.
        exact: the exact score of one state, `(t, x, args)`.
        t: times of the samples, shape (samples,).
        x: states of the process at these times, shape (samples, ...) or a tree: drawn from p_t, they are what weights
            the error.
        args: handed to both; a `PerSample` in it has a row for each sample.

    Returns:
        A `ScoreError`.

    Raises:
        ValueError: no samples, `t` and `x` of different numbers, or no component with noise.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> error = score_error(lambda t, x, args: -2 * x, lambda t, x, args: -x, jnp.zeros(100), x)
    >>> round(error.relative_l2, 4), round(error.slope, 4)
    (1.0, 2.0)
    >>> s = sx.Score(lambda t, x, args: -x * jnp.array([7.0, 1.0]), sx.Diffusion(jnp.array([0.0, 1.0])))
    >>> score_error(s, lambda t, x, args: -x, jnp.zeros(100), x).relative_l2
    0.0
    """
    check_known("x", x)
    states = jax.tree.map(jnp.asarray, x)
    leaves = jax.tree.leaves(states)
    times = jnp.asarray(t, jnp.result_type(float) if not leaves else leaves[0].dtype)
    if not leaves or times.size == 0 or any(leaf.shape[:1] != times.shape for leaf in leaves):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(f"`t` must hold one time for each of the samples in `x`; got {times.shape} and {shapes}.")
    net, g = (score, score.g) if isinstance(score, Score) else (score, Diffusion(1.0))

    error, product, power, counted = _moments(net, exact, g, times, states, args)
    if counted == 0:
        raise ValueError("`score` has no component with noise at any of the times `t`, so nothing of it is trained.")
    return ScoreError(float(jnp.sqrt(error / power)), float(product / power))


@eqx.filter_jit
def _moments(net: Any, exact: Any, g: Diffusion, times: Array, states: State, args: Args) -> tuple[Array, ...]:
    """Sums of the squared error, the product, the exact score's square, and the components that count."""

    def moments(t: Array, x: State, args: Args) -> tuple[Array, Array, Array, Array]:
        learned, truth = (g.noisy(t, x, args, f(t, x, args)) for f in (net, exact))
        error = jax.tree.map(jnp.subtract, learned, truth)
        ones = g.noisy(t, x, args, jax.tree.map(jnp.ones_like, x))
        return _dot(error, error), _dot(learned, truth), _dot(truth, truth), _dot(ones, ones)

    return tuple(jnp.sum(value) for value in over_samples(moments, args, times, states))


def _dot(a: State, b: State) -> Array:
    parts = [jnp.sum(u * v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return sum(parts[1:], parts[0])
