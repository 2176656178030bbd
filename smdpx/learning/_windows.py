"""Windows of trajectories: what a loss sees of the data, drawn on the device.

The trajectories are either arrays, made once, or `FreshPaths`, simulated anew for every update. A window
is `size` states of one trajectory, `stride` grid steps apart, x(t_m), x(t_{m+stride}), ...; a batch draws
trajectory and start uniformly and independently, so that one update sees all times at once (one time for
a whole batch makes the gradient's noise worse and the training slower).
"""

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
from ..equation._algebra import SDE, Forward
from ..solving._march import Table
from ..solving._solve import unroll
from ._sharding import share_out

__all__ = ["FreshPaths", "Windows", "draw", "even_step", "long_steps"]


class Windows(eqx.Module):
    """A batch of windows, times ascending.

    Attributes:
        x: states of shape (batch, size, ...).
        t: their physical times, (batch, size).
        step: the time between neighbours where it is the same everywhere, else None. Static: a
            number of the compiled program.
        steps: the times between neighbours where they differ, (batch, size - 1). Default: the differences of t, which
            far from the origin of time have lost digits.
    """

    x: State
    t: Float[Array, "batch size"]
    step: float | None = eqx.field(static=True)
    steps: Float[Array, "batch steps"] | None = None

    def durations(self) -> float | Float[Array, "batch steps"]:
        """The times between neighbours: one number, or one for each pair."""
        if self.step is not None:
            return self.step
        return jnp.diff(self.t, axis=1) if self.steps is None else self.steps

    def table(self, sign: int) -> Table:
        """The steps along the windows (+1) or back (-1)."""
        begins, steps = self.t[:, :-1] if sign > 0 else self.t[:, :0:-1], self.durations()
        if isinstance(steps, float | int):
            return Table(begins.T, jnp.full(begins.shape[1], steps, begins.dtype))
        return Table(begins.T, (steps if sign > 0 else steps[:, ::-1]).T)


class FreshPaths(eqx.Module):
    """Trajectories that are simulated anew for every update of `fit`: fresh starts, noise and times.

    Each update draws starts from `x0`, solves the process along `ts`, and cuts windows from the trajectories. With
    `jitter` each trajectory has inner times of its own, t'_m uniform between the middles of the intervals
    around t_m (arXiv:2301.10250, §4.2: U(t_m - Δt/2, t_m + Δt/2)), so that the score is trained for all
    steps up to 2Δt and all times, not for one grid.

    Args:
        process: the forward process, `P + g` (or `P` alone).
        x0: starts to draw from, arrays of shape (starts, ...).
        jitter: whether the inner times are random.
        windows: windows cut from each trajectory; the batch is a multiple of it. More are cheaper, and depend
            on each other.
        solver: a diffrax solver at fixed steps. Default: `diffrax.Euler()`.

    Raises:
        TypeError: process is not a forward equation.
        ValueError: fewer than one window a trajectory.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(sx.nn.MLP(key=jax.random.key(1)), g)
    >>> paths = sx.FreshPaths(P + g, jnp.ones(32))
    >>> ts, curriculum = jnp.linspace(0.0, 1.0, 11), [sx.Stage(updates=5)]
    >>> s = sx.fit(-P + 2 * s, paths, ts, key=jax.random.key(2), curriculum=curriculum)
    """

    process: Any
    x0: State
    jitter: bool = eqx.field(static=True, default=True)
    windows: int = eqx.field(static=True, default=1)
    solver: dfx.AbstractSolver = dfx.Euler()

    def __check_init__(self) -> None:
        if getattr(self.process, "direction", None) is not Forward:
            raise TypeError(f"`FreshPaths` simulates a forward process such as `P + g`; got `{self.process}`.")
        if self.windows < 1:
            raise ValueError(f"`FreshPaths` needs at least one window a trajectory; got {self.windows}.")

    def simulate(
        self,
        ts: Float[Array, " times"],
        count: int,
        key: Key,
        args: Args,
        sharding: jax.sharding.NamedSharding | None = None,
    ) -> tuple[State, Array]:
        """Trajectories (count, times, ...) and their times (count, times)."""
        key_start, key_times, key_noise = jr.split(key, 3)
        start = jr.randint(key_start, (count,), 0, jtu.tree_leaves(self.x0)[0].shape[0])
        x0 = share_out(jtu.tree_map(lambda leaf: leaf[start], self.x0), sharding)
        times = self._times(ts, count, key_times)
        noise = key_noise if isinstance(self.process, SDE) else None
        table = Table(times[:, :-1].T, jnp.diff(times, axis=1).T)
        x = unroll(self.process, x0, table, noise, args, self.solver, None)
        together = jtu.tree_map(lambda a, b: jnp.concatenate([a[None], b]), x0, x)
        return jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, 1), together), times

    def bounds(self, ts: Float[Any, " times"]) -> tuple[Float[Any, " times"], Float[Any, " times"]]:
        """The earliest and the latest that each of a trajectory's times can be."""
        if not self.jitter:
            return ts, ts
        middles = (ts[1:] + ts[:-1]) / 2
        earliest, latest = ([ts[:1], inner, ts[-1:]] for inner in (middles[:-1], middles[1:]))
        joined = np.concatenate if isinstance(ts, np.ndarray) else jnp.concatenate
        return joined(earliest), joined(latest)

    def _times(self, ts: Array, count: int, key: Key) -> Array:
        if not self.jitter:
            return jnp.broadcast_to(ts, (count, len(ts)))
        earliest, latest = self.bounds(ts)
        fractions = jnp.pad(jr.uniform(key, (count, len(ts) - 2), ts.dtype), ((0, 0), (1, 1)))  # none at the ends
        return earliest[None] + (latest - earliest)[None] * fractions


def even_step(ts: Any) -> float | None:
    """The step of an evenly spaced grid, to the rounding of single precision; None for an uneven one."""
    steps = np.diff(np.asarray(ts, np.float64))
    even = np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)  # relative: nothing depends on the unit of time
    return float(steps.mean()) if even else None


def long_steps(ts: Any, stride: int, dtype: Any) -> Array:
    """The time from each of a grid's times to that `stride` later, taken before anything is narrowed to `dtype`."""
    return jnp.asarray(ts[stride:] - ts[:-stride], dtype)


def draw(
    paths: State | FreshPaths,
    ts: Float[Array, " times"],
    step: float | Float[Array, " starts"],
    *,
    size: int,
    stride: int,
    batch: int,
    key: Key,
    args: Args = None,
    sharding: jax.sharding.NamedSharding | None = None,
) -> Windows:
    """A batch of windows with uniform trajectories and starts.

    Args:
        paths: trajectories of shape (trajectories, times, ...), or `FreshPaths`.
        ts: their grid.
        step: the grid's even step, or `long_steps` for this stride.
        size: states a window; 2 is one step.
        stride: grid steps between a window's states.
        batch: how many windows.
        key: a JAX key.
        args: handed to the process of `FreshPaths`.
        sharding: how the batch lies on several devices.

    Returns:
        The windows.
    """
    starts = ts.shape[0] - (size - 1) * stride
    key_path, key_start = jr.split(key)
    index = jr.randint(key_start, (batch, 1), 0, starts) + stride * jnp.arange(size)[None]
    if isinstance(paths, FreshPaths):
        x, t = paths.simulate(ts, batch // paths.windows, key_path, args, sharding)
        # Each trajectory's windows lie together, on the device that has simulated it.
        index = index.reshape(paths.windows, -1, size).swapaxes(0, 1)
        cut = lambda leaf: jax.vmap(lambda path, i: path[i])(leaf, index).reshape(batch, size, *leaf.shape[2:])  # noqa: E731
        windows = Windows(jtu.tree_map(cut, x), cut(t), None)
    else:
        path = jr.randint(key_path, (batch, 1), 0, jtu.tree_leaves(paths)[0].shape[0])
        x, t = jtu.tree_map(lambda leaf: leaf[path, index], paths), ts[index]
        even = not isinstance(step, jax.Array)
        windows = Windows(x, t, step * stride) if even else Windows(x, t, None, step[index[:, :-1]])
    return share_out(windows, sharding)


def check_window(size: int, stride: int, times: int) -> None:
    """Raise where a window does not fit into a trajectory."""
    if size < 2 or stride < 1:
        raise ValueError(f"A window has at least 2 states, `stride` at least 1; got window {size}, stride {stride}.")
    if (size - 1) * stride + 1 > times:
        raise ValueError(
            f"A window of {size} states at stride {stride} spans {(size - 1) * stride + 1} times; the trajectories "
            f"have {times}. The longest that fits is {(times - 1) // stride + 1}."
        )


def first(x: State) -> State:
    """Each window's first state."""
    return jax.tree.map(lambda leaf: leaf[:, 0], x)


def last(x: State) -> State:
    """Each window's last state."""
    return jax.tree.map(lambda leaf: leaf[:, -1], x)
