"""Training: it finds the exact score, repeats bit for bit, reports, and compiles once."""

import io
import logging
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import smdpx as sx
from smdpx.equation._score import scores
from smdpx.learning import _progress
from tests._problems import Slope, as_users_run as as_users_run
from tests._trainings import KEY, PATHS, SHORT, TS, P, fit, g, mlp, process, weights

# What is learned


# That each loss has its minimum at the exact score is tested with the losses; here, that a training gets there.


def test_a_score_of_one_parameter_becomes_the_exact_score():
    paths = process.paths(4000, TS, jax.random.key(1))
    curriculum = [sx.Stage(updates=1000, learning_rate=0.05)]
    s = sx.fit(-P + 2 * process.s(0.2), sx.Trajectories(paths, TS), key=KEY, curriculum=curriculum, average=0.99)
    assert float(s.net.a) == pytest.approx(-1 / process.var, rel=0.05)


def test_longer_windows_and_strides_learn_the_same_score():
    paths = process.paths(4000, TS, jax.random.key(1))
    curriculum = [sx.Stage(2, 400, 0.05), sx.Stage(4, 300, 0.02), sx.Stage(3, 300, 0.02, stride=2)]
    s = sx.fit(-P + 2 * process.s(0.2), sx.Trajectories(paths, TS), key=KEY, curriculum=curriculum, average=0.99)
    assert float(s.net.a) == pytest.approx(-1 / process.var, rel=0.06)


def test_without_a_score_the_reverse_simulator_is_trained():
    decay = sx.Drift(lambda t, x, args: -x)
    paths = sx.simulate(decay, jnp.linspace(0.5, 2.0, 32), TS)
    R = sx.ReverseDrift(Slope(0.0))
    R = sx.fit(R, paths, key=KEY, curriculum=[sx.Stage(3, 400, 0.05, batch=32)], average=0.9)
    # Its own rate, 1, but for what a step of second order leaves.
    assert float(R.f.a) == pytest.approx(1, rel=0.01)


def test_the_loss_goes_down():
    losses = []
    fit(curriculum=[sx.Stage(updates=200, batch=256, learning_rate=1e-2)], callback=lambda p: losses.append(p.loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:2])


def test_only_the_score_is_trained():
    rate = Slope(-0.5)
    s = sx.fit(-sx.Drift(rate) + 2 * mlp(), PATHS, key=KEY, curriculum=SHORT)
    assert isinstance(s, sx.Score)
    assert s.g is g or float(s.g.g) == float(g.g)
    assert float(rate.a) == -0.5


def test_states_may_be_trees():
    paths = sx.Trajectories({"u": PATHS.x, "v": jnp.stack([PATHS.x, PATHS.x], -1)}, TS)
    P = sx.Drift(lambda t, x, args: jax.tree.map(lambda y: -0.5 * y, x))
    net = Slope(-1.0)
    s = sx.Score(lambda t, x, args: jax.tree.map(lambda y: net.a * y, x), g)
    with pytest.raises(TypeError, match="nothing to train"):
        sx.fit(-P + 2 * s, paths, key=KEY, curriculum=SHORT)  # a closure hides its weights
    s = sx.fit(-P + 2 * sx.Score(TreeSlope(-1.0), g), paths, key=KEY, curriculum=SHORT, average=0.5)
    assert float(s.net.a) != -1.0


class TreeSlope(Slope):
    def __call__(self, t, x, args):
        return jax.tree.map(lambda y: self.a * y, x)


# Repeatable


def test_the_same_key_gives_the_same_weights_bit_for_bit():
    np.testing.assert_array_equal(weights(fit()), weights(fit()))


def test_another_key_gives_other_weights():
    assert (weights(fit()) != weights(fit(key=jax.random.key(1)))).any()


def test_reports_do_not_change_the_weights():
    np.testing.assert_array_equal(weights(fit()), weights(fit(callback=lambda p: None)))


def test_many_keys_train_side_by_side():
    keys = jax.random.split(KEY, 2)
    many = eqx.filter_vmap(lambda key: eqx.filter(fit(key=key), eqx.is_array))(keys)
    for i, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        np.testing.assert_allclose(weights(one), weights(fit(key=key)), rtol=1e-4, atol=1e-6)


# The optimiser


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd,
        lambda lr: optax.adamw(lr, weight_decay=0.1),
        lambda lr: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr)),
        # Those that look at the loss, of the same windows and of other weights too.
        lambda lr: optax.chain(optax.adam(lr), optax.contrib.reduce_on_plateau()),
        lambda lr: optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(5)),
    ],
    ids=["sgd", "adamw", "clip", "plateau", "line search"],
)
def test_any_optax_optimiser_trains(optimizer):
    trained = weights(fit(optimizer=optimizer))
    assert np.isfinite(trained).all()
    assert (trained != weights(mlp())).any()


class Descent(sx.AbstractLoss):
    """A loss whose gradient is 1, whatever the windows."""

    def __call__(self, equation, windows, key, args):
        ((_, s),) = scores(equation)
        return s.net.a + 0 * windows.x.sum()  # pyright: ignore[reportFunctionMemberAccess]


def test_a_loss_of_ones_own_and_a_schedule_of_ones_own():
    stages = [sx.Stage(updates=5, learning_rate=optax.constant_schedule(0.1))]
    seen = []
    fit(
        s=sx.Score(Slope(1.0), g),
        loss=Descent(),
        curriculum=stages,
        optimizer=optax.sgd,
        callback=lambda p: seen.append(p.loss),
    )
    np.testing.assert_allclose(seen, [1.0, 0.9, 0.8, 0.7, 0.6], rtol=1e-5)


def test_the_average_forgets_the_start_and_lags_behind():
    stages = [sx.Stage(updates=20, learning_rate=optax.constant_schedule(0.1))]

    def end(average):
        s = sx.Score(Slope(1.0), g)
        return float(fit(s=s, loss=Descent(), curriculum=stages, optimizer=optax.sgd, average=average).net.a)

    # Without an average, the last weights whose loss was seen; with one, a weight older than they are.
    assert end(0.0) == pytest.approx(1 - 0.1 * 19, abs=1e-5)
    average = 1.0
    for k in range(20):
        decay = min(0.9, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * (1 - 0.1 * k)
    assert end(0.9) == pytest.approx(average, abs=1e-4)


def test_the_learning_rate_warms_up_and_decays():
    schedule = sx.Stage(updates=1000, learning_rate=1e-3).schedule()
    rates = jnp.stack([jnp.asarray(schedule(k)) for k in [0, 25, 50, 525, 1000]])
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 0.5 * (1e-3 + 1e-5), 1e-5], rtol=1e-3, atol=1e-9)


def test_one_update_is_enough():
    assert isinstance(fit(curriculum=[sx.Stage(updates=1, batch=1)]), sx.Score)


# The factor two


def test_the_wrong_coefficient_for_the_loss_is_a_warning_that_says_the_right_one():
    def train(equation, loss):  # as far as tracing: it is said before anything is compiled
        jax.eval_shape(lambda key: sx.fit(equation, PATHS, key=key, curriculum=SHORT, loss=loss).net.biases, KEY)

    with pytest.warns(UserWarning, match=r"`WindowLoss`.*coefficient 2.*off by 2/1.*Train `-P \+ 2\*s`"):
        train(-P + mlp(), sx.WindowLoss())
    with pytest.warns(UserWarning, match=r"`WindowLoss`.*coefficient 2.*off by 2/1"):
        train(-P + jnp.asarray(1.0) * mlp(), sx.WindowLoss())
    with pytest.warns(UserWarning, match=r"`TwoWayLoss`.*coefficient 1.*off by 1/2.*Train `-P \+ 1\*s`"):
        train(-P + 2 * mlp(), sx.TwoWayLoss())


# Reports


def test_the_callback_gets_a_report_of_progress():
    reports = []
    fit(callback=reports.append, curriculum=[sx.Stage(2, 60, batch=8), sx.Stage(3, 40, batch=8)])
    assert all(isinstance(report, sx.Progress) for report in reports)
    assert [report.update for report in reports] == list(range(2, 101, 2))
    assert [report.window for report in reports] == [2] * 30 + [3] * 20
    assert all(report.total == 100 and report.updates_per_second > 0 for report in reports)
    assert all(np.isfinite(report.loss) and isinstance(report.trained, sx.Score) for report in reports)


def test_the_last_report_holds_what_is_returned():
    reports = []
    trained = fit(callback=reports.append)
    np.testing.assert_array_equal(weights(reports[-1].trained), weights(trained))


def test_without_a_terminal_lines_say_how_far_it_is(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    fit(callback=lambda p: {"metric": 1.25}, curriculum=[sx.Stage(updates=30, batch=17)])
    lines = capfd.readouterr().err.splitlines()
    assert any("compiling" in line for line in lines)
    last = r"fit: 30 of 30 updates, window 2, loss [\d.]+, .* updates/s, metric 1.25, \d+ s, 0 s left"
    assert re.fullmatch(last, lines[-1])


def test_the_time_that_is_left_is_told_after_updates_without_compilation(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    fit(callback=lambda p: None, curriculum=[sx.Stage(updates=20, batch=18), sx.Stage(3, 20, batch=18)])
    lines = capfd.readouterr().err.splitlines()
    told = {int(re.findall(r"fit: (\d+) of", line)[0]): "updates/s" in line and "s left" in line for line in lines}
    assert [told[i] for i in (0, 1, 2, 20, 21, 22, 40)] == [False, False, True, False, False, True, True]


RETURNED = [
    ({"a": np.ones(2), "b": "good"}, r"a \[1. 1.\], b good"),
    ({"a": np.array(1.25), "b": None}, "a 1.25, b None"),
    (0.123456, "0.1235"),
]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("returned", "shown"), RETURNED, ids=["arrays and text", "numbers", "no dictionary"])
def test_whatever_a_callback_returns_is_shown_and_ends_no_training(capfd, monkeypatch, returned, shown):
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    fit(callback=lambda p: returned)
    assert re.search(f", {shown}, \\d+ s", capfd.readouterr().err.splitlines()[-1])


def test_a_short_training_says_nothing_and_the_logger_is_silenced_as_any(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 1000.0)
    fit()
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    logging.getLogger("smdpx").setLevel("WARNING")
    try:
        fit()
    finally:
        logging.getLogger("smdpx").setLevel("INFO")
    assert capfd.readouterr() == ("", "")


def test_under_a_transformation_something_moves_too(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    keys = jax.random.split(KEY, 2)
    jax.block_until_ready(jax.jit(jax.vmap(lambda key: eqx.filter(fit(key=key), eqx.is_array)))(keys))
    jax.effects_barrier()
    lines = capfd.readouterr().err.splitlines()
    assert any("0 of 30 updates, window 2, compiling" in line for line in lines)
    assert sum("fit: 12 of 30 updates, window 2" in line for line in lines) >= 1


def test_on_a_terminal_it_shows_loss_and_metrics(monkeypatch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(callback=lambda p: {"metric": 1.25})
    shown = sys.stderr.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for word in ["30.0/30.0", "loss ", "window 2", "metric 1.25", "updates/s"]:
        assert word in shown


# Compilation


def compilations(caplog, f):
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        f()
    return [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]


def test_a_second_training_of_the_same_shapes_compiles_nothing(caplog):
    stages = [sx.Stage(updates=7, batch=16, learning_rate=1e-2)]
    assert compilations(caplog, lambda: fit(average=0.7, curriculum=stages))
    faster = [sx.Stage(updates=7, batch=16, learning_rate=3e-2)]
    assert not compilations(caplog, lambda: fit(average=0.7, key=jax.random.key(5), curriculum=faster))


def test_the_wait_for_the_first_update_is_its_own_compilation(caplog):
    s = mlp()
    jax.clear_caches()
    lines = compilations(caplog, lambda: sx.fit(-P + 2 * s, PATHS, key=KEY, curriculum=SHORT))
    programs = [name for line in lines for name in re.findall(r"jit\((.*)\)", line)]
    assert programs.count("advance") == 1
    assert len(programs) <= 9, programs  # each small one of the host's costs up to a twentieth of the update's


def test_other_noise_and_other_args_compile_nothing(caplog):
    class Decay(eqx.Module):
        def __call__(self, t, x, args):
            return -args["rate"] * x

    def train(noise, rate):
        paths = sx.Trajectories(PATHS.x, TS, {"rate": rate})
        s = sx.Score(sx.nn.MLP(widths=(4,), key=jax.random.key(2)), sx.Diffusion(noise))
        trained = sx.fit(-sx.Drift(Decay()) + 2 * s, paths, key=KEY, curriculum=[sx.Stage(updates=6, batch=16)])
        assert trained.g.g == noise  # the user's own number comes back

    assert compilations(caplog, lambda: train(0.5, 0.1))
    assert not compilations(caplog, lambda: train(0.6, 0.2))


def test_learning_rates_may_be_traced():
    def train(rate):
        trained = fit(curriculum=[sx.Stage(updates=20, batch=16, learning_rate=rate)])
        return eqx.filter(trained, eqx.is_array)

    many = jax.vmap(train)(jnp.array([1e-3, 1e-2]))
    for i, rate in enumerate([1e-3, 1e-2]):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        np.testing.assert_allclose(weights(one), weights(train(rate)), rtol=1e-4, atol=1e-6)
