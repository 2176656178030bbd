"""Bad input gets a clear error: what was expected, what came, and what to write instead."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import smdpx as sx
from tests._problems import Slope, as_users_run as as_users_run
from tests._small import KEY, PATHS, TS, X0, P, fit, g, net, s

pytestmark = pytest.mark.usefixtures("as_users_run")


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


@pytest.mark.parametrize("ts", ["abc", ["now", "then"], [[0.0, 1.0], [0.0]]], ids=["string", "strings", "rows"])
def test_times_are_a_sequence_of_numbers(ts):
    with pytest.raises(TypeError, match=r"`ts` must be a sequence of numbers; got .*`jnp.linspace"):
        sx.solve(P, X0, ts)


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


def test_a_simulation_names_a_noise_that_is_not_finite():
    early = sx.Diffusion(lambda t: jnp.sqrt(0.5 - t))
    with pytest.raises(ValueError, match=r"trajectory 0 at time index 3 .*`g` is not finite at t = 0.6"):
        sx.simulate(P + early, X0, TS, key=KEY)


def test_a_simulation_names_a_condition_that_is_nan():
    drift, rates = sx.Drift(lambda t, x, args: -args * x), jnp.array([1.0, jnp.nan, 2.0])
    with pytest.raises(ValueError, match=r"trajectory 1 .*`args` is NaN in row 1 of a `PerSample`, one of 1 such rows"):
        sx.simulate(drift, X0, TS, args=sx.PerSample(rates))
    with pytest.raises(ValueError, match="`args` holds a NaN"):
        sx.simulate(drift, X0, TS, args=float("nan"))


def test_a_condition_that_says_by_nan_what_is_missing_is_the_users_business():
    drift, rates = sx.Drift(lambda t, x, args: -jnp.nan_to_num(args) * x), jnp.array([1.0, jnp.nan, 2.0])
    assert jnp.isfinite(sx.simulate(drift, X0, TS, args=sx.PerSample(rates)).end).all()


def test_data_fit_their_times():
    with pytest.raises(ValueError, match=r"`x` of shape \(4, 5\) has 4 trajectories of 5 times.*`ts` has shape \(6,\)"):
        fit(PATHS[:, :5])


@pytest.mark.parametrize("how", [{"updates": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
def test_a_stage_does_something(how):
    with pytest.raises(ValueError, match="`Stage` needs"):
        sx.Stage(**how)


@pytest.mark.parametrize(
    "make",
    [
        lambda count: sx.Stage(window=count),
        lambda count: sx.Stage(updates=count),
        lambda count: sx.Stage(stride=count),
        lambda count: sx.Stage(batch=count),
        lambda count: sx.Stage(patience=count),
        lambda count: sx.FreshPaths(P, X0, TS, windows=count),
        lambda count: sx.StoredPaths("nowhere", count),
        lambda count: sx.stored(lambda key, n: None, count, key=KEY, at="nowhere"),
        lambda count: sx.stored(lambda key, n: None, 8, key=KEY, at="nowhere", chunk=count),
    ],
    ids=["window", "updates", "stride", "batch", "patience", "windows", "count", "trajectories", "chunk"],
)
@pytest.mark.parametrize("count", [2.0, 10.5, "5", True])
def test_a_count_is_an_integer(make, count):
    with pytest.raises(TypeError, match=r"`\w+` is a count and must be an integer; got"):
        make(count)


def test_numpys_integers_are_counts():
    assert type(sx.Stage(updates=np.int64(5)).updates) is int


@pytest.mark.parametrize("rate", ["1e-3", None, np.array([1e-3, 1e-4]), 1j])
def test_a_learning_rate_is_a_number(rate):
    with pytest.raises(TypeError, match="`learning_rate` is a number, such as 1e-3, or an optax schedule; got"):
        sx.Stage(learning_rate=rate)


def squares(equation, windows, key, args):
    return windows.x**2


class Own(sx.AbstractLoss):
    def __call__(self, equation, windows, key, args):
        return squares(equation, windows, key, args)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"curriculum": sx.Stage()}, r"got Stage. Write `\[sx.Stage\(...\)\]`"),
        ({"curriculum": [5]}, r"`curriculum` is a list of stages; it holds 5"),
        ({"callback": 3}, "`callback` is a function of a `Progress`.*got 3"),
        ({"optimizer": lambda: optax.adam(1e-3)}, r"from a learning-rate schedule.*got a function of \(\)"),
        ({"optimizer": optax.adam(1e-3)}, "from a learning-rate schedule.*which is made already"),
        ({"key": 3}, r"must be a JAX key; got 3. Write `jax.random.key\(0\)`"),
        ({"loss": sx.WindowLoss}, r"is the class `WindowLoss`.*write `WindowLoss\(\)`"),
        ({"loss": squares}, r"such as `sx.WindowLoss\(\)`; got `squares`. .*class Own\(sx.AbstractLoss\)"),
        ({"loss": Own()}, r"`Own` must return one real number.*returned float32\[2, 2\]. Write `jnp.mean\(...\)`"),
    ],
    ids=["stage", "number", "callback", "optimiser of nothing", "optimiser", "seed", "class", "function", "no number"],
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


def test_what_a_score_is_counted_from_is_like_the_state_too():
    D = sx.Drift(lambda t, x, args: -x.sum(), name="D")
    with pytest.raises(ValueError, match=r"`D\(x\)` must return.*float32\[2\]; it returned float32\[\]"):
        sx.solve(-P + 2 * sx.Score(lambda t, x, args: -x, g, around=D), jnp.ones((3, 2)), TS[::-1])


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
