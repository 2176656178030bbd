"""What is not finite is never returned in silence."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

# dx/dτ = x³ reaches infinity at τ = 1/(2 x²): from 2 at once, from .1 never.
CUBE = sx.ReverseDrift(lambda t, x, args: x**3)
g = sx.Diffusion(1e-6)
STILL = 2 * sx.Score(lambda t, x, args: 0 * x, g)
TS, X = np.linspace(1.0, 0.0, 101), jnp.array([0.1, 2.0, -0.2])
KEY = jax.random.key(0)


def test_solve_says_how_many_which_and_from_what_time_on():
    with pytest.warns(sx.NonFiniteWarning, match=r"1 of 3 solutions .*\(sample 1\), from t = 0\.[78]\d* on"):
        sx.solve(CUBE, X, TS)


def test_posterior_says_which_cases():
    with pytest.warns(sx.NonFiniteWarning, match=r"4 of 12 solutions .*\(case 1\): .*SaveAt\(t0=True, steps=True\)"):
        sx.posterior(CUBE + STILL + g, X, TS, 4, key=KEY)


def test_posterior_of_whole_trajectories_says_from_what_time_on():
    with pytest.warns(sx.NonFiniteWarning, match=r"\(case 1\), from t = 0\.[78]\d* on"):
        sx.posterior(CUBE + STILL + g, X, TS, 4, key=KEY, saveat=dfx.SaveAt(t0=True, steps=True))


def test_the_flow_and_langevin_say_it_too():
    with pytest.warns(sx.NonFiniteWarning, match="case 1"):
        sx.point_estimate(CUBE, X, TS)
    with pytest.warns(sx.NonFiniteWarning, match="sample 1"):
        sx.langevin(sx.Score(lambda t, x, args: x**3, g), X, 0.0, step=0.01, steps=100, key=KEY)


def test_finite_but_absurd_is_said():
    # Five steps from 2: 1e22 is finite in single precision, and its square is not.
    with pytest.warns(sx.NonFiniteWarning, match="1 of 2 solutions"):
        x = sx.solve(sx.ReverseDrift(lambda t, x, args: 10 * x**3), jnp.array([0.01, 2.0]), np.linspace(1.0, 0.0, 5))
    assert float(x[1, -2]) < np.inf


def test_room_that_diffrax_left_empty_is_no_solution():
    how = {"solver": dfx.Tsit5(), "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)}
    x = sx.solve(CUBE, X[:1], TS, saveat=dfx.SaveAt(steps=True), **how)
    assert jnp.isinf(x).any()


def test_inside_jit_nothing_is_looked_at():
    assert not jnp.isfinite(jax.jit(lambda x: sx.solve(CUBE, x, TS))(X)[1, -1])
