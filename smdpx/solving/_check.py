"""What a user needs to know about a step before training on it, measured: order, reversal, gradient, batching.

order        log₂ |x_{h} - x_{h/2}| / |x_{h/2} - x_{h/4}|,    x_h: the state after one dt in steps of h
round trip   |R(F(x)) - x| / |F(x) - x|,                      F a step forwards, R the stated reverse
gradient     |⟨Jᵀv, u⟩ - ⟨v, J u⟩| / |⟨v, J u⟩|,              Jᵀv by VJP, J u by central differences
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from .._types import Args, Key, State
from ..equation._algebra import AbstractDrift
from ..equation._conditions import first_row, rows, with_rows
from ..equation._drift import step_drifts
from . import _validate as validate
from ._failing import said_before
from ._terms import over_samples, sign_of

__all__ = ["StepReport", "check"]


class StepReport(eqx.Module):
    """What `check` measured.

    Attributes:
        order: order of the state's error in dt; 1 for Euler, inf for a step that is exact. Much below 1: the
            state after dt depends on how many steps it took, as with a projection of a noisy state. None where it
            cannot be measured: the step accepts one dt alone.
        round_trip: distance from the start after a step forwards and its stated reverse, relative to the
            step; None without a stated reversal. Above about 0.5 the reversal is no better than no step.
        vjp_error: relative difference of the step's VJP and central differences. Above about 1e-2 in single
            precision: a kink, or a custom gradient that is wrong. None where JAX has no derivative, as of code that
            it calls back: such a step trains windows of two states, which need none.
        batch_error: largest relative difference between samples stepped together and one by one.
        zero_error: distance of the state after a step of dt = 0 from the state, relative to it. Not 0: the step returns
            what is added to the state, say, in place of the state. None where the step accepts one dt alone, or has no
            value at 0.
    """

    order: float | None
    round_trip: float | None
    vjp_error: float | None
    batch_error: float
    zero_error: float | None

    def __repr__(self) -> str:
        order = "not measurable" if self.order is None else f"{self.order:.2f}"
        reverse = "not stated" if self.round_trip is None else f"{self.round_trip:.2g} of a step off"
        gradient = "not measurable" if self.vjp_error is None else f"{self.vjp_error:.1g}"
        zero = ""
        if self.zero_error is not None and self.zero_error > 1e-3:
            zero = (
                f"; a step of dt = 0 is {self.zero_error:.2g} of the state off: return the state, `x + change`, and "
                "not the change"
            )
        return (
            f"order in dt {order}; reverse(forward(x)): {reverse}; "
            f"VJP against differences {gradient}; batch against one by one {self.batch_error:.1g}{zero}"
        )


def check(
    drift: AbstractDrift, x: State, *, dt: float, t: float = 0.0, args: Args = None, key: Key | None = None
) -> StepReport:
    """Measure a drift's step: order in dt, reversal, gradient, and independence of the samples.

    Args:
        drift: physics, of a rate or of a solver's step.
        x: states like those that you will train on, shape (samples, ...); noisy ones if yours are.
        dt: the step that you will train with, > 0.
        t: the physical time.
        args: handed to the drift; a `PerSample` has a row for each state.
        key: a JAX key for the random directions of the gradient's check. Default: `jax.random.key(0)`.

    Returns:
        A `StepReport`.

    Raises:
        TypeError: what is no drift, an SDE say; or within `jax.jit`.
        ValueError: dt not positive or not the one that a step accepts, states that the drift does not return alike, or
            a step that is not finite: with what the step's own code says of it.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> P = sx.Drift.from_step(lambda x, dt: x - dt * jnp.sin(x), reverse=sx.negative_step)
    >>> report = sx.check(P, jnp.linspace(0.1, 1.0, 4), dt=0.1)
    >>> round(report.order), report.round_trip < 0.2, report.vjp_error < 1e-2
    (1, True, True)
    """
    if not isinstance(drift, AbstractDrift):
        raise TypeError(f"`check` measures a drift, such as `P`, without its noise; got {drift!r}.")
    validate.check_concrete("check", drift, x, dt, t, args)
    if not dt > 0:
        raise ValueError(f"`dt` must be > 0; got {dt}.")
    fixed = next((step for step in step_drifts(drift) if step.dt is not None), None)
    if fixed is not None:
        fixed.check_dt(dt, "check(..., dt={})")
    x = validate.check_states(x, "x")
    validate.check_drifts(drift, x, args, "x")
    take = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
    one, unravel = ravel_pytree(take(x, 0))
    now = jnp.asarray(t, one.dtype)

    def advance(t: Any, x: State, h: Any, args: Args) -> State:
        change = drift.increment(t, x, jnp.asarray(h, one.dtype), args)
        return jax.tree.map(jnp.add, x, change)

    def all_advance(t: Any, x: State, h: Any) -> State:
        return over_samples(lambda x, args: advance(t, x, h, args), args, x)

    # Programs, where a step outside of one compiles each of its operations. A fixed dt is looked at, and so a number.
    length = dt if fixed is not None else np.asarray(dt, one.dtype)
    step = eqx.filter_jit(lambda x, values: advance(now, x, dt, with_rows(args, values)))
    jointly = eqx.filter_jit(all_advance)
    together = jointly(now, x, length)
    _raise_unless_finite(drift, x, together, (t, dt), args)
    alone = [step(take(x, i), take(rows(args), i)) for i in range(jax.tree.leaves(x)[0].shape[0])]
    joined = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    of_one = lambda v: ravel_pytree(advance(now, unravel(v), dt, first_row(args)))[0]  # noqa: E731
    return StepReport(
        _order(jointly, now, sign_of(drift), x, length) if fixed is None else None,
        _round_trip(drift, together, x, now, dt, args),
        _vjp_error(of_one, one, _norm(x) / len(alone) ** 0.5, jr.key(0) if key is None else key),
        _distance(together, joined) / _norm(together),
        _zero_error(jointly(now, x, np.zeros_like(length)), x) if fixed is None else None,
    )


def _raise_unless_finite(drift: AbstractDrift, x: State, after: State, times: tuple[float, float], args: Args) -> None:
    bad = np.flatnonzero(~validate.finite_samples(after))
    if bad.size:
        t, dt = times
        before = jax.tree.map(lambda leaf: leaf[:, None], x)
        why = said_before(drift, before, np.array([t, t + sign_of(drift) * dt]), args, int(bad[0]), 1)
        raise ValueError(
            f"`check`: a step of dt = {dt:g} is not finite from sample {bad[0]}, the first of {bad.size}. "
            f"{why or 'Take a smaller one.'}"
        )


def _norm(x: State) -> float:
    return float(jnp.linalg.norm(ravel_pytree(x)[0]))


def _distance(a: State, b: State) -> float:
    return _norm(jax.tree.map(jnp.subtract, a, b))


def _zero_error(still: State, x: State) -> float | None:
    error = _distance(still, x) / max(_norm(x), 1e-30)
    return error if math.isfinite(error) else None


def _order(advance: Any, now: Any, sign: int, x: State, dt: Any) -> float:
    ends = []
    for count in (1, 2, 4):
        end, h = x, dt / count
        for i in range(count):
            end = advance(now + sign * i * h, end, h)
        ends.append(end)
    coarse, fine = _distance(ends[0], ends[1]), _distance(ends[1], ends[2])
    # What single precision cannot tell from zero is a step that is exact.
    exact = 1e-6 * _norm(x)
    return float("inf") if fine <= exact else float(jnp.log2(coarse / fine))


def _round_trip(drift: AbstractDrift, forward: State, x: State, now: Any, dt: float, args: Args) -> float | None:
    def back(x: State, args: Args) -> State:
        h = jnp.asarray(dt, now.dtype)
        return jax.tree.map(jnp.add, x, drift.reversed_increment(now + sign_of(drift) * h, x, h, args))

    try:
        reverse = -drift
    except TypeError:  # no reversal was stated
        return None
    validate.check_drifts(reverse, x, args, "x")
    returned = eqx.filter_jit(lambda forward: over_samples(back, args, forward))(forward)
    return _distance(returned, x) / _distance(forward, x)


def _vjp_error(f: Any, x: jax.Array, size: float, key: Key) -> float | None:
    key_u, key_v = jr.split(key)
    u, v = jr.normal(key_u, x.shape, x.dtype), jr.normal(key_v, x.shape, x.dtype)
    # The step that balances truncation and rounding of a central difference, in the unit of the states.
    f = eqx.filter_jit(f)
    h = float(jnp.finfo(x.dtype).eps) ** (1 / 3) * (size or 1.0) / float(jnp.linalg.norm(u))
    numeric = jnp.vdot(v, (f(x + h * u) - f(x - h * u)) / (2 * h))
    try:
        exact = jax.jit(lambda x, u, v: jnp.vdot(jax.vjp(f, x)[1](v)[0], u))(x, u, v)
    except (NotImplementedError, ValueError) as error:
        if not validate.says_no_derivative(error):
            raise
        return None
    return float(jnp.abs(exact - numeric) / jnp.maximum(jnp.abs(numeric), 1e-30))
