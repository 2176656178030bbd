"""What solvers can: diffrax's own by the table, a reader's by what its steps do with time."""

from typing import ClassVar

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

KEY = jax.random.key(0)
TS, X = np.linspace(0.0, 1.0, 101), jnp.ones(2)
P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
S = sx.Score(lambda t, x, args: -x, g)
UNEVEN = sx.Windows(jnp.stack([X, X, X], 1), jnp.array([[0.1, 0.2, 0.4], [0.2, 0.3, 0.5]]), None)


class ByControl(dfx.AbstractSolver):
    """Euler's method, by the physical time that passes."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def init(self, terms, t0, t1, y0, args):
        return None

    def change(self, terms, t0, t1, y0, args):
        return terms.vf_prod(t0, y0, args, terms.contr(t0, t1))

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = y0 + self.change(terms, t0, t1, y0, args)
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class ByOwnStep(ByControl):
    """Euler's method, by the step of the solver's clock."""

    def change(self, terms, t0, t1, y0, args):
        return (t1 - t0) * terms.vf(t0, y0, args)


class HeunByOwnStep(dfx.Heun):
    """One of diffrax's methods with steps of the reader's own."""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = y0 + (t1 - t0) * terms.vf(t0, y0, args)
        return y1, y1, {"y0": y0, "y1": y1}, solver_state, dfx.RESULTS.successful


class OfPairs(ByControl):
    """One that wants a drift and a noise."""

    def change(self, terms, t0, t1, y0, args):
        drift, noise = terms.terms
        return super().change(drift, t0, t1, y0, args) + super().change(noise, t0, t1, y0, args)


class Noisy(dfx.AbstractItoSolver, OfPairs):
    """Euler's method, term by term."""

    def strong_order(self, terms):
        return 0.5


class Unasked(ByOwnStep):
    """One whose steps do not run on what it is asked with."""

    def change(self, terms, t0, t1, y0, args):
        return (t1 - t0) * terms.clock.sign * terms.vf(t0, y0, args)


def window(solver):
    return sx.WindowLoss(solver=solver)(-P + 2 * S, UNEVEN, KEY, None)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("solver", [ByOwnStep(), HeunByOwnStep(), Unasked(), dfx.HalfSolver(ByOwnStep())])
def test_a_step_by_the_solvers_own_clock_is_refused_where_samples_have_their_own_times(solver):
    with pytest.raises(TypeError, match=r"takes one time for all samples.*diffrax.Heun"):
        window(solver)


@pytest.mark.usefixtures("as_users_run")
def test_the_refusal_says_what_to_multiply_rates_by():
    with pytest.raises(TypeError, match=r"terms.vf_prod\(t0, y0, args, terms.contr\(t0, t1\)\)"):
        jax.jit(lambda key: window(ByOwnStep()))(KEY)


def test_a_step_by_the_physical_time_is_taken_there():
    assert float(window(ByControl())) == pytest.approx(float(window(dfx.Euler())), rel=1e-6)


def test_a_solver_of_a_drift_and_a_noise_is_asked_with_both():
    got, expected = (
        sx.WindowLoss(solver=solver)(-P + 2 * S + g, UNEVEN, KEY, None) for solver in (Noisy(), dfx.Euler())
    )
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("solver", [ByOwnStep(), HeunByOwnStep(), Unasked()])
def test_either_is_taken_where_all_samples_have_one_time(solver):
    got, expected = (sx.solve(P, X, TS, solver=each)[:, -1] for each in (solver, dfx.Euler()))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_multistep_method_has_one_clock_for_the_whole_solve():
    leapfrog = sx.solve(P, X, TS, solver=dfx.LeapfrogMidpoint())[:, -1]
    np.testing.assert_allclose(leapfrog, np.exp(-1.0), rtol=1e-3)
    fine = sx.Windows(jnp.tile(jnp.exp(-TS), (2, 1)).astype(jnp.float32), jnp.tile(TS, (2, 1)), 0.01)
    assert float(sx.WindowLoss(solver=dfx.LeapfrogMidpoint())(-P, fine, KEY, None)) < 1e-6


@pytest.mark.parametrize("inner", [dfx.SEA(), dfx.ShARK()], ids=["SEA", "ShARK"])
def test_a_solver_of_half_steps_asks_for_the_noise_of_the_one_inside(inner):
    x = sx.solve(P + g, jnp.zeros(2000), TS[::10], key=KEY, solver=dfx.HalfSolver(inner))[:, -1]
    assert float(x.var()) == pytest.approx(0.125 * (1 - np.exp(-2)), rel=0.15)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (dfx.SemiImplicitEuler(), "`SemiImplicitEuler` solves equations of positions and velocities"),
        (dfx.ALIGN(0.1), "`ALIGN` solves equations of positions and velocities"),
        (dfx.HalfSolver(dfx.SEA()), "`HalfSolver` solves SDEs, and .* has no noise"),
    ],
    ids=["semi-implicit", "Langevin", "half an SDE's"],
)
def test_solvers_of_other_equations_are_refused_by_name(solver, message):
    with pytest.raises(TypeError, match=message):
        sx.solve(P, X, TS, solver=solver)
