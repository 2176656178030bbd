"""`sx.terms`: an equation inside a `diffrax.diffeqsolve` of one's own, for one state."""

from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import OU, as_users_run as as_users_run

KEY = jax.random.key(0)
ou = OU()
X = jnp.array([1.1, -0.2])
FLOW, POSTERIOR = -ou.P + ou.s, -ou.P + 2 * ou.s + ou.g


def path(shape, key=KEY, area: Any = dfx.SpaceTimeLevyArea, T=1.0):
    return dfx.VirtualBrownianTree(0.0, T, 1e-3, jax.ShapeDtypeStruct(shape, jnp.float32), key, area)


def end(terms, solver, y0, *, T=1.0, steps=50, **how) -> Any:
    how = {"stepsize_controller": dfx.StepTo(ts=jnp.linspace(0.0, T, steps + 1)), "dt0": None, **how}
    return dfx.diffeqsolve(terms, solver, 0.0, T, y0=y0, **how)


def test_a_flow_in_a_plain_diffeqsolve_with_a_controller_of_ones_own():
    how = {"dt0": 0.1, "stepsize_controller": dfx.PIDController(rtol=1e-5, atol=1e-6)}
    solution = end(sx.terms(FLOW, 1.0), dfx.Tsit5(), X, **how)
    np.testing.assert_allclose(solution.ys[0], ou.flow(X), atol=1e-4)


def test_callables_see_the_physical_time():
    rate = sx.Drift(lambda t, x, args: t + 0 * x)
    for equation, t0, expected in [(rate, 2.0, 2.5), (-rate, 3.0, -2.5)]:
        np.testing.assert_allclose(end(sx.terms(equation, t0), dfx.Heun(), jnp.zeros(())).ys[0], expected, rtol=1e-5)


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.ShARK(), dfx.SRA1()], ids=lambda s: type(s).__name__)
def test_solve_is_the_same_terms_batched(solver):
    # One path through both, so that the states are equal and not only their laws.
    noise, ts = path((2, 1)), np.linspace(1.0, 0.0, 51)
    batched = sx.solve(POSTERIOR, X[:, None], ts, solver=solver, brownian_path=noise)[:, -1]
    alone = end(sx.terms(POSTERIOR, 1.0, noise), solver, X[:, None]).ys[0]
    np.testing.assert_allclose(alone, batched, rtol=1e-5)


def test_many_states_by_vmap_sample_the_posterior():
    def one(key):
        return end(sx.terms(POSTERIOR, 1.0, path((), key)), dfx.ShARK(), X[0]).ys[0]

    x, (mean, var) = jax.jit(jax.vmap(one))(jax.random.split(KEY, 4000)), ou.posterior(X[0])
    assert abs(float(x.mean() - mean)) < 3 * float(var / 4000) ** 0.5
    assert float(x.var() / var) == pytest.approx(1, abs=3 * (2 / 4000) ** 0.5)


def test_an_event_stops_a_reverse_solve():
    grow = sx.ReverseDrift(lambda t, x, args: x)
    event = dfx.Event(lambda t, y, args, **kwargs: y - 2.0, root_finder=None)
    solution = end(sx.terms(grow, 1.0), dfx.Heun(), jnp.array(1.0), steps=100, event=event)
    assert float(solution.ts[0]) == pytest.approx(np.log(2), abs=0.011)


def test_dense_output():
    solution = end(sx.terms(FLOW, 1.0), dfx.Tsit5(), X, saveat=dfx.SaveAt(dense=True))
    half = sx.solve(FLOW, X, [1.0, 0.75, 0.5], solver=dfx.Tsit5())[:, -1]
    np.testing.assert_allclose(solution.evaluate(0.5), half, rtol=1e-4)


def test_an_implicit_explicit_solver_takes_a_pair_of_drifts():
    slow, fast = sx.Drift(lambda t, x, args: -x), sx.Drift(lambda t, x, args: -20 * x)
    pair = dfx.MultiTerm(sx.terms(slow, 0.0), sx.terms(fast, 0.0))
    how = {"dt0": 0.01, "stepsize_controller": dfx.PIDController(rtol=1e-4, atol=1e-6)}
    np.testing.assert_allclose(end(pair, dfx.KenCarp3(), X, T=0.1, **how).ys[0], X * np.exp(-2.1), rtol=1e-3)


class Stiff(eqx.Module):
    """-30 x + cos t, the first part stated."""

    def __call__(self, t, x, args):
        return -30 * x + jnp.cos(t)

    def linear(self, t):
        return sx.Diagonal(jnp.full(2, -30.0))


@pytest.mark.parametrize("solver", [sx.ExponentialEuler(), sx.ExponentialHeun()], ids=["Euler", "Heun"])
@pytest.mark.parametrize("noise", [False, True], ids=["ODE", "SDE"])
def test_the_exponential_solvers_work_alone(noise, solver):
    P, key = sx.Drift(Stiff()), KEY if noise else None
    equation = P + sx.Diffusion(0.3) if noise else P
    brownian = path((2,), area=dfx.BrownianIncrement) if noise else None
    alone = end(sx.terms(equation, 0.0, brownian), solver, X, steps=8).ys[0]
    x0, ts = X[None], np.linspace(0, 1, 9)
    if not noise:
        batched = sx.solve(equation, x0, ts, solver=solver)
        np.testing.assert_allclose(alone, batched[0, -1], rtol=1e-5)
    else:
        many = sx.solve(equation, jnp.tile(x0, (4000, 1)), ts, solver=solver, key=key)[:, -1]
        assert (abs(alone - many.mean(0)) < 5 * many.std(0)).all()


class EulerByHand(dfx.AbstractItoSolver):
    """A reader's own solver: Euler's method, by the rate."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = jax.tree.map(jnp.add, y0, terms.prod(terms.vf(t0, y0, args), terms.contr(t0, t1)))
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


def test_a_readers_own_solver_runs_in_solve_and_in_a_window():
    ts = np.linspace(1.0, 0.0, 11)
    got, expected = (sx.solve(POSTERIOR, X, ts, key=KEY, solver=solver) for solver in (EulerByHand(), dfx.Euler()))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    windows = sx.Windows(jnp.stack([X, X, X], 1), jnp.tile(jnp.array([0.1, 0.2, 0.3]), (2, 1)), 0.1)
    got, expected = (sx.WindowLoss(solver=s)(FLOW, windows, KEY, None) for s in (EulerByHand(), dfx.Euler()))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


class SubclassOfEuler(dfx.Euler):
    """Passes for Euler's method, and asks for the rate."""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        return EulerByHand().step(terms, t0, t1, y0, args, solver_state, made_jump)


def test_a_solver_that_asks_a_simulators_step_for_its_rate_is_refused():
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt))
    with pytest.raises(TypeError, match="is a solver's step, which has no rate"):
        sx.solve(step, X, [0.0, 0.5, 1.0], solver=SubclassOfEuler())


def test_a_simulators_step_takes_its_step_in_a_plain_diffeqsolve():
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt))
    np.testing.assert_allclose(end(sx.terms(step, 0.0), dfx.Euler(), X, steps=2).ys[0], X / 1.5**2, rtol=1e-6)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sx.terms(POSTERIOR, 1.0), "has noise: give `terms` a Brownian path"),
        (lambda: sx.terms(FLOW, 1.0, path((2,))), "no noise, so `path` would be ignored"),
        (lambda: sx.terms(ou.g, 1.0), "needs an equation"),  # pyright: ignore
        (lambda: end(dfx.ODETerm(lambda t, y, args: -y), sx.ExponentialEuler(), X), "make the terms by `sx.terms"),
    ],
    ids=["no path", "no noise", "no equation", "other terms"],
)
def test_errors(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# Times come from the table


def test_times_are_those_of_the_table_in_single_precision():
    # A score of -x/t on times that fall to 1e-5: summed steps would lose the last of them.
    ts = np.geomspace(10, 1e-5, 60)
    pull = sx.ReverseDrift(lambda t, x, args: -x / t)
    narrow = sx.solve(pull, jnp.ones(1), ts, solver=dfx.Heun())[0, -1]
    x = 1.0
    for t, u in zip(ts[:-1], ts[1:], strict=True):
        h, k = t - u, -x / t
        x += h / 2 * (k - (x + h * k) / u)
    assert float(narrow) == pytest.approx(x, rel=1e-3)


def test_what_can_be_simulated_can_be_run_backwards():
    ts = 10 * np.linspace(0, 1, 501) ** 3
    still = sx.Drift(lambda t, x, args: 0 * x)
    assert sx.solve(-still, jnp.ones(1), ts[::-1]).shape == (1, 501)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_an_uneven_grid_is_uneven_in_any_unit_of_time(unit):
    from smdpx.learning._windows import even_step

    assert even_step(unit * np.array([0.0, 1.0, 4.0, 10.0])) is None
    assert even_step(unit * np.array([0.0, 1.0, 2.0, 3.0])) == pytest.approx(unit)
