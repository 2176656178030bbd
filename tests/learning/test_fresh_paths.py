"""Trajectories simulated anew for every update: their times, their law, and the windows cut from them."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import Slope, Stationary, as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 6)
UNEVEN = np.array([0.0, 0.1, 0.4, 0.5, 1.2])
RATE, G = 1.5, 0.6


class Decay(eqx.Module):
    """-rate·x, with its linear part stated: `ExponentialEuler` draws from the very law of the OU process."""

    rate: float = RATE

    def __call__(self, t, x, args):
        return -self.rate * x

    def linear(self, t):
        return sx.Diagonal(jnp.full((), -self.rate))


P, g = sx.Drift(Decay()), sx.Diffusion(G)
clock = sx.Drift.from_step(lambda x, dt: x + dt)  # x(t) - x(0) is the time that passed


@eqx.filter_jit
def simulate(paths, count, key=KEY):
    source = paths.source([1])
    x, moved, _ = source.simulate(count, key)
    return x, source.times(moved)


def times_of(paths, count):
    source = paths.source([1])
    return source.times(source.moved(count, KEY))


@eqx.filter_jit
def draw_jitted(paths, size, stride, batch, key):
    return paths.source([stride]).draw(size=size, stride=stride, batch=batch, key=key)[0]


def windows(paths, size=2, batch=8, stride=1, key=KEY):
    return draw_jitted(paths, size, stride, batch, key)


# Times


def test_without_jitter_the_times_are_the_grids():
    _, times = simulate(sx.FreshPaths(clock, jnp.zeros(3), UNEVEN, jitter=False), 4)
    np.testing.assert_array_equal(times, np.tile(UNEVEN, (4, 1)).astype(np.float32))


@pytest.mark.parametrize("ts", [TS, UNEVEN], ids=["even", "uneven"])
def test_with_jitter_inner_times_are_uniform_between_the_middles_and_the_ends_stay(ts):
    times = np.asarray(times_of(sx.FreshPaths(clock, jnp.zeros(3), ts), 4000), float)
    np.testing.assert_allclose(times[:, [0, -1]], np.tile(ts[[0, -1]], (4000, 1)), rtol=1e-6)
    assert (np.diff(times, axis=1) > 0).all()
    middles = (ts[1:] + ts[:-1]) / 2
    uniform = (times[:, 1:-1] - middles[:-1]) / np.diff(middles)
    for column in uniform.T:  # the distance of Kolmogorov and Smirnov, at 1 in 1000
        assert np.abs(np.sort(column) - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / 4000**0.5
    # Each trajectory has its own times, and each of its times is drawn by itself.
    assert len(np.unique(times[:, 1])) > 3900
    off_diagonal = np.corrcoef(uniform.T)[~np.eye(len(ts) - 2, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / 4000**0.5


def test_two_times_leave_nothing_to_jitter():
    times = times_of(sx.FreshPaths(clock, jnp.zeros(3), [0.0, 1.0]), 5)
    np.testing.assert_array_equal(times, np.tile([0.0, 1.0], (5, 1)))


@pytest.mark.parametrize("stride", [1, 2])
def test_far_from_the_origin_of_time_steps_are_as_long_as_near_it(stride):
    def drawn(t0):
        source = sx.FreshPaths(clock, jnp.zeros(1), t0 + TS / 50).source([stride])
        return eqx.filter_jit(lambda source: source.draw(size=3, stride=stride, batch=500, key=KEY)[0])(source)

    near, far = drawn(0), drawn(2000)
    np.testing.assert_allclose(far.durations(), near.durations(), rtol=1e-5)
    np.testing.assert_allclose(far.x, near.x, atol=1e-6)


# Trajectories


@pytest.mark.parametrize("jitter", [False, True], ids=["grid", "jitter"])
def test_each_step_takes_its_own_dt_and_starts_where_it_should(jitter):
    x, times = simulate(sx.FreshPaths(clock, 10 * jnp.arange(4.0), UNEVEN, jitter=jitter), 64)
    np.testing.assert_allclose(x - x[:, :1], times, rtol=1e-5, atol=1e-5)
    starts, counts = np.unique(x[:, 0], return_counts=True)
    np.testing.assert_array_equal(starts, [0, 10, 20, 30])
    assert counts.min() > 4


def test_callables_see_each_trajectorys_own_time_and_args():
    drift = sx.Drift(lambda t, x, args: args * jnp.stack([2 * t, jnp.ones_like(t)]))
    x, times = simulate(sx.FreshPaths(drift, jnp.zeros((1, 2)), TS, jnp.array(3.0), solver=dfx.Euler()), 16)
    t, dt = times[:, :-1], jnp.diff(times, axis=1)
    np.testing.assert_allclose(x[:, 1:, 0], jnp.cumsum(6 * t * dt, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x[:, :, 1], 3 * times, rtol=1e-5, atol=1e-6)


def test_the_law_at_jittered_times_is_the_processs():
    paths = sx.FreshPaths(P + g, jnp.array([1.0]), TS, solver=sx.ExponentialEuler())
    x, times = (np.asarray(a) for a in simulate(paths, 20000))
    dt = np.diff(times, axis=1)
    decay = np.exp(-RATE * dt)
    z = (x[:, 1:] - decay * x[:, :-1]) / (G * np.sqrt((1 - decay**2) / (2 * RATE)))
    # Increments over their standard deviations: white, also between long steps and short ones.
    assert np.abs(z.mean(axis=0)).max() < 3.5 / 20000**0.5
    np.testing.assert_allclose(z.var(axis=0), 1, atol=3.5 * (2 / 20000) ** 0.5)
    assert np.abs(np.corrcoef(z.T) - np.eye(5)).max() < 3.5 / 20000**0.5
    for part in (dt < 0.1, dt > 0.3):
        assert z[part].var() == pytest.approx(1, abs=3.5 * (2 / part.sum()) ** 0.5)


def test_states_may_be_trees_and_double():
    move = sx.Drift.from_step(lambda x, dt: {"u": x["u"] + dt, "v": x["v"] - dt})
    with double_precision():
        x0 = {"u": jnp.arange(3.0), "v": -jnp.arange(3.0)}
        w = windows(sx.FreshPaths(move, x0, TS), size=3)
        assert (w.t.dtype, w.x["v"].dtype) == (jnp.float64, jnp.float64)
        np.testing.assert_allclose(w.x["u"], -w.x["v"], atol=1e-12)


# Windows


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 2)])
def test_windows_are_pieces_of_trajectories_with_their_times(size, stride):
    w = windows(sx.FreshPaths(clock, jnp.zeros(1), TS, jitter=False), size, 500, stride=stride)
    np.testing.assert_allclose(w.x, w.t, atol=1e-5)
    np.testing.assert_allclose(jnp.diff(w.t, axis=1), 0.2 * stride, rtol=1e-4)
    starts = np.round(np.asarray(w.t[:, 0]) / 0.2).astype(int)
    np.testing.assert_allclose(np.bincount(starts) / 500, 1 / (6 - (size - 1) * stride), atol=0.08)


def test_windows_of_one_trajectory_share_its_start_and_times():
    paths = sx.FreshPaths(clock, 10 * jnp.arange(1000.0), TS, windows=4)
    w = windows(paths, size=6, batch=12)  # as long as the trajectory, so that equal windows are one trajectory
    assert w.x.shape == (12, 6)
    assert w.step is None  # each step is as long as its times say
    same = [np.array_equal(w.t[i], w.t[j]) for i in range(12) for j in range(i)]
    assert sum(same) == 3 * 6  # three trajectories, each with six pairs among its four windows
    np.testing.assert_allclose(w.x - w.x[:, :1], w.t, atol=2e-3)


def test_the_same_key_gives_the_same_windows_and_another_key_others():
    paths = sx.FreshPaths(P + g, jnp.linspace(-1, 1, 50), TS)
    first, again, other = (windows(paths, key=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.t, again.t)
    assert (first.x != other.x).all()


# Training


def test_it_learns_the_exact_score():
    process = Stationary(var=0.25, g=0.5)
    P = sx.Drift(Decay(0.5))
    x0 = process.var**0.5 * jax.random.normal(KEY, (4000,))
    paths = sx.FreshPaths(P + process.g, x0, np.linspace(0, 1, 21), windows=4, solver=sx.ExponentialEuler())
    curriculum = [sx.Stage(updates=1000, learning_rate=0.05)]
    s = sx.fit(-P + 2 * process.s(0.2), paths, key=KEY, curriculum=curriculum, average=0.99)
    assert float(s.net.a) == pytest.approx(-1 / process.var, rel=0.05)


# Errors


def fit(paths, batch=4, equation=None, **how):
    s = sx.Score(Slope(-1.0), g)
    stages = [sx.Stage(updates=1, batch=batch)]
    return sx.fit(-P + 2 * s if equation is None else equation, paths, key=KEY, curriculum=stages, **how)


def rate_of_shape(shape):
    return sx.Drift(lambda t, x, args: jnp.zeros(shape))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sx.FreshPaths(-P + g, jnp.ones(3), TS), TypeError, r"forward process.*got `dx = \[-P\(x\)\] dτ"),
        (lambda: sx.FreshPaths(lambda x: x, jnp.ones(3), TS), TypeError, "forward process such as `P \\+ g`"),
        (
            lambda: sx.FreshPaths(P + g, jnp.ones(3), TS, windows=0),
            ValueError,
            "at least one window a trajectory; got 0",
        ),
        (
            lambda: fit(sx.FreshPaths(P + g, jnp.ones(3), TS, windows=3)),
            ValueError,
            "3 windows.*batch of 4 is no multiple",
        ),
        (
            lambda: fit(sx.FreshPaths(P + g, jnp.array([1.0, jnp.nan]), TS)),
            ValueError,
            r"x0=...\)` is not finite: sample 1",
        ),
        (
            lambda: fit(sx.FreshPaths(P + g, jnp.ones(3, int), TS)),
            TypeError,
            "`x0` must be floating, got dtype int32",
        ),
        (lambda: fit(sx.FreshPaths(P + g, jnp.ones((0,)), TS)), ValueError, "zero samples"),
        (lambda: fit(sx.FreshPaths(rate_of_shape(2), jnp.ones(3), TS)), ValueError, "must return what it is given"),
        (lambda: fit(sx.FreshPaths(P + g, jnp.ones(3), TS, solver=dfx.Tsit5())), TypeError, "solves ODEs"),
        (lambda: fit(sx.FreshPaths(clock, jnp.ones(3), TS, solver=dfx.Heun())), TypeError, "has no rate"),
        (
            lambda: fit(sx.FreshPaths(P + g, jnp.ones(3), TS, solver=dfx.HalfSolver(dfx.Euler()))),
            TypeError,
            "`HalfSolver` takes steps in halves.*give the solver inside",
        ),
        (
            lambda: fit(sx.FreshPaths(P, jnp.ones(3), TS, solver=dfx.Kvaerno3())),
            ValueError,
            r"needs tolerances.*Kvaerno3\(root_finder=diffrax.VeryChord\(rtol=1e-4",
        ),
    ],
    ids=["reverse", "function", "windows", "batch", "NaN", "int", "starts", "shape", "solver", "step", "halves", "tol"],
)
def test_what_cannot_be_simulated_is_an_error_before_training(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.usefixtures("as_users_run")
def test_a_step_with_a_fixed_dt_takes_the_grid_without_jitter_and_refuses_other_grids():
    fixed = sx.Drift.from_step(lambda x, dt: x + 0.2, dt=0.2)
    assert isinstance(fit(sx.FreshPaths(fixed, jnp.ones(3), TS, jitter=False)), sx.Score)
    slow = sx.Drift.from_step(lambda x, dt: x + 0.1, dt=0.1)
    with pytest.raises(ValueError, match="only steps of 0.1"):
        fit(sx.FreshPaths(slow, jnp.ones(3), TS, jitter=False))


@pytest.mark.usefixtures("as_users_run")
def test_a_step_with_a_fixed_dt_refuses_jitter_in_the_process_and_in_the_equation():
    fixed = sx.Drift.from_step(lambda x, dt: x + 0.2, sx.mirror, dt=0.2)
    with pytest.raises(ValueError, match="only steps of 0.2, and `FreshPaths` draws its steps.*jitter=False"):
        fit(sx.FreshPaths(fixed, jnp.ones(3), TS))
    with pytest.raises(ValueError, match="only steps of 0.2, and `FreshPaths` draws its steps.*jitter=False"):
        fit(sx.FreshPaths(P + g, jnp.ones(3), TS), equation=-fixed + 2 * sx.Score(Slope(-1.0), g))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.filterwarnings("ignore:The trajectories are made by the steps of")
@pytest.mark.parametrize("solver", [dfx.ShARK(), dfx.SRA1(), dfx.EulerHeun(), dfx.ItoMilstein()])
def test_solvers_that_take_one_time_for_all_samples_are_refused(solver):
    with pytest.raises(TypeError, match="each has times of its own.*diffrax.Heun.*ExponentialHeun"):
        fit(sx.FreshPaths(P + g, jnp.ones(3), TS, solver=solver))
