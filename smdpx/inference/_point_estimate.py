"""One state for each end state: the end of a reverse equation without noise (arXiv:2301.10250, eqs 8 and 9)."""

from typing import Any

import diffrax as dfx
import jax.tree_util as jtu

from .._types import Args, State
from ..equation._algebra import SDE, AbstractDrift, Reverse
from ..equation._score import scores
from ..solving._failing import said_at_the_end
from ..solving._finite import warn_of_explosions
from ..solving._solve import solved
from ._ends import check_ends

__all__ = ["point_estimate"]


def point_estimate(
    equation: AbstractDrift[Reverse],
    xT: State,
    ts: Any,
    *,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
) -> State:
    """One start for each end state; the equation says which (arXiv:2301.10250, eqs 8 and 9).

        -P + s      the end of the probability flow: it carries p_T to p₀, and keeps every marginal on the way
        -P + 2*s    the end of the reverse-time SDE without its noise: for linear physics the posterior mean

    Nothing is maximised, by either: the paper calls the flow's end the "maximum likelihood" solution, and it is in
    general neither the likeliest start nor the posterior's mode. Whole paths: `solve`.

    Args:
        equation: a reverse drift, `-P + s` or `-P + 2*s`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        args: handed to every callable untouched.
        solver: a diffrax ODE solver. Default: as `solve`, `diffrax.Heun()` where drifts have rates.
        stepsize_controller: see `solve`.

    Returns:
        States at ts[-1], shaped like xT.

    Raises:
        TypeError: an equation with noise, or one that runs forward.
        ValueError: end states that are not finite (which case), none at all, or one state without the axis of cases;
            and as `solve`.

    Warns:
        NonFiniteWarning: states that are not finite, or beyond 10⁴ times both the others' median and the largest of
            xT: how many, and which cases.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> P = sx.Drift(lambda t, x, args: -x)
    >>> s = sx.Score(lambda t, x, args: -x, sx.Diffusion(0.1))
    >>> sx.point_estimate(-P + s, jnp.ones(4), jnp.linspace(1.0, 0.0, 11)).shape
    (4,)
    """
    if isinstance(equation, SDE):
        raise TypeError(
            f"`point_estimate` follows an ODE; `{equation}` has noise. Write `-P + s`, or call `posterior`."
        )
    if not isinstance(equation, AbstractDrift):
        raise TypeError(f"`point_estimate` needs a reverse drift such as `-P + s`; got {type(equation).__name__}.")
    if equation.direction is not Reverse:
        raise TypeError(
            f"`point_estimate` follows a reverse equation from an end state to its start, and `{equation}` runs "
            "forward: write `-P + s`; or call `solve` or `simulate` for what follows from a state."
        )
    xT, _ = check_ends(equation, xT, args)
    x, most, _ = solved(equation, xT, ts, None, args, solver, stepsize_controller, dfx.SaveAt(t1=True))
    x = jtu.tree_map(lambda leaf: leaf[:, -1], x)
    said = said_at_the_end(equation, xT, ts, args)
    warn_of_explosions(most, x, "case", like=xT, said=said, scored=bool(scores(equation)))
    return x
