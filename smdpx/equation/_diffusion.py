"""The noise g(t) dW of an equation.

    dx = P(t, x) dt + g(t) dW                              (arXiv:2301.10250, eq 1)

g may depend on time, on the component and on what `args` says of the sample, never on the state: additive noise is
what the reverse-time equations of the paper are derived for, and what the additive-noise solvers need.
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
from jaxtyping import PyTree

from .._types import Args, RealScalarLike, State
from ._coefficient import STATES, as_coefficient, check_callable, positional
from ._conditions import conditions

__all__ = ["Diffusion"]


class Diffusion(eqx.Module):
    """Noise g(t) dW, independent of the state.

    Args:
        g: a number ≥ 0, an array of them (one per component, broadcast against the state), a pytree
            shaped like the state, or a callable `g(t)` or `g(t, args)` that returns one of these. What is known only in
            a program, a function's or a traced number, may have any sign: -g is the same noise as g, which is
            0 where there is none.

    Raises:
        ValueError: a known number that is negative or not finite.
        TypeError: anything that is no number, array, pytree of arrays, or callable; a callable that wants the state.

    >>> import smdpx as sx
    >>> g = sx.Diffusion(0.03)
    >>> sx.Drift(lambda t, x, args: -x) + g
    dx = P(x) dt + g dW
    """

    g: Any
    __array_ufunc__ = None

    def __check_init__(self) -> None:
        if callable(self.g):
            return check_callable(self.g, "Diffusion", "(t, args)" if _wants_args(self.g) else "(t)")
        if conditions(self.g):
            raise TypeError(
                "`Diffusion` has one g for all samples, and got a `PerSample`. Hand that to the solve, "
                '`args={"g": sx.PerSample(...)}`, and write `Diffusion(lambda t, args: args["g"])`.'
            )
        for leaf in jtu.tree_leaves(self.g):
            if not isinstance(leaf, int | float | np.ndarray | np.generic | jax.Array):
                raise TypeError(f"`Diffusion` takes a number, an array, or g(t); got {self.g!r}.")
            dtype = jnp.result_type(leaf) if isinstance(leaf, int | float) else leaf.dtype
            if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
                raise TypeError(f"`Diffusion` takes real numbers; got {dtype}. Of a complex g write `abs(g)`.")
            if isinstance(leaf, Tracer):
                continue
            if not np.all(np.isfinite(leaf)):
                raise ValueError(f"`Diffusion` needs a finite g; got {self.g}.")
            if np.any(np.asarray(leaf) < 0):
                raise ValueError(f"`Diffusion` needs g >= 0; got {self.g}. Its sign has no meaning: drop it.")
        return None

    def __call__(self, t: RealScalarLike, args: Args = None) -> Any:
        """The value of g at the physical time t, for the `args` of one sample."""
        if not callable(self.g):
            return self.g
        g = self.g(t, args) if _wants_args(self.g) else self.g(t)
        for leaf in jtu.tree_leaves(g):
            if jnp.iscomplexobj(leaf):
                raise TypeError(f"`Diffusion` takes real numbers; g(t) is {leaf.dtype}. Of a complex g write `abs(g)`.")
        return g

    def noisy(self, t: RealScalarLike, x: State, args: Args, values: State) -> State:
        """Values shaped like x, 0 in components without noise: selected, since there they may be anything."""
        return jtu.tree_map(lambda g, v: jnp.where(g != 0, v, jnp.zeros_like(v)), self.like(t, x, args), values)

    def quiet(self, t: RealScalarLike, x: State, args: Args, values: State) -> State:
        """Values shaped like x, 0 in components with noise."""
        return jtu.tree_map(lambda g, v: jnp.where(g != 0, jnp.zeros_like(v), v), self.like(t, x, args), values)

    def everywhere(self) -> bool:
        """Whether every component is known to have noise: not of a function of time, nor of a traced number."""
        if callable(self.g):
            return False
        return all(
            not isinstance(leaf, Tracer) and bool(np.all(np.asarray(leaf) != 0)) for leaf in jtu.tree_leaves(self.g)
        )

    def has_zeros(self) -> bool:
        """Whether some component is known to have no noise."""
        leaves = [] if callable(self.g) else jtu.tree_leaves(self.g)
        return any(bool(np.any(np.asarray(leaf) == 0)) for leaf in leaves if not isinstance(leaf, Tracer))

    def traced(self) -> Diffusion:
        """The same noise, its Python numbers as arrays: one compiled program takes any of them."""
        if isinstance(self.g, _ScaledFunction):
            return eqx.tree_at(lambda noise: noise.g.c, self, _as_array(self.g.c))
        return self if callable(self.g) else jtu.tree_map(_as_array, self)

    def numbers(self, t: RealScalarLike, tree: Any, args: Args = None) -> PyTree:
        """The value of g at t for each leaf of a tree of this structure, as linear parts of scores need it."""
        g = self(t, args)
        if jtu.tree_structure(g) == jtu.tree_structure(0):
            return jtu.tree_unflatten(tree, [g] * tree.num_leaves)
        if jtu.tree_structure(g) != tree:
            raise TypeError(f"The stiff linear part of a score has the tree {tree}, and its g {jtu.tree_structure(g)}.")
        return g

    def like(self, t: RealScalarLike, x: State, args: Args = None) -> State:
        """The value of g at t, broadcast to one sample x: what multiplies dW, component by component."""
        g = self(t, args)
        if jtu.tree_structure(g) == jtu.tree_structure(0):
            g = jtu.tree_map(lambda _: g, x)
        elif jtu.tree_structure(g) != jtu.tree_structure(x):
            raise ValueError(
                f"`Diffusion`: g has the tree {jtu.tree_structure(g)}, the state "
                f"{jtu.tree_structure(x)}. Give one number, a tree like the state's (0 where there is no noise), or, "
                "of one number for each component, an array: `jnp.array([...])`."
            )

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

    def __truediv__(self, other: RealScalarLike) -> Diffusion:
        c = as_coefficient(other)
        return NotImplemented if c is None else self.__mul__(1 / c)

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


def _wants_args(g: Callable[..., Any]) -> bool:
    """Whether g is called with (t, args), rather than (t); an error where it wants the state."""
    parameters = positional(g)
    if any(name in STATES for name, _ in parameters):
        raise TypeError(
            f"`Diffusion` got a function of {inspect.signature(g)}: noise here may depend on t and `args`, not on the "
            "state. Change the variable, so that its noise does not: y = log x where the noise is proportional to "
            "x > 0, in general y = ∫ dx/g(x), for which dy = (P/g - g'/2) dt + dW. The guide is docs/your-step.md, "
            'under "Noise that depends on the state".'
        )
    # A second parameter with a default is the caller's own constant, unless it bears the name.
    required = sum(needed for _, needed in parameters)
    return required == 2 or [name for name, _ in parameters[1:2]] == ["args"]


def _as_array(g: Any) -> Any:
    return jnp.asarray(float(g)) if isinstance(g, int | float) else g


def _broadcasts(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    """Whether an array of this shape fits one of the other without widening it."""
    sizes = zip(shape[::-1], onto[::-1], strict=False)
    return len(shape) <= len(onto) and all(size in (1, of) for size, of in sizes)


class _ScaledFunction(eqx.Module):
    """c · g(t) as a callable."""

    c: Any
    g: Callable[[Any], Any]

    def __call__(self, t: RealScalarLike, args: Args) -> Any:
        """The product c · g(t)."""
        return jtu.tree_map(lambda leaf: self.c * leaf, Diffusion(self.g)(t, args))
