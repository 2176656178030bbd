"""What each diffrax solver can do with the terms of an equation: one table, that everybody asks.

A solver of the reader's own is looked up by its class's bases; what no row names is a solver of rates that
multiplies them by the term's control. Solvers of our own that are something else say so in their class, `abilities`.
"""

from typing import Any, NamedTuple

import diffrax as dfx

__all__ = ["Abilities", "abilities", "denoises", "is_eulers", "levy_area"]


class Abilities(NamedTuple):
    """What a solver can be given.

    Attributes:
        noise: whether it solves SDEs, to a law that additive noise makes unique.
        needs_noise: whether it solves SDEs only.
        one_increment: whether it asks a drift for one increment a step, from the step's start, and for nothing else:
            what a simulator's step can give.
        own_clock: whether it multiplies by the solver's own step, and not by the term's control, the physical time
            that passes for each sample.
        dense: whether it forms a matrix of the state's size: over a batch these are block diagonal, and formed whole
            they cost samples² or samples³, so it solves sample by sample.
        implicit: whether it solves equations for its stages, so that it needs tolerances.
        two_drifts: whether it wants an explicit and an implicit drift.
        adapts: whether it estimates the error of a step.
        whole_steps: whether it asks for the noise of whole steps only, so that fresh normals a step are a path.
        euler: whether it moves along the rate at a step's start, as Euler's method does, with that method's error.
        denoises: whether it takes scores after a step's noise, not beside it.
    """

    noise: bool
    needs_noise: bool = False
    one_increment: bool = False
    own_clock: bool = False
    dense: bool = False
    implicit: bool = False
    two_drifts: bool = False
    adapts: bool = False
    whole_steps: bool = True
    euler: bool = False
    denoises: bool = False


_SDE_ONLY = {"noise": True, "needs_noise": True, "own_clock": True}

# The first row whose class a solver belongs to; more special ones stand first.
_TABLE: tuple[tuple[Any, dict[str, bool]], ...] = (
    (dfx.SEA, _SDE_ONLY | {"euler": True}),
    (dfx.AbstractSRK, _SDE_ONLY),
    (dfx.EulerHeun, _SDE_ONLY | {"one_increment": True, "euler": True}),
    ((dfx.ItoMilstein, dfx.StratonovichMilstein), _SDE_ONLY | {"one_increment": True, "dense": True, "euler": True}),
    ((dfx.KenCarp3, dfx.KenCarp4, dfx.KenCarp5, dfx.Sil3), {"dense": True, "implicit": True, "two_drifts": True}),
    (dfx.AbstractImplicitSolver, {"dense": True, "implicit": True}),
    (dfx.Euler, {"one_increment": True, "euler": True}),
    (dfx.AbstractSolver, {}),
)


def is_eulers(kind: type) -> bool:
    """Whether solvers of a class have Euler's error."""
    return _row(kind).get("euler", False)


def denoises(kind: type) -> bool:
    """Whether solvers of a class take scores after a step's noise."""
    return _row(kind).get("denoises", False)


def _row(kind: type) -> dict[str, bool]:
    stated = getattr(kind, "abilities", None)
    return stated if isinstance(stated, dict) else next(row for kinds, row in _TABLE if issubclass(kind, kinds))


def abilities(solver: dfx.AbstractSolver) -> Abilities:
    """The row of a solver."""
    row = _row(type(solver))
    noise = isinstance(solver, dfx.AbstractItoSolver | dfx.AbstractStratonovichSolver)
    tableau = getattr(solver, "tableau", None)
    adapts = isinstance(solver, dfx.AbstractAdaptiveSolver) or getattr(tableau, "b_error", None) is not None
    halves = isinstance(solver, dfx.HalfSolver)  # elsewhere diffrax lets it pass for the solver that it wraps
    return Abilities(**{"noise": noise, "adapts": adapts, "whole_steps": not halves, **row})


def levy_area(solver: dfx.AbstractSolver) -> Any:
    """The least Brownian information that the solver's steps ask for."""
    least = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
    if issubclass(least, dfx.AbstractSpaceTimeTimeLevyArea):
        return dfx.SpaceTimeTimeLevyArea
    return dfx.SpaceTimeLevyArea if issubclass(least, dfx.AbstractSpaceTimeLevyArea) else dfx.BrownianIncrement
