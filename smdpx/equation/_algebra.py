"""The algebra of equations: drifts, noise, and what may be added to what. Nothing is solved here.

    dx = P(t, x) dt + g(t) dW                              (arXiv:2301.10250, eq 1)
    dx = [-P(t, x) + C·½g²·s(t, x)] dτ + √(C - 1)·g dW      (eqs 8 and 9: C = 1 and C = 2)

Drifts form a vector space over a direction of time. Forward drifts are rates in physical time t, reverse
drifts are rates in τ = T - t, and unary minus turns one into the other. Every callable sees the
physical t in both. An equation is either a drift (an ODE) or a drift plus one diffusion (an SDE). The only
nodes are a flat sum and a scaling; the leaves are in `_drift`, the noise in `_diffusion`. How
an equation becomes a solve is `_terms`' business.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, overload

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PyTree

from .._types import Args, RealScalarLike, State
from ._balance import Halves, Link, cancelled, guarded, halves, links, once, printed
from ._coefficient import as_coefficient, scale
from ._diffusion import Diffusion
from ._linear import AbstractLinear, plus, times

__all__ = ["SDE", "AbstractDrift", "Forward", "Reverse"]


class Forward:
    """The direction of physical time: a drift of this direction is dx/dt."""


class Reverse:
    """The direction against physical time: a drift of this direction is dx/dτ with τ = T - t."""


D = TypeVar("D")


def _opposite(direction: type) -> type:
    return Reverse if direction is Forward else Forward


class AbstractDrift(eqx.Module, Generic[D]):
    """A rate of change of the state in one direction of time: an element of a vector space.

    Add drifts of one direction, multiply by numbers, reverse time with unary minus, and add one
    `Diffusion` to make an `SDE`. Subclass it for a drift of your own kind.
    """

    # NumPy would otherwise take `np.float64(2.) * s` apart itself.
    __array_ufunc__ = None

    @property
    @abc.abstractmethod
    def direction(self) -> type[D]:
        """`Forward` or `Reverse`."""

    @abc.abstractmethod
    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """The rate at the physical time t, for one sample: shaped like x."""

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The change of one sample over an interval dt > 0 of this drift's own time, from t on."""
        return scale(dt, self.rate(t, x, args))

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The change over dt > 0 against this drift's own time, from t on; a rate's is -dt·rate."""
        return scale(-1, self.increment(t, x, dt, args))

    def check_reversible(self) -> None:
        """Raise where minus this drift has no meaning; a rate's always has."""
        return

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """The stiff linear part of the rate at t, where the drift's function states one: a tree like the state's."""
        return None

    @property
    def states_linear(self) -> bool:
        """Whether it states a stiff linear part."""
        return type(self).linear is not AbstractDrift.linear

    @property
    def has_rate(self) -> bool:
        """Whether it can be evaluated between steps."""
        return True

    @property
    def is_score(self) -> bool:
        """Whether it stands for ∇log p, and the rest of the equation for the physics."""
        return False

    @property
    def has_outside(self) -> bool:
        """Whether it can say where it knows nothing."""
        return False

    @property
    def reference(self) -> Any:
        """What the drift is counted from, an `Along`, where that is another drift."""
        return None

    def free(self) -> AbstractDrift[D]:
        """The drift without its reference."""
        return self

    def outside(self, t: RealScalarLike, x: State, args: Args) -> State | None:
        """How far out of what it knows each component of x is, -1 (below) to 1 (above), for a drift that can say."""
        return None

    @property
    def summands(self) -> tuple[Scaled, ...]:
        """The flat sum that this drift is."""
        return (Scaled(1, self, False),)

    @property
    def links(self) -> tuple[Link, ...]:
        """Which summands cancel what scores are counted from; known where the sum is made, by identity."""
        return ()

    def halves(self) -> Halves:
        """Its physics and its scores apart."""
        return halves(self.summands, self.links, self.direction is Reverse)

    @overload
    def __neg__(self: AbstractDrift[Forward]) -> AbstractDrift[Reverse]: ...
    @overload
    def __neg__(self: AbstractDrift[Reverse]) -> AbstractDrift[Forward]: ...
    def __neg__(self) -> Any:
        return _sum(tuple(term.reverse() for term in self.summands))

    @overload
    def __add__(self, other: AbstractDrift[D]) -> AbstractDrift[D]: ...
    @overload
    def __add__(self, other: Diffusion) -> SDE[D]: ...
    @overload
    def __add__(self, other: SDE[D]) -> SDE[D]: ...
    def __add__(self, other: Any) -> Any:
        if isinstance(other, Diffusion):
            return SDE(self, other)
        if isinstance(other, SDE):
            return SDE(self + other.drift, other.diffusion)
        if not isinstance(other, AbstractDrift):
            return NotImplemented
        if self.direction is not other.direction:
            forward, reverse = (self, other) if self.direction is Forward else (other, self)
            raise TypeError(
                f"Cannot add the forward drift [{forward!r}] dt and the reverse drift [{reverse!r}] dτ. "
                "Write `-P + s` for the process run backwards in time, `P - s` for its flow run forwards."
            )
        return _sum(self.summands + other.summands)

    @overload
    def __radd__(self, other: Diffusion) -> SDE[D]: ...
    @overload
    def __radd__(self, other: Literal[0]) -> AbstractDrift[D]: ...
    def __radd__(self, other: Any) -> Any:
        if type(other) is int and other == 0:  # what `sum` begins with
            return self
        return SDE(self, other) if isinstance(other, Diffusion) else NotImplemented

    @overload
    def __sub__(self: AbstractDrift[Forward], other: AbstractDrift[Reverse]) -> AbstractDrift[Forward]: ...
    @overload
    def __sub__(self: AbstractDrift[Reverse], other: AbstractDrift[Forward]) -> AbstractDrift[Reverse]: ...
    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Diffusion | SDE):
            raise TypeError(f"Noise has no sign: write `+ g` instead of subtracting {other!r}.")
        if not isinstance(other, AbstractDrift):
            return NotImplemented
        if self.direction is other.direction:
            raise TypeError(
                f"`{self!r} - {other!r}`: unary minus reverses time, so this would add drifts of two "
                f"directions. For a difference within one direction write `+ (-1) * ...`."
            )
        return self + (-other)

    def __mul__(self, other: RealScalarLike) -> AbstractDrift[D]:
        c = as_coefficient(other)
        if c is None:
            return NotImplemented
        return _sum(tuple(term.times(c) for term in self.summands))

    def __rmul__(self, other: RealScalarLike) -> AbstractDrift[D]:
        return self.__mul__(other)

    def __truediv__(self, other: RealScalarLike) -> AbstractDrift[D]:
        c = as_coefficient(other)
        return NotImplemented if c is None else self.__mul__(1 / c)

    def __str__(self) -> str:
        return f"dx = {_bracket(self)} {_clock(self)}"


class Scaled(AbstractDrift[Any]):
    """coefficient · drift, run with (`reversed=False`) or against the drift's own time."""

    coefficient: Any
    drift: AbstractDrift[Any]
    reversed: bool = eqx.field(static=True)

    @property
    def direction(self) -> type:
        """The drift's, or the other one where it is reversed."""
        return _opposite(self.drift.direction) if self.reversed else self.drift.direction

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """±coefficient · rate of the drift."""
        rate = scale(self.coefficient, self.drift.rate(t, x, args))
        return scale(-1, rate) if self.reversed else rate

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """Coefficient · the drift's own increment, or the one it states for reversed time."""
        increment = self.drift.reversed_increment if self.reversed else self.drift.increment
        return scale(self.coefficient, increment(t, x, dt, args))

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """That of the same summand in the other direction of time."""
        return self.reverse().increment(t, x, dt, args)

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """±coefficient · the drift's."""
        return times(-1 if self.reversed else 1, times(self.coefficient, self.drift.linear(t, args)))

    @property
    def states_linear(self) -> bool:
        """Whether the drift does."""
        return self.drift.states_linear

    @property
    def summands(self) -> tuple[Scaled, ...]:
        """Itself."""
        return (self,)

    def reverse(self) -> Scaled:
        """The same summand in the other direction of time."""
        self.drift.check_reversible()
        return Scaled(self.coefficient, self.drift, not self.reversed)

    def times(self, c: Any) -> Scaled:
        """The summand multiplied by a number."""
        return Scaled(c * self.coefficient, self.drift, self.reversed)

    def __repr__(self) -> str:
        # Anything but a Python number prints as C: a traced value has no number to print.
        number = f"{self.coefficient:g}" if isinstance(self.coefficient, int | float) else "C"
        prefix = {"1": "", "-1": "-"}.get(number, f"{number}·")
        sign = "-" if self.reversed else ""
        return (sign + prefix).replace("--", "") + repr(self.drift)


class Sum(AbstractDrift[Any]):
    """A flat sum of summands of one direction.

    Two things are more than a sum. A score that is counted from a dissipation D cancels against -D: of a simulator's
    step, whose reversal is a step of its own, only what is left over is taken, forward. And where a score says that a
    state is outside of what it knows, and -P would carry it further out, the physics runs forward in both directions of
    time, as if the score were 2P/g², component by component:

        (1 - w)·[-P + C·½g²·s] + w·(C - 1)·P,    w = 0 inside to 1 outside.

    Attributes:
        parts: the summands.
        links: what cancels of what scores are counted from.
    """

    parts: tuple[Scaled, ...]
    links: tuple[Link, ...] = eqx.field(static=True, default=())  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def direction(self) -> type:
        """That of every part."""
        return self.parts[0].direction

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """The sum of the parts' rates."""

        def rate(part: Scaled) -> State:
            return part.rate(t, x, args)

        return self._guarded(rate, lambda part: scale(-1, rate(part)), t, x, args)

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The sum of the parts' increments, each from the same state: operators are not split here."""

        def increment(part: Scaled) -> State:
            return part.increment(t, x, dt, args)

        return self._guarded(increment, lambda part: part.reversed_increment(t, x, dt, args), t, x, args)

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The sum of the parts' reversed increments."""
        return Sum(tuple(part.reverse() for part in self.parts), self.links).increment(t, x, dt, args)

    def _guarded(
        self, change: Callable[[Scaled], State], back: Callable[[Scaled], State], t: Any, x: State, args: Args
    ) -> State:
        """The changes, added; outside of what a score knows the physics' own: `back` is a part's the other way."""
        parts, change = self._known(t, x, args), once(change)
        total = _add(*map(change, cancelled(parts, self.links)))
        sum_of = lambda f: lambda some: _add(*map(f, some))  # noqa: E731
        return guarded(parts, self.direction is Reverse, sum_of(change), sum_of(back), total, t, x, args)

    def _known(self, t: RealScalarLike, x: State, args: Args) -> tuple[Scaled, ...]:
        """The parts with the rates of the physics evaluated: the guard asks for them too, and what scores count from.

        XLA merges such calls, but not their gradients: beside a neural surrogate a window took 1.6 of its time.
        """

        def known(part: Scaled) -> Scaled:
            drift = type(part.drift)
            by_rate = drift.increment is AbstractDrift.increment
            if part.drift.is_score or not by_rate or drift.reversed_increment is not AbstractDrift.reversed_increment:
                return part
            return Scaled(part.coefficient, _Known(part.drift, part.drift.rate(t, x, args)), part.reversed)

        return tuple(map(known, self.parts))

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """The sum of those that the parts state."""
        return functools.reduce(plus, (part.linear(t, args) for part in self.parts))

    @property
    def states_linear(self) -> bool:
        """Whether a part does."""
        return any(part.states_linear for part in self.parts)

    @property
    def summands(self) -> tuple[Scaled, ...]:
        """The parts."""
        return self.parts

    def __repr__(self) -> str:
        parts = printed(self.parts, self.links)
        text = repr(parts[0])
        for part in parts[1:]:
            text += f" - {repr(part)[1:]}" if repr(part).startswith("-") else f" + {part!r}"
        return text


class _Known(AbstractDrift[Any]):
    """A drift whose rate at the one state that it is asked for is known."""

    drift: AbstractDrift[Any]
    value: State

    @property
    def direction(self) -> type:
        """The drift's."""
        return self.drift.direction

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """That rate."""
        return self.value


def _sum(terms: tuple[Scaled, ...]) -> AbstractDrift[Any]:
    terms = _collect(terms)
    term = terms[0]
    if len(terms) > 1:
        return Sum(terms, links(terms))
    # A lone drift with coefficient 1 is itself, so that `-(-P)` is P and not a wrapped P.
    one = isinstance(term.coefficient, int | float) and term.coefficient == 1
    return term.drift if one and not term.reversed else term


def _collect(terms: tuple[Scaled, ...]) -> tuple[Scaled, ...]:
    """Like terms as one: `s + s` is `2*s`, one network to evaluate and to train."""
    collected: list[Scaled] = []
    for term in terms:
        for i, other in enumerate(collected):
            if term.drift is other.drift and term.reversed == other.reversed:
                collected[i] = Scaled(other.coefficient + term.coefficient, term.drift, term.reversed)
                break
        else:
            collected.append(term)
    return tuple(collected)


def _add(*states: State) -> State:
    return jtu.tree_map(lambda *leaves: sum(leaves[1:], leaves[0]), *states)


def _bracket(drift: AbstractDrift[Any]) -> str:
    terms = drift.summands
    return f"[{drift!r}]" if len(terms) > 1 or repr(drift).startswith("-") else repr(drift)


def _clock(drift: AbstractDrift[Any]) -> str:
    return "dt" if drift.direction is Forward else "dτ"


class SDE(eqx.Module, Generic[D]):
    """A drift plus noise, dx = f dt + g dW (or dτ): made by `+`, never built by hand.

    >>> import smdpx as sx
    >>> sx.Drift(lambda t, x, args: -x) + sx.Diffusion(0.1)
    dx = P(x) dt + g dW
    """

    drift: AbstractDrift[D]
    diffusion: Diffusion
    __array_ufunc__ = None

    @property
    def direction(self) -> type[D]:
        """`Forward` or `Reverse`: that of the drift."""
        return self.drift.direction

    @property
    def summands(self) -> tuple[Scaled, ...]:
        """Those of the drift."""
        return self.drift.summands

    def __add__(self, other: AbstractDrift[D]) -> SDE[D]:
        if isinstance(other, AbstractDrift):
            return SDE(self.drift + other, self.diffusion)
        if isinstance(other, Diffusion | SDE):
            return self.diffusion + (other if isinstance(other, Diffusion) else other.diffusion)
        return NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Any:
        raise TypeError(
            f"The time reversal of `{self}` is not its negative: it needs the score of its distribution. "
            "Write `-P + 2*s + g` with `s = Score(net, g)`."
        )

    def __mul__(self, other: Any) -> Any:
        raise TypeError(f"Cannot multiply the SDE `{self}`; multiply its drifts and its diffusion: `a * P + b * g`.")

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"dx = {_bracket(self.drift)} {_clock(self.drift)} + {self.diffusion!r} dW"

    __str__ = __repr__
