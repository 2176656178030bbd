"""The noise g(t) dW, and the real coefficients that multiply drifts and noise.

    dx = P(t, x) dt + g(t) dW                              (arXiv:2301.10250, eq 1)

g may depend on time and on the component, never on the state: additive noise is what the reverse-time
equations of the paper are derived for, and what the additive-noise solvers need.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer

from ._types import RealScalarLike, State

__all__ = ["Diffusion"]


def check_callable(f: Any, owner: str, signature: str) -> None:
    """Raise where `f` cannot be called with the arguments that `signature` names."""
    if not callable(f):
        raise TypeError(f"`{owner}` needs a callable {signature}; got {f!r} of type {type(f).__name__}.")
    try:
        parameters = inspect.signature(f)
    except (TypeError, ValueError):  # some builtins have no signature: trust them
        return
    try:
        parameters.bind(*signature.strip("()").split(", "))
    except TypeError:
        raise TypeError(
            f"`{owner}` calls its function with {signature}; got a function of {parameters}. "
            f"Write `lambda {signature.strip('()')}: ...`."
        ) from None


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


class Diffusion(eqx.Module):
    """Noise g(t) dW, independent of the state.

    Arguments:
        g: a number ≥ 0, an array of them (one per component, broadcast against the state), a pytree
            shaped like the state, or a callable `g(t)` that returns one of these.

    Raises:
        ValueError: a negative or non-finite g.
        TypeError: anything that is no number, array, pytree of arrays, or callable.

    >>> import smdpx as sx
    >>> g = sx.Diffusion(0.03)
    >>> sx.Drift(lambda t, x, args: -x) + g
    dx = P(x) dt + g dW
    """

    g: Any
    __array_ufunc__ = None

    def __check_init__(self) -> None:
        if callable(self.g):
            return check_callable(self.g, "Diffusion", "(t)")
        for leaf in jtu.tree_leaves(self.g):
            if not isinstance(leaf, int | float | np.ndarray | np.generic | jax.Array):
                raise TypeError(f"`Diffusion` takes a number, an array, or g(t); got {self.g!r}.")
            if isinstance(leaf, Tracer):
                continue
            if not np.all(np.isfinite(leaf)):
                raise ValueError(f"`Diffusion` needs a finite g; got {self.g}.")
            if np.any(np.asarray(leaf) < 0):
                raise ValueError(f"`Diffusion` needs g >= 0; got {self.g}. Its sign has no meaning: drop it.")
        return None

    def __call__(self, t: RealScalarLike) -> Any:
        """The value of g at the physical time t."""
        return self.g(t) if callable(self.g) else self.g

    def number(self, t: RealScalarLike) -> Any:
        """The value of g at t where it is one number, as linear parts of scores need it."""
        g = self(t)
        if jtu.tree_structure(g) != jtu.tree_structure(0) or np.shape(g) != ():
            raise TypeError(f"The stiff linear part of a score needs a g that is one number at each time; got {g}.")
        return g

    def like(self, t: RealScalarLike, x: State) -> State:
        """The value of g at t, broadcast to one sample x: what multiplies dW, component by component."""
        g = self(t)
        if jtu.tree_structure(g) != jtu.tree_structure(x):
            leaves = jtu.tree_leaves(g)
            if len(leaves) != 1:
                raise ValueError(
                    f"`Diffusion`: g has the tree {jtu.tree_structure(g)}, the state "
                    f"{jtu.tree_structure(x)}. Give one number, or a tree like the state's."
                )
            g = jtu.tree_map(lambda _: leaves[0], x)

        def broadcast(g_leaf, x_leaf):
            if not _broadcasts(np.shape(g_leaf), x_leaf.shape):
                raise ValueError(
                    f"`Diffusion`: g of shape {np.shape(g_leaf)} does not fit a state of shape {x_leaf.shape}."
                )
            return jnp.broadcast_to(jnp.asarray(g_leaf).astype(x_leaf.dtype), x_leaf.shape)

        return jtu.tree_map(broadcast, g, x)

    def __mul__(self, other: RealScalarLike) -> Diffusion:
        c = as_coefficient(other)
        if c is None:
            return NotImplemented
        if callable(self.g):
            return Diffusion(_ScaledFunction(c, self.g))
        return Diffusion(jtu.tree_map(lambda leaf: c * leaf, self.g))

    def __rmul__(self, other: RealScalarLike) -> Diffusion:
        return self.__mul__(other)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Diffusion):
            raise TypeError(
                "An equation has at most one diffusion. For two independent noises "
                "write `Diffusion(jnp.sqrt(g1**2 + g2**2))`."
            )
        return NotImplemented

    def __neg__(self) -> Diffusion:
        raise TypeError("Noise has no sign: write `+ g`.")

    def __repr__(self) -> str:
        return "g" if not callable(self.g) else "g(t)"


def _broadcasts(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    """Whether an array of this shape fits one of the other without widening it."""
    sizes = zip(shape[::-1], onto[::-1], strict=False)
    return len(shape) <= len(onto) and all(size in (1, of) for size, of in sizes)


class _ScaledFunction(eqx.Module):
    """c · g(t) as a callable."""

    c: Any
    g: Callable[[Any], Any]

    def __call__(self, t: RealScalarLike) -> Any:
        """The product c · g(t)."""
        return jtu.tree_map(lambda leaf: self.c * leaf, self.g(t))
