"""Scales from the data: no unit, origin or size of a component matters, and outside of the data physics decides."""

import functools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import smdpx as sx
from smdpx.equation._linear import is_part
from tests._problems import OU, as_users_run as as_users_run

K = jr.split(jr.key(0), 8)
TS = np.linspace(0, 1, 21)
OU10 = OU(rate=0.7, g=0.6, mean=3.0, var=1.0)


def normal(*shape, seed=0):
    """Numbers by NumPy: nothing to compile for a shape of each test's own."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small(shape=(), **how):
    return sx.nn.MLP(shape=shape, widths=(16, 16), key=K[0], **how)


def noise_of(paths):
    """Trajectories of white noise in each component, as they are: moments without physics."""
    return sx.nn.Whitened(small(paths.x.shape[2:]), paths)


# One program each, where a call outside of one compiles every operation of its own.
score = eqx.filter_jit(lambda net, t, x: net(t, x))
linear = eqx.filter_jit(lambda net, t, x: net.linear(t)(x))
rates = eqx.filter_jit(lambda net, t: jax.tree.map(lambda L: L.rates, net.linear(t), is_leaf=is_part))


# The Gaussian of the data


def test_before_training_it_is_the_score_of_the_gaussian_with_the_datas_moments():
    x = 2 + 3 * normal(4000, 21, 2)
    net = noise_of(sx.Trajectories(x, TS))
    at = jnp.array([5.0, -1.0])
    mean, var = x[:, 10].mean(0), x[:, 10].var(0)
    np.testing.assert_allclose(score(net, 0.5, at), (mean - np.asarray(at)) / var, rtol=1e-4)
    np.testing.assert_allclose(linear(net, 0.5, at), -np.asarray(at) / var, rtol=1e-4)


def test_components_that_are_correlated_have_the_score_of_their_common_gaussian():
    x = normal(4000, 1, 3) + 0.01 * np.cumsum(normal(4000, 21, 3, seed=1), axis=1)
    x = x @ np.array([[1, 0.9, 0], [0, 0.5, 0.2], [0, 0, 100]], "f")
    net = noise_of(sx.Trajectories(x, TS))
    at = np.array([1.0, -0.5, 60.0], "f")
    C = np.cov(x[:, 10], rowvar=False, bias=True)
    np.testing.assert_allclose(score(net, 0.5, jnp.asarray(at)), -np.linalg.solve(C, at - x[:, 10].mean(0)), rtol=0.01)


def test_correlations_that_are_no_more_than_chance_are_left_out():
    x = normal(100, 3, 30)
    net, z = noise_of(sx.Trajectories(x, [0.0, 1.0, 2.0])), normal(30, seed=1)
    alone, raw = linear(net, 1.0, jnp.asarray(z)), np.linalg.solve(np.cov(x[:, 1], rowvar=False, bias=True), z)
    found = score(net, 1.0, jnp.asarray(z + x[:, 1].mean(0)))
    assert np.linalg.norm(found - alone) < 0.2 * np.linalg.norm(raw + alone)


def test_where_all_start_on_one_line_the_score_across_is_that_of_half_a_steps_noise():
    walk = np.cumsum(0.1 * normal(1000, 21, 2), axis=1) - 0.1
    x = walk - walk[:, :1] + normal(1000, 1, 1)
    net = noise_of(sx.Trajectories(x.astype("f"), TS))
    across = np.array([1, -1], "f") / np.sqrt(2)
    difference = score(net, 0.0, jnp.asarray(across)) - score(net, 0.0, jnp.zeros(2))
    np.testing.assert_allclose(difference, -across / (0.1**2 / 2), rtol=0.1)


def test_a_field_has_no_mean_where_it_is_no_more_than_chance():
    x = np.stack([normal(400, 64)] * 3, axis=1) + np.sin(2 * np.pi * np.arange(64) / 64).astype("f")
    net = sx.nn.Whitened(small((64,)), sx.Trajectories(x, [0.0, 1.0, 2.0]), basis=sx.Fourier.like)
    mean = np.fft.rfft(x[:, 0].mean(0))
    kept = np.abs(np.fft.rfft(net.scales.value.mean[1])) > 1e-3
    assert kept.nonzero()[0].tolist() == [1]
    assert np.fft.rfft(net.scales.value.mean[1])[1] == pytest.approx(mean[1], rel=1e-3)


def test_between_two_times_the_variance_is_linear_as_that_of_brownian_motion():
    x = np.cumsum(normal(4000, 3), axis=1)
    net = noise_of(sx.Trajectories(x, [0.0, 1.0, 2.0]))
    assert -1 / float(rates(net, 0.5)) == pytest.approx(1.5, rel=0.1)


def test_times_of_their_own_that_are_all_alike_are_no_other_data():
    x = np.cumsum(normal(50, 21), axis=1)
    shared, own = noise_of(sx.Trajectories(x, TS)), noise_of(sx.Trajectories(x, np.tile(TS, (50, 1))))
    for t in TS[[0, 7, 20]]:
        np.testing.assert_allclose(score(own, t, jnp.array(0.3)), score(shared, t, jnp.array(0.3)), rtol=1e-4)


def test_a_gap_that_no_trajectory_covers_is_bridged():
    x = np.cumsum(normal(40, 11), axis=1)
    ts = np.repeat([[0.0], [2.0]], 20, axis=0) + np.linspace(0, 1, 11)
    assert float(rates(noise_of(sx.Trajectories(x, ts)), 1.5)) < 0


def test_of_a_field_it_is_whitened_mode_by_mode():
    fields = np.asarray(sx.data.gaussian_random_fields(2000, 8, key=K[1]))
    paths = sx.Trajectories(np.stack([fields] * 3, axis=1), [0.0, 0.1, 0.2])
    net = sx.nn.Whitened(small((8, 8)), paths, basis=sx.Fourier.like)
    v = np.mean(np.abs(np.fft.rfft2(fields - fields.mean(0), norm="ortho")) ** 2, axis=0)
    np.testing.assert_allclose(np.asarray(rates(net, 0.1))[1:, 1:], -1 / v[1:, 1:], rtol=1e-3)


def test_of_a_field_the_network_sees_the_field_and_not_its_modes_each_in_its_own_unit():
    seen = []

    def net(t, x, args):
        seen.append(x)
        return x

    rough = np.fft.rfft(np.random.default_rng(0).normal(size=(2000, 16)))
    steep = np.fft.irfft(rough * 0.1 ** np.arange(9), 16).astype("f")
    paths = sx.Trajectories(5 + np.stack([steep] * 3, axis=1), [0.0, 0.1, 0.2])
    white = sx.nn.Whitened(net, paths, basis=sx.Fourier.like)
    white(0.1, jnp.asarray(5 + steep[0]))
    np.testing.assert_allclose(seen[0], 4 * np.tanh(steep[0] / steep.std() / 4), atol=0.1)


def test_a_constant_component_and_a_narrow_start_divide_by_nothing():
    moving = np.cumsum(0.1 * normal(200, 21), axis=1)
    x = np.stack([moving - moving[:, :1], np.ones((200, 21), "f")], axis=-1)
    net = noise_of(sx.Trajectories(x, TS))
    at = jax.jit(lambda t, x: (net(t, x), jax.jacobian(lambda x: net(t, x))(x)))
    for t in (0.0, 0.01, 1.0):
        score = np.asarray(at(t, np.array([0.1, 1.0], "f"))[0])
        assert np.all(np.isfinite(score))
        assert score[1] == 0
        assert np.all(np.isfinite(at(t, np.zeros(2, "f"))[1]))


def test_trajectories_may_have_times_of_their_own():
    rng = np.random.default_rng(0)
    ts = np.sort(rng.uniform(0, 1, (3000, 12)), axis=1)
    steps = np.diff(ts, axis=1, prepend=0)
    x = np.cumsum(np.sqrt(steps) * rng.normal(size=ts.shape), axis=1) + rng.normal(size=(3000, 1))
    net = noise_of(sx.Trajectories(jnp.asarray(x, jnp.float32), ts))
    assert -1 / float(rates(net, 0.6)) == pytest.approx(1.6, rel=0.15)


def test_states_may_be_trees():
    x = {"a": normal(1000, 21, 2), "b": 100 * normal(1000, 21, seed=1)}
    net = sx.nn.Whitened(lambda t, x, args: x, sx.Trajectories(x, TS))
    found = score(net, 0.5, {"a": jnp.ones(2), "b": jnp.array(100.0)})
    assert np.abs(found["a"]).max() == pytest.approx(1, abs=0.4)
    assert float(found["b"]) == pytest.approx(-0.01, abs=0.004)
    of_each = rates(net, 0.5)
    np.testing.assert_allclose(of_each["a"], -1 / x["a"][:, 10].var(0), rtol=1e-4)
    assert float(of_each["b"]) == pytest.approx(-1 / float(x["b"][:, 10].var()), rel=1e-4)


def test_of_a_tree_the_exponential_solver_takes_each_arrays_linear_part():
    # Moments that do not change, so one step is exact: x - m decays by exp(-g²/v), in units of each array's own.
    x = {"a": np.tile(normal(400, 1, 2), (1, 2, 1)), "b": np.tile(100 * normal(400, 1, seed=1), (1, 2))}
    g = sx.Diffusion({"a": 1.0, "b": 100.0})
    s = sx.Score(sx.nn.Whitened(lambda t, x, args: x, sx.Trajectories(x, [0.0, 1.0]), guard=False), g)
    start = {"a": jnp.ones((1, 2)), "b": jnp.full(1, 300.0)}
    end = sx.solve(2 * s, start, [1.0, 0.0], solver=sx.ExponentialEuler())
    for name, unit in (("a", 1.0), ("b", 100.0)):
        m, v, x0 = x[name][:, 0].mean(0), x[name][:, 0].var(0), np.asarray(start[name])[0]
        np.testing.assert_allclose(np.asarray(end[name])[0, -1], m + np.exp(-(unit**2) / v) * (x0 - m), rtol=1e-3)


def test_the_network_sees_bounded_numbers_of_order_one_and_a_clock_from_0_to_1():
    seen = []

    def net(t, x, args):
        seen.append((t, x))
        return x

    x = np.array([1e-6, 1e6], "f") * (5 + normal(500, 21, 2))
    white = sx.nn.Whitened(net, sx.Trajectories(x, 1e4 + 1e3 * TS))
    white(1e4 + 250.0, jnp.array([6e-6, 6e6]))
    white(1e4 + 1e3, jnp.array([1e30, -1e30]))
    (t, z), (last, far) = seen
    assert float(t) == pytest.approx(0.25, abs=1e-3)
    np.testing.assert_allclose(z, 1.0, atol=0.25)
    assert float(last) == 1
    np.testing.assert_allclose(far, [4.0, -4.0])


def test_the_tables_are_no_weights():
    x = normal(64, 1) + 0.05**0.5 * np.cumsum(normal(64, 21, seed=1), axis=1)
    paths = sx.Trajectories(x, TS)
    net = sx.nn.Whitened(small(), paths)
    s = sx.Score(net, sx.Diffusion(1.0))
    decay = lambda rate: optax.adamw(rate, weight_decay=1.0)  # noqa: E731
    P = sx.Drift(lambda t, x, args: -x)
    trained = sx.fit(-P + 2 * s, paths, key=K[2], optimizer=decay, curriculum=[sx.Stage(updates=5, learning_rate=0.1)])
    np.testing.assert_array_equal(trained.net.scales().variance, net.scales().variance)
    assert float(trained.net.gain) != 0


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_no_unit_and_no_origin_of_time_matters(unit):
    # The same problem on another clock gives the same training, but for rounding.
    np.testing.assert_allclose(trained(unit, 4 * unit), trained(1.0, 0.0), rtol=1e-3)


@functools.cache
def trained(unit, origin):
    x = normal(64, 1) + 0.05**0.5 * np.cumsum(normal(64, 21, seed=1), axis=1)
    paths = sx.Trajectories(x, origin + unit * TS, {"unit": unit})
    s = sx.Score(sx.nn.Whitened(small(), paths), sx.Diffusion(unit**-0.5))
    s = sx.fit(-DECAY + 2 * s, paths, key=K[2], curriculum=[sx.Stage(updates=20)])
    return score(s.net, origin + 0.5 * unit, jnp.array(0.7))


DECAY = sx.Drift(lambda t, x, args: -x / args["unit"])  # one program for every unit


@pytest.mark.usefixtures("as_users_run")
def test_a_motion_of_a_few_of_the_smallest_steps_of_its_numbers_is_named():
    x = normal(200, 21, 2) * np.array([1.0, 0.1], "f") + np.array([0.0, 1e5], "f")
    with pytest.warns(UserWarning, match=r"component 1 .* within 0\.\d+ of 100000, where float32 .* Take an offset"):
        noise_of(sx.Trajectories(x, TS))


# Right on other people's scales


def test_components_of_any_scale_are_learned_with_defaults():
    # Scales 1e-2 to 1e2; 400 draws of 25 cases, so a mean is known to .05 deviations, a variance to one per cent.
    scale = np.logspace(-2, 2, 10).astype(np.float32)
    P, g = sx.Drift(lambda t, x, args: -0.7 * x), sx.Diffusion(0.6 * scale)
    x0 = scale[None] * (3 + jr.normal(K[1], (2000, 10)))
    paths = sx.simulate(P + g, x0, TS, key=K[2], solver=dfx.Heun())
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(10,), widths=(32, 32), key=K[3]), paths), g)
    heun = sx.WindowLoss(solver=dfx.Heun())
    s = sx.fit(-P + 2 * s, paths, key=K[4], loss=heun, curriculum=[sx.Stage(updates=300)])
    xT = paths.end[:25]
    draws = np.asarray(sx.posterior(-P + 2 * s + g, xT, TS[::-1], 400, key=K[5], solver=dfx.ShARK())) / scale
    mean, var = OU10.posterior(np.asarray(xT) / scale)
    off = np.sqrt(np.mean((draws.mean(0) - mean) ** 2, axis=0) / var)
    assert np.all(off < 0.1)
    np.testing.assert_allclose(draws.var(0).mean(0) / var, 1, atol=0.05)


def test_noise_on_the_velocity_alone_gives_position_and_velocity():
    # Before training: process and data are Gaussian, and the reference knows their variances but not how position and
    # velocity go together. The position's own score is 0, whatever the network says of it.
    P = sx.Drift(lambda t, x, args: jnp.stack([x[1], -x[0] - 0.5 * x[1]]))
    g = sx.Diffusion(jnp.array([0.0, 0.5]))
    paths = sx.simulate(P + g, jr.normal(K[1], (500, 2)), TS, key=K[2], solver=dfx.Heun())
    s = sx.Score(sx.nn.Whitened(small((2,)), paths), g)
    position, velocity = np.asarray(score(s, 0.5, jnp.ones(2)))
    assert float(position) == 0
    assert float(velocity) == pytest.approx(-1 / float(paths.x[:, 10, 1].var()), abs=0.2)


# Bad input

FRESH = sx.FreshPaths(DECAY + sx.Diffusion(0.5), jnp.ones(4), TS)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: noise_of(sx.Trajectories(jnp.ones((5, 21)), TS)), ValueError, "at least 16 trajectories; got 5"),
        (
            lambda: sx.nn.Whitened(small(), FRESH),  # pyright: ignore[reportArgumentType]
            TypeError,
            "`Trajectories`; got FreshPaths. Simulate some",
        ),
        (
            lambda: sx.nn.Whitened(
                small(), sx.Trajectories(normal(20, 21), TS), basis=lambda x: sx.Fourier(jnp.ones((4, 3)))
            ),
            ValueError,
            r"does not fit states of shape \(\): .*one field of shape \(\)",
        ),
        (
            lambda: sx.nn.Whitened(
                small((3,)),
                sx.Trajectories(normal(20, 21, 3), TS),
                basis=lambda x: sx.Fourier.like(x, axes=(0, 1)),
            ),
            ValueError,
            r"states of shape \(3,\): axis 1 is out of bounds.*write `sx.Fourier.like`",
        ),
        (
            lambda: sx.nn.Whitened(
                small((3,)), sx.Trajectories(normal(20, 21, 3), TS), basis=lambda x: sx.Diagonal(jnp.ones(2))
            ),
            TypeError,
            r"does not fit states of shape \(3,\)",
        ),
        (
            lambda: sx.nn.Whitened(
                small(),
                sx.Trajectories(normal(20, 21), TS),
                basis=sx.Diagonal(jnp.ones(())),  # pyright: ignore[reportArgumentType]
            ),
            TypeError,
            "needs a function from one state to an operator in the basis; got an operator",
        ),
    ],
    ids=["too few", "fresh paths", "another basis", "other axes", "other components", "an operator"],
)
def test_what_does_not_fit_is_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
