"""The drifts that users write: physics, as a rate or as a simulator's step, and a reverse simulator.

    Drift          dx/dt = P(t, x)                         (arXiv:2301.10250, eq 1)
    StepDrift      x(t + dt) = step(x, dt)
    ReverseDrift   dx/dτ = R(t, x),  τ = T - t

How a step runs backwards is the user's statement and never a default, since a wrong guess blows up:

    mirror:   x(t - dt) = x - (step(x, dt) - x)       (the heat equation's choice, §4.2)
    negative: x(t - dt) = step(x, -dt)                (the buoyancy solver's choice, §4.3)

The score is in `_score`; how drifts combine is `_algebra`'s business.
"""

from __future__ import annotations

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
from ._algebra import SDE, AbstractDrift, Forward, Reverse
from ._coefficient import STATES, check_callable, positional, scale, takes
from ._linear import AbstractLinear
from ._trained import Trained

__all__ = ["Drift", "ReverseDrift", "StepDrift", "mirror", "negative_step"]


class Drift(AbstractDrift[Forward]):
    """Physics: dx/dt = P(t, x), the drift of the forward process (arXiv:2301.10250, eq 1).

    Args:
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

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """f.linear(t), or f.linear(t, args), where f has such a method."""
        return stated(self.f, t, args)

    @property
    def states_linear(self) -> bool:
        """Whether f has such a method."""
        return has(self.f, "linear")

    @staticmethod
    def from_step(
        step: Callable[..., Any],
        reverse: Callable[..., Any] | None = None,
        *,
        dt: RealScalarLike | None = None,
        name: str = "P",
    ) -> StepDrift:
        """Physics given as a solver's step `step(x, dt) -> x` or `step(t, x, dt, args) -> x`, for one sample.

        With a one-stage solver at fixed steps (`diffrax.Euler`, the default for steps) its increment is exactly
        step(x, dt) - x. A solver with more stages or adaptive steps needs a rate, which a step does not
        have: see `StepDrift.as_rate`.

        Args:
            step: the simulator's step from the physical time t to t + dt, dt > 0, for one sample: `step(x, dt)`, or
                `step(t, x, dt, args)`.
            reverse: how it runs backwards, stated and never guessed: `sx.mirror` for
                x - (step(x, dt) - x), `sx.negative_step` for step(x, -dt), or an inverse step of your own (a surrogate,
                say), `(x, dt) -> x` or `(t, x, dt, args) -> x` from t to t - dt. Without it `-P` is an error.
            dt: the only step length that `step` accepts, where it accepts only one.
            name: what it is called in print.

        Returns:
            A `StepDrift`.

        >>> import smdpx as sx
        >>> decay = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.negative_step)
        >>> decay, -decay
        (P(x), -P(x))
        """
        return StepDrift(step, reverse, dt, name)

    def __repr__(self) -> str:
        return f"{self.name}(x)"


class ReverseDrift(AbstractDrift[Reverse]):
    """A reverse simulator of its own: dx/dτ = R(t, x) with τ = T - t; a trained surrogate, say.

    Args:
        f: the rate in τ for one sample, `f(t, x, args)` at the physical time t, shaped like x.
        name: what it is called in print.
        trained: the steps, the solver and the curriculum that it was trained with; `fit` fills it in, and what is given
            no solver takes that one.

    Raises:
        TypeError: f is not callable with three arguments.

    >>> import smdpx as sx
    >>> R = sx.ReverseDrift(lambda t, x, args: x)
    >>> R, -R
    (R(x), -R(x))
    """

    f: Callable[[Any, Any, Any], Any]
    name: str = eqx.field(static=True, default="R")
    trained: Trained | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_callable(self.f, "ReverseDrift", "(t, x, args)")

    @property
    def direction(self) -> type[Reverse]:
        """`Reverse`."""
        return Reverse

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """f(t, x, args)."""
        return self.f(t, x, args)

    def linear(self, t: RealScalarLike, args: Args = None) -> PyTree[AbstractLinear]:
        """f.linear(t), or f.linear(t, args), where f has such a method."""
        return stated(self.f, t, args)

    @property
    def states_linear(self) -> bool:
        """Whether f has such a method."""
        return has(self.f, "linear")

    def __repr__(self) -> str:
        return f"{self.name}(x)"


def has(f: Any, method: str) -> bool:
    """Whether a user's function has a method of this name, by which it states something."""
    # A method of its class: a network's layer that bears the name states nothing.
    return callable(getattr(type(f), method, None))


def stated(f: Any, t: RealScalarLike, args: Args) -> PyTree[AbstractLinear]:
    """The linear part that a function states by a method `linear`, if any."""
    if not has(f, "linear"):
        return None
    return f.linear(t, args) if takes(f.linear, 2) else f.linear(t)


class _Reversal(eqx.Module):
    """A reversal made from the forward step, called as that is: with (x, dt), or with (t, x, dt, args)."""

    step: Callable[..., Any]

    def _parts(self, arguments: tuple[Any, ...]) -> tuple[State, RealScalarLike, Callable[[Any], Any]]:
        """The state, dt, and the forward step as a function of dt."""
        if len(arguments) == 2:
            x, dt = arguments
            return x, dt, lambda dt: self.step(x, dt)
        t, x, dt, args = arguments
        return x, dt, lambda dt: self.step(t, x, dt, args)


class _Mirror(_Reversal):
    def __call__(self, *arguments: Any) -> State:
        x, dt, step = self._parts(arguments)
        return jtu.tree_map(lambda a, b: 2 * a - b, x, step(dt))


class _NegativeStep(_Reversal):
    def __call__(self, *arguments: Any) -> State:
        _, dt, step = self._parts(arguments)
        return step(-jnp.asarray(dt))


def mirror(step: Callable[..., Any]) -> Callable[..., Any]:
    """The reversal x - (step(x, dt) - x): the forward increment, negated.

    Right for the paper's heat equation; for an advecting solver it is not (66 × the error after ten
    steps of the buoyancy solver): measure with `sx.check`.

    Args:
        step: `step(x, dt) -> x`, or `step(t, x, dt, args) -> x`, for one sample.

    Returns:
        The reverse step, called as `step` is.

    >>> import smdpx as sx
    >>> sx.mirror(lambda x, dt: x + dt)(1.0, 0.25)
    0.75
    """
    return _Mirror(step)


def negative_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The reversal step(x, -dt): a solver run with a negative step.

    Args:
        step: `step(x, dt) -> x`, or `step(t, x, dt, args) -> x`, for one sample, that accepts dt < 0.

    Returns:
        The reverse step, called as `step` is.

    >>> import smdpx as sx
    >>> float(sx.negative_step(lambda x, dt: x + dt)(1.0, 0.25))
    0.75
    """
    return _NegativeStep(step)


class StepDrift(AbstractDrift[Forward]):
    """A drift whose increment over dt is step(x, dt) - x; made by `Drift.from_step`, which documents it."""

    step: Callable[..., Any]
    inverse: Callable[..., Any] | None
    dt: float | None = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(
        self,
        step: Callable[..., Any],
        reverse: Callable[..., Any] | None = None,
        dt: RealScalarLike | None = None,
        name: str = "P",
    ):
        _check_step(step, "Drift.from_step")
        if reverse is not None and (reverse is mirror or reverse is negative_step):
            reverse = reverse(step)
        elif reverse is not None:
            _check_step(reverse, "Drift.from_step(reverse=...)")
        self.step, self.inverse, self.name = step, reverse, name
        self.dt = None if dt is None else _length(dt)

    @property
    def direction(self) -> type[Forward]:
        """`Forward`."""
        return Forward

    @property
    def has_rate(self) -> bool:
        """It has none."""
        return False

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """Refused: a step has no rate."""
        raise self.no_rate()

    def no_rate(self) -> TypeError:
        """The error for whoever needs a rate."""
        return TypeError(
            f"The drift {self!r} is a solver's step, which has no rate (a projecting step's rate diverges as "
            "dt -> 0), so it cannot be evaluated between steps. Use a one-stage solver at fixed steps "
            "(`diffrax.Euler()`, the default for steps), or ask for a rate at a reference step: `P.as_rate(dt)`."
        )

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """step(x, dt) - x."""
        return jtu.tree_map(jnp.subtract, self.called(t, x, dt, args, backwards=False), x)

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The stated reverse step's increment."""
        return jtu.tree_map(jnp.subtract, self.called(t, x, dt, args, backwards=True), x)

    def called(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args, *, backwards: bool) -> State:
        """The state that the step, or the reversal, returns, before x is subtracted."""
        return _take(self._inverse() if backwards else self.step, t, x, self._exactly(dt), args)

    @property
    def mirrors(self) -> bool:
        """Whether its reversal is made from what the step returns."""
        return isinstance(self.inverse, _Mirror)

    def _exactly(self, dt: RealScalarLike) -> RealScalarLike:
        """The only dt that the step accepts, where there is one: that of a grid is rounded."""
        if self.dt is None or isinstance(dt, int | float):
            return dt if self.dt is None else self.dt
        return jnp.full_like(dt, self.dt)

    def _inverse(self) -> Callable[..., Any]:
        if self.inverse is None:
            raise TypeError(
                f"How the step of {self!r} runs backwards was not stated. Give `Drift.from_step(step, "
                "reverse=...)` one of `sx.mirror` (negate the forward increment), `sx.negative_step` "
                "(step with -dt), or your own inverse step `(x, dt) -> x` or `(t, x, dt, args) -> x`."
            )
        return self.inverse

    def check_reversible(self) -> None:
        """Raise where no reversal was stated."""
        self._inverse()

    def check_dt(self, dt: float, call: str) -> None:
        """Raise where the step accepts only another dt; `call` shows how to give it."""
        if self.dt is not None and abs(dt - self.dt) > 1e-4 * self.dt:
            raise ValueError(
                f"`{self!r}` accepts only steps of {self.dt:g}; got {dt:g}: write `{call.format(self.dt)}`."
            )

    def as_rate(self, dt: float) -> Drift:
        """The rate (step(x, dt) - x) / dt at a reference dt, for solvers of any kind.

        Args:
            dt: the reference step, > 0, in units of time.

        Returns:
            A `Drift`; its reversal negates the rate.

        Raises:
            ValueError: dt not positive, or not the one that the step accepts.
        """
        if not dt > 0:
            raise ValueError(f"`as_rate`: `dt` must be > 0; got {dt}.")
        self.check_dt(dt, "as_rate({})")

        def rate(t, x, args):
            return scale(1 / dt, self.increment(t, x, dt, args))

        return Drift(rate, self.name)

    def __repr__(self) -> str:
        return f"{self.name}(x)"


def _wants_two(step: Callable[..., Any]) -> bool:
    """Whether a step is called with (x, dt), rather than (t, x, dt, args)."""
    step = step.step if isinstance(step, _Reversal) else step
    # What has defaults may take either: (t, x, dt=..., args=...) has its state in the second place.
    return takes(step, 2) and not (takes(step, 4) and _second(step) in STATES)


def _second(step: Callable[..., Any]) -> str:
    """What a step's second argument is called; "" where it has none, or its name says nothing."""
    names = [name for name, _ in positional(step.step if isinstance(step, _Reversal) else step)]
    return names[1] if len(names) > 1 else ""


def _take(step: Callable[..., Any], t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
    return step(x, dt) if _wants_two(step) else step(t, x, dt, args)


def _check_step(step: Any, owner: str) -> None:
    four = callable(step) and not _wants_two(step) and takes(step, 4)
    check_callable(step, owner, "(t, x, dt, args)" if four else "(x, dt)")
    if not four and _second(step) in STATES:
        raise TypeError(
            f"`{owner}` calls its function with (x, dt); got one whose second argument is {_second(step)!r}, as a "
            "state is called. Write `lambda x, dt: ...`, or with the time `lambda t, x, dt, args: ...`."
        )


def _length(dt: Any) -> float:
    """The one length of a step, NumPy's and JAX's numbers as Python's, or an error."""
    if isinstance(dt, Tracer):
        raise TypeError("`Drift.from_step`: `dt` is a part of the program, and here a JAX transformation traces it.")
    number = isinstance(dt, int | float) or (isinstance(dt, np.number | np.ndarray | jax.Array) and dt.shape == ())
    if not number or jnp.iscomplexobj(dt) or not 0 < dt < float("inf"):
        raise ValueError(f"`Drift.from_step`: `dt` must be a number > 0; got {dt!r}.")
    return dt if isinstance(dt, int | float) else float(dt)


def step_drifts(equation: AbstractDrift | SDE) -> list[StepDrift]:
    """The steps of simulators that an equation has, those that a score is counted from among them."""
    found = []
    for term in equation.summands:
        found += [term.drift] if isinstance(term.drift, StepDrift) else []
        found += [] if term.drift.reference is None else step_drifts(term.drift.reference.drift)
    return found
