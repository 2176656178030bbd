"""The preconditioner of the pressure: a V-cycle of multigrid, which sees the obstacles on every grid.

    x = S(r, 0),    x ← x + P V(R (r - A x)),    x ← Sᵀ(r, x)

Four cells are one of the next grid, and a face there is as open as the two that it is made of, on average. R adds up
four cells, and P gives all four what was found for the one: A is the same stencil on every grid. S are three sweeps of
Jacobi's iteration, and Sᵀ the same in reverse, so that V is symmetric and conjugate gradients may use it (McAdams,
Sifakis & Teran 2010, "A parallel multigrid Poisson solver for fluids simulation on large grids"). On the last grid,
which is odd or has two cells a side, it is the inverse of the empty box, by cosine transforms.

That inverse on the finest grid, without any other, takes more iterations the narrower gaps are: around the obstacles of
arXiv:2301.10250 at 64 × 64 it is 14 on average and 21 at most, where V takes 6 and 9.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._grid import divergence, halfway, walled

__all__ = ["Level", "grids", "v_cycle"]

# Of the sweeps, 1 - w λ on the rates λ of Jacobi's iteration, 0 to 2: no more than .15 of any above .5 is left.
_WEIGHTS = (0.5, 0.9, 1.5)


class Level(NamedTuple):
    """One grid.

    Attributes:
        open_u: how open the faces along x are, 0 to 1.
        open_v: along y.
        inverse: one over the diagonal of A, 0 in cells that are closed all around.
    """

    open_u: Array
    open_v: Array
    inverse: Array


def grids(open_u: Array, open_v: Array) -> tuple[Level, ...]:
    """The grids, from the finest one to the one that is odd or has two cells a side."""
    levels = []
    while True:
        diagonal = 2 * (halfway(walled(open_u, 0), 0) + halfway(walled(open_v, 1), 1))  # of four faces
        some = diagonal > 0
        levels.append(Level(open_u, open_v, jnp.where(some, 1 / jnp.where(some, diagonal, 1), 0)))
        n = len(diagonal)
        if n % 2 or n == 2:
            return tuple(levels)
        between = open_u[1::2], open_v[:, 1::2]
        open_u = (between[0][:, ::2] + between[0][:, 1::2]) / 2
        open_v = (between[1][::2] + between[1][1::2]) / 2


def v_cycle(levels: tuple[Level, ...], r: Array) -> Array:
    """V r."""
    level, *coarser = levels
    if not coarser:
        return _empty_box(level, r)
    x = _sweeps(level, r, jnp.zeros_like(r), _WEIGHTS)
    rest = _left(level, r, x)
    rest = rest[::2] + rest[1::2]
    found = v_cycle(tuple(coarser), rest[:, ::2] + rest[:, 1::2])
    x = x + jnp.where(level.inverse > 0, jnp.repeat(jnp.repeat(found, 2, axis=0), 2, axis=1), 0)
    return _sweeps(level, r, x, _WEIGHTS[::-1])


def _sweeps(level: Level, r: Array, x: Array, weights: tuple[float, ...]) -> Array:
    """Jacobi's iteration. A loop, though a short one: written out, XLA merges sweeps and computes neighbours anew."""
    sweep = lambda x, w: (x + w * level.inverse * _left(level, r, x), None)  # noqa: E731
    return jax.lax.scan(sweep, x, jnp.asarray(weights, r.dtype))[0]


def _left(level: Level, r: Array, x: Array) -> Array:
    """What is left of r, r - A x."""
    return r + divergence(level.open_u * jnp.diff(x, axis=0), level.open_v * jnp.diff(x, axis=1))


def _empty_box(level: Level, r: Array) -> Array:
    """F N⁺ F r with F 1 in cells that have an open face: N⁺ = Cᵀ diag(1/(λᵢ + λⱼ)) C,  λ_k = 2 - 2 cos(πk/n)."""
    fluid = (level.inverse > 0).astype(r.dtype)
    cosines, inverse = (jnp.asarray(table, r.dtype) for table in _cosine_transform(r.shape[0]))
    times = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    # Transposed between: the eigenvalues are symmetric, and each product is along the last axis.
    modes = inverse * times(times(fluid * r, cosines.T).T, cosines.T)
    return fluid * times(times(modes, cosines).T, cosines)


@functools.cache
def _cosine_transform(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The orthonormal cosine transform C (DCT-II) as a matrix, and 1/(λᵢ + λⱼ), 0 for the mean."""
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    cosines = np.sqrt(2 / n) * np.cos(np.pi * k * (i + 0.5) / n)
    cosines[0] = np.sqrt(1 / n)
    rates = 2 - 2 * np.cos(np.pi * np.arange(n) / n)
    sums = rates[:, None] + rates[None, :]
    sums[0, 0] = np.inf
    return cosines, 1 / sums
