"""Trajectories that are simulated anew for every update: fresh starts, noise and times."""

from collections.abc import Sequence
from functools import partial
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
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._conditions import check_conditions, map_rows
from ..equation._drift import step_drifts
from ..solving import _validate as validate
from ..solving._default_solver import solver_of
from ..solving._foreign import numbers_of_times
from ..solving._march import Table
from ..solving._options import check_unrolls, integer
from ..solving._solve import unroll
from ._sharding import share_out
from ._trajectories import AbstractPaths
from ._windows import Windows, check_window, long_steps

__all__ = ["FreshPaths"]


class FreshPaths(AbstractPaths):
    """Trajectories that are simulated anew for every update of `fit`: fresh starts, noise and times.

    Each update draws starts from `x0`, solves the process along `ts`, and cuts windows from the trajectories. With
    `jitter` each trajectory has inner times of its own, t'_m uniform between the middles of the intervals
    around t_m (arXiv:2301.10250, §4.2: U(t_m - Δt/2, t_m + Δt/2)), so that the score is trained for all
    steps up to 2Δt and all times, not for one grid.

    Args:
        process: the forward process, `P + g` (or `P` alone).
        x0: starts to draw from, arrays of shape (starts, ...).
        ts: the increasing times of a trajectory, (times,).
        args: handed to drifts, networks and noise. A `PerSample` has a row for each start, and is drawn with it.
        jitter: whether the inner times are random.
        windows: windows cut from each trajectory; the batch is a multiple of it. More are cheaper, and depend
            on each other.
        solver: a diffrax solver at fixed steps. Default: as `solve`, `diffrax.Heun()` where drifts have rates.

    Raises:
        TypeError: process is not a forward equation, or a count that is no integer.
        ValueError: fewer than one window a trajectory, times that do not increase, or conditions with another number of
            rows than there are starts.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(sx.nn.MLP(key=jax.random.key(1)), g)
    >>> paths = sx.FreshPaths(P + g, jnp.ones(32), jnp.linspace(0.0, 1.0, 11))
    >>> s = sx.fit(-P + 2 * s, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=5)])
    """

    process: Any
    x0: State = eqx.field(converter=lambda x0: validate.check_states(x0, "x0"))
    ts: Any = eqx.field(converter=numbers_of_times)
    args: Args = None
    jitter: bool = eqx.field(static=True, default=True, kw_only=True)
    windows: int = eqx.field(static=True, default=1, kw_only=True, converter=partial(integer, "windows"))
    solver: dfx.AbstractSolver | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self) -> None:
        if getattr(self.process, "direction", None) is not Forward:
            raise TypeError(f"`FreshPaths` simulates a forward process such as `P + g`; got `{self.process}`.")
        if self.windows < 1:
            raise ValueError(f"`FreshPaths` needs at least one window a trajectory; got {self.windows}.")
        validate.check_times(self.ts)
        check_conditions(self.args, jtu.tree_leaves(self.x0)[0].shape[0], "starts")

    def check(self, equation: AbstractDrift | SDE, stages: Sequence[Any]) -> None:
        """Raise where the process cannot be simulated, or an equation or a stage asks for what it does not have."""
        validate.check_finite_states(self.x0, "FreshPaths(x0=...)")
        validate.check_drifts(self.process, self.x0, self.args)
        check_unrolls(self.process, self._solver())
        if self.jitter:
            validate.check_free_steps(self.process)
            validate.check_free_steps(equation)
        else:
            validate.check_step_grid(self.process, self.ts)
        for stage in stages:
            check_window(stage.window, stage.stride, len(self.ts))
            validate.check_step_grid(equation, self.ts[:: stage.stride])
            if stage.batch % self.windows:
                raise ValueError(
                    f"`FreshPaths` cuts {self.windows} windows from each trajectory, and a stage's batch of "
                    f"{stage.batch} is no multiple of it."
                )
        validate.check_resolution(self.ts, self.x0)

    def made_by(self) -> type | None:
        """The kind of solver that simulates them; None of a simulator's steps, which are the process itself."""
        return None if step_drifts(self.process) else type(self._solver())

    def samples(self) -> tuple[State, Args]:
        """The starts, and their `args`."""
        return self.x0, self.args

    def steps(self, stride: int) -> tuple[float, float]:
        """The shortest and the longest time between states that are `stride` apart."""
        earliest, latest = self.bounds()
        return float((earliest[stride:] - latest[:-stride]).min()), float((latest[stride:] - earliest[:-stride]).max())

    def source(self, strides: Sequence[int]) -> "FreshSource":
        """What draws: itself with its times in the states' precision, and the steps of the grid."""
        dtype = validate.widest(self.x0)
        steps = {stride: long_steps(self.ts, stride, dtype) for stride in {1, *strides}}
        return FreshSource(eqx.tree_at(lambda paths: paths.ts, self, validate.narrowed(self.ts, dtype)), steps)

    def bounds(self) -> tuple[Float[Any, " times"], Float[Any, " times"]]:
        """The earliest and the latest that each of a trajectory's times can be."""
        ts = self.ts
        if not self.jitter:
            return ts, ts
        middles = (ts[1:] + ts[:-1]) / 2
        earliest, latest = ([ts[:1], inner, ts[-1:]] for inner in (middles[:-1], middles[1:]))
        joined = np.concatenate if isinstance(ts, np.ndarray) else jnp.concatenate
        return joined(earliest), joined(latest)

    def _solver(self) -> dfx.AbstractSolver:
        """The solver that simulates them."""
        return solver_of(self.process, self.solver)


class FreshSource(eqx.Module):
    """A source of windows of trajectories that are simulated for them.

    Attributes:
        paths: the recipe, its times in the states' precision.
        grid: for each stride the times between the grid's times that far apart, taken in double precision: far from the
            origin of time the differences of narrowed times are poor, and neighbours that move can be one number.
    """

    paths: FreshPaths
    grid: dict[int, Float[Array, " steps"]]

    @property
    def args(self) -> Args:
        """Those of the starts."""
        return self.paths.args

    def draw(
        self, *, size: int, stride: int, batch: int, key: Key, sharding: jax.sharding.NamedSharding | None = None
    ) -> tuple[Windows, Args]:
        """A batch of windows, and the `args` with each window's own conditions; as `Source.draw`."""
        key_path, key_start = jr.split(key)
        each = self.paths.windows
        starts = len(self.paths.ts) - (size - 1) * stride
        index = jr.randint(key_start, (batch, 1), 0, starts) + stride * jnp.arange(size)[None]
        x, moved, args = self.simulate(batch // each, key_path, sharding)
        # Each trajectory's windows lie together, on the device that has simulated it.
        index = index.reshape(each, -1, size).swapaxes(0, 1)

        def cut(leaf: Array, index: Array) -> Array:
            some = jax.vmap(lambda path, i: path[i])(leaf, index)
            return some.reshape(batch, index.shape[-1], *leaf.shape[2:])

        states = jtu.tree_map(lambda leaf: cut(leaf, index), x)
        windows = Windows(states, cut(self.times(moved), index), None, cut(self.steps(stride, moved), index[..., :-1]))
        repeated = map_rows(lambda leaf: share_out(jnp.repeat(leaf, each, axis=0), sharding), args)
        return share_out(windows, sharding), repeated

    def simulate(
        self, count: int, key: Key, sharding: jax.sharding.NamedSharding | None = None
    ) -> tuple[State, Float[Array, "count times"], Args]:
        """Trajectories (count, times, ...), how far their times are from the grid's, and their conditions."""
        key_start, key_times, key_noise = jr.split(key, 3)
        process, x0 = self.paths.process, self.paths.x0
        start = jr.randint(key_start, (count,), 0, jtu.tree_leaves(x0)[0].shape[0])
        x0 = share_out(jtu.tree_map(lambda leaf: leaf[start], x0), sharding)
        args = map_rows(lambda leaf: share_out(leaf[start], sharding), self.args)
        moved = self.moved(count, key_times)
        noise = key_noise if isinstance(process, SDE) else None
        table = Table(self.times(moved)[:, :-1].T, self.steps(1, moved).T)
        x = unroll(process, x0, table, noise, args, self.paths._solver(), None)
        together = jtu.tree_map(lambda a, b: jnp.concatenate([a[None], b]), x0, x)
        return jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, 1), together), moved, args

    def moved(self, count: int, key: Key) -> Float[Array, "count times"]:
        """How far times are from the grid's: inner ones uniform between the middles of the steps around them."""
        half = self.grid[1] / 2
        if not self.paths.jitter:
            return jnp.zeros((count, len(half) + 1), half.dtype)
        fractions = jr.uniform(key, (count, len(half) - 1), half.dtype)
        inner = (half[:-1] + half[1:])[None] * fractions - half[None, :-1]
        return jnp.pad(inner, ((0, 0), (1, 1)))  # the ends stay

    def times(self, moved: Float[Array, "count times"]) -> Float[Array, "count times"]:
        """The times themselves."""
        return self.paths.ts[None] + moved

    def steps(self, stride: int, moved: Float[Array, "count times"]) -> Float[Array, "count steps"]:
        """The time from each of the times to that `stride` later."""
        return self.grid[stride][None] + (moved[:, stride:] - moved[:, :-stride])
