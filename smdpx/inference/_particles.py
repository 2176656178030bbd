"""The bootstrap particle smoother: p(x₀ | x_T) from particles that the process itself moves, by cuthbert."""

import warnings
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._types import Args, Key, State
from ..equation._algebra import SDE, Forward
from ..equation._conditions import conditions
from ..learning.losses._transition import KNOWN
from ..metrics._distance import energy_distance
from ..solving import _validate as validate
from ..solving._default_solver import default_solver
from ..solving._finite import exploded, first_few, sizes
from ..solving._numbers import as_arrays
from ..solving._options import whole_number
from ..solving._solve import solved
from ._ends import check_ends, draw_starts
from ._particle_filter import Chain, check_installed, potentials, smoothed

__all__ = ["ParticleSmoothing", "particle_smoother"]

_FEW = 10  # effective particles, or starts: below this draws are nearly the same
_FAR = 10.0  # deviations of the last step's noise: no particle that needs more comes near


class ParticleSmoothing(eqx.Module):
    """Draws from p(x₀ | x_T) by `particle_smoother`, and how far they can be trusted.

    Attributes:
        samples: draws of x₀, arrays of shape (draws, cases, ...).
        ess: how many particles of equal weight the weights are worth when x_T is seen (Kong et al. 1994), of all
            particles, shape (cases,).
        ancestors: how many starts, of equal share, the draws go back to: 1/Σ pᵢ², pᵢ the share of the i-th particle at
            t = 0; at most the number of draws. Shape (cases,).
        halves: energy distance (`metrics.energy_distance`, in units of the state) between the draws of two independent
            halves of the particles: all of chance's error, collapse included. Slightly negative values are noise about
            zero. Shape (cases,).
        particles: how many particles there were.
    """

    samples: State
    ess: Float[np.ndarray, " cases"]
    ancestors: Float[np.ndarray, " cases"]
    halves: Float[np.ndarray, " cases"]
    particles: int

    def __repr__(self) -> str:
        draws, cases = jtu.tree_leaves(self.samples)[0].shape[:2]
        return (
            f"{draws} draws of each of {cases} case{'s' if cases > 1 else ''} from {self.particles:,} particles, worth "
            f"{self.ess.min():.3g} or more at the end; of {self.ancestors.min():.3g} starts or more; energy distance "
            f"between halves up to {np.abs(self.halves).max():.1g}"
        )


def particle_smoother(
    process: SDE[Forward],
    x0: Callable[[Key, int], State] | State,
    ts: Any,
    xT: State,
    n: int = 1000,
    *,
    key: Key,
    particles: int = 10_000,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
) -> ParticleSmoothing:
    """Draws from p(x₀ | x_T) by a bootstrap particle filter and backward simulation (Godsill, Doucet and West 2004).

    The particles are moved by the process, led towards x_T by potentials that cancel (Del Moral and Murray 2015; a
    linear regression on simulated paths), weighted by p(x_T | x) of the last step, and drawn back step by step with the
    weights of all transitions. Consistent for any process with noise in every component, as the particles grow; how
    many that takes grows exponentially with the number of components. In a few components it is a second opinion beside
    `exact.neighbours`; in many it collapses, and says so. Needs cuthbert: ``pip install "smdpx[classical]"``.

    Args:
        process: the forward process, `P + g`, with noise in every component.
        x0: the distribution of x_0: a function of a key and a number that draws so many states, arrays of
            shape (number, ...); or arrays of shape (starts, ...), to be drawn from with replacement.
        ts: increasing times, at least three; the steps.
        xT: end states, arrays of shape (cases, ...). Each has particles of its own.
        n: draws a case.
        key: a JAX key.
        particles: how many, at least 20 (d + 1), d the number of components. Time goes as steps times particles times
            draws.
        args: handed to every callable, the same for all particles.
        solver: `diffrax.Heun()`, `Midpoint`, `Ralston`, `Euler`, or `ExponentialHeun()`. Default: as `simulate`.

    Returns:
        `ParticleSmoothing`: `samples`, `ess`, `ancestors`, `halves`. The draws are in random order.

    Raises:
        ImportError: cuthbert is not installed.
        TypeError: a process that is no forward equation with noise; a solver whose steps are no function of one
            Brownian increment; an n that is no integer; arrays that are not known yet, under `jax.jit`.
        ValueError: a component without noise, whose steps have no density; too few particles, draws or times; an end
            state that no particle comes near (how far the nearest is); paths that exploded; starts of another number or
            shape; conditions for each sample.

    Warns:
        UserWarning: the weights have collapsed, and draws go back to a few particles.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    >>> start, k = lambda key, n: jax.random.normal(key, (n,)), jax.random.key(0)
    >>> ts, xT = jnp.linspace(0.0, 1.0, 11), jnp.array([0.3])
    >>> found = sx.particle_smoother(P + g, start, ts, xT, 200, key=k, particles=1000)
    >>> found.samples.shape, bool(found.ess[0] > 300), bool(found.ancestors[0] > 100)
    ((200, 1), True, True)
    """
    n, particles = whole_number("n", n), whole_number("particles", particles)
    _check(process, ts, xT, args, solver)
    solver = default_solver(process) if solver is None else solver
    times = np.asarray(validate.check_times(ts, process), np.float64)
    xT, _ = check_ends(process, xT, args)
    targets, one = _flat(xT, validate.widest(xT)), jtu.tree_map(lambda leaf: leaf[0], xT)
    _check_counts(n, particles, targets.shape[1], len(times))
    _check_noise(process, times, one, args)
    half, half_n = -(-particles // 2), -(-n // 2)
    key_starts, key_noise, key_filter, key_order = jr.split(key, 4)
    starts = draw_starts(x0, xT, 2 * half, key_starts)
    paths, _, _ = solved(process, jtu.tree_map(lambda leaf: leaf[:half], starts), times, key_noise, args, solver)
    led = potentials(_paths(paths, xT), targets)
    both = _flat(starts, targets.dtype).reshape(2, half, -1)
    process, args = as_arrays(process, args)
    numbers = [jnp.asarray(part, targets.dtype) for part in (times[:-1], np.diff(times), *led)]
    found = smoothed(Chain(process, solver, args, one), both, numbers, targets, half_n, key_filter)
    draws, origins, ess, nearest = jax.device_get(found)
    _check_reach(nearest.min(axis=1), particles)
    ancestors = np.array([_effective(case) for case in origins])
    _warn_if_collapsed(ess.sum(axis=1), ancestors)
    halves = np.array([energy_distance(*case) for case in draws])
    order = jr.permutation(key_order, 2 * half_n)[:n]
    mixed = jnp.asarray(np.concatenate([draws[:, 0], draws[:, 1]], axis=1).swapaxes(0, 1))[order]
    samples = jax.vmap(jax.vmap(ravel_pytree(one)[1]))(mixed)
    return ParticleSmoothing(samples, ess.sum(axis=1), ancestors, halves, 2 * half)


def _paths(paths: State, xT: State) -> np.ndarray:
    """Simulated paths, flat, (paths, times, d), or an error where they exploded."""
    bad, _ = exploded(jtu.tree_map(lambda leaf: leaf[:, -1], paths), sizes(xT), axes=1)
    if bad.any():
        raise ValueError(
            f"{bad.sum():,} of {len(bad):,} simulated paths are not finite at the end, or beyond 10⁴ times what is "
            "usual: particles would be lost there. Take finer steps in `ts`, or another `solver`."
        )
    leaves = [np.asarray(leaf, np.float64) for leaf in jtu.tree_leaves(paths)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2)


def _flat(x: State, dtype: Any) -> Float[Array, "n d"]:
    return jax.vmap(lambda x: ravel_pytree(x)[0])(x).astype(dtype)


def _effective(origins: np.ndarray) -> float:
    """How many starts of equal share the draws of one case go back to; those of the halves are different ones."""
    counts = np.concatenate([np.bincount(half) for half in origins])
    return float(counts.sum() ** 2 / (counts**2).sum())


def _check(process: Any, ts: Any, xT: Any, args: Args, solver: Any) -> None:
    check_installed()
    if not isinstance(process, SDE) or process.direction is not Forward:
        raise TypeError(f"`particle_smoother` needs a forward process with noise such as `P + g`; got `{process}`.")
    if solver is not None and type(solver) not in KNOWN:
        raise TypeError(
            "`particle_smoother` needs steps that are a function of one Brownian increment, and those of "
            f"`{type(solver).__name__}` are not: take `diffrax.Heun()`, `Midpoint`, `Ralston`, `Euler` or "
            "`sx.ExponentialHeun()`."
        )
    validate.check_concrete("particle_smoother", process, ts, xT, args)
    if conditions(args):
        raise ValueError(
            "`args` holds a `PerSample`, and all particles share one `args`: call `particle_smoother` once for each "
            "condition, with that sample's row as plain `args`."
        )


def _check_counts(n: int, particles: int, components: int, times: int) -> None:
    if times < 3:
        raise ValueError(f"`ts` needs at least three times, two steps; got {times}. Divide the step.")
    if particles < (least := 20 * (components + 1)):
        raise ValueError(f"`particles` must be at least {least} for {components} components; got {particles}.")
    if n < 4:
        raise ValueError(f"`n` must be at least 4, two draws of each half of the particles; got {n}.")


def _check_noise(process: SDE, times: np.ndarray, one: State, args: Args) -> None:
    """Raise where a component has no noise at some time: there a step has no density."""
    g = jax.vmap(lambda t: ravel_pytree(process.diffusion.like(t, one, args))[0])(jnp.asarray(times, float))
    if (without := np.argwhere(np.asarray(g) == 0)).size:
        step, component = without[0]
        raise ValueError(
            f"Component {component} has no noise at t = {times[step]:g}, and a step without noise in every component "
            "has no density that could weigh particles. Give it a little noise in `Diffusion`, which is then part of "
            "the question; or take `sx.exact.neighbours` or `sx.ensemble_smoother`, which need none."
        )


def _check_reach(nearest: np.ndarray, particles: int) -> None:
    beyond = np.flatnonzero(~(nearest < _FAR))
    if beyond.size:
        raise ValueError(
            f"No particle comes near `xT` (case {first_few(beyond)}): of {particles:,} the nearest would need "
            f"{nearest[beyond[0]]:.3g} standard deviations of the last step's noise in each component. `x0` and the "
            "process do not lead there; or the state has too many components for particles: see `ensemble_smoother`."
        )


def _warn_if_collapsed(ess: np.ndarray, ancestors: np.ndarray) -> None:
    few = np.flatnonzero(np.minimum(ess, ancestors) < _FEW)
    if few.size:
        warnings.warn(
            f"The weights of `particle_smoother` have collapsed (case {first_few(few)}): they are worth "
            f"{ess[few].min():.3g} particles at the end, and the draws go back to {ancestors[few].min():.3g} starts. "
            "Their spread means nothing. Take more `particles`; in many components no number helps, and "
            "`sx.ensemble_smoother` is the row to compare with.",
            stacklevel=validate.levels_to_user(),
        )
