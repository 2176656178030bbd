"""Bad input gets a clear error: what was expected, what came, and what to write instead."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import smdpx as sx
from tests._problems import Slope, as_users_run as as_users_run

pytestmark = pytest.mark.usefixtures("as_users_run")

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 6)
X0 = jnp.ones(3)
P = sx.Drift(lambda t, x, args: -x)
g = sx.Diffusion(0.3)
s = sx.Score(lambda t, x, args: -x, g)
net = sx.Score(sx.nn.MLP(widths=(4,), key=KEY), g)
PATHS = jnp.ones((4, 6))


def fit(paths=PATHS, ts: Any = TS, equation: Any = None, **how):
    how = {"curriculum": [sx.Stage(updates=1, batch=2)], "key": KEY, **how}
    return sx.fit(-P + 2 * net if equation is None else equation, sx.Trajectories(paths, ts), **how)


# Times


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        ([0.0, 0.5, 0.4, 1.0], r"increase or decrease throughout; it turns at position 1 \(t = 0.5\)"),
        ([0.0, 0.5, 0.5, 1.0], "repeats 0.5 at positions 1 and 2"),
        ([0.0, np.nan, 1.0], r"finite; ts\[1\] is not"),
        ([0.0, np.inf], r"finite; ts\[1\] is not"),
        ([0.0], r"at least two times; got shape \(1,\)"),
    ],
)
@pytest.mark.parametrize(
    "call", [lambda ts: sx.solve(P, X0, ts), lambda ts: sx.simulate(P, X0, ts), lambda ts: fit(ts=ts)]
)
def test_times_are_finite_and_strictly_monotone(call, ts, message):
    with pytest.raises(ValueError, match=message):
        call(ts)


HOURS = np.datetime64("2020-01-01T00", "h") + np.arange(6)


@pytest.mark.parametrize(
    ("ts", "write"),
    [(HOURS, r"\(t - t\[0\]\)"), (HOURS.astype("datetime64[us]").tolist(), r"\(t - t\[0\]\)"), (HOURS - HOURS[0], "t")],
    ids=["dates", "a list of dates", "durations"],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda ts: sx.solve(P, X0, ts),
        lambda ts: sx.simulate(P, X0, ts),
        lambda ts: fit(ts=ts),
        lambda ts: fit(list(PATHS), [ts] * 4),
        lambda ts: sx.FreshPaths(P, X0, ts),
    ],
    ids=["solve", "simulate", "fit", "each its own", "fresh"],
)
def test_times_are_numbers_and_no_dates(call, ts, write):
    with pytest.raises(TypeError, match=rf"numbers, whose unit is that of your rates: write `{write} / np.timedelta64"):
        call(ts)


def test_a_forward_equation_wants_increasing_times():
    with pytest.raises(ValueError, match=r"`dx = P\(x\) dt` is a forward equation and wants increasing times.*-P \+"):
        sx.solve(P, X0, TS[::-1])


def test_a_reverse_equation_wants_decreasing_times():
    with pytest.raises(ValueError, match=r"is a reverse equation and wants decreasing times.*ts\[::-1\]"):
        sx.solve(-P + 2 * s + g, X0, TS, key=KEY)


def test_simulate_refuses_a_reverse_equation():
    with pytest.raises(ValueError, match="runs forwards.*reverse equation: use `solve`"):
        sx.simulate(-P, X0, TS)


def test_training_data_come_on_increasing_times():
    with pytest.raises(ValueError, match="`ts` must increase"):
        fit(ts=TS[::-1])


def test_traced_times_are_checked_when_they_run():
    with pytest.raises(Exception, match="strictly monotone in the equation's direction"):
        jax.jit(lambda ts: sx.solve(P, X0, ts))(jnp.array([0.0, 0.5, 0.4])).block_until_ready()


# Training data


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            sx.Stage(window=7),
            "window of 7 states at stride 1 spans 7 times; the trajectories have 6. The longest that fits is 6",
        ),
        (sx.Stage(window=4, stride=2), "spans 7 times; the trajectories have 6. The longest that fits is 3"),
        (sx.Stage(window=1), "at least 2 states"),
        (sx.Stage(stride=0), "`stride` at least 1"),
    ],
)
def test_a_window_fits_into_a_trajectory(stage, message):
    with pytest.raises(ValueError, match=message):
        fit(curriculum=[stage])


def test_every_stage_is_checked_before_the_first_is_run():
    seen = []
    with pytest.raises(ValueError, match="window of 7"):
        fit(curriculum=[sx.Stage(updates=1, batch=2), sx.Stage(window=7)], callback=seen.append)
    assert seen == []


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_data_that_are_not_finite_name_the_trajectory_and_the_time(bad):
    with pytest.raises(ValueError, match=r"trajectory 2 at time index 3 \(t = 0.6\) is the first of 2 bad states"):
        fit(PATHS.at[2, 3:5].set(bad))


def test_a_simulation_that_leaves_the_finite_numbers_says_which_and_when():
    explosive = sx.Drift(lambda t, x, args: jnp.exp(x))
    with pytest.raises(
        ValueError,
        match=r"^the simulation is not finite: trajectory 1 at time index 2 \(t = 2\).*smaller steps; or .*linear",
    ):
        sx.simulate(explosive, jnp.array([-80.0, 2.0, -80.0]), [0.0, 1.0, 2.0, 3.0])


def test_data_fit_their_times():
    with pytest.raises(ValueError, match=r"`x` of shape \(4, 5\) has 4 trajectories of 5 times.*`ts` has shape \(6,\)"):
        fit(PATHS[:, :5])


@pytest.mark.parametrize("how", [{"updates": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
def test_a_stage_does_something(how):
    with pytest.raises(ValueError, match="`Stage` needs"):
        sx.Stage(**how)


def squares(equation, windows, key, args):
    return windows.x**2


class Own(sx.AbstractLoss):
    def __call__(self, equation, windows, key, args):
        return squares(equation, windows, key, args)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"curriculum": sx.Stage()}, r"got Stage. Write `\[sx.Stage\(...\)\]`"),
        ({"optimizer": optax.adam(1e-3)}, "from a learning-rate schedule.*which is made already"),
        ({"key": 3}, r"must be a JAX key; got 3. Write `jax.random.key\(0\)`"),
        ({"loss": sx.WindowLoss}, r"is the class `WindowLoss`.*write `WindowLoss\(\)`"),
        ({"loss": squares}, r"such as `sx.WindowLoss\(\)`; got `squares`. .*class Own\(sx.AbstractLoss\)"),
        ({"loss": Own()}, r"`Own` must return one real number.*returned float32\[2, 2\]. Write `jnp.mean\(...\)`"),
    ],
    ids=["stage", "optimiser", "seed", "class", "function", "no number"],
)
def test_what_has_another_kind_is_said(how, message):
    with pytest.raises(TypeError, match=message):
        fit(**how)


def test_a_complex_rate_is_no_matter_of_precision():
    with pytest.raises(ValueError, match="returned complex64") as error:
        sx.solve(sx.Drift(lambda t, x, args: x.astype(jnp.complex64)), X0, TS)
    assert "precision" not in str(error.value)


def test_a_curriculum_is_not_empty():
    with pytest.raises(ValueError, match="curriculum"):
        fit(curriculum=[])


@pytest.mark.parametrize("average", [1.0, -0.1])
def test_the_average_is_a_decay(average):
    with pytest.raises(ValueError, match="decay in"):
        fit(average=average)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        (-P, "trains one score.*has 0 and 0.*-P"),
        (-P + s, "nothing to train.*holds no arrays"),
        (-P + net + s, "trains one score.*has 2"),
        (3.0, "needs an equation.*float"),
    ],
)
def test_an_equation_has_one_thing_to_train(equation, message):
    with pytest.raises(TypeError, match=message):
        fit(equation=equation)


def test_without_noise_there_is_no_score_to_learn():
    with pytest.raises(ValueError, match="g = 0"):
        fit(equation=-P + 2 * sx.Score(net.net, sx.Diffusion(0.0)))


# States


@pytest.mark.parametrize(
    ("f", "got"),
    [
        (lambda t, x, args: x[:1], r"float32\[1\]"),
        (lambda t, x, args: jnp.sum(x), r"float32\[\]"),
        (lambda t, x, args: x.astype(jnp.float16), r"float16\[2\]"),
        (lambda t, x, args: {"x": x}, r"\{x: float32\[2\]\}"),
        (lambda t, x, args: (x, x), r"\(float32\[2\], float32\[2\]\)"),
    ],
    ids=["shape", "rank", "dtype", "tree", "another tree"],
)
@pytest.mark.parametrize(
    "kind", [sx.Drift, sx.ReverseDrift, lambda f: sx.Score(f, g)], ids=["Drift", "ReverseDrift", "Score"]
)
def test_what_a_drift_returns_is_like_the_state_and_both_are_shown(kind, f, got):
    drift = kind(f)
    ts = TS if drift.direction is sx.Forward else TS[::-1]
    with pytest.raises(ValueError, match=rf"must return.*one state of float32\[2\]; it returned {got}"):
        sx.solve(drift, jnp.ones((3, 2)), ts)


def test_another_precision_is_named_as_such():
    with pytest.raises(ValueError, match=r"float16\[\]. Only the precision differs.*astype\(x.dtype\).*dtype="):
        sx.solve(sx.Drift(lambda t, x, args: x.astype(jnp.float16)), X0, TS)


def test_a_score_of_the_wrong_shape_is_caught_before_training():
    class Wide(Slope):
        def __call__(self, t, x, args):
            return jnp.full(3, self.a)

    with pytest.raises(ValueError, match=r"s\(t, x\).*one state of float32\[\]; it returned float32\[3\]"):
        fit(equation=-P + 2 * sx.Score(Wide(1.0), g))


@pytest.mark.parametrize(
    "x0", [jnp.ones(3, int), np.ones(3, np.int64), jnp.ones(3, bool)], ids=["jax", "numpy", "bool"]
)
def test_states_are_floating(x0):
    with pytest.raises(TypeError, match=r"`x0` must be floating, got dtype (int|bool).*astype"):
        sx.solve(P, x0, TS)


def test_trajectories_are_floating():
    with pytest.raises(TypeError, match="`x` must be floating, got dtype int32"):
        fit(jnp.ones((4, 6), int))


def test_states_have_a_sample_axis():
    with pytest.raises(ValueError, match=r"leading sample axis.*x0\[None\]"):
        sx.solve(P, jnp.array(1.0), TS)
    with pytest.raises(TypeError, match=r"leading sample axis; got float.*\[None\]"):
        sx.solve(P, 1.0, TS)


def test_the_arrays_of_a_tree_have_the_same_samples():
    P = sx.Drift(lambda t, x, args: x)
    with pytest.raises(ValueError, match=r"different numbers of samples in front: \[2, 3\]"):
        sx.solve(P, {"u": jnp.ones(2), "v": jnp.ones(3)}, TS)


def test_there_is_at_least_one_sample():
    with pytest.raises(ValueError, match="`x0` has zero samples"):
        sx.solve(P, jnp.ones((0, 2)), TS)
    with pytest.raises(ValueError, match="`x` has zero samples"):
        fit(PATHS[:0])


def test_there_is_a_state():
    with pytest.raises(ValueError, match="`x0` holds no arrays"):
        sx.solve(P, {}, TS)


def test_a_start_that_is_not_finite_names_the_sample():
    with pytest.raises(ValueError, match="`x0` is not finite: sample 1 is the first of 2"):
        sx.solve(P, jnp.array([1.0, jnp.nan, jnp.inf]), TS)


# Noise and keys


@pytest.mark.parametrize("bad", [-0.1, np.array([0.1, -0.1]), jnp.array([0.1, -0.1])], ids=["number", "numpy", "jax"])
def test_g_is_not_negative(bad):
    with pytest.raises(ValueError, match="needs g >= 0; got"):
        sx.Diffusion(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.array([np.nan])])
def test_g_is_finite(bad):
    with pytest.raises(ValueError, match="needs a finite g"):
        sx.Diffusion(bad)


@pytest.mark.parametrize("noise", [jnp.ones(4), lambda t: jnp.ones(4)], ids=["array", "function"])
def test_g_fits_the_state(noise):
    with pytest.raises(ValueError, match=r"g of shape \(4,\) does not fit a state of shape \(\)"):
        sx.solve(P + sx.Diffusion(noise), X0, TS, key=KEY)


def test_an_sde_needs_a_key():
    with pytest.raises(ValueError, match=r"`dx = P\(x\) dt \+ g dW` has noise: pass `key"):
        sx.solve(P + g, X0, TS)
    with pytest.raises(ValueError, match="has noise: pass `key"):
        sx.simulate(P + g, X0, TS)


def test_an_ode_takes_no_key():
    with pytest.raises(ValueError, match=r"`dx = P\(x\) dt` has no noise.*drop it, or write.*\+ g"):
        sx.solve(P, X0, TS, key=KEY)


def test_an_ode_takes_no_brownian_path():
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, (3,), KEY)
    with pytest.raises(ValueError, match="no noise.*`brownian_path`"):
        sx.solve(P, X0, TS, brownian_path=path)


# Solvers


@pytest.mark.parametrize("solver", [dfx.SRA1(), dfx.ShARK(), dfx.SEA(), dfx.SlowRK()])
def test_a_solver_that_needs_levy_areas_gets_a_path_that_has_them(solver):
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, (3,), KEY)
    with pytest.raises(
        TypeError, match=r"needs .*LevyArea.*has only BrownianIncrement.*levy_area=.*leave `brownian_path` out"
    ):
        sx.solve(P + g, X0, TS, solver=solver, brownian_path=path)


@pytest.mark.parametrize("solver", [dfx.Tsit5(), dfx.Dopri5(), dfx.Kvaerno5(), dfx.KenCarp3()])
def test_a_solver_for_odes_is_refused_on_an_sde(solver):
    with pytest.raises(TypeError, match=r"solves ODEs, and `dx = .* dW` is an SDE.*ShARK"):
        sx.solve(P + g, X0, TS, solver=solver, key=KEY)


@pytest.mark.parametrize("solver", [dfx.ShARK(), dfx.SRA1(), dfx.SEA(), dfx.EulerHeun(), dfx.ItoMilstein()])
def test_a_solver_for_sdes_is_refused_on_an_ode(solver):
    with pytest.raises(TypeError, match=r"solves SDEs, and `dx = P\(x\) dt` has no noise.*Tsit5.*\+ g"):
        sx.solve(P, X0, TS, solver=solver)


def test_a_solver_is_an_object_and_no_string_or_class():
    for solver in ["euler", dfx.Euler]:
        with pytest.raises(TypeError, match="must be a diffrax solver such as"):
            sx.solve(P, X0, TS, solver=solver)


def test_an_equation_is_solved_and_no_function():
    with pytest.raises(TypeError, match="needs an equation such as.*function"):
        sx.solve(lambda t, x, args: x, X0, TS)


def test_adaptive_steps_need_an_error_estimate():
    euler, adapting = dfx.Euler(), dfx.PIDController(rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="`Euler` has no error estimate.*Tsit5"):
        sx.solve(P, X0, TS, solver=euler, stepsize_controller=adapting)


def test_an_implicit_solver_needs_tolerances():
    with pytest.raises(ValueError, match="`Kvaerno3` is implicit and needs tolerances.*PIDController"):
        sx.solve(P, X0, TS, solver=dfx.Kvaerno3())


def test_fixed_steps_are_given_once():
    with pytest.raises(ValueError, match="fixed steps are the intervals of `ts`"):
        sx.solve(P, X0, TS, solver=dfx.Heun(), stepsize_controller=dfx.ConstantStepSize())


def test_saved_times_are_given_once():
    with pytest.raises(ValueError, match="times to save at are `ts`"):
        sx.solve(P, X0, TS, saveat=dfx.SaveAt(ts=jnp.array([0.5])))


@pytest.mark.parametrize("saveat", [dfx.SaveAt(dense=True), dfx.SaveAt(), dfx.SaveAt(t1=True, dense=True)])
@pytest.mark.parametrize(
    "call",
    [
        lambda saveat: sx.solve(P, X0, TS, saveat=saveat),
        lambda saveat: sx.posterior(-P + 2 * s + g, X0, TS[::-1], 2, key=KEY, saveat=saveat),
    ],
    ids=["solve", "posterior"],
)
def test_what_is_saved_are_states(call, saveat):
    with pytest.raises(ValueError, match=r"`saveat` must save states.*diffrax.diffeqsolve\(sx.terms\("):
        call(saveat)


# Failures of a solve: the reason and the time reached, never NaN


def blow_up(t, x, args):
    return x**2  # from 1 it is infinite at t = 1


@pytest.mark.parametrize(
    ("solver", "reason"),
    [(dfx.Tsit5(), "minimum step size"), (dfx.Kvaerno3(), "minimum step size|diverged")],
    ids=["explicit", "implicit"],
)
def test_an_adaptive_solve_that_fails_gives_reason_and_time(solver, reason):
    controller = dfx.PIDController(rtol=1e-4, atol=1e-6, dtmin=1e-4, force_dtmin=False)
    with pytest.raises(RuntimeError, match=rf"failed on `dx = P\(x\) dt` at t = (0\.99|1\.0)\d*.*({reason})"):
        sx.solve(sx.Drift(blow_up), X0, [0.0, 2.0], solver=solver, stepsize_controller=controller)


def test_a_failure_in_reverse_is_told_in_physical_time():
    controller = dfx.PIDController(rtol=1e-4, atol=1e-6, dtmin=1e-4, force_dtmin=False)
    with pytest.raises(RuntimeError, match=r"at t = 4\.0"):
        sx.solve(sx.ReverseDrift(blow_up), X0, [5.0, 3.0], solver=dfx.Tsit5(), stepsize_controller=controller)


def test_at_fixed_steps_a_sample_that_blows_up_takes_no_other_with_it():
    stiff = sx.Drift(lambda t, x, args: -100 * x**3)
    with pytest.warns(sx.NonFiniteWarning, match=r"1 of 2 solutions .*sample 1"):
        x = sx.solve(stiff, jnp.array([0.1, 10.0]), TS)
    assert np.isfinite(x[0]).all()
    assert not np.isfinite(x[1]).all()


# What newcomers write first


X2 = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda t, x, args: np.sin(x), "hands an array of JAX's to NumPy.*`jnp.sin` for `np.sin`"),
        (lambda t, x, args: jnp.stack([x[:, 0], x[:, 1]]), r"of shape \(2,\) .*without the leading sample axis"),
        (lambda t, x, args: args["rate"] * x, "If it reads `args`, hand them over"),
        (lambda t, x, args: -x if x[0] > 0 else x, r"asks by `if`.*choose by `jnp.where\(x > 0, a, b\)`"),
    ],
    ids=["NumPy", "a batch", "no args", "if"],
)
def test_physics_that_fails_says_why(f, message):
    with pytest.raises((TypeError, IndexError), match=message):
        sx.solve(sx.Drift(f), X2, TS)


def test_of_physics_that_fails_at_a_number_the_data_are_named_as_they_were_given():
    fails = sx.Drift(lambda t, x, args: jnp.stack([x[0], x[1]]))
    with pytest.raises(ValueError, match=r"one sample of `x0`.*write `x0\[None\]`"):
        sx.solve(fails, X0, TS)
    with pytest.raises(ValueError, match=r"one sample of the trajectories.*\(trajectories, times, components\)"):
        fit(equation=-fails + 2 * net)


def test_a_step_is_no_rate():
    with pytest.raises(TypeError, match=r"Of a solver's step, \(x, dt\), write `Drift.from_step\(step\)`"):
        sx.Drift(lambda x, dt: x)


def test_trajectories_are_no_end_states():
    with pytest.raises(TypeError, match="write `paths.end`"):
        sx.posterior(-P + 2 * s + g, sx.Trajectories(PATHS, TS), TS[::-1], 2, key=KEY)


def test_states_of_another_shape_than_the_moments():
    paths = sx.Trajectories(jax.random.normal(KEY, (20, 6, 2)), TS)
    score = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=KEY), paths), g)
    with pytest.raises(ValueError, match=r"states have shape \(2,\); got one state of shape \(4,\)"):
        sx.solve(-P + score, jnp.ones((3, 4)), TS[::-1])


def test_lists_are_made_arrays():
    with pytest.raises(TypeError, match=r"Write `jnp.asarray\(x0\)`, and for one state"):
        sx.solve(P, [[1.0, 2.0]], TS)


class Swapped(Slope):
    def __call__(self, x, t, args):
        return -self.a * x


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: sx.Drift(lambda x, t, args: -x), "lambda t, x, args"),
        (lambda: sx.ReverseDrift(lambda u, t, args: -u), "lambda t, x, args"),
        (lambda: sx.Score(Swapped(1.0), g), "lambda t, x, args"),
        (lambda: sx.Drift.from_step(lambda dt, x: x), "lambda x, dt"),
        (lambda: sx.Drift.from_step(lambda x, dt: x, lambda dt, x: x), "lambda x, dt"),
        (lambda: sx.Drift.from_step(lambda x, t, dt, args: x), "lambda t, x, dt, args"),
    ],
    ids=["rate", "reverse rate", "network", "step", "reverse step", "step of time"],
)
def test_arguments_that_bear_each_others_names_are_swapped(make, mend):
    with pytest.raises(TypeError, match=rf"in this order; got a function of .*Write `{mend}: ...`"):
        make()


UNSAID = sx.Drift.from_step(lambda x, dt: x + dt * jax.pure_callback(np.negative, jax.ShapeDtypeStruct((), "f"), x))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sx.simulate(UNSAID, X0, TS),
        lambda: fit(equation=-sx.Drift.from_step(UNSAID.step, sx.mirror) + 2 * net),
        lambda: sx.posterior(-sx.Drift.from_step(UNSAID.step, sx.mirror) + 2 * s + g, X0, TS[::-1], 2, key=KEY),
    ],
    ids=["simulate", "fit", "posterior"],
)
def test_a_callback_is_told_what_many_samples_are(call):
    with pytest.raises(TypeError, match=r'vmap_method="broadcast_all".*vmap_method="sequential"'):
        call()


@pytest.mark.parametrize("keys", [jax.random.split(KEY, 3), jax.random.key_data(jax.random.split(KEY, 3))])
@pytest.mark.parametrize(
    "call",
    [
        lambda keys: sx.solve(P + g, X0, TS, key=keys),
        lambda keys: fit(key=keys),
        lambda keys: sx.posterior(-P + 2 * s + g, X0, TS[::-1], 2, key=keys),
        lambda keys: sx.ensemble_smoother(PATHS, PATHS, PATHS[:1], 2, key=keys),
    ],
    ids=["solve", "fit", "posterior", "ensemble"],
)
def test_a_key_is_one_key(call, keys):
    with pytest.raises(TypeError, match=r"must be one JAX key; got 3.*`keys\[0\]`.*jax.vmap"):
        call(keys)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sx.PerSample([1.0, 2.0, 3.0]), r"got a list of 3 numbers. Write `PerSample\(jnp.asarray"),
        (
            lambda: sx.ensemble_smoother(PATHS, PATHS, PATHS[:1], 2, key=KEY, noise=jnp.ones(6)),
            r"`noise` must be one number; got an array of shape \(6,\).*xT / σ, observed / σ",
        ),
    ],
    ids=["rows", "noises"],
)
def test_numbers_and_arrays_are_told_apart(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_langevin_that_explodes_is_given_a_mend_that_it_has():
    with pytest.warns(sx.NonFiniteWarning, match="Take a smaller `step`, or a network with bounded outputs") as said:
        sx.langevin(sx.Score(lambda t, x, args: x**3, g), 10 * X0, 0.0, step=0.1, steps=50, key=KEY)
    assert "saveat" not in str(said[0].message)


@pytest.mark.parametrize(
    ("equation", "mend"),
    [(P, "a stiff solver such as `diffrax.Kvaerno5"), (P + g, "take fixed steps, the intervals of `ts`")],
    ids=["ODE", "SDE"],
)
def test_an_adaptive_solve_out_of_steps_is_given_a_mend_of_its_kind(equation, mend):
    from smdpx.solving._solve import _raise_if_failed

    with pytest.raises(RuntimeError, match=f"loosen the tolerances, or .*{mend}"):
        _raise_if_failed(equation, dfx.ShARK(), dfx.RESULTS.max_steps_reached, 0.5)
