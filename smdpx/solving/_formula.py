"""Solvers of our own whose step is a formula in the drift itself: in its linear part, or in its summands.

    x' = x + change(drift, times, x, h, g ΔW)

diffrax hands a solver rates. What a formula needs beside them it asks of the term, by a control of its own, with the
keywords that diffrax hands through to a term: so these solvers run in `solve`, in windows, and in a `diffeqsolve` of
the reader's own alike.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._types import Args, RealScalarLike, State
from ..equation._algebra import AbstractDrift
from ._terms import FormulaStep, StepTimes

__all__ = ["AbstractFormula"]


class AbstractFormula(dfx.AbstractItoSolver):
    """What such solvers have in common: all but the formula."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = dfx.LocalLinearInterpolation

    @staticmethod
    @abc.abstractmethod
    def change(drift: AbstractDrift, times: StepTimes, x: State, dt: Array, kick: Any, args: Args) -> State:
        """The change of one sample over a step."""

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
        middle = (jnp.asarray(t0) + jnp.asarray(t1)) / 2
        kick = None if noise is None else noise.vf_prod(middle, y0, args, noise.contr(t0, t1))
        control = drift.contr(t0, t1, formula=self.change)
        if not isinstance(control, FormulaStep):
            raise TypeError(
                f"`{type(self).__name__}` needs to know what the drift is made of, and a `{type(drift).__name__}` "
                "cannot say: make the terms by `sx.terms(equation, t0, path)`."
            )
        change = drift.vf_prod(middle, y0, args, control.kicked(kick))
        y1 = jtu.tree_map(jnp.add, y0, change)
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful

    def func(self, terms: Any, t0: RealScalarLike, y0: State, args: Args) -> State:
        """The rate."""
        return terms.vf(t0, y0, args)
