"""Numbers on their way into a compiled solve: Python's make no program of their own, each array keeps its precision.

A Python float is a constant of a compiled program, so that a loop over a viscosity would compile at every pass. In
`args` and in the noise they become arrays, weakly typed as Python's are: they take the dtype of what they meet.
Integers and flags stay what they are, since code counts and branches on them; so do coefficients (`2 * s`).

States may have arrays of several precisions. diffrax's Runge-Kutta steps want one: such states are solved in the
widest, and what is handed to the drifts is rounded to each array's own, so that they are computed as they were written.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree

from .._types import Args, RealScalarLike, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._balance import Halves
from ..equation._conditions import check_args
from ..equation._diffusion import Diffusion
from ..equation._linear import AbstractLinear
from ._validate import widest

__all__ = ["as_arrays", "in_one_precision"]


def as_arrays(equation: Any, args: Args) -> tuple[Any, Args]:
    """An equation and its args, with the Python numbers of the noise and the Python floats of args as arrays."""

    def of_noise(node: Any) -> Any:
        return node.traced() if isinstance(node, Diffusion) else node

    check_args(args)
    equation = jtu.tree_map(of_noise, equation, is_leaf=lambda node: isinstance(node, Diffusion))
    return equation, jtu.tree_map(lambda leaf: jnp.asarray(leaf) if type(leaf) is float else leaf, args)


class _InOwnPrecision(AbstractDrift[Any]):
    """A drift that is given, and gives, states in one precision, and computes with each array's own."""

    drift: AbstractDrift
    narrow: Callable[[State], State] = eqx.field(static=True)
    widen: Callable[[State], State] = eqx.field(static=True)

    @property
    def direction(self) -> type:
        """That of the drift."""
        return self.drift.direction

    @property
    def summands(self) -> Any:
        """Those of the drift."""
        return self.drift.summands

    @property
    def links(self) -> Any:
        """Those of the drift."""
        return self.drift.links

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """The drift's."""
        return self.widen(self.drift.rate(t, self.narrow(x), args))

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The drift's."""
        return self.widen(self.drift.increment(t, self.narrow(x), dt, args))

    def halves(self) -> Halves:
        """The drift's."""

        def of_one(half: Callable[..., State]) -> Callable[..., State]:
            return lambda t, x, dt, args: self.widen(half(t, self.narrow(x), dt, args))

        return Halves(*map(of_one, self.drift.halves()))

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """The drift's: an operator takes states of any precision."""
        return self.drift.linear(t, args)

    def __repr__(self) -> str:
        return repr(self.drift)


def in_one_precision(equation: Any, x: State) -> tuple[Any, State, Callable[[State], State]]:
    """An equation and states that diffrax can solve, and the way back to each array's own precision.

    Args:
        equation: a drift, or an `SDE`.
        x: states.

    Returns:
        All as they are, where the states have one dtype.
    """
    own = [leaf.dtype for leaf in jtu.tree_leaves(x)]
    if len(set(own)) == 1:
        return equation, x, lambda x: x
    wide, like = widest(x), jtu.tree_structure(x)

    def narrow(x: Any) -> Any:
        leaves, tree = jtu.tree_flatten(x)
        if tree != like:  # what a user's `SaveAt(fn=...)` made of states
            return x
        return jtu.tree_unflatten(tree, [leaf.astype(dtype) for leaf, dtype in zip(leaves, own, strict=True)])

    def widen(x: State) -> State:
        return jtu.tree_map(lambda leaf: leaf.astype(wide), x)

    if isinstance(equation, SDE):
        equation = eqx.tree_at(lambda sde: sde.drift, equation, _InOwnPrecision(equation.drift, narrow, widen))
    else:
        equation = _InOwnPrecision(equation, narrow, widen)
    return equation, widen(x), narrow
