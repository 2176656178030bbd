"""Drifts that are a simulator's steps: exactly the user's steps, and a reversal that is stated."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

TS = jnp.linspace(0.0, 1.0, 9)
X = jnp.array([[0.4, -1.0], [2.0, 0.1]])
g = sx.Diffusion(0.3)


def step(x, dt):
    """Semi-implicit, so that no rate reproduces it at a finite dt."""
    return x / (1 + dt * x**2) + dt * jnp.roll(x, 1)


def unstep(x, dt):
    return x * (1 + dt)


def plain_loop(step, x, ts):
    xs = [x]
    for dt in jnp.abs(jnp.diff(ts)):
        xs.append(jax.vmap(step, (0, None))(xs[-1], dt))
    return jnp.stack(xs, axis=1)


def test_forwards_it_is_the_plain_loop():
    P = sx.Drift.from_step(step)
    np.testing.assert_allclose(sx.solve(P, X, TS), plain_loop(step, X, TS), rtol=2e-6, atol=1e-6)


def test_it_is_called_once_a_step():
    calls = []

    def counted(x, dt):
        jax.debug.callback(lambda dt: calls.append(float(dt)), dt)
        return step(x, dt)

    jax.block_until_ready(sx.solve(sx.Drift.from_step(counted), X[:1], TS))
    jax.effects_barrier()
    np.testing.assert_allclose(calls, jnp.diff(TS), rtol=1e-5)


@pytest.mark.parametrize(
    ("reverse", "back"),
    [
        (sx.mirror, lambda x, dt: x - (step(x, dt) - x)),
        (sx.negative_step, lambda x, dt: step(x, -dt)),
        (unstep, unstep),
    ],
    ids=["mirror", "negative_step", "own"],
)
def test_backwards_it_is_the_plain_loop_of_the_stated_reversal(reverse, back):
    P, ts = sx.Drift.from_step(step, reverse=reverse), TS[::-1] / 4
    np.testing.assert_allclose(sx.solve(-P, X, ts), plain_loop(back, X, ts), rtol=3e-5)


def test_uneven_steps_are_passed_on():
    ts = jnp.array([0.0, 0.1, 0.4, 0.45, 1.0])
    P = sx.Drift.from_step(step)
    np.testing.assert_allclose(sx.solve(P, X, ts), plain_loop(step, X, ts), rtol=2e-6, atol=1e-6)


def test_a_step_with_defaults_is_called_by_the_place_of_its_state():
    late = sx.Drift.from_step(lambda t, x, dt=0.1, args=None: x + dt * t, reverse=sx.mirror)
    slow = sx.Drift.from_step(lambda x, dt, rate=0.5, args=None: x + rate * dt)
    np.testing.assert_allclose(late.increment(2.0, 1.0, 0.25, None), 0.5)
    np.testing.assert_allclose((-late).increment(2.0, 1.0, 0.25, None), -0.5)
    np.testing.assert_allclose(slow.increment(2.0, 1.0, 0.25, None), 0.125)


def test_twice_reversed_it_steps_forwards_again():
    P = sx.Drift.from_step(step, reverse=unstep)
    back = -P
    assert -back is P


def test_increments_add_to_those_of_rates():
    P = sx.Drift.from_step(step, reverse=sx.mirror)
    s = sx.Score(lambda t, x, args: -t * x, g)
    x, dt = X[0], 0.1
    expected = -(step(x, dt) - x) + 2 * dt * 0.5 * 0.3**2 * (-0.7 * x)
    np.testing.assert_allclose((-P + 2 * s).increment(0.7, x, dt, None), expected, rtol=1e-5)


def test_it_takes_noise():
    P = sx.Drift.from_step(step)
    x = sx.solve(P + g, jnp.zeros((20000, 1)), TS[:2], key=jax.random.key(0))[:, 1]
    assert float(x.std()) == pytest.approx(0.3 * 0.125**0.5, rel=0.02)


def test_a_window_loss_unrolls_it():
    P = sx.Drift.from_step(step, reverse=sx.mirror)
    windows = sx.Windows(jnp.stack([X[:, 0], X[:, 1], X[:, 0]], 1), jnp.tile(TS[:3], (2, 1)), 0.125)
    value = sx.WindowLoss()(-P, windows, jax.random.key(0), None)
    back = plain_loop(lambda x, dt: 2 * x - step(x, dt), windows.x[:, -1, None], TS[:3])[:, 1:, 0]
    np.testing.assert_allclose(value, jnp.mean((back - windows.x[:, -2::-1]) ** 2), rtol=1e-5)


def test_states_may_be_trees():
    P = sx.Drift.from_step(lambda x, dt: {"u": x["u"] + dt * x["v"], "v": x["v"] - dt * x["u"]}, sx.mirror)
    x = sx.solve(P, {"u": jnp.ones(3), "v": jnp.zeros((3,))}, TS)
    assert x["v"].shape == (3, 9)
    np.testing.assert_allclose(x["v"][:, 1], -0.125, rtol=1e-6)


# Reversal is never guessed


@pytest.mark.parametrize("wrong", [lambda P: -P, lambda P: -(2 * P), lambda P: -P + g], ids=["-P", "-(2P)", "-P+g"])
def test_without_a_stated_reversal_minus_is_an_error_that_names_the_three(wrong):
    with pytest.raises(TypeError, match="(?s)sx.mirror.*sx.negative_step.*own inverse step"):
        wrong(sx.Drift.from_step(step))


@pytest.mark.usefixtures("as_users_run")
def test_a_reversal_is_a_function_of_x_and_dt():
    with pytest.raises(TypeError, match=r"reverse=.*\(x, dt\)"):
        sx.Drift.from_step(step, reverse=lambda x: x)
    with pytest.raises(TypeError, match=r"from_step.*\(x, dt\)"):
        sx.Drift.from_step(lambda t, x, args: x)  # pyright: ignore[reportArgumentType]


# What a step and its reversal return is looked at before it is subtracted from the state


BAD = {
    "shape": (lambda x, dt: x.sum(), r"float32\[\]"),
    "axis": (lambda x, dt: x[None], r"float32\[1, 2\]"),
    "precision": (lambda x, dt: x.astype(jnp.bfloat16), r"bfloat16\[2\]. Only the precision differs"),
    "integer": (lambda x, dt: jnp.ones(2, int), r"int32\[2\]"),
    "tree": (lambda x, dt: {"x": x}, r"\{x: float32\[2\]\}"),
}


@pytest.mark.parametrize(("f", "got"), BAD.values(), ids=BAD.keys())
def test_a_step_returns_a_state_like_its_own(f, got):
    with pytest.raises(ValueError, match=rf"The step of `P\(x\)` must return.*float32\[2\]; it returned {got}"):
        sx.simulate(sx.Drift.from_step(f), X, TS)


@pytest.mark.parametrize(("f", "got"), BAD.values(), ids=BAD.keys())
def test_a_reversal_returns_a_state_like_its_own(f, got):
    with pytest.raises(ValueError, match=rf"The reversal of `P\(x\)` must return.*float32\[2\]; it returned {got}"):
        sx.solve(-sx.Drift.from_step(step, reverse=f), X, TS[::-1])


def test_a_mirror_shows_what_the_step_returned():
    with pytest.raises(ValueError, match=r"The step of `P\(x\)` must return.*it returned float32\[\]"):
        sx.solve(-sx.Drift.from_step(lambda x, dt: x.sum(), reverse=sx.mirror), X, TS[::-1])


def test_a_step_that_a_score_is_counted_from_is_looked_at_too():
    D = sx.Drift.from_step(lambda x, dt: x.sum(), reverse=sx.mirror, name="D")
    s = sx.Score(lambda t, x, args: -x, g, around=D)
    with pytest.raises(ValueError, match=r"The step of `D\(x\)` must return"):
        sx.solve(-sx.Drift.from_step(step, reverse=sx.mirror) + 2 * s, X, TS[::-1])


def test_a_reversal_that_is_not_asked_for_is_not_looked_at():
    def never(x, dt):
        raise AssertionError

    assert sx.solve(sx.Drift.from_step(step, reverse=never), X, TS).shape == (2, 9, 2)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("f", [lambda t, x: x, lambda t, x, dt=0.1: x, lambda x, y: x])
def test_the_second_argument_of_a_step_is_dt_and_no_state(f):
    with pytest.raises(TypeError, match=r"`Drift.from_step` calls .*\(x, dt\); .* second argument is '[xy]'"):
        sx.Drift.from_step(f)
    with pytest.raises(TypeError, match=r"reverse=.*second argument is '[xy]'"):
        sx.Drift.from_step(step, reverse=f)
    with pytest.raises(TypeError, match=r"reverse=.*second argument is '[xy]'"):
        sx.Drift.from_step(step, reverse=sx.negative_step(f))


# A step has no rate


@pytest.mark.parametrize(
    "how",
    [
        {"solver": dfx.Heun()},
        {"solver": dfx.Tsit5()},
        {"solver": dfx.Tsit5(), "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)},
        {"solver": dfx.Kvaerno3(), "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)},
    ],
    ids=["Heun", "Tsit5", "adaptive", "implicit"],
)
def test_solvers_that_need_a_rate_are_refused_with_the_reason(how):
    with pytest.raises(TypeError, match=r"no rate.*as dt -> 0.*diffrax.Euler.*as_rate"):
        sx.solve(sx.Drift.from_step(step), X, TS, **how)


def test_noise_solvers_that_need_a_rate_are_refused_too():
    with pytest.raises(TypeError, match="no rate"):
        sx.solve(sx.Drift.from_step(step) + g, X, TS, solver=dfx.ShARK(), key=jax.random.key(0))


def test_as_rate_is_the_increment_over_a_reference_step():
    R = sx.Drift.from_step(step).as_rate(0.01)
    np.testing.assert_allclose(R.rate(0.0, X[0], None), (step(X[0], 0.01) - X[0]) / 0.01, rtol=1e-5)
    np.testing.assert_allclose((-R).rate(0.0, X[0], None), -R.rate(0.0, X[0], None))


def test_as_rate_serves_any_solver():
    R = sx.Drift.from_step(lambda x, dt: x * jnp.exp(-dt)).as_rate(1e-2)
    x = sx.solve(R, jnp.ones(1), TS, solver=dfx.Tsit5())
    np.testing.assert_allclose(x[0, -1], np.exp(-1), rtol=1e-2)


# A step that accepts one dt


def test_a_fixed_dt_accepts_its_grid():
    P = sx.Drift.from_step(step, reverse=sx.mirror, dt=0.125)
    np.testing.assert_allclose(sx.solve(P, X, TS), plain_loop(step, X, TS), rtol=2e-6, atol=1e-6)
    assert sx.solve(-P, X, TS[::-1]).shape == (2, 9, 2)


def test_a_fixed_dt_refuses_another_grid():
    P = sx.Drift.from_step(step, dt=0.125)
    with pytest.raises(ValueError, match=r"only steps of 0.125.*a step of 0.25 at position 1"):
        sx.solve(P, X, jnp.array([0.0, 0.125, 0.375]))


def test_a_fixed_dt_holds_for_training_too():
    P = sx.Drift.from_step(step, reverse=sx.mirror, dt=0.1)
    s = sx.Score(sx.nn.MLP((2,), (4,), key=jax.random.key(0)), g)
    with pytest.raises(ValueError, match="only steps of 0.1"):
        sx.fit(
            -P + 2 * s,
            sx.Trajectories(jnp.zeros((4, 9, 2)), TS),
            key=jax.random.key(0),
            curriculum=[sx.Stage(updates=1)],
        )


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dt", [TS[1] - TS[0], np.float32(0.125), np.array(0.125), 0.125])
def test_a_fixed_dt_may_be_numpys_or_jaxs(dt):
    P = sx.Drift.from_step(step, dt=dt)
    assert (type(P.dt), P.dt) == (float, 0.125)
    with pytest.raises(TypeError, match="`dt` is a part of the program"):
        jax.jit(lambda dt: sx.Drift.from_step(step, dt=dt).dt)(0.125)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dt", [0.0, -0.1, float("nan"), float("inf"), "fast", np.array([0.1]), -jnp.ones(())])
def test_a_fixed_dt_is_a_positive_number(dt):
    with pytest.raises(ValueError, match="`dt` must be a number > 0"):
        sx.Drift.from_step(step, dt=dt)


def test_a_rate_at_a_dt_that_the_step_does_not_accept_is_refused():
    P = sx.Drift.from_step(step, dt=0.125)
    P.as_rate(0.125)
    with pytest.raises(ValueError, match=r"only steps of 0.125; got 0.5: write `as_rate\(0.125\)`"):
        P.as_rate(0.5)


@pytest.mark.parametrize("ts", [jnp.linspace(0, 10, 10001), np.linspace(0, 10, 10001)], ids=["single", "double"])
def test_the_only_step_length_may_be_that_of_rounded_times_and_is_taken_as_stated(ts):
    seen = []

    def still(x, dt):
        jax.debug.callback(lambda dt: seen.append(float(dt)), dt)
        return x

    P = sx.Drift.from_step(still, dt=0.001)
    x = jnp.ones(1)
    assert (sx.solve(P, x, ts[-5:]) == 1).all()
    jax.effects_barrier()
    assert set(seen) == {float(jnp.float32(0.001))}
