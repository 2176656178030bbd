"""What a trajectory store holds, as JSON and named arrays: trees of states and conditions, and their recipe.

A tree is written down with its arrays' names in the arrays' places:

    {"alpha": PerSample(a), "mask": m, "dt": 0.1}
    {"dict": {"alpha": {"rows": {"array": "args/alpha"}}, "mask": {"array": "args/mask"}, "dt": {"value": 0.1}}}
"""

import dataclasses
import functools
import importlib
import inspect
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import diffrax as dfx
import jax
import jax.random as jr
import numpy as np

from .._types import Args, Key
from ..equation._conditions import PerSample
from ..solving._exponential import ExponentialEuler, ExponentialHeun
from ._fingerprint import digest
from ._trajectories import Trajectories

__all__ = ["Chunk", "Recipe", "decoded", "named_solver", "row_names", "versions"]


class Chunk:
    """Some trajectories as what is written of them.

    Attributes:
        header: their trees, times and solver as JSON.
        rows: arrays with a row for each trajectory, by name.
        shared: arrays that are the same for all.
    """

    def __init__(self, paths: Trajectories):
        self.rows: dict[str, np.ndarray] = {}
        self.shared: dict[str, np.ndarray] = {}
        ts = np.asarray(paths.ts, np.float64)
        (self.shared if ts.ndim == 1 else self.rows)["ts"] = ts
        self.header = {
            "x": self._encoded(paths.x, "x", self.rows),
            "args": self._encoded(paths.args, "args", self.shared),
            "ts": {"array": "ts"} if ts.ndim == 1 else {"rows": {"array": "ts"}},
            "solver": _name_of(paths.solver),
        }

    def _encoded(self, tree: Any, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        if isinstance(tree, PerSample):
            return {"rows": self._encoded(tree.value, name, self.rows)}
        if tree is None or type(tree) in (bool, int, float, str):
            return {"value": tree}
        if type(tree) in (list, tuple):
            return {type(tree).__name__: [self._encoded(x, f"{name}/{i}", arrays) for i, x in enumerate(tree)]}
        if (kind := _public_name(type(tree))) is not None:
            fields = {key: self._encoded(x, f"{name}/{key}", arrays) for key, x in tree._asdict().items()}
            return {"named": {"type": kind, "fields": fields}}
        if type(tree) is dict and all(isinstance(key, str) for key in tree):
            named = {key: (f"{name}/{quote(key, safe='')}", x) for key, x in tree.items()}
            return {"dict": {key: self._encoded(x, inner, arrays) for key, (inner, x) in named.items()}}
        if isinstance(tree, jax.Array | np.ndarray | np.generic) and np.dtype(tree.dtype).kind in "biufc":
            arrays[name] = np.asarray(tree)
            return {"array": name}
        raise TypeError(
            f"`{name}` of the trajectories holds {type(tree).__name__}, which a store cannot write down: give arrays "
            "of numbers, Python numbers, strings, and dictionaries (with strings as keys), lists and tuples of these."
        )


def decoded(node: dict[str, Any], read: Callable[[str, bool], Any], rows: bool = False) -> Args:
    """A tree from its JSON.

    Args:
        node: the JSON.
        read: an array by its name, and whether it has a row for each trajectory.
        rows: whether the arrays of this node have.
    """
    ((kind, inner),) = node.items()
    if kind == "value":
        return inner
    if kind == "array":
        return read(inner, rows)
    if kind == "rows":
        return PerSample(decoded(inner, read, True))
    if kind == "dict":
        return {key: decoded(child, read, rows) for key, child in inner.items()}
    if kind == "named":
        return _named_tuple(inner["type"])(**decoded({"dict": inner["fields"]}, read, rows))
    parts = [decoded(child, read, rows) for child in inner]
    return tuple(parts) if kind == "tuple" else parts


def row_names(header: dict[str, Any]) -> list[str]:
    """The arrays that have a row for each trajectory."""
    names: list[str] = []

    def note(name: str, rows: bool) -> None:
        names.extend([name] if rows else [])

    for part in ("x", "args", "ts"):
        decoded(header[part], note, part == "x")
    return names


def _public_name(kind: type) -> str | None:
    """Where to import one of this library's named tuples from; None of all else."""
    where = [part for part in kind.__module__.split(".") if not part.startswith("_")]
    return ".".join([*where, kind.__name__]) if where[:1] == [_PACKAGE] and _is_named_tuple(kind) else None


def _named_tuple(name: str) -> Any:
    """The named tuple of this library that a store names: opening one runs no code of another's."""
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind, None) if module.split(".")[0] == _PACKAGE else None
    if not _is_named_tuple(found):
        raise ValueError(f"The store's trajectories are made of {name}, which this smdpx does not have: update smdpx.")
    return found


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


_PACKAGE = __name__.split(".")[0]
# The solvers that a store can name: none of a user's own, since opening a store runs no code but this.
_OURS = {f"smdpx.{solver.__name__}": solver for solver in (ExponentialEuler, ExponentialHeun)}


def _name_of(solver: type | None) -> str | None:
    if solver is None or f"smdpx.{solver.__name__}" in _OURS:
        return None if solver is None else f"smdpx.{solver.__name__}"
    return f"diffrax.{solver.__name__}" if getattr(dfx, solver.__name__, None) is solver else solver.__name__


def named_solver(name: str | None) -> type | None:
    """The kind of solver with this name; None of a user's own."""
    if name is None or name in _OURS:
        return _OURS.get(name or "")
    package, _, solver = name.rpartition(".")
    return getattr(dfx, solver, None) if package == "diffrax" else None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What trajectories are made from.

    Attributes:
        name: the generator's, as it stands in the store's.
        digest: sixteen digits that say which generator, key and chunk.
        written: generator and fields, key and versions, for readers.
    """

    name: str
    digest: str
    written: dict[str, Any]

    @classmethod
    def of(cls, generate: Callable[..., Any], key: Key, chunk: int) -> "Recipe":
        """The recipe of chunks that `generate(fold_in(key, i), chunk)` makes."""
        inner: Any = generate
        while hasattr(inner, "__wrapped__") or isinstance(inner, functools.partial):
            inner = inner.func if isinstance(inner, functools.partial) else inner.__wrapped__  # of `jax.jit`
        what = inner if hasattr(inner, "__qualname__") else type(inner)
        fields = dataclasses.fields(inner) if dataclasses.is_dataclass(inner) else ()
        written = {
            "generator": f"{what.__module__}.{what.__qualname__}",
            "fields": {field.name: _readable(getattr(inner, field.name, None)) for field in fields},
            "key": {"impl": str(jr.key_impl(key)), "data": np.asarray(jr.key_data(key)).tolist()},
        }
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", what.__name__)
        name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
        # Of a class of the user's the code counts too: it may read numbers that are no fields.
        own = inspect.isroutine(inner) or what.__module__.split(".")[0] == _PACKAGE
        return cls(name, digest((generate, None if own else type(inner).__call__, key, chunk)), written)


def _readable(x: Any) -> Any:
    """As JSON what can be, and of all else the representation."""
    if x is None or isinstance(x, bool | int | float | str):
        return x
    if isinstance(x, tuple | list):
        return [_readable(part) for part in x]
    if isinstance(x, dict):
        return {str(key): _readable(part) for key, part in x.items()}
    if isinstance(x, jax.Array | np.ndarray) and x.size <= 16 and np.dtype(x.dtype).kind in "biuf":
        return np.asarray(x).tolist()
    return repr(x)


def versions() -> dict[str, str]:
    """Of what makes the numbers, and writes them."""
    packages = ("smdpx", "jax", "diffrax", "numpy", "zarr")
    return {**{name: version(name) for name in packages}, "python": platform.python_version()}
