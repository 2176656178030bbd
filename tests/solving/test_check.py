"""`sx.check` measures what it says, on steps whose answers are known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

X = jr.normal(jr.key(0), (6, 3))


def heun(x, dt):
    k = -jnp.sin(x)
    return x + 0.5 * dt * (k - jnp.sin(x + dt * k))


@pytest.mark.parametrize(("step", "order"), [(lambda x, dt: x - dt * jnp.sin(x), 1), (heun, 2)])
def test_order_in_dt(step, order):
    report = sx.check(sx.Drift.from_step(step), X, dt=0.5)
    assert abs(report.order - order) < 0.25


@pytest.mark.parametrize(("late", "order"), [(0.0, 1), (0.5, 2)])
def test_the_order_counts_what_changes_with_time(late, order):
    step = sx.Drift.from_step(lambda t, x, dt, args: x + dt * jnp.cos(3 * (t + late * dt)))
    assert abs(sx.check(step, X, dt=0.2, t=0.3).order - order) < 0.25  # pyright: ignore


def test_the_time_of_a_reverse_drift_falls():
    R = sx.ReverseDrift(lambda t, x, args: jnp.where(t <= 0.3, -x, jnp.nan))
    report = sx.check(R, X, dt=0.2, t=0.3)
    assert abs(report.order - 1) < 0.25  # pyright: ignore
    assert report.round_trip < 0.5  # pyright: ignore


def test_an_exact_step_has_infinite_order():
    report = sx.check(sx.Drift.from_step(lambda x, dt: x * jnp.exp(-dt)), X, dt=0.5)
    assert report.order == float("inf")


def test_an_exact_reversal_returns():
    report = sx.check(sx.Drift.from_step(lambda x, dt: x * jnp.exp(-dt), reverse=sx.negative_step), X, dt=0.5)
    assert report.round_trip is not None
    assert report.round_trip < 1e-5


def test_a_mirrored_step_is_off_by_the_second_order():
    report = sx.check(sx.Drift.from_step(lambda x, dt: x * jnp.exp(-dt), reverse=sx.mirror), X, dt=0.1)
    # |(2 - e) e - 1| / |e - 1| = |e - 1| with e = exp(-dt)
    assert report.round_trip == pytest.approx(1 - 0.904837, rel=1e-3)


def test_no_stated_reversal_is_said_so():
    report = sx.check(sx.Drift.from_step(lambda x, dt: x + dt), X, dt=0.1)
    assert report.round_trip is None
    assert "not stated" in repr(report)


def test_an_error_in_a_stated_reversal_is_the_users_to_see():
    def reverse(x, dt):
        raise TypeError("what is wrong with it")

    with pytest.raises(TypeError, match="what is wrong with it"):
        sx.check(sx.Drift.from_step(lambda x, dt: x + dt, reverse=reverse), X, dt=0.1)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_right_gradient_is_one_in_any_unit(unit):
    step = sx.Drift.from_step(lambda x, dt: x - dt * unit * jnp.sin(x / unit))
    assert sx.check(step, unit * X, dt=0.5).vjp_error < 1e-2  # pyright: ignore


def test_a_right_gradient_agrees_with_differences():
    error = sx.check(sx.Drift(lambda t, x, args: jnp.sin(x)), X, dt=0.1).vjp_error
    assert error is not None
    assert error < 1e-2


def test_a_wrong_gradient_is_seen():
    def step(x, dt):
        return x + dt * (jax.lax.stop_gradient(x**3) - x)

    error = sx.check(sx.Drift.from_step(step), X, dt=0.5).vjp_error
    assert error is not None
    assert error > 0.1


def test_samples_do_not_see_each_other():
    assert sx.check(sx.Drift(lambda t, x, args: jnp.sin(x)), X, dt=0.1).batch_error < 1e-6


@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_drift_is_an_error():
    with pytest.raises(TypeError, match="measures a drift, such as `P`, without its noise"):
        sx.check(sx.Drift(lambda t, x, args: x) + sx.Diffusion(0.1), X, dt=0.1)  # pyright: ignore


def test_dt_must_be_positive():
    with pytest.raises(ValueError, match="dt"):
        sx.check(sx.Drift(lambda t, x, args: x), X, dt=-0.1)


def test_the_reversal_of_a_reversed_step_and_of_a_sum_is_the_stated_one():
    P = sx.Drift.from_step(lambda x, dt: x * (1 + dt), lambda x, dt: x / (1 + dt))
    Q = sx.Drift(lambda t, x, args: 0 * x)
    for drift in (P, -P, P + Q):
        assert sx.check(drift, jnp.linspace(0.5, 1.0, 4), dt=0.5).round_trip < 1e-5  # pyright: ignore


def test_of_a_step_with_one_dt_no_order_can_be_measured():
    P = sx.Drift.from_step(lambda x, dt: x * jnp.exp(-0.1), reverse=sx.mirror, dt=0.1)
    report = sx.check(P, X, dt=0.1)
    assert report.order is None
    assert "order in dt not measurable" in repr(report)
    assert report.round_trip == pytest.approx(1 - 0.904837, rel=1e-3)


def test_a_step_with_one_dt_is_checked_at_that():
    P = sx.Drift.from_step(lambda x, dt: x * jnp.exp(-0.1), dt=0.1)
    with pytest.raises(ValueError, match=r"only steps of 0.1; got 0.5: write `check\(..., dt=0.1\)`"):
        sx.check(P, X, dt=0.5)


def test_a_step_that_returns_the_change_is_said_so():
    change = sx.check(sx.Drift.from_step(lambda x, dt: -dt * x), X, dt=0.1)
    assert change.zero_error == pytest.approx(1)
    assert "a step of dt = 0 is 1 of the state off: return the state, `x + change`" in repr(change)
    state = sx.check(sx.Drift.from_step(lambda x, dt: x - dt * x), X, dt=0.1)
    assert state.zero_error == 0
    assert "dt = 0" not in repr(state)


def test_a_step_without_a_value_at_no_dt_is_not_measured_there():
    assert sx.check(sx.Drift.from_step(lambda x, dt: x - dt**2 / dt * x), X, dt=0.1).zero_error is None


def called_back(x, dt):
    """An Euler step of -x in NumPy, which JAX cannot differentiate."""
    step = lambda x, dt: x - np.reshape(dt, np.shape(dt) + (1,) * (x.ndim - np.ndim(dt))) * x  # noqa: E731
    return jax.pure_callback(step, jax.ShapeDtypeStruct(x.shape, x.dtype), x, dt, vmap_method="expand_dims")


def test_code_that_jax_calls_back_is_measured_but_for_its_gradient():
    report = sx.check(sx.Drift.from_step(called_back, reverse=sx.mirror), X, dt=0.1)
    assert report.vjp_error is None
    assert "VJP against differences not measurable" in repr(report)
    assert report.order == pytest.approx(1, abs=0.25)
    assert report.round_trip == pytest.approx(0.1, rel=1e-3)
