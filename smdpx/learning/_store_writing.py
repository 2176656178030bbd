"""`stored`: trajectories that are made once, chunk by chunk, and read ever after.

Chunk i is `generate(fold_in(key, i), chunk)`, whatever was made before it. So a run that was stopped goes on with the
numbers of one that was not, a store that was long enough yesterday can be longer today, and a chunk that is lost is
made again.
"""

import contextlib
import datetime
import errno
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np

from .._types import Key
from ..solving import _validate as validate
from ..solving._options import integer
from ._progress import showing
from ._store import StoredPaths
from ._store_files import FORMAT, Columns, StoreFiles, create, extend, leftovers, write
from ._store_layout import Chunk, Recipe, versions
from ._trajectories import Trajectories

__all__ = ["stored"]


def stored(
    generate: Callable[[Key, int], Trajectories],
    count: int,
    *,
    key: Key,
    at: str | os.PathLike[str],
    chunk: int = 64,
    memory: int = 2**30,
) -> StoredPaths:
    """Trajectories of a recipe, from the disk: made and written if they are not there yet, read if they are.

    The recipe is the generator, its fields or what it closes over, the key and the chunk; its store is a directory in
    `at`, named by the generator and a digest of the recipe: `data/turbulence-3f2a….zarr`, in zarr's format (v3). The
    same call again reads the store; another recipe makes another; more trajectories are added to those that are there;
    a run that was stopped, or lost a file, goes on with just the numbers of one that was not. One process writes a
    store at a time (on POSIX systems).

    Args:
        generate: `generate(key, n)` makes `Trajectories`, n of them, of the same times and shapes for every key: a
            function, or best an `eqx.Module` or a frozen dataclass with the recipe as its fields, which are written
            down too. The digest sees these fields, the generator's code, and the numbers, arrays and functions of its
            file that it reads by a global name; not the code of other files: when that changes, let a field say so.
        count: how many trajectories.
        key: a JAX key; chunk i is made with `fold_in(key, i)`.
        at: the directory that stores lie in.
        chunk: how many trajectories are made at a time, and lie in one file. All chunks are made whole. Good values:
            files of 10 to 100 MB.
        memory: as of `StoredPaths`.

    Returns:
        The first `count` trajectories of the store.

    Raises:
        TypeError: what is no generator of `Trajectories`, a count that is no integer, or states and `args` that cannot
            be written down.
        ValueError: a generator that gives another number of trajectories than it is asked for, other shapes, times or
            shared `args` than in the chunks before, lengths that differ, or states that are not finite. What was
            written before is kept.
        BlockingIOError: another process writes the store.
        OSError: the disk is full; what was written stays readable, and the same call goes on.
        ImportError: zarr is not installed.

    >>> import tempfile, equinox as eqx, jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, rate: -rate * x), sx.Diffusion(0.1)
    >>> class Decay(eqx.Module):
    ...     rate: float = 1.0
    ...     def __call__(self, key, count):
    ...         return sx.simulate(P + g, jnp.ones(count), jnp.linspace(0.0, 1.0, 11), key=key, args=self.rate)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = sx.stored(Decay(), 100, key=jax.random.key(0), at=folder)
    ...     longer = sx.stored(Decay(), 200, key=jax.random.key(0), at=folder)  # makes 100 more
    ...     other = sx.stored(Decay(2.0), 100, key=jax.random.key(0), at=folder)
    ...     paths.path == longer.path, paths.path == other.path, paths.path.name
    (True, False, 'decay-...zarr')
    """
    count, chunk = integer("count", count), integer("chunk", chunk)
    _check(generate, count, key, chunk)
    recipe = Recipe.of(generate, key, chunk)
    path = Path(at) / f"{recipe.name}-{recipe.digest}.zarr"
    if _lacks(path, count):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _writing(path):
            for leftover in leftovers(path) if path.exists() else ():
                leftover.unlink()
            _complete(path, recipe, generate, count, key, chunk)
    return StoredPaths(path, count, memory=memory)


def _check(generate: Any, count: int, key: Any, chunk: int) -> None:
    if not callable(generate):
        raise TypeError(
            f"`generate` must be a function from a key and a number to `Trajectories`; got {type(generate).__name__}. "
            "Write `lambda key, n: sx.simulate(P + g, starts(n), ts, key=key)`."
        )
    validate.check_is_key(key)
    if not validate.is_concrete(key, generate):
        raise TypeError("`stored` writes files, and here a JAX transformation traces its key: call it outside.")
    if count < 1 or chunk < 1:
        raise ValueError(f"`stored` needs at least one trajectory, and one a chunk; got {count}, chunk={chunk}.")


def _lacks(path: Path, count: int) -> bool:
    if not path.exists():
        return True
    files = StoreFiles(path)
    return files.count < count or bool(files.missing(count))


def _complete(path: Path, recipe: Recipe, generate: Callable[..., Any], count: int, key: Key, chunk: int) -> None:
    """Make the chunks that are missing, in their order."""
    files = StoreFiles(path) if path.exists() else None
    if files is not None and files.count < count:
        extend(path, count)
        files = StoreFiles(path)
    total = -(-count // chunk)
    missing = list(range(total)) if files is None else files.missing(count)
    with showing(count, "store", "trajectories") as show:
        show.begin((total - len(missing)) * chunk, state=f"making {path}")
        for done, i in enumerate(missing, start=total - len(missing)):
            made = _made(generate, key, i, chunk, done, total)
            try:
                if files is None:
                    create(path, _attributes(recipe, made, count, chunk), made.rows, made.shared)
                    files = StoreFiles(path)
                _check_alike(files, made, i)
                write(path, i, made.rows)
            except OSError as error:
                raise _explained(error, path, done, total) from error
            show.move(min((done + 1) * chunk, count))


def _made(generate: Callable[..., Any], key: Key, i: int, chunk: int, done: int, total: int) -> Chunk:
    """Chunk i, checked as far as it can be by itself."""
    paths = generate(jr.fold_in(key, i), chunk)
    where = f"`generate(key, {chunk})` of chunk {i}"
    kept = f" The {done} of {total} chunks that were made are kept." if done else ""
    if not isinstance(paths, Trajectories):
        raise TypeError(
            f"{where} must return `Trajectories`; got {type(paths).__name__}. Write `return sx.Trajectories(x, ts)`, "
            "or return what `sx.simulate` gives."
        )
    if len(paths) != chunk:
        raise ValueError(f"{where} returned {len(paths)} trajectories: return as many as it is asked for.{kept}")
    if paths.lengths is not None:
        raise ValueError(
            f"{where} returned trajectories of {sorted(set(paths.lengths.tolist()))[:8]} states: in a store all have "
            f"the same number, `sx.Trajectories(x, ts)` with arrays.{kept}"
        )
    try:
        validate.check_simulation(paths.x, paths.ts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}{kept}") from error
    return Chunk(paths)


def _check_alike(files: StoreFiles, made: Chunk, i: int) -> None:
    """Raise where a chunk has other arrays than the store."""
    for part, got in made.header.items():
        if got != (has := files.attributes[part]):
            raise _unlike(files, i, _WORDS[part], has, got)
    for name, array in made.rows.items():
        has, got = files.columns[name], Columns(array.shape[1:], array.dtype)
        if got != has:
            raise _unlike(files, i, f"in {name!r}", has, got)
    for name, array in made.shared.items():
        has = files.shared(name)
        if has.shape != array.shape or not np.array_equal(has, array, equal_nan=array.dtype.kind in "fc"):
            raise _unlike(files, i, "the times" if name == "ts" else f"{name!r}", _short(has), _short(array))


_WORDS = {"x": "states", "args": "`args`", "ts": "times", "solver": "the solver"}


def _unlike(files: StoreFiles, i: int, what: str, has: Any, got: Any) -> ValueError:
    return ValueError(
        f"`generate` of chunk {i} returned {what} {got}, and the chunks in {files.path} have {has}: it must return the "
        "same for every key. What differs from sample to sample is a `PerSample` in `args`, or a row of times for each "
        "sample. The chunks before are kept; another generator makes another store."
    )


def _short(array: np.ndarray) -> str:
    return f"{array.dtype.name}{list(array.shape)} {np.array2string(array, threshold=4, edgeitems=2, precision=4)}"


def _attributes(recipe: Recipe, made: Chunk, count: int, chunk: int) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "smdpx_store": FORMAT,
        "id": uuid.uuid4().hex,
        "trajectories": count,
        "chunk": chunk,
        "recipe": {**recipe.written, "digest": recipe.digest},
        "versions": versions(),
        "created": now,
        **made.header,
    }


def _explained(error: OSError, path: Path, done: int, total: int) -> OSError:
    if error.errno != errno.ENOSPC:
        return error
    return OSError(
        errno.ENOSPC,
        f"The disk is full, with {done} of {total} chunks written: these stay readable, `sx.StoredPaths({str(path)!r}, "
        "partial=True)`. Free some space, and the same `sx.stored(...)` goes on from there",
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Hold the store's lock: a file beside it, which the system unlocks when its process ends, however it ends."""
    import fcntl

    lock = path.with_name(path.name + ".lock")
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise BlockingIOError(
                    errno.EWOULDBLOCK,
                    f"{path} is being written by {_writer(file.read())}. Wait until it is done: the same call then "
                    "reads the store",
                ) from error
            if not lock.exists() or lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                continue  # whoever held it has just removed it
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            file.flush()
            try:
                yield
            finally:
                lock.unlink()
            return


def _writer(text: str) -> str:
    try:
        who = json.loads(text)
        return f"process {who['pid']} on {who['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
