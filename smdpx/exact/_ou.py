"""The Ornstein-Uhlenbeck process with a Gaussian-mixture start, in closed form.

dx = A x dt + g dW with x_0 ~ Σ_k w_k N(μ_k, Σ_k) has the transition x_t | x_0 ~ N(F x_0, Q),

    F(t) = exp(A t),    Q(t) = ∫₀ᵗ exp(A r) g gᵀ exp(Aᵀ r) dr,

so that p_t = Σ_k w_k N(F μ_k, F Σ_k Fᵀ + Q) is a Gaussian mixture, and so is the posterior of x_0
given x_t.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ..equation._phi import phi1
from ..solving._validate import is_concrete
from ._mixture import GaussianMixture, Numbers

_TAYLOR_TERMS = 18  # 1/18! < 1e-15: enough in double precision for ‖A‖t ≤ 1/2
_DOUBLINGS = 40


class OUMixture(eqx.Module):
    """The process dx = A x dt + g dW, x_0 ~ Σ_k w_k N(μ_k, Σ_k), and all that follows from it.

    A is the drift itself, sign included: a decay at rate λ is `A = -λ`. With a start of point
    masses, p_t is a density for t > 0 only: `log_prob` and `score` give NaN at t = 0.

    Args:
        A: the drift's number (times the identity, in any dimension) or matrix, shape () or (d, d).
        g: the noise, not negative: a number, or one for each component, shape (d,).
        start: the distribution of x_0, of states of shape () or (d,).

    Attributes:
        A: shape () or (d, d).
        g: shape () or (d,).
        start: the distribution of x_0.

    Raises:
        ValueError: a shape does not fit the start's, or g is negative.

    Example:
        >>> from smdpx.exact import GaussianMixture, OUMixture
        >>> ou = OUMixture(A=-0.5, g=1.0, start=GaussianMixture([-1.0, 1.0]))
        >>> print(f"{ou.score(1.0, 0.3):.4f}")
        -0.2058
        >>> print(f"{ou.component_probabilities(1.0, 0.3)[1]:.2f}")
        0.64
    """

    A: Float[Array, ""] | Float[Array, "d d"]
    g: Float[Array, ""] | Float[Array, " d"]
    start: GaussianMixture

    def __init__(self, A: Numbers, g: Numbers, start: GaussianMixture):
        dtype = start.means.dtype
        self.A, self.g, self.start = jnp.asarray(A, dtype), jnp.asarray(g, dtype), start
        shape = start.shape
        if self.A.shape not in ((), shape * 2):
            raise ValueError(
                f"`A` should be a number or have shape {shape * 2}, since the start's states have "
                f"shape {shape}; got shape {self.A.shape}. "
                "For one rate each write `jnp.diag(rates)`."
            )
        if self.g.shape not in ((), shape):
            raise ValueError(
                f"`g` should be a number or have shape {shape}, as the start's states; got shape {self.g.shape}."
            )
        if is_concrete(g) and np.any(np.asarray(g) < 0):
            raise ValueError(f"`g` should not be negative, got {g}; noise has no sign: write `abs(g)`.")

    def drift(self, t: RealScalarLike, x: ArrayLike, args: Args = None) -> Float[Array, "*state"]:
        """A x, as a rate for `smdpx.Drift`.

        Args:
            t: not used.
            x: one state, shape () or (d,).
            args: not used.
        """
        del t, args
        x = jnp.asarray(x)
        A = self.A.astype(x.dtype)
        return A * x if A.ndim == 0 else A @ x

    def transition(self, t: RealScalarLike) -> tuple[Float[Array, "*matrix"], Float[Array, "*matrix"]]:
        """F and Q in x_t | x_0 ~ N(F x_0, Q).

        Args:
            t: time, not negative.

        Returns:
            F and Q: shape () each for states of shape (), else (d, d).
        """
        matrix = self.start.shape * 2
        F, Q = self._transition(t)
        return F.reshape(matrix), Q.reshape(matrix)

    def marginal(self, t: RealScalarLike) -> GaussianMixture:
        """p_t, the distribution of x_t.

        Args:
            t: time, not negative.
        """
        return _moved(self.start, *self._transition(t))

    def log_prob(self, t: RealScalarLike, x: ArrayLike) -> Float[Array, ""]:
        """Compute log p_t(x).

        Args:
            t: time, not negative; positive if the start has point masses.
            x: one state, shape () or (d,).
        """
        return self.marginal(t).log_prob(x)

    def score(self, t: RealScalarLike, x: ArrayLike, args: Args = None) -> Float[Array, "*state"]:
        """∇ₓ log p_t(x), as a network for `smdpx.Score`.

        Args:
            t: time, not negative; positive if the start has point masses.
            x: one state, shape () or (d,).
            args: not used.
        """
        del args
        return self.marginal(t).score(x)

    def sample(self, t: RealScalarLike, n: int, *, key: Key) -> Float[Array, "n *state"]:
        """Draw n independent states from p_t.

        Args:
            t: time, not negative.
            n: how many.
            key: a JAX random key.
        """
        return self.marginal(t).sample(n, key=key)

    def component_probabilities(self, t: RealScalarLike, x: ArrayLike) -> Float[Array, " k"]:
        """P(x_0 came from component k | x_t = x); for point masses the posterior of x_0.

        Args:
            t: time, not negative; positive if the start has point masses.
            x: one state, shape () or (d,).
        """
        return self.marginal(t).component_probabilities(x)

    def posterior(self, t: RealScalarLike, x: ArrayLike) -> GaussianMixture:
        """The distribution of x_0 given x_t = x: one Gaussian for each of the start's components.

        Args:
            t: time, not negative; positive if the start has point masses.
            x: the observed state x_t, shape () or (d,).
        """
        F, Q = self._transition(t)
        vector = self.start._vector(x)
        means, covariances = _conditioned(self.start, F, Q, vector)
        return self.start._replace(self.component_probabilities(t, x), means, covariances)

    def sample_posterior(self, t: RealScalarLike, x: ArrayLike, n: int, *, key: Key) -> Float[Array, "n *state"]:
        """Draw n independent x_0 given x_t = x.

        Args:
            t: time, not negative; positive if the start has point masses.
            x: the observed state x_t, shape () or (d,).
            n: how many.
            key: a JAX random key.
        """
        return self.posterior(t, x).sample(n, key=key)

    def _transition(self, t: RealScalarLike) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
        if is_concrete(t) and np.any(np.asarray(t) < 0):
            raise ValueError(f"`t` should not be negative, got {t}: the process starts at t = 0.")
        return _flow(self, jnp.asarray(t, self.A.dtype))


# One program each: primitive by primitive JAX would compile a dozen for every shape.


@jax.jit
def _moved(start: GaussianMixture, F: Float[Array, "d d"], Q: Float[Array, "d d"]) -> GaussianMixture:
    means, covariances = start._full()
    return start._replace(start.weights, means @ F.T, F[None] @ covariances @ F.T[None] + Q[None])


@jax.jit
def _conditioned(
    start: GaussianMixture, F: Float[Array, "d d"], Q: Float[Array, "d d"], x: Float[Array, " d"]
) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """Means and covariances of x_0 given that F x_0 and noise of covariance Q are x, of each component."""
    identity = jnp.eye(x.size, dtype=x.dtype)

    def condition(mean: Array, covariance: Array) -> tuple[Array, Array]:
        factor = (jnp.linalg.cholesky(F @ covariance @ F.T + Q), True)
        gain = jax.scipy.linalg.cho_solve(factor, F @ covariance).T
        # Joseph's form: the short one, Σ - K F Σ, loses definiteness to round-off.
        keep = identity - gain @ F
        return mean + gain @ (x - F @ mean), keep @ covariance @ keep.T + gain @ Q @ gain.T

    return jax.vmap(condition)(*start._full())


@jax.jit
def _flow(process: OUMixture, t: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    d, A = process.start.means[0].size, process.A
    noise = jnp.diag(jnp.broadcast_to(process.g**2, (d,)))
    if A.ndim == 0:
        return jnp.exp(A * t) * jnp.eye(d, dtype=A.dtype), t * phi1(2 * A * t) * noise
    return _lyapunov_flow(A, noise, t)


def _lyapunov_flow(
    A: Float[Array, "d d"], noise: Float[Array, "d d"], t: Float[Array, ""]
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """F = exp(A t) and Q = ∫₀ᵗ exp(A r) noise exp(Aᵀ r) dr."""
    # Van Loan's block exponential holds exp(-A t), which overflows for a decay with λt > 88 in
    # single precision. A Taylor series over t/2ˢ and s doublings, Q ← Q + F Q Fᵀ and F ← F², holds
    # decaying terms only.
    norm = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(A**2)) * t)
    doublings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(2 * norm, 1))), 0, _DOUBLINGS)
    step = t * jnp.ldexp(jnp.ones_like(t), -doublings.astype(jnp.int32))

    def add_term(order: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        F, Q, f_term, q_term = sums
        n = order.astype(A.dtype)
        f_term = step / n * (A @ f_term)
        half = step / (n + 1) * (A @ q_term)
        q_term = half + half.T
        return F + f_term, Q + q_term, f_term, q_term

    first = jnp.eye(A.shape[0], dtype=A.dtype), step * noise
    F, Q, _, _ = jax.lax.fori_loop(1, _TAYLOR_TERMS, add_term, first + first)

    def double(i: Array, flow: tuple[Array, Array]) -> tuple[Array, Array]:
        F, Q = flow
        more = i < doublings
        return jnp.where(more, F @ F, F), jnp.where(more, Q + F @ Q @ F.T, Q)

    return jax.lax.fori_loop(0, _DOUBLINGS, double, (F, Q))
