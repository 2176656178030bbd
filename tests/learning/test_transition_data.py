"""The data that a transition loss can learn from: steps of the process, whose noise can be found again."""

import warnings

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run, double_precision

g = sx.Diffusion(lambda t: (1 + t) * jnp.array([0.3, 0.7]))
TS = np.linspace(0, 1, 21)


@pytest.fixture(autouse=True)
def _double():
    with double_precision():
        yield


def trajectories(rate=1.0, n=400):
    """Euler's method for -rate·x with the noise g, in NumPy."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2))]
    for t in TS[:-1]:
        x.append((1 - 0.05 * rate) * x[-1] + (1 + t) * np.array([0.3, 0.7]) * 0.05**0.5 * rng.normal(size=(n, 2)))
    return sx.Trajectories(np.stack(x, 1), TS)


def check_data(paths, rate=1.0, scale=1.0, solver=None, **stage):
    equation = -sx.Drift(lambda t, x, args: -rate * x) + 2 * sx.Score(lambda t, x, args: -x, scale * g)
    sx.TransitionLoss(solver or dfx.Euler()).check_data(equation, paths, [sx.Stage(**stage)])


@pytest.mark.usefixtures("as_users_run")
def test_neighbours_that_are_not_one_step_apart_are_refused():
    with pytest.raises(ValueError, match=r"one step of the simulator apart.*stride=2"):
        check_data(trajectories(), stride=2)


@pytest.mark.usefixtures("as_users_run")
def test_steps_whose_noise_cannot_be_found_again_are_refused():
    with pytest.raises(ValueError, match="as coarse as these of `Heun`.*smaller steps"):
        check_data(trajectories(rate=36.0), rate=36.0, solver=dfx.Heun())


@pytest.mark.usefixtures("as_users_run")
def test_trajectories_of_another_process_warn():
    paths = trajectories()
    check_data(paths)
    with pytest.warns(UserWarning, match=r"has variance .* where it should have 1 \(in 2 components\)"):
        check_data(paths, scale=2.0)


@pytest.mark.usefixtures("as_users_run")
def test_of_a_tiny_batch_nothing_is_said_that_the_data_do_not_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_data(trajectories(), batch=1)


def test_fresh_paths_are_steps_of_their_process():
    check_data(sx.FreshPaths(sx.Drift(lambda t, x, args: -x) + g, jnp.ones((8, 2)), TS, solver=dfx.Euler()))
