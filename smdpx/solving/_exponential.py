"""Exponential solvers: the stiff linear part of an equation exactly, the rest by Euler's or Heun's method.

    dx = f(t, x) dt + g dW,    f = L(t) x + N(t, x),    φ₁(z) = (eᶻ - 1)/z,    φ₂(z) = (eᶻ - 1 - z)/z²

Euler (exponential Rosenbrock-Euler, Hochbruck & Ostermann 2010, with the L that the equation states), t* the middle of
the step and L that at t*:

    x' = x + h φ₁(hL) f(t*, x) + √φ₁(2hL) g(t*) ΔW

Heun (ETD2RK, Cox & Matthews 2002, eqs 20 to 22), t and t' the step's ends:

    a  = eʰᴸ x + h φ₁(hL) N(t, x) + √φ₁(2hL) g(t*) ΔW
    x' = a + h φ₂(hL) [N(t', a) - N(t, x)]

N is what is left of f beside the L of its own time, so nothing stiff is left in it where L changes. What is stated may
be L x + b, such as a score's pull L (x - m): with the b of its own time taken out of N too, and b at t* added in the
first line, where the origin of x lies does not matter. With N = 0 and L constant a step of both is exact in law: decay
eʰᴸ, noise of variance g²(e²ʰᴸ - 1)/(2L).
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._types import Args, State
from ..equation._algebra import AbstractDrift
from ..equation._linear import AbstractLinear, linear_parts
from ..equation._phi import phi1, phi2
from ._formula import AbstractFormula
from ._terms import StepTimes

__all__ = ["ExponentialEuler", "ExponentialHeun"]


class ExponentialEuler(AbstractFormula):
    """Exponential Euler: stiff linear parts are solved exactly, so few steps are stable and accurate.

    For equations whose functions state their linear part by a method `linear(t)` (a `Diagonal` or a `Fourier`):
    `physics.Heat`, `nn.FourierFilter`, the `drift` and `score` of `exact.LinearGaussianField`, or your own. Without it
    Euler's method needs steps below 1/rate; the reverse heat equation on 32 × 32 pixels has rates of 500. Of a state
    that is a tree `linear(t)` returns a tree like it with an operator for each array, None where it has no stiff part:
    there the step is Euler's.

    For ODEs and SDEs at fixed steps. First order in what is not linear, second in how L changes with time;
    strong order 1. It evaluates the rate once a step. The noise is exact in law where g is one number for each array.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> heat = sx.Drift(sx.physics.Heat(8))
    >>> x0 = jnp.tile(jnp.cos(jnp.linspace(0, 2 * jnp.pi, 8, endpoint=False)), (1, 8, 1))
    >>> x = sx.solve(heat, x0, [0.0, 1.0], solver=sx.ExponentialEuler())
    >>> round(float(x[0, -1, 0, 0]), 4)  # exp(-1)
    0.3679
    """

    @staticmethod
    def change(drift: AbstractDrift, times: StepTimes, x: State, dt: Array, kick: Any, args: Args) -> State:
        """The change h φ₁(hL) f(t*, x) + √φ₁(2hL) kick of one sample."""
        (parts,), arrays, tree = _split("ExponentialEuler", drift, x, (times.middle,), args)
        rates = jtu.tree_leaves(drift.rate(times.middle, x, args))
        kicks = _kicks(kick, len(arrays))
        changes = [
            L.from_basis(_first(L, dt, L.to_basis(f), dw), x)
            for L, x, f, dw in zip(parts, arrays, rates, kicks, strict=True)
        ]
        return jtu.tree_unflatten(tree, changes)

    def order(self, terms: Any) -> int:
        """1."""
        return 1


class ExponentialHeun(AbstractFormula):
    """Exponential Heun: stiff linear parts are solved exactly, and the rest to second order.

    The method ETD2RK of Cox & Matthews 2002 (ETDRK2 elsewhere), the exponential Runge-Kutta method of two stages at the
    ends of the step. Where there is no stiff part it is Heun's method, `diffrax.Heun()`, as `ExponentialEuler` is
    Euler's: hence the name. What equations have to state is what they state for `ExponentialEuler`.

    For ODEs and SDEs at fixed steps. Second order in what is not linear and in how L and g change with time; of SDEs
    weak order 2 and strong order 1, with additive noise, as Heun's method has. Where h|L| is large and L changes too,
    the balance of L x and N is followed to first order only. It evaluates the rate twice a step, at both ends: where
    the score has no value at t = 0 let the times end before it. The noise is exact in law where g is one number for
    each array.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> class Reaction:
    ...     def __call__(self, t, x, args):
    ...         return -100.0 * (x - jnp.cos(t))
    ...
    ...     def linear(self, t):
    ...         return sx.Diagonal(-100.0)
    >>> P, ts = sx.Drift(Reaction()), jnp.linspace(0.0, 1.0, 11)  # steps of 10 / rate
    >>> exact = (1e4 * jnp.cos(1.0) + 100 * jnp.sin(1.0)) / (1e4 + 1)
    >>> for solver in (sx.ExponentialEuler(), sx.ExponentialHeun()):
    ...     x = sx.solve(P, jnp.ones(1), ts, solver=solver)[0, -1]
    ...     print(f"{abs(x - exact):.0e}")
    3e-02
    2e-04
    """

    @staticmethod
    def change(drift: AbstractDrift, times: StepTimes, x: State, dt: Array, kick: Any, args: Args) -> State:
        """The change a - x + h φ₂(hL) [N(t', a) - N(t, x)] of one sample."""
        (before, middle, after), arrays, tree = _split("ExponentialHeun", drift, x, times, args)
        rates = jtu.tree_leaves(drift.rate(times.start, x, args))
        kicks = _kicks(kick, len(arrays))
        firsts, predicted = [], []
        for L0, L, x0, f, dw in zip(before, middle, arrays, rates, kicks, strict=True):
            # N(t, x) + L x + b, where what is stiff has cancelled before anything is rounded.
            f = L.to_basis(f) + _times(L.rates - L0.rates, L.to_basis(x0))
            f = _moved(L0, L, f)
            firsts.append(_first(L, dt, f, dw))
            predicted.append(x0 + L.from_basis(firsts[-1], x0))
        ends = jtu.tree_leaves(drift.rate(times.end, jtu.tree_unflatten(tree, predicted), args))
        changes = []
        for L0, L, L1, x0, f0, f1, first in zip(before, middle, after, arrays, rates, ends, firsts, strict=True):
            turn = L.to_basis(f1 - f0) - _times(L1.rates, first) - _times(L1.rates - L0.rates, L.to_basis(x0))
            turn = _moved(L1, L0, turn)
            h = dt.astype(L.rates.dtype)
            changes.append(L.from_basis(first + _times(h * phi2(h * L.rates), turn), x0))
        return jtu.tree_unflatten(tree, changes)

    def order(self, terms: Any) -> int:
        """2."""
        return 2


def _split(
    solver: str, drift: AbstractDrift, x: State, times: Sequence[Array], args: Args
) -> tuple[list[list[AbstractLinear]], list[Array], Any]:
    """The linear part of each array of the state at some times, the arrays, and their tree."""
    arrays, tree = jtu.tree_flatten(x)
    stated = [drift.linear(t, args) for t in times]
    if not jtu.tree_leaves(stated):
        raise TypeError(
            f"`{solver}` needs a stiff linear part, and `{drift!r}` states none: give a function with a method "
            "`linear(t)` that returns a `sx.Fourier` or a `sx.Diagonal`, or use `diffrax.Euler()` or `diffrax.Heun()`."
        )
    return [linear_parts(linear, x) for linear in stated], arrays, tree


def _kicks(kick: Any, count: int) -> list[Any]:
    return [None] * count if kick is None else jtu.tree_leaves(kick)


def _first(L: AbstractLinear, dt: Array, rate: Array, kick: Array | None) -> Array:
    """The change h φ₁(hL) rate + √φ₁(2hL) kick in the basis, where the rate already is."""
    h = dt.astype(L.rates.dtype)
    z = h * L.rates
    change = _times(h * phi1(z), rate)
    return change if kick is None else change + _times(jnp.sqrt(phi1(2 * z)), L.to_basis(kick))


def _moved(before: AbstractLinear, after: AbstractLinear, coefficients: Array) -> Array:
    """The coefficients and how what is beside the linear part has changed."""
    if before.beside is None or after.beside is None:
        return coefficients
    return coefficients + (after.beside - before.beside).astype(coefficients.dtype)


def _times(numbers: Array, coefficients: Array) -> Array:
    return numbers.astype(coefficients.dtype) * coefficients
