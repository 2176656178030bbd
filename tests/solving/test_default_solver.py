"""The solver of whoever names none: chosen from the equation, the same for data, training and inference."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.solving._default_solver import default_solver

KEY, TS = jax.random.key(0), np.linspace(0.0, 1.0, 5)
g = sx.Diffusion(0.5)
P = sx.Drift(lambda t, x, args: -jnp.sin(x))
step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.mirror)


class Linear(eqx.Module):
    """A function that states its linear part."""

    rate: float

    def __call__(self, t, x, args):
        return self.rate * x

    def linear(self, t):
        return sx.Diagonal(self.rate * jnp.ones(()))


stiff = sx.Drift(Linear(-100.0))
plain, filtered = sx.Score(lambda t, x, args: -x, g), sx.Score(Linear(-800.0), g)


@pytest.mark.parametrize(
    ("equation", "solver"),
    [
        (P + g, dfx.Heun),
        (-P + 2 * plain, dfx.Heun),
        (sx.ReverseDrift(lambda t, x, args: x) + plain, dfx.Heun),
        (step + g, dfx.Euler),
        (-step + 2 * filtered + g, dfx.Euler),
        (P + step, dfx.Euler),
        (-P + 2 * sx.Score(lambda t, x, args: -x, g, around=step), dfx.Euler),
        (stiff + g, sx.ExponentialHeun),
        (P + stiff, sx.ExponentialHeun),
        (-stiff + 2 * filtered + g, sx.ExponentialHeun),
        (-stiff + 2 * sx.Score(lambda t, x, args: -x, g, around=stiff), sx.ExponentialHeun),
        (
            -stiff + 2 * sx.Score(Linear(-800.0), g, trained=sx.Trained((0.1, 0.1), sx.ExponentialEuler)),
            sx.ExponentialEuler,
        ),
        (-stiff + 2 * plain, dfx.Heun),
        (-P + 2 * filtered, dfx.Heun),
        (2 * filtered + g, dfx.Heun),
    ],
    ids=str,
)
def test_the_equation_decides(equation, solver):
    assert type(default_solver(equation)) is solver


@pytest.mark.parametrize("physics", [P, step, stiff], ids=["rate", "step", "stiff"])
def test_everyone_asks_for_the_same(physics):
    x0, xT, back = jnp.linspace(-1.0, 1.0, 6), jnp.ones(2), TS[::-1]
    s, solver = filtered if physics is stiff else plain, default_solver(physics)
    paths = sx.simulate(physics + g, x0, TS, key=KEY)
    equation = -physics + 2 * s
    window = paths.source([1]).draw(size=3, stride=1, batch=4, key=KEY)[0]
    same = lambda f: jax.tree.map(np.testing.assert_array_equal, f(None), f(solver))  # noqa: E731
    same(lambda solver: sx.simulate(physics + g, x0, TS, key=KEY, solver=solver).x)
    same(lambda solver: sx.FreshPaths(physics + g, x0, TS, solver=solver).source([1]).simulate(3, KEY)[0])
    same(lambda solver: sx.WindowLoss(solver=solver)(equation, window, KEY, None))
    same(lambda solver: sx.solve(equation, xT, back, solver=solver))
    same(lambda solver: sx.point_estimate(equation, xT, back, solver=solver))
    same(lambda solver: sx.posterior(equation + g, xT, back, 2, key=KEY, solver=solver))


def test_the_window_loss_learns_the_score_of_the_process():
    # An exact affine score s = -x/v(t) of OU: the error of its best fit falls with the square of the step.
    rate, noise = 1.0, sx.Diffusion(2**0.5)
    decay = sx.Drift(lambda t, x, args: -rate * x)

    def slope(steps, loss):
        # In its stationary law N(0, 1), where the score is -x; the best a in s = a x, by least squares.
        ts = np.linspace(0.0, 1.0, steps + 1)
        dt = ts[1]
        x1 = jnp.linspace(-2.0, 2.0, 64)
        x0 = jnp.exp(-dt) * x1  # E[x0 | x1]
        windows = sx.Windows(jnp.stack([x0, x1], axis=1), jnp.tile(jnp.array([0.0, dt]), (64, 1)), float(dt))
        value = lambda a: loss(  # noqa: E731
            -decay + 2 * sx.Score(lambda t, x, args: a * x, noise), windows, KEY, None
        )
        a = jnp.float32(-1.0)
        for _ in range(4):
            a = a - jax.grad(value)(a) / jax.grad(jax.grad(value))(a)
        return abs(float(a) + 1)

    euler = [slope(steps, sx.WindowLoss(solver=dfx.Euler())) for steps in (4, 8)]
    heun = [slope(steps, sx.WindowLoss()) for steps in (4, 8)]
    assert euler[0] / euler[1] == pytest.approx(2, rel=0.2)
    assert heun[0] / heun[1] == pytest.approx(4, rel=0.2)
    assert heun[0] < euler[0] / 5
