"""Burgers' equation against its exact solution, two other codes and its energy budget; as a rate, a step and an SDE."""

from typing import Any

import exponax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_cfd.base.grids import Grid
from jax_cfd.spectral import equations

import smdpx as sx
from smdpx.physics import Burgers
from tests._problems import as_users_run as as_users_run, double_precision

N = 64
X = np.linspace(0, 2 * np.pi, N, endpoint=False)
KEY = jax.random.key(0)


def cole_hopf(t, nu, x):
    """The exact solution from u = sin x, by the heat equation: u = -2ν φ'/φ with φ(0) = exp(cos(x)/2ν)."""
    fine = np.linspace(0, 2 * np.pi, 1024, endpoint=False)
    modes = np.fft.rfft(np.exp((np.cos(fine) - 1) / (2 * nu))) / len(fine)
    k = np.arange(len(modes))
    modes = modes * np.exp(-nu * k**2 * t) * np.where(k > 0, 2, 1)
    waves = np.exp(1j * k * x[:, None])
    return -2 * nu * (waves @ (1j * k * modes)).real / (waves @ modes).real


def solved(u, time, steps, **options):
    return Burgers(len(u), substeps=steps, **options).step(0.0, u, time)


def distance(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def test_it_is_the_exact_solution():
    with double_precision():
        u = solved(jnp.asarray(np.sin(X)), 1.0, 50, viscosity=0.2)
        np.testing.assert_allclose(u, cole_hopf(1.0, 0.2, X), atol=1e-7)


@pytest.mark.parametrize("forced", [False, True])
def test_the_step_is_of_fourth_order(forced):
    with double_precision():
        # A forcing that depends on time: each stage sees its own.
        forcing = (lambda t, x: jnp.cos(x - 3 * t)) if forced else None
        options = {"viscosity": 0.05, "forcing": forcing}
        coarse, middle, fine = (solved(jnp.asarray(np.sin(X)), 0.8, n, **options) for n in (10, 20, 40))
        assert np.log2(distance(coarse, middle) / distance(middle, fine)) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(("solver", "order"), [(sx.ExponentialEuler(), 1), (sx.ExponentialHeun(), 2)])
def test_the_exponential_solvers_take_the_rate(solver, order):
    with double_precision():
        x0 = jnp.asarray(np.sin(X))[None]
        exact = cole_hopf(0.8, 0.2, X)
        errors = [
            distance(sx.solve(sx.Drift(Burgers(N, 0.2)), x0, np.linspace(0, 0.8, n), solver=solver)[0, -1], exact)
            for n in (21, 41)
        ]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_jax_cfds_burgers_agrees_forced_and_not():
    grid = Grid((N,), domain=((0, 2 * np.pi),))
    for forced in (False, True):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            make = equations.ForcedBurgersEquation if forced else equations.BurgersEquation
            equation = make(0.1, grid, seed=3)
            force: Any = equation._forcing_fn

        def forcing(t, x, force: Any = force):
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                return force(t) + 0 * x

        theirs = sx.physics.from_jax_cfd(equation, grid, substeps=40)
        ours = sx.Drift.from_step(Burgers(N, 0.1, forcing, substeps=40).step)
        x0 = jnp.asarray(np.sin(X), jnp.float32)[None]
        # From t = 1: the forcing's time is the physical one.
        ends = [sx.solve(P, x0, [1.0, 1.5])[0, -1] for P in (theirs, ours)]
        assert distance(*ends) < 3e-4, forced
        assert distance(ends[0], x0[0]) > 0.1


def test_exponax_agrees():
    with double_precision():
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            # The fraction is such that it keeps the waves below n/3 too.
            options = {"diffusivity": 0.1, "order": 4, "dealiasing_fraction": 0.7}
            stepper = exponax.stepper.Burgers(1, 2 * np.pi, N, 0.02, **options)
        P = sx.physics.from_exponax(stepper)
        theirs = sx.solve(P, jnp.asarray(np.sin(X))[None], np.linspace(0, 0.8, 41))[0, -1]
        assert distance(solved(jnp.asarray(np.sin(X)), 0.8, 40, viscosity=0.1), theirs) < 1e-7


@pytest.mark.parametrize("rough", [False, True], ids=["smooth", "white"])
def test_the_energy_budget_closes_and_the_mean_stays(rough):
    with double_precision():
        u = jax.random.normal(KEY, (N,)) if rough else jnp.asarray(np.sin(X) + 0.5 * np.cos(2 * X + 1) + 0.7)
        burgers = Burgers(N, 0.05, lambda t, x: jnp.sin(x))
        slope = np.fft.irfft(1j * np.arange(N // 2 + 1) * np.fft.rfft(np.asarray(u)))
        # The shortest wave, which has no slope on the grid, decays too.
        shortest = abs(np.fft.rfft(np.asarray(u))[-1] / N) ** 2 * (N / 2) ** 2
        expected = -0.05 * (np.mean(slope**2) + shortest) + np.mean(np.sin(X) * np.asarray(u))
        assert float(jnp.mean(u * burgers(0.0, u))) == pytest.approx(expected, rel=1e-10)
        assert float(burgers.step(0.0, u, 0.01).mean()) == pytest.approx(float(u.mean()), rel=1e-12)


def test_galilean_and_reflection_symmetry():
    u, options = jnp.asarray(np.sin(X) + 0.3 * np.cos(2 * X), jnp.float32), {"viscosity": 0.1}
    after = solved(u, 0.5, 40, **options)
    # In a moving frame: faster by a cell width every step of .125.
    speed = 2 * np.pi / N / 0.125
    np.testing.assert_allclose(solved(u + speed, 0.5, 40, **options), jnp.roll(after, 4) + speed, atol=1e-4)
    mirrored = lambda u: -jnp.roll(u[::-1], 1)  # noqa: E731
    np.testing.assert_allclose(solved(mirrored(u), 0.5, 40, **options), mirrored(after), atol=1e-5)


def test_stochastic_burgers_runs_by_defaults_and_has_the_linear_laws_spectrum_where_it_is_weak():
    P, g = sx.Drift(Burgers(16, viscosity=0.5)), sx.Diffusion(1e-2)
    paths = sx.simulate(P + g, jnp.zeros((2000, 16)), np.linspace(0, 1, 11), key=KEY, solver=sx.ExponentialHeun())
    power = np.mean(np.abs(np.fft.rfft(np.asarray(paths.end), norm="ortho")) ** 2, axis=0)
    rates = 2 * 0.5 * np.arange(1, 9) ** 2
    np.testing.assert_allclose(power[1:], 1e-4 * (1 - np.exp(-rates)) / rates, rtol=0.15)


def test_a_viscosity_and_a_force_for_each_trajectory():
    def step(t, x, dt, args):
        return Burgers(N, args["nu"], lambda t, x: args["force"] * jnp.cos(x)).step(t, x, dt)

    args = {"nu": sx.PerSample(jnp.array([0.1, 0.2])), "force": sx.PerSample(jnp.array([0.0, 1.0]))}
    x = jnp.asarray(np.sin(X), jnp.float32)
    ends = sx.simulate(sx.Drift.from_step(step), jnp.stack([x, x]), [0.0, 0.05, 0.1], args=args).end
    np.testing.assert_allclose(ends[0], solved(x, 0.1, 2, viscosity=0.1), atol=1e-6)
    np.testing.assert_allclose(ends[1], solved(x, 0.1, 2, viscosity=0.2, forcing=lambda t, x: jnp.cos(x)), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_states_keep_their_precision(dtype):
    with double_precision():
        burgers, u = Burgers(8), jnp.ones(8, dtype)
        assert burgers(0.0, u).dtype == burgers.step(0.0, u, 0.1).dtype == dtype


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 63}, "even number of points, at least 4; got n = 63"),
        ({"n": 8, "viscosity": -0.1}, "viscosity ≥ 0; got -0.1"),
        ({"n": 8, "length": -1.0}, "length > 0; got -1.0"),
        ({"n": 8, "substeps": 0}, "at least one substep; got 0"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Burgers(**options)


@pytest.mark.usefixtures("as_users_run")
def test_a_field_of_another_shape_is_named_with_the_mend():
    for call in (lambda x: Burgers(8)(0.0, x), lambda x: Burgers(8).step(0.0, x, 0.1)):
        with pytest.raises(ValueError, match=r"`Burgers\(8\)` acts on .* \(8,\); got shape \(2, 8\).*vmap"):
            call(jnp.zeros((2, 8)))
    with pytest.raises(ValueError, match=r"forcing=.*returns a field of shape \(8,\).*got shape \(\)"):
        Burgers(8, forcing=lambda t, x: 1.0)(0.0, jnp.zeros(8))
