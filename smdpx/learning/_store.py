"""Trajectories on the disk, more than memory holds: a lazy view of a store, from which windows are read as drawn.

Which windows an update sees is drawn inside of the compiled loop, by the same lines as for arrays: the same key sees
the same windows of a store and of its `load()`, bit for bit. The loop then asks the host for these windows' bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial as bound
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import dtypes
from jaxtyping import Array, Int

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._conditions import map_rows
from ..solving import _validate as validate
from ..solving._options import integer
from ._store_files import StoreDamaged, StoreFiles
from ._trajectories import (
    AbstractPaths,
    Trajectories,
    check_stages,
    concrete_rows,
    extreme_steps,
    index_of,
    source_of,
)
from ._windows import AbstractRecords, Source

__all__ = ["StoredPaths", "naming_damage"]


class StoredPaths(AbstractPaths):
    """Trajectories in a store on the disk, as `stored` makes one: they stand where `Trajectories` do.

    Slices, masks and arrays of numbers take some of the trajectories and read nothing. `fit` reads each window as it is
    drawn, and the system's page cache keeps what there is room for. The same key draws the same windows as from
    `load()`; the weights then agree to rounding, since a program that asks for its windows is compiled as another.
    Times and conditions are kept in memory.

    Args:
        path: the store's directory.
        count: the first so many trajectories. Default: all that the store was asked for.
        partial: of a store that is cut short or damaged, take the trajectories whose chunks are whole; all checksums
            are compared first. Default: such a store is an error that says what is missing.
        memory: `fit` loads states of up to this many bytes before it begins, and reads windows of more; 0 always reads
            windows. What is loaded trains faster where updates are short.

    Attributes:
        ts: the times, (times,), or (trajectories, times).
        args: handed to drifts, networks and noise, with a row of each condition for each trajectory.
        numbers: the trajectories' places in the store.
        path: the store's directory.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: a count below 1; no store; one of a newer format; or one with chunks that are missing or cut short.
        TypeError: a count that is no integer.
        ImportError: zarr is not installed.

    >>> import tempfile, jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> def decay(key, count):
    ...     return sx.simulate(P + g, jnp.ones(count), jnp.linspace(0.0, 1.0, 11), key=key)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = sx.stored(decay, 100, key=jax.random.key(0), at=folder).path
    ...     paths = sx.StoredPaths(path)
    ...     print(paths, len(paths[90:]), paths[90:].load().x.shape)
    StoredPaths(x=float32[100, 11], ts=[11]) 10 (10, 11)
    """

    ts: Any
    args: Args
    numbers: Any
    files: StoreFiles = eqx.field(static=True)
    memory: int = eqx.field(static=True)

    def __init__(self, path: Any, count: int | None = None, *, partial: bool = False, memory: int = 2**30):
        if count is not None and (count := integer("count", count)) < 1:
            raise ValueError(f"`StoredPaths` takes the first `count` trajectories, at least 1; got {count}.")
        self.files, self.memory = StoreFiles(Path(path)), memory
        first = self.files.count if count is None else min(count, self.files.count)
        missing = set(self.files.missing(first))
        if missing and not partial:
            raise ValueError(_says_what_is_missing(self.files, first, sorted(missing)))
        chunks = range(self.files.chunks(first))
        whole = [i for i in chunks if i not in missing and not (partial and not self.files.whole(i))]
        if not whole:
            raise ValueError(f"None of the {len(chunks)} chunks of {self.files.path} is whole. {self.files.mend()}")
        chunk = self.files.chunk
        numbers = (chunk * np.array(whole, np.int32)[:, None] + np.arange(chunk, dtype=np.int32)[None]).ravel()
        self.numbers = numbers[numbers < first]
        self.ts, self.args = self.files.times(self.numbers), self.files.args(self.numbers)

    @property
    def path(self) -> Path:
        """The store's directory."""
        return self.files.path

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> "StoredPaths":
        """Some of the trajectories, by a slice, a mask, or an array of numbers."""
        index = index_of(index, len(self))
        ts = self.ts[index] if self.ts.ndim == 2 else self.ts
        fields = ts, map_rows(lambda leaf: leaf[index], self.args), self.numbers[index]
        where = lambda paths: (paths.ts, paths.args, paths.numbers)  # noqa: E731
        return eqx.tree_at(where, self, fields, is_leaf=lambda leaf: leaf is None)

    @property
    def start(self) -> State:
        """The first states, (trajectories, ...)."""
        return self._states_at(0)

    @property
    def end(self) -> State:
        """The last states, (trajectories, ...)."""
        return self._states_at(self.ts.shape[-1] - 1)

    def _states_at(self, m: int) -> State:
        self._check_known()
        like, tree = jtu.tree_flatten(self._records().like())
        where = np.stack([self.numbers, np.full_like(self.numbers, m)], axis=-1)
        found = self.files.windows(1, 1, tuple(leaf.dtype for leaf in like), where)
        with jax.ensure_compile_time_eval():  # under the user's jit too, they are known
            return tree.unflatten([jnp.asarray(leaf[:, 0]) for leaf in found])

    def load(self, most: int | None = None) -> Trajectories:
        """The trajectories in memory.

        Args:
            most: bytes of states. Where they are more, as many trajectories as fit, evenly spread; at least 16.

        Returns:
            `Trajectories`, for all that takes these: `calibrate`, or a look at the states.

        >>> import tempfile, jax, jax.numpy as jnp, smdpx as sx
        >>> decay = lambda key, count: sx.Trajectories(jax.random.normal(key, (count, 3)), [0.0, 0.1, 0.2])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = sx.stored(decay, 100, key=jax.random.key(0), at=folder)
        ...     paths.load(), paths.load(most=30 * 3 * 4)
        (Trajectories(x=float32[100, 3], ts=[3]), Trajectories(x=float32[30, 3], ts=[3]))
        """
        self._check_known()
        fit = len(self) if most is None else max(16, most * len(self) // self._bytes())
        if fit < len(self):
            return self[np.rint(np.linspace(0, len(self) - 1, fit)).astype(int)].load()
        with jax.ensure_compile_time_eval():  # under the user's jit too, they are known
            x = jtu.tree_map(lambda name: _on_device(self.files.read(name, self.numbers)), self.files.states())
            return Trajectories(x, self.ts, self.args, solver=self.files.solver())

    def check(self, equation: AbstractDrift | SDE, stages: Sequence[Any]) -> None:
        """Raise where windows do not fit, or a step has another length than a drift accepts; states are finite."""
        self._check_known()
        validate.check_resolution(self.ts, self._records().like())
        check_stages(equation, stages, concrete_rows(self.ts))

    def _check_known(self) -> None:
        if not validate.is_concrete(self.ts, self.numbers):
            raise TypeError(
                "Which trajectories of a store are read is no business of a JAX transformation, and here one traces "
                "them: let the function close over the `StoredPaths`, in place of an argument."
            )

    def made_by(self) -> type | None:
        """The kind of solver whose steps they are, where that is known."""
        return self.files.solver()

    def samples(self) -> tuple[State, Args]:
        """The first states of a few, and the `args` that belong to them."""
        return self[:16].load().samples()

    def steps(self, stride: int) -> tuple[float, float]:
        """The shortest and the longest time between states that are `stride` apart."""
        return extreme_steps(concrete_rows(self.ts), stride)

    def source(self, strides: Sequence[int]) -> Source:
        """The states, loaded where they are few enough, else as records; and the steps for each stride."""
        if self._bytes() <= self.memory:
            return self.load().source(strides)
        records = self._records()
        return source_of(records, self.ts, self.args, None, validate.widest(records.like()), strides)

    def _records(self) -> "_Records":
        return _Records(jnp.asarray(self.numbers), self.files)

    def _bytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jtu.tree_leaves(self._records().like()))

    def __repr__(self) -> str:
        shapes = jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", self._records().like())
        return f"StoredPaths(x={shapes}, ts={list(self.ts.shape)})".replace("'", "")


class _Records(AbstractRecords):
    """States in a store's files."""

    numbers: Int[Array, " trajectories"]
    files: StoreFiles = eqx.field(static=True)

    def like(self) -> Any:
        """Shapes and types that they would have on the device, (trajectories, times, ...)."""
        columns, count = self.files.columns, self.numbers.shape[0]
        types = {name: dtypes.canonicalize_dtype(columns[name].dtype) for name in columns}
        return jtu.tree_map(
            lambda name: jax.ShapeDtypeStruct((count, *columns[name].row), types[name]), self.files.states()
        )

    def windows(self, path: Int[Array, " batch"], start: Int[Array, " batch"], size: int, stride: int) -> State:
        """The states of windows, (batch, size, ...), inside of a compiled program."""
        like, tree = jtu.tree_flatten(self.like())
        shapes = [jax.ShapeDtypeStruct((len(path), size, *leaf.shape[2:]), leaf.dtype) for leaf in like]
        # The host is given numbers and runs NumPy alone: a JAX program in there can wait for ever (jax issue 24255).
        where = jnp.stack([self.numbers[path], start.astype(self.numbers.dtype)], axis=-1)
        read = bound(self.files.windows, size, stride, tuple(leaf.dtype for leaf in like))
        return tree.unflatten(jax.pure_callback(read, shapes, where, vmap_method="broadcast_all"))


def _on_device(x: np.ndarray) -> Any:
    """The array as JAX's, on the CPU without a copy; but what it has to narrow, `Trajectories` speaks of."""
    return jax.device_put(x, may_alias=True) if dtypes.canonicalize_dtype(x.dtype) == x.dtype else x


@contextmanager
def naming_damage() -> Iterator[None]:
    """Raise what was wrong with a store's files in place of what JAX makes of an error inside of its program."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        _, found, message = str(error).partition(f"{StoreDamaged.__name__}: ")
        if not found:
            raise
        raise StoreDamaged(message.splitlines()[0]) from None


def _says_what_is_missing(files: StoreFiles, count: int, missing: list[int]) -> str:
    total = files.chunks(count)
    return (
        f"{files.path} has {total - len(missing)} of {total} chunks of {files.chunk} trajectories; chunk {missing[0]} "
        f"is the first that is missing: {files.flaw(missing[0])}. {files.mend()}"
    )
