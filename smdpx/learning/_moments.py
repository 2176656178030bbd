"""What trajectories say of the scales of a problem: moments at each time, what noise does, and where states were.

With the coefficients c = B x of the states in an orthonormal basis, at the nodes t_j of the clock,

    m(t) = E x,    v(t) = E |c - B m|²,    Q = Σ_steps Var(Δc | c)

where Var(Δc | c) is what a line through (c, Δc) leaves of the increments of one step: with fine steps Q is ∫ g² dt, the
variance that noise alone has added when the solve ends, and 0 where nothing is random.

Of a field with K modes B m is 0 in those where |B m|² < 2 log(K) v/n, n the number of trajectories: a mean of n samples
reaches that by chance (Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425). Most fields are alike everywhere, and the
chance mean of a short wave that hardly survives is as large as what is left of it. Few components, each a thing of its
own, keep their means and have correlations.
"""

import math
import warnings
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import RealScalarLike
from ..equation._linear import AbstractLinear
from ..solving._terms import per_sample
from ..solving._validate import is_concrete, levels_to_user
from ._correlations import couplings
from ._nodes import at_nodes
from ._trajectories import Trajectories
from ._worst import worst_of

__all__ = ["Moments", "moments", "warn_of_rounding"]

# What is known on the host, and traced inside of a program.
Known: TypeAlias = Array | np.ndarray

_FEWEST = 16  # trajectories: a deviation from fewer is off by a fifth
_MOST_COUPLED = 64  # components: their matrices cost as much as a layer of a small network


class Moments(eqx.Module):
    """Tables over the nodes of a clock, linear between them.

    Attributes:
        times: the nodes, increasing.
        mean: of the states, (nodes, ...).
        variance: of the coefficients, (nodes, modes...).
        noise: variance that noise adds to each coefficient over all times, (modes...).
        center: of the box of the states, (nodes, ...), or (nodes,) + ones where components are alike.
        reach: half the width of the box, squared, shaped like `center`.
        spread: variance of the components, shaped like `center`; None where these are what `variance` is of.
        coupling: R⁻¹ - 1 of the components' correlations R, (nodes, components, components); None of a field, of one
            component, and of more than 64.
    """

    times: Float[Array, " nodes"]
    mean: Float[Array, "nodes ..."]
    variance: Float[Array, "nodes ..."]
    noise: Float[Array, "..."]
    center: Float[Array, "nodes ..."]
    reach: Float[Array, "nodes ..."]
    spread: Float[Array, "nodes ..."] | None
    coupling: Float[Array, "nodes components components"] | None

    def at(self, t: RealScalarLike) -> "Scales":
        """The tables at t: a product with hat functions, two of which are not 0, and no gather."""
        passed = jnp.clip((jnp.asarray(t, self.times.dtype) - self.times[:-1]) / jnp.diff(self.times), 0, 1)
        one = jnp.ones_like(passed[:1])
        hats = jnp.concatenate([one, passed]) - jnp.concatenate([passed, 0 * one])
        now = lambda table: jnp.tensordot(hats, table.astype(hats.dtype), axes=1)  # noqa: E731
        variance = now(self.variance)
        spread = variance if self.spread is None else now(self.spread)
        coupling = None if self.coupling is None else now(self.coupling)
        return Scales(now(self.mean), variance, self.noise, now(self.center), now(self.reach), spread, coupling)

    def clock(self, t: RealScalarLike) -> Float[Array, ""]:
        """The time in units of the whole, 0 at the first and 1 at the last: no unit or origin is special."""
        first, last = self.times[0], self.times[-1]
        return (jnp.asarray(t, self.times.dtype) - first) / (last - first)


class Scales(NamedTuple):
    """`Moments` at one time."""

    mean: Array
    variance: Array
    noise: Array
    center: Array
    reach: Array
    spread: Array
    coupling: Array | None


def moments(paths: Trajectories, x: Array, basis: AbstractLinear) -> Moments:
    """The moments of trajectories whose states are one array.

    Args:
        paths: trajectories; for their times, and how many there are.
        x: their states, (trajectories, times, ...): one array of the state's tree.
        basis: an operator in the basis whose modes are counted. Components that are alike in it share one box.

    Returns:
        The moments.

    Raises:
        ValueError: fewer than 16 trajectories.
    """
    if len(paths) < _FEWEST:
        raise ValueError(
            f"Scales are taken from at least {_FEWEST} trajectories; got {len(paths)}. Give more, or a network with "
            "scales of your own: `sx.nn.MLP(x_scale=..., out_scale=...)`."
        )
    before, after, times, steps = at_nodes(paths, x, basis)
    return _of_nodes(before, after, times, steps, _shares(times), basis)


def warn_of_rounding(tables: Moments) -> None:
    """Warn of components that move by a few of the smallest steps that their numbers can take."""
    if tables.spread is not None or not is_concrete(tables):  # of a field, whose components are alike
        return
    half, size = np.sqrt(tables.reach), np.abs(tables.center)
    eps = float(jnp.finfo(tables.reach.dtype).eps)
    still, coarse = half <= 4 * eps * size, half < 64 * eps * size
    few = np.all(coarse, axis=0) & ~np.all(still, axis=0)
    if few.any():
        where, name = worst_of(few)
        at = size[:, *where].argmax()
        warnings.warn(
            f"`Whitened`: component {name or 0} of the states lies within {half[:, *where].max():.2g} of "
            f"{tables.center[at, *where]:.6g}, where {tables.reach.dtype} has steps of {eps * size[at, *where]:.1g}: "
            "its motion is rounding, and not learned. Take an offset from the states, or compute in double precision, "
            '`jax.config.update("jax_enable_x64", True)`.',
            stacklevel=levels_to_user(),
        )


@eqx.filter_jit
def _of_nodes(before: Array, after: Array, times: Known, steps: Known, shares: Known, basis: AbstractLinear) -> Moments:
    """The moments of states at nodes and one step later: one program for all tables of a kind."""
    tables = jax.lax.map(lambda pair: _of_node(pair[0], pair[1], basis), (before, after))
    mean, variance, kicks, center, reach, spread, coupling = tables
    rate = kicks / per_sample(jnp.asarray(steps, kicks.dtype), kicks.ndim)
    noise = jnp.tensordot(jnp.asarray(shares, rate.dtype), rate, axes=1)
    return Moments(jnp.asarray(times, mean.dtype), mean, variance, noise, center, reach, spread, coupling)


def _of_node(x: Array, y: Array, basis: AbstractLinear) -> tuple[Array | None, ...]:
    """Mean, variance, what a step's noise adds, center and squared half width of the box, spread, coupling.

    x is one step before y.
    """
    ok = jnp.isfinite(x).reshape(len(x), -1).all(axis=1)  # of trajectories that have ended, nothing
    share = ok.astype(x.dtype) / jnp.maximum(ok.sum(), 1).astype(x.dtype)
    mean_of = lambda c: jnp.tensordot(share.astype(c.dtype), c, axes=1)  # noqa: E731
    inside = per_sample(ok, x.ndim)
    x, y = jnp.where(inside, x, 0), jnp.where(inside, y, 0)
    mean = mean_of(x)
    c = jax.vmap(lambda x: basis.to_basis(x - mean))(x)
    d = jax.vmap(basis.to_basis)(y - x)
    d = d - mean_of(d)[None]
    variance, kick = mean_of(jnp.abs(c) ** 2), mean_of(jnp.abs(d) ** 2)
    along = jnp.abs(mean_of(jnp.conj(c) * d)) ** 2 / jnp.where(variance > 0, variance, 1)
    # What rounding leaves of a constant is no variance.
    axes = basis.alike
    power_of_x = mean_of(jnp.square(x))
    rounding = (16 * jnp.finfo(x.dtype).eps) ** 2 * (
        jnp.mean(power_of_x, axis=axes, keepdims=True) if axes else power_of_x
    )
    variance = jnp.where(variance > rounding, variance, 0)
    low = jnp.min(jnp.where(inside, x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(inside, x, -jnp.inf), axis=0)
    if axes:
        low, high = jnp.min(low, axis=axes, keepdims=True), jnp.max(high, axis=axes, keepdims=True)
    kick = jnp.where(variance > 0, jnp.maximum(kick - along, 0), kick)
    spread = _spread_of(mean_of(jnp.square(x - mean[None])), mean_of(jnp.square(y - x)), axes) if axes else None
    if axes:
        mean = _of_a_field(mean, variance * jnp.sum(share**2), basis)
    # Where all start from one point nothing has a scale yet, and just after it the noise of half a step.
    least = kick / 2
    variance = jnp.maximum(variance, least)
    coupled = not axes and 1 < mean.size <= _MOST_COUPLED
    coupling = couplings(c.reshape(len(c), -1), share, variance.ravel(), least.ravel()) if coupled else None
    return mean, variance, kick, (low + high) / 2, jnp.square((high - low) / 2), spread, coupling


def _of_a_field(mean: Array, noise: Array, basis: AbstractLinear) -> Array:
    """The mean without modes that are no larger than chance, of variance `noise`, makes one of as many."""
    modes = basis.to_basis(mean)
    chance = 2 * math.log(modes.size) * noise
    return basis.from_basis(jnp.where(jnp.abs(modes) ** 2 > chance, modes, 0), mean)


def _spread_of(variance: Array, step: Array, axes: tuple[int, ...]) -> Array:
    """One variance for components that are alike; where all start from one point, that of half a step."""
    return jnp.mean(jnp.maximum(variance, step / 2), axis=axes, keepdims=True)


def _shares(times: np.ndarray) -> np.ndarray:
    """The trapezoidal rule's weights."""
    widths = np.diff(times)
    return 0.5 * (np.concatenate([widths, [0]]) + np.concatenate([[0], widths]))
