"""What a trained score remembers: steps, solver and curriculum, and where it does not fit any more."""

import warnings
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.learning._fit import _trained_steps
from smdpx.solving._default_solver import default_solver
from tests._problems import Slope, Stationary

KEY, X = jax.random.key(0), jnp.ones(3)
process = Stationary(var=0.25, g=0.5)
P, g = process.P, process.g
TS = np.linspace(0, 1, 21)
ONCE = [sx.Stage(updates=1, batch=4)]


def grid(count, ts: Any = TS):
    return sx.Trajectories(jnp.ones((4, count)), ts)


def fresh(jitter, ts: Any = TS):
    return sx.FreshPaths(P + g, jnp.ones(4), ts, jitter=jitter)


@pytest.mark.parametrize(
    ("paths", "strides", "steps"),
    [
        (grid(21), [1], (0.05, 0.05)),
        (grid(4, [0.0, 0.1, 0.4, 1.0]), [1], (0.1, 0.6)),
        (grid(21), [3, 1], (0.05, 0.15)),
        (grid(3, np.array([[0.0, 0.1, 0.4], [0.0, 0.2, 0.4], [0.0, 0.5, 1.0], [0.0, 0.1, 0.2]])), [1], (0.1, 0.5)),
        (fresh(jitter=False), [1], (0.05, 0.05)),
        (fresh(jitter=True), [1], (0.0, 0.1)),
        (fresh(jitter=True), [3], (0.1, 0.2)),
        (fresh(jitter=True, ts=[0.0, 1.0]), [1], (1.0, 1.0)),
    ],
    ids=["grid", "uneven", "strides", "own times", "fresh", "jitter", "jittered stride", "nothing to jitter"],
)
def test_the_steps_that_a_training_unrolls(paths, strides, steps):
    assert _trained_steps(paths, strides) == pytest.approx(steps)


def trained(**how: Any) -> sx.Trained:
    return sx.fit(-P + 2 * process.s(), grid(3, [0.0, 0.1, 0.4]), key=KEY, **how).trained


def test_a_score_remembers_its_steps_its_solver_and_its_curriculum():
    how = trained(curriculum=[sx.Stage(2, 2, batch=4), sx.Stage(3, 1, batch=4)])
    assert how.steps == pytest.approx((0.1, 0.3))
    assert how.solver is dfx.Heun
    assert how.curriculum == ((2, 1, 2), (3, 1, 1))


@pytest.mark.parametrize(
    ("loss", "solver"),
    [
        (sx.WindowLoss(solver=dfx.Euler()), dfx.Euler),
        (sx.TwoWayLoss(sx.WindowLoss(solver=dfx.Ralston())), dfx.Ralston),
        (sx.ImplicitScoreMatching(), None),
    ],
    ids=["window", "both ways", "no unroll"],
)
@pytest.mark.filterwarnings("ignore:`TwoWayLoss` is minimised")
def test_it_remembers_the_solver_of_the_loss(loss, solver):
    assert trained(loss=loss, curriculum=ONCE).solver is solver


# Solvers


def score(solver):
    return sx.Score(Slope(-4.0), g, trained=sx.Trained((0.05, 0.1), solver))


def warned(s, ts=(0.2, 0.1, 0.0), **how):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.eval_shape(lambda x: sx.solve(-P + s, x, ts, **how), X)
    return [str(warning.message) for warning in caught]


def test_a_score_of_eulers_method_warns_of_a_better_solver():
    message = r"`½g²·s\(t, x\)` was trained through `Euler`: it has learned to repair .*`Heun` does not make"
    with pytest.warns(UserWarning, match=message):
        jax.eval_shape(lambda x: sx.solve(-P + score(dfx.Euler), x, [0.1, 0.0], solver=dfx.Heun()), X)
    with pytest.warns(UserWarning, match=r"`ShARK` does not make. Solve it by `diffrax.Euler\(\)`"):
        sx.posterior(-P + 2 * score(dfx.Euler) + g, X, [0.1, 0.0], 1, key=KEY, solver=dfx.ShARK())


def test_a_score_of_the_process_warns_of_eulers_method():
    with pytest.warns(UserWarning, match="trained through `Heun`: it is the process's own, and `Euler` adds the error"):
        jax.eval_shape(lambda x: sx.solve(-P + score(dfx.Heun), x, [0.1, 0.0], solver=dfx.Euler()), X)


@pytest.mark.parametrize(
    ("made", "used"),
    [(dfx.Heun, dfx.Tsit5()), (sx.ExponentialEuler, dfx.Heun()), (dfx.Euler, dfx.Euler()), (None, dfx.Euler())],
    ids=["second order", "exponential", "Euler", "no unroll"],
)
def test_solvers_that_fit_a_score_do_not_warn(made, used):
    assert warned(score(made), solver=used) == []


@pytest.mark.parametrize("made", [dfx.Euler, sx.SplitEuler], ids=lambda made: made.__name__)
def test_where_no_solver_is_named_what_was_repaired_is_solved_by_what_it_repairs(made):
    s = score(made)
    surrogate = sx.ReverseDrift(Slope(-1.0), trained=s.trained)
    assert warned(s) == []
    assert [type(default_solver(equation)) for equation in (-P + s, surrogate, -P + 2 * s + g)] == [made] * 3


def test_a_surrogate_of_eulers_steps_and_a_score_of_split_ones_are_solved_by_split_ones():
    surrogate = sx.ReverseDrift(Slope(-1.0), trained=score(dfx.Euler).trained)
    assert type(default_solver(surrogate + 2 * score(sx.SplitEuler) + g)) is sx.SplitEuler
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.solve(surrogate + 2 * score(sx.SplitEuler), X, [0.1, 0.0])


def test_a_split_step_takes_scores_of_split_steps():
    with pytest.warns(UserWarning, match=r"blurred, and `Heun` asks .* `sx.SplitEuler\(\)`"):
        jax.eval_shape(lambda x: sx.solve(-P + score(sx.SplitEuler), x, [0.1, 0.0], solver=dfx.Heun()), X)
    with pytest.warns(UserWarning, match="`SplitEuler` blurs states"):
        jax.eval_shape(lambda x: sx.solve(-P + score(dfx.Euler), x, [0.1, 0.0], solver=sx.SplitEuler()), X)


# Steps


@pytest.mark.parametrize(
    ("ts", "got"),
    [([0.4, 0.2, 0.0], "0.2 to 0.2"), ([0.04, 0.02, 0.0], "0.02 to 0.02"), ([0.4, 0.35, 0.3, 0.0], "0.05 to 0.3")],
    ids=["longer", "shorter", "one of several"],
)
def test_eulers_method_with_other_steps_is_a_warning_that_names_both(ts, got):
    message = rf"`½g²·s\(t, x\)` was trained on steps of 0.05 to 0.1, and `ts` has steps of {got}:.*jitter=True"
    s, euler = score(dfx.Euler), dfx.Euler()
    with pytest.warns(UserWarning, match=message):
        jax.eval_shape(lambda x: sx.solve(-P + s, x, ts, solver=euler), X)
    with pytest.warns(UserWarning, match=message):
        jax.eval_shape(lambda x: sx.posterior(-P + 2 * s + g, x, ts, 1, key=KEY, solver=euler), X)


def test_inside_the_range_and_at_its_ends_there_is_no_warning():
    assert len(warned(score(dfx.Euler), [0.4, 0.0], solver=dfx.Euler())) == 1
    assert warned(score(dfx.Euler), [0.4, 0.3, 0.23, 0.18], solver=dfx.Euler()) == []


def test_a_score_of_the_process_takes_any_steps():
    assert warned(score(dfx.Heun), [0.4, 0.02, 0.0]) == []


def test_steps_that_adapt_are_not_compared():
    how = {"solver": dfx.Tsit5(), "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)}
    assert warned(score(dfx.Heun), [1.0, 0.0], **how) == []


@pytest.mark.parametrize("kind", [sx.simulate, sx.FreshPaths])
def test_data_of_eulers_steps_are_noticed_by_a_loss_that_takes_better_ones(kind):
    P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    key = {"key": jax.random.key(0)} if kind is sx.simulate else {}
    make = lambda **how: kind(P + g, jnp.ones(32), np.linspace(0, 1, 11), **key, **how)  # noqa: E731
    s = sx.Score(sx.nn.MLP(widths=(4,), key=jax.random.key(1)), g)
    train = lambda paths, **how: sx.fit(  # noqa: E731
        -P + 2 * s, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=1, batch=8)], **how
    )
    with pytest.warns(UserWarning, match="made by the steps of `Euler`, and the loss unrolls by `Heun`"):
        train(make(solver=dfx.Euler()))
    train(make(solver=dfx.Euler()), loss=sx.WindowLoss(solver=dfx.Euler()))
    train(make())


def test_what_is_said_of_an_sde_solvers_data_names_a_loss_that_takes_them():
    P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    paths = sx.simulate(P + g, jnp.ones(32), np.linspace(0, 1, 11), key=KEY, solver=dfx.SEA())
    s = sx.Score(sx.nn.MLP(widths=(4,), key=jax.random.key(1)), g)
    with pytest.warns(UserWarning, match=r"steps of `SEA`.*`solver=diffrax.Euler\(\)`"):
        sx.fit(-P + 2 * s, paths, key=KEY, curriculum=ONCE)
    sx.fit(-P + 2 * s, paths, key=KEY, curriculum=ONCE, loss=sx.WindowLoss(solver=dfx.Euler()))


def test_a_solver_of_ones_own_that_needs_arguments_has_to_be_given_again():
    class Own(dfx.Euler):
        number: int

    how = {"curriculum": ONCE, "loss": sx.WindowLoss(solver=Own(1))}
    s = sx.fit(-process.P + 2 * process.s(), grid(3, [0.0, 0.1, 0.4]), key=KEY, **how)
    with pytest.raises(TypeError, match=r"error of `Own`, which cannot be made without arguments.*`solver=Own\(...\)`"):
        sx.solve(-process.P + 2 * s, jnp.ones(2), [0.4, 0.1, 0.0])


def test_slices_know_whose_steps_they_are_and_data_of_ones_own_may_say_so():
    paths = sx.Trajectories(jnp.zeros((4, 3)), [0.0, 0.1, 0.2], solver=dfx.Euler)
    assert paths[1:].made_by() is dfx.Euler
    assert sx.Trajectories(jnp.zeros((4, 3)), [0.0, 0.1, 0.2]).made_by() is None


# Times, and noise that the data do not have


def test_times_that_no_trajectory_had_are_a_warning():
    s = sx.fit(-P + 2 * process.s(), grid(3, [0.0, 0.1, 0.4]), key=KEY, curriculum=ONCE)
    assert s.trained.times == (0.0, 0.4)
    message = r"trained on times from 0 to 0.4, and `ts` goes from 0 to 5: outside of them it knows nothing"
    with pytest.warns(UserWarning, match=message):
        jax.eval_shape(lambda x: sx.solve(-P + s, x, [5.0, 0.0]), X)
    assert warned(s, ts=[0.4, 0.2, 0.0]) == []


@pytest.mark.parametrize("blurred", [False, True])
def test_the_times_of_a_training_end_with_its_trajectories_of_which_some_are_shorter(blurred):
    ragged = sx.Trajectories([np.ones(9, "f"), np.ones(2, "f")], [np.linspace(0, 1, 9), np.array([0.0, 1.0])])
    paths = sx.Perturbed(ragged, g) if blurred else ragged
    assert sx.fit(-P + 2 * process.s(), paths, key=KEY, curriculum=ONCE).trained.times == (0.0, 1.0)


def test_a_score_that_was_trained_with_args_asks_for_them():
    conditioned = sx.Trajectories(jnp.ones((4, 3)), [0.0, 0.1, 0.4], args=sx.PerSample(jnp.arange(4.0)))
    s = sx.fit(-P + 2 * process.s(), conditioned, key=KEY, curriculum=ONCE)
    with pytest.warns(UserWarning, match=r"trained on trajectories with `args`, and is solved without: .*`args=...`"):
        sx.posterior(-P + 2 * s + g, X, [0.4, 0.2, 0.0], 1, key=KEY)
    assert warned(s, ts=[0.4, 0.2, 0.0], args=sx.PerSample(jnp.arange(3.0))) == []


# A surrogate of another resolution


def of_waves(points):
    """Four trajectories of three frames on so many points, and a surrogate that takes fields of any size."""
    paths = sx.Trajectories(jax.random.normal(KEY, (4, 3, points)), [0.0, 0.1, 0.2])
    return paths, sx.ReverseDrift(sx.nn.FNO(2, 2, ndim=1, key=KEY), name="R")


@pytest.fixture(scope="module")
def coarse():
    paths, R = of_waves(16)
    return sx.fit(R, paths, key=KEY, curriculum=ONCE)


def test_a_surrogate_of_another_resolution_is_a_warning(coarse):
    message = r"`R\(x\)` was trained on states of shape \(16,\), and these are of shape \(32,\).*`sx.data.resample`"
    with pytest.warns(UserWarning, match=message):
        sx.solve(coarse, jnp.ones((3, 32)), [0.2, 0.1])


def test_so_it_is_where_a_score_is_trained_beside_it(coarse):
    paths, _ = of_waves(32)
    s = sx.Score(Slope(-4.0), g)
    with pytest.warns(UserWarning, match="trained on states of shape"):
        sx.fit(coarse + 2 * s, paths, key=KEY, curriculum=ONCE)


def test_its_own_resolution_and_a_training_that_goes_on_at_another_are_none(coarse):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.solve(coarse, jnp.ones((3, 16)), [0.2, 0.1])
        finer = sx.fit(coarse, of_waves(32)[0], key=KEY, curriculum=ONCE)
    assert finer.trained.shapes == ((32,),)


def test_where_the_physics_is_not_known_the_loss_tells_of_less_noise_than_g():
    still = sx.simulate(P, jax.random.normal(KEY, (64,)), TS)
    s, R = sx.Score(sx.nn.MLP(widths=(4,), key=KEY), g), sx.ReverseDrift(lambda t, x, args: -P.rate(t, x, args))
    with pytest.warns(UserWarning, match=r"loss ends at .*: is theirs smaller\? .*`sx.Perturbed\(paths, g\)`"):
        sx.fit(R + 2 * s, still, key=KEY, curriculum=[sx.Stage(updates=400, batch=32)])
