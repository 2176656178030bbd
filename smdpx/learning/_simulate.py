"""Simulated data: the forward process on a grid of times."""

from typing import Any

import diffrax as dfx

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._drift import step_drifts
from ..solving import _validate as validate
from ..solving._default_solver import solver_of
from ..solving._solve import solved
from ._trajectories import Trajectories

__all__ = ["simulate"]


def simulate(
    equation: AbstractDrift[Forward] | SDE[Forward],
    x0: State,
    ts: Any,
    *,
    key: Key | None = None,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
) -> Trajectories:
    """Trajectories of the forward process on a grid of times: the data that `fit` learns from.

    A `solve` at fixed steps that insists on what training needs: the forward direction, the steps of the
    very grid that is trained on (interpolated data have too little noise in their increments), and
    finite states throughout.

    Args:
        equation: the forward process, `P + g` (or `P` alone).
        x0: initial states, arrays of shape (samples, ...).
        ts: increasing times; the steps.
        key: a JAX key, where there is noise.
        args: handed to every callable; a leaf wrapped in `PerSample` has a row for each sample.
        solver: a diffrax solver. Default: as `solve`, `diffrax.Heun()` where drifts have rates.

    Returns:
        `Trajectories`: states `x` of shape (samples, times, ...), their times `ts`, and `args`.

    Raises:
        ValueError: as `solve`, and where a trajectory leaves the finite numbers: which one, and when.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> paths = sx.simulate(P + g, jnp.ones(5), jnp.linspace(0.0, 1.0, 11), key=jax.random.key(0))
    >>> paths.x.shape, paths.end.shape, len(paths[2:])
    ((5, 11), (5,), 3)
    """
    if isinstance(equation, AbstractDrift | SDE) and equation.direction is not Forward:
        raise ValueError(f"`simulate` runs forwards, and `{equation}` is a reverse equation: use `solve`.")
    x, _, _ = solved(equation, x0, ts, key, args, solver)
    # A simulator's steps are the process itself, and no method's.
    made = None if step_drifts(equation) else type(solver_of(equation, solver))
    paths = Trajectories(x, ts, args, solver=made)
    validate.check_simulation(x, paths.ts, equation, args)
    return paths
