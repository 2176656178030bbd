"""Gaussian mixtures: the starts of the exact oracles, and their posteriors.

p(x) = Σ_k w_k N(x; μ_k, Σ_k), for states of shape () or (d,). Σ_k = 0, a point mass, is allowed.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._types import Key
from ..solving._validate import is_concrete

Numbers: TypeAlias = ArrayLike | Sequence[Any]
"""An array, or nested sequences of numbers."""


class GaussianMixture(eqx.Module):
    """A Gaussian mixture, p(x) = Σ_k w_k N(x; μ_k, Σ_k).

    Args:
        means: μ, shape (k,) for states of shape (), or (k, d) for states of shape (d,).
        weights: w, shape (k,): not negative, with sum 1. Equal weights if left out.
        covariances: Σ. Left out: zero, so the components are point masses. A number: that variance
            in every direction of every component. Shape (k,): one variance a component. Shape (k,
            d, d): full matrices.

    Attributes:
        weights: shape (k,).
        means: shape (k,) or (k, d).
        covariances: variances of shape (k,) for states of shape (), else shape (k, d, d).

    Raises:
        ValueError: a shape does not fit, or weights or variances are no such.

    Example:
        >>> from smdpx.exact import GaussianMixture
        >>> start = GaussianMixture([-1.0, 1.0], covariances=0.25)
        >>> print(f"{start.log_prob(0.0):.4f} {start.covariance():.2f}")
        -2.2258 1.25
    """

    weights: Float[Array, " k"]
    means: Float[Array, "k *state"]
    covariances: Float[Array, " k"] | Float[Array, "k d d"]

    def __init__(
        self,
        means: Numbers,
        weights: Numbers | None = None,
        covariances: Numbers | None = None,
    ):
        self.means = _as_means(means)
        self.weights = _as_weights(weights, self.means)
        self.covariances = _as_covariances(covariances, self.means)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state: () or (d,)."""
        return self.means.shape[1:]

    def log_prob(self, x: ArrayLike) -> Float[Array, ""]:
        """Compute log p(x); NaN where a component is a point mass.

        Args:
            x: one state, shape () or (d,).
        """
        return _log_prob(self, self._vector(x))

    def score(self, x: ArrayLike) -> Float[Array, "*state"]:
        """∇ₓ log p(x) = Σ_k P(k | x) Σ_k⁻¹ (μ_k - x), in x's shape and dtype.

        Args:
            x: one state, shape () or (d,).
        """
        score = _score(self, self._vector(x))
        return score.reshape(self.shape).astype(float_dtype(x, self.means.dtype))

    def component_probabilities(self, x: ArrayLike) -> Float[Array, " k"]:
        """P(component k | x) = w_k N(x; μ_k, Σ_k) / p(x).

        Args:
            x: one state, shape () or (d,).
        """
        return _component_probabilities(self, self._vector(x))

    def mean(self) -> Float[Array, "*state"]:
        """E[x] = Σ_k w_k μ_k."""
        return jnp.einsum("k,k...->...", self.weights, self.means)

    def covariance(self) -> Float[Array, "*matrix"]:
        """Cov[x]: the variance, shape (), for states of shape (); else shape (d, d)."""
        means, covariances = self._full()
        centred = means - (self.weights @ means)[None]
        spread = covariances + centred[:, :, None] * centred[:, None, :]
        return jnp.einsum("k,kij->ij", self.weights, spread).reshape(self.shape * 2)

    def sample(self, n: int, *, key: Key) -> Float[Array, "n *state"]:
        """Draw n independent states.

        Args:
            n: how many.
            key: a JAX random key.
        """
        return _sample(self, n, key)

    def _full(self) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
        k = self.means.shape[0]
        means = self.means.reshape(k, -1)
        return means, self.covariances.reshape(k, means.shape[1], means.shape[1])

    def _replace(self, weights: Array, means: Array, covariances: Array) -> "GaussianMixture":
        # Skips the checks on values: they would wait for the device at every call.
        k = self.weights.shape[0]
        covariances = covariances.reshape(k, *self.shape * 2)
        new = (weights, means.reshape(k, *self.shape), covariances)
        return eqx.tree_at(lambda m: (m.weights, m.means, m.covariances), self, new)

    def _joint_log_probs(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        def log_normal(mean: Array, covariance: Array) -> Array:
            root = jnp.linalg.cholesky(covariance)
            white = jax.scipy.linalg.solve_triangular(root, x - mean, lower=True)
            log_det = jnp.sum(jnp.log(jnp.diagonal(root)))
            return -0.5 * jnp.sum(white**2) - log_det - 0.5 * x.size * math.log(2 * math.pi)

        return jnp.log(self.weights) + jax.vmap(log_normal)(*self._full())

    def _vector(self, x: ArrayLike) -> Float[Array, " d"]:
        if jnp.shape(x) != self.shape:
            raise ValueError(
                f"`x` should be one state of shape {self.shape}, got shape {jnp.shape(x)}; batch with `jax.vmap`."
            )
        return jnp.asarray(x, self.means.dtype).reshape(-1)


# One program each: primitive by primitive JAX would compile a dozen for every shape.


@jax.jit
def _log_prob(mixture: GaussianMixture, x: Float[Array, " d"]) -> Float[Array, ""]:
    return jax.nn.logsumexp(mixture._joint_log_probs(x))


@jax.jit
def _component_probabilities(mixture: GaussianMixture, x: Float[Array, " d"]) -> Float[Array, " k"]:
    return jax.nn.softmax(mixture._joint_log_probs(x))


@jax.jit
def _score(mixture: GaussianMixture, x: Float[Array, " d"]) -> Float[Array, " d"]:
    def pull(mean: Array, covariance: Array) -> Array:
        factor = (jnp.linalg.cholesky(covariance), True)
        return jax.scipy.linalg.cho_solve(factor, mean - x)

    return jax.nn.softmax(mixture._joint_log_probs(x)) @ jax.vmap(pull)(*mixture._full())


@partial(jax.jit, static_argnames="n")
def _sample(mixture: GaussianMixture, n: int, key: Key) -> Float[Array, "n *state"]:
    which_key, noise_key = jax.random.split(key)
    means, covariances = mixture._full()
    which = jax.random.categorical(which_key, jnp.log(mixture.weights), shape=(n,))
    noise = jax.random.normal(noise_key, (n, means.shape[1]), means.dtype)
    roots = jax.vmap(semidefinite_root)(covariances)
    samples = means[which] + jnp.einsum("nij,nj->ni", roots[which], noise)
    return samples.reshape(n, *mixture.shape)


@jax.jit
def semidefinite_root(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """L with L Lᵀ = matrix, also for a singular matrix (a point mass), and differentiable there."""
    # jnp.linalg.cholesky gives NaN for a singular matrix, and eigh a NaN gradient for equal
    # eigenvalues. What rounding leaves of a pivot is counted in units of its own component, whatever the others'.
    tolerances = jnp.finfo(matrix.dtype).eps * jnp.abs(jnp.diagonal(matrix))

    def eliminate(rest: Array, j: Array) -> tuple[Array, Array]:
        pivot = rest[j, j]
        positive = pivot > tolerances[j]
        scale = jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, pivot, 1)), 0)
        column = rest[:, j] * scale
        return rest - column[:, None] * column[None, :], column

    return jax.lax.scan(eliminate, matrix, jnp.arange(matrix.shape[0]))[1].T


def float_dtype(x: Any, default: Any) -> Any:
    """The precision of an answer about x: its own where it has floats that JAX can hold, else the default."""
    dtype = getattr(x, "dtype", None)
    floats = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    return jax.dtypes.canonicalize_dtype(dtype) if floats else default


def _as_means(means: Numbers) -> Array:
    array = jnp.asarray(means)
    array = array if jnp.issubdtype(array.dtype, jnp.floating) else jnp.asarray(array, float)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            "`means` should have shape (k,) for states of shape (), or (k, d) for states of "
            f"shape (d,), got shape {array.shape}; for one component write `[mean]`."
        )
    return array


def _as_weights(weights: Numbers | None, means: Array) -> Array:
    k = means.shape[0]
    if weights is None:
        return jnp.full((k,), 1 / k, means.dtype)
    if jnp.shape(jnp.asarray(weights)) != (k,):
        raise ValueError(
            f"`weights` should have shape ({k},), one for each of the means, "
            f"got shape {jnp.shape(jnp.asarray(weights))}."
        )
    if is_concrete(weights):
        values = np.asarray(weights, float)
        if np.any(values < 0) or not np.isclose(values.sum(), 1, atol=1e-5):
            raise ValueError(
                f"`weights` should not be negative and should sum to 1, got {values} with sum "
                f"{values.sum():.6g}; divide them by their sum."
            )
    return jnp.asarray(weights, means.dtype)


def _as_covariances(covariances: Numbers | None, means: Array) -> Array:
    k, d = means.shape[0], means[0].size
    full = (k,) + means.shape[1:] * 2
    array = jnp.asarray(0.0 if covariances is None else covariances, means.dtype)
    if array.shape not in ((), (k,), full):
        raise ValueError(
            f"`covariances` should be a number, or have shape ({k},) or {full}, "
            f"got shape {array.shape}; "
            "one matrix for all components needs `jnp.stack([matrix] * k)`."
        )
    if covariances is not None and is_concrete(covariances):
        _check_covariances(np.asarray(covariances, float), array.shape == full and d > 1)
    if array.shape == full:
        return array
    variances = jnp.broadcast_to(array, (k,))
    if means.ndim == 1:
        return variances
    return variances[:, None, None] * jnp.eye(d, dtype=means.dtype)[None]


def _check_covariances(values: np.ndarray, matrices: bool) -> None:
    if not matrices:
        if np.any(values < 0):
            raise ValueError(f"`covariances` should not be negative, got {values}.")
        return
    scale = np.max(np.abs(values))
    if not np.allclose(values, np.swapaxes(values, -1, -2), atol=1e-5 * scale):
        raise ValueError("`covariances` should be symmetric; write `0.5 * (S + S.mT)`.")
    lowest = np.linalg.eigvalsh(values).min()
    if lowest < -1e-5 * scale:
        raise ValueError(f"`covariances` should be positive semidefinite, got one with eigenvalue {lowest:.3g}.")
