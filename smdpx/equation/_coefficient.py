"""The real coefficients that multiply drifts and noise, and the functions that users give to them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import RealScalarLike, State

# What the state is called in functions of users.
STATES = ("x", "y", "z", "u", "state", "states")


def positional(f: Callable[..., Any]) -> list[tuple[str, bool]]:
    """The names of a function's positional parameters, and whether each must be given; "" where a name says nothing."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return []
    # A name that no caller can use, as NumPy's and JAX's own functions have, says nothing of what it is.
    return [
        ("" if p.kind is p.POSITIONAL_ONLY else p.name.lower(), p.default is p.empty)
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def check_callable(f: Any, owner: str, signature: str) -> None:
    """Raise where `f` cannot be called with the arguments that `signature` names, or names two of them swapped."""
    if not callable(f):
        raise TypeError(f"`{owner}` needs a callable {signature}; got {f!r} of type {type(f).__name__}.")
    try:
        parameters = inspect.signature(f)
    except (TypeError, ValueError):  # some builtins have no signature: trust them
        return
    wanted = signature.strip("()").split(", ")
    if _swaps(f, wanted):
        raise TypeError(
            f"`{owner}` calls its function with {signature}, in this order; got a function of {parameters}. "
            f"Write `lambda {', '.join(wanted)}: ...`."
        )
    try:
        parameters.bind(*wanted)
    except TypeError:
        step = " Of a solver's step, (x, dt), write `Drift.from_step(step)`." if owner == "Drift" else ""
        raise TypeError(
            f"`{owner}` calls its function with {signature}; got a function of {parameters}. "
            f"Write `lambda {signature.strip('()')}: ...`.{step}"
        ) from None


def _swaps(f: Callable[..., Any], wanted: list[str]) -> bool:
    """Whether two of f's parameters bear each other's names: a scalar state and a time are one kind of number."""
    names = ["x" if name in STATES else name for name, _ in positional(f)][: len(wanted)]
    other = [i for i, name in enumerate(names) if name in wanted and name != wanted[i]]
    return any(names[i] == wanted[j] and names[j] == wanted[i] for i in other for j in other)


def takes(f: Callable[..., Any], count: int) -> bool:
    """Whether f can be called with this many arguments; what has no signature is taken to want no more than it must."""
    try:
        inspect.signature(f).bind(*range(count))
    except ValueError:  # some builtins have no signature
        return count == 1
    except TypeError:
        return False
    return True


def scale(coefficient: RealScalarLike, x: State) -> State:
    """Coefficient · x, leaf by leaf, in the dtype of x."""
    if isinstance(coefficient, int | float):
        return x if coefficient == 1 else jtu.tree_map(lambda leaf: coefficient * leaf, x)
    return jtu.tree_map(lambda leaf: jnp.asarray(coefficient).astype(leaf.dtype) * leaf, x)


def as_coefficient(c: Any) -> Any:
    """A real scalar as it came (NumPy's as Python's), or None for a stranger."""
    if isinstance(c, np.generic) and np.issubdtype(c.dtype, np.number):
        c = c.item()
    if isinstance(c, bool | int | float):
        if not np.isfinite(c):
            raise ValueError(f"A coefficient must be finite; got {c}.")
        return c
    if isinstance(c, jax.Array | np.ndarray):
        if c.shape != () or not (jnp.issubdtype(c.dtype, jnp.floating) or jnp.issubdtype(c.dtype, jnp.integer)):
            raise TypeError(
                f"A coefficient is one real number; got an array of shape {c.shape} and dtype {c.dtype}. "
                "Put an array into the drift's own function, or into `Diffusion(array)`."
            )
        return jnp.asarray(c) if jnp.issubdtype(c.dtype, jnp.floating) else jnp.asarray(c).astype(float)
    return None
