"""Around which reference a score is stable backwards: measured from data and physics, mode by mode."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

K = jr.split(jr.key(0), 4)
TS = np.linspace(0, 1, 201)


def report(rate, g, start, **how):
    P, g = sx.Drift(lambda t, x, args: rate(x)), sx.Diffusion(g)
    return sx.check_references(P + g, sx.simulate(P + g, start, TS, key=K[1]), **how)


def test_what_has_forgotten_its_start_and_what_remembers_it():
    stationary = jnp.array([[1 / 60**0.5, 5**0.5]]) * jr.normal(K[0], (500, 2))
    found = report(lambda x: jnp.array([-30.0, -0.1]) * x, 1.0, stationary)
    np.testing.assert_allclose(found.forgotten, [30, 0.1], rtol=1e-3)
    assert found.gaussian.max() < 1
    assert found.around.max() == 0


def test_a_mode_that_others_drive_is_under_damped_around_the_gaussian():
    # The second component follows five times the first at a rate of 30, so its variance is 25 and not 1/60.
    start = jnp.array([[1.0, 5.0]]) * jr.normal(K[0], (500, 1))
    found = report(lambda x: jnp.stack([-0.1 * x[0], -30 * (x[1] - 5 * x[0])]), 1.0, start)
    assert found.gaussian[0] < 1
    assert found.gaussian[1] == pytest.approx(30, rel=0.01)
    assert found.around[1] == 0
    assert "around the Gaussian of the data errors grow up to e^" in repr(found)
    assert "mode 1" in repr(found)


def test_around_a_drift_that_grows_errors_grow():
    found = report(lambda x: jnp.array([3.0, -1.0]) * x, 1.0, jr.normal(K[0], (500, 2)))
    np.testing.assert_allclose(found.around, [3, 0], rtol=1e-3)


def test_modes_of_a_basis_are_measured_as_well():
    squares = np.fft.rfftfreq(8, 1 / 8) ** 2
    diffuse = lambda x: jnp.fft.irfft(jnp.asarray(-squares, "complex64") * jnp.fft.rfft(x), 8)  # noqa: E731
    found = report(diffuse, 0.1, jr.normal(K[0], (100, 8)), basis=sx.Fourier.like)
    np.testing.assert_allclose(found.forgotten, squares, rtol=1e-3, atol=1e-3)


def test_a_state_of_several_arrays_is_measured_as_one_array_with_their_numbers():
    apart = {"fast": jr.normal(K[0], (100,)), "slow": jr.normal(K[2], (100, 2))}
    P, g = sx.Drift(lambda t, x, args: {"fast": -9 * x["fast"], "slow": -x["slow"]}), {"fast": 0.5, "slow": 0.1}
    paths = sx.simulate(P + sx.Diffusion(g), apart, TS, key=K[1])
    found = sx.check_references(P + sx.Diffusion(g), paths)
    rate, noise = jnp.array([-9.0, -1.0, -1.0]), sx.Diffusion(jnp.array([0.5, 0.1, 0.1]))
    joined = jnp.concatenate([paths.x["fast"][..., None], paths.x["slow"]], axis=-1)
    one = sx.check_references(sx.Drift(lambda t, x, args: rate * x) + noise, sx.Trajectories(joined, TS))
    for mine, theirs in ((found.gaussian, one.gaussian), (found.forgotten, one.forgotten)):
        np.testing.assert_allclose([mine["fast"], *mine["slow"]], theirs, rtol=1e-5)
    assert "most of all mode fast" in repr(found)


def test_a_simulators_step_is_measured_by_its_increment():
    P, g = sx.Drift.from_step(lambda x, dt: x / (1 + 4 * dt)), sx.Diffusion(0.5)
    paths = sx.simulate(P + g, jr.normal(K[0], (100,)), TS, key=K[1])
    assert float(sx.check_references(P + g, paths).forgotten) == pytest.approx(4, rel=0.05)


def test_where_each_trajectory_has_its_own_times_the_rates_are_those_of_its_states():
    # dx = -x³ dt: the linear rate is -3 E x², 3 before t = .5 and 27 after it, whichever trajectory was seen when.
    states = np.repeat([[1.0], [3.0]], 20, axis=0) * np.ones(11)
    ts = np.repeat([[0.0], [0.51]], 20, axis=0) + np.linspace(0, 0.5, 11)
    P, g = sx.Drift(lambda t, x, args: -(x**3)), sx.Diffusion(1.0)
    paths = sx.Trajectories(states.astype(np.float32), ts)
    assert float(sx.check_references(P + g, paths).forgotten) == pytest.approx(0.5 * 3 + 0.5 * 27, rel=0.03)


def test_where_each_trajectory_has_its_own_conditions_the_rate_is_their_mean():
    P, g = sx.Drift(lambda t, x, args: -args["rate"] * x), sx.Diffusion(lambda t, args: args["rate"] / 10)
    args = {"rate": sx.PerSample(np.linspace(0, 4, 40, dtype=np.float32))}
    paths = sx.simulate(P + g, jr.normal(K[0], (40,)), TS, key=K[1], args=args)
    assert float(sx.check_references(P + g, paths).forgotten) == pytest.approx(2, rel=1e-3)


# `fit` says so where it can see it


class Stiff(eqx.Module):
    """Decay at 30 towards five times the other component; its linear part is known."""

    def __call__(self, t, x, args):
        return jnp.stack([-0.1 * x[0], -30 * (x[1] - 5 * x[0])])

    def linear(self, t):
        return sx.Diagonal(jnp.array([-0.1, -30.0]))


P, g = sx.Drift(Stiff()), sx.Diffusion(1.0)
PATHS = sx.simulate(P + g, jnp.array([[1.0, 5.0]]) * jr.normal(K[0], (100, 1)), TS, key=K[1])
ONCE = {"key": K[2], "loss": sx.WindowLoss(solver=sx.ExponentialEuler()), "curriculum": [sx.Stage(updates=1, batch=4)]}


def white():
    return sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=K[3]), PATHS)


@pytest.mark.usefixtures("as_users_run")
def test_an_under_damped_reference_warns_with_the_mend():
    with pytest.warns(UserWarning, match=r"under-damped: .* e\^\d+ over the solve \(mode 1; .*around=D"):
        sx.fit(-P + 2 * sx.Score(white(), g), PATHS, **ONCE)


def test_around_the_dissipation_it_does_not():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sx.fit(-P + 2 * sx.Score(white(), g, around=P), PATHS, **ONCE)
    assert not [warning for warning in said if "under-damped" in str(warning.message)]


def test_a_decay_without_its_source_is_no_reference():
    """Around a decay alone a state that is fed is drawn to 0, where none is."""
    feed = sx.Drift(lambda t, x, args: jnp.array([5.0, 0.0]), name="A")
    decay, noise = sx.Drift(lambda t, x, args: -x, name="D"), sx.Diffusion(0.3)
    fed = sx.simulate(feed + decay + noise, jnp.array([[5.0, 0.0]]) + 0.2 * jr.normal(K[0], (100, 2)), TS, key=K[1])
    net = sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=K[3]), fed)
    how = {"key": K[2], "curriculum": [sx.Stage(updates=1, batch=4)]}
    with pytest.warns(
        UserWarning, match=r"around D\(x\), which does not vanish .* the mean of component 0 of .*around=P"
    ):
        sx.fit(-(feed + decay) + 2 * sx.Score(net, noise, around=decay), fed, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.fit(-(feed + decay) + 2 * sx.Score(net, noise, around=feed + decay), fed, **how)


class Each(eqx.Module):
    """One weight for every number of a state that is a tree."""

    a: jax.Array

    def __call__(self, t, x, args):
        return jax.tree.map(lambda leaf: self.a * leaf, x)


def test_of_several_arrays_the_one_is_named_in_which_the_reference_is_furthest_off():
    P, noise = sx.Drift(lambda t, x, args: {"q": x["p"] - 5.0, "p": 9.0 + 0 * x["p"]}), sx.Diffusion(0.3)
    starts = {"q": jr.normal(K[0], (100,)), "p": jr.normal(K[2], (100,))}
    s = sx.Score(Each(jnp.zeros(())), noise, around=P)
    paths = sx.simulate(P + noise, starts, TS, key=K[1])
    with pytest.warns(UserWarning, match="the mean of component p of 2P") as said:
        sx.fit(-P + 2 * s, paths, key=K[2], curriculum=ONCE["curriculum"])
    assert sum("does not vanish" in str(warning.message) for warning in said) == 1


def test_a_filter_that_is_itself_trained_does_not_warn():
    heat = sx.Drift(sx.physics.Heat(8))
    fields = jax.random.normal(K[0], (4, 8, 8))
    paths = sx.simulate(heat + g, fields, [0.0, 0.5, 1.0], key=K[1], solver=sx.ExponentialEuler())
    net = sx.nn.FourierFilter(8, t_max=1.0, t_min=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sx.fit(-heat + 2 * sx.Score(net, g), paths, **ONCE)
    assert not [warning for warning in said if "under-damped" in str(warning.message)]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("process", "paths", "message"),
    [
        (P, PATHS, r"needs the forward process, `P \+ g`"),
        (-P + 2 * sx.Score(lambda t, x, args: x, g) + g, PATHS, "needs the forward process"),
    ],
    ids=["no noise", "reverse"],
)
def test_what_cannot_be_measured_is_an_error(process, paths, message):
    with pytest.raises(TypeError, match=message):
        sx.check_references(process, paths)


def test_states_of_several_arrays_are_in_no_basis():
    trees = sx.Trajectories({"a": jnp.ones((20, 3))}, [0, 1, 2])
    with pytest.raises(TypeError, match="counts components of states that are trees: leave `basis` out"):
        sx.check_references(P + g, trees, basis=sx.Fourier.like)
