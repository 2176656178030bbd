"""Validation: what is held out, which weights are kept, when a stage ends; nothing else of a training changes."""

import logging
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import smdpx as sx
from smdpx.equation._score import scores
from smdpx.learning import _progress
from smdpx.learning._validation import hold_out
from tests._problems import Slope, Stationary, as_users_run as as_users_run

KEY = jax.random.key(0)
process = Stationary(var=0.25, g=0.5)
P, g = process.P, process.g
TS = np.linspace(0, 1, 21)
PATHS = sx.Trajectories(process.paths(40, TS, jax.random.key(1)), TS)
HELD = sx.Trajectories(process.paths(40, TS, jax.random.key(2)), TS)
RATE = optax.constant_schedule(0.01)  # one function, and so one program for all tests


class Overfits(sx.AbstractLoss):
    """A loss that is lowest at a = m for data of mean m: (a - m)².

    Trained from a = 2 on data of mean 0, a model is at its best for held-out data of mean 1 when it passes a = 1.
    """

    def __call__(self, equation, windows, key, args):
        ((_, s),) = scores(equation)
        return jnp.square(s.net.a - jnp.mean(windows.x))  # pyright: ignore[reportFunctionMemberAccess]


def constant(m):
    return sx.Trajectories(jnp.full((40, 21), float(m)), TS)


def descent(updates=100, patience=None, window=2):
    return [sx.Stage(window, updates, RATE, batch=4, patience=patience)]


def fit(paths=None, validation: Any = None, s=None, curriculum=None, key=KEY, **how):
    """Gradient descent on `Overfits`, a ← .98 a, unless told otherwise; its average sees all updates but the last."""
    how = {"loss": Overfits(), "optimizer": optax.sgd, "average": 0.0} | how
    s = sx.Score(Slope(2.0), g) if s is None else s
    paths = constant(0) if paths is None else paths
    return sx.fit(-P + 2 * s, paths, key=key, validation=validation, curriculum=curriculum or descent(), **how)


def reports(**how):
    """What a training reports, and what it returns."""
    seen = []
    return seen, fit(callback=seen.append, **how)


def slope(trained):
    return float(trained.net.a)


# What is kept


def test_the_best_of_the_reports_is_returned_not_the_last():
    assert slope(fit()) < 0.3
    assert slope(fit(validation=constant(1))) == pytest.approx(1, abs=0.03)  # between two reports lie 4 %


def test_each_report_holds_the_loss_of_its_own_weights_and_the_best_model_so_far():
    seen, best = reports(validation=constant(1))
    own = [(2 * 0.98 ** (p.update - 1) - 1) ** 2 for p in seen]
    np.testing.assert_allclose([p.validation for p in seen], own, atol=1e-5)
    at = int(np.argmin(own))
    assert slope(seen[0].trained) > slope(seen[at - 1].trained) > slope(seen[at].trained)
    assert {slope(p.trained) for p in seen[at:]} == {slope(best)}


def test_the_next_stage_goes_on_from_the_best_of_the_last():
    seen, _ = reports(validation=constant(1), curriculum=TWO)
    best, after_four = (slope(p.trained) for p in seen[24:26])
    assert best == pytest.approx(1, abs=0.05)
    assert after_four == pytest.approx(best * 0.98**3, rel=1e-5)


def test_the_best_is_that_of_the_last_stage_since_other_windows_have_other_losses():
    seen, trained = reports(validation=constant(1), curriculum=TWO)
    first, second = ([p for p in seen if p.window == window] for window in (2, 3))
    assert min(p.validation for p in first) < min(p.validation for p in second)
    assert slope(trained) == slope(second[0].trained)


TWO = [*descent(), *descent(window=3)]


def test_a_training_that_does_not_overfit_keeps_its_last_weights():
    assert slope(fit(validation=constant(-1))) == slope(fit())


class Waves(eqx.Module):
    """The score a·x, which is all that there is to learn, and 48 waves in x and t that fit what there is not."""

    a: jax.Array
    heights: jax.Array

    def __call__(self, t, x, args):
        k = jnp.arange(1.0, 49.0)
        return self.a * x + 0.1 * jnp.sum(self.heights * jnp.sin(k * x + 7 * k * t))


def test_a_network_that_learns_its_few_trajectories_by_heart_is_kept_as_it_was_before():
    s = sx.Score(Waves(jnp.array(-1.0), jnp.zeros(48)), g)
    how = {"loss": sx.WindowLoss(), "optimizer": optax.adam, "average": 0.9}
    x = HELD.x[:, ::4].ravel()
    t = jnp.tile(jnp.asarray(TS[::4], x.dtype), len(HELD))

    def error(validation):
        trained = fit(PATHS[:16], validation, s, [sx.Stage(updates=800, batch=64, learning_rate=0.1)], **how)
        return sx.metrics.score_error(trained, lambda t, x, args: -x / process.var, t, x).relative_l2

    last, best = error(None), error(HELD)
    assert best < 0.5 * last


# What is held out


def split(share, paths=PATHS) -> Any:
    return hold_out(share, paths, -P + 2 * sx.Score(Slope(2.0), g), descent())


@pytest.mark.parametrize(("share", "count"), [(0.1, 4), (0.5, 20), (0.01, 1), (0.97, 39)])
def test_a_share_is_a_number_of_whole_trajectories_at_least_one(share, count):
    seen, held = split(share)
    assert (len(seen), len(held)) == (40 - count, count)
    rows = np.concatenate([seen.x, held.x])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(PATHS.x, axis=0))
    assert len(np.unique(rows[:, 0])) == 40


def test_sorted_trajectories_are_no_trap():
    ordered = sx.Trajectories(jnp.repeat(jnp.arange(2.0), 200 * 21).reshape(400, 21), TS)
    seen, held = split(0.1, ordered)
    assert float(seen.x.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(held.x.mean()) == pytest.approx(0.5, abs=0.25)


def test_conditions_and_times_stay_with_their_trajectories():
    numbers = jnp.arange(10.0)
    x = [jnp.full(5 + i % 3, float(i)) for i in range(10)]
    ts = [0.1 * (1 + i) * np.arange(5 + i % 3) for i in range(10)]
    for part in split(0.3, sx.Trajectories(x, ts, {"number": sx.PerSample(numbers)})):
        np.testing.assert_array_equal(part.x[:, 0], part.args["number"].value)
        np.testing.assert_allclose(part.ts[:, 1], 0.1 * (1 + part.args["number"].value), rtol=1e-6)
        np.testing.assert_array_equal(part.lengths, 5 + np.asarray(part.args["number"].value) % 3)


def test_a_share_is_the_same_as_the_same_trajectories_given():
    paths = sx.Trajectories(jnp.concatenate([PATHS.x, HELD.x]), TS)
    seen, held = split(0.5, paths)
    given, share = reports(paths=seen, validation=held)[0], reports(paths=paths, validation=0.5)[0]
    np.testing.assert_allclose([p.loss for p in given], [p.loss for p in share], rtol=1e-5)
    assert [p.validation for p in given] == [p.validation for p in share]


def test_fresh_paths_are_validated_on_given_trajectories():
    seen, _ = reports(paths=FRESH, validation=constant(1), curriculum=descent(updates=3))
    own = [(slope(p.trained) - 1) ** 2 for p in seen]
    np.testing.assert_allclose([p.validation for p in seen], own, rtol=1e-5)


FRESH = sx.FreshPaths(P + g, PATHS.start, TS)


# Nothing else changes


def test_validation_does_not_touch_the_training():
    without, with_it = reports(paths=PATHS)[0], reports(paths=PATHS, validation=constant(1))[0]
    np.testing.assert_allclose([p.loss for p in with_it], [p.loss for p in without], rtol=1e-5)
    assert {p.validation for p in without} == {None}


def test_the_same_windows_are_compared_each_time_whatever_the_key():
    # Of the exact score, which stays as it is: its loss is that of one step's noise, about 1.
    def still(rate):
        return optax.set_to_zero()

    exact = {"s": process.s(), "loss": sx.WindowLoss(), "optimizer": still, "paths": PATHS, "validation": HELD}
    stages = [sx.Stage(updates=400)]
    losses = {p.validation for key in (KEY, jax.random.key(5)) for p in reports(**exact, key=key, curriculum=stages)[0]}
    assert len(losses) == 1
    assert losses.pop() == pytest.approx(1, abs=0.1)


# Patience


def test_a_stage_ends_when_the_loss_has_not_come_down_for_as_long_as_it_has_patience():
    everything, best = reports(validation=constant(1))
    at = min(everything, key=lambda p: p.validation).update
    stopped, same = reports(validation=constant(1), curriculum=descent(patience=10))
    assert stopped[-1].update == at + 10
    assert slope(same) == slope(best)


def test_the_next_stage_begins_where_the_whole_stage_would_have_ended():
    seen, _ = reports(validation=constant(1), curriculum=PATIENT)
    assert [p.update for p in seen if p.window == 3] == list(range(104, 201, 4))


PATIENT = [*descent(patience=20), *descent(window=3)]


def test_a_stage_that_goes_on_getting_better_does_all_of_its_updates():
    seen, _ = reports(validation=constant(-1), curriculum=descent(patience=2))
    assert seen[-1].update == 100


# Under a transformation


def test_inside_of_a_program_the_same_weights_are_kept():
    how = {"validation": constant(1), "curriculum": TWO}
    inside = jax.jit(lambda key: fit(key=key, **how).net.a)(KEY)
    assert float(inside) == pytest.approx(slope(fit(**how)), rel=1e-6)


def test_side_by_side_each_training_has_its_own_best_and_its_own_patience():
    means, stages = [0.5, 1.0, 1.5], descent(patience=10)
    held = jnp.stack([constant(m).x for m in means])
    together = jax.vmap(lambda x: fit(validation=sx.Trajectories(x, TS), curriculum=stages).net.a)(held)
    alone = [slope(fit(validation=constant(m), curriculum=stages)) for m in means]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    np.testing.assert_allclose(together, means, rtol=0.03)


# What is told


def test_the_line_of_a_report_holds_both_losses_and_says_where_a_stage_has_stopped(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    fit(validation=constant(1), curriculum=descent(patience=10))
    lines = capfd.readouterr().err.splitlines()
    assert any(re.search(r"\d of 100 updates, window 2, loss [\d.]+, validation [\d.]+, ", line) for line in lines)
    assert re.search(r"100 of 100 updates, .* validation [\d.]+, .* stopped at 46, \d+ s, 0 s left", lines[-1])


# Stop and go on


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", [12, 48, 112], ids=["before the best", "after it", "in the next stage"])
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, stop):
    how = {"validation": constant(1), "curriculum": PATIENT}

    def interrupt(progress):
        if progress.update == stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(**how, callback=interrupt, checkpoint=tmp_path / "state.eqx")
    rest, resumed = reports(**how, checkpoint=tmp_path / "state.eqx")
    whole, uninterrupted = reports(**how)
    assert slope(resumed) == slope(uninterrupted)
    assert [(p.update, p.validation) for p in rest] == [(p.update, p.validation) for p in whole if p.update > stop]


def test_a_training_that_has_stopped_is_not_taken_up_again(tmp_path):
    how = {"validation": constant(1), "curriculum": descent(patience=10), "checkpoint": tmp_path / "state.eqx"}
    done = fit(**how)
    seen, again = reports(**how)
    assert seen == []
    assert slope(done) == slope(again)


@pytest.mark.parametrize("other", [None, 0.1, constant(2)], ids=["none", "a share", "others"])
def test_a_checkpoint_of_another_validation_is_an_error(tmp_path, other):
    fit(validation=constant(1), checkpoint=tmp_path / "state.eqx")
    with pytest.raises(ValueError, match="another validation"):
        fit(validation=other, checkpoint=tmp_path / "state.eqx")


def test_a_second_training_of_the_same_shapes_compiles_nothing(caplog):
    def compiled(f):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            f()
        return [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.getMessage()]

    assert compiled(lambda: fit(PATHS, HELD, curriculum=descent(7, patience=3)))
    assert not compiled(lambda: fit(HELD, PATHS, key=jax.random.key(5), curriculum=descent(7, patience=4)))


# What goes wrong


def test_a_training_that_diverges_hands_back_its_best():
    rates = optax.piecewise_constant_schedule(0.01, {80: 1e35})
    with pytest.raises(sx.FitDiverged) as error:
        fit(validation=constant(1), curriculum=[sx.Stage(updates=100, learning_rate=rates, batch=4)])
    assert slope(error.value.trained) == pytest.approx(1, abs=0.03)


def test_a_validation_loss_that_is_never_finite_is_a_warning():
    with pytest.warns(UserWarning, match="validation loss of the stage with window 2 was finite at no report"):
        trained = fit(validation=constant(1e30))  # whose square is infinite in single precision
    assert slope(trained) == slope(fit())


def broken():
    return sx.Trajectories(HELD.x.at[1, 2].set(jnp.nan), TS)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"validation": 0.0}, ValueError, r"a share of the trajectories in \(0, 1\), such as 0.1; got 0"),
        ({"validation": 20}, ValueError, r"in \(0, 1\), such as 0.1; got 20"),
        ({"validation": float("nan")}, ValueError, r"in \(0, 1\).*got nan"),
        ({"validation": 0.99}, ValueError, "holds out 40 of 40 trajectories, which leaves nothing to train on"),
        ({"validation": 0.1, "paths": PATHS[:1]}, ValueError, "holds out 1 of 1 trajectories"),
        ({"validation": True}, TypeError, "such as 0.1, or `Trajectories`; got bool"),
        ({"validation": HELD.x}, TypeError, "such as 0.1, or `Trajectories`; got ArrayImpl"),
        ({"validation": 0.1, "paths": FRESH}, TypeError, "`FreshPaths`.*simulated once, `validation=sx.simulate"),
        ({"validation": broken()}, ValueError, "`validation`.*not finite: trajectory 1 at time index 2"),
        (
            {"validation": sx.Trajectories(HELD.x[:, :3], TS[:3]), "curriculum": [sx.Stage(window=5)]},
            ValueError,
            "`validation`.*A window of 5 states.*have 3.*longest that fits is 3",
        ),
        (
            {
                "paths": sx.Trajectories([jnp.zeros(3)] * 9 + [jnp.zeros(5)], [TS[:3]] * 9 + [TS[:5]]),
                "curriculum": [sx.Stage(window=4)],
                "validation": 0.9,
            },
            ValueError,
            "`paths` without the share of `validation=0.9`: A window of 4 states.*longest that fits is 3",
        ),
        (
            {"validation": sx.Trajectories(HELD.x[..., None], TS)},
            ValueError,
            r"`validation` has states of float32\[1\], and `paths` of float32\[\]",
        ),
        (
            {"validation": None, "curriculum": [sx.Stage(patience=5)]},
            ValueError,
            r"held out, and none are: write `fit\(..., validation=0.1\)`",
        ),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_write(how, error, message):
    with pytest.raises(error, match=message):
        fit(**{"paths": PATHS, "loss": sx.WindowLoss()} | how)


def test_a_patience_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"`Stage\(patience=0\)`.*at least 1"):
        sx.Stage(patience=0)
