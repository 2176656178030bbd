"""What is measured: how well answers explain the end state, how far they are from the truth, what their spread says."""

import time
from collections.abc import Iterator
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from spread import spread

import smdpx as sx

from .baselines import diffusion_model, dps, lbfgs
from .presets import MIDDLE, Preset
from .train import Learned, physics

_FEWEST = 19  # draws that have a 90 % interval
_SMOKE = 0.1  # of a marker that flows in as 1: in cells with less there is none


def equations(size: Preset, learned: Learned, g: sx.Diffusion) -> Iterator[tuple[str, str, Any, Any]]:
    """What is used, inference, equation and solver of each row."""
    P, euler, split = physics(size), dfx.Euler(), sx.SplitEuler()
    one, two = jnp.asarray(1.0), jnp.asarray(2.0)  # arrays: flow and noise-free drift are one compiled program
    yield "reverse physics only", "`-P`", -P, euler
    yield "score only", "`2*s`", 2 * learned.only, euler
    for name, s, solver in (("joint", learned.joint, euler), ("split", learned.split, split)):
        yield name, "flow, `-P + s`", -P + one * s, solver
        yield name, "noise-free, `-P + 2*s`", -P + two * s, solver
        yield name, "SDE, `-P + 2*s + g`", -P + 2 * s + g, solver
    yield "joint", "flow with noise, `-P + s + g`", -P + learned.joint + g, euler


def at(x: Any, frame: int) -> Any:
    """The states (cases, ...) of one frame."""
    return jtu.tree_map(lambda leaf: leaf[:, frame], x)


def figures(size: Preset, x: Any, held: sx.Trajectories, frame: int, weights: Any = None) -> dict[str, float]:
    """Of answers (cases, ...) at one frame: what is simulated from them against x_T, and they against the truth.

    Answers so fast that they cross the box in a step are no numbers; they are counted, and all else is of the others.
    """
    good = _finite(x)
    exploded: dict[str, float] = {} if good.all() else {"exploded": float(np.sum(~good))}
    if not good.any():
        return exploded
    x, held = jtu.tree_map(lambda leaf: np.asarray(leaf)[good], x), held[good]
    later = np.asarray(held.ts)[frame:]
    end = at(sx.solve(physics(size), x, later, args=held.args), -1)
    truth = at(held.x, frame)
    misfits = jtu.tree_map(lambda a, b: float(np.mean((np.asarray(a) - np.asarray(b)) ** 2)), end, held.end)
    marker, smoke = np.asarray(x.marker), np.asarray(truth.marker)
    pictures = {"1 - MS-SSIM": 1 - sx.metrics.ms_ssim(marker, smoke)}
    if weights is not None:
        pictures["LPIPS"] = sx.metrics.lpips(marker, smoke, weights)
    return exploded | {
        "reconstruction MSE": sum(misfits),
        "error of the marker": float(np.sqrt(np.mean((marker - smoke) ** 2) / np.mean(smoke**2))),
        "error of the velocity": _relative((x.u, x.v), (truth.u, truth.v)),
        **{name: float(np.mean(distance)) for name, distance in pictures.items()},
    }


def _finite(x: Any) -> np.ndarray:
    """Which cases, (cases, ...), are finite numbers."""
    parts = [np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in map(np.asarray, jtu.tree_leaves(x))]
    return np.logical_and.reduce(parts)


def _relative(x: Any, truth: Any) -> float:
    off = sum(np.sum((np.asarray(a) - np.asarray(b)) ** 2) for a, b in zip(x, truth, strict=True))
    return float(np.sqrt(off / sum(np.sum(np.asarray(b) ** 2) for b in truth)))


def of_seed(
    size: Preset, learned: Learned, g: sx.Diffusion, held: sx.Trajectories, key: jax.Array, weights: Any = None
) -> tuple[list[Any], dict[Any, Any], dict[str, np.ndarray]]:
    """The rows of one seed, one answer to each case by each method, and draws of the marker at t = .35."""
    rows, answers, samples = [], {}, {}
    for i, (name, inference, equation, solver) in enumerate(equations(size, learned, g)):
        noise = jr.fold_in(key, i) if isinstance(equation, sx.SDE) else None
        x = answers[name, inference] = backwards(equation, solver, held, noise)
        for frame in (MIDDLE, 0):
            row = {"uses": name, "inference": inference, "t": _time(held, frame)}
            rows.append(row | figures(size, at(x, frame), held, frame, weights))
        if noise is not None:
            draws, rows[-2]["CPU s a sample"] = _draws(size, equation, solver, held, jr.fold_in(key, 100 + i))
            if len(draws) < size.draws:
                rows[-2]["draws lost"] = float(size.draws - len(draws))
            if len(draws) >= _FEWEST:
                rows[-2] |= _worth(draws, np.asarray(at(held.x, MIDDLE).marker))
                samples[name, inference] = draws
    return rows, answers, samples


def _draws(size: Preset, equation: Any, solver: Any, held: sx.Trajectories, key: jax.Array) -> tuple[np.ndarray, float]:
    """The marker at t = .35 of those draws that are finite in all cases, and the CPU seconds of a sample."""
    keys = jr.split(key, size.draws)

    def draw(key: jax.Array) -> np.ndarray:
        return at(backwards(equation, solver, held, key, MIDDLE), 0).marker

    first, began = draw(keys[0]), time.process_time()  # compilation, which is the first's, is not counted
    draws = [first, *map(draw, keys[1:])]
    seconds = (time.process_time() - began) / ((size.draws - 1) * len(held))
    x = np.stack(draws)
    return x[_finite(x)], seconds


def _worth(draws: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """What the spread says of the error: over all cells, and over those where the draws' mean says there is smoke.

    Cells chosen by the truth would be those that even a right posterior has too little smoke in.
    """
    smoke = draws.mean(axis=0) > _SMOKE
    inside = {f"{name}, in smoke": value for name, value in spread(draws[:, smoke], truth[smoke]).items()}
    ranks = {"ranks": _ranks(draws, truth), "ranks, in smoke": _ranks(draws[:, smoke], truth[smoke])}
    return spread(draws, truth) | inside | ranks


def _ranks(draws: np.ndarray, truth: np.ndarray) -> list[float]:
    """The histogram of the truth's ranks among the draws, cell by cell; 1 everywhere if calibrated."""
    return np.asarray(sx.metrics.rank_histogram(sx.metrics.sbc_ranks(draws, truth), len(draws))).tolist()


def _time(held: sx.Trajectories, frame: int) -> float:
    return round(float(held.ts[frame]), 2)


def backwards(equation: Any, solver: Any, held: sx.Trajectories, key: Any, until: int = 0) -> Any:
    """One answer to each case down to a frame, (cases, times, ...), times rising."""
    x = sx.solve(equation, held.end, np.asarray(held.ts)[until:][::-1], args=held.args, solver=solver, key=key)
    return jtu.tree_map(lambda leaf: np.asarray(leaf)[:, ::-1], x)


def baselines(
    size: Preset, paths: sx.Trajectories, held: sx.Trajectories, key: jax.Array, weights: Any = None
) -> Iterator[Any]:
    """The rows of L-BFGS and of diffusion posterior sampling, and their answers."""
    k, began = jr.split(key), time.process_time()
    x = jax.block_until_ready(lbfgs(size, held.end, held.args.value))
    yield _row(size, "simulator's gradient", "L-BFGS, 10 × 4 steps", x, held, began, weights), x
    s, ts = diffusion_model(size, paths, k[0])
    began = time.process_time()
    x = jax.block_until_ready(dps(size, s, ts, held.end, held.args.value, k[1]))
    yield _row(size, "denoiser, gradient", f"DPS, {size.levels} steps", x, held, began, weights), x


def _row(
    size: Preset, uses: str, inference: str, x: Any, held: sx.Trajectories, began: float, weights: Any
) -> dict[str, Any]:
    spent = (time.process_time() - began) / len(held)
    row = {"seed": None, "uses": uses, "inference": inference, "t": _time(held, MIDDLE), "CPU s a sample": spent}
    return row | figures(size, x, held, MIDDLE, weights)
