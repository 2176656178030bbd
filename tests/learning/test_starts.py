"""A start that is narrower than the noise of one step: its posterior loses its spread, and `fit` says so."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx.learning._starts import warn_of_a_narrow_start
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


@pytest.mark.usefixtures("as_users_run")
def test_fit_names_the_component_both_numbers_and_a_first_step_that_is_short_enough():
    x0 = jnp.array([[1.0, 0.1]]) * jr.normal(K[0], (2000, 2))
    paths = sx.simulate(NARROW.P + NARROW.g, x0, TIMES["even"], key=K[1])
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=K[2]), paths), NARROW.g)
    mend = r"component 1: their deviation is 0\.1.* noise of 0\.141.* first step of 0\.005"
    with pytest.warns(UserWarning, match=mend):
        sx.fit(-NARROW.P + 2 * s, paths, key=K[2], curriculum=[sx.Stage(updates=1, batch=4)])


def test_split_steps_which_blur_each_state_themselves_are_trained_on_narrow_starts_without_a_word():
    paths = sx.simulate(NARROW.P, 0.01 * jr.normal(K[0], (200,)), TIMES["even"])
    s = sx.Score(sx.nn.MLP(widths=(4,), key=K[2]), NARROW.g)
    loss = sx.WindowLoss(solver=sx.SplitEuler())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.fit(-NARROW.P + 2 * s + NARROW.g, paths, key=K[2], loss=loss, curriculum=[sx.Stage(updates=1, batch=4)])


def said(x0, ts, g=1.0):
    """Whether it warns of trajectories that start at x0."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_a_narrow_start(sx.Trajectories(jnp.repeat(x0[:, None], len(ts), axis=1), ts), sx.Diffusion(g))
    return bool(caught)


def test_steps_that_are_short_enough_say_nothing():
    assert not said(0.1 * jr.normal(K[0], (200,)), TIMES["finer at the start"])


def test_one_point_has_no_spread_to_lose_and_two_points_have_one_that_is_wide():
    assert not said(jnp.ones(200), TIMES["even"])
    assert not said(jnp.where(jnp.arange(200) < 100, 1.0, -1.0), TIMES["even"], g=0.03)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_and_the_origin_of_time_do_not_matter(unit):
    for width, warns in ((0.1, True), (1.0, False)):
        times = 5 * unit + unit * TIMES["even"]
        assert said(width * jr.normal(K[0], (200,)), times, unit**-0.5) is warns
