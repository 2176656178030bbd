"""Recipes for data of turbulence: what to solve, and how finely; the numbers make themselves.

start    √variance · Gaussian field of power (|k|² + (τ/2π)²)^(-α), α = 5/2, τ = 7      (Li et al. 2021)
solve    n_solve² points, steps of at most dt
keep     the frames at ts, their Fourier series cut to n² points
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._types import Key, RealScalarLike
from ..data._fields import gaussian_random_fields
from ..data._resample import resample
from ..equation._conditions import PerSample
from ..learning._trajectories import Trajectories
from ..solving._validate import is_concrete
from ._turbulence import Turbulence

# What an accelerator solves at once. On a CPU one after the other stays in a core's cache.
_AT_ONCE = 64


class TurbulenceRuns(eqx.Module):
    """A recipe for trajectories of two-dimensional turbulence: called with a key and a count, it makes them.

    The default is the data of Li et al. 2021 (arXiv:2010.08895, §5.3) and of arXiv:2301.10250, §4.4: vorticity on the
    unit torus from t = 0 to 10, solved on 128² points with steps of .025, kept on 64². Its fields are numbers and
    strings, all that decides the data beside the key.

    Args:
        n: points a side that are kept, even, a divisor of n_solve.
        n_solve: points a side that are solved on, even.
        ts: the frames' times, evenly spaced; the start is at t = 0, and what lies before ts[0] is not kept.
        dt: the solver's longest step; all steps between two frames are equal. dt ≤ 1.8 L/(n_solve max(|u| + |v|)).
        viscosity: ν > 0, one for all; or two numbers between which each trajectory draws its own, evenly in log ν: the
            condition "viscosity".
        std: the start's pointwise standard deviation, > 0. Three are in use: .0430 by the text of Li et al., .1852 by
            their generator as it is today (the default), .2620 as it was in 2020.
        flow: "isotropic", `Turbulence` as it is by default; or "kolmogorov", `Turbulence.kolmogorov` on [0, 2π]², which
            forgets its start (of std 1, say) in some 20 time units and then varies by 3 to 4: begin ts there.

    Raises:
        ValueError: numbers out of range, sizes that do not fit, times that are not even; or, when called, steps that
            are unstable: the rule, and the dt that would do.

    >>> import jax, smdpx as sx
    >>> recipe = sx.physics.TurbulenceRuns(n=8, n_solve=16, ts=(0.0, 0.5, 1.0), dt=0.1)
    >>> paths = recipe(jax.random.key(0), 3)
    >>> paths.x.shape
    (3, 3, 8, 8)
    """

    n: int = eqx.field(static=True, default=64)
    n_solve: int = eqx.field(static=True, default=128)
    ts: tuple[float, ...] = eqx.field(
        static=True, default=tuple(map(float, range(11))), converter=lambda ts: tuple(map(float, ts))
    )
    dt: float = eqx.field(static=True, default=0.025)
    viscosity: float | tuple[float, float] = eqx.field(
        static=True, default=1e-5, converter=lambda value: tuple(value) if isinstance(value, list) else value
    )
    std: float = eqx.field(static=True, default=0.1852)
    flow: Literal["isotropic", "kolmogorov"] = eqx.field(static=True, default="isotropic")

    def __check_init__(self) -> None:
        if self.flow not in ("isotropic", "kolmogorov"):
            raise ValueError(f'`TurbulenceRuns`: `flow` is "isotropic" or "kolmogorov"; got {self.flow!r}.')
        if self.n < 4 or self.n % 2 or self.n_solve < self.n or self.n_solve % self.n:
            raise ValueError(
                "`TurbulenceRuns` solves on an even number of points a side and keeps an even divisor of it, at least "
                f"4; got n_solve = {self.n_solve} and n = {self.n}: such as n_solve=128, n=64."
            )
        steps = np.diff(self.ts)
        if len(self.ts) < 2 or self.ts[0] < 0 or not (steps > 0).all() or np.ptp(steps) > 1e-6 * steps[0]:
            raise ValueError(
                "`TurbulenceRuns`: `ts` holds at least two times ≥ 0, increasing by equal steps; got "
                f"{self.ts[:6]}{'...' if len(self.ts) > 6 else ''}: such as `ts=tuple(range(11))`."
            )
        for name, value in (("dt", self.dt), ("std", self.std)):
            if not 0 < value < float("inf"):
                raise ValueError(f"`TurbulenceRuns`: `{name}` must be > 0; got {value}.")
        ends = self._viscosities()
        if len(ends) != 2 or not 0 < ends[0] <= ends[1] < float("inf"):
            raise ValueError(
                f"`TurbulenceRuns`: `viscosity` is one number > 0, or a lower and an upper one; got {self.viscosity}."
            )

    def __call__(self, key: Key, count: int) -> Trajectories:
        """Trajectories by this recipe; the same key and count give the same.

        Args:
            key: a JAX key.
            count: how many, at least 1.

        Returns:
            `Trajectories`: vorticities of shape (count, times, n, n) at `ts`; where trajectories have a viscosity each,
            `args={"viscosity": PerSample(...)}`.

        Raises:
            ValueError: steps that are unstable, looked for in the starts and in all frames.
        """
        if count < 1:
            raise ValueError(f"`TurbulenceRuns`: `count` must be at least 1; got {count}.")
        key_start, key_viscosity = jr.split(key)
        low, high = self._viscosities()
        logs = jr.uniform(key_viscosity, (count,), float, math.log(low), math.log(high))
        viscosities = jnp.full(count, low, float) if low == high else jnp.exp(logs)
        starts = self.std * gaussian_random_fields(count, self.n_solve, 5, 7 / (2 * np.pi), key=key_start)
        solved = _on_all_cores if jax.default_backend() == "cpu" and is_concrete(starts) else _solved
        x, limits = solved(self, starts, viscosities)
        if is_concrete(x):
            self._check_stable(np.asarray(limits), np.isfinite(np.asarray(x).sum(axis=(2, 3))))
        return Trajectories(x, self.ts, None if low == high else {"viscosity": PerSample(viscosities)})

    def _flow(self, viscosity: RealScalarLike, time: float) -> Turbulence:
        """The flow whose `step` takes this time, in substeps of at most dt.

        Args:
            viscosity: ν; may be traced.
            time: > 0.
        """
        make = Turbulence if self.flow == "isotropic" else Turbulence.kolmogorov
        return make(self.n_solve, viscosity, substeps=max(1, math.ceil(time / self.dt - 1e-6)))

    def _viscosities(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return self.viscosity if isinstance(self.viscosity, tuple) else (self.viscosity, self.viscosity)

    def _check_stable(self, limits: np.ndarray, finite: np.ndarray) -> None:
        """Raise where a start or a frame moves faster than the steps allow, or is not finite.

        Args:
            limits: the longest stable step at the start and at each frame, (count, 1 + times).
            finite: whether each frame is, (count, times).
        """
        intervals = [self.ts[1] - self.ts[0]] + ([self.ts[0]] if self.ts[0] else [])
        step = max(interval / self._flow(1.0, interval).substeps for interval in intervals)
        start, least = limits[:, 0].min(), np.nanmin(limits)
        # What is about to explode has any speed: it says nothing of the steps that it needs.
        exploded = not finite.all() or least < step / 4 <= start
        if not exploded and least >= step:
            return
        enough = 0.9 * least
        if exploded:
            enough = min(step / 2, 0.8 * start, 0.8 * limits[limits >= step / 4].min(initial=np.inf))
        digits = 1 - math.floor(math.log10(enough))
        enough = math.floor(enough * 10**digits) / 10**digits
        when = self.ts[int(np.argmin(finite.all(axis=0)))]
        seen = f"a trajectory is not finite at t = {when:g}" if not finite.all() else f"here that is {least:.2g}"
        raise ValueError(
            f"`TurbulenceRuns(dt={self.dt:g})`: steps of {step:.3g} are unstable on {self.n_solve} × "
            f"{self.n_solve} points. They must be at most 1.8 L/(N max(|u| + |v|)), the rule of Courant, Friedrichs "
            f"and Lewy; {seen}. Write `dt={enough:g}`, or a smaller n_solve."
        )


@jax.jit
def _solved(
    recipe: TurbulenceRuns, starts: Float[Array, "count m m"], viscosities: Float[Array, " count"]
) -> tuple[Float[Array, "count times n n"], Float[Array, "count limits"]]:
    """The frames that a recipe keeps, and the longest stable step at the start and at each."""

    def frames(run: tuple[Array, Array]) -> tuple[Array, Array]:
        x, viscosity = run
        interval = recipe.ts[1] - recipe.ts[0]
        flow = recipe._flow(viscosity, interval)

        def frame(x: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
            x = jax.lax.cond(i > 0, lambda x: flow.step(x, interval), lambda x: x, x)
            return x, (resample(x, recipe.n), flow.stable_dt(x))

        limit = flow.stable_dt(x)
        if recipe.ts[0]:
            x = recipe._flow(viscosity, recipe.ts[0]).step(x, recipe.ts[0])
        _, (kept, limits) = jax.lax.scan(frame, x, jnp.arange(len(recipe.ts)))
        return kept, jnp.concatenate([limit[None], limits])

    return jax.lax.map(frames, (starts, viscosities), batch_size=min(_AT_ONCE, len(starts)))


def _on_all_cores(recipe: TurbulenceRuns, starts: Array, viscosities: Array) -> tuple[Array, Array]:
    """The same, a trajectory a thread: one compiled program on a CPU does its Fourier transforms on one core."""
    # A thread of its own does not inherit a precision that was switched on by `with`.
    double = starts.dtype == jnp.float64
    host, rates = np.asarray(starts), np.asarray(viscosities)

    def one(i: int) -> tuple[Array, Array]:
        with jax.enable_x64(double):
            return jax.block_until_ready(_solved(recipe, host[i : i + 1], rates[i : i + 1]))

    first = one(0)  # compiles
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [first, *pool.map(one, range(1, len(host)))]
    x, limits = (jnp.concatenate(part) for part in zip(*parts, strict=True))
    return x, limits
