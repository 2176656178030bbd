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
from ..solving._validate import widest
from ._common import check_known, traced_unit


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
    states = jax.tree.map(_as_floats, x)
    leaves = jax.tree.leaves(states)
    times = jnp.asarray(t, widest(states) if leaves else jnp.result_type(float))
    if not leaves or times.size == 0 or any(leaf.shape[:1] != times.shape for leaf in leaves):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(f"`t` must hold one time for each of the samples in `x`; got {times.shape} and {shapes}.")
    net, g = (score, score.g) if isinstance(score, Score) else (score, Diffusion(1.0))

    (error, product, power, counted), units = _moments(net, exact, g, times, states, args)
    if counted == 0:
        raise ValueError("`score` has no component with noise at any of the times `t`, so nothing of it is trained.")
    of_error, of_learned, of_truth = map(float, units)
    return ScoreError(
        float(jnp.sqrt(error / power)) * (of_error / of_truth), float(product / power) * (of_learned / of_truth)
    )


def _as_floats(leaf: Any) -> Array:
    # Times take the states' precision, and whole numbers have none.
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.result_type(float))


@eqx.filter_jit
def _moments(net: Any, exact: Any, g: Diffusion, times: Array, states: State, args: Args) -> tuple[Any, Any]:
    """Sums of the squared error, the product, the exact score's square, and the components that count.

    Each score is in a unit of its own, which comes back too: that of the error, of the learned and of the exact one.
    """

    def answers(t: Array, x: State, args: Args) -> tuple[State, State, State, State]:
        learned, truth = (g.noisy(t, x, args, f(t, x, args)) for f in (net, exact))
        ones = g.noisy(t, x, args, jax.tree.map(jnp.ones_like, x))
        return jax.tree.map(jnp.subtract, learned, truth), learned, truth, ones

    *scores, ones = over_samples(answers, args, times, states)
    units = [traced_unit(each) for each in scores]
    error, learned, truth = (
        jax.tree.map(lambda leaf, one=one: leaf / one, each) for each, one in zip(scores, units, strict=True)
    )
    pairs = ((error, error), (learned, truth), (truth, truth), (ones, ones))
    return tuple(jnp.sum(jax.vmap(_dot)(a, b)) for a, b in pairs), units


def _dot(a: State, b: State) -> Array:
    parts = [jnp.sum(u * v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return sum(parts[1:], parts[0])
