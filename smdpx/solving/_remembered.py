"""Warnings where a trained drift is solved by what it was not trained for: steps, times, another solver, no args."""

import warnings
from typing import Any

import diffrax as dfx
import numpy as np

from .._types import Args
from ..equation._algebra import SDE, AbstractDrift
from ..equation._score import memories
from ..equation._trained import Trained
from ._solvers import denoises, is_eulers
from ._validate import is_concrete

__all__ = ["warn_of_another_solver", "warn_of_missing_args", "warn_of_untrained_steps", "warn_of_untrained_times"]


def warn_of_untrained_steps(equation: AbstractDrift | SDE, ts: Any) -> None:
    """Warn where fixed steps leave the range that a drift was trained on, if it has learned that scheme's error."""
    for drift, trained in memories(equation):
        if not _repairs_euler(trained) or not is_concrete(ts):
            continue
        steps = np.abs(np.diff(np.asarray(ts, np.float64)))
        shortest, longest = trained.steps
        if steps.min() < 0.999 * shortest or steps.max() > 1.001 * longest:
            warnings.warn(
                f"`{drift!r}` was trained on steps of {shortest:g} to {longest:g}, and `ts` has steps of "
                f"{steps.min():g} to {steps.max():g}: what is learned through Euler's method repairs the error "
                "of its steps. Take steps in that range, or train with `FreshPaths(..., jitter=True)` or on `ts` "
                "itself.",
                stacklevel=4,
            )


def warn_of_untrained_times(equation: AbstractDrift | SDE, ts: Any) -> None:
    """Warn where a solve leaves the times that a drift was trained on: there it knows nothing."""
    if not is_concrete(ts):
        return
    first, last = float(np.min(ts)), float(np.max(ts))
    for drift, trained in memories(equation):
        if trained.times is None:
            continue
        beyond = 1e-3 * (trained.times[1] - trained.times[0])
        if first < trained.times[0] - beyond or last > trained.times[1] + beyond:
            warnings.warn(
                f"`{drift!r}` was trained on times from {trained.times[0]:g} to {trained.times[1]:g}, and `ts` goes "
                f"from {first:g} to {last:g}: outside of them it knows nothing. Simulate and train over all times that "
                "are to be solved.",
                stacklevel=4,
            )


def warn_of_missing_args(equation: AbstractDrift | SDE, args: Args) -> None:
    """Warn where a drift was trained with `args` and is solved without: a network may make numbers of None."""
    for drift, trained in memories(equation):
        if trained.args and args is None:
            warnings.warn(
                f"`{drift!r}` was trained on trajectories with `args`, and is solved without: a network that reads "
                "them is asked for something else. Give the conditions of these samples, `args=...`, as the "
                "trajectories had them (`paths.args`).",
                stacklevel=4,
            )


def _repairs_euler(trained: Trained) -> bool:
    return trained.solver is not None and is_eulers(trained.solver)


def warn_of_another_solver(equation: AbstractDrift | SDE, solver: dfx.AbstractSolver) -> None:
    """Warn where what was learned through one kind of method is solved by another: their errors differ."""
    for drift, trained in memories(equation):
        if trained.solver is not None and (why := _misfit(trained.solver, type(solver), drift.is_score)):
            warnings.warn(f"`{drift!r}` was trained through `{trained.solver.__name__}`: {why}.", stacklevel=4)


def _misfit(made: type, used: type, is_score: bool) -> str:
    """Why what was trained through one class of solvers is wrong with another; nothing where it is not."""
    name = f"sx.{made.__name__}" if made.__module__.startswith("smdpx") else f"diffrax.{made.__name__}"
    if is_score and denoises(made) and not denoises(used):
        return (
            "it is the score of states that a step's noise has blurred, and "
            f"`{used.__name__}` asks for it before the noise. Solve it by `{name}()`"
        )
    if is_score and denoises(used) and not denoises(made):
        return f"`{used.__name__}` blurs states and asks for the score of the blurred ones. Leave `solver` out"
    if is_eulers(made) == is_eulers(used):
        return ""
    if is_eulers(made):
        return (
            f"it has learned to repair that method's error, which `{used.__name__}` does not make. Solve it by "
            f"`{name}()`, or train it without `solver=`"
        )
    return (
        f"it is the process's own, and `{used.__name__}` adds the error of Euler's method. Leave `solver` out, or take "
        "`diffrax.ShARK()` or another of second order"
    )
