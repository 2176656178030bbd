"""The heat equation: exact steps, a rate for every solver, and errors that reach the user's line."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.exact import LinearGaussianField, power_law_field
from smdpx.physics import Heat
from tests._problems import Slope, as_users_run as as_users_run, double_precision

N = 8
HEAT = Heat(N)
KEY = jax.random.key(0)


def wave(k, n=N):
    """A plane wave cos(k·r) on the pixels of [0, 2π]²."""
    r = 2 * np.pi * np.arange(n) / n
    return jnp.asarray(np.cos(k[0] * r[:, None] + k[1] * r[None, :]), float)


def field(n=N):
    return jax.random.normal(KEY, (n, n), float)


# Steps and rates


@pytest.mark.parametrize(
    ("n", "k"),
    [
        (2, (0, 1)),
        (2, (1, 1)),
        (7, (1, -1)),
        (7, (3, 2)),
        (8, (0, 0)),
        (8, (1, 0)),
        (8, (-3, 2)),
        (8, (4, 0)),
        (8, (4, 4)),
    ],
)
def test_a_plane_wave_decays_at_the_square_of_its_wavenumber(n, k):
    with double_precision():
        heat, rate = Heat(n, 0.5), 0.5 * (k[0] ** 2 + k[1] ** 2)
        np.testing.assert_allclose(heat(0.0, wave(k, n)), -rate * wave(k, n), atol=1e-12)
        np.testing.assert_allclose(heat.step(wave(k, n), 0.1), np.exp(-0.1 * rate) * wave(k, n), atol=1e-14)


def test_two_halves_are_one_step_and_alpha_scales_time():
    x = field()
    np.testing.assert_allclose(HEAT.step(HEAT.step(x, 0.05), 0.05), HEAT.step(x, 0.1), atol=1e-6)
    np.testing.assert_allclose(Heat(N, 2.5).step(x, 0.04), HEAT.step(x, 0.1), atol=1e-6)


def test_a_negative_step_undoes_a_step():
    x = field()
    np.testing.assert_allclose(HEAT.step(HEAT.step(x, 0.1), -0.1), x, atol=1e-5)


def test_the_mean_stays_and_real_fields_stay_real():
    x = HEAT.step(field(), 30.0)
    np.testing.assert_allclose(x, jnp.full_like(x, field().mean()), atol=1e-6)


def test_it_is_the_decay_of_the_gaussian_field():
    exact = LinearGaussianField(power_law_field(N), g=0.1)
    np.testing.assert_allclose(HEAT.step(field(), 0.2), exact.decay(0.2, field()), atol=1e-6)
    np.testing.assert_allclose(HEAT(0.0, field()), exact.drift(0.0, field()), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(HEAT.linear(0.0).rates, exact.drift.linear(0.0).rates)


# In equations


@pytest.mark.parametrize(
    ("solver", "steps", "tolerance"), [(dfx.Tsit5(), 16, 1e-4), (sx.ExponentialEuler(), 2, 1e-6)], ids=["Tsit5", "exp"]
)
def test_as_a_rate_any_solver_takes_it(solver, steps, tolerance):
    x = sx.solve(sx.Drift(HEAT), field()[None], np.linspace(0, 0.2, steps + 1), solver=solver)
    np.testing.assert_allclose(x[0, -1], HEAT.step(field(), 0.2), atol=tolerance)


def test_as_a_step_it_is_exact_on_any_grid_and_mirrors_to_2x_minus_its_step():
    P, x = sx.Drift.from_step(HEAT.step, reverse=sx.mirror), field()
    there = sx.solve(P, x[None], [0.0, 0.01, 0.2])[0]
    np.testing.assert_allclose(there[-1], HEAT.step(x, 0.2), atol=1e-6)
    np.testing.assert_allclose(x + P.reversed_increment(0.2, x, 0.01, None), 2 * x - HEAT.step(x, 0.01), atol=1e-6)


def test_what_a_check_of_its_step_says():
    x = jax.random.normal(KEY, (2, 4, 4))
    report = sx.check(sx.Drift.from_step(Heat(4).step, reverse=sx.negative_step), x, dt=0.01)
    assert report.order == float("inf")
    assert report.round_trip is not None
    assert report.round_trip < 1e-4
    assert report.vjp_error is not None
    assert report.vjp_error < 1e-2
    assert report.batch_error < 1e-5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_states_keep_their_precision(dtype):
    with double_precision():
        x = jnp.ones((N, N), dtype)
        assert HEAT(0.0, x).dtype == HEAT.step(x, 0.1).dtype == dtype
        if dtype == jnp.float64:
            np.testing.assert_allclose(HEAT.step(wave((3, 1)), 0.7), np.exp(-7) * wave((3, 1)), atol=1e-15)


def test_the_conductivity_may_be_traced_and_has_a_gradient():
    x = wave((1, 1))
    slope = jax.jit(jax.grad(lambda alpha: Heat(N, alpha).step(x, 0.1)[0, 0]))(0.5)
    np.testing.assert_allclose(slope, -0.2 * np.exp(-0.1), rtol=1e-5)
    amplitudes = sx.sweep(lambda alpha: Heat(N, alpha).step(x, 0.1)[0, 0], alpha=[0.5, 1.0])
    np.testing.assert_allclose(amplitudes, np.exp([-0.1, -0.2]), rtol=1e-5)


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), np.float64(-1), jnp.array(-1.0)])
def test_the_conductivity_is_positive(alpha):
    with pytest.raises(ValueError, match="conductivity alpha > 0; got"):
        Heat(N, alpha)


@pytest.mark.usefixtures("as_users_run")
def test_there_are_at_least_two_pixels_a_side():
    with pytest.raises(ValueError, match="at least 2 pixels a side; got n = 1"):
        Heat(1)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: HEAT.step(x, 0.1),
        lambda x: HEAT(0.0, x),
        lambda x: sx.physics.Burgers(8).step(0.0, x[0], 0.1),
        lambda x: sx.physics.Turbulence(8).step(x, 0.1),
    ],
    ids=["heat's step", "heat's rate", "Burgers", "turbulence"],
)
def test_whole_numbers_are_no_field_whose_changes_would_be_cut_to_whole_numbers(call):
    with pytest.raises(TypeError, match=r"`x` must be floating, got dtype int32: write `x.astype\(jnp.float32\)`"):
        call(jnp.arange(64).reshape(8, 8))


SCORE = sx.Score(Slope(-1.0), sx.Diffusion(0.1))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("shape", [(16, 16), (8, 9), (8,), (3, 8, 8), ()])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: HEAT(0.0, x),
        lambda x: HEAT.step(x, 0.1),
        lambda x: sx.solve(sx.Drift(HEAT), x[None], [0.0, 0.1]),
        lambda x: sx.solve(sx.Drift(HEAT), x[None], [0.0, 0.1], solver=sx.ExponentialEuler()),
        lambda x: sx.solve(sx.Drift.from_step(HEAT.step), x[None], [0.0, 0.1]),
        lambda x: sx.fit(-sx.Drift(HEAT) + 2 * SCORE, sx.Trajectories(jnp.stack([x, x])[None], [0.0, 0.1]), key=KEY),
    ],
    ids=["rate", "step", "solve", "exponential", "solve a step", "fit"],
)
def test_a_field_of_another_shape_is_named_with_the_mend(call, shape):
    with pytest.raises(ValueError, match=r"`Heat\(8\)` acts on one field of shape \(8, 8\); got shape \(.*vmap"):
        call(jnp.zeros(shape))
