"""Metrics of fields against the heat problem, whose posterior is known for each Fourier mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx import metrics
from smdpx.exact import LinearGaussianField, power_law_field
from tests._problems import double_precision

T, N = 0.2, 32
# This generator compiles in a tenth of the default's time.
KEYS = jax.random.split(jax.random.key(0, impl="rbg"), 3)


@partial(jax.jit, static_argnums=(0, 1))
def heat_cases(n, cases):
    """The problem, true fields and observed ones."""
    heat = LinearGaussianField(power_law_field(n), g=0.1, dt=T / 32)
    x0 = jax.vmap(lambda key: heat.sample_prior(key=key))(jax.random.split(KEYS[0], cases))
    xT = jax.vmap(lambda x, key: heat.simulate(T, x, key=key))(x0, jax.random.split(KEYS[1], cases))
    return heat, x0, xT


@partial(jax.jit, static_argnums=2)
def posterior_draws(heat, xT, draws):
    keys = jax.random.split(KEYS[2], (draws, len(xT)))
    return jax.vmap(lambda keys: jax.vmap(lambda x, key: heat.sample_posterior(T, x, key=key))(xT, keys))(keys)


@pytest.fixture(scope="module")
def cases():
    return heat_cases(N, 500)


@pytest.fixture(scope="module")
def sample(cases):
    heat, _, xT = cases
    return posterior_draws(heat, xT, 1)


@pytest.fixture(scope="module")
def draws():
    heat, x0, xT = heat_cases(16, 400)
    return np.asarray(posterior_draws(heat, xT, 20)), np.asarray(x0)


# Spectra


def test_power_of_the_prior_is_the_modes_variance():
    heat, x0, _ = heat_cases(17, 1000)
    wavenumbers, power = metrics.power_spectrum(x0)
    assert wavenumbers.tolist() == list(range(1, 9))
    assert power.shape == (1000, 8)
    exact = metrics.power_spectrum(np.fft.ifft2(np.sqrt(heat.variances), norm="ortho").real[None])[1][0]
    np.testing.assert_allclose(power.mean(0), exact, rtol=0.05)


def test_power_of_the_prior_falls_as_its_law(cases):
    heat, x0, _ = cases
    b, power = metrics.power_spectrum(x0)
    scaled = power.mean(0) / heat.variances[0, 1]
    # Bin b holds b ≤ |k| < b + 1.
    assert (scaled < 1.1 * b**-4.0).all()
    assert (scaled > (b + 1.0) ** -4).all()


@pytest.mark.parametrize("n", [2, 7, 8])
def test_power_of_white_noise_is_one(n):
    _, power = metrics.power_spectrum(jax.random.normal(KEYS[0], (2, 2000, n, n)))
    assert power.shape == (2, 2000, n // 2)
    assert power.mean((0, 1)) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("k", "b"), [((3, 4), 5), ((1, 1), 1), ((2, 2), 2), ((0, 7), 7), ((-6, 5), 7)])
def test_bins_are_the_integer_part_of_the_distance(k, b):
    i = np.arange(16)
    wave = np.cos(2 * np.pi * (k[0] * i[:, None] + k[1] * i[None, :]) / 16)
    _, power = metrics.power_spectrum(wave[None])
    assert (np.flatnonzero(power[0] > 1e-9) + 1).tolist() == [b]


# Figures of 500 fields, found with other code.
def test_spectral_errors_of_the_flow_and_of_samples_are_the_known_ones(cases, sample):
    heat, x0, xT = cases
    flow = jax.vmap(lambda x: heat.probability_flow(T, x))(xT)
    errors = [metrics.spectral_error(guess, x0) for guess in (flow, sample)]
    assert errors == pytest.approx([0.129, 0.136], abs=0.01)


def test_spectral_error_of_the_posterior_mean_is_the_known_one(cases):
    # Its high modes are below single precision.
    with double_precision():
        heat = LinearGaussianField(power_law_field(N), g=0.1, dt=T / 32)
        mean = jax.vmap(lambda x: heat.posterior_mean(T, x))(np.asarray(cases[2], np.float64))
    assert metrics.spectral_error(mean, cases[1]) == pytest.approx(5.73, rel=0.05)


def test_spectral_error_of_draws_is_their_mean_error(cases):
    _, x0, xT = cases
    draws = jnp.stack([xT, 2 * xT])
    each = [metrics.spectral_error(x, x0) for x in draws]
    assert metrics.spectral_error(draws, x0) == pytest.approx(np.mean(each))


def test_spectral_error_of_a_factor_is_its_logarithm():
    x = jax.random.normal(KEYS[0], (4, 9, 9))
    assert metrics.spectral_error(-3 * x, x, largest=4) == pytest.approx(np.log(3), rel=1e-5)


def test_spectral_error_does_not_see_the_mean():
    x = jax.random.normal(KEYS[0], (4, 24, 24))
    assert metrics.spectral_error(x + 1, x) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("largest", [0, 5])
def test_spectral_error_needs_resolved_wavenumbers(largest):
    x = jnp.ones((4, 8, 8))
    with pytest.raises(ValueError, match=rf"`largest` must be in 1 ... 4, .*got {largest}"):
        metrics.spectral_error(x, x, largest=largest)


def test_spectral_error_names_the_field_that_lacks_a_scale():
    x = jax.random.normal(KEYS[0], (4, 8, 8))
    with pytest.raises(ValueError, match=r"`samples\[2\]` has no power at wavenumber 1.*smaller `largest`"):
        metrics.spectral_error(x.at[2].set(0), x, largest=4)


def test_spectral_error_needs_a_truth_a_case():
    with pytest.raises(ValueError, match=r"`samples` must be shaped as `truth`.*\(5, 8, 8\) and truth \(4, 8, 8\)"):
        metrics.spectral_error(jnp.ones((5, 8, 8)), jnp.ones((4, 8, 8)))


# Spread and skill


def test_draws_of_the_posterior_have_ratio_one_at_every_wavenumber(draws):
    samples, truth = draws
    result = metrics.spread_skill(samples, truth)
    assert result.wavenumbers.tolist() == list(range(1, 9))
    # Bins have 8 real modes and more in 400 cases.
    assert result.ratio == pytest.approx(1, abs=0.05)
    assert result.ratio == pytest.approx(result.spread / result.skill)


def test_ratio_does_not_depend_on_the_number_of_draws(draws):
    samples, truth = draws
    assert metrics.spread_skill(samples[:2], truth).ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_ratio_is_the_factor_of_the_spread(draws, factor):
    samples, truth = draws
    # The mean of few draws would carry their own error.
    mean = samples.mean(0)
    error = np.sqrt(21 / 20) * (truth - mean)
    wrong = mean + factor * (samples - mean)
    assert metrics.spread_skill(wrong, mean + error).ratio == pytest.approx(factor, rel=0.1)


def test_ratio_tells_the_scales_apart(draws):
    samples, truth = draws
    k = np.rint(np.fft.fftfreq(16, 1 / 16))
    small_scales = np.hypot(k[:, None], k[None, :]) >= 4
    mean = samples.mean(0)
    squeezed = np.fft.ifft2(np.fft.fft2(samples - mean) * np.where(small_scales, 0.5, 1)).real
    ratio = metrics.spread_skill(mean + squeezed, truth).ratio
    assert ratio[:3] == pytest.approx(1, abs=0.06)
    assert ratio[3:] == pytest.approx(0.5, abs=0.03)


def test_spread_and_skill_are_in_units_of_the_state():
    x = 3 * jax.random.normal(KEYS[0], (31, 200, 8, 8))
    result = metrics.spread_skill(x[1:], x[0])
    assert result.spread == pytest.approx(3 * np.sqrt(31 / 30), rel=0.02)
    assert result.skill == pytest.approx(3 * np.sqrt(31 / 30), rel=0.04)


def test_a_scale_that_nothing_has_is_no_number():
    result = metrics.spread_skill(jnp.ones((3, 2, 4, 4)), jnp.ones((2, 4, 4)))
    assert np.isnan(result.ratio).all()
    assert not result.spread.any()


def test_spread_needs_two_draws():
    with pytest.raises(ValueError, match="`samples` must hold at least 2"):
        metrics.spread_skill(jnp.ones((1, 3, 8, 8)), jnp.ones((3, 8, 8)))


# Reconstruction


def test_reconstruction_errors_of_exact_answers_are_the_known_ones(cases, sample):
    heat, x0, xT = cases
    flow = jax.vmap(lambda x: heat.probability_flow(T, x))(xT)
    errors = [metrics.reconstruction_error(lambda x: heat.decay(T, x), guess, xT) for guess in (sample, flow, x0)]
    assert errors == pytest.approx([1.24e-4, 8.07e-5, 1.24e-4], rel=0.05)


def test_reconstruction_takes_states_of_any_shape():
    x0 = jax.random.normal(KEYS[0], (5, 7, 2, 3))
    assert metrics.reconstruction_error(lambda x: 2 * x, x0, 2 * x0[0]) > 1
    assert metrics.reconstruction_error(lambda x: x.sum(), x0[:, 0, 0, 0], x0[:, 0, 0, 0]) == 0


@pytest.mark.parametrize(
    ("forward", "x0", "message"),
    [
        (lambda x: x, jnp.ones((4, 2)), r"`x0` must be shaped as `xT`.*\(4, 2\) and xT \(3, 2\)"),
        (lambda x: x.sum(), jnp.ones((3, 2)), r"`forward` must give an end state of shape \(2,\) .*gave \(\)"),
        (lambda x: jnp.log(x - 1), jnp.ones((3, 2)), r"`forward\(x0\)` must be finite, got 6 of 6"),
    ],
)
def test_reconstruction_refuses(forward, x0, message):
    with pytest.raises(ValueError, match=message):
        metrics.reconstruction_error(forward, x0, jnp.ones((3, 2)))


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (metrics.spectral_error, "samples"),
        (metrics.spread_skill, "samples"),
        (lambda x, y: metrics.reconstruction_error(lambda x: x, x, y), "x0"),
    ],
    ids=["spectral_error", "spread_skill", "reconstruction_error"],
)
def test_cases_before_draws_are_refused(score, name):
    with pytest.raises(ValueError, match=rf"\(cases, draws, ...\): write `jnp.moveaxis\({name}, 1, 0\)`"):
        score(jnp.ones((3, 5, 8, 8)), jnp.ones((3, 8, 8)))


# Rank histograms


def test_histogram_of_the_posteriors_ranks_is_flat(draws):
    samples, truth = draws
    heights = metrics.rank_histogram(metrics.sbc_ranks(samples, truth), 20, bins=7)
    # Pixels of a smooth field are hardly independent of each other.
    assert heights == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("draws", [1, 9, 47])
@pytest.mark.parametrize("bins", [None, 1, 2])
def test_histogram_of_every_rank_once_is_flat(draws, bins):
    heights = metrics.rank_histogram(np.arange(draws + 1)[:, None], draws, bins=bins)
    assert heights.shape == (min(20, draws + 1) if bins is None else bins,)
    assert heights == pytest.approx(1)


def test_histogram_with_a_bin_a_rank_counts_ranks():
    ranks = jax.random.randint(KEYS[0], (100, 3), 0, 6)
    counts = np.bincount(np.ravel(ranks), minlength=6)
    assert metrics.rank_histogram(ranks, 5) == pytest.approx(counts * 6 / 300)


@pytest.mark.parametrize(("spread", "ends"), [(0.5, 1), (2.0, -1)])
def test_histogram_is_a_cup_for_overconfident_draws(draws, spread, ends):
    samples, truth = draws
    mean = samples.mean(0)
    heights = metrics.rank_histogram(metrics.sbc_ranks(mean + spread * (samples - mean), truth), 20, bins=5)
    assert np.sign(heights - 1)[[0, 2, 4]].tolist() == [ends, -ends, ends]


@pytest.mark.parametrize(
    ("ranks", "bins", "message"),
    [
        (jnp.arange(100), None, "`ranks` must be in 0 ... draws = 9, got 0 ... 99"),
        (jnp.arange(10), 11, "`bins` must be in 1 ... draws"),
        (jnp.zeros((0, 3), int), None, "`ranks` must have shape"),
    ],
)
def test_histogram_refuses(ranks, bins, message):
    with pytest.raises(ValueError, match=message):
        metrics.rank_histogram(ranks, 9, bins=bins)


# What they share


@pytest.mark.parametrize(
    "call",
    [
        metrics.power_spectrum,
        lambda x: metrics.spectral_error(x, x),
        lambda x: metrics.spread_skill(jnp.stack([x, x]), x),
    ],
)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.ones((8, 8)), r"square fields.*\(8, 8\).*\[None\]"),
        (jnp.ones((3, 8, 9)), r"square fields.*\(3, 8, 9\)"),
        (jnp.ones((3, 8, 8)).at[0, 0, 0].set(jnp.nan), "must be finite"),
    ],
)
def test_metrics_of_fields_refuse(call, x, message):
    with pytest.raises(ValueError, match=message):
        call(x)
