"""The finite-volume scheme behind `FokkerPlanck1D`: NumPy on the host, in double precision.

Solves ∂q/∂t = -∂J/∂z, J = b q - (D/s²) ∂q/∂z, on |z| ≤ 10 for all components at once. The flux
between two cells is Scharfetter and Gummel's, exact for constant b (Chang and Cooper's, in plasma
physics):

    J = (D/(s² h)) [B(-P) q_left - B(P) q_right],    P = b h s²/D,    B(P) = P/(eᴾ - 1).

Time stepping is TR-BDF2 (Bank et al. 1985): second order and L-stable.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.linalg import solve_banded

REACH = 10.0
"""The grid's half-width, in standard deviations."""

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A frame (m, log s) of every component, or its velocity: shape (k,) each."""

Rate: TypeAlias = Callable[[float, np.ndarray], np.ndarray]

_GAMMA = 2 - np.sqrt(2)  # makes both stages of TR-BDF2 share one implicit coefficient
_FIRST_TIME = 1e-6
_TRUSTED = 1e-10
_FIT_WIDTH = 0.6


class Problem(NamedTuple):
    """The equation and the grid that every step uses.

    Attributes:
        rate: f(t, x), for arrays x.
        diffusivity: D(t) = ½ g(t)².
        z: the cells' centres, shape (nodes,).
    """

    rate: Rate
    diffusivity: Callable[[float], float]
    z: np.ndarray


class _Moments(NamedTuple):
    """What a step needs to know of q, per component, shape (k,) each."""

    z_mean: np.ndarray
    z_variance: np.ndarray
    mean_velocity: np.ndarray
    log_scale_velocity: np.ndarray
    linear: np.ndarray
    rest: np.ndarray


def march(problem: Problem, start: Pair, T: float, substeps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve from a Gaussian mixture, (means, variances), at t = 0 to T.

    Returns:
        The times, shape (steps,); the frames (m, log s, m', (log s)'), shape (steps, k, 4), where
        the velocities are the density's own; the densities q, shape (steps, k, nodes).
    """
    rate, diffusivity, z = problem
    t = _FIRST_TIME * T
    # Over so short a time the drift is a constant and the density a Gaussian: the point mass is
    # gone.
    mean = start[0] + t * rate(t, start[0])
    log_scale = 0.5 * np.log(start[1] + 2 * diffusivity(0.0) * t)
    q = np.repeat(np.exp(-0.5 * z**2)[None], mean.size, axis=0)
    q /= q.sum(axis=1, keepdims=True) * (z[1] - z[0])
    times, frames, densities = [], [], []
    while True:
        moments = _measure(problem, t, (mean, log_scale), q)
        velocities = moments.mean_velocity, moments.log_scale_velocity
        times.append(t)
        frames.append(np.stack([mean, log_scale, *velocities], -1))
        densities.append(q)
        if t >= T:
            return np.array(times), np.array(frames), np.array(densities)
        left = T - t
        dt = min(_step_size(diffusivity(t), np.exp(log_scale), moments), T / 100) / substeps
        # Two equal steps at the end instead of a sliver.
        dt = left if dt >= left else min(dt, 0.5 * left)
        path = _frame_path(problem, t, dt, (mean, log_scale), q, moments)
        q = _tr_bdf2(problem, t, dt, path, q)
        mean, log_scale = path(1.0)[0]
        t = T if dt == left else t + dt


def _measure(problem: Problem, t: float, frame: Pair, q: np.ndarray) -> _Moments:
    z = problem.z
    mean, scale = frame[0], np.exp(frame[1])
    f = _finite_rate(problem.rate, t, mean, scale, z)
    p = q / q.sum(axis=1, keepdims=True)
    z_mean = p @ z
    centred = z[None] - z_mean[:, None]
    variance = (p * centred**2).sum(axis=1)
    f_mean = (p * f).sum(axis=1)
    slope = (p * centred * f).sum(axis=1) / variance
    rest = f - f_mean[:, None] - slope[:, None] * centred
    spreading = problem.diffusivity(t) / (scale**2 * variance)
    return _Moments(
        z_mean,
        variance,
        f_mean,
        slope / scale + spreading,
        slope / scale,
        np.sqrt((p * rest**2).sum(axis=1)) / scale,
    )


def _finite_rate(rate: Rate, t: float, mean: np.ndarray, scale: np.ndarray, z: np.ndarray) -> np.ndarray:
    x = mean[:, None] + scale[:, None] * z[None]
    f = rate(t, x)
    if not np.all(np.isfinite(f)):
        raise ValueError(
            f"`drift` should be finite within {REACH:g} standard deviations of each component, "
            f"got a non-finite rate at t = {t:.4g}, x = {x[~np.isfinite(f)][0]:.4g}; "
            "clip its argument or shorten `T`."
        )
    return f


def _step_size(D: float, scale: np.ndarray, moments: _Moments) -> float:
    """The step that follows the spreading, the linear part of the drift, and what is left of it."""
    # As the linear part balances the spreading the density hardly changes: only their difference
    # has to be small...
    changing = np.max(np.abs(moments.linear + D / scale**2) + moments.rest) / 0.03
    # ... but the mean still moves, on a path that is a parabola within a step.
    curving = np.max(np.abs(moments.linear)) / 0.05
    return 1 / max(changing, curving, 1e-300)


def _frame_path(
    problem: Problem, t: float, dt: float, frame: Pair, q: np.ndarray, moments: _Moments
) -> Callable[[float], tuple[Pair, Pair]]:
    """The frame and its velocity at a part in [0, 1] of one step, by Heun's rule on the moments.

    Any frame is right, since the equation is solved in it exactly; a good one keeps q near mean 0
    and variance 1, and leaves the time stepping little to do (a straight path doubles the mean's
    error).
    """
    first = np.stack([moments.mean_velocity, moments.log_scale_velocity])
    predicted = np.stack(frame) + dt * first
    later = _measure(problem, t + dt, (predicted[0], predicted[1]), q)
    last = np.stack([later.mean_velocity, later.log_scale_velocity])
    # Bring a frame that has strayed back over about ten steps.
    stray = np.stack([np.exp(frame[1]) * moments.z_mean, 0.5 * np.log(moments.z_variance)])
    first, last = first + 0.1 * stray / dt, last + 0.1 * stray / dt

    def path(part: float) -> tuple[Pair, Pair]:
        mean, log_scale = np.stack(frame) + dt * part * (first + 0.5 * part * (last - first))
        mean_velocity, log_scale_velocity = first + part * (last - first)
        return (mean, log_scale), (mean_velocity, log_scale_velocity)

    return path


def _tr_bdf2(
    problem: Problem,
    t: float,
    dt: float,
    path: Callable[[float], tuple[Pair, Pair]],
    q: np.ndarray,
) -> np.ndarray:
    def operator(part: float) -> np.ndarray:
        return _flux_matrix(problem, t + part * dt, *path(part))

    half = 0.5 * _GAMMA * dt
    middle = _implicit(operator(_GAMMA), half, q + half * _apply(operator(0.0), q))
    blend = (middle - (1 - _GAMMA) ** 2 * q) / (_GAMMA * (2 - _GAMMA))
    return _implicit(operator(1.0), half, blend)


def _flux_matrix(problem: Problem, t: float, frame: Pair, velocity: Pair) -> np.ndarray:
    """The bands (upper, diagonal, lower) of -∂J/∂z with J = 0 at both ends, shape (3, k, nodes)."""
    z = problem.z
    h = z[1] - z[0]
    faces = 0.5 * (z[1:] + z[:-1])
    mean, scale = frame[0], np.exp(frame[1])
    f = _finite_rate(problem.rate, t, mean, scale, faces)
    b = (f - velocity[0][:, None]) / scale[:, None] - velocity[1][:, None] * faces[None]
    diffusion = (problem.diffusivity(t) / scale**2)[:, None]
    peclet = b * h / diffusion
    to_right = diffusion / h**2 * _bernoulli(-peclet)
    to_left = diffusion / h**2 * _bernoulli(peclet)
    bands = np.zeros((3, mean.size, z.size))
    # solve_banded's layout: the upper band is shifted right, the lower one left.
    bands[0, :, 1:], bands[2, :, :-1] = to_left, to_right
    bands[1, :, :-1] -= to_right
    bands[1, :, 1:] -= to_left
    return bands


def _bernoulli(P: np.ndarray) -> np.ndarray:
    P = np.clip(P, -600, 600)
    small = np.abs(P) < 1e-8
    return np.where(small, 1 - 0.5 * P, P / np.expm1(np.where(small, 1, P)))


def _apply(bands: np.ndarray, q: np.ndarray) -> np.ndarray:
    result = bands[1] * q
    result[:, :-1] += bands[0, :, 1:] * q[:, 1:]
    result[:, 1:] += bands[2, :, :-1] * q[:, :-1]
    return result


def _implicit(bands: np.ndarray, dt: float, right: np.ndarray) -> np.ndarray:
    # The components' matrices do not touch, so they are one long banded matrix.
    matrix = (-dt * bands).reshape(3, -1)
    matrix[1] += 1
    return solve_banded((1, 1), matrix, right.reshape(-1)).reshape(right.shape)


def tabulate(densities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn densities into (log q, its slope) on the grid, and log q's curvature beyond both ends.

    Below 1e-10 of the maximum the scheme's numbers are round-off. A gap between two modes is
    bridged linearly; the tails are the parabola that continues the last 0.6 standard deviations,
    bent downward at least a little.

    Returns:
        Shape (steps, k, nodes, 2) and (steps, k, 2).
    """
    nodes = densities.shape[-1]
    h = 2 * REACH / (nodes - 1)
    width = max(4, int(_FIT_WIDTH / h))
    fit = np.linalg.pinv(np.vander(h * np.arange(width), 3))
    index = np.arange(nodes)
    rows = densities.reshape(-1, nodes)
    logs: np.ndarray = np.empty(rows.shape)
    edges = np.empty((len(rows), 2))
    for row, q in enumerate(rows):
        trusted = q > _TRUSTED * q.max()
        log_q = np.interp(index, index[trusted], np.log(q[trusted]))
        first, last = int(index[trusted][0]), int(index[trusted][-1])
        edges[row, 0] = _extend(log_q[::-1], nodes - 1 - first, width, h, fit)
        edges[row, 1] = _extend(log_q, last, width, h, fit)
        logs[row] = log_q
    slopes = np.gradient(logs, h, axis=1, edge_order=2)
    # Fourth order inside: the slope is the score.
    inner = 8 * (logs[:, 3:-1] - logs[:, 1:-3]) - (logs[:, 4:] - logs[:, :-4])
    slopes[:, 2:-2] = inner / (12 * h)
    table = np.stack([logs, slopes], -1).reshape(*densities.shape, 2)
    return table, edges.reshape(*densities.shape[:-1], 2)


def _extend(log_q: np.ndarray, end: int, width: int, h: float, fit: np.ndarray) -> float:
    """Continue log q, in place, to the right of index `end`; gives the curvature used."""
    first = max(end - width + 1, 0)
    known = log_q[first : end + 1]
    half_curvature, slope, _ = fit[:, : known.size] @ known if known.size == width else (-0.5, 0.0, 0.0)
    slope += 2 * half_curvature * h * (known.size - 1)
    curvature = min(2 * half_curvature, -0.02)
    slope = min(slope, 0.0)
    away = h * np.arange(1, log_q.size - end)
    log_q[end + 1 :] = log_q[end] + away * (slope + 0.5 * curvature * away)
    return curvature
