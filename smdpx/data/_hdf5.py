"""Named arrays in HDF5 files, and files with one dataset a sample.

save_hdf5("heat.h5", {"x": paths, "t": ts})        x: (samples, times, ...), t: (times,)
data = load_hdf5("heat.h5", ["x", "t"])
paths = load_hdf5_samples("reference.h5")          datasets "00000", "00001", ...
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike

File: TypeAlias = str | os.PathLike[str]
"""Where a file is."""


def save_hdf5(file: File, arrays: Mapping[str, ArrayLike]) -> None:
    """Write named arrays to an HDF5 file; `load_hdf5` reads them.

    Args:
        file: where to; what is there is replaced.
        arrays: NumPy or JAX arrays by name: of a trajectory store {"x": (samples, times, ...), "t": (times,)}. A name
            with slashes, "test/x", makes groups.

    Raises:
        ValueError: no arrays, or one that does not hold numbers. Nothing is written then.
        ImportError: h5py is not installed.

    >>> import tempfile, jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hdf5(folder + "/heat.h5", {"x": jnp.zeros((4, 33, 8, 8)), "t": jnp.linspace(0, 0.2, 33)})
    ...     x = load_hdf5(folder + "/heat.h5", ["x"])["x"]
    >>> x.shape
    (4, 33, 8, 8)
    """
    h5py = _h5py()
    if not arrays:
        raise ValueError("`arrays` holds no arrays: pass a dictionary of names and arrays")
    values = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in values.items():
        _check_numbers(f"`arrays[{name!r}]`", value.dtype)
    with h5py.File(Path(file), "w") as store:
        for name, value in values.items():
            store.create_dataset(name, data=value)


def load_hdf5(file: File, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read named arrays from an HDF5 file.

    Args:
        file: where from.
        names: which arrays, groups by slashes. Left out: all.

    Returns:
        Arrays by name, in the order of ``names`` (else the file's, "9" before "10").

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no HDF5 file, or one without the expected arrays, or with arrays that do not hold numbers.
        TypeError: one name rather than several.
        ImportError: h5py is not installed.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hdf5(folder + "/a.h5", {"x": np.ones(3), "t": np.arange(3)})
    ...     sorted(load_hdf5(folder + "/a.h5"))
    ['t', 'x']
    """
    with _open(file, names) as datasets:
        return {name: dataset[()] for name, dataset in datasets.items()}


def load_hdf5_samples(file: File, names: Sequence[str] | None = None) -> np.ndarray:
    """Read an HDF5 file with one dataset a sample, as the paper's code writes them ("00000", "00001", ...).

    Args:
        file: where from.
        names: which samples, in this order. Left out: all datasets, in the order of the numbers in their names.

    Returns:
        The samples, stacked on axis 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_hdf5`, and samples of different shapes: for a file of named arrays, use `load_hdf5`.
        TypeError: one name rather than several.
        ImportError: h5py is not installed.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hdf5(folder + "/a.h5", {f"{i:05}": np.full((33, 8, 8), i) for i in range(4)})
    ...     load_hdf5_samples(folder + "/a.h5").shape
    (4, 33, 8, 8)
    """
    with _open(file, names) as datasets:
        first, shape = next((name, dataset.shape) for name, dataset in datasets.items())
        for name, dataset in datasets.items():
            if dataset.shape != shape:
                raise ValueError(
                    f"{file}: the samples must have one shape, but {first!r} has {shape} and {name!r} "
                    f"{dataset.shape}. If these are no samples, read them by name: `load_hdf5(file, [{name!r}])`"
                )
        samples = np.empty((len(datasets), *shape), np.result_type(*{dataset.dtype for dataset in datasets.values()}))
        for i, dataset in enumerate(datasets.values()):
            samples[i] = dataset[()]
        return samples


@contextmanager
def _open(file: File, names: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The file's datasets by name, those asked for or all, every one of them numeric."""
    if isinstance(names, str):
        raise TypeError(f"`names` must be several names, got the string {names!r}: write `[{names!r}]`")
    h5py, path = _h5py(), Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} (working directory: {Path.cwd()})")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no HDF5 file")
    with h5py.File(path, "r") as store:
        held: dict[str, Any] = {}
        store.visititems(lambda name, item: held.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        held = {name: held[name] for name in sorted(held, key=_natural)}
        names = list(held) if names is None else [name.strip("/") for name in names]
        missing = [name for name in names if name not in held]
        if missing or not names:
            expected = _list(missing) if missing else "at least one array"
            raise ValueError(f"{path} lacks {expected}; it holds {_list(list(held)) if held else 'none'}")
        for name in names:
            _check_numbers(f"{path}: {name!r}", held[name].dtype)
        yield {name: held[name] for name in names}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers within names by value."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _list(names: list[str], most: int = 8) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check_numbers(what: str, dtype: np.dtype) -> None:
    if dtype.kind not in "biufc":
        raise ValueError(f"{what} must hold numbers of a NumPy type, got dtype {dtype}")


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError('HDF5 files need h5py: pip install "smdpx[data]"') from error
