"""Conditions: each sample's functions see its own row, wherever samples are."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 51)
RATES = jnp.array([0.5, 1.0, 2.0])
ARGS = {"rate": sx.PerSample(RATES), "name": "decay"}
X = jnp.ones(3)
P = sx.Drift(lambda t, x, args: -args["rate"] * x)
g = sx.Diffusion(lambda t, args: 0.1 * args["rate"])
s = sx.Score(lambda t, x, args: -args["rate"] * x, g)


def one_by_one(f):
    """What f(x, args) gives for each sample alone, without a wrapper."""
    return jnp.concatenate([f(X[i : i + 1], {"rate": RATES[i], "name": "decay"}) for i in range(3)])


@pytest.mark.parametrize(
    ("solver", "controller"),
    [(dfx.Euler(), None), (dfx.Heun(), None), (dfx.Tsit5(), dfx.PIDController(1e-6, 1e-8))],
    ids=["Euler", "Heun", "adaptive"],
)
def test_physics_sees_its_samples_row(solver, controller):
    how = {"solver": solver, "stepsize_controller": controller, "saveat": dfx.SaveAt(t1=True)}
    got = sx.solve(P, X, TS, args=ARGS, **how)
    np.testing.assert_allclose(got, one_by_one(lambda x, args: sx.solve(P, x, TS, args=args, **how)), rtol=1e-5)


@pytest.mark.parametrize("args", [{1, 2}, {"kinds": {1, 2}, **ARGS}])
def test_what_jax_cannot_take_is_refused(args):
    for call in [
        lambda: sx.solve(P, X, TS, args=args),
        lambda: sx.posterior(-P + 2 * s + g, X, TS[::-1], 2, key=KEY, args=args),
        lambda: sx.Trajectories(jnp.ones((3, len(TS))), TS, args),
    ]:
        with pytest.raises(TypeError, match="`args` holds a set, which JAX cannot take: give numbers and arrays"):
            call()


def test_implicit_solvers_see_it_too():
    how = {"solver": dfx.Kvaerno3(), "stepsize_controller": dfx.PIDController(1e-5, 1e-7)}
    np.testing.assert_allclose(sx.solve(P, X, [0.0, 1.0], args=ARGS, **how)[:, -1], jnp.exp(-RATES), rtol=1e-3)


def test_noise_sees_it():
    paths = sx.simulate(0 * P + g, jnp.zeros(6000), TS, key=KEY, args={"rate": sx.PerSample(jnp.tile(RATES, 2000))})
    std = np.asarray(paths.end).reshape(2000, 3).std(axis=0)
    np.testing.assert_allclose(std, 0.1 * RATES, rtol=0.06)


def test_a_scaled_noise_sees_it():
    assert float((2 * g)(0.0, {"rate": 3.0})) == pytest.approx(0.6)


def test_a_score_and_its_noise_see_it():
    got = sx.point_estimate(-P + s, X, TS[::-1], args=ARGS)
    np.testing.assert_allclose(
        got, one_by_one(lambda x, args: sx.point_estimate(-P + s, x, TS[::-1], args=args)), rtol=1e-5
    )


def test_a_step_sees_time_and_row_and_so_do_its_reversals():
    def step(t, x, dt, args):
        return x * jnp.exp(-args["rate"] * dt) + 0 * t

    for reverse in (sx.negative_step, sx.mirror, lambda t, x, dt, args: x * jnp.exp(args["rate"] * dt)):
        S = sx.Drift.from_step(step, reverse=reverse)
        end = sx.solve(S, X, TS, args=ARGS)[:, -1]
        np.testing.assert_allclose(end, jnp.exp(-RATES), rtol=1e-5)
        back = sx.solve(-S, end, TS[::-1], args=ARGS)[:, -1]
        np.testing.assert_allclose(back, 1, rtol=0.09 if reverse is sx.mirror else 1e-4)


def test_a_stated_linear_part_sees_it():
    class Decay(eqx.Module):
        def __call__(self, t, x, args):
            return -args["rate"] * x

        def linear(self, t, args):
            return sx.Diagonal(-args["rate"])

    got = sx.solve(sx.Drift(Decay()), X, [0.0, 1.0], args=ARGS, solver=sx.ExponentialEuler())
    np.testing.assert_allclose(got[:, -1], jnp.exp(-RATES), rtol=1e-5)


def test_a_posterior_repeats_a_cases_row_over_its_draws_in_any_chunk():
    still = sx.Drift(lambda t, x, args: 0 * x)
    quiet = sx.Diffusion(lambda t, args: 1e-3 * args["rate"])
    push = sx.ReverseDrift(lambda t, x, args: args["rate"] * jnp.ones_like(x))
    for chunk in (None, 5):
        samples = sx.posterior(push + quiet, X, TS[::-1], 4, key=KEY, args=ARGS, chunk=chunk)
        np.testing.assert_allclose(samples, jnp.broadcast_to(1 + RATES, (4, 3)), atol=0.01)
    assert still.direction is sx.Forward


def test_a_likelihood_sees_it():
    result = sx.log_likelihood(P, X, TS, lambda x: jnp.zeros(()), args=ARGS)
    np.testing.assert_allclose(result.log_prob, -RATES, rtol=1e-5)


def test_langevin_sees_it_and_where_there_is_noise():
    x = jnp.zeros(3000)
    args = {"rate": sx.PerSample(jnp.repeat(jnp.array([0.0, 1.0, 4.0]), 1000))}
    x = sx.langevin(s, x, 0.0, step=0.02, steps=300, key=KEY, args=args).reshape(3, 1000)
    np.testing.assert_allclose(x.std(axis=1), [0, 1, 0.5], atol=0.06)


def test_check_sees_it():
    report = sx.check(P, X, dt=0.01, args=ARGS)
    assert report.batch_error < 1e-6
    assert report.order == pytest.approx(1, abs=0.1)


def test_score_errors_see_it():
    error = sx.metrics.score_error(s, lambda t, x, args: -2 * args["rate"] * x, jnp.zeros(3), X, args=ARGS)
    assert error.slope == pytest.approx(0.5)


def test_fresh_paths_draw_start_and_condition_together():
    starts = 10 * jnp.arange(4.0)
    paths = sx.FreshPaths(sx.Drift(lambda t, x, args: 0 * x), starts, TS, sx.PerSample(starts), windows=2)
    windows, args = paths.source([1]).draw(size=3, stride=1, batch=64, key=KEY)
    np.testing.assert_array_equal(windows.x[:, 0], args.value)


class Conditioned(eqx.Module):
    """The score a·rate·x of a stationary process whose variance is 1/rate."""

    a: jax.Array

    def __call__(self, t, x, args):
        return self.a * args["rate"] * x


@pytest.mark.parametrize(
    ("loss", "c"),
    [(sx.WindowLoss(), 2), (sx.TwoWayLoss(), 1), (sx.ImplicitScoreMatching(), 1), (sx.SlicedScoreMatching(), 1)],
    ids=["window", "two ways", "ISM", "SSM"],
)
def test_every_loss_sees_its_windows_rows(loss, c):
    # dx = -½ x dt + rate^(-½) dW has the stationary law N(0, 1/rate).
    key_rate, key_start, key_path, key = jax.random.split(KEY, 4)
    rate = jax.random.uniform(key_rate, (8000,), minval=0.5, maxval=4.0)
    g = sx.Diffusion(lambda t, args: args["rate"] ** -0.5)
    P = sx.Drift(lambda t, x, args: -0.5 * x)
    x0 = jax.random.normal(key_start, (8000,)) / rate**0.5
    paths = sx.simulate(P + g, x0, np.linspace(0, 1, 41), key=key_path, args={"rate": sx.PerSample(rate)})
    s = sx.Score(Conditioned(jnp.array(-0.3)), g)
    stages = [sx.Stage(updates=600, learning_rate=0.05)]
    trained = sx.fit(-P + c * s, paths, key=key, loss=loss, curriculum=stages, average=0.99)
    assert float(trained.net.a) == pytest.approx(-1, rel=0.08)


# Errors


@pytest.mark.usefixtures("as_users_run")
def test_a_condition_has_a_row_for_each_sample():
    with pytest.raises(ValueError, match=r"`PerSample` has 2 rows \(shape \(2,\)\), and there are 3 samples"):
        sx.solve(P, X, TS, args={"rate": sx.PerSample(RATES[:2])})


@pytest.mark.usefixtures("as_users_run")
def test_a_missing_wrapper_is_hinted_at():
    with pytest.raises(
        ValueError, match=r"returned .*3.*`args` holds an array of shape \(3,\).*`sx.PerSample\(array\)`"
    ):
        sx.solve(P, X, TS, args={"rate": RATES})


@pytest.mark.usefixtures("as_users_run")
def test_the_terms_of_one_state_refuse_the_rows_of_many():
    with pytest.raises(TypeError, match="`sx.terms` are those of one state"):
        dfx.diffeqsolve(sx.terms(P, 0.0), dfx.Euler(), 0.0, 1.0, 0.1, jnp.ones(()), args=ARGS)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3.0, TypeError, r"a row for each sample.*got a number"),
        ([jnp.ones(2), jnp.ones(3)], ValueError, r"\[2, 3\] rows"),
    ],
)
def test_what_has_no_rows_is_no_condition(value, error, message):
    with pytest.raises(error, match=message):
        sx.PerSample(value)
