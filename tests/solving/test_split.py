"""The split step: physics, noise, score, each from where the one before has ended."""

from typing import Any, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

KEY = jax.random.key(0)
TS = np.array([1.0, 0.8, 0.7, 0.4])
X = jnp.array([[0.3, -1.0], [2.0, 0.1]])
SPLIT = sx.SplitEuler()
g = sx.Diffusion(lambda t: 0.2 + t)
P = sx.Drift(lambda t, x, args: -jnp.sin(x) * t)
step = sx.Drift.from_step(lambda t, x, dt, args: x / (1 + t * dt), reverse=lambda t, x, dt, args: x * (1 + t * dt))


def net(t, x, args):
    return -x / (0.5 + t)


s = sx.Score(net, g)


def by_hand(physics, noise=None, ts=TS, C=2):
    """The three lines of the module, physics given as the change over a step."""
    x = X
    for i, (t, after) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        h = t - after
        x = x + physics(t, x, h)
        x = x if noise is None else x + noise[i]
        x = x + h * C * 0.5 * g(after) ** 2 * net(after, x, None)
    return x


BACK = {
    "rate": (-P, lambda t, x, h: h * jnp.sin(x) * t),
    "step": (-step, lambda t, x, h: x * t * h),
}


@pytest.mark.parametrize("physics", BACK)
@pytest.mark.parametrize("C", [1, 2])
def test_without_noise_it_is_physics_and_then_the_score_at_the_time_reached(physics, C):
    equation, change = BACK[physics]
    x = sx.solve(equation + C * s, X, TS, solver=SPLIT)[:, -1]
    np.testing.assert_allclose(x, by_hand(change, C=C), rtol=2e-6)


@pytest.mark.parametrize("physics", BACK)
def test_the_score_is_taken_after_the_noise(physics):
    # The noise is what Euler's method adds where there is nothing else.
    still = sx.ReverseDrift(lambda t, x, args: 0 * x)
    path = sx.solve(still + g, X, TS, key=KEY, solver=dfx.Euler())
    equation, change = BACK[physics]
    x = sx.solve(equation + 2 * s + g, X, TS, key=KEY, solver=SPLIT)[:, -1]
    strength = np.diff(path, axis=1)  # g of Euler's method is that of a step's start, of ours that of its middle
    noise = [strength[:, i] * g((TS[i] + TS[i + 1]) / 2) / g(TS[i]) for i in range(len(TS) - 1)]
    np.testing.assert_allclose(x, by_hand(change, noise), rtol=1e-5)


def test_without_a_score_it_is_eulers_method():
    constant = sx.Diffusion(0.3)
    for equation, ts in ((P + constant, TS[::-1]), (-P + constant, TS)):
        split, euler = (sx.solve(equation, X, ts, key=KEY, solver=solver) for solver in (SPLIT, dfx.Euler()))
        np.testing.assert_allclose(split, euler, rtol=1e-6)


def test_what_a_score_is_counted_from_belongs_to_the_physics():
    A = sx.Drift(lambda t, x, args: x[::-1], name="A")
    D = sx.Drift(lambda t, x, args: -(x**3), name="D")
    x = sx.solve(-(A + D) + 2 * sx.Score(net, g, around=D), X, TS, solver=SPLIT)[:, -1]
    np.testing.assert_allclose(x, by_hand(lambda t, x, h: h * (-x[:, ::-1] - x**3)), rtol=1e-5)


def test_of_a_step_that_a_score_is_counted_from_the_forward_step_runs():
    x = sx.solve(-step + 2 * sx.Score(net, g, around=step), X, TS, solver=SPLIT)[:, -1]
    np.testing.assert_allclose(x, by_hand(lambda t, x, h: x / (1 + t * h) - x), rtol=1e-5)


def test_outside_of_what_a_score_knows_the_physics_runs_forward():
    class Guarded(eqx.Module):
        def __call__(self, t, x, args):
            return 1e3 * x

        def outside(self, t, x):
            return jnp.sign(x)

    x = sx.solve(-P + 2 * sx.Score(Guarded(), g), X, TS[:2], solver=SPLIT)[:, -1]
    np.testing.assert_allclose(x, X - (TS[0] - TS[1]) * jnp.sin(X) * TS[0], rtol=1e-6)


def test_it_runs_in_a_bare_diffeqsolve():
    equation = -P + 2 * s
    solution = dfx.diffeqsolve(
        sx.terms(equation, TS[0]), SPLIT, 0.0, TS[0] - TS[-1], None, X[0],
        stepsize_controller=dfx.StepTo(ts=TS[0] - TS), saveat=dfx.SaveAt(t1=True),
    )  # fmt: skip
    np.testing.assert_allclose(cast(Any, solution.ys)[0], sx.solve(equation, X, TS, solver=SPLIT)[0, -1], rtol=1e-6)


def test_windows_are_unrolled_by_it_and_gradients_agree_with_differences():
    windows = sx.Windows(jnp.stack([X, 0.9 * X, 0.8 * X], axis=1), jnp.array([[0.1, 0.2, 0.3]] * 2), 0.1)
    loss = sx.WindowLoss(solver=SPLIT)

    def value(c):
        scaled = sx.Score(lambda t, x, args: c * net(t, x, args), g)
        return loss(-P + 2 * scaled + g, windows, KEY, None)

    slope = (value(1.01) - value(0.99)) / 0.02
    assert float(jax.grad(value)(1.0)) == pytest.approx(float(slope), rel=1e-2)


def test_terms_that_cannot_say_what_they_are_made_of():
    with pytest.raises(TypeError, match=r"`SplitEuler` needs to know what the drift is made of.*cannot say.*sx.terms"):
        dfx.diffeqsolve(dfx.ODETerm(lambda t, y, args: -y), SPLIT, 0.0, 1.0, 0.1, X)
