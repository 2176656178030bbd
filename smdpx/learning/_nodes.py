"""Which times the tables of moments know: the nodes between which they are linear.

Few trajectories change evenly. A start that is wide beside what noise and decay balance to falls to that within a few
steps, however long the rest is: with nodes that are even, x' = -300 x from t = 0 to 1 with a start of seven times the
deviation that it balances to, at 800 steps, has posterior variances of 5e5 times the exact ones before any training,
and with these 1.1. Backwards what is wrong in a mode's rate, g²/v, goes into an exponent, and what is wrong in its mean
is followed at that rate. So the interval between nodes that has the largest

    rms over modes of  ∫ g² |1/v - 1/v̂| + g²/v · |m - m̂|/√v dt,    m̂, v̂ linear between its ends,

is split where it is most wrong, until there are as many nodes as the tables may have. What chance makes of n
trajectories, some √(2/n) of v and √(v/n) of m, is no reason.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..equation._linear import AbstractLinear
from ..solving._terms import per_sample
from ..solving._validate import is_concrete
from ._trajectories import Trajectories

__all__ = ["at_nodes", "evenly"]

# Modes of a field change on times of their own, the shortest far shorter than any component's: on the heat problem's 65
# times 33 nodes make posterior variances too large by up to 14 %, 65 by 4 %. For few components more cost time.
_MOST, _MOST_OF_A_FIELD = 33, 65
# Numbers that are looked at for that, as many trajectories as they are.
_LOOK = 2**24
# Where there is little between even nodes and others, even ones: an exponent that is off by so much is no fault.
_SMALL = 0.02


def at_nodes(paths: Trajectories, x: Array, basis: AbstractLinear) -> tuple[Array, Array, np.ndarray, np.ndarray]:
    """States at the nodes and one step later, (nodes, trajectories, ...); the nodes, and how long their steps are.

    Where each trajectory has its own times, its state nearest before the node; NaN where it has none.
    """
    most = _MOST_OF_A_FIELD if basis.alike else _MOST
    ts = np.asarray(paths.ts, np.float64)
    if ts.ndim == 1:
        index = _chosen(x, ts, most, basis)
        # At the last time the step is that before it.
        first = np.minimum(index, len(ts) - 2)
        return *_and_later(x, index, first), ts[index], ts[first + 1] - ts[first]
    lengths = np.full(len(ts), ts.shape[1]) if paths.lengths is None else np.asarray(paths.lengths)
    known = np.concatenate([row[:length] for row, length in zip(ts, lengths, strict=True)])
    # Times of the data, so that some trajectory has a state at each, across gaps too.
    times = np.unique(np.quantile(known, np.linspace(0, 1, most), method="nearest"))
    before, after, steps = [], [], []
    rows = np.arange(len(ts))
    for t in times:
        place = np.array([np.searchsorted(row[:n], t, side="right") - 1 for row, n in zip(ts, lengths, strict=True)])
        has = (place >= 0) & (t <= ts[rows, lengths - 1])
        place = np.maximum(place, 0)
        first = np.minimum(place, lengths - 2)
        one = x[rows, place]
        before.append(jnp.where(per_sample(jnp.asarray(has), one.ndim), one, jnp.nan))
        after.append(x[rows, first + 1] - x[rows, first] + one)
        steps.append((ts[rows, first + 1] - ts[rows, first])[has].mean())
    return jnp.stack(before), jnp.stack(after), times, np.array(steps)


@jax.jit
def _and_later(x: Array, index: Array | np.ndarray, first: Array | np.ndarray) -> tuple[Array, Array]:
    """The states at some times, and with the step from `first` added, the times in front."""
    here = x[:, index]
    return jnp.moveaxis(here, 1, 0), jnp.moveaxis(x[:, first + 1] - x[:, first] + here, 1, 0)


def evenly(count: int, most: int) -> np.ndarray:
    """The numbers of as many of `count` things as may be, evenly spread, the first and the last among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, most)).astype(int))


def _chosen(x: Array, ts: np.ndarray, most: int, basis: AbstractLinear) -> np.ndarray:
    """The numbers of the times that are nodes, the first and the last among them."""
    count = len(ts)
    if count <= most:
        return np.arange(count)
    if not is_concrete(x):  # in a program what changes is not known, and nodes are even
        return evenly(count, most)
    known = _Known.of(x[: max(64, _LOOK // x[0].size)], ts, basis)
    nodes = [0, count - 1]
    errors = [known.between(0, count - 1)]
    while len(nodes) < most:
        i = int(np.argmax([size for size, _ in errors]))
        nodes.insert(i + 1, errors[i][1])
        errors[i : i + 1] = [known.between(nodes[i], nodes[i + 1]), known.between(nodes[i + 1], nodes[i + 2])]
    return np.array(nodes)


class _Known(NamedTuple):
    """Of each mode at all times: its mean, its variance, the variance that noise adds to it in a unit of time."""

    ts: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    trajectories: int

    @classmethod
    def of(cls, x: Array, ts: np.ndarray, basis: AbstractLinear) -> "_Known":
        mean, variance, kick = (np.asarray(each).reshape(each.shape[0], -1) for each in _moving(x, basis))
        variance = variance.astype(np.float64)
        # What is constant but for rounding does not change, and a start from one point is as wide as its first step.
        rounding = (16 * float(jnp.finfo(x.dtype).eps)) ** 2 * np.max(variance + np.abs(mean) ** 2, axis=0)
        variance = np.maximum(variance, np.maximum(rounding, np.concatenate([kick, kick[-1:]]) / 2))
        return cls(ts, mean, np.where(variance > 0, variance, np.inf), kick / np.diff(ts)[:, None], len(x))

    def between(self, a: int, b: int) -> tuple[float, int]:
        """How wrong lines from a to b are, and where most of all: infinitely little where nothing is between."""
        if b - a < 2:
            return -np.inf, a
        inside = slice(a + 1, b)
        share = ((self.ts[inside] - self.ts[a]) / (self.ts[b] - self.ts[a]))[:, None]
        line = lambda table: (1 - share) * table[a] + share * table[b]  # noqa: E731
        v, steps = self.variance[inside], np.diff(self.ts)[inside, None]
        with np.errstate(invalid="ignore"):  # where nothing ever varies, v is infinite
            off = np.abs(1 - v / line(self.variance)) - 3 * (2 / self.trajectories) ** 0.5
            away = np.abs(self.mean[inside] - line(self.mean)) / np.sqrt(v) - 3 * self.trajectories**-0.5
            rate = (np.maximum(off, 0) + np.maximum(away, 0)) / v
        wrong = np.nan_to_num(self.noise[inside] * rate * steps)
        size = float(np.sqrt(np.mean(np.square(wrong.sum(axis=0)))))
        at = np.sqrt(np.mean(np.square(wrong / steps), axis=1))
        # The middle of what is wrong: a single time would be that of chance.
        total = np.cumsum(at)
        middle = int(np.searchsorted(total, total[-1] / 2)) if size > _SMALL else (b - a) // 2 - 1
        return max(size, _SMALL * (b - a) / len(self.ts)), a + 1 + min(middle, b - a - 2)


@eqx.filter_jit
def _moving(x: Array, basis: AbstractLinear) -> tuple[Array, Array, Array]:
    """The mean and the variance of modes at all times, and the variance of their change to the next."""

    def at(pair: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        c, d = jax.vmap(basis.to_basis)(pair[0]), jax.vmap(basis.to_basis)(pair[1])
        return jnp.mean(c, axis=0), jnp.var(c, axis=0), jnp.var(d - c, axis=0)

    x = jnp.moveaxis(x, 1, 0)
    mean, variance, kick = jax.lax.map(at, (x, jnp.concatenate([x[1:], x[-1:]])))
    return mean, variance, kick[:-1]
