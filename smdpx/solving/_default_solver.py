"""Which solver an equation gets where the user names none."""

import diffrax as dfx

from ..equation._algebra import SDE, AbstractDrift
from ..equation._drift import step_drifts
from ._exponential import ExponentialEuler

__all__ = ["default_solver"]


def default_solver(equation: AbstractDrift | SDE) -> dfx.AbstractSolver:
    """`Heun`; `Euler` where a drift is a simulator's step; `ExponentialEuler` where a linear part is stated."""
    if step_drifts(equation):
        return dfx.Euler()
    states = any(callable(getattr(type(getattr(term.drift, "f", None)), "linear", None)) for term in equation.summands)
    return ExponentialEuler() if states else dfx.Heun()
