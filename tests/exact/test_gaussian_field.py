"""Gaussian fields under the heat equation, against known figures and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.exact import LinearGaussianField, power_law_field
from tests._problems import as_users_run as as_users_run

T, STEPS, N = 0.2, 32, 32
HEAT = LinearGaussianField(power_law_field(N), g=0.1, dt=T / STEPS)
SMALL = LinearGaussianField(power_law_field(8), g=0.1)


@pytest.fixture(scope="module")
def fields():
    x0_keys, xT_keys, keys = jax.random.split(jax.random.key(0), (3, 500))
    x0 = jax.vmap(lambda key: HEAT.sample_prior(key=key))(x0_keys)
    xT = jax.vmap(lambda x, key: HEAT.simulate(T, x, key=key))(x0, xT_keys)
    return x0, xT, keys


def figures(x0, xT, guess):
    again = jax.vmap(lambda x: HEAT.decay(T, x))(guess)
    return float(jnp.mean((again - xT) ** 2)), float(jnp.mean((guess - x0) ** 2))


# Reconstruction error and distance to x_0 of 500 fields, measured with other code; the sampling
# error is 2-4 %.
def test_posterior_mean_has_the_known_errors(fields):
    x0, xT, _ = fields
    guess = jax.vmap(lambda x: HEAT.posterior_mean(T, x))(xT)
    assert figures(x0, xT, guess) == pytest.approx((8.48e-5, 0.0275), rel=0.05)


def test_posterior_samples_have_the_known_errors(fields):
    x0, xT, keys = fields
    guess = jax.vmap(lambda x, key: HEAT.sample_posterior(T, x, key=key))(xT, keys)
    assert figures(x0, xT, guess) == pytest.approx((1.24e-4, 0.0561), rel=0.05)


def test_probability_flow_has_the_known_errors(fields):
    x0, xT, _ = fields
    guess = jax.vmap(lambda x: HEAT.probability_flow(T, x))(xT)
    assert figures(x0, xT, guess) == pytest.approx((8.07e-5, 0.0488), rel=0.05)


def test_prior_is_the_papers_generator():
    # Re ifft2((a + ib) |f|⁻²), f in cycles per pixel, divided by its standard deviation, 2.4529.
    f = np.fft.fftfreq(N)
    squares = f[:, None] ** 2 + f[None, :] ** 2
    amplitude = np.where(squares == 0, 0, 1 / np.where(squares == 0, 1, squares))
    variances = (amplitude / 2.4529) ** 2 / N**2
    np.testing.assert_allclose(power_law_field(N), variances, rtol=1e-4)


def test_discrete_process_is_its_own_recursion():
    decay = np.exp(-np.asarray(HEAT.rates) * T / STEPS)
    variance = np.asarray(HEAT.variances, np.float64)
    for _ in range(STEPS):
        variance = decay**2 * variance + 0.1**2 * T / STEPS
    x = HEAT.sample_prior(key=jax.random.key(0))
    expected = np.fft.ifft2(-np.fft.fft2(x) / variance).real
    np.testing.assert_allclose(HEAT.score(T, x), expected, rtol=1e-3, atol=0.1)


def test_score_is_the_gradient_of_log_prob():
    x = SMALL.sample_prior(key=jax.random.key(0))
    score, gradient = jax.jit(lambda y: (SMALL.score(T, y), jax.grad(lambda y: SMALL.log_prob(T, y))(y)))(x)
    np.testing.assert_allclose(score, gradient, rtol=1e-3, atol=0.02)


def test_log_prob_is_the_multivariate_normals():
    x = SMALL.simulate(T, SMALL.sample_prior(key=jax.random.key(0)), key=jax.random.key(1))

    @jax.jit
    def both(x):
        # The score is linear, so its Jacobian is minus the precision matrix.
        precision = -jax.jacobian(lambda y: SMALL.score(T, y.reshape(8, 8)).ravel())(x.ravel())
        exact = jax.scipy.stats.multivariate_normal.logpdf(x.ravel(), jnp.zeros(64), jnp.linalg.inv(precision))
        return SMALL.log_prob(T, x), exact

    got, exact = both(x)
    assert float(got) == pytest.approx(float(exact), rel=1e-3)


def test_posterior_mean_is_tweedies():
    # Undoing the decay amplifies round-off by exp(λT), so the comparison is made on the decayed
    # side.
    x = SMALL.simulate(T, SMALL.sample_prior(key=jax.random.key(0)), key=jax.random.key(1))
    noise = SMALL._transition(T)[1]
    tweedie = x + SMALL._filter(noise, SMALL.score(T, x))
    np.testing.assert_allclose(SMALL.decay(T, SMALL.posterior_mean(T, x)), tweedie, atol=1e-5)


def test_flow_integrates_the_probability_flow_rate():
    def rate(t, x):
        return SMALL.drift(t, x) - 0.5 * SMALL.g**2 * SMALL.score(t, x)

    x = SMALL.sample_prior(key=jax.random.key(0))
    inverse = jax.jit(jax.jacobian(lambda t: SMALL.probability_flow(t, x)))(jnp.array(0.1))
    along = jax.jit(lambda x: jax.jvp(lambda y: SMALL.probability_flow(0.1, y), (x,), (rate(0.1, x),))[1])(x)
    # x_0 is the same from every point of one trajectory: ∂Φ/∂t + ∂Φ/∂x · rate = 0.
    np.testing.assert_allclose(inverse, -along, atol=1e-3 * jnp.max(jnp.abs(along)).item())


def test_mode_zero_has_no_posterior_mean_and_a_finite_score():
    x = jnp.ones((8, 8))
    np.testing.assert_allclose(SMALL.posterior_mean(T, x), 0, atol=1e-6)
    np.testing.assert_allclose(SMALL.score(T, x), -1 / (0.1**2 * T), rtol=1e-4)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: power_law_field(1), "`n` should be at least 2"),
        (lambda: LinearGaussianField(jnp.ones((4, 8)), g=0.1), "`variances` should have shape"),
        (lambda: LinearGaussianField(-jnp.ones((8, 8)), g=0.1), "`variances` should not be"),
        (lambda: LinearGaussianField(jnp.ones((8, 8)), jnp.ones(8), g=0.1), "`rates` should have"),
        (
            lambda: LinearGaussianField(jnp.ones((4, 4)).at[0, 3].set(5.0), g=0.1),
            r"`variances` should be even in k.*got 1 at \(0, 1\) and 5 at \(0, 3\)",
        ),
        (lambda: LinearGaussianField(jnp.ones((8, 8)), g=-0.1), "`g` should not be negative"),
        (lambda: LinearGaussianField(jnp.ones((8, 8)), g=0.1, dt=0.0), "`dt` should be positive"),
        (lambda: SMALL.score(T, jnp.zeros((16, 16))), "batch with `jax.vmap`"),
        (lambda: SMALL.log_prob(T, jnp.zeros((2, 8, 8))), r"shape \(8, 8\), got shape \(2, 8, 8\); batch with"),
        (lambda: SMALL.log_prob(T, jnp.zeros((1, 1))), r"shape \(8, 8\), got shape \(1, 1\)"),
        (lambda: SMALL.log_prob(T, jnp.zeros(8)), r"shape \(8, 8\), got shape \(8,\)"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_mode_without_variance_lets_a_solve_of_second_order_end_at_0():
    P, s = sx.Drift(SMALL.drift), sx.Score(SMALL.score, sx.Diffusion(0.1))
    xT = SMALL.simulate(T, SMALL.sample_prior(key=jax.random.key(0)), key=jax.random.key(1))
    ts = T * np.linspace(0, 1, STEPS + 1)[::-1] ** 2
    mean = sx.point_estimate(-P + 2 * s, xT[None], ts)[0]
    np.testing.assert_allclose(mean, SMALL.posterior_mean(T, xT), atol=2e-3)


def test_without_noise_the_posterior_of_a_mode_without_variance_is_known():
    still = LinearGaussianField(power_law_field(8), g=0.0)
    x0 = still.sample_prior(key=jax.random.key(0))
    np.testing.assert_allclose(still.posterior_mean(0.01, still.decay(0.01, x0)), x0, atol=1e-5)
    np.testing.assert_array_equal(still.posterior_variances(0.01), 0)
