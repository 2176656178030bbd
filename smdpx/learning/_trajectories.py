"""Trajectories: states together with the times they belong to and the conditions they were made under.

Times mean nothing without states, so they travel together. Whatever windows are cut from has one small interface,
`AbstractPaths`: arrays are `Trajectories`, trajectories that are simulated for each update are `FreshPaths`, and those
that lie on a disk `StoredPaths`.
"""

import abc
from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import check_conditions, map_rows
from ..equation._drift import step_drifts
from ..solving import _validate as validate
from ..solving._foreign import native, numbers_of_times
from ._sharding import rows_of
from ._windows import Source, check_window, even_step, long_steps

__all__ = ["AbstractPaths", "Trajectories", "check_stages", "concrete_rows", "extreme_steps", "index_of", "source_of"]


class AbstractPaths(eqx.Module):
    """What `fit` learns from: something that windows of trajectories can be drawn from.

    Attributes:
        ts: the times between which trajectories run.
    """

    ts: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def check(self, equation: AbstractDrift | SDE, stages: Sequence[Any]) -> None:
        """Raise where the data are unfit, or an equation or a stage of a curriculum asks for what they do not have."""

    @abc.abstractmethod
    def made_by(self) -> type | None:
        """The kind of diffrax solver whose steps they are; None where that is not known."""

    @abc.abstractmethod
    def samples(self) -> tuple[State, Args]:
        """States with a sample axis, of the shapes that the windows will have, and the `args` that belong to them."""

    @abc.abstractmethod
    def steps(self, stride: int) -> tuple[float, float]:
        """The shortest and the longest time between states that are `stride` apart."""

    def span(self) -> tuple[float, float]:
        """The first and the last of all times; `ts` may go on behind the end of a shorter trajectory."""
        ts = np.asarray(self.ts)  # NumPy's least number of a JAX array is JAX's, which compiles
        return float(ts.min()), float(ts.max())

    @abc.abstractmethod
    def source(self, strides: Sequence[int]) -> Any:
        """The data ready for a compiled loop, with `draw(size=, stride=, batch=, key=, sharding=)`."""


class Trajectories(AbstractPaths):
    """Trajectories, as from `simulate` or from a laboratory: states, their times, and what they were made under.

    Slices are over trajectories: `paths[200:]`. `len(paths)` counts them.

    Args:
        x: states of shape (trajectories, times, ...): an array, or a tree of them. Or a list with one trajectory each,
            of shape (times, ...), that may differ in length.
        ts: their increasing times: (times,) for all, or (trajectories, times), each its own; for a list of different
            lengths a list too.
        args: handed to drifts, networks and noise. A `PerSample` has a row for each trajectory.
        solver: the kind of diffrax solver whose steps they are, where that is known, such as `diffrax.Euler`:
            `simulate` says so, and `fit` warns where Euler's error would be learned as physics.

    Raises:
        ValueError: states that do not fit their times, times that do not increase, or conditions with another number of
            rows.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> paths = sx.Trajectories(jnp.arange(12.0).reshape(3, 4), [0.0, 0.1, 0.2, 0.3])
    >>> len(paths), paths.start, paths[1:].end
    (3, Array([0., 4., 8.], dtype=float32), Array([ 7., 11.], dtype=float32))
    >>> paths = sx.Trajectories([jnp.zeros(5), jnp.zeros(3)], [[0, 1, 2, 3, 4], [0, 2, 4]])
    >>> paths.lengths.tolist()
    [5, 3]
    """

    x: State
    ts: Any
    args: Args
    lengths: Any
    solver: type | None = eqx.field(static=True)

    def __init__(self, x: Any, ts: Any, args: Args = None, *, solver: type | None = None):
        self.args, self.lengths, self.solver = args, None, solver
        if isinstance(x, list):
            x, ts, self.lengths = _stack(x, ts)
        self.x = validate.check_states(x, "x")
        # In double precision: steps are differences of times, and are taken before anything is narrowed.
        self.ts = numbers_of_times(ts)
        self._check_shapes()

    def _check_shapes(self) -> None:
        if self.ts.ndim != 2:
            validate.check_times(self.ts)
        for leaf in jtu.tree_leaves(self.x):
            if leaf.ndim < 2:
                raise ValueError(
                    f"`x` must have shape (trajectories, times, ...); got {leaf.shape}. For one trajectory write "
                    "`x[None]`."
                )
            if self.ts.shape not in (leaf.shape[1:2], leaf.shape[:2]):
                raise ValueError(
                    f"`x` of shape {leaf.shape} has {leaf.shape[0]} trajectories of {leaf.shape[1]} times, and `ts` "
                    f"has shape {self.ts.shape}: give {leaf.shape[1:2]} or {leaf.shape[:2]}."
                )
        if self.ts.ndim == 2:
            _check_rows(self._rows())
        check_conditions(self.args, len(self), "trajectories")

    def __len__(self) -> int:
        return jtu.tree_leaves(self.x)[0].shape[0]

    def __getitem__(self, index: Any) -> "Trajectories":
        """Some of the trajectories, by a slice, a mask, or an array of numbers."""
        index = index_of(index, len(self))
        part = jtu.tree_map(lambda leaf: rows_of(leaf, index), self.x)
        args = map_rows(lambda leaf: rows_of(leaf, index), self.args)
        ts = self.ts[index] if self.ts.ndim == 2 else self.ts
        lengths = None if self.lengths is None else self.lengths[index]
        fields = (lambda paths: (paths.x, paths.ts, paths.args, paths.lengths)), (part, ts, args, lengths)
        return eqx.tree_at(fields[0], self, fields[1], is_leaf=lambda leaf: leaf is None)

    @property
    def start(self) -> State:
        """The first states, (trajectories, ...)."""
        return jtu.tree_map(lambda leaf: _column(leaf, 0), self.x)

    @property
    def end(self) -> State:
        """The last states, (trajectories, ...)."""
        if self.lengths is None:
            return jtu.tree_map(lambda leaf: _column(leaf, -1), self.x)
        return jtu.tree_map(lambda leaf: leaf[np.arange(len(self)), self.lengths - 1], self.x)

    def check(self, equation: AbstractDrift | SDE, stages: Sequence[Any]) -> None:
        """Raise where states are not finite, windows do not fit, or a step has another length than a drift accepts."""
        if not validate.is_concrete(self.ts):
            raise TypeError(
                "`fit` must know the times of its trajectories, and here a JAX transformation traces them: make the "
                "`Trajectories` inside of it from times outside, `sx.Trajectories(x, ts)`."
            )
        validate.check_paths(self.x, self.ts, self.lengths)
        validate.check_resolution(self.ts, self.x)
        check_stages(equation, stages, self._rows())

    def _rows(self) -> list[Any]:
        return concrete_rows(self.ts, self.lengths)

    def made_by(self) -> type | None:
        """The kind of solver whose steps they are, where that is known."""
        return self.solver

    def samples(self) -> tuple[State, Args]:
        """The first states, and the trajectories' `args`."""
        return self.start, self.args

    def steps(self, stride: int) -> tuple[float, float]:
        """The shortest and the longest time between states that are `stride` apart."""
        return extreme_steps(self._rows(), stride)

    def span(self) -> tuple[float, float]:
        """The first and the last of all times."""
        rows = self._rows()
        return float(min(row.min() for row in rows)), float(max(row.max() for row in rows))

    def source(self, strides: Sequence[int]) -> Source:
        """Arrays on the device, and the steps for each stride, taken in double precision."""
        lengths = None if self.lengths is None else jnp.asarray(self.lengths)
        return source_of(self.x, self.ts, self.args, lengths, validate.widest(self.x), strides)

    def __repr__(self) -> str:
        shapes = jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", self.x)
        return f"Trajectories(x={shapes}, ts={list(self.ts.shape)})".replace("'", "")


# One program, of which JAX's operator makes two for each shape.
@partial(jax.jit, static_argnums=1)
def _column(x: jax.Array, m: int) -> jax.Array:
    return x[:, m]


def index_of(index: Any, count: int) -> slice | np.ndarray:
    """The index that takes some of the trajectories: a slice, a mask, or an array of numbers."""
    # Whatever counts as one number: Python's, NumPy's, JAX's.
    if isinstance(index, tuple) or not (isinstance(index, slice) or np.ndim(index) == 1):
        raise TypeError(
            f"`paths[{index}]`: an index takes some of the trajectories, `paths[3:4]` or `paths[[0, 3]]`; states "
            "at a time are in `paths.x[:, m]`, the first and the last ones `paths.start` and `paths.end`."
        )
    index = index if isinstance(index, slice) else np.asarray(index)
    numbers = np.arange(count)[index]
    if not numbers.size:
        raise IndexError(f"`paths[{index}]`: none of {count} trajectories are left.")
    return index if isinstance(index, slice) else numbers


def concrete_rows(ts: Any, lengths: Any = None) -> list[Any]:
    """The different rows of times, without their padding; none where they are traced."""
    if not validate.is_concrete(ts):
        return []
    ts = np.asarray(ts)
    if ts.ndim == 1:
        return [ts]
    return [row if lengths is None else row[: lengths[i]] for i, row in enumerate(ts)]


def _check_rows(rows: Sequence[Any]) -> None:
    """Raise where a trajectory's own times are none, naming it."""
    for i, row in enumerate(rows):
        try:
            validate.check_times(row)
        except ValueError as error:
            raise ValueError(f"Trajectory {i}: {error}") from None


def check_stages(equation: AbstractDrift | SDE, stages: Sequence[Any], rows: Sequence[Any]) -> None:
    """Raise where a stage asks for windows that do not fit, or a step for another length than a drift accepts."""
    for stage in stages:
        check_window(stage.window, stage.stride, max(map(len, rows)))
        for row in rows if step_drifts(equation) else []:
            validate.check_step_grid(equation, row[:: stage.stride])


def extreme_steps(rows: Sequence[Any], stride: int) -> tuple[float, float]:
    """The shortest and the longest time between states that are `stride` apart."""
    steps = [row[stride:] - row[:-stride] for row in rows if len(row) > stride]
    return min(float(s.min()) for s in steps), max(float(s.max()) for s in steps)


def source_of(x: Any, ts: Any, args: Args, lengths: Any, dtype: Any, strides: Sequence[int]) -> Source:
    """States, on the device or elsewhere, ready for a compiled loop, with the steps in double precision."""
    even = even_step(ts) if ts.ndim == 1 and validate.is_concrete(ts) else None
    steps = {} if even is not None else {stride: long_steps(ts, stride, dtype) for stride in strides}
    return Source(x, validate.narrowed(ts, dtype), args, lengths, steps, even)


def _module(leaves: Sequence[Any]) -> Any:
    """NumPy for its own arrays, whose precision has still to be looked at, else JAX's."""
    return np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp


def _stack(x: list[Any], ts: Any) -> tuple[State, Any, np.ndarray | None]:
    """A list of trajectories as arrays: shorter ones end in copies of their last state, their times go on."""
    if not x:
        raise ValueError("`x` is an empty list: give at least one trajectory.")
    if any(isinstance(path, list) or not all(map(np.ndim, jtu.tree_leaves(path))) for path in x):
        raise TypeError(
            "`x` is a list of numbers or of lists, and should be an array, `np.asarray(x, np.float32)`, or a list with "
            "one array of shape (times, ...) for each trajectory, `[np.asarray(path, np.float32) for path in x]`."
        )
    x = native(x, "x")
    lengths = np.array([len(jtu.tree_leaves(path)[0]) for path in x])
    for i, path in enumerate(x):
        if any(len(leaf) != lengths[i] for leaf in jtu.tree_leaves(path)):
            raise ValueError(
                f"`x`: the arrays of trajectory {i} have {[len(leaf) for leaf in jtu.tree_leaves(path)]} times: give "
                "each array of a state as many."
            )
    if not isinstance(ts, list | tuple) and np.ndim(ts) == 0:
        validate.check_times(ts)
    ts = list(ts) if getattr(ts, "ndim", 1) == 2 else ts
    if not isinstance(ts, list | tuple) or not len(ts) or np.ndim(ts[0]) == 0:
        if (lengths != len(ts)).any():
            raise ValueError(
                f"`x` is a list of trajectories with {sorted(set(lengths.tolist()))} states, and `ts` has {len(ts)} "
                "times for all of them: give a list of times too, one array for each. (A state of several arrays is a "
                "tuple or a dictionary, not a list.)"
            )
        return jtu.tree_map(lambda *leaves: _module(leaves).stack(leaves), *x), ts, None
    rows = [np.asarray(numbers_of_times(row), np.float64) for row in ts]
    _check_rows(rows)
    if len(rows) != len(x) or any(len(row) != length for row, length in zip(rows, lengths, strict=False)):
        raise ValueError(
            f"`x` holds trajectories of {lengths.tolist()[:8]} states, `ts` {[len(row) for row in rows][:8]} times: "
            "give one time for each state."
        )
    longest = int(lengths.max())

    def padded(*leaves: Any) -> Any:
        m = _module(leaves)
        return m.stack([m.concatenate([a, m.repeat(a[-1:], longest - len(a), axis=0)]) for a in leaves])

    # Times that go on by the last step: no step is zero, and no window is drawn there.
    ends = [row[-1] + (row[-1] - row[-2]) * np.arange(1, longest - len(row) + 1) for row in rows]
    grown = [np.concatenate(parts) for parts in zip(rows, ends, strict=True)]
    same = (lengths == longest).all()
    return jtu.tree_map(padded, *x), np.stack(grown), None if same else lengths
