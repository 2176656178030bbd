"""One state for each end state: the end of a reverse equation without noise (arXiv:2301.10250, eq 8)."""

from typing import Any

import diffrax as dfx
import jax.tree_util as jtu

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift, Reverse
from ..solving._finite import warn_of_non_finite
from ..solving._solve import solved

__all__ = ["maximum_likelihood"]


def maximum_likelihood(
    equation: AbstractDrift[Reverse],
    xT: State,
    ts: Any,
    *,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
) -> State:
    """One likely start for each end state: the end of the probability flow (arXiv:2301.10250, eq 8).

    `-P + s` carries p_T to p₀ (each marginal is kept); `-P + 2*s` is the noise-free reverse drift, which
    for linear physics gives the posterior mean. Whole paths: `solve`.

    Args:
        equation: a reverse drift, `-P + s`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        args: handed to every callable untouched.
        solver: a diffrax ODE solver. Default: `diffrax.Euler()`.
        stepsize_controller: see `solve`.

    Returns:
        States at ts[-1], shaped like xT.

    Raises:
        TypeError: an equation with noise.
        ValueError: as `solve`.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> P = sx.Drift(lambda t, x, args: -x)
    >>> s = sx.Score(lambda t, x, args: -x, sx.Diffusion(0.1))
    >>> sx.maximum_likelihood(-P + s, jnp.ones(4), jnp.linspace(1.0, 0.0, 11)).shape
    (4,)
    """
    if isinstance(equation, SDE):
        raise TypeError(
            f"`maximum_likelihood` follows an ODE; `{equation}` has noise. Write `-P + s`, or call `posterior`."
        )
    x, fine = solved(equation, xT, ts, None, args, solver, stepsize_controller, dfx.SaveAt(t1=True))
    x = jtu.tree_map(lambda leaf: leaf[:, -1], x)
    warn_of_non_finite(fine, x, "case")
    return x
