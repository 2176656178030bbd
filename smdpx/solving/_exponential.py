"""An exponential solver: the stiff linear part of an equation exactly, the rest by Euler's method.

    dx = f(t, x) dt + g dW,    f = L(t) x + N(t, x)
    x' = x + h φ₁(hL) f(t*, x) + √φ₁(2hL) g ΔW,    φ₁(z) = (eᶻ - 1)/z,    t* the middle of the step

(exponential Rosenbrock-Euler, Hochbruck & Ostermann 2010, with the L that the equation states). With
N = 0 and L constant a step is exact in law: decay eʰᴸ, noise of variance g²(e²ʰᴸ - 1)/(2L).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._types import Args, RealScalarLike, State
from ._terms import ExponentialStep

__all__ = ["ExponentialEuler"]


class ExponentialEuler(dfx.AbstractItoSolver):
    """Exponential Euler: stiff linear parts are solved exactly, so few steps are stable and accurate.

    For equations whose functions state their linear part by a method `linear(t)` (a `Diagonal` or a `Fourier`):
    `physics.Heat`, `nn.FourierFilter`, the `drift` and `score` of `exact.LinearGaussianField`, or your own. Without it
    Euler's method needs steps below 1/rate; the reverse heat equation on 32 × 32 pixels has rates of 500.

    For ODEs and SDEs at fixed steps. First order in what is not linear, second in how L changes with time;
    strong order 1. It evaluates the rate once a step. The noise is exact in law where g is one number.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> heat = sx.Drift(sx.physics.Heat(8))
    >>> x0 = jnp.tile(jnp.cos(jnp.linspace(0, 2 * jnp.pi, 8, endpoint=False)), (1, 8, 1))
    >>> x = sx.solve(heat, x0, [0.0, 1.0], solver=sx.ExponentialEuler())
    >>> round(float(x[0, -1, 0, 0]), 4)  # exp(-1)
    0.3679
    """

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = dfx.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        """1."""
        return 1

    def strong_order(self, terms: Any) -> float:
        """1: the noise is additive."""
        return 1.0

    def init(self, terms: Any, t0: Any, t1: Any, y0: State, args: Args) -> None:
        """Nothing is kept from step to step."""
        return

    def step(
        self,
        terms: Any,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: State,
        args: Args,
        solver_state: None,
        made_jump: Any,
    ) -> Any:
        """One step of the module's formula."""
        drift, noise = terms.terms if isinstance(terms, dfx.MultiTerm) else (terms, None)
        kick = None if noise is None else noise.vf_prod(t0, y0, args, noise.contr(t0, t1))
        # A control of its own, by the keywords that diffrax hands through to a term: the drift knows its linear part.
        control = drift.contr(t0, t1, exponential=True)
        if not isinstance(control, ExponentialStep):
            raise TypeError(
                f"`ExponentialEuler` needs to know the drift's linear part, and a `{type(drift).__name__}` has none: "
                "make the terms by `sx.terms(equation, t0, path)`."
            )
        control = ExponentialStep(control.dt, kick)
        change = drift.vf_prod((jnp.asarray(t0) + jnp.asarray(t1)) / 2, y0, args, control)
        y1 = jtu.tree_map(jnp.add, y0, change)
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful

    def func(self, terms: Any, t0: RealScalarLike, y0: State, args: Args) -> State:
        """The rate."""
        return terms.vf(t0, y0, args)
