"""Windows of trajectories: what a loss sees of the data, drawn on the device.

A window is `size` states of one trajectory, `stride` grid steps apart, x(t_m), x(t_{m+stride}), ...; a
batch draws trajectory and start uniformly and independently, so that one update sees all times at once
(one time for a whole batch makes the gradient's noise worse and the training slower).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ._lower import Clock, WarpedClock
from ._types import Key, State

__all__ = ["Windows", "draw", "even_step"]


class Windows(eqx.Module):
    """A batch of windows, times ascending.

    Attributes:
        x: states of shape (batch, size, ...).
        t: their physical times, (batch, size).
        step: the time between neighbours where it is the same everywhere, else None. Static: a
            number of the compiled program.
    """

    x: State
    t: Float[Array, "batch size"]
    step: float | None = eqx.field(static=True)

    def clock(self, sign: int) -> tuple[Clock | WarpedClock, np.ndarray]:
        """The clock that runs along the windows (+1) or back (-1), and its readings at their states."""
        size = self.t.shape[1]
        index = np.arange(size, dtype=self.t.dtype)
        if self.step is not None:
            return Clock(self.t[:, 0] if sign > 0 else self.t[:, -1], sign), index * np.asarray(self.step, index.dtype)
        return WarpedClock(jnp.flip(self.t.T, axis=0) if sign < 0 else self.t.T), index


def even_step(ts: Any) -> float | None:
    """The step of an evenly spaced grid, to the rounding of single precision; None for an uneven one."""
    steps = np.diff(np.asarray(ts, np.float64))
    even = np.allclose(steps, steps.mean(), rtol=1e-3)
    return float(steps.mean()) if even else None


def draw(
    paths: State,
    ts: Float[Array, " times"],
    step: float | None,
    *,
    size: int,
    stride: int,
    batch: int,
    key: Key,
) -> Windows:
    """A batch of windows with uniform trajectories and starts.

    Arguments:
        paths: trajectories of shape (trajectories, times, ...).
        ts: their grid.
        step: the grid's even step, or None.
        size: states a window; 2 is one step.
        stride: grid steps between a window's states.
        batch: how many windows.
        key: a JAX key.

    Returns:
        The windows.
    """
    count = jtu.tree_leaves(paths)[0].shape[0]
    starts = ts.shape[0] - (size - 1) * stride
    key_path, key_start = jr.split(key)
    path = jr.randint(key_path, (batch, 1), 0, count)
    index = jr.randint(key_start, (batch, 1), 0, starts) + stride * jnp.arange(size)[None]
    return Windows(
        jtu.tree_map(lambda leaf: leaf[path, index], paths),
        ts[index],
        None if step is None else step * stride,
    )


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
