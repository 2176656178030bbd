"""What users hand in beside an equation, its states and its times: solvers and how they step, and counts.

Errors name the mend, as `_validate`'s do.
"""

import operator
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.tree_util as jtu
import numpy as np

from .._types import State
from ..equation._algebra import SDE, AbstractDrift
from ._solvers import abilities
from ._validate import is_concrete

__all__ = ["check_object", "check_path", "check_solver", "check_stepping", "check_unrolls", "integer", "whole_number"]


def integer(name: str, value: Any) -> int:
    """A count that the user gave, as Python's integer, or an error: no flag, no float, no text."""
    try:
        count = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise TypeError(f"`{name}` is a count and must be an integer; got {value!r}. Write `{name}=int(...)`.")
    return count


def whole_number(name: str, value: Any, least: int = 1, why: str = "") -> int:
    """A count that the user gave, `least` or more, or an error."""
    count = integer(name, value)
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}{why}; got {count}.")
    return count


def check_object(name: str, value: Any, kind: type, like: str) -> None:
    """Raise where an option is no object of one of diffrax's kinds, but its class, say, or a name; None is none."""
    if value is None or isinstance(value, kind):
        return
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(
            f"`{name}` is the class `{value.__name__}`, and an object of it is needed: write "
            f"`diffrax.{value.__name__}(...)`, such as `{like}`."
        )
    raise TypeError(f"`{name}` must be an object of diffrax's such as `{like}`; got {value!r}.")


def check_solver(equation: AbstractDrift | SDE, solver: Any, path: dfx.AbstractBrownianPath | None) -> None:
    """Raise where the solver cannot solve this kind of equation."""
    name = type(solver).__name__
    if not isinstance(solver, dfx.AbstractSolver):
        raise TypeError(f"`solver` must be a diffrax solver such as `diffrax.Heun()`; got {solver!r}.")
    check_object("brownian_path", path, dfx.AbstractPath, "diffrax.VirtualBrownianTree(0.0, T, tol, shape, key)")
    can = abilities(solver)
    if can.other_terms:
        raise TypeError(
            f"`{name}` solves equations of positions and velocities, in terms of their own, and `{equation}` is one "
            "drift: use `diffrax.Heun()`, or `diffrax.ShARK()` for an SDE; or give diffrax the two terms, in a "
            "`diffrax.diffeqsolve` of your own."
        )
    if isinstance(equation, SDE):
        if not can.noise:
            raise TypeError(
                f"`{name}` solves ODEs, and `{equation}` is an SDE: it would converge to a wrong law. Use "
                "`diffrax.ShARK()` (additive noise, strong order 1.5), `diffrax.SEA()`, `diffrax.Euler()` or "
                "`diffrax.Heun()`, or drop the noise for the probability flow."
            )
        levy = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
        given = getattr(path, "levy_area", None)
        if given is not None and not issubclass(given, levy):
            raise TypeError(
                f"`{name}` needs {levy.__name__[8:]}, and `brownian_path` has only {given.__name__}: make it "
                f"with `levy_area=diffrax.{levy.__name__[8:]}`, or leave `brownian_path` out."
            )
    elif can.needs_noise:
        raise TypeError(
            f"`{name}` solves SDEs, and `{equation}` has no noise. Use `diffrax.Heun()` or `diffrax.Tsit5()`, "
            "or add the noise: `... + g`."
        )


def check_path(path: Any, x0: State, ts: Any) -> None:
    """Raise where a Brownian path is not one of all samples, on the solver's clock."""
    shape = jtu.tree_map(lambda leaf: leaf.shape, getattr(path, "shape", None))
    states = jtu.tree_map(lambda leaf: leaf.shape, x0)
    if shape is not None and shape != states:
        raise ValueError(
            f"`brownian_path` is noise of shape {shape}, and `x0` has shape {states}: it holds that of all samples. "
            "Make it with `shape=jax.eval_shape(lambda x: x, x0)`."
        )
    first, last = getattr(path, "t0", 0.0), getattr(path, "t1", None)
    if last is None or not is_concrete(first, last, ts):
        return
    end = float(abs(ts[-1] - ts[0]))
    if float(first) > 0 or float(last) < end * (1 - 1e-6):
        raise ValueError(
            f"`brownian_path` runs from {float(first):g} to {float(last):g}, and the solve's clock τ = |t - ts[0]| "
            f"from 0 to {end:g}: make it with `t0=0.0` and `t1=abs(ts[-1] - ts[0])`."
        )


def check_unrolls(equation: AbstractDrift | SDE, solver: Any) -> None:
    """Raise where the solver cannot take given steps one after the other, as windows and `FreshPaths` ask it to."""
    check_solver(equation, solver, None)
    can, name = abilities(solver), type(solver).__name__
    if can.implicit and not eqx.is_array_like(getattr(getattr(solver, "root_finder", None), "rtol", 0.0)):
        raise ValueError(
            f"`{name}` is implicit and needs tolerances, which no controller gives it here: write "
            f"`diffrax.{name}(root_finder=diffrax.VeryChord(rtol=1e-4, atol=1e-6))`."
        )
    if isinstance(equation, SDE) and not can.whole_steps:
        raise TypeError(
            f"`{name}` takes steps in halves, and here the noise is that of whole steps: give the solver inside of it."
        )


def check_stepping(solver: dfx.AbstractSolver, controller: Any, saveat: Any, adjoint: Any) -> None:
    """Raise where steps or saved times are asked for in two ways, steps adapt to no estimate, or no object is given."""
    steps = "diffrax.PIDController(rtol=1e-4, atol=1e-6)"
    check_object("stepsize_controller", controller, dfx.AbstractStepSizeController, steps)
    check_object("saveat", saveat, dfx.SaveAt, "diffrax.SaveAt(t1=True)")
    check_object("adjoint", adjoint, dfx.AbstractAdjoint, "diffrax.RecursiveCheckpointAdjoint()")
    can = abilities(solver)
    if controller is not None and not can.adapts:
        raise TypeError(
            f"`{type(solver).__name__}` has no error estimate, so its steps cannot adapt: leave "
            "`stepsize_controller` out, or use `diffrax.Heun()`, `diffrax.Tsit5()`, or `diffrax.ShARK()` for an SDE."
        )
    if controller is None and can.implicit:
        raise ValueError(
            f"`{type(solver).__name__}` is implicit and needs tolerances: pass `stepsize_controller={steps}`."
        )
    if isinstance(controller, dfx.ConstantStepSize | dfx.StepTo):
        raise ValueError(
            "`stepsize_controller`: fixed steps are the intervals of `ts`. Leave it out; for finer steps than "
            "you save, refine `ts` and pass `saveat=diffrax.SaveAt(steps=n)`."
        )
    subs = [] if saveat is None else jtu.tree_leaves(saveat.subs, is_leaf=lambda s: isinstance(s, dfx.SubSaveAt))
    saves = any(sub.t0 or sub.t1 or sub.steps or sub.ts is not None for sub in subs)
    if saveat is not None and (saveat.dense or not saves):
        raise ValueError(
            "`saveat` must save states, `SaveAt(t1=True)` or `SaveAt(t0=True, steps=True)`; got "
            f"{'`dense=True`' if saveat.dense else 'one that saves none'}. Dense output, and all else that diffrax can "
            "save, you have from a `diffrax.diffeqsolve(sx.terms(equation, t0), ...)` of your own."
        )
    if any(sub.ts is not None for sub in subs):
        raise ValueError("`saveat`: the times to save at are `ts`; give `SaveAt(t1=True)` or `SaveAt(steps=n)`.")
