"""A start that is narrower than the noise of one step: its posterior loses its spread, and `fit` says so."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from tests._problems import OU, as_users_run as as_users_run

K = jr.split(jr.key(0), 3)
NARROW = OU(rate=1.0, g=1.0, mean=1.0, var=0.01)
TIMES = {"even": np.linspace(0, 1, 51), "finer at the start": np.linspace(0, 1, 51) ** 2}


def spread(ts):
    xT = jnp.array([0.0, 0.5, 1.0])
    draws = sx.posterior(-NARROW.P + 2 * NARROW.s + NARROW.g, xT, ts[::-1], 4000, key=K[0])
    return float(jnp.std(draws, axis=0).mean() / NARROW.posterior(xT)[1] ** 0.5)


def test_with_the_exact_score_even_steps_lose_half_of_the_spread_and_finer_ones_at_the_start_none():
    assert spread(TIMES["even"]) < 0.6
    assert spread(TIMES["finer at the start"]) == pytest.approx(1, abs=0.03)


def said(x0, ts, g=1.0, unit=1.0):
    P, g = sx.Drift(lambda t, x, args: -x / unit), sx.Diffusion(g)
    paths = sx.simulate(P + g, x0, ts, key=K[1])
    net = sx.nn.Whitened(sx.nn.MLP(shape=x0.shape[1:], widths=(4,), key=K[2]), paths)
    s = sx.Score(net, g)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sx.fit(-P + 2 * s, paths, key=K[2], curriculum=[sx.Stage(updates=1, batch=4)])
    return [str(warning.message) for warning in caught if "narrower" in str(warning.message)]


@pytest.mark.usefixtures("as_users_run")
def test_it_names_the_component_both_numbers_and_a_first_step_that_is_short_enough():
    x0 = jnp.array([[1.0, 0.1]]) * jr.normal(K[0], (2000, 2))
    [message] = said(x0, TIMES["even"])
    assert "component 1: their deviation is 0.1" in message
    assert "noise of 0.141" in message
    assert "first step of 0.005" in message


def test_steps_that_are_short_enough_say_nothing():
    assert not said(0.1 * jr.normal(K[0], (200,)), TIMES["finer at the start"])


def test_one_point_has_no_spread_to_lose_and_two_points_have_one_that_is_wide():
    assert not said(jnp.ones(200), TIMES["even"])
    assert not said(jnp.where(jnp.arange(200) < 100, 1.0, -1.0), TIMES["even"], g=0.03)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_and_the_origin_of_time_do_not_matter(unit):
    for width, warns in ((0.1, True), (1.0, False)):
        times = 5 * unit + unit * TIMES["even"]
        assert bool(said(width * jr.normal(K[0], (200,)), times, unit**-0.5, unit)) is warns
