"""The Fokker-Planck oracle against closed forms, and the toy SDE of arXiv:2301.10250 §4.1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx.exact import FokkerPlanck1D, GaussianMixture, OUMixture

POINTS = GaussianMixture([-1.0, 1.0])
OU = OUMixture(-0.5, 0.04, POINTS)
G, T, DT = 0.03, 10.0, 0.02


def toy(t, x, args):
    return -7 * jnp.sign(x) * x**2


def spring(t, x, args):
    return -0.5 * x


@pytest.fixture(scope="module")
def toy_fp():
    return FokkerPlanck1D(toy, G, POINTS, T)


@pytest.fixture(scope="module")
def ou_fp():
    return FokkerPlanck1D(spring, 0.04, POINTS, T)


def backward(fp, x, dt, C, key=None):
    """Euler's rule for dx = [-f + C ½g² score] dτ, with noise if there is a key."""

    @jax.jit
    def run(x, noise_key):
        def step(x, i):
            t = T - i.astype(float) * dt
            x = x + dt * (-toy(t, x, None) + 0.5 * C * G**2 * fp.score(t, x))
            if key is not None:
                noise = jax.random.normal(jax.random.fold_in(noise_key, i), x.shape)
                x = x + G * np.sqrt(dt).item() * noise
            return x, None

        return jax.lax.scan(step, x, jnp.arange(round(T / dt)))[0]

    return run(x, jax.random.key(0) if key is None else key)


def quality(x):
    return 2 * min(jnp.mean(jnp.abs(x - 1) < 0.1), jnp.mean(jnp.abs(x + 1) < 0.1))


def test_toy_posterior_probabilities(toy_fp):
    plus = toy_fp.component_probabilities(T, jnp.array([0.1, 0.05, 0.02, -0.1]))[:, 1]
    np.testing.assert_allclose(plus, [0.608, 0.572, 0.534, 0.392], atol=6e-4)


@pytest.mark.optimized
@pytest.mark.parametrize(("dt", "end"), [(0.02, 0.965), (0.001, 1.0)])
def test_toy_probability_flow_finds_every_start(toy_fp, dt, end):
    x = jnp.linspace(-0.1, 0.1, 1000)
    x0 = backward(toy_fp, x, dt, C=1)
    assert jnp.all(jnp.sign(x0) == jnp.sign(x))
    assert quality(x0) == 1
    assert jnp.median(jnp.abs(x0)) == pytest.approx(end, abs=0.003)


def test_toy_reverse_sde_draws_both_starts(toy_fp):
    x0 = backward(toy_fp, jnp.linspace(-0.1, 0.1, 1000), DT, C=2, key=jax.random.key(1))
    assert jnp.mean(jnp.abs(jnp.abs(x0) - 1) < 0.1) == 1
    # Q = 1 - 2|share - ½| of 1,000 coins.
    assert quality(x0) > 0.9


@pytest.mark.parametrize("t", [1e-5, 0.02, 0.1])
def test_toy_is_gaussian_while_the_noise_is_small(toy_fp, t):
    # m' = f(m), v' = 2 f'(m) v + g² with f = -7x²: u = 1 + 7t gives m = 1/u, v = g² (u - u⁻⁴)/35.
    u = 1 + 7 * t
    mean, variance = 1 / u, G**2 * (u - u**-4) / 35
    x = mean + np.sqrt(variance) * jnp.array([-1.5, 0.0, 1.5])
    scaled = toy_fp.score(t, x) * np.sqrt(variance).item()
    np.testing.assert_allclose(scaled, [1.5, 0, -1.5], atol=0.06)


def test_score_between_far_modes_is_finite_and_signed(toy_fp):
    # The density there is e⁻¹⁰⁰⁰ and less.
    x = jnp.linspace(-1.5, 1.5, 301)
    score = jax.vmap(lambda t: toy_fp.score(t, x))(jnp.array([1e-5, 0.02, 0.5, 5.0, T]))
    assert jnp.all(jnp.isfinite(score))
    nearest = jnp.array([-0.877, 0.877])
    pull = toy_fp.score(0.02, jnp.array([-0.3, 0.3]))
    assert jnp.all(jnp.sign(pull) == jnp.sign(nearest))


def test_probability_is_conserved(toy_fp):
    x = jnp.linspace(-0.6, 0.6, 4001)
    mass = jnp.trapezoid(jnp.exp(toy_fp.log_prob(T, x)), x)
    assert mass == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("t", [0.02, 1.0, 3.3, T])
def test_score_is_the_ou_mixtures(ou_fp, t):
    x = OU.sample(t, 2000, key=jax.random.key(0))
    exact = jax.vmap(lambda y: OU.score(t, y))(x)
    error = jnp.sqrt(jnp.mean((ou_fp.score(t, x) - exact) ** 2) / jnp.mean(exact**2))
    assert error < 1.5e-3


def test_log_prob_is_the_ou_mixtures(ou_fp):
    x = OU.sample(T, 2000, key=jax.random.key(0))
    exact = jax.vmap(lambda y: OU.log_prob(T, y))(x)
    np.testing.assert_allclose(ou_fp.log_prob(T, x), exact, atol=1e-3)


def test_error_falls_as_the_square_of_the_cell(toy_fp):
    def end(nodes):
        return FokkerPlanck1D(toy, G, POINTS, T, nodes=nodes).log_prob(T, 0.05)

    coarse, middle, fine = float(end(51)), float(end(101)), float(toy_fp.log_prob(T, 0.05))
    assert abs(coarse - fine) > 3 * abs(middle - fine)


def test_one_component_may_split_into_two_modes():
    # Stationary density of dx = (x - x³) dt + g dW: log p = (2/g²)(x²/2 - x⁴/4) + const.
    g = 0.8
    start = GaussianMixture([0.0])
    well = FokkerPlanck1D(lambda t, x, args: x - x**3, g, start, 10.0, nodes=300)
    x = jnp.linspace(-1.5, 1.5, 13)
    np.testing.assert_allclose(well.score(10.0, x), 2 / g**2 * (x - x**3), atol=0.03)


def test_noise_may_depend_on_time_and_starts_may_be_wide():
    start = GaussianMixture([0.0, 2.0], [0.3, 0.7], [0.04, 0.0])
    fp = FokkerPlanck1D(lambda t, x, args: 0 * x, lambda t: 0.1 + t, start, 1.0, nodes=200)
    added = (1.1**3 - 0.1**3) / 3
    exact = GaussianMixture([0.0, 2.0], [0.3, 0.7], [0.04 + added, added])
    x = jnp.linspace(-1, 3, 9)
    np.testing.assert_allclose(fp.log_prob(1.0, x), jax.vmap(exact.log_prob)(x), atol=2e-3)


def test_samples_have_the_exact_moments(ou_fp):
    x = ou_fp.sample(1.0, 20000, key=jax.random.key(0))
    marginal = OU.marginal(1.0)
    assert jnp.mean(x) == pytest.approx(float(marginal.mean()), abs=0.015)
    assert jnp.mean(jnp.abs(x)) == pytest.approx(np.exp(-0.5), abs=1e-3)
    assert jnp.std(jnp.abs(x)) == pytest.approx(float(jnp.sqrt(OU.transition(1.0)[1])), rel=0.02)


def test_score_takes_states_of_any_shape_and_args(ou_fp):
    single = ou_fp.score(1.0, jnp.array(0.6), None)
    assert single.shape == ()
    assert ou_fp.score(1.0, jnp.array([0.6])).shape == (1,)
    assert jax.vmap(ou_fp.score, in_axes=(None, 0))(1.0, jnp.array([0.6]))[0] == single


def test_times_out_of_range_are_nan(ou_fp):
    assert jnp.isnan(ou_fp.log_prob(T + 0.1, 0.0))
    assert jnp.isnan(ou_fp.log_prob(-0.1, 0.0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FokkerPlanck1D(toy, G, GaussianMixture([[0.0, 1.0]]), T), "`start` should have"),
        (lambda: FokkerPlanck1D(toy, G, POINTS, -1.0), "`T` should be positive"),
        (lambda: FokkerPlanck1D(toy, G, POINTS, T, nodes=3), "`nodes` should be at least 32"),
        (lambda: FokkerPlanck1D(toy, 0.0, POINTS, T), "`g` should be positive"),
        (
            lambda: FokkerPlanck1D(lambda t, x, args: x * jnp.inf, G, POINTS, T),
            "`drift` should be finite",
        ),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_batched_drift_is_refused():
    with pytest.raises(TypeError, match="write it for one sample"):
        FokkerPlanck1D(lambda t, x, args: jnp.ones(3) * x, G, POINTS, T)
