"""What each diffrax solver can do with the terms of an equation: one table, that everybody asks.

A solver of the reader's own is looked up by its class's bases, and by what a step of it does (`_clocks`); what no row
names is a solver of rates. Solvers of our own that are something else say so in their class, `abilities`.
"""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax.core import Tracer

__all__ = ["Abilities", "abilities", "denoises", "is_eulers", "levy_area", "steps_as_diffrax"]


class Abilities(NamedTuple):
    """What a solver can be given.

    Attributes:
        noise: whether it solves SDEs, to a law that additive noise makes unique.
        needs_noise: whether it solves SDEs only.
        one_increment: whether it asks a drift for one increment a step, from the step's start, and for nothing else:
            what a simulator's step can give.
        own_clock: whether it multiplies by the solver's own step, and not by the term's control, the physical time
            that passes for each sample.
        keeps_times: whether its state holds readings of the clock, as a multistep method's may: then a solve has one
            clock, and not one for each step.
        other_terms: whether it solves equations of a kind that there is none of here, of positions and velocities.
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
    keeps_times: bool = False
    other_terms: bool = False
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
    (dfx.LeapfrogMidpoint, {"keeps_times": True}),
    (dfx.SemiImplicitEuler, {"other_terms": True}),
    (dfx.AbstractFosterLangevinSRK, {"other_terms": True, "noise": True}),
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
    if isinstance(solver, dfx.AbstractWrappedSolver):  # elsewhere diffrax lets it pass for the solver that it wraps
        # Its steps come in halves, so they are no single increments, nor Euler's.
        inner = abilities(solver.solver)._replace(one_increment=False, euler=False, denoises=False)
        return inner._replace(adapts=adapts, whole_steps=False)
    if not steps_as_diffrax(solver) and not row.get("own_clock"):
        row = {**row, **_clocks(solver)}
    return Abilities(**{"noise": noise, "adapts": adapts, **row})


def steps_as_diffrax(solver: dfx.AbstractSolver) -> bool:
    """Whether the steps of a solver are diffrax's or ours, and not a method of the reader's own."""
    owner = next(kind for kind in type(solver).__mro__ if "step" in vars(kind))
    return owner.__module__.partition(".")[0] in ("diffrax", __name__.partition(".")[0])


class _Twice(dfx.AbstractTerm):
    """dx/dt = 1 on a clock that runs at half the pace of physical time: the control of a step is 2 (t1 - t0)."""

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        """One."""
        return jnp.ones_like(y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        """Twice the step."""
        return 2 * (jnp.asarray(t1) - jnp.asarray(t0))

    def prod(self, vf: Any, control: Any) -> Any:
        """Rate times control."""
        return vf * control


class _Still(_Twice):
    """No noise: the second term of a solver that wants a drift and a noise."""

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        """Zero."""
        return jnp.zeros_like(y)


# What was found out of a class.
_found: dict[type, dict[str, bool]] = {}


def _clocks(solver: dfx.AbstractSolver) -> dict[str, bool]:
    """What a reader's solver does with time, found out by two steps of it, each on a clock of its own.

    Of one that cannot be asked, since it wants other terms or states, nothing is taken for granted.
    """
    kind = type(solver)
    if kind in _found:
        return _found[kind]
    for terms in (_Twice(), dfx.MultiTerm(_Twice(), _Still())):
        try:
            with jax.ensure_compile_time_eval():
                first, second = _two_steps(solver, terms)
            if isinstance(first, Tracer):  # a number in the solver is one: a later solver of the class may tell
                return {"own_clock": True}
            by_control, goes_on = abs(first - 2) < 1e-3, abs(second - 2 * first) < 1e-3
            _found[kind] = {"own_clock": not by_control, "keeps_times": not goes_on}
            return _found[kind]
        except Exception:  # the reader's code: whatever it raises, the solve itself shows it at its place
            continue
    _found[kind] = {"own_clock": True}
    return _found[kind]


def _two_steps(solver: dfx.AbstractSolver, terms: Any) -> Any:
    """Where two steps of length 1 lead from 0."""
    t0, t1, x = jnp.zeros(()), jnp.ones(()), jnp.zeros(1)
    state = solver.init(terms, t0, t1, x, None)
    ends = []
    for _ in range(2):
        x, _, _, state, _ = solver.step(terms, t0, t1, x, None, state, made_jump=jnp.array(False))
        ends.append(x[0])
    return ends


def levy_area(solver: dfx.AbstractSolver) -> Any:
    """The least Brownian information that the solver's steps ask for."""
    if isinstance(solver, dfx.AbstractWrappedSolver):
        return levy_area(solver.solver)
    least = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
    if issubclass(least, dfx.AbstractSpaceTimeTimeLevyArea):
        return dfx.SpaceTimeTimeLevyArea
    return dfx.SpaceTimeLevyArea if issubclass(least, dfx.AbstractSpaceTimeLevyArea) else dfx.BrownianIncrement
