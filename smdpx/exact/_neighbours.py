"""Brute force: of many simulated paths, the starts of those that happen to end near x_T.

With ρ the root mean square over components of (x_T^i - x_T)/sd, sd the ends' own, a path is kept with probability
1 - (ρ/r)², Epanechnikov's kernel, and its start moved along a linear regression of starts on ends (Beaumont, Zhang and
Balding 2002):

    x^i = x₀^i - B (x_T^i - x_T),    (a, B) = argmin Σ_i |x₀^i - a - B (x_T^i - x_T)|²    over those kept.

Kernel weights as probabilities leave draws that weigh the same. With V uniform, a path is kept at r just if
ρ/√(1 - V) < r, so that the n smallest of these numbers are n draws at the radius that this takes; and they can be kept
chunk by chunk. Paths come in two independent halves, which say how far off the answer is.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._conditions import conditions
from ..inference._ends import check_ends, draw_starts
from ..metrics._distance import energy_distance, energy_distance_of_parts
from ..solving import _validate as validate
from ..solving._finite import exploded, first_few, sizes
from ..solving._options import whole_number
from ..solving._solve import solved

# How many numbers the largest array of a chunk may hold: 4 MiB in single precision, so that steps stay in the cache.
_NUMBERS_AT_ONCE = 2**20
# Draws for each number that a regression fits, in the quarters that are compared.
_DRAWS_A_NUMBER = 2
_FAR = 1.0  # in standard deviations of the ends: beyond this no regression is local


class Neighbours(eqx.Module):
    """Draws from p(x₀ | x_T) by `neighbours`, and how far off they may be.

    All distances are `metrics.energy_distance`, in units of the state, and slightly negative values are noise about
    zero. A sampler that is as near to `samples` as `error` cannot be told from the truth by them.

    Attributes:
        samples: draws of x₀, arrays of shape (draws, cases, ...).
        radius: r, within which ends count as x_T, in standard deviations of the ends (root mean square over
            components), shape (cases,).
        halves: energy distance between the draws of two independent halves of the simulations: chance, shape (cases,).
        radii: energy distance between the draws of one half, and of the other at the smaller radius r' that holds half
            as many: the error of a radius that is not zero, shape (cases,). Of a bias of the order of r² it shows
            (1 - (r'/r)²)², as it is a distance squared, with r'/r = 2^(-1/d): .56 .25 .14 .09 for d = 1 ... 4.
        sides: a quarter of the energy distance between the draws whose ends lie on one side of x_T and on the other,
            along the direction in which the regression moves starts most: how far each side is from both together.
            Zero where the regression is right; where an end state lies between two branches, each side is moved
            across the gap, alike at every radius, and only this sees it (and not where no end is near x_T at all, which
            the radius says). Shape (cases,).
        simulations: how many paths were simulated.
    """

    samples: State
    radius: Float[np.ndarray, " cases"]
    halves: Float[np.ndarray, " cases"]
    radii: Float[np.ndarray, " cases"]
    sides: Float[np.ndarray, " cases"]
    simulations: int

    @property
    def error(self) -> Float[np.ndarray, " cases"]:
        """The largest of the distances for each case, in units of the state, shape (cases,)."""
        return np.max(np.abs([self.halves, self.radii, self.sides]), axis=0)

    def __repr__(self) -> str:
        draws, cases = jtu.tree_leaves(self.samples)[0].shape[:2]
        return (
            f"{draws} draws of each of {cases} case{'s' if cases > 1 else ''} from {self.simulations:,} simulations, "
            f"within {self.radius.max():.2g} sd of the ends; energy distance between halves up to "
            f"{np.abs(self.halves).max():.1g}, between radii up to {np.abs(self.radii).max():.1g}, "
            f"between sides up to {np.abs(self.sides).max():.1g}"
        )


def neighbours(
    process: AbstractDrift[Forward] | SDE[Forward],
    x0: Callable[[Key, int], State] | State,
    ts: Any,
    xT: State,
    n: int = 2000,
    *,
    key: Key,
    simulations: int = 1_000_000,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    adjust: bool = True,
) -> Neighbours:
    """Draws from p(x₀ | x_T) of any process that can be simulated, by brute force (Beaumont et al. 2002).

        x^i = x₀^i - B (x_T^i - x_T)    of the paths that end near x_T, B their linear regression

    Simulates the process in chunks, which hold starts and ends only, and keeps for each end state the n paths that end
    nearest to it, by chance with the weights 1 - (ρ/r)² of Epanechnikov's kernel. The error of the regression is
    of the order of r², and r falls as simulations^(-1/d), d the number of components: a few components are what this
    is for. Where (x₀, x_T) is Gaussian the regression is exact at any radius.

    Args:
        process: the forward process, `P + g` (or `P` alone).
        x0: the distribution of x_0: a function of a key and a number that draws so many states, arrays of
            shape (number, ...); or arrays of shape (starts, ...), to be drawn from with replacement.
        ts: increasing times; the steps.
        xT: end states, arrays of shape (cases, ...). All share the simulations.
        n: draws a case, at least 8 (d + 1).
        key: a JAX key.
        simulations: how many paths to simulate, at least 10 n; rounded up to whole chunks.
        args: handed to every callable, the same for all paths.
        solver: a diffrax solver. Default: as `simulate`.
        adjust: whether starts are moved along the regression. False where they are discrete: ±1 stays ±1.

    Returns:
        `Neighbours`: `samples`, `radius`, `error`. The draws are in random order.

    Raises:
        TypeError: a process that is no forward equation; an n that is no integer; arrays that are not known yet, under
            `jax.jit`.
        ValueError: too few draws for the regression, or simulations for the draws; an end state that no path comes near
            (how far the nearest is), or that differs from the others in a component that is the same for all ends;
            paths that exploded (how many); starts of another number or shape; conditions for each sample.

    Warns:
        UserWarning: a radius above one standard deviation of the ends.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: x - x**3), sx.Diffusion(0.5)
    >>> start = lambda key, n: jax.random.normal(key, (n,))
    >>> ts, xT, k = jnp.linspace(0.0, 1.0, 21), jnp.array([0.0, 1.0]), jax.random.key(0)
    >>> truth = sx.exact.neighbours(P + g, start, ts, xT, 500, key=k, simulations=50_000)
    >>> truth.samples.shape, bool((truth.error < 0.05).all())
    ((500, 2), True)
    """
    n, simulations = whole_number("n", n), whole_number("simulations", simulations)
    _check(process, ts, xT, args)
    xT, numbers = check_ends(process, xT, args)
    targets, unravel = _flat(xT), ravel_pytree(jtu.tree_map(lambda leaf: leaf[0], xT))[1]
    cases, d = targets.shape
    _check_counts(n, simulations, d if adjust else 0)
    pairs = -(-simulations * max(numbers, d, cases) // (2 * _NUMBERS_AT_ONCE))
    size = -(-simulations // (2 * pairs))
    key, key_order = jr.split(key)
    half = -(-n // 2)
    halves, scale = [_Kept.none(cases, half, targets)] * 2, None
    for i, (start, end, chances) in enumerate(_paths(process, x0, ts, xT, key, args, solver, size, 2 * pairs)):
        scale = _scale(end, targets) if scale is None else scale
        halves[i % 2] = _nearest(halves[i % 2], start, end, chances, targets, scale)
    assert scale is not None
    a, b = jax.device_get(halves)
    radius = np.maximum(a.reach, b.reach).max(axis=1).astype(np.float64)
    _check_reach(np.minimum(a.nearest, b.nearest), radius, size * 2 * pairs)
    of_cases = [(a.of(case), b.of(case)) for case in range(cases)]
    between = np.array([_compare(a, b, adjust) for a, b in of_cases])
    kept = [a.joined(b) for a, b in of_cases]
    draws = [_adjusted(each, adjust) for each in kept]
    sides = np.array([_sides(each, x) for each, x in zip(kept, draws, strict=True)])
    order = jr.permutation(key_order, 2 * half)[:n]
    samples = jax.vmap(jax.vmap(unravel))(jnp.asarray(np.stack(draws, axis=1), targets.dtype)[order])
    return Neighbours(samples, radius, between[:, 0], between[:, 1], sides, size * 2 * pairs)


class _Kept(NamedTuple):
    """The paths that ended nearest to each end state so far, in order.

    Attributes:
        reach: ρ/√(1 - V), shape (cases, k).
        start: x₀, shape (cases, k, d).
        offset: (x_T^i - x_T)/sd, shape (cases, k, d).
        nearest: the smallest ρ of all paths, kept or not, shape (cases,).
    """

    reach: Any
    start: Any
    offset: Any
    nearest: Any

    @classmethod
    def none(cls, cases: int, k: int, like: Float[Array, "cases d"]) -> "_Kept":
        """Of no path yet."""
        far = jnp.full((cases, k), jnp.inf, like.dtype)
        nothing = jnp.zeros((cases, k, like.shape[1]), like.dtype)
        return cls(far, nothing, nothing, far[:, 0])

    def of(self, case: int) -> "_Kept":
        """One case's, without the axis of cases."""
        return jtu.tree_map(lambda part: part[case], self)

    def joined(self, other: "_Kept") -> "_Kept":
        """One case's of both halves."""
        reach, start, offset = (np.concatenate(parts) for parts in zip(self[:3], other[:3], strict=True))
        return _Kept(reach, start, offset, min(self.nearest, other.nearest))

    def inner(self) -> "_Kept":
        """The nearer half of one case's."""
        few = len(self.reach) // 2
        return _Kept(self.reach[:few], self.start[:few], self.offset[:few], self.nearest)


@eqx.filter_jit
def _nearest(
    kept: _Kept,
    start: Float[Array, "paths d"],
    end: Float[Array, "paths d"],
    chances: Float[Array, "cases paths"],
    targets: Float[Array, "cases d"],
    scale: Float[Array, " d"],
) -> _Kept:
    """The nearest of those kept and of a new chunk, for each case."""
    # A component that never varies has no say, and no unit.
    varies = scale > 0
    unit = jnp.where(varies, scale, 1)

    def of_case(given: Any) -> _Kept:
        kept, target, chance = given
        offset = jnp.where(varies[None], (end - target[None]) / unit[None], 0)
        distance = jnp.sqrt(jnp.mean(offset**2, axis=1, where=varies[None]))
        joined = jnp.concatenate([kept.reach, distance / jnp.sqrt(1 - chance)])
        reach, index = jax.lax.top_k(-joined, len(kept.reach))
        both = lambda old, new: jnp.concatenate([old, new])[index]  # noqa: E731
        nearest = jnp.minimum(kept.nearest, distance.min())
        return _Kept(-reach, both(kept.start, start), both(kept.offset, offset), nearest)

    return jax.lax.map(of_case, (kept, targets, chances))


def _paths(
    process: Any, x0: Any, ts: Any, xT: State, key: Key, args: Args, solver: Any, size: int, chunks: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Chunk by chunk: starts and ends, flat, (size, d), and the uniform V of each case, (cases, size)."""
    cases = jtu.tree_leaves(xT)[0].shape[0]
    for i in range(chunks):
        key_start, key_noise, key_chance = jr.split(jr.fold_in(key, i), 3)
        start = draw_starts(x0, xT, size, key_start)
        noise = key_noise if isinstance(process, SDE) else None
        end, _, _ = solved(process, start, ts, noise, args, solver, saveat=dfx.SaveAt(t1=True))
        end = jtu.tree_map(lambda leaf: leaf[:, -1], end)
        bad, _ = exploded(end, sizes(xT), axes=1)
        if bad.any():
            raise ValueError(
                f"{bad.sum():,} of {size:,} simulated paths are not finite at t = {float(ts[-1]):g}, or beyond 10⁴ "
                "times what is usual: to leave them out would be another posterior. Take finer steps in `ts`, or "
                "another `solver`."
            )
        yield _flat(start), _flat(end), jr.uniform(key_chance, (cases, size), validate.widest(xT))


@jax.jit
def _flat(x: State) -> Float[Array, "n d"]:
    return jax.vmap(lambda x: ravel_pytree(x)[0])(x)


def _scale(end: Float[Array, "paths d"], targets: Float[Array, "cases d"]) -> Float[Array, " d"]:
    """The ends' standard deviation by component, 0 where all are the same, as x_T must then be too."""
    ends, xT = np.asarray(end, np.float64), np.asarray(targets, np.float64)
    mean, scale = ends.mean(axis=0), ends.std(axis=0)
    rounding = float(jnp.finfo(end.dtype).eps) * np.abs(mean)
    fixed = scale <= 8 * rounding
    if fixed.all():
        raise ValueError("All paths end at one state, which says nothing about where they began.")
    other = np.abs(xT - mean) > 80 * rounding
    if (other & fixed).any():
        case, component = np.argwhere(other & fixed)[0]
        raise ValueError(
            f"All paths end at {mean[component]:g} in component {component}, and `xT` has {xT[case, component]:g} "
            f"there (case {case}): nothing leads to it. Give `xT` that value, or let `x0` vary."
        )
    return jnp.asarray(np.where(fixed, 0, scale), end.dtype)


def _adjusted(kept: _Kept, adjust: bool) -> np.ndarray:
    """One case's starts, moved along the linear regression on their ends, in double precision."""
    start, offset = (np.asarray(part, np.float64) for part in (kept.start, kept.offset))
    if not adjust:
        return start
    design = np.concatenate([np.ones((len(offset), 1)), offset], axis=1)
    # Directions in which no end differs get no slope: the least-norm solution.
    slopes = np.linalg.lstsq(design, start, rcond=None)[0][1:]
    return start - offset @ slopes


def _compare(a: _Kept, b: _Kept, adjust: bool) -> tuple[float, float]:
    """Energy distances of one case between the halves, and between one half and the nearer half of the other."""
    whole_a, whole_b, inner_a, inner_b = (_adjusted(each, adjust) for each in (a, b, a.inner(), b.inner()))
    radii = energy_distance(whole_a, inner_b), energy_distance(inner_a, whole_b)
    return energy_distance(whole_a, whole_b), (radii[0] + radii[1]) / 2


def _sides(kept: _Kept, draws: np.ndarray) -> float:
    """How far one case's draws from ends on either side of x_T are from all of them."""
    moved = np.asarray(kept.start, np.float64) - draws
    if not moved.any():  # not adjusted: the sides differ as starts do within the radius
        return 0.0
    side = moved @ np.linalg.svd(moved, full_matrices=False)[2][0] > 0
    few = min(side.sum(), (~side).sum())
    return energy_distance_of_parts(draws, side) / 4 if few > 1 else 0.0


def _check(process: Any, ts: Any, xT: Any, args: Args) -> None:
    if not isinstance(process, AbstractDrift | SDE) or process.direction is not Forward:
        raise TypeError(f"`neighbours` simulates a forward process such as `P + g`; got `{process}`.")
    validate.check_concrete("neighbours", process, ts, xT, args)
    if conditions(args):
        raise ValueError(
            "`args` holds a `PerSample`, and all cases of `neighbours` share one set of simulations: call it once for "
            "each condition, with that sample's row as plain `args`."
        )


def _check_counts(n: int, simulations: int, components: int) -> None:
    least = 4 * _DRAWS_A_NUMBER * (components + 1)
    if n < least:
        raise ValueError(
            f"`n` = {n} draws are too few for a regression on {components} components, which is also made for each "
            f"quarter of them: take at least {least}, and as many more simulations."
        )
    if simulations < 10 * n:
        raise ValueError(
            f"`simulations` = {simulations:,} for {n:,} draws leave no choice of those near x_T: take at least 10 n, "
            "better 500 n."
        )


def _check_reach(nearest: np.ndarray, radius: np.ndarray, simulations: int) -> None:
    """Raise where no path ends near an end state; warn where the radius is no neighbourhood."""
    beyond = np.flatnonzero(nearest > _FAR)
    if beyond.size:
        raise ValueError(
            f"No path ends near `xT` (case {first_few(beyond)}): the nearest of {simulations:,} is at "
            f"{nearest[beyond[0]]:.3g} standard deviations of the ends. `x0` and the process do not lead there; or "
            "the state has so many components that nothing is near anything, and more simulations will not help."
        )
    wide = np.flatnonzero(radius > _FAR)
    if wide.size:
        warnings.warn(
            f"The paths that end nearest to `xT` (case {first_few(wide)}) reach out to {radius[wide].max():.3g} "
            "standard deviations of the ends, and a linear regression so far is right for Gaussian problems only: "
            "simulate more, or draw fewer (`n`).",
            stacklevel=3,
        )
