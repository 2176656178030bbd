"""A fingerprint of a training: a digest of each thing that decides its future, so that a mismatch can be named.

Seen are arrays, numbers, dataclasses and containers, and functions by their code, constants, defaults, what they close
over, and what they read by a global name: numbers, arrays, containers and dataclasses, and functions of the same file.
Not seen are other global objects, the code of functions of other files, methods that are called by their object's name,
and the versions of libraries.
"""

import dataclasses
import functools
import hashlib
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

__all__ = ["Identified", "digest", "fingerprint_of"]


class Identified:
    """What is too large to be looked at, and knows what it is.

    Attributes:
        identity: the digest that stands for it.
    """

    identity: str


def fingerprint_of(job: Any, paths: Any, validation: Any) -> dict[str, str]:
    """The digests of what a training is given, by the names that the user knows."""
    training = job.training
    return {
        "key": digest(job.key),
        "curriculum": digest(job.curriculum),
        "loss": digest(training.loss),
        "optimizer": digest(training.optimizer),
        "average": digest(training.average),
        "data": digest(paths),
        "validation": digest(validation),
        "equation": digest(training.equation),
        "train": digest(training.parts),
    }


def digest(x: Any) -> str:
    """Sixteen hexadecimal digits that say what x is."""
    hasher = hashlib.blake2b(digest_size=8)
    _Walk(hasher.update, set()).visit(x)
    return hasher.hexdigest()


@dataclasses.dataclass
class _Walk:
    write: Callable[[bytes], None]
    above: set[int]  # the objects that are being visited: a function may close over itself

    def visit(self, x: Any) -> None:
        if id(x) in self.above:
            return self.write(b"<above>")
        self.above.add(id(x))
        self.write(f"<{type(x).__module__}.{type(x).__qualname__}>".encode())
        self._parts(x)
        self.above.discard(id(x))
        return None

    def _parts(self, x: Any) -> None:
        if isinstance(x, Identified):
            return self.write(x.identity.encode())
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jr.key_data(x)
        if isinstance(x, jax.Array | np.ndarray | np.generic):
            array = np.asarray(x)
            self.write(f"{array.dtype}{array.shape}".encode())
            return self.write(np.ascontiguousarray(array).tobytes())
        if isinstance(x, types.FunctionType):
            cells = [cell.cell_contents for cell in x.__closure__ or ()]
            return self._each(x.__code__, x.__defaults__, x.__kwdefaults__, cells, _globals(x))
        if isinstance(x, types.CodeType):
            return self._each(x.co_code, x.co_consts, x.co_names)
        if isinstance(x, types.MethodType):
            return self._each(x.__func__, x.__self__)
        if isinstance(x, functools.partial):
            return self._each(x.func, x.args, x.keywords)
        if dataclasses.is_dataclass(x) and not isinstance(x, type):
            return self._each(*((field.name, getattr(x, field.name, None)) for field in dataclasses.fields(x)))
        if isinstance(x, dict):
            return self._each(*x.items())
        if isinstance(x, tuple | list):
            return self._each(*x)
        if isinstance(x, set | frozenset):
            return self._each(*sorted(map(digest, x)))
        if (wrapped := getattr(x, "__wrapped__", None)) is not None:  # `jax.jit`, `functools.wraps`
            return self._each(wrapped)
        if isinstance(x, type | types.BuiltinFunctionType | types.ModuleType):
            return self.write(f"{getattr(x, '__module__', '')}.{getattr(x, '__qualname__', x.__name__)}".encode())
        if hasattr(x, "__dict__"):
            return self._each(*vars(x).items())
        return self.write(repr(x).encode())

    def _each(self, *parts: Any) -> None:
        for part in parts:
            self.visit(part)
        self.write(b"</>")


_INSTALLED = (*(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))
_DATA = (bool, int, float, complex, str, bytes, np.ndarray, np.generic, jax.Array, tuple, list, dict, set, frozenset)


def _globals(f: types.FunctionType) -> dict[str, Any]:
    """What a user's function reads by a global name, of what can be told apart by its value."""
    if f.__code__.co_filename.startswith(_INSTALLED):  # a library's globals are its own business
        return {}
    names: set[str] = set()
    codes = [f.__code__]
    while codes:  # of functions inside of it too
        code = codes.pop()
        names |= set(code.co_names)
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]

    def seen(x: Any) -> bool:
        if isinstance(x, types.FunctionType) or hasattr(x, "__wrapped__"):
            return getattr(x, "__module__", None) == f.__module__
        return isinstance(x, _DATA) or (dataclasses.is_dataclass(x) and not isinstance(x, type))

    return {name: f.__globals__[name] for name in sorted(names) if name in f.__globals__ and seen(f.__globals__[name])}
