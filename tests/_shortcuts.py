"""Three things that JAX and jaxtyping do for every program and every call, done once: a sixth of the tests' time.

They reach inside of these libraries, as nothing in smdpx does. Where a version has other insides, it goes the long way.
"""

import functools
import importlib
import itertools
from typing import Any

from beartype.door import is_bearable

__all__ = ["take"]


def take() -> None:
    """Take those that there are."""
    _replace("jax._src.interpreters.mlir", "make_ir_context", _shared)
    _replace("jaxtyping._typeguard", "typechecked", lambda _: _typechecked)
    for name in ("_make_fn_with_signature", "_apply_typechecker"):
        _replace("jaxtyping._decorator", name, _once)


def _replace(module: str, name: str, by: Any) -> None:
    try:
        inside = importlib.import_module(module)
        setattr(inside, name, by(getattr(inside, name)))
    except (ImportError, AttributeError):
        pass


def _shared(make: Any) -> Any:
    """JAX loads MLIR's dialects anew for each program, 5 ms; a hundred programs may share them.

    A context keeps the constants of all its programs: hence not all of them.
    """
    programs, context = itertools.count(), functools.lru_cache(maxsize=1)(lambda hundred: make())
    return lambda: context(next(programs) // 100)


def _typechecked(function: Any) -> Any:
    """For each leaf of each tree, jaxtyping calls a function that it decorates anew: ten times slower."""
    (hint,) = function.__annotations__.values()

    def accepts(leaf: Any) -> None:
        if not is_bearable(leaf, hint):
            raise TypeError(f"{type(leaf)} is no {hint}.")

    return accepts


def _once(make: Any) -> Any:
    """For each function inside of another, jaxtyping makes its checks whenever the other is called: 1 ms."""
    made = functools.cache(make)

    def known(*args: Any, **kwargs: Any) -> Any:
        try:
            return made(*args, **kwargs)
        except TypeError:  # a default value that has no hash
            return make(*args, **kwargs)

    return known
