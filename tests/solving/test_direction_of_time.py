"""Reverse equations against closed forms: any solver, one argument, and time runs the right way.

The reverse-time SDE with the exact score, started at x_T, has the posterior of x_0 given x_T as its law;
the probability flow is the affine map between the marginals.
"""

import functools
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import OU, double_precision

ou = OU()
XT = 1.1
SAMPLES = 20000

# Of three orders, and steps that make the bias small beside the standard error of 20,000 samples.
LAWS = [(dfx.Euler(), 800), (dfx.Heun(), 100), (dfx.ShARK(), 50)]
SDE_SOLVERS = [
    dfx.EulerHeun(),
    dfx.ItoMilstein(),
    dfx.ReversibleHeun(),
    dfx.SEA(),
    dfx.GeneralShARK(),
    dfx.SlowRK(),
    dfx.SPaRK(),
]


def name(case):
    return type(case[0] if isinstance(case, tuple) else case).__name__


def assert_law(x, mean, var, standard_errors=3.0):
    n = len(x)
    assert abs(float(x.mean() - mean)) < standard_errors * float(var / n) ** 0.5
    assert abs(float(x.var() - var)) < standard_errors * float(var) * (2 / n) ** 0.5


def last(equation, x0, ts, **how):
    x = sx.solve(equation, x0, ts, saveat=dfx.SaveAt(t1=True), **how)
    return jax.tree.map(lambda leaf: leaf[:, 0], x)


# The reverse-time SDE


@pytest.mark.parametrize("case", LAWS, ids=name)
def test_the_reverse_sde_samples_the_posterior(case):
    solver, steps = case
    ts = jnp.linspace(ou.T, 0.0, steps + 1)
    x0 = last(-ou.P + 2 * ou.s + ou.g, jnp.full(SAMPLES, XT), ts, solver=solver, key=jax.random.key(0))
    assert_law(x0, *ou.posterior(XT))


@pytest.mark.parametrize("solver", SDE_SOLVERS, ids=name)
def test_every_other_sde_solver_goes_the_right_way(solver):
    # A solver that takes negative steps for positive ones is off by half of the mean: 4,000 samples see a tenth of it.
    ts = jnp.linspace(ou.T, 0.0, 101)
    x0 = last(-ou.P + 2 * ou.s + ou.g, jnp.full(4000, XT), ts, solver=solver, key=jax.random.key(0))
    assert_law(x0, *ou.posterior(XT))


def test_adaptive_steps_sample_the_posterior():
    controller = dfx.PIDController(rtol=1e-2, atol=1e-2)
    x = jnp.full(1000, XT)
    ts = [ou.T, 0.0]
    x0 = last(-ou.P + 2 * ou.s + ou.g, x, ts, solver=dfx.ShARK(), stepsize_controller=controller, key=jax.random.key(1))
    assert_law(x0, *ou.posterior(XT))


def test_from_the_end_marginal_the_reverse_sde_goes_back_to_the_start():
    mean, var = ou.marginal(ou.T)
    xT = mean + jnp.sqrt(var) * jax.random.normal(jax.random.key(2), (SAMPLES,))
    ts = jnp.linspace(ou.T, 0.0, 401)
    assert_law(last(-ou.P + 2 * ou.s + ou.g, xT, ts, key=jax.random.key(3)), ou.mean, ou.var)


def test_the_forward_process_reaches_its_marginal():
    x = ou.start(SAMPLES, jax.random.key(4))
    xT = last(ou.P + ou.g, x, jnp.linspace(0.0, ou.T, 401), key=jax.random.key(5))
    assert_law(xT, *ou.marginal(ou.T))


def test_noise_by_components():
    both = OU(rate=jnp.array([0.5, 2.0]), g=jnp.array([0.6, 0.2]), mean=jnp.array([1.0, -1.0]))
    xT = jnp.array([XT, -0.2])
    ts = jnp.linspace(both.T, 0.0, 101)
    x = jnp.tile(xT, (SAMPLES, 1))
    x0 = last(-both.P + 2 * both.s + both.g, x, ts, solver=dfx.ShARK(), key=jax.random.key(6))
    for i, (mean, var) in enumerate(zip(*both.posterior(xT), strict=True)):
        assert_law(x0[:, i], mean, var)


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.SRA1()], ids=name)
def test_noise_that_changes_in_time_is_seen_at_the_physical_time(solver):
    # dx = t dW from N(0, var): the posterior of a sum of independent Gaussians.
    var, T, xT = 0.3, 1.2, 0.8
    g = sx.Diffusion(lambda t: t)
    s = sx.Score(lambda t, x, args: -x / (var + t**3 / 3), g)
    still = sx.ReverseDrift(lambda t, x, args: 0 * x)
    ts = jnp.linspace(T, 0.0, 401)
    x0 = last(still + 2 * s + g, jnp.full(SAMPLES, xT), ts, solver=solver, key=jax.random.key(7))
    gain = var / (var + T**3 / 3)
    assert_law(x0, gain * xT, var * (1 - gain))


def test_states_may_be_trees():
    # The tree's two arrays are two independent problems with noises of their own.
    u, v = OU(), OU(rate=1.0, g=0.3, mean=-0.5)
    P = sx.Drift(lambda t, x, args: {"u": u.P.f(t, x["u"], args), "v": v.P.f(t, x["v"], args)})
    g = sx.Diffusion({"u": u.noise, "v": v.noise})
    s = sx.Score(lambda t, x, args: {"u": u.score(t, x["u"]), "v": v.score(t, x["v"])}, g)
    x = {"u": jnp.full((SAMPLES,), XT), "v": jnp.full((SAMPLES, 2), 0.1)}
    x0 = last(-P + 2 * s + g, x, jnp.linspace(1.0, 0.0, 101), solver=dfx.ShARK(), key=jax.random.key(8))
    assert_law(x0["u"], *u.posterior(XT))
    for i in range(2):
        assert_law(x0["v"][:, i], *v.posterior(0.1))
    assert abs(np.corrcoef(x0["v"].T)[0, 1]) < 3 / SAMPLES**0.5


# The probability flow

ODE_SOLVERS = [
    (dfx.Euler(), 2000, 2e-3),
    (dfx.Heun(), 100, 1e-4),
    (dfx.Midpoint(), 100, 1e-4),
    (dfx.Ralston(), 100, 1e-4),
    (dfx.ReversibleHeun(), 100, 1e-4),
    (dfx.Tsit5(), 10, 1e-5),
    (dfx.Dopri5(), 10, 1e-5),
    (dfx.Dopri8(), 10, 1e-5),
]
X = jnp.array([-0.5, 0.4, 1.1, 2.0])


@pytest.mark.parametrize("case", ODE_SOLVERS, ids=name)
def test_every_ode_solver_follows_the_flow(case):
    solver, steps, tolerance = case
    x0 = last(-ou.P + ou.s, X, np.linspace(ou.T, 0, steps + 1), solver=solver)
    np.testing.assert_allclose(x0, ou.flow(X), atol=tolerance)


@pytest.mark.parametrize(
    "solver",
    [dfx.Tsit5(), dfx.Kvaerno3(), dfx.KenCarp3()],
    ids=name,
)
def test_adaptive_and_implicit_ode_solvers_follow_the_flow(solver):
    controller = dfx.PIDController(rtol=1e-4, atol=1e-5)
    x0 = last(-ou.P + ou.s, X, [ou.T, 0.0], solver=solver, stepsize_controller=controller)
    np.testing.assert_allclose(x0, ou.flow(X), atol=5e-4)


def test_the_flow_run_forwards_undoes_the_flow():
    ts = np.linspace(0, ou.T, 21)
    back = last(-ou.P + ou.s, X, ts[::-1], solver=dfx.Tsit5())
    np.testing.assert_allclose(last(ou.P - ou.s, back, ts, solver=dfx.Tsit5()), X, atol=1e-5)


def test_the_noise_free_reverse_of_a_linear_problem_is_the_posterior_mean():
    x0 = last(-ou.P + 2 * ou.s, X, np.linspace(ou.T, 0, 21), solver=dfx.Tsit5())
    np.testing.assert_allclose(x0, ou.posterior(X)[0], atol=1e-5)


def test_callables_see_the_physical_time_in_both_directions():
    P = sx.Drift(lambda t, x, args: 3 * t**2 + 0 * x)
    ts = np.linspace(0.5, 2, 31)
    forth = last(P, jnp.zeros(1), ts, solver=dfx.Tsit5())
    back = last(-P, jnp.zeros(1), ts[::-1], solver=dfx.Tsit5())
    np.testing.assert_allclose([forth[0], back[0]], [2**3 - 0.5**3, 0.5**3 - 2**3], rtol=1e-5)
    half = last(-P, jnp.zeros(1), [2.0, 1.75, 1.5], solver=dfx.Tsit5())
    np.testing.assert_allclose(half[0], 1.5**3 - 2**3, rtol=1e-5)


# Orders of convergence, in double precision


def nonlinear():
    """A reverse drift and score that bend and change in time: Brownian motion from two points, plus a swirl."""
    g = sx.Diffusion(1.5)

    def score(t, x, args):
        var = 1 + 1.5**2 * t
        return (jnp.tanh(x / var) - x) / var

    return sx.ReverseDrift(lambda t, x, args: jnp.sin(2 * x)), sx.Score(score, g), g


class Later(dfx.AbstractBrownianPath):
    """A Brownian path from a later start on, so that a solve may be cut into pieces."""

    path: dfx.VirtualBrownianTree
    by: jax.Array
    t0: Any = 0.0
    t1: Any = 1.0
    levy_area: Any = eqx.field(static=True, default=dfx.SpaceTimeLevyArea)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        assert t1 is not None
        return self.path.evaluate(t0 + self.by, t1 + self.by, left, use_levy)


def end(equation, x, steps, solver, path=None):
    """x(0) from x(1), solved in pieces of eight steps: one compilation whatever the number of steps."""
    ts = np.linspace(1, 0, steps + 1)
    for m in range(0, steps, 8):
        noise = None if path is None else Later(path=path, by=jnp.asarray(1 - ts[m]))
        x = last(equation, x, ts[m : m + 9], solver=solver, brownian_path=noise)
    return x


def order(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


@functools.cache
def noisy_reference():
    x = jnp.full(64, 0.5, float)
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    path = dfx.VirtualBrownianTree(0.0, 1.0, 2.0**-12, shape, jax.random.key(0), dfx.SpaceTimeLevyArea)
    R, s, g = nonlinear()
    exact = end(R + 2 * s + g, x, 512, dfx.SRA1(), path)
    return R + 2 * s + g, x, path, exact


@pytest.mark.parametrize(("solver", "expected"), [(dfx.Euler(), 1.0), (dfx.SRA1(), 1.5), (dfx.ShARK(), 1.5)])
def test_strong_order_of_the_reverse_sde(solver, expected):
    with double_precision():
        equation, x, path, exact = noisy_reference()
        steps = [16, 32, 64]
        errors = [float(jnp.sqrt(jnp.mean((end(equation, x, n, solver, path) - exact) ** 2))) for n in steps]
    assert order(steps, errors) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(
    ("solver", "least", "most"),
    [(dfx.Euler(), 0.85, 1.15), (dfx.Heun(), 1.85, 2.15), (dfx.Tsit5(), 4.0, np.inf)],
)
def test_order_on_the_flow(solver, least, most):
    R, s, _ = nonlinear()
    with double_precision():
        x = jnp.array([0.5, -0.2, 1.4])
        exact = end(R + s, x, 256, dfx.Dopri8())
        steps = [8, 16, 32]
        errors = [float(jnp.abs(end(R + s, x, n, solver) - exact).max()) for n in steps]
    assert least <= order(steps, errors) <= most
