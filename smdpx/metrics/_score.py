"""How far a learned score is from an exact one: what Q and mean squared errors cannot see.

    relative error = √(E|s - s*|² / E|s*|²),    slope = E[s·s*] / E|s*|²,    (t, x) from the process

A score that is off by a factor of two has slope 2 or ½ and can still have a perfect Q.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


class ScoreError(NamedTuple):
    """What `score_error` returns.

    Attributes:
        relative_l2: the density-weighted relative L2 error; 0 is exact.
        slope: the regression slope of the learned on the exact score; 1 is exact.
    """

    relative_l2: float
    slope: float


def score_error(
    score: Callable[[Any, Any, Any], Any],
    exact: Callable[[Any, Any, Any], Any],
    t: ArrayLike,
    x: Float[Array, "samples *state"],
) -> ScoreError:
    """The error of a score against the exact one over samples of the process.

    Args:
        score: the learned score of one state, `(t, x, args)`.
        exact: the exact score of one state, `(t, x, args)`.
        t: times of the samples, shape (samples,).
        x: states of the process at these times: drawn from p_t, they are what weights the error.

    Returns:
        A `ScoreError`.

    Raises:
        ValueError: no samples, or `t` and `x` of different numbers.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (100,))
    >>> error = score_error(lambda t, x, args: -2 * x, lambda t, x, args: -x, jnp.zeros(100), x)
    >>> round(error.relative_l2, 4), round(error.slope, 4)
    (1.0, 2.0)
    """
    t = jnp.asarray(t, x.dtype)
    if t.shape != x.shape[:1] or t.size == 0:
        raise ValueError(f"`t` must hold one time for each of the samples in `x`; got {t.shape} and {x.shape}.")
    learned = jax.vmap(lambda t, x: score(t, x, None))(t, x)
    truth = jax.vmap(lambda t, x: exact(t, x, None))(t, x)
    power = jnp.sum(truth**2)
    return ScoreError(float(jnp.sqrt(jnp.sum((learned - truth) ** 2) / power)), float(jnp.sum(learned * truth) / power))
