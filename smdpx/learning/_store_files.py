"""The files of a trajectory store: a zarr group (v3) on the local disk, and the only place where zarr is used.

    turbulence-3f2a….zarr/
        zarr.json                format, trees of states and conditions, recipe, versions
        x/zarr.json              (trajectories, times, ...), chunks of some trajectories each
        x/c/7/0/0/0              chunk 7: numbers as they lie in memory, little-endian, and their CRC32C
        args/alpha/c/7           its conditions
        ts/c/0                   the times

zarr writes: a chunk into a file aside that is then renamed, so whatever has its name is whole. What is read in a
training are windows, a thousandth of a chunk each, at random: chunks are not compressed, so that their files can be
mapped into memory, where a window is a copy of its bytes, and the system keeps what is read often. A chunk's checksum
is compared when the chunk is first touched.
"""

import functools
import mmap
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Args
from ._fingerprint import Identified
from ._store_layout import decoded, named_solver, row_names

__all__ = ["FORMAT", "Columns", "StoreDamaged", "StoreFiles", "create", "extend", "leftovers", "write"]

FORMAT = 1
_CHECKSUM = 4  # bytes, behind a chunk's numbers
# Files that are mapped at once, the last used: each takes a descriptor, of which a process often has 1,024.
_MOST_MAPPED = 400
# A chunk of zeros is a file as well: what is not there was not written.
_ZEROS_TOO = {"array.write_empty_chunks": True}


class StoreDamaged(ValueError):
    """Files of a store that are missing, cut short or corrupt."""


class Columns(NamedTuple):
    """An array with a row for each trajectory: the shape of a row, and its type."""

    row: tuple[int, ...]
    dtype: np.dtype

    def __repr__(self) -> str:
        return f"{self.dtype.name}{list(self.row)}"


class _Mapped(NamedTuple):
    """A chunk in memory, by its file: what is touched is read."""

    rows: np.ndarray
    file: mmap.mmap

    @classmethod
    def of(cls, rows: np.ndarray, file: mmap.mmap) -> "_Mapped":
        """To be read at random: what the system reads ahead of a window can be hundreds of times the window."""
        if hasattr(mmap, "MADV_RANDOM"):  # not on Windows
            file.madvise(mmap.MADV_RANDOM)
        return cls(rows, file)

    def soon(self, rows: np.ndarray) -> None:
        """Some of the rows will be wanted: the system reads these now, and several of them at once."""
        if hasattr(mmap, "MADV_WILLNEED"):
            first = rows.ctypes.data - self.rows.ctypes.data
            page = first // mmap.PAGESIZE * mmap.PAGESIZE
            last = first + sum((n - 1) * step for n, step in zip(rows.shape, rows.strides, strict=True)) + rows.itemsize
            self.file.madvise(mmap.MADV_WILLNEED, page, last - page)


class StoreFiles(Identified):
    """An open store. Two of the same store are equal, so that a second training finds its program compiled.

    Attributes:
        path: the directory.
        identity: the recipe's digest.
        count: the trajectories that were asked for.
        chunk: how many are in one file.
        attributes: what the group says of itself.
        columns: arrays with a row for each trajectory, by name.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no store, or one of a newer format.
        ImportError: zarr is not installed.
    """

    def __init__(self, path: Path):
        self.path, self._compared = path, set()
        self.mapped = functools.lru_cache(_MOST_MAPPED)(self._mapped)
        self._group = _opened(path)
        self.attributes = self._group.attrs.asdict()
        self.count, self.chunk = self.attributes["trajectories"], self.attributes["chunk"]
        self.identity = self.attributes["recipe"]["digest"]
        arrays = {name: self._group[name] for name in row_names(self.attributes)}
        self._state_names = jtu.tree_leaves(self.states())
        self.columns = {name: Columns(a.shape[1:], np.dtype(a.dtype).newbyteorder("<")) for name, a in arrays.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreFiles) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.path.resolve(), self.attributes["id"]

    def __repr__(self) -> str:
        return f"{str(self.path)!r}"

    # What is there

    def chunks(self, count: int) -> int:
        """How many chunks this many trajectories are in."""
        return -(-count // self.chunk)

    def file(self, name: str, i: int) -> Path:
        """Where chunk i of an array is: zarr's default keys."""
        return self.path.joinpath(name, "c", str(i), *("0" for _ in self.columns[name].row))

    def missing(self, count: int) -> list[int]:
        """The chunks of the first `count` trajectories that lack a file, or have one of another size."""
        return [i for i in range(self.chunks(count)) if any(self._flaw(name, i) for name in self.columns)]

    def flaw(self, i: int) -> str:
        """What is wrong with a chunk that is missing."""
        return next(filter(None, (self._flaw(name, i) for name in self.columns)), "")

    def _flaw(self, name: str, i: int) -> str:
        file, wanted = self.file(name, i), self._bytes(name) + _CHECKSUM
        size = file.stat().st_size if file.is_file() else None
        if size == wanted:
            return ""
        return f"{file} is not there" if size is None else f"{file} has {size} bytes in place of {wanted}"

    def _bytes(self, name: str) -> int:
        row, dtype = self.columns[name]
        return self.chunk * prod(row) * dtype.itemsize

    def whole(self, i: int) -> bool:
        """Whether all of a chunk is there, checksums and all."""
        try:
            for name in self.columns:
                self.mapped(name, i)
        except (OSError, ValueError):
            return False
        return True

    # What is in it

    def states(self) -> Any:
        """The tree of the states, with the names of the arrays in their places."""
        return decoded(self.attributes["x"], lambda name, rows: name, True)

    def solver(self) -> type | None:
        """The kind of solver whose steps they are."""
        return named_solver(self.attributes["solver"])

    def times(self, numbers: np.ndarray) -> np.ndarray:
        """The times: of all, or of each of these trajectories."""
        return self.read("ts", numbers) if "ts" in self.columns else self.shared("ts")

    def args(self, numbers: np.ndarray) -> Args:
        """The `args`, with the conditions of these trajectories."""

        def read(name: str, rows: bool) -> Any:
            return jnp.asarray(self.read(name, numbers) if rows else self.shared(name))

        return decoded(self.attributes["args"], read)

    def shared(self, name: str) -> np.ndarray:
        """An array that is the same for all trajectories."""
        try:
            return np.asarray(self._group[name][...])
        except ValueError as error:
            raise ValueError(f"{self.path}: the array {name!r} is corrupt ({error}); make the store anew.") from error

    def read(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """The rows of these trajectories."""
        row, dtype = self.columns[name]
        out = _aligned((len(numbers), *row), dtype)
        chunk, inside = np.divmod(numbers, self.chunk)
        edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(numbers)]
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            mapped, first, last = self.mapped(name, int(chunk[a])), inside[a:b].min(), inside[a:b].max()
            mapped.soon(mapped.rows[first : last + 1])
            neighbours = b - a == 1 or (np.diff(inside[a:b]) == 1).all()
            out[a:b] = mapped.rows[first : last + 1] if neighbours else mapped.rows[inside[a:b]]
        return out

    def windows(self, size: int, stride: int, types: Sequence[Any], where: Any) -> list[np.ndarray]:
        """Windows of each array of the states, (..., size, ...); NumPy alone, since a compiled program waits for it.

        Args:
            size: states a window.
            stride: how many times they are apart.
            types: of the arrays that are wanted.
            where: trajectory and first time of each window, (..., 2).
        """
        where = np.asarray(where)
        places, span, outs = where.reshape(-1, 2), (size - 1) * stride + 1, []
        chunks, inside = np.divmod(places[:, 0], self.chunk)
        order = np.argsort(chunks, kind="stable")  # file by file
        in_order = [each[order].tolist() for each in (chunks, inside, places[:, 1])]
        for name, dtype in zip(self._state_names, types, strict=True):
            out = np.empty((len(places), size, *self.columns[name].row[1:]), dtype)
            for i, row, start in zip(*in_order, strict=True):
                mapped = self.mapped(name, i)
                mapped.soon(mapped.rows[row, start : start + span])
            for k, i, row, start in zip(order.tolist(), *in_order, strict=True):
                out[k] = self.mapped(name, i).rows[row, start : start + span : stride]
            outs.append(out.reshape(*where.shape[:-1], *out.shape[1:]))
        return outs

    def _mapped(self, name: str, i: int) -> _Mapped:
        """Chunk i of an array, mapped into memory; its checksum is compared the first time.

        Raises:
            StoreDamaged: a chunk that is missing, cut short or corrupt.
        """
        from google_crc32c import value as crc32c  # zarr's own dependency

        if flaw := self._flaw(name, i):
            raise StoreDamaged(f"{flaw}: chunk {i} of the array {name!r}. {self.mend()}")
        with self.file(name, i).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        content = np.frombuffer(mapped, np.uint8)
        numbers = content[:-_CHECKSUM]
        # A second look would read what lies around the checksum from the disk.
        known = (name, i) in self._compared
        if not known and crc32c(numbers) != int.from_bytes(content[-_CHECKSUM:].tobytes(), "little"):
            raise StoreDamaged(
                f"{self.file(name, i)} is corrupt: chunk {i} of the array {name!r} has another checksum. Delete this "
                f"file. {self.mend()}"
            )
        self._compared.add((name, i))
        row, dtype = self.columns[name]
        return _Mapped.of(numbers.view(dtype).reshape(self.chunk, *row), mapped)

    def mend(self) -> str:
        """What to write where something is missing."""
        return (
            "The same `sx.stored(...)` that made the store makes what is missing, bit for bit; "
            f"`sx.StoredPaths({str(self.path)!r}, partial=True)` opens what is whole."
        )


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array that JAX can take as its own on the CPU, without a copy: it begins at a multiple of 64 bytes."""
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + 63, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(dtype).reshape(shape)


# Writing


def create(path: Path, attributes: dict[str, Any], rows: dict[str, np.ndarray], shared: dict[str, np.ndarray]) -> None:
    """An empty store for rows like these; it appears at once, or not at all."""
    zarr = _zarr()
    aside = path.with_name(path.name + ".partial")
    _remove(aside)
    group = zarr.create_group(aside, zarr_format=3, attributes=attributes)
    count = -(-attributes["trajectories"] // attributes["chunk"]) * attributes["chunk"]
    for name, array in rows.items():
        _array(group, name, (count, *array.shape[1:]), array.shape, array.dtype)
    with zarr.config.set(_ZEROS_TOO):
        for name, array in shared.items():
            _array(group, name, array.shape, tuple(max(1, n) for n in array.shape), array.dtype)[...] = array
    aside.replace(path)


def _array(group: Any, name: str, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype) -> Any:
    codecs = _zarr().codecs
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype.newbyteorder("<"),
        serializer=codecs.BytesCodec(endian="little") if dtype.itemsize > 1 else codecs.BytesCodec(endian=None),
        compressors=codecs.Crc32cCodec(),
        fill_value=0,
    )


def extend(path: Path, count: int) -> None:
    """Make room for more trajectories."""
    group = _zarr().open_group(path, mode="r+")
    files = StoreFiles(path)
    for name in files.columns:
        array = group[name]
        array.resize((files.chunks(count) * files.chunk, *array.shape[1:]))
    group.attrs["trajectories"] = count  # last: the arrays are never too short for it


def write(path: Path, i: int, rows: dict[str, np.ndarray]) -> None:
    """Write chunk i of each array."""
    zarr = _zarr()
    group = zarr.open_group(path, mode="r+", zarr_format=3)
    with zarr.config.set(_ZEROS_TOO):
        for name, array in rows.items():
            group[name][i * len(array) : (i + 1) * len(array)] = array


def leftovers(path: Path) -> Iterator[Path]:
    """Files that a writer left half written."""
    return path.rglob("*.partial")


def _remove(path: Path) -> None:
    import shutil

    if path.exists():
        shutil.rmtree(path)


def _opened(path: Path) -> Any:
    zarr = _zarr()
    if not path.exists():
        raise FileNotFoundError(
            f"There is no trajectory store {path} (working directory: {Path.cwd()}). `sx.stored(generate, count, "
            'key=key, at="data")` makes one, and says where by its `path`.'
        )
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no trajectory store: {error}. `sx.stored` makes one.") from error
    version = group.attrs.get("smdpx_store")
    if version is None:
        raise ValueError(f"{path} is a zarr group, but no trajectory store of `sx.stored`.")
    if version > FORMAT:
        raise ValueError(
            f"{path} is a trajectory store of format {version}, and this smdpx reads up to {FORMAT}: update smdpx "
            f"(it was written by {group.attrs['versions']['smdpx']})."
        )
    return group


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError('Trajectory stores need zarr: pip install "smdpx[store]"') from error
    return zarr
