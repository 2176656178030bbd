"""The guard: outside of what the trajectories visited, physics decides, in both directions of time."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx

K = jr.split(jr.key(0), 2)
P = sx.Drift(lambda t, x, args: -(x**3))
g = sx.Diffusion(0.5)


def box():
    """A component that the data kept within ±1, in steps that leave no doubt."""
    return sx.Trajectories(jnp.linspace(-1, 1, 101)[:, None] * jnp.ones((1, 3)), [0.0, 0.5, 1.0])


@functools.cache
def guarded(**how):
    return sx.Score(sx.nn.Whitened(lambda t, x, args: x, box(), **how), g)


def back(s, x):
    """The rate of the reverse SDE."""
    return float(_back(s, jnp.array(x)))


_back = eqx.filter_jit(lambda s, x: (-P + 2 * s).rate(0.5, x, None))


@pytest.mark.parametrize("x", [1.3, -2.0, 1e6])
def test_outside_of_the_data_the_reverse_sde_is_the_physics(x):
    assert back(guarded(), x) == pytest.approx(-(x**3))


def test_outside_of_the_data_the_flow_stands_still():
    assert float((-P + guarded()).rate(0.5, jnp.array(2.0), None)) == 0
    assert float((P - guarded()).rate(0.5, jnp.array(2.0), None)) == 0


def test_inside_of_the_data_nothing_changes():
    for x in (-1.0, 0.3, 1.0):
        assert back(guarded(), x) == pytest.approx(back(guarded(guard=False), x))


def test_blurred_states_of_a_deterministic_system_have_a_guard_only_if_it_is_asked_for():
    blurred = sx.Perturbed(sx.Trajectories(jnp.zeros((16, 2)), [0.0, 1.0]), g)
    assert not sx.nn.Whitened(lambda t, x, args: x, blurred).guard
    assert sx.nn.Whitened(lambda t, x, args: x, blurred, guard=True).guard


def test_the_guard_fades_in():
    inside, between, outside = (back(guarded(), x) for x in (1.0, 1.125, 1.25))
    assert outside < between < inside


def test_outside_of_the_data_what_leads_back_in_is_left_as_it_is():
    leaves = sx.Drift(lambda t, x, args: x)  # and so comes back, backwards in time
    for equation in (lambda s: -leaves + 2 * s, lambda s: leaves - s):
        rates = [float(equation(guarded(**how)).rate(0.5, jnp.array(2.0), None)) for how in ({}, {"guard": False})]
        assert rates[0] == pytest.approx(rates[1])


@pytest.mark.parametrize("x", [0.0, 1.1, 10.0])
def test_guidance_is_the_same_outside_of_the_data_as_inside(x):
    pull, s = sx.ReverseDrift(lambda t, x, args: 3 + 0 * x), guarded()
    added = (-P + 2 * s + pull).rate(0.5, jnp.array(x), None) - (-P + 2 * s).rate(0.5, jnp.array(x), None)
    assert float(added) == pytest.approx(3, rel=1e-3)


def test_a_learned_reverse_simulator_is_physics_and_no_guidance():
    R = sx.ReverseDrift(lambda t, x, args: x**3)
    outside = jnp.array(2.0)
    assert float((R + 2 * guarded()).rate(0.5, outside, None)) == pytest.approx(back(guarded(), 2.0))


def test_an_oscillator_beyond_its_data_does_not_run_away():
    # Its position alone run forward, and its velocity backward, would grow by e^3 in this time.
    oscillator, kick = sx.Drift(lambda t, x, args: jnp.stack([x[1], -x[0]])), sx.Diffusion(jnp.array([0.0, 0.3]))
    ts = np.linspace(0, 3, 61)
    paths = sx.simulate(oscillator + kick, jax.random.normal(K[0], (64, 2)), ts, key=K[1])
    end = 1.1 * paths.end[jnp.argmax(paths.end[:, 0])][None]

    def mean(**how):
        s = sx.Score(sx.nn.Whitened(lambda t, x, args: x, paths, **how), kick)
        return sx.posterior(-oscillator + 2 * s + kick, end, ts[::-1], 200, key=K[2]).mean(axis=(0, 1))

    np.testing.assert_allclose(mean(), mean(guard=False), atol=0.5)  # as the Gaussian's own, which are exact here


def test_of_a_simulators_step_the_forward_step_runs_outside():
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.mirror)
    change = (-step + 2 * guarded()).increment(0.5, jnp.array(3.0), 0.5, None)
    assert float(change) == pytest.approx(3 / 1.5 - 3)


def test_the_guard_asks_for_one_more_step_of_a_simulator_the_forward_one():
    steps = []

    def step(x, dt):
        steps.append(dt)
        return x / (1 + dt)

    equation = -sx.Drift.from_step(step, reverse=sx.negative_step) + 2 * guarded()
    equation.increment(0.5, jnp.array(3.0), 0.5, None)
    assert steps == [-0.5, 0.5]


def test_no_draw_explodes_where_the_physics_confines():
    # Backwards x³ leaves for infinity from 3 in a time of 1/18, and an untrained score does not hold it.
    ts = np.linspace(0, 1, 101)
    draws = sx.posterior(-P + 2 * guarded() + g, jnp.full(4, 0.9), ts[::-1], 500, key=K[1])
    assert np.abs(draws).max() < 2


def test_the_draws_that_needed_the_guard_are_counted(capsys):
    ts = np.linspace(0, 1, 21)
    sx.posterior(-P + 2 * guarded() + g, jnp.array([0.0, 1.3, 0.1]), ts[::-1], 10, key=K[1])
    said = capsys.readouterr().err
    assert "posterior: 10 of 30 draws left what the trajectories visited" in said
    assert "(cases 1)" in said
    with pytest.warns(sx.NonFiniteWarning):
        sx.posterior(-P + 2 * guarded(guard=False) + g, jnp.array([0.0, 1.3, 0.1]), ts[::-1], 10, key=K[1])
    assert "draws left" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inside", "outside", "draws", "named"),
    [
        pytest.param(99, 1, 1, False, id="one in a hundred, and no more of its case"),
        pytest.param(97, 3, 1, True, id="three in a hundred"),
        pytest.param(99, 1, 10, True, id="one in a hundred, and all of one case"),
    ],
)
def test_what_may_be_wrong_is_named_where_many_draws_needed_the_guard(capsys, inside, outside, draws, named):
    xT = jnp.array([0.0] * inside + [1.5] * outside)
    sx.posterior(-P + 2 * guarded() + g, xT, np.linspace(0.3, 0, 7), draws, key=K[1])
    said = capsys.readouterr().err
    assert f"{outside * draws:,} of {100 * draws:,} draws left what the trajectories visited" in said
    assert ("too few trajectories, end states unlike theirs" in said) == named
