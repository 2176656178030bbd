"""Periodic Gaussian fields under a linear drift that is diagonal in Fourier space.

With unitary Fourier coefficients x_k and dx_k = -λ_k x_k dt + g dW_k every mode is on its own,

    x_k(t) = a_k x_k(0) + √q_k ξ_k,    p_t: variance v_k(t) = a_k² v_k(0) + q_k,

so the posterior of x_0 given x_T is Gaussian with mean a_k v_k(0)/v_k(T) · x_k(T) and variance
v_k(0) q_k/v_k(T). λ = |k|² with integer k is the heat equation on [0, 2π]², arXiv:2301.10250 §4.2.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ..equation._linear import Fourier, squared_wavenumbers
from ..equation._phi import phi1
from ..solving._validate import is_concrete


def power_law_field(n: int, power: RealScalarLike = 4, corner: RealScalarLike = 0) -> Float[Array, "n n"]:
    """Each Fourier mode's variance in a stationary field with power (|k|² + corner²)^(-power/2), |k|^-power by default.

    The pixels have variance 1. There is no mean: mode k = 0 has variance 0. The field of
    arXiv:2301.10250 §4.2 has power 4.

    Args:
        n: pixels a side, at least 2.
        power: the exponent.
        corner: the wavenumber below which the spectrum is flat, ≥ 0, k of whole numbers.

    Raises:
        ValueError: n is below 2, or the corner is negative.

    Example:
        >>> from smdpx.exact import power_law_field
        >>> print(f"{power_law_field(32).mean():.4f}")
        1.0000
    """
    if n < 2:
        raise ValueError(f"`n` should be at least 2, since mode 0 is empty; got {n}.")
    if is_concrete(corner) and not float(corner) >= 0:
        raise ValueError(f"`corner` is a wavenumber, ≥ 0; got {corner}.")
    return _power_law(squared_wavenumbers(n), jnp.asarray(power, float), jnp.asarray(corner, float))


@jax.jit
def _power_law(
    squares: Float[Array, "n n"] | Float[np.ndarray, "n n"], power: Float[Array, ""], corner: Float[Array, ""]
) -> Float[Array, "n n"]:
    filled = jnp.asarray(jnp.where(squares == 0, 1, squares), float) + corner**2
    variance = jnp.where(squares == 0, 0, filled ** (-0.5 * power))
    return variance / jnp.mean(variance)


class LinearGaussianField(eqx.Module):
    """Real periodic fields (n, n) with dx_k = -λ_k x_k dt + g dW_k and a stationary Gaussian prior.

    Fourier coefficients are unitary (`norm="ortho"`), so white noise has variance 1 in every mode
    and pixel. With `dt` the process is the sequence of steps x ← A(dt) x + g √dt ξ (exact decay,
    then noise; the paper's simulator) and t should be a multiple of dt: it is rounded to one.
    Without `dt` time is continuous.

    Mode 0 of `power_law_field` has prior variance 0: the posterior is 0 there. Where a mode has no variance at t, the
    field is 0 in it and the score is taken as 0 too (that of the modes which have some), so that solves may end at 0.

    Args:
        variances: v(0), the prior's variance for each Fourier mode, shape (n, n), not negative,
            even in k.
        rates: λ, shape (n, n), even in k. Left out: |k|² with integer k, the heat equation on [0,
            2π]².
        g: the noise, not negative.
        dt: the step of the discrete process, positive.

    Raises:
        ValueError: a shape does not fit, variances or rates are not even, or a variance, g or dt has the wrong sign.

    Example:
        >>> import jax
        >>> from smdpx.exact import LinearGaussianField, power_law_field
        >>> heat = LinearGaussianField(power_law_field(32), g=0.1, dt=0.2 / 32)
        >>> x0_key, xT_key = jax.random.split(jax.random.key(0))
        >>> x0 = heat.sample_prior(key=x0_key)
        >>> xT = heat.simulate(0.2, x0, key=xT_key)
        >>> heat.posterior_mean(0.2, xT).shape
        (32, 32)
    """

    variances: Float[Array, "n n"]
    rates: Float[Array, "n n"]
    g: Float[Array, ""]
    dt: Float[Array, ""] | None

    def __init__(
        self,
        variances: ArrayLike,
        rates: ArrayLike | None = None,
        *,
        g: RealScalarLike,
        dt: RealScalarLike | None = None,
    ):
        self.variances = jnp.asarray(variances, jnp.result_type(float))
        shape = self.variances.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"`variances` should have shape (n, n), one for each Fourier mode in `jnp.fft.fft2` order, got {shape}."
            )
        rates = squared_wavenumbers(shape[0]) if rates is None else rates
        self.rates = jnp.asarray(rates, self.variances.dtype)
        if self.rates.shape != shape:
            raise ValueError(
                f"`rates` should have the shape of `variances`, {shape}, got {self.rates.shape}; "
                "for one rate write `jnp.full(variances.shape, rate)`."
            )
        for name, value in (("variances", variances), ("g", g)):
            if is_concrete(value) and np.any(np.asarray(value) < 0):
                raise ValueError(f"`{name}` should not be negative, got a minimum of {np.min(value)}.")
        for name, value in (("variances", self.variances), ("rates", self.rates)):
            _check_even(name, value)
        if dt is not None and is_concrete(dt) and not float(dt) > 0:
            raise ValueError(f"`dt` should be positive, got {dt}; leave it out for continuous time.")
        self.g = jnp.asarray(g, self.variances.dtype)
        self.dt = None if dt is None else jnp.asarray(dt, self.variances.dtype)

    @property
    def drift(self) -> "_LinearFunction":
        """-λ x in Fourier space, a function (t, x, args) for `smdpx.Drift`."""
        return _LinearFunction(self._drift_rates)

    def decay(self, t: RealScalarLike, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The noise-free solution after a time t, exp(-λ t) x: a reconstruction's observation.

        Args:
            t: time; negative undoes a decay, with a round-off error that grows as exp(λ |t|).
            x: one field, shape (n, n).
        """
        return self._filter(jnp.exp(-self.rates * jnp.asarray(t, self.rates.dtype)), x)

    def simulate(self, t: RealScalarLike, x0: Float[Array, "n n"], *, key: Key) -> Float[Array, "n n"]:
        """Draw x_t given x_0.

        Args:
            t: time, not negative.
            x0: one field, shape (n, n).
            key: a JAX random key.
        """
        decay, noise = self._transition(t)
        return self._filter(decay, x0) + self._coloured(noise, key)

    def sample_prior(self, *, key: Key) -> Float[Array, "n n"]:
        """Draw x_0.

        Args:
            key: a JAX random key.
        """
        return self._coloured(self.variances, key)

    def log_prob(self, t: RealScalarLike, x: Float[Array, "n n"]) -> Float[Array, ""]:
        """Compute log p_t(x), the density over the n² pixels.

        Args:
            t: time, not negative; positive if a mode of the prior has variance 0 (else NaN).
            x: one field, shape (n, n).

        Raises:
            ValueError: x has another shape.
        """
        if jnp.shape(x) != self.variances.shape:
            raise ValueError(
                f"`x` should be one field of shape {self.variances.shape}, got shape {jnp.shape(x)}; batch with "
                "`jax.vmap`."
            )
        variance = self._variance(t)
        power = jnp.abs(jnp.fft.fft2(x, norm="ortho")) ** 2
        return -0.5 * jnp.sum(power / variance + jnp.log(2 * np.pi * variance))

    @property
    def score(self) -> "_LinearFunction":
        """∇ₓ log p_t(x) = -x_k / v_k(t), 0 where v_k(t) = 0, a function (t, x, args) for `smdpx.Score`."""
        return _LinearFunction(self._score_rates)

    def posterior_mean(self, t: RealScalarLike, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """E[x_0 | x_t = x]; the end of the noise-free reverse drift.

        Args:
            t: time, positive.
            x: the observed field x_t, shape (n, n).
        """
        decay, _ = self._transition(t)
        return self._filter(_ratio(decay * self.variances, self._variance(t)), x)

    def posterior_variances(self, t: RealScalarLike) -> Float[Array, "n n"]:
        """The variance of each Fourier mode of x_0 given x_t, whatever x_t is: v_k(0) q_k(t) / v_k(t).

        Args:
            t: time, positive.
        """
        _, noise = self._transition(t)
        return _ratio(self.variances * noise, self._variance(t))

    def sample_posterior(self, t: RealScalarLike, x: Float[Array, "n n"], *, key: Key) -> Float[Array, "n n"]:
        """Draw x_0 given x_t = x.

        Args:
            t: time, positive.
            x: the observed field x_t, shape (n, n).
            key: a JAX random key.
        """
        return self.posterior_mean(t, x) + self._coloured(self.posterior_variances(t), key)

    def probability_flow(self, t: RealScalarLike, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The end at t = 0 of the probability flow through (t, x): √(v_k(0)/v_k(t)) x_k.

        The flow scales each mode so as to keep the marginals, which fixes the factor.

        Args:
            t: time, positive.
            x: one field x_t, shape (n, n).
        """
        return self._filter(_ratio(jnp.sqrt(self.variances), jnp.sqrt(self._variance(t))), x)

    # Methods and no lambdas: a bound method is a pytree of the field's arrays, which a transformation sees.
    def _drift_rates(self, t: RealScalarLike) -> Float[Array, "n n"]:
        return -self.rates

    def _score_rates(self, t: RealScalarLike) -> Float[Array, "n n"]:
        return -_ratio(jnp.ones((), self.rates.dtype), self._variance(t))

    def _transition(self, t: RealScalarLike) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """Give a and q of x_k(t) = a_k x_k(0) + √q_k ξ_k."""
        t = jnp.asarray(t, self.rates.dtype)
        rates = self.rates
        if self.dt is None:
            return jnp.exp(-rates * t), self.g**2 * t * phi1(-2 * rates * t)
        # Σ_{j<m} exp(-2λ j dt), with m steps: the ratio of two integrals, safe at λ = 0.
        t = jnp.round(t / self.dt) * self.dt
        steps = t * phi1(-2 * rates * t) / (self.dt * phi1(-2 * rates * self.dt))
        return jnp.exp(-rates * t), self.g**2 * self.dt * steps

    def _variance(self, t: RealScalarLike) -> Float[Array, "n n"]:
        decay, noise = self._transition(t)
        return decay**2 * self.variances + noise

    def _filter(self, factor: Float[Array, "n n"], x: Float[Array, "..."]) -> Float[Array, "n n"]:
        return _operator(factor)(x)

    def _coloured(self, variance: Float[Array, "n n"], key: Key) -> Float[Array, "n n"]:
        return self._filter(jnp.sqrt(variance), jax.random.normal(key, variance.shape, variance.dtype))


def _ratio(a: Float[Array, "..."], variance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The ratio a / variance, 0 where there is no variance; safe to differentiate there."""
    some = variance > 0
    return jnp.where(some, a / jnp.where(some, variance, jnp.ones_like(variance)), jnp.zeros_like(variance))


def _check_even(name: str, value: Float[Array, "n n"]) -> None:
    """Raise where known numbers of waves k and -k differ: real fields have no such modes, and one of them would win."""
    if not is_concrete(value):
        return
    numbers = np.asarray(value)
    mirrored = np.roll(numbers[::-1, ::-1], 1, axis=(0, 1))
    off = np.abs(numbers - mirrored) > 1e-4 * np.maximum(np.abs(numbers), np.abs(mirrored))
    if off.any():
        i, j = (int(place[0]) for place in np.nonzero(off))
        n = len(numbers)
        raise ValueError(
            f"`{name}` should be even in k, since the fields are real; got {numbers[i, j]:g} at {(i, j)} and "
            f"{mirrored[i, j]:g} at {(-i % n, -j % n)}. They are in the order of `jnp.fft.fft2`."
        )


class _LinearFunction(eqx.Module):
    """The function (t, x, args) -> L(t) x, which states its operator L(t) for exponential solvers."""

    rates: Callable[[RealScalarLike], Float[Array, "n n"]]

    def __call__(self, t: RealScalarLike, x: Float[Array, "n n"], args: Args = None) -> Float[Array, "n n"]:
        del args
        return self.linear(t)(x)

    def linear(self, t: RealScalarLike) -> Fourier:
        return _operator(self.rates(t))


def _operator(factor: Float[Array, "n n"]) -> Fourier:
    # Factors are even in k, so the result is real: the half spectrum is enough.
    return Fourier(factor[:, : factor.shape[0] // 2 + 1])
