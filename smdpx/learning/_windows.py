"""Windows of trajectories: what a loss sees of the data, drawn on the device.

A window is `size` states of one trajectory, `stride` grid steps apart, x(t_m), x(t_{m+stride}), ...; a batch draws
trajectory and start uniformly and independently, so that one update sees all times at once (one time for
a whole batch makes the gradient's noise worse and the training slower). Each has its own trajectory's conditions.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._types import Args, Key, State
from ..equation._conditions import map_rows
from ..solving import _validate as validate
from ..solving._march import Table
from ._sharding import share_out

__all__ = ["AbstractRecords", "Source", "Windows", "even_step", "long_steps"]


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


class AbstractRecords(eqx.Module):
    """States that lie elsewhere than on the device, and are fetched window by window."""

    @abc.abstractmethod
    def like(self) -> Any:
        """Shapes and types that they would have on the device, (trajectories, times, ...)."""

    @abc.abstractmethod
    def windows(self, path: Int[Array, " batch"], start: Int[Array, " batch"], size: int, stride: int) -> State:
        """The states `path, start + stride * (0, ..., size - 1)`, (batch, size, ...), inside of a compiled program."""


class Source(eqx.Module):
    """Trajectories as arrays on the device, ready to draw windows from in a compiled loop.

    Attributes:
        x: states of shape (trajectories, times, ...); or records of them that lie elsewhere.
        t: their times, (times,) or (trajectories, times).
        args: with a row of each condition for each trajectory.
        lengths: how many states each trajectory has, where they differ.
        steps: for each stride the times between states that far apart, shaped like t but for its last axis; empty where
            the grid is even.
        even: the grid's step where it is the same everywhere. Static: a number of the compiled program.
    """

    x: State | AbstractRecords
    t: Float[Array, "..."]
    args: Args
    lengths: Int[Array, " trajectories"] | None
    steps: dict[int, Float[Array, "..."]]
    even: float | None = eqx.field(static=True)

    def draw(
        self, *, size: int, stride: int, batch: int, key: Key, sharding: jax.sharding.NamedSharding | None = None
    ) -> tuple[Windows, Args]:
        """A batch of windows, and the `args` with each window's own conditions.

        Args:
            size: states a window; 2 is one step.
            stride: grid steps between a window's states.
            batch: how many windows.
            key: a JAX key.
            sharding: how the batch lies on several devices.

        Returns:
            The windows, drawn uniformly from all that there are, and their `args`.
        """
        path, start = self._places((size - 1) * stride, batch, key)
        index = start + stride * jnp.arange(size)[None]
        own = self.t.ndim == 2
        if isinstance(self.x, AbstractRecords):
            x = self.x.windows(path[:, 0], start[:, 0], size, stride)
        else:
            x = jtu.tree_map(lambda leaf: leaf[path, index], self.x)
        t = self.t[path, index] if own else self.t[index]
        if self.even is not None:
            windows = Windows(x, t, self.even * stride)
        else:
            steps, begins = self.steps[stride], index[:, :-1]
            windows = Windows(x, t, None, steps[path, begins] if own else steps[begins])
        return share_out(windows, sharding), map_rows(lambda leaf: share_out(leaf[path[:, 0]], sharding), self.args)

    def numbers(self) -> int:
        """How many numbers a state has."""
        return sum(math.prod(leaf.shape[2:]) for leaf in jtu.tree_leaves(self._like()))

    def _like(self) -> Any:
        return self.x.like() if isinstance(self.x, AbstractRecords) else self.x

    def _places(self, span: int, batch: int, key: Key) -> tuple[Int[Array, "batch 1"], Int[Array, "batch 1"]]:
        """Trajectories and starts of windows that span this many grid steps."""
        key_path, key_start = jr.split(key)
        if self.lengths is None:
            count = jtu.tree_leaves(self._like())[0].shape[0]
            starts = self.t.shape[-1] - span
            return jr.randint(key_path, (batch, 1), 0, count), jr.randint(key_start, (batch, 1), 0, starts)
        # All windows that there are, in a row: a trajectory of twice as many has twice the chance.
        ends = jnp.cumsum(jnp.maximum(self.lengths - span, 0))
        which = jr.randint(key_path, (batch, 1), 0, ends[-1])
        path = jnp.searchsorted(ends, which, side="right")
        before = jnp.where(path > 0, ends[path - 1], 0)
        return path, which - before


def even_step(ts: Any) -> float | None:
    """The step of an evenly spaced grid, to the rounding of single precision; None for an uneven one."""
    steps = np.diff(np.asarray(ts, np.float64))
    even = np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)  # relative: nothing depends on the unit of time
    return float(steps.mean()) if even else None


def long_steps(ts: Any, stride: int, dtype: Any) -> Array:
    """The time from each of a grid's times to that `stride` later, taken before anything is narrowed to `dtype`."""
    return validate.narrowed(ts[..., stride:] - ts[..., :-stride], dtype)


def check_window(size: int, stride: int, times: int) -> None:
    """Raise where a window does not fit into a trajectory."""
    if size < 2 or stride < 1:
        raise ValueError(f"A window has at least 2 states, `stride` at least 1; got window {size}, stride {stride}.")
    if (size - 1) * stride + 1 > times:
        raise ValueError(
            f"A window of {size} states at stride {stride} spans {(size - 1) * stride + 1} times; the trajectories "
            f"have {times}. The longest that fits is {(times - 1) // stride + 1}. (A `Stage` is told the window first: "
            f"`Stage(updates={size})` for so many updates.)"
        )


def first(x: State) -> State:
    """Each window's first state."""
    return jax.tree.map(lambda leaf: leaf[:, 0], x)


def last(x: State) -> State:
    """Each window's last state."""
    return jax.tree.map(lambda leaf: leaf[:, -1], x)
