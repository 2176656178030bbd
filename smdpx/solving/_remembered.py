"""Warnings where a trained drift is solved by what it was not trained for.

Steps, times, another solver, no args, states of another shape.
"""

import warnings
from typing import Any

import diffrax as dfx
import jax.tree_util as jtu
import numpy as np

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._score import memories
from ..equation._trained import Trained
from ._solvers import denoises, is_eulers
from ._validate import is_concrete

__all__ = [
    "shapes_of",
    "warn_of_another_resolution",
    "warn_of_another_solver",
    "warn_of_missing_args",
    "warn_of_untrained_steps",
    "warn_of_untrained_times",
]


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


def shapes_of(x: State) -> tuple[tuple[int, ...], ...]:
    """Of one state, array by array; x has its sample axis in front."""
    return tuple(leaf.shape[1:] for leaf in jtu.tree_leaves(x))


def warn_of_another_resolution(equation: AbstractDrift | SDE, x: State, in_training: tuple[Any, ...] = ()) -> None:
    """Warn where a drift takes states of another shape than it was trained on: a step of another grid.

    Args:
        equation: what is solved, or trained.
        x: its states, with their sample axis.
        in_training: drifts that are being trained, which are to learn of these states.
    """
    here = shapes_of(x)
    for drift, trained in memories(equation):
        if trained.shapes in (None, here) or any(drift is learning for learning in in_training):
            continue
        made, got = (", ".join(map(str, shapes)) for shapes in (trained.shapes, here))
        warnings.warn(
            f"`{drift!r}` was trained on states of shape {made}, and these are of shape {got}: its network takes them, "
            "and what it has learned is of the other grid. Train it at this resolution, or bring the states to its "
            "own, as `sx.data.resample` does for periodic fields.",
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
