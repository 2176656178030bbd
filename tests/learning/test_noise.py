"""The noise that g promises is that of the data: where it is another one, or none, it is said before the training."""

import re
import warnings

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.learning._noise import warn_of_another_noise
from tests._problems import as_users_run as as_users_run

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 11)
P = sx.Drift(lambda t, x, args: -x)
heat = sx.Drift(sx.physics.Heat(8))
STEP = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.mirror)


def simulated(P, g, ts=TS, args=None, shape=(), **how):
    x0 = jax.random.normal(KEY, (100, *shape))
    key = None if g is None else jax.random.key(1)
    return sx.simulate(P if g is None else P + g, x0, ts, key=key, args=args, **how)


def measured(f, g, ts=TS, shape=()):
    """Trajectories of no method: each step is two hundred short ones."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(100, *shape))
    rows, inner = [x], 200
    for t, dt in zip(ts[:-1], np.diff(ts) / inner, strict=True):
        for i in range(inner):
            x = x + dt * f(t + i * dt, x) + g * dt**0.5 * draw.normal(size=x.shape)
        rows.append(x)
    return sx.Trajectories(np.stack(rows, axis=1).astype(np.float32), ts)


def said(f):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f()
    return [str(warning.message) for warning in caught if "the noise" in str(warning.message)]


def look(paths, g, P=P):
    """What `fit` asks and says before it compiles the training."""
    s = sx.Score(lambda t, x, args: x, g)
    return said(lambda: warn_of_another_noise(-P + 2 * s, s, paths, [1]))


def train(paths, g, **how):
    s = sx.Score(sx.nn.MLP(paths.samples()[0].shape[1:], (4,), key=KEY), g)
    return sx.fit(-P + 2 * s, paths, key=KEY, curriculum=[sx.Stage(updates=1, batch=4)], **how)


# Another noise


@pytest.mark.parametrize(
    ("paths", "g", "P"),
    [
        (lambda: simulated(P, sx.Diffusion(0.5)), 0.05, P),
        (lambda: simulated(P, sx.Diffusion(0.5)), jnp.array(0.05), P),
        (lambda: simulated(P, sx.Diffusion(0.5)), lambda t: 0.05 + 0 * t, P),
        (lambda: measured(lambda t, x: -x, 0.5), 0.05, P),
        (lambda: simulated(STEP, sx.Diffusion(0.5)), 0.05, STEP),
        (lambda: simulated(heat, sx.Diffusion(0.5), shape=(8, 8)), 0.05, heat),
    ],
    ids=["number", "array", "function", "measured", "step", "stiff"],
)
def test_more_noise_than_g_is_a_warning_that_says_how_much(paths, g, P):
    (message,) = look(paths(), sx.Diffusion(g), P)
    ratio = re.fullmatch(r".* have ([\d.]+) times the noise \(variance\) of the score's g.*", message)
    assert ratio
    assert 60 < float(ratio[1]) < 140


def test_fit_says_it_once_at_the_users_line():
    with pytest.warns(UserWarning, match="times the noise") as caught:
        train(simulated(P, strong), sx.Diffusion(0.05))
    assert [warning.filename for warning in caught if "the noise" in str(warning.message)] == [__file__]


@pytest.mark.parametrize("noise", [None, sx.Diffusion(0.1)], ids=["none", "a fifth"])
def test_less_noise_than_g_is_a_warning(noise):
    (message,) = look(simulated(P, noise), sx.Diffusion(0.5))
    assert "`sx.Perturbed(paths, g)` or `sx.SplitEuler`" in message


def test_one_component_of_a_few_is_enough():
    paths = simulated(P, sx.Diffusion(jnp.array([0.5, 0.5, 0.0])), shape=(3,))
    assert look(paths, sx.Diffusion(jnp.array([0.5, 0.05, 0.0])))


# What looks like another noise, and is none


def fast(rate):
    return sx.Drift(lambda t, x, args: -rate * x)


def lorenz(t, x, args=None):
    x, y, z = jnp.moveaxis(5 * x, -1, 0)
    return jnp.stack([10 * (y - x), x * (2.8 - z) - y, x * y - z], axis=-1) / 5


swing = sx.Drift(lambda t, x, args: jnp.stack([x[1], -900 * x[0]]))
push = sx.Drift(lambda t, x, args: 300 * jnp.cos(60 * t) + 0 * x)
own_rates = {"rate": sx.PerSample(jnp.linspace(0.1, 20, 100)), "g": sx.PerSample(jnp.linspace(0.01, 2, 100))}
conditioned = sx.Drift(lambda t, x, args: -args["rate"] * x)
own_noise = sx.Diffusion(lambda t, args: args["g"] * t)
eulers = sx.Drift.from_step(lambda x, dt: x - 9 * dt * x, reverse=sx.mirror)
rigid = sx.Drift.from_step(lambda x, dt: x - 9 * dt * x, reverse=sx.mirror, dt=0.1)
half = sx.Diffusion(jnp.array([0.0, 0.3]))
weak, strong = sx.Diffusion(0.1), sx.Diffusion(0.5)


@pytest.mark.parametrize(
    ("paths", "g", "P"),
    [
        (lambda: simulated(fast(15.0), weak, solver=dfx.Euler()), weak, fast(15.0)),
        (lambda: simulated(fast(15.0), weak), weak, fast(15.0)),
        (lambda: measured(lambda t, x: -15 * x, 0.1), weak, fast(15.0)),
        (lambda: measured(lambda t, x: np.asarray(lorenz(t, x)), 0.1, shape=(3,)), weak, sx.Drift(lorenz)),
        (lambda: measured(lambda t, x: np.stack([x[:, 1], -900 * x[:, 0]], 1), 0.1, shape=(2,)), weak, swing),
        (lambda: measured(lambda t, x: 300 * np.cos(60 * t) + 0 * x, 0.1), weak, push),
        (lambda: measured(lambda t, x: -9 * x, 0.1), weak, eulers),
        (lambda: measured(lambda t, x: -9 * x, 0.1), weak, rigid),
        (lambda: simulated(STEP, strong), strong, STEP),
        (lambda: simulated(heat, strong, shape=(8, 8)), strong, heat),
        (lambda: simulated(P, half, shape=(2,)), half, P),
        (lambda: simulated(conditioned, own_noise, args=own_rates), own_noise, conditioned),
        (lambda: sx.Perturbed(simulated(P, None), strong), strong, P),
        (lambda: simulated(P, strong)[:2], weak, P),
    ],
    ids=["Euler", "Heun", "measured", "chaos", "oscillation", "forcing", "coarse step", "step of one length", "step"]
    + ["stiff", "components without", "conditions", "blurred", "few steps"],
)
def test_of_the_noise_that_g_promises_nothing_is_said(paths, g, P):
    assert look(paths(), g, P) == []


def test_split_steps_blur_states_without_noise():
    assert said(lambda: train(simulated(P, None), strong, loss=sx.WindowLoss(solver=sx.SplitEuler()))) == []


# No noise at all


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "g",
    [0, 0.0, jnp.zeros(()), np.zeros(2), lambda t: 0.0 * t, lambda t, args: 0.0 * args["g"]],
    ids=["int", "number", "JAX", "components", "function", "conditions"],
)
def test_without_noise_there_is_no_score_to_learn(g):
    paths = simulated(P, None, args=own_rates, shape=(2,))
    with pytest.raises(ValueError, match="has g = 0: without noise there is no score to learn.*`sx.ReverseDrift`"):
        train(paths, sx.Diffusion(g))
