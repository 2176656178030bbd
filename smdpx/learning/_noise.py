"""The noise that g promises, against that of the data: before the training, at a few steps of the trajectories.

    ξ = (x₁ - Φ(x₀)) / g√Δt,  Φ a step of the physics without noise:  of the variance 1, where the data are theirs

Φ is taken in several ways, since measured data are of no method: by one step of Euler's method, or of a simulator, by
two of half the length, and of rates by Heun's; where a stiff linear part is stated, by exponential steps. Where these
differ by half as much as x₁ does from all of them, the steps are too coarse to tell noise from physics, and nothing is
said. Medians, not means: physics that is off at rare places is no noise.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import map_rows, rows
from ..equation._diffusion import Diffusion
from ..equation._drift import step_drifts
from ..equation._score import Score
from ..solving._default_solver import solver_of
from ..solving._exponential import ExponentialEuler, ExponentialHeun
from ..solving._numbers import as_arrays
from ..solving._terms import over_samples
from ..solving._validate import is_concrete, levels_to_user
from ._nodes import evenly
from ._perturbed import Perturbed
from ._store import StoredPaths
from ._trajectories import AbstractPaths, Trajectories
from .losses._transition import Step
from .losses._transition_loss import over_pairs, process_of

__all__ = ["check_noise", "conditions_of", "warn_of_another_noise"]

_RATIO = 4.0  # of variances: a deviation twice or half of g's
_QUIET = 3.0  # the same, of increments without a look at the physics
_SHARE = 0.25  # of the components, that are off
_STEPS, _FEWEST = 256, 64  # that are looked at
_NUMBERS = 2**22  # in them
_PLACES = 64  # times and conditions at which a function g is asked
_MEDIAN = 0.4549  # of the square of a standard normal


def check_noise(score: Score, paths: AbstractPaths) -> None:
    """Raise where g is known to be zero in every component, at all times and under all conditions of the data."""
    g = score.g
    args = conditions_of(paths) if callable(g.g) else None
    if not is_concrete(g, paths.ts, args):
        return
    if callable(g.g):
        times = np.unique(np.asarray(paths.ts, np.float64))
        counts = [leaf.shape[0] for leaf in jtu.tree_leaves(rows(args))]
        some = evenly(counts[0], _PLACES) if counts else np.zeros(1, int)
        args = map_rows(lambda leaf: leaf[some], args)
        with jax.ensure_compile_time_eval():
            noisy = bool(_anywhere(g, jnp.asarray(times[evenly(len(times), _PLACES)], float), args, len(some)))
    else:
        noisy = any(np.any(np.asarray(leaf) != 0) for leaf in jtu.tree_leaves(g.g))
    if not noisy:
        raise ValueError(
            f"{score!r} has g = 0: without noise there is no score to learn. Give it the noise of the process, or for "
            "a deterministic one that of `sx.Perturbed(paths, g)` or `sx.SplitEuler`; a surrogate of the physics, "
            "without noise, is an `sx.ReverseDrift`."
        )


def conditions_of(paths: AbstractPaths) -> Args:
    """The `args` of all trajectories."""
    paths = paths.paths if isinstance(paths, Perturbed) else paths
    # Of all, where there are such: `samples` has those of a few.
    args = getattr(paths, "args", None)
    return paths.samples()[1] if args is None else args


@eqx.filter_jit
def _anywhere(g: Diffusion, ts: Float[Array, " times"], args: Args, count: int) -> Array:
    def at(t: Array, args: Args) -> Array:
        return jnp.any(jnp.stack([jnp.any(jnp.asarray(leaf) != 0) for leaf in jtu.tree_leaves(g(t, args))]))

    each = over_samples(lambda _, args: jax.vmap(lambda t: at(t, args))(ts), args, jnp.arange(count))
    return jnp.any(each)


def warn_of_another_noise(
    equation: AbstractDrift | SDE, score: Score, paths: AbstractPaths, strides: Sequence[int]
) -> bool:
    """Warn where most steps have a noise of another size than g's; whether it could be looked at.

    Args:
        equation: what is trained; beside the score the physics of the trajectories, which nothing trains.
        score: its score.
        paths: what it is trained on; blurred or fresh ones have the noise that they were given.
        strides: of the windows.
    """
    if not isinstance(paths, Trajectories | StoredPaths):
        return False
    try:
        process_of(equation)
    except TypeError:  # no forward physics: what is left over by it is not known
        return False
    stride = min(strides)
    some = _some(paths.load(most=4 * _NUMBERS) if isinstance(paths, StoredPaths) else paths, stride)
    if some is None:
        return False
    if _as_promised(score.g, some, stride):
        return True
    found = _left_over(as_arrays(equation, None)[0], some.source([stride]), stride, _batch(some))
    by, noisy = np.asarray(found[0], np.float64), np.asarray(found[1])
    ratio = _ratio(by, noisy)
    if ratio is not None:
        warnings.warn(_message(equation, ratio), stacklevel=levels_to_user())
    return True


def _message(equation: AbstractDrift | SDE, ratio: float) -> str:
    return (
        f"The trajectories have {ratio:.3g} times the noise (variance) of the score's g: so much of their steps is "
        f"left over by the physics of `{equation}`. Give `sx.Diffusion` the noise that they were made with"
        + (
            ", or the equation their physics; what a measurement adds is no noise of the process."
            if ratio > 1
            else "; where they have none, `sx.Perturbed(paths, g)` or `sx.SplitEuler` (systems without noise, in the "
            "guides)."
        )
    )


def _some(paths: Trajectories, stride: int) -> Trajectories | None:
    """As many trajectories as a look takes, evenly spread; None where their steps are too few for a variance."""
    times = paths.ts.shape[-1] if paths.lengths is None else int(np.min(paths.lengths))
    steps = (times - 1) // stride
    if len(paths) * steps < _FEWEST:
        return None
    most = max(_NUMBERS // (times * _numbers(paths)), -(-_FEWEST // steps))
    every = len(paths) // min(most, _STEPS)
    return paths[::every] if every > 1 else paths


def _as_promised(g: Diffusion, paths: Trajectories, stride: int) -> bool:
    """Whether the increments alone have g's noise, at a constant g: then the physics, a program, need not be asked.

    Changes of the velocity, in which a drift that changes little is not seen, over what noise makes of them.
    """
    if not isinstance(g.g, int | float) or paths.lengths is not None or paths.ts.shape[-1] < 2 * stride + 1:
        return False
    steps = np.diff(np.asarray(paths.ts, np.float64)[..., ::stride])
    power = float(g.g) ** 2 * (1 / steps[..., 1:] + 1 / steps[..., :-1])
    ratios = []
    for leaf in jtu.tree_leaves(paths.x):
        x = np.asarray(leaf)[:, ::stride].reshape(len(paths), 1 + steps.shape[-1], -1)
        x = x[:, :, :: max(1, x.shape[2] // _STEPS)]
        changes = np.diff(np.diff(x, axis=1) / steps[..., None], axis=1)
        ratios.append(np.mean(np.square(changes) / power[..., None], axis=(0, 1)))
    found = np.concatenate(ratios)
    return bool(np.mean((found < 1 / _QUIET) | (found > _QUIET)) < _SHARE)


def _batch(paths: Trajectories) -> int:
    return int(np.clip(_NUMBERS // _numbers(paths), _FEWEST, _STEPS))


def _numbers(paths: Trajectories) -> int:
    return sum(int(np.prod(leaf.shape[2:])) for leaf in jtu.tree_leaves(paths.x))


@eqx.filter_jit
def _left_over(equation: Any, source: Any, stride: int, batch: int) -> tuple[Array, Array]:
    """ξ of a batch of steps in each way, (ways, batch, components), and which components have noise."""
    windows, args = source.draw(size=2, stride=stride, batch=batch, key=jr.key(0))
    process, steps = process_of(equation), step_drifts(equation)
    uniform = isinstance(g := process.diffusion.g, jax.Array) and g.ndim == 0  # the same in any basis
    stiff = uniform and isinstance(solver_of(process, None), ExponentialHeun)
    solver, second = (ExponentialEuler(), ExponentialHeun()) if stiff else (dfx.Euler(), dfx.Heun())

    def of_pair(step: Step, x1: State, key: Key) -> Any:
        still = jtu.tree_map(jnp.zeros_like, step.x1)
        halves = [] if any(drift.dt is not None for drift in steps) else [_by_halves(step, still)]
        ways = [step, *halves, *([] if steps else [dataclasses.replace(step, solver=second)])]
        return [way.left(still) for way in ways], step.noisy()

    by, noisy = over_pairs(of_pair, process, solver, windows, jr.key(0), args)

    def flat(x: State) -> Array:
        parts = [leaf.reshape(batch, -1).astype(jnp.float32) for leaf in jtu.tree_leaves(x)]
        joined = jnp.concatenate(parts, axis=1)
        return joined[:, :: max(1, joined.shape[1] // 4096)]

    return jnp.stack([flat(x) for x in by]), flat(noisy)


def _by_halves(step: Step, still: State) -> Step:
    """A step whose end is further from x₁ by what two steps of half the length differ from one."""
    first = dataclasses.replace(step, dt=step.dt / 2)
    second = dataclasses.replace(first, t=step.t + first.dt, x0=first.end(still))
    x1 = jtu.tree_map(lambda x1, one, two: x1 + one - two, step.x1, step.end(still), second.end(still))
    return dataclasses.replace(step, x1=x1)


def _ratio(by: np.ndarray, noisy: np.ndarray) -> float | None:
    """The variance of the noise over that of g, where too many components are off; None where they are not."""
    steps = (noisy > 0).any(axis=1)  # g may vanish at a start
    by = by[:, steps][:, :, (noisy[steps] > 0).all(axis=0)]
    if not by.size:
        return None
    power = np.median(np.square(by), axis=1) / _MEDIAN  # (ways, components)
    apart = np.square(by - by[:1]).mean(axis=1).max(axis=0)
    with np.errstate(invalid="ignore"):
        # Of a step of one length alone the error is not known, and may be all that is found.
        more = (power.min(axis=0) > _RATIO * (1 + apart)) & (len(by) > 1)
        less = power.max(axis=0) + _RATIO * apart < 1 / _RATIO
    wrong = next((off for off in (more, less) if off.mean() >= _SHARE), None)
    return None if wrong is None else float(np.median(power.min(axis=0)[wrong]))
