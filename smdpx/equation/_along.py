"""A part of the physics that a score is counted from: what it does where there is noise, and where there is none."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from .._types import Args, RealScalarLike, State
from ._algebra import AbstractDrift, Forward, Reverse
from ._diffusion import Diffusion

__all__ = ["Along"]


class Along(AbstractDrift[Reverse]):
    """A forward drift run forward in reverse time: dx/dτ = D(t, x), in the components that have noise.

    Attributes:
        drift: D.
        g: the noise.
        everywhere: whether every component is known to have some.
    """

    drift: AbstractDrift[Forward]
    g: Diffusion
    everywhere: bool = eqx.field(static=True, default=False)

    @property
    def direction(self) -> type[Reverse]:
        """`Reverse`."""
        return Reverse

    def _noisy(self, t: RealScalarLike, x: State, args: Args, change: State) -> State:
        return change if self.everywhere else self.g.noisy(t, x, args, change)

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """The forward drift's."""
        return self._noisy(t, x, args, self.drift.rate(t, x, args))

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The forward drift's: of a simulator's step its own."""
        return self._noisy(t, x, args, self.drift.increment(t, x, dt, args))

    def elsewhere(self, drift: AbstractDrift[Any]) -> Elsewhere:
        """A drift in the other components only, where no score turns it round."""
        return Elsewhere(drift, self.g)

    def __repr__(self) -> str:
        return repr(self.drift)


class Elsewhere(AbstractDrift[Any]):
    """A drift in the components without noise alone."""

    drift: AbstractDrift[Any]
    g: Diffusion

    @property
    def direction(self) -> type:
        """The drift's."""
        return self.drift.direction

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """The drift's."""
        return self.g.quiet(t, x, args, self.drift.rate(t, x, args))

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The drift's."""
        return self.g.quiet(t, x, args, self.drift.increment(t, x, dt, args))

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The drift's: of a simulator's step the reversal that was stated."""
        return self.g.quiet(t, x, args, self.drift.reversed_increment(t, x, dt, args))
