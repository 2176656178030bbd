"""The three drifts that users write: physics, a reverse simulator, and the score.

    Drift          dx/dt = P(t, x)                         (arXiv:2301.10250, eq 1)
    ReverseDrift   dx/dτ = R(t, x),  τ = T - t
    Score          dx/dτ = ½ g(t)² ∇ₓ log p_t(x)           (eq 8; twice it in eq 9)

How they combine is `_equation`'s business; drifts made of solver steps are `_step`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.tree_util as jtu

from ._diffusion import Diffusion, check_callable
from ._equation import AbstractDrift, Forward, Reverse
from ._linear import AbstractLinear
from ._types import Args, RealScalarLike, State

if TYPE_CHECKING:
    from ._step import StepDrift

__all__ = ["Drift", "ReverseDrift", "Score"]


class Drift(AbstractDrift[Forward]):
    """Physics: dx/dt = P(t, x), the drift of the forward process (arXiv:2301.10250, eq 1).

    Arguments:
        f: the rate for one sample, `f(t, x, args)`, shaped like x.
        name: what it is called in print.

    Raises:
        TypeError: f is not callable with three arguments.

    >>> import smdpx as sx
    >>> P = sx.Drift(lambda t, x, args: -x)
    >>> P, -P, -(-P)
    (P(x), -P(x), P(x))
    """

    f: Callable[[Any, Any, Any], Any]
    name: str = eqx.field(static=True, default="P")

    def __check_init__(self) -> None:
        check_callable(self.f, "Drift", "(t, x, args)")

    @property
    def direction(self) -> type[Forward]:
        """`Forward`."""
        return Forward

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """f(t, x, args)."""
        return self.f(t, x, args)

    def linear(self, t: RealScalarLike) -> AbstractLinear | None:
        """f.linear(t), where f has such a method."""
        return _stated(self.f, t)

    @staticmethod
    def from_step(
        step: Callable[[Any, Any], Any],
        reverse: Callable[..., Any] | None = None,
        *,
        dt: float | None = None,
        name: str = "P",
    ) -> StepDrift:
        """Physics given as a solver's step `step(x, dt) -> x`, for one sample.

        With a one-stage solver at fixed steps (`diffrax.Euler`, the default) its increment is exactly
        step(x, dt) - x. A solver with more stages or adaptive steps needs a rate, which a step does not
        have: see `StepDrift.as_rate`.

        Arguments:
            step: the simulator's step, `step(x, dt)` with dt > 0, for one sample.
            reverse: how it runs backwards, stated and never guessed: `sx.mirror` for
                x - (step(x, dt) - x), `sx.negative_step` for step(x, -dt), or an inverse step of your own,
                `(x, dt) -> x` (a surrogate, say). Without it `-P` is an error.
            dt: the only step length that `step` accepts, where it accepts only one.
            name: what it is called in print.

        Returns:
            A `StepDrift`.

        >>> import smdpx as sx
        >>> decay = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.negative_step)
        >>> decay, -decay
        (P(x), -P(x))
        """
        from ._step import StepDrift  # a StepDrift offers `as_rate`, which is a Drift

        return StepDrift(step, reverse, dt, name)

    def __repr__(self) -> str:
        return f"{self.name}(x)"


class ReverseDrift(AbstractDrift[Reverse]):
    """A reverse simulator of its own: dx/dτ = R(t, x) with τ = T - t; a trained surrogate, say.

    Arguments:
        f: the rate in τ for one sample, `f(t, x, args)` at the physical time t, shaped like x.
        name: what it is called in print.

    Raises:
        TypeError: f is not callable with three arguments.

    >>> import smdpx as sx
    >>> R = sx.ReverseDrift(lambda t, x, args: x)
    >>> R, -R
    (R(x), -R(x))
    """

    f: Callable[[Any, Any, Any], Any]
    name: str = eqx.field(static=True, default="R")

    def __check_init__(self) -> None:
        check_callable(self.f, "ReverseDrift", "(t, x, args)")

    @property
    def direction(self) -> type[Reverse]:
        """`Reverse`."""
        return Reverse

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """f(t, x, args)."""
        return self.f(t, x, args)

    def linear(self, t: RealScalarLike) -> AbstractLinear | None:
        """f.linear(t), where f has such a method."""
        return _stated(self.f, t)

    def __repr__(self) -> str:
        return f"{self.name}(x)"


class Score(AbstractDrift[Reverse]):
    """The score's part of a reverse drift: ½ g(t)² s(t, x), where s(t, x) is ∇ₓ log p_t(x).

    The convention is fixed here and nowhere else: `net` *is* the score, and coefficients count in units of
    ½g². So `-P + s` is the probability flow (arXiv:2301.10250, eq 8, C = 1) and `-P + 2*s + g` the
    reverse-time SDE (eq 9, C = 2), as Anderson (1982) has it. Plain one-step training backwards learns
    g²∇log p (theorem A.2), so it trains `-P + 2*s`, and the coefficient is never folded into the network.

    Arguments:
        net: the score for one sample, `net(t, x, args)`, shaped like x; units of 1/x.
        g: the forward process's noise.
        name: what it is called in print.
        steps: the shortest and the longest step that it was trained on; `fit` fills it in, and `solve` warns
            where fixed steps leave it.

    Raises:
        TypeError: net is not callable with three arguments, or g is not a `Diffusion`.

    >>> import smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x, g)
    >>> -P + 2 * s + g
    dx = [-P(x) + 2·½g²·s(t, x)] dτ + g dW
    """

    net: Callable[[Any, Any, Any], Any]
    g: Diffusion
    name: str = eqx.field(static=True, default="s")
    steps: tuple[float, float] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_callable(self.net, "Score", "(t, x, args)")
        if not isinstance(self.g, Diffusion):
            raise TypeError(f"`Score` needs the process's noise; got {self.g!r}. Write `Score(net, Diffusion(g))`.")

    @property
    def direction(self) -> type[Reverse]:
        """`Reverse`."""
        return Reverse

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """½ g(t)² net(t, x)."""
        g = self.g.like(t, x)
        return jtu.tree_map(lambda g, s: 0.5 * g**2 * s, g, self.net(t, x, args))

    def linear(self, t: RealScalarLike) -> AbstractLinear | None:
        """½ g(t)² net.linear(t), where the network has such a method."""
        linear = _stated(self.net, t)
        return None if linear is None else 0.5 * self.g.number(t) ** 2 * linear

    def __repr__(self) -> str:
        return f"½g²·{self.name}(t, x)"


def _stated(f: Any, t: RealScalarLike) -> AbstractLinear | None:
    # A method of its class: a network's layer that is called `linear` states nothing.
    return f.linear(t) if callable(getattr(type(f), "linear", None)) else None
