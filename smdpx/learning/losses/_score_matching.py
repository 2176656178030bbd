"""Score matching proper, the baselines of the paper: it sees neither physics nor noise.

ISM         L = mean [ ∇·s + ½|s|² ]                                    (Hyvärinen 2005)
SSM-VR      L = mean [ vᵀ(∇s)v + ½|s|² ],  v = ±1                       (Song et al. 2019)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._types import Args, Key, State
from ...equation._algebra import SDE, AbstractDrift
from ...equation._score import scores
from ...solving._divergence import exact_divergence, sliced_divergence
from ...solving._terms import over_samples
from .._windows import Windows
from ._abstract import AbstractLoss

__all__ = ["ImplicitScoreMatching", "SlicedScoreMatching"]


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
    net = terms[0][1]
    batch, size = windows.t[:, 1:].shape
    keys = None if key is None else jr.split(key, (batch, size))

    def loss(t: Array, x: State, key: Any, args: Args) -> Array:
        flat, unravel = ravel_pytree(x)
        f = lambda y: ravel_pytree(net(t, unravel(y), args))[0]  # noqa: E731
        div, s = divergence(f, flat, key)
        value = div + 0.5 * jnp.sum(s**2)
        return value if weight is None else weight(t) * value

    def of_window(t: Array, x: State, keys: Any, args: Args) -> Array:
        return jax.vmap(lambda t, x, key: loss(t, x, key, args))(t, x, keys)

    return jnp.mean(
        over_samples(of_window, args, windows.t[:, 1:], jtu.tree_map(lambda leaf: leaf[:, 1:], windows.x), keys)
    )


def _exact_divergence(f: Callable[[Array], Array], x: Array, key: Any) -> tuple[Array, Array]:
    return exact_divergence(f, x)


def _sliced_divergence(f: Callable[[Array], Array], x: Array, key: Key) -> tuple[Array, Array]:
    return sliced_divergence(f, x, jr.rademacher(key, x.shape, x.dtype))
