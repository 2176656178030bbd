"""Drifts that are a simulator's steps, and how such a step runs backwards.

    forward:  x(t + dt) = step(x, dt)
    mirror:   x(t - dt) = x - (step(x, dt) - x)       (the heat equation's choice, arXiv:2301.10250, §4.2)
    negative: x(t - dt) = step(x, -dt)                (the buoyancy solver's choice, §4.3)

A wrong guess blows up, so the reversal is the user's statement and never a default.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from ._diffusion import check_callable, scale
from ._drift import Drift
from ._equation import SDE, AbstractDrift, Forward
from ._types import Args, RealScalarLike, State

__all__ = ["StepDrift", "mirror", "negative_step"]


class _Mirror(eqx.Module):
    step: Callable[[Any, Any], Any]

    def __call__(self, x: State, dt: RealScalarLike) -> State:
        return jtu.tree_map(lambda a, b: 2 * a - b, x, self.step(x, dt))


class _NegativeStep(eqx.Module):
    step: Callable[[Any, Any], Any]

    def __call__(self, x: State, dt: RealScalarLike) -> State:
        return self.step(x, -jnp.asarray(dt))


def mirror(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The reversal x - (step(x, dt) - x): the forward increment, negated.

    Right for the paper's heat equation; for an advecting solver it is not (66 × the error after ten
    steps of the buoyancy solver): measure with `sx.check`.

    Arguments:
        step: `step(x, dt) -> x`, for one sample.

    Returns:
        The reverse step `(x, dt) -> x`.

    >>> import smdpx as sx
    >>> sx.mirror(lambda x, dt: x + dt)(1.0, 0.25)
    0.75
    """
    return _Mirror(step)


def negative_step(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The reversal step(x, -dt): a solver run with a negative step.

    Arguments:
        step: `step(x, dt) -> x`, for one sample, that accepts dt < 0.

    Returns:
        The reverse step `(x, dt) -> x`.

    >>> import smdpx as sx
    >>> float(sx.negative_step(lambda x, dt: x + dt)(1.0, 0.25))
    0.75
    """
    return _NegativeStep(step)


class StepDrift(AbstractDrift[Forward]):
    """A drift whose increment over dt is step(x, dt) - x; made by `Drift.from_step`, which documents it."""

    step: Callable[[Any, Any], Any]
    inverse: Callable[[Any, Any], Any] | None
    dt: float | None = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(
        self,
        step: Callable[[Any, Any], Any],
        reverse: Callable[..., Any] | None = None,
        dt: float | None = None,
        name: str = "P",
    ):
        check_callable(step, "Drift.from_step", "(x, dt)")
        if reverse is not None and (reverse is mirror or reverse is negative_step):
            reverse = reverse(step)
        elif reverse is not None:
            check_callable(reverse, "Drift.from_step(reverse=...)", "(x, dt)")
        if dt is not None and not (isinstance(dt, int | float) and 0 < dt < float("inf")):
            raise ValueError(f"`Drift.from_step`: `dt` must be a number > 0; got {dt!r}.")
        self.step, self.inverse, self.dt, self.name = step, reverse, dt, name

    @property
    def direction(self) -> type[Forward]:
        """`Forward`."""
        return Forward

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        """Refused: a step has no rate."""
        raise self.no_rate()

    def no_rate(self) -> TypeError:
        """The error for whoever needs a rate."""
        return TypeError(
            f"The drift {self!r} is a solver's step, which has no rate (a projecting step's rate diverges as "
            "dt -> 0), so it cannot be evaluated between steps. Use a one-stage solver at fixed steps "
            "(`diffrax.Euler()`, the default), or ask for a rate at a reference step: `P.as_rate(dt)`."
        )

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """step(x, dt) - x."""
        return jtu.tree_map(jnp.subtract, self.step(x, dt), x)

    def reversed_increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        """The stated reverse step's increment."""
        return jtu.tree_map(jnp.subtract, self._inverse()(x, dt), x)

    def _inverse(self) -> Callable[[Any, Any], Any]:
        if self.inverse is None:
            raise TypeError(
                f"How the step of {self!r} runs backwards was not stated. Give `Drift.from_step(step, "
                "reverse=...)` one of `sx.mirror` (negate the forward increment), `sx.negative_step` "
                "(step with -dt), or your own inverse step `(x, dt) -> x`."
            )
        return self.inverse

    def check_reversible(self) -> None:
        """Raise where no reversal was stated."""
        self._inverse()

    def as_rate(self, dt: float) -> Drift:
        """The rate (step(x, dt) - x) / dt at a reference dt, for solvers of any kind.

        Arguments:
            dt: the reference step, > 0, in units of time.

        Returns:
            A `Drift`; its reversal negates the rate.
        """
        if not dt > 0:
            raise ValueError(f"`as_rate`: `dt` must be > 0; got {dt}.")

        def rate(t, x, args):
            return scale(1 / dt, jtu.tree_map(jnp.subtract, self.step(x, dt), x))

        return Drift(rate, self.name)

    def __repr__(self) -> str:
        return f"{self.name}(x)"


def step_drifts(equation: AbstractDrift | SDE) -> list[StepDrift]:
    """The steps of simulators that an equation has."""
    return [term.drift for term in equation.summands if isinstance(term.drift, StepDrift)]
