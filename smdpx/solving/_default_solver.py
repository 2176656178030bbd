"""Which solver an equation gets where the user names none: asked by data, losses, solves and inference alike.

A score that is learned through Euler's method repairs Euler's error, and is wrong with every other solver; learned
through a method of second order it is the process's own, to what that order leaves.
"""

import diffrax as dfx

from ..equation._algebra import SDE, AbstractDrift
from ..equation._drift import step_drifts
from ..equation._score import memories
from ._exponential import ExponentialEuler, ExponentialHeun
from ._solvers import abilities, denoises, is_eulers

__all__ = ["default_solver", "solver_of"]


def solver_of(equation: AbstractDrift | SDE, solver: dfx.AbstractSolver | None) -> dfx.AbstractSolver:
    """The solver that the user names, or else the equation's default."""
    return default_solver(equation) if solver is None else solver


def default_solver(equation: AbstractDrift | SDE) -> dfx.AbstractSolver:
    """`Euler` where a drift is a simulator's step, which has no rate between steps; else of second order, `Heun`.

    `ExponentialHeun` where the physics states a stiff linear part, and so does every score, without which the linear
    part of a reversed equation would be the physics' growth alone. Before all that, where a drift has learned to repair
    the error of a solver, that solver; of `ExponentialEuler`, whose error is that of what is not linear, likewise.
    """
    repaired = [trained.solver for _, trained in memories(equation) if trained.solver is not None]
    # A surrogate's Euler step is the split step's too; a score that is taken after the noise is no other solver's.
    for kind in sorted(filter(is_eulers, repaired), key=denoises, reverse=True):
        solver = _made(equation, kind)
        if isinstance(equation, SDE) or not abilities(solver).needs_noise:
            return solver
    if step_drifts(equation):
        return dfx.Euler()
    drifts = [term.drift for term in equation.summands]
    stiff = any(drift.states_linear for drift in drifts if not drift.is_score)
    if stiff and all(drift.states_linear for drift in drifts if drift.is_score):
        return ExponentialEuler() if ExponentialEuler in repaired else ExponentialHeun()
    return dfx.Heun()


def _made(equation: AbstractDrift | SDE, kind: type) -> dfx.AbstractSolver:
    try:
        return kind()
    except TypeError as error:
        raise TypeError(
            f"`{equation}` has learned to repair the error of `{kind.__name__}`, which cannot be made without "
            f"arguments: give it, `solver={kind.__name__}(...)`."
        ) from error
