"""The Ornstein-Uhlenbeck oracle against quadrature, the matrix exponential and its own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx.exact import GaussianMixture, OUMixture

A = jnp.array([[-1.0, 2.0], [-0.5, -0.3]])
START_1D = GaussianMixture([-1.0, 1.5], [0.3, 0.7], [0.2, 0.05])
START_2D = GaussianMixture(
    [[-1.0, 0.0], [1.0, 0.5]],
    [0.4, 0.6],
    jnp.array([[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]]]),
)
SCALAR = OUMixture(-0.7, 0.5, START_1D)
MATRIX = OUMixture(A, jnp.array([0.3, 0.8]), START_2D)
POINTS = OUMixture(-0.5, 0.04, GaussianMixture([-1.0, 1.0]))


def van_loan(A, g, t):
    d = A.shape[0]
    block = jnp.block([[-A, jnp.diag(g**2)], [jnp.zeros((d, d)), A.T]])
    exponential = jax.scipy.linalg.expm(block * t)
    F = exponential[d:, d:].T
    return F, F @ exponential[:d, d:]


@pytest.mark.parametrize("t", [1e-3, 0.4, 3.0])
def test_transition_of_a_matrix_drift_is_van_loans(t):
    F, Q = MATRIX.transition(t)
    expected_F, expected_Q = van_loan(A, MATRIX.g, t)
    np.testing.assert_allclose(F, expected_F, atol=2e-6)
    np.testing.assert_allclose(Q, expected_Q, atol=2e-6, rtol=1e-4)


def test_a_fast_decay_reaches_the_stationary_covariance():
    A = jnp.array([[-60.0, 5.0], [0.0, -80.0]])
    _, Q = OUMixture(A, 1.0, START_2D).transition(10.0)
    np.testing.assert_allclose(A @ Q + Q @ A.T, -np.eye(2), atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 1e-9, -1e-5, 0.02, -3.0])
def test_scalar_drift_equals_the_matrix_drift(rate):
    F, Q = OUMixture(rate, 0.5, START_2D).transition(0.8)
    matrix_F, matrix_Q = OUMixture(rate * jnp.eye(2), 0.5, START_2D).transition(0.8)
    np.testing.assert_allclose(F, matrix_F, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(Q, matrix_Q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rate", [0.0, 1e-6, -0.004, 0.3])
def test_variance_differentiates_in_the_rate(rate):
    def variance(a, t=2.0):
        return OUMixture(a, 1.0, START_1D).transition(t)[1]

    # d/da ∫₀ᵗ exp(2 a r) dr, by quadrature.
    r = np.linspace(0, 2, 20001)
    expected = np.trapezoid(2 * r * np.exp(2 * rate * r), r)
    assert jax.grad(variance)(rate) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("process", "x"), [(SCALAR, jnp.array(0.4)), (MATRIX, jnp.array([0.2, -0.3]))])
def test_score_is_the_gradient_of_log_prob(process, x):
    gradient = jax.grad(lambda y: process.log_prob(0.5, y))(x)
    np.testing.assert_allclose(process.score(0.5, x), gradient, rtol=1e-4)


def test_density_integrates_the_transition_over_the_start():
    x0 = np.linspace(-5, 6, 20001)
    F, Q = (float(part) for part in SCALAR.transition(0.9))
    start = np.exp(jax.vmap(START_1D.log_prob)(jnp.asarray(x0, float)))
    kernel = np.exp(-0.5 * (0.4 - F * x0) ** 2 / Q) / np.sqrt(2 * np.pi * Q)
    expected = np.log(np.trapezoid(start * kernel, x0))
    assert SCALAR.log_prob(0.9, 0.4) == pytest.approx(expected, abs=1e-4)


def test_posterior_is_start_times_likelihood():
    x0 = jnp.linspace(-1.5, 2.5, 9)
    F, Q = SCALAR.transition(0.9)
    log_likelihood = -0.5 * (0.4 - F * x0) ** 2 / Q - 0.5 * jnp.log(2 * jnp.pi * Q)
    bayes = jax.vmap(START_1D.log_prob)(x0) + log_likelihood - SCALAR.log_prob(0.9, 0.4)
    posterior = SCALAR.posterior(0.9, 0.4)
    np.testing.assert_allclose(jax.vmap(posterior.log_prob)(x0), bayes, atol=1e-4)


def test_posterior_means_average_to_the_starts_mean():
    xs = MATRIX.sample(0.5, 20000, key=jax.random.key(3))
    means = jax.vmap(lambda x: MATRIX.posterior(0.5, x).mean())(xs)
    np.testing.assert_allclose(means.mean(0), START_2D.mean(), atol=0.015)


def test_score_follows_from_the_posterior_mean():
    x = jnp.array([0.2, -0.3])
    F, Q = MATRIX.transition(0.5)
    tweedie = jnp.linalg.solve(Q, F @ MATRIX.posterior(0.5, x).mean() - x)
    np.testing.assert_allclose(MATRIX.score(0.5, x), tweedie, rtol=1e-4)


def test_point_masses_have_a_two_point_posterior():
    posterior = POINTS.posterior(3.0, 0.01)
    np.testing.assert_allclose(posterior.means, [-1, 1])
    np.testing.assert_allclose(posterior.covariances, 0, atol=1e-12)
    F, Q = POINTS.transition(3.0)
    expected = jax.nn.sigmoid(2 * F * 0.01 / Q)
    assert posterior.weights[1] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("process", [SCALAR, MATRIX, POINTS])
def test_samples_have_the_marginals_moments(process):
    samples = process.sample(0.6, 20000, key=jax.random.key(0))
    marginal = process.marginal(0.6)
    np.testing.assert_allclose(samples.mean(0), marginal.mean(), atol=0.025)
    np.testing.assert_allclose(jnp.cov(samples.T), marginal.covariance(), rtol=0.05, atol=0.01)


def test_samples_of_components_of_very_different_size_have_their_own_deviations():
    sizes = jnp.array([1e3, 1e-2])
    start = GaussianMixture(
        jnp.zeros((1, 2)), covariances=(jnp.array([[1.0, 0.5], [0.5, 1.0]]) * jnp.outer(sizes, sizes))[None]
    )
    samples = start.sample(4000, key=jax.random.key(0)) / sizes[None]
    np.testing.assert_allclose(jnp.cov(samples.T), [[1.0, 0.5], [0.5, 1.0]], atol=0.08)


def test_posterior_samples_of_point_masses_are_the_points():
    samples = POINTS.sample_posterior(3.0, 0.0005, 4000, key=jax.random.key(0))
    np.testing.assert_allclose(jnp.abs(samples), 1)
    plus = POINTS.component_probabilities(3.0, 0.0005)[1]
    assert jnp.mean(samples > 0) == pytest.approx(float(plus), abs=0.025)


def test_start_is_the_density_at_time_zero():
    assert SCALAR.log_prob(0.0, 0.4) == pytest.approx(float(START_1D.log_prob(0.4)), rel=1e-6)


def test_score_keeps_its_own_precision_and_the_states_under_x64():
    with jax.enable_x64(True):
        start = GaussianMixture([-1.0, 1.5], [0.3, 0.7], [0.2, 0.05])
        wide = OUMixture(-0.7, 0.5, start)
        assert wide.score(0.5, jnp.array(0.4)).dtype == jnp.float64
        narrow = SCALAR.score(0.5, jnp.array(0.4, jnp.float32))
        assert narrow.dtype == jnp.float32
        assert narrow == pytest.approx(float(wide.score(0.5, jnp.array(0.4))), rel=1e-5)


def test_score_of_a_double_is_single_where_double_precision_is_off():
    assert SCALAR.score(0.5, np.float64(0.4)).dtype == jnp.float32


def test_drift_is_a_rate():
    x = jnp.array([0.2, -0.3])
    np.testing.assert_allclose(MATRIX.drift(0.0, x, None), A @ x)


def test_samples_differentiate_through_a_point_mass():
    def spread(g):
        process = OUMixture(-0.5, g, GaussianMixture([-1.0, 1.0]))
        return jnp.std(process.sample(0.0, 8, key=jax.random.key(0)) * g)

    assert jnp.isfinite(jax.grad(spread)(0.1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianMixture([0.0, 1.0], [0.5, 0.6]), "`weights` should not be negative"),
        (lambda: GaussianMixture([0.0, 1.0], [1.0]), r"`weights` should have shape \(2,\)"),
        (lambda: GaussianMixture([0.0], covariances=-1.0), "`covariances` should not be negative"),
        (lambda: GaussianMixture([[0.0, 1.0]], covariances=jnp.eye(2)), r"jnp.stack"),
        (
            lambda: GaussianMixture([[0.0, 1.0]], covariances=jnp.array([[[1.0, 2.0], [2.0, 1.0]]])),
            "positive semidefinite",
        ),
        (lambda: GaussianMixture(0.5), r"`means` should have shape \(k,\)"),
        (lambda: OUMixture(jnp.eye(3), 1.0, START_2D), r"`A` should be a number or have shape"),
        (lambda: OUMixture(-1.0, jnp.ones(3), START_2D), r"`g` should be a number or have shape"),
        (lambda: OUMixture(-1.0, -0.1, START_2D), "`g` should not be negative"),
        (lambda: SCALAR.log_prob(0.5, jnp.zeros(3)), "batch with `jax.vmap`"),
        (lambda: SCALAR.log_prob(-0.5, 0.0), "`t` should not be negative"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
