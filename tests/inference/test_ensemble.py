"""The ensemble Kalman smoother, which is exact for linear-Gaussian problems and large ensembles."""

# Wrong on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx import metrics
from smdpx.exact import LinearGaussianField, power_law_field
from smdpx.inference._ensemble import ensemble_smoother
from tests._problems import OU, as_users_run as as_users_run

T = 0.2
HEAT = LinearGaussianField(power_law_field(8), g=0.1, dt=T / 32)
# This generator compiles in a tenth of the default's time.
KEY, K0, K1, K2 = jax.random.split(jax.random.key(0, impl="rbg"), 4)


@partial(jax.jit, static_argnums=0)
def pairs(count, key):
    """Initial fields and their ends."""
    prior, path = jax.random.split(key)
    x0 = jax.vmap(lambda key: HEAT.sample_prior(key=key))(jax.random.split(prior, count))
    return x0, jax.vmap(lambda x, key: HEAT.simulate(T, x, key=key))(x0, jax.random.split(path, count))


@jax.jit
def exact_mean(observed):
    return jax.vmap(lambda x: HEAT.posterior_mean(T, x))(observed)


@jax.jit
def exact_samples(observed):
    keys = jax.random.split(K2, len(observed))
    return jax.vmap(lambda x, key: HEAT.sample_posterior(T, x, key=key))(observed, keys)


def normal_pairs(m, slope=0.5, std=0.3):
    """Scalar states x_T = slope · x₀ + std · ξ, of a prior N(2, 1)."""
    x0 = 2 + jax.random.normal(K0, (m,))
    return x0, slope * x0 + std * jax.random.normal(K1, (m,))


def test_heat_samples_are_the_posteriors():
    x0, xT = pairs(20_000, K0)
    truth, observed = pairs(300, K1)
    samples = ensemble_smoother(x0, xT, observed, 100, key=KEY)
    assert samples.shape == (100, 300, 8, 8)
    exact = exact_mean(observed)
    # 100 draws a case add their own error to the mean's.
    off = jnp.mean((samples.mean(0) - exact) ** 2) - jnp.mean(samples.var(0)) / 100
    assert float(off / jnp.mean(exact**2)) < 0.02**2
    assert metrics.spread_skill(samples, truth).ratio == pytest.approx(1, abs=0.06)
    error, exact_error = (float(jnp.mean((x - truth) ** 2)) for x in (samples[0], exact_samples(observed)))
    assert error == pytest.approx(exact_error, rel=0.1)


def test_a_scalar_problem_is_exact_up_to_sampling_error():
    ou = OU()
    m = 40_000
    x0 = ou.start(m, K0)
    mean, var = ou.marginal(ou.T)
    decay = np.exp(-ou.rate * ou.T)
    xT = mean + decay * (x0 - ou.mean) + np.sqrt(var - decay**2 * ou.var) * jax.random.normal(K1, (m,))
    observed = jnp.array([-1.0, 0.0, 2.0])
    samples = ensemble_smoother(x0, xT, observed, m, key=KEY)
    expected, spread = ou.posterior(observed)
    assert samples.mean(0) == pytest.approx(np.asarray(expected), abs=0.02)
    assert samples.var(0) == pytest.approx(float(spread), rel=0.02)


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_noise_of_the_observation_widens_the_posterior(noise):
    x0, xT = normal_pairs(40_000)
    observed = jnp.array([0.0, 1.0])
    samples = ensemble_smoother(x0, xT, observed, 40_000, key=KEY, noise=noise)
    gain = 0.5 / (0.25 + 0.09 + noise**2)
    assert samples.mean(0) == pytest.approx(2 + gain * (np.asarray(observed) - 1), abs=0.02)
    assert samples.var(0) == pytest.approx(1 - 0.5 * gain, rel=0.03)


def test_components_of_very_different_size_keep_their_information():
    # An observed component of a ten-thousandth tells x₀ as exactly as a large one.
    small = jax.random.normal(K0, (3000, 1))
    large = jax.random.normal(K1, (3000, 1))
    xT = 100 + jnp.concatenate([1e-3 * small, 10 * large], axis=1)
    observed = 100 + jnp.array([[2e-3, -7.0]])
    x0 = jnp.concatenate([small, large, jax.random.normal(K2, (3000, 1))], axis=1)
    samples = ensemble_smoother(x0, xT, observed, 3000, key=KEY)[:, 0]
    assert samples[:, :2].mean(0) == pytest.approx(np.array([2, -0.7]), abs=0.05)
    assert samples[:, :2].std(0) == pytest.approx(0, abs=0.02)
    assert samples[:, 2].std() == pytest.approx(1, abs=0.05)


# Fewer members: d/m = 1/4.


@pytest.fixture(scope="module")
def few():
    """An ensemble, cases, and their samples."""
    ensemble, (truth, observed) = pairs(256, K0), pairs(300, K1)
    return *ensemble, truth, observed, ensemble_smoother(*ensemble, observed, 256, key=KEY)


def test_small_ensembles_are_overconfident_as_documented(few):
    _, _, truth, _, samples = few
    # Variances are 3/4 and 4/3 of what they should be.
    assert metrics.spread_skill(samples, truth).ratio == pytest.approx(0.75, abs=0.08)


def test_one_smoother_for_each_mode_needs_few_members(few):
    def modes(x):
        spectrum = jnp.fft.fft2(x, norm="ortho")
        return (spectrum.real - spectrum.imag).reshape(*x.shape[:-2], -1)

    x0, xT, truth, observed, together = few
    per_mode = jax.vmap(partial(ensemble_smoother, n=256, key=KEY), in_axes=-1, out_axes=-1)
    samples = modes(per_mode(modes(x0), modes(xT), modes(observed)).reshape(256, 300, 8, 8))
    exact = exact_mean(observed).reshape(300, 64)
    local, full = (jnp.mean((x.reshape(256, 300, 64).mean(0) - exact) ** 2) for x in (samples, together))
    assert float(local) < float(full) / 10
    ratio = metrics.spread_skill(samples.reshape(256, 300, 8, 8), truth).ratio
    assert ratio == pytest.approx(1, abs=0.08)


def test_members_are_dealt_out_evenly_and_at_random():
    # Ends that tell nothing leave the members where they are, up to a shift.
    x0 = jnp.arange(50.0)
    xT = jnp.where(jnp.arange(50) % 2 == 0, 1.0, -1.0) * jnp.where(jnp.arange(50) % 4 < 2, 1.0, -1.0)
    samples = ensemble_smoother(x0, xT, jnp.zeros(20), 10, key=KEY, noise=1e4)
    members = np.rint(np.asarray(samples)).astype(int)
    assert all(len(set(case)) == 10 for case in members.T)
    assert np.bincount(members.ravel()).tolist() == [4] * 50
    assert not np.array_equal(np.sort(members[:, 0]), np.arange(10))
    everyone = np.sort(np.rint(np.asarray(ensemble_smoother(x0, xT, jnp.zeros(2), 50, key=KEY, noise=1e4))), axis=0)
    assert np.array_equal(everyone, np.stack([x0, x0], axis=1))


def test_what_is_observed_may_be_a_part_of_the_end():
    x0 = jax.random.normal(K0, (2000, 3, 2))
    samples = ensemble_smoother(x0, x0[:, 1, 0], jnp.array([1.5, -0.5]), 2000, key=KEY)
    assert samples.shape == (2000, 2, 3, 2)
    assert samples[:, :, 1, 0] == pytest.approx(np.array([[1.5, -0.5]]).repeat(2000, 0), abs=1e-5)
    assert samples[:, :, 0, 1].std(0) == pytest.approx(1, abs=0.05)


def test_the_same_key_gives_the_same_samples_in_or_out_of_jit():
    x0, xT = normal_pairs(100)
    call = partial(ensemble_smoother, n=20, key=KEY, noise=0.1)
    samples = call(x0, xT, jnp.zeros(3))
    assert jnp.allclose(jax.jit(call)(x0, xT, jnp.zeros(3)), samples, atol=1e-5)
    assert jnp.array_equal(call(np.asarray(x0), np.asarray(xT), np.zeros(3, np.float32)), samples)
    with pytest.warns(UserWarning, match="is float64, and JAX computes in float32 here"):
        assert jnp.array_equal(call(np.asarray(x0, np.float64), np.asarray(xT, np.float64), np.zeros(3)), samples)


@pytest.mark.parametrize("unit", [1e-30, 1e-20, 1e20, 1e36])
def test_states_may_have_any_unit(unit):
    x0, noise = jax.random.normal(K0, (2, 50, 3))
    xT = x0 + 0.5 * noise
    call = lambda unit: ensemble_smoother(unit * x0, unit * xT, unit * xT[:2], 20, key=KEY, noise=0.1 * unit)  # noqa: E731
    np.testing.assert_allclose(call(unit) / unit, call(1.0), atol=1e-4)


def test_ends_that_tell_nothing_leave_the_prior():
    x0 = jnp.arange(5.0)
    assert jnp.array_equal(jnp.sort(ensemble_smoother(x0, jnp.ones(5), jnp.ones(1), 5, key=KEY)[:, 0]), x0)


@pytest.mark.usefixtures("as_users_run")
class TestErrors:
    def call(self, x0=None, xT=None, observed=None, n=4, **how):
        x0 = jax.random.normal(K0, (20, 3)) if x0 is None else x0
        xT = jax.random.normal(K1, (20, 3)) if xT is None else xT
        observed = jnp.zeros((2, 3)) if observed is None else observed
        return ensemble_smoother(x0, xT, observed, n, key=KEY, **how)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"xT": jnp.ones((19, 3))}, "the same members, at least 2; got 20 and 19"),
            ({"x0": jnp.ones((1, 3)), "xT": jnp.ones((1, 3)), "n": 1}, "at least 2; got 1 and 1"),
            ({"observed": jnp.zeros((2, 4))}, r"`observed` must have cases in front of .*\(3,\); got \(2, 4\)"),
            ({"observed": jnp.zeros(3)}, r"got \(3,\). For one case write `observed\[None\]`"),
            ({"x0": jnp.ones((20, 3)).at[7].set(jnp.inf)}, "`x0` is not finite: sample 7"),
            ({"xT": jnp.ones((20, 3)).at[7].set(jnp.nan)}, "`xT` is not finite: sample 7"),
            ({"observed": jnp.full((2, 3), jnp.nan)}, "`observed` is not finite: sample 0 is the first of 2"),
            ({"n": 0}, r"`n` must be at least 1; got 0"),
            ({"n": 21}, r"`n` must be in 1 ... 20.*got 21"),
            ({"noise": -0.1}, "`noise` must be finite and not negative; got -0.1"),
            ({"rtol": float("nan")}, "`rtol` must be finite and not negative; got nan"),
        ],
    )
    def test_of_values(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            self.call(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"x0": (jnp.ones(20), jnp.ones(20))}, "`x0` must be one array.*got tuple.*ravel_pytree"),
            ({"x0": jnp.ones((20, 3), int)}, r"`x0` must be floating.*x0.astype"),
            ({"n": 4.0}, "`n` is a count and must be an integer; got 4.0"),
        ],
    )
    def test_of_types(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            self.call(**arguments)

    def test_an_ensemble_too_small_for_what_is_observed(self):
        x0, xT = jax.random.normal(K0, (2, 4, 3))
        with pytest.raises(ValueError, match="ensemble of 4 members fits 3 observed components exactly"):
            self.call(x0, xT)
        assert self.call(x0, xT, noise=0.1).shape == (4, 2, 3)
        assert self.call(x0, xT, rtol=0.9).shape == (4, 2, 3)
