"""What is measured: errors at the start, all along the way back, and what the spread of samples is worth."""

from collections.abc import Iterator
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from spread import spread

import smdpx as sx

from .presets import NOISE, Preset
from .train import Learned, g, solver_step


def equations(size: Preset, learned: Learned) -> Iterator[tuple[str, str, Any, Any]]:
    """Physics, inference, equation and solver of each row."""
    R, s, (R2, s2) = learned.R, learned.s, learned.both
    yield "surrogate", "no score", R, None
    kinds = {"surrogate, then score": (R, s), "both at once": (R2, s2)}
    if learned.known is not None:
        P = solver_step(size)
        yield "the solver itself", "no score", -P, None
        kinds["the solver itself"] = (-P, learned.known)
    for physics, (drift, score) in kinds.items():
        yield physics, "flow", drift + score, None
        yield physics, "noise-free", drift + 2 * score, None
        yield physics, "SDE", drift + 2 * score + g, None
    yield "surrogate, then score", "flow with noise", R + s + g, None
    yield "surrogate, then score", "split steps", R + 2 * learned.split + g, sx.SplitEuler()


def figures(x: Any, x0: Any) -> dict[str, float]:
    """Errors of one answer a case; relative to the truth's size."""
    x, x0 = np.asarray(x), np.asarray(x0)
    mse = float(np.mean((x - x0) ** 2))
    return {
        "MSE": mse,
        "relative error": float(np.sqrt(mse / np.mean(x0**2))),
        "spectral error": float(sx.metrics.spectral_error(x, x0, largest=min(10, x.shape[-1] // 2))),
    }


def of_seed(size: Preset, learned: Learned, held: sx.Trajectories, key: jax.Array) -> tuple[list[Any], dict[Any, Any]]:
    """The rows of one seed, and one answer to each case by each method, (cases, times, n, n), times falling."""
    rows, answers = [], {}
    for i, (physics, inference, equation, solver) in enumerate(equations(size, learned)):
        noise = jr.fold_in(key, i) if isinstance(equation, sx.SDE) else None
        x = answers[physics, inference] = backwards(equation, solver, held, noise)
        row = {"physics": physics, "inference": inference, **figures(x[:, -1], held.start)}
        # Twenty steps of the solver for each frame, case and draw would take longer than all trainings.
        if isinstance(equation, sx.SDE) and physics != "the solver itself":
            # One draw of all cases after the other: more states at once no longer fit the cache.
            keys = jr.split(jr.fold_in(key, 100 + i), size.draws)
            row |= spread(np.stack([backwards(equation, solver, held, k)[:, -1] for k in keys]), held.start)
        rows.append(row)
    kind, x = ("surrogate, then score", "SDE, then Langevin"), answers["surrogate, then score", "SDE"]
    refined = _refined(learned, x[:, -1], jr.fold_in(key, 200))
    answers[kind] = np.concatenate([x[:, :-1], refined[:, None]], axis=1)
    rows.append({"physics": kind[0], "inference": kind[1], **figures(refined, held.start)})
    return rows, answers


def backwards(equation: Any, solver: Any, held: sx.Trajectories, key: Any) -> np.ndarray:
    """One answer to each case, (cases, times, n, n), times falling."""
    # `solve` and not `posterior`, which rightly says that a flow with noise is none.
    return np.asarray(sx.solve(equation, held.end, np.asarray(held.ts)[::-1], solver=solver or dfx.Euler(), key=key))


def _refined(learned: Learned, x: np.ndarray, key: jax.Array) -> np.ndarray:
    """Langevin steps at t = 0 (appendix F): towards what starts look like, whatever end they are to lead to."""
    step = 0.1 * float(g(0.0)) ** 2
    return np.asarray(sx.langevin(learned.s, jnp.asarray(x), 0.0, step=step, steps=20, key=key))


def classical(size: Preset, paths: sx.Trajectories, held: sx.Trajectories, key: jax.Array) -> dict[str, Any]:
    """The row of the ensemble Kalman smoother, which needs no training."""
    draws = np.asarray(sx.ensemble_smoother(paths.start, paths.end, held.end, size.draws, key=key, noise=NOISE))
    row = {"physics": "ensemble Kalman smoother", "inference": "a sample"}
    return row | figures(draws[0], held.start) | spread(draws, held.start)
