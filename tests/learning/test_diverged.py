"""What goes wrong in a training is said: a loss that is not finite, scales far off, times that look alike."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import smdpx as sx
from tests._problems import Slope
from tests._trainings import KEY, PATHS, SHORT, TS, P, fit, g, mlp, weights


def test_a_loss_that_is_not_finite_names_the_update_and_hands_back_the_last_finite_model():
    # After three good updates the learning rate explodes.
    rates = optax.piecewise_constant_schedule(1e-3, {3: 1e35})
    curriculum = [*SHORT, sx.Stage(3, 50, rates, batch=16)]
    with pytest.raises(sx.FitDiverged, match=r"update 34 \(window 3\).*clip_by_global_norm") as error:
        fit(curriculum=curriculum, optimizer=optax.sgd)
    diverged = error.value
    assert (diverged.update, diverged.window) == (34, 3)
    assert np.isfinite(diverged.loss)
    assert f"{diverged.loss:.6g}" in str(diverged)
    assert isinstance(diverged.trained, sx.Score)
    assert np.isfinite(weights(diverged.trained)).all()


def test_a_divergence_at_the_very_start_hands_back_the_start():
    s = sx.Score(Slope(float("1e30")), g)
    first = r"update 0 .*no update of its stage had a finite one.*no learning rate will help.*sx\.nn\.Whitened"
    with pytest.raises(sx.FitDiverged, match=first) as error:
        fit(s=s)
    assert np.isnan(error.value.loss)
    assert float(error.value.trained.net.a) == pytest.approx(1e30)


@pytest.mark.parametrize("validation", [None, 0.25])
def test_a_condition_that_is_nan_is_named_by_its_row(validation):
    rates = jnp.ones(len(PATHS)).at[7].set(jnp.nan)
    paths, decay = sx.Trajectories(PATHS.x, TS, sx.PerSample(rates)), sx.Drift(lambda t, x, args: -args * x)
    with pytest.raises(sx.FitDiverged, match="`args` is NaN in row 7 of a `PerSample`, one of 1 such rows"):
        sx.fit(
            -decay + 2 * mlp(),
            paths,
            key=KEY,
            curriculum=[sx.Stage(updates=2, batch=4 * len(PATHS))],
            validation=validation,
        )


def test_a_divergence_between_the_datas_moments_is_told_of_data_that_explode():
    unstable, fine = sx.Drift(lambda t, x, args: -1e3 * x), sx.Diffusion(1.0)
    paths = sx.simulate(unstable + fine, jax.random.normal(KEY, (32,)), np.linspace(0, 0.6, 5), key=KEY)
    s = sx.Score(sx.nn.Whitened(mlp().net, paths), fine)
    with pytest.raises(sx.FitDiverged, match=r"unstable at the steps of `ts` explodes in the data, and needs finer"):
        sx.fit(-unstable + 2 * s, paths, key=KEY, curriculum=ONCE)


def test_a_training_makes_no_nan_of_its_own():
    with jax.debug_nans(True):
        assert np.isfinite(weights(fit(curriculum=[sx.Stage(updates=3, batch=16)]))).all()


def test_under_vmap_a_divergence_is_an_error_too():
    with pytest.raises(Exception, match="not finite"):
        jax.vmap(lambda key: weightless(fit(s=sx.Score(Slope(1e30), g), key=key)))(jax.random.split(KEY, 2))


def weightless(trained):
    return trained.net.a


# Scales and clocks


ONCE = [sx.Stage(updates=1, batch=4)]


def train_on(paths, net, noise, key=KEY):
    return sx.fit(-P + 2 * sx.Score(net, noise), paths, key=key, curriculum=ONCE)


def said(f, *what):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f(*what)
    return [str(warning.message) for warning in caught]


def test_a_network_far_off_the_scale_of_the_data_is_told_of_whitened():
    paths, noise = sx.Trajectories(1000 * PATHS.x, TS), sx.Diffusion(500.0)
    with pytest.warns(UserWarning, match=r"loss begins at \d\.\de\+\d+.*sx\.nn\.Whitened\(net, paths\)"):
        train_on(paths, mlp().net, noise)
    assert said(train_on, paths, sx.nn.Whitened(mlp().net, paths), noise) == []


def look_at(start, end):
    """What `fit` asks before it compiles anything."""
    paths = sx.Trajectories(PATHS.x, start + (end - start) * TS)
    jax.eval_shape(lambda key: train_on(paths, mlp().net, g, key).net.biases, KEY)


@pytest.mark.parametrize(("start", "end"), [(-1.0, 0.0), (0.0, 1e-4), (1000.0, 1001.0)])
def test_times_that_a_network_cannot_tell_apart_are_said(start, end):
    message = rf"hardly differs between t = {start:g} and {end:g}.*sx\.nn\.Whitened"
    with pytest.warns(UserWarning, match=message) as caught:
        look_at(start, end)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("start", "end", "share"), [(-1.0, 1.0, "50%"), (-0.01, 1.0, "1%"), (0.0, 4e-3, "25%")])
def test_times_of_which_many_are_one_to_a_network_are_said(start, end, share):
    with pytest.warns(UserWarning, match=rf"from t = {start:g} to 0.001 are one to it, {share} of .*sx\.nn\.Whitened"):
        look_at(start, end)


def test_the_clock_of_the_data_is_no_time_before_the_first():
    paths = sx.Trajectories(PATHS.x, 2 * TS - 1)
    assert said(train_on, paths, sx.nn.Whitened(mlp().net, paths), g) == []


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.0, 0.01), (10.0, 20.0)])
def test_of_usual_times_nothing_is_said(start, end):
    assert said(look_at, start, end) == []


def test_a_traced_number_in_the_optimiser_is_refused_by_name():
    with pytest.raises(TypeError, match=r"`optimizer` holds a number .* traces.*Stage\(learning_rate=\.\.\.\)"):
        jax.vmap(lambda rate: weightless(fit(s=sx.Score(Slope(1.0), g), optimizer=lambda lr: optax.adam(rate))))(
            jnp.array([1e-3, 1e-2])
        )
