"""Starts whose spread the last step of a solve backwards gets wrong: narrower than its noise, or gone within it.

Backwards, the score of a start with variance v damps at the rate g²/v, and a step should be short beside v/g². With the
exact score of a Gaussian start, Heun's draws have .96, .85 and .53 of the exact deviation where the last step has
g²Δt/v = .5, 1 and 2; with 8 they have eight times too much.

A start that is wider than what noise and decay balance to, and falls to that within a step, is forgotten there: its
spread has to come back within the one step. With the exact Gaussian score exponential steps give 1.0, 1.3, 2.2 and 2600
times its variance where that falls to a half, a quarter, a fourteenth and a fiftieth within the first step.

Steps that are finer at the start mend both.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Args, State
from ..equation._conditions import first_row
from ..equation._diffusion import Diffusion
from ..solving._validate import is_concrete, levels_to_user, widest
from ._moments import Moments
from ._store import StoredPaths
from ._trajectories import Trajectories
from ._worst import worst_of

__all__ = ["warn_of_a_narrow_start", "warn_of_a_wide_start"]

_MOST = 0.5  # of g²Δt/v: a deviation off by a twentieth
_LEAST = 1 / 3  # of the start's variance after a step


def warn_of_a_narrow_start(paths: Trajectories | StoredPaths, g: Diffusion) -> None:
    """Warn of components whose start has a variance, but one that a single step's noise is not small beside."""
    ts = np.asarray(paths.ts, np.float64).reshape(-1, np.shape(paths.ts)[-1])
    step = float((ts[:, 1] - ts[:, 0]).max())
    starts = paths.start
    if not is_concrete(starts):  # under the user's jit, of known states
        with jax.ensure_compile_time_eval():
            starts = paths.start
    starts = jtu.tree_map(np.asarray, starts)
    with jax.ensure_compile_time_eval():
        noises = _noises(g, ts[0, 0], jtu.tree_map(lambda leaf: leaf[0], starts), paths.args)
    for x, noise in zip(jtu.tree_leaves(starts), jtu.tree_leaves(noises), strict=True):
        start, kick = (
            np.asarray(x, np.result_type(x.dtype, np.float64)),
            np.square(np.asarray(noise, np.float64)) * step,
        )
        variance = np.atleast_1d(start.var(axis=0))
        # One point has no spread to be found; what rounding leaves of it is none either.
        rounding = np.square(16 * float(jnp.finfo(x.dtype).eps)) * np.mean(np.square(np.abs(start)), axis=0)
        ratio = np.where(variance > rounding, kick / np.where(variance > rounding, variance, 1), 0)
        if ratio.max() <= _MOST:
            continue
        worst, name = worst_of(ratio)
        place = f" in component {name}" if x.ndim > 1 else ""
        warnings.warn(
            f"`paths` start narrower than a step's noise{place}: their deviation is {variance[worst] ** 0.5:.3g}, and "
            f"the first step of {step:.3g} adds noise of {(ratio[worst] * variance[worst]) ** 0.5:.3g}. On steps so "
            "long explicit solvers give draws the wrong spread, by the exact score too. Take times that are finer at "
            f"the start, with a first step of {_MOST * step / ratio[worst]:.2g} or less, such as "
            "`t0 + (t1 - t0) * np.linspace(0, 1, n) ** 2`.",
            stacklevel=4,
        )


def warn_of_a_wide_start(table: Moments, ts: Any) -> None:
    """Warn of components or modes whose variance falls by a large factor within the first step.

    Args:
        table: the moments of trajectories. Where its nodes are farther apart than steps, nothing changes much in one.
        ts: the trajectories' times.
    """
    if not is_concrete(table):
        return
    first, second = np.asarray(ts).reshape(-1, np.shape(ts)[-1])[0, :2]
    if abs(float(table.times[1]) - second) >= 1e-3 * (second - first):
        return
    step = float(second - first)
    start, after = (np.asarray(table.variance[m], np.float64) for m in (0, 1))
    left = np.where(start > 0, after / np.where(start > 0, start, 1), 1)
    if left.min() >= _LEAST:
        return
    worst, name = worst_of(-left)
    place = f" of component or mode {name}" if left.size > 1 else ""
    shorter = step * np.log(2) / -np.log(left[worst])
    warnings.warn(
        f"`paths` start wider than they stay: the variance{place} falls to {left[worst]:.2g} of what it was within the "
        f"first step of {step:.3g} ({int((left < _LEAST).sum())} of {left.size}). Backwards a step so long has to make "
        "all of it, and draws of the start get a wrong spread, whatever is learned. Take times that are finer at the "
        f"start, with a first step of {shorter:.2g} or less, such as `t0 + (t1 - t0) * np.linspace(0, 1, n) ** 2`.",
        stacklevel=levels_to_user(),
    )


def _noises(g: Diffusion, t: float, one: State, args: Args) -> State:
    """The noise at one state: of a plain number without a program, else by a single one."""
    if isinstance(g.g, int | float):
        return jtu.tree_map(lambda leaf: np.full(leaf.shape, g.g), one)
    like = eqx.filter_jit(lambda g, t, one, args: g.like(t, one, args))
    return like(g, jnp.asarray(t, widest(one)), jtu.tree_map(jnp.asarray, one), first_row(args))
