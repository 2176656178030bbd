"""One step of an explicit Runge-Kutta method, its stages written out.

    k_i = f(t + c_i h, x + Σ_{j<i} a_ij k_j) h,    x' = x + Σ_i b_i k_i

The numbers are those of the solver's own tableau, and the step is diffrax's to rounding. diffrax loops over the stages;
a loop inside of the loop over steps keeps the compiler from fusing them, and has no second derivatives. Written out, a
window by Heun's method takes no longer than a hand-written one (`benchmarks/window.py`).
"""

from typing import Any

import diffrax as dfx
import jax.tree_util as jtu

from .._types import Args, State
from ._solvers import steps_as_diffrax

__all__ = ["explicit_step", "has_stages", "moved"]


def has_stages(solver: dfx.AbstractSolver) -> bool:
    """Whether the solver is an explicit Runge-Kutta method with one tableau, and takes its steps by that."""
    return (
        steps_as_diffrax(solver)
        and isinstance(solver, dfx.AbstractERK)
        and not isinstance(solver, dfx.AbstractWrappedSolver)  # passes for what it wraps
        and isinstance(solver.tableau, dfx.ButcherTableau)
    )


def explicit_step(solver: Any, terms: dfx.AbstractTerm, t0: Any, t1: Any, x: State, args: Args) -> State:
    """The state after one step from t0 to t1, of drifts and of additive noise."""
    tableau, control = solver.tableau, terms.contr(t0, t1)
    stages: list[State] = []
    for c, row in zip((0.0, *tableau.c), ((), *tableau.a_lower), strict=True):
        t = t0 if c == 0 else t0 + float(c) * (t1 - t0)
        stages.append(terms.vf_prod(t, moved(x, row, stages), args, control))
    return moved(x, tableau.b_sol, stages)


def moved(x: State, weights: Any, stages: list[State]) -> State:
    """The state x + Σ_i weights_i stages_i."""
    for weight, k in zip(weights, stages, strict=True):
        if weight != 0:
            x = jtu.tree_map(lambda x, k: x + float(weight) * k, x, k)  # noqa: B023
    return x
