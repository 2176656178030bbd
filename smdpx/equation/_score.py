"""The score's part of a reverse drift, where its convention and its reference are fixed, and nowhere else.

    ½ g(t)² ∇ₓ log p_t(x)                                  (arXiv:2301.10250, eq 8; twice it in eq 9)

Where physics dissipates the score holds 2D/g² for the dissipative part D of P = A + D: on its way back A turns round
and D does not. Counted from there, ∇log p = 2D/g² + r, the reverse drift is -A + D + g² r, stable by construction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from .._types import Args, RealScalarLike, State
from ._algebra import SDE, AbstractDrift, Forward, Reverse
from ._along import Along
from ._coefficient import check_callable
from ._diffusion import Diffusion
from ._drift import ReverseDrift, has, stated
from ._linear import AbstractLinear, Diagonal, is_part, plus
from ._trained import Trained

__all__ = ["Score", "memories", "scores", "unrecorded"]


class Score(AbstractDrift[Reverse]):
    """The score's part of a reverse drift: ½ g(t)² s(t, x), where s(t, x) is ∇ₓ log p_t(x).

    The convention is fixed here and nowhere else: `net` *is* the score, and coefficients count in units of
    ½g². So `-P + s` is the probability flow (arXiv:2301.10250, eq 8, C = 1) and `-P + 2*s + g` the
    reverse-time SDE (eq 9, C = 2), as Anderson (1982) has it. Plain one-step training backwards learns
    g²∇log p (theorem A.2), so it trains `-P + 2*s`, and the coefficient is never folded into the network.

    **Around a dissipation.** `Score(net, g, around=D)` is the score 2D/g² + net(t, x), without a division by g²: at
    coefficient 1 it adds D + ½g²·net, so `-(A + D) + 2*s` runs the dissipative part D of the physics forward and turns
    A alone round. Of a simulator's step it is the forward step itself. In components without noise it adds nothing. A
    network with a method `remainder(t, x, args, balance)`, as `nn.Whitened` has, leaves its own reference out, but,
    where D states its linear part, in modes whose variance is their start's: after a narrow one, say, where noise
    and dissipation have not met yet.

    Called, `s(t, x, args)`, it is ∇ₓ log p_t(x) with everything that it is counted from; 0 in components without noise.

    Args:
        net: the score for one sample, `net(t, x, args)`, shaped like x; units of 1/x.
        g: the forward process's noise.
        around: the forward drift D that the score is counted from, the dissipative part of the physics or all of it.
        name: what it is called in print.
        trained: the steps, the solver and the curriculum that it was trained with; `fit` fills it in, and `solve` warns
            where it is asked for a solver that this score does not fit, or, of one that was learned through Euler's
            method, for other steps.

    Raises:
        TypeError: net is not callable with three arguments, g is not a `Diffusion`, or `around` no forward drift.
        ValueError: a known g whose square is too small, or too large, for its precision.

    >>> import smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x, g)
    >>> -P + 2 * s + g
    dx = [-P(x) + 2·½g²·s(t, x)] dτ + g dW
    >>> A, D = sx.Drift(lambda t, x, args: x[::-1], name="A"), sx.Drift(lambda t, x, args: -(x**3), name="D")
    >>> s = sx.Score(lambda t, x, args: -x, g, around=D)
    >>> print(-(A + D) + 2 * s)
    dx = [-A(x) + D(x) + 2·½g²·s(t, x)] dτ
    """

    net: Callable[[Any, Any, Any], Any]
    g: Diffusion
    around: AbstractDrift[Forward] | None = None
    name: str = eqx.field(static=True, default="s")
    trained: Trained | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_callable(self.net, "Score", "(t, x, args)")
        if not isinstance(self.g, Diffusion):
            raise TypeError(f"`Score` needs the process's noise; got {self.g!r}. Write `Score(net, Diffusion(g))`.")
        _check_square(self.g)
        if self.around is not None and getattr(self.around, "direction", None) is not Forward:
            raise TypeError(f"`Score(around=...)` takes a forward drift, a part of the physics; got {self.around!r}.")

    @property
    def direction(self) -> type[Reverse]:
        """`Reverse`."""
        return Reverse

    @property
    def is_score(self) -> bool:
        """It is one."""
        return True

    @property
    def has_outside(self) -> bool:
        """Whether its network can say where it knows nothing."""
        return has(self.net, "outside")

    @property
    def reference(self) -> Along | None:
        """D, run forward in reverse time."""
        return None if self.around is None else Along(self.around, self.g)

    @property
    def has_reference(self) -> bool:
        """Whether it is counted from something that is not learned: D, or what its network brings."""
        return self.around is not None or has(self.net, "remainder")

    def free(self) -> Score:
        """The score without D: the remainder's part, without the network's own reference too."""
        if self.around is None:
            return self
        net: Any = _Remainder(self) if has(self.net, "remainder") else self.net
        return Score(net, self.g, None, self.name, self.trained)

    def balance(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """2L/g² of the linear part L of D, an operator for each array: for a network with a reference of its own."""
        D = None if self.around is None or not has(self.net, "more") else self.around.linear(t, args)
        if D is None:
            return None
        g = self.g.numbers(t, jtu.tree_structure(D, is_leaf=is_part), args)
        return jtu.tree_map(_over_half_square, D, g, is_leaf=is_part)

    def outside(self, t: RealScalarLike, x: State, args: Args) -> State | None:
        """How far out of what it knows each component of x is, -1 to 1, where the network can say."""
        net: Any = self.net
        return net.outside(t, x) if self.has_outside else None

    def check_times(self, first: float, last: float) -> None:
        """Let the network look at the times that it is to be trained on, where it wants to."""
        net: Any = self.net
        if has(net, "check_times"):
            net.check_times(first, last)

    def __call__(self, t: RealScalarLike, x: State, args: Args = None) -> State:
        """∇ₓ log p_t(x) of one sample; 0 in components without noise, which have none."""
        s = self.free().net(t, x, args)
        if self.around is not None:
            D = self.around.rate(t, x, args)
            s = jtu.tree_map(lambda g, d, r: 2 * d / jnp.where(g != 0, g**2, 1) + r, self.g.like(t, x, args), D, s)
        return self.g.noisy(t, x, args, s)

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """½ g(t)² net(t, x), beside D where there is one."""
        if self.around is not None:
            return self._apart(lambda drift: drift.rate(t, x, args))
        return jtu.tree_map(lambda g, s: 0.5 * g**2 * s, self.g.like(t, x, args), self.net(t, x, args))

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The rate's, beside D's own over the interval."""
        if self.around is not None:
            return self._apart(lambda drift: drift.increment(t, x, dt, args))
        return super().increment(t, x, dt, args)

    def _apart(self, change: Callable[[AbstractDrift], State]) -> State:
        """What D does and what the remainder does, added."""
        reference: Any = self.reference
        return jtu.tree_map(jnp.add, change(reference), change(self.free()))

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """½ g(t)² net.linear(t), where the network has such a method, of each array with its own g; or that of D."""
        if self.around is None:
            return self._times_half_square(stated(self.net, t, args), t, args)
        net: Any = self.net
        balance = self.balance(t, args)
        more = None if balance is None else net.more(t, balance)
        return plus(self.around.linear(t, args), self._times_half_square(more, t, args))

    def _times_half_square(self, linear: PyTree[AbstractLinear], t: RealScalarLike, args: Args) -> Any:
        if linear is None:
            return None
        g = self.g.numbers(t, jtu.tree_structure(linear, is_leaf=is_part), args)
        return jtu.tree_map(_half_square, linear, g, is_leaf=is_part)

    @property
    def states_linear(self) -> bool:
        """Whether D does; or the network, by a method `linear`."""
        return has(self.net, "linear") if self.around is None else self.around.states_linear

    def __repr__(self) -> str:
        return f"½g²·{self.name}(t, x)"


def _check_square(g: Diffusion) -> None:
    """Raise where a known g² is too small or too large for g's precision: the score would vanish with it."""
    known = [] if callable(g.g) else [leaf for leaf in jtu.tree_leaves(g.g) if not isinstance(leaf, Tracer)]
    for leaf in known:
        dtype = jnp.result_type(leaf, float)
        size = np.abs(np.asarray(leaf, dtype))
        limits = jnp.finfo(dtype)
        lost = (size > 0) & ((size < float(limits.tiny) ** 0.5) | (size > float(limits.max) ** 0.5))
        if lost.any():
            raise ValueError(
                f"`Score` needs g², and of g = {size[lost].flat[0]:.3g} that is no number in {dtype}. Choose units in "
                "which states are nearer to 1, or compute in double precision, "
                '`jax.config.update("jax_enable_x64", True)`.'
            )


class _Remainder(eqx.Module):
    """A network without its own reference, but in modes that need no D."""

    score: Score

    def __call__(self, t: RealScalarLike, x: State, args: Args) -> State:
        net: Any = self.score.net
        return net.remainder(t, x, args, self.score.balance(t, args))


def _over_half_square(L: AbstractLinear | None, g: Any) -> AbstractLinear | None:
    """2L/g², the score that balances L; -∞ without noise."""
    if L is None or (not isinstance(L, Diagonal) and np.shape(g) != ()):
        return None
    noisy = jnp.asarray(g, L.rates.dtype) != 0
    square = jnp.where(noisy, jnp.asarray(g, L.rates.dtype), 1) ** 2
    return L.with_rates(jnp.where(noisy, 2 * L.rates / square, -jnp.inf))


def _half_square(L: AbstractLinear | None, g: Any) -> AbstractLinear | None:
    if L is None:
        return None
    if isinstance(L, Diagonal):  # component by component, like the noise
        return L.times(0.5 * g**2)
    if np.shape(g) != ():
        raise TypeError(
            f"The stiff linear part of a score needs a g that is one number at each time, for each array; got {g}."
        )
    return 0.5 * g**2 * L


def unrecorded(equation: Any) -> Any:
    """The equation with drifts that remember no training: those of the same network are one compiled program."""
    learned = lambda leaf: isinstance(leaf, Score | ReverseDrift)  # noqa: E731
    forget = lambda leaf: dataclasses.replace(leaf, trained=None) if learned(leaf) else leaf  # noqa: E731
    return jtu.tree_map(forget, equation, is_leaf=learned)


def memories(equation: AbstractDrift | SDE) -> list[tuple[AbstractDrift, Trained]]:
    """The drifts of an equation that were trained, and how."""
    learned = [term.drift for term in equation.summands if isinstance(term.drift, Score | ReverseDrift)]
    return [(drift, drift.trained) for drift in learned if drift.trained is not None]


def scores(equation: AbstractDrift | SDE) -> list[tuple[Any, Score]]:
    """The coefficient and the score of each score term of an equation, whichever way time runs."""
    return [(term.coefficient, term.drift) for term in equation.summands if isinstance(term.drift, Score)]
