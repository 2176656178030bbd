"""The projection onto velocities without divergence (Chorin 1968), around obstacles, by preconditioned CG.

    w' + M grad p = w                   hence    A p = -div(M w),    A = -div M grad
    -div(M w')    = 0

M is 1 on faces between two cells of fluid and 0 on the faces of obstacles; walls have no faces. A is symmetric, and its
right-hand side sums to 0 over every pocket of fluid, since M is in both: so the system has a solution however many
pockets there are, and what flows through obstacles is 0 to the bit. Lengths are in cells, and dt is in p.

The preconditioner is a V-cycle of multigrid (`_multigrid`), and in an empty box the inverse itself.

The gradient is that of the solution and not of the iterations: one more solve (`jax.lax.custom_linear_solve`), of the
whole system above and not of A alone, so that the size of what is projected is known there too. It is divided out, and
iterations stop where the divergence is at its rounding: a cotangent may have any size, and a velocity hardly any
divergence. Ready-made solvers know the right-hand side alone, and fail in silence: lineax 0.1.1 (an absolute tolerance
in the adjoint, a breakdown guard that scales with the system), jax.scipy (NaN where squares underflow).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ...solving._validate import is_concrete
from ._grid import divergence
from ._multigrid import Level, grids, v_cycle
from ._obstacles import solid_cells

__all__ = ["Pressure", "project", "solve_pressure"]

# Beyond this multiple of what was asked for, a divergence is an error: rounding of the pressure leaves some.
_SLACK = 100
# Within this multiple, iterations that no longer lower it have come to rounding. Going on they would lose it again:
# in a pocket that is cut off what rounding leaves of the mean has no pressure, and grows.
_ROUNDING = 4


class Pressure(NamedTuple):
    """A pressure, and how well it was found.

    Attributes:
        pressure: in the cells, shape (n, n), in units of velocity · cells; 0 in obstacles. NaN where the iterations did
            not converge.
        iterations: of conjugate gradients.
        residual: the largest divergence that it leaves in a cell, as a part of the largest speed.
    """

    pressure: Float[Array, "n n"]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]


def project(
    u: Float[Array, "m n"],
    v: Float[Array, "n m"],
    obstacles: Shaped[Array, "n n"] | None = None,
    *,
    max_iterations: int = 100,
) -> tuple[Float[Array, "m n"], Float[Array, "n m"]]:
    """The nearest velocity without divergence that does not flow through walls and obstacles.

    An orthogonal projection of what is on the faces: linear, its own adjoint, and the same when applied again. The
    divergence that is left is at the level of rounding, 1e-6 in single precision for velocities of order 1.

    Args:
        u: the velocity along x, shape (n - 1, n).
        v: the velocity along y, shape (n, n - 1).
        obstacles: 1 in the cells that are solid and 0 in fluid, shape (n, n); None for an empty box.
        max_iterations: of conjugate gradients. Around obstacles like those of arXiv:2301.10250 it takes 6 to 9.

    Returns:
        u and v. Where the iterations do not converge, NaN under a JAX transformation, and else an error.

    Raises:
        ValueError: shapes that do not fit.
        RuntimeError: iterations that do not converge: the residual that was reached.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> u, v = jax.random.normal(jax.random.key(0), (15, 16)), jnp.zeros((16, 15))
    >>> u, v = sx.physics.buoyancy.project(u, v)
    >>> bool(jnp.abs(sx.physics.buoyancy.divergence(u, v)).max() < 1e-5)
    True
    """
    u, v, solved = projected(u, v, obstacles, max_iterations=max_iterations)
    raise_unless_converged(solved.residual, solved.iterations, u.dtype, "project")
    return u, v


def solve_pressure(
    u: Float[Array, "m n"],
    v: Float[Array, "n m"],
    obstacles: Shaped[Array, "n n"] | None = None,
    *,
    max_iterations: int = 100,
) -> Pressure:
    """The pressure whose gradient takes the divergence out of a velocity: A p = -div(M w).

    Args:
        u: the velocity along x, shape (n - 1, n).
        v: the velocity along y, shape (n, n - 1).
        obstacles: 1 in the cells that are solid and 0 in fluid, shape (n, n); None for an empty box.
        max_iterations: of conjugate gradients.

    Returns:
        A `Pressure`, with the iterations and the residual reached. Of each pocket the mean is arbitrary, so
        that only differences of pressures inside of one have a gradient.

    Raises:
        ValueError: shapes that do not fit.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> u, v = jax.random.normal(jax.random.key(0), (15, 16)), jnp.zeros((16, 15))
    >>> solved = sx.physics.buoyancy.solve_pressure(u, v)
    >>> int(solved.iterations) <= 2, bool(solved.residual < 1e-5)
    (True, True)
    """
    return projected(u, v, obstacles, max_iterations=max_iterations)[2]


def projected(u: Array, v: Array, obstacles: Array | None, *, max_iterations: int) -> tuple[Array, Array, Pressure]:
    """The velocity without divergence, and the pressure that made it so."""
    n = v.shape[0]
    if u.shape != (n - 1, n) or v.shape != (n, n - 1):
        raise ValueError(
            f"`project` needs u of shape (n - 1, n) and v of shape (n, n - 1); got {u.shape} and {v.shape}. For a "
            "batch write `jax.vmap`."
        )
    return _projected(u, v, solid_cells(obstacles, n, u.dtype), max_iterations, obstacles is None)


# One program, where a call outside of `jax.jit` would compile its loop anew.
@functools.partial(jax.jit, static_argnames=("max_iterations", "empty"))
def _projected(u: Array, v: Array, solid: Array, max_iterations: int, empty: bool) -> tuple[Array, Array, Pressure]:
    n = len(v)
    fluid = 1 - solid
    open_u, open_v = fluid[1:] * fluid[:-1], fluid[:, 1:] * fluid[:, :-1]
    u, v = open_u * u, open_v * v
    levels = grids(open_u, open_v)
    levels = levels[:1] if empty else levels  # alone it has the exact inverse

    def system(w: Array) -> Array:
        u, v, p = _parts(w, n)
        return _joined(
            u + open_u * jnp.diff(p, axis=0), v + open_v * jnp.diff(p, axis=1), -divergence(open_u * u, open_v * v)
        )

    def solve(_: Callable[[Any], Any], w: Array) -> tuple[Array, Any]:
        solution, how = _solved(levels, *_parts(w, n), max_iterations)
        return _joined(*solution), how

    # In one array: JAX 0.10.2 does not solve for a tree of which a part alone has a derivative.
    solution, (iterations, residual) = jax.lax.custom_linear_solve(
        system, _joined(u, v, jnp.zeros_like(fluid)), solve, symmetric=True, has_aux=True
    )
    u, v, p = _parts(solution, n)
    return u, v, Pressure(p, iterations, residual)


def _joined(u: Array, v: Array, p: Array) -> Array:
    return jnp.concatenate([u.ravel(), v.ravel(), p.ravel()])


def _parts(w: Array, n: int) -> tuple[Array, Array, Array]:
    u, v, p = jnp.split(w, [n * (n - 1), 2 * n * (n - 1)])
    return u.reshape(n - 1, n), v.reshape(n, n - 1), p.reshape(n, n)


def raise_unless_converged(residual: Array, iterations: Array, dtype: Any, who: str) -> None:
    """Raise where a residual that is known is too large. NaN is that of a velocity which is not finite itself."""
    if is_concrete(residual) and float(residual) > _SLACK * _tolerance(dtype):
        raise RuntimeError(
            f"`{who}`: the pressure did not converge. After {int(iterations)} iterations of conjugate gradients the "
            f"residual, the divergence that is left as a part of the speed, is {float(residual):.1e}, where "
            f"{_tolerance(dtype):.0e} was asked for. Give a larger `max_iterations`; 6 to 9 are usual."
        )


def _tolerance(dtype: Any) -> float:
    """The divergence, as a part of the speed, at which iterations stop: what rounding leaves in a cell's four faces."""
    return float(jnp.finfo(dtype).eps)


def _solved(
    levels: tuple[Level, ...], u: Array, v: Array, source: Array, most: int
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    """What solves the whole system, NaN if it is not found; the iterations, and the residual.

    Conjugate gradients for A p = b, with the velocity beside the pressure: taken from the pressure at the end it would
    have the pressure's rounding, three times as large.
    """
    size = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(part)) for part in (u, v, source)])
    u, v, source = (part / jnp.where(size > 0, size, jnp.ones_like(size)) for part in (u, v, source))
    (open_u, open_v, _), tolerance = levels[0], _tolerance(source.dtype)

    def left(u: Array, v: Array) -> Array:
        return -source - divergence(open_u * u, open_v * v)

    def going_on(state: tuple[Any, ...]) -> Array:
        *_, before, size, last, (best, *_), k = state
        stalled = (size <= _ROUNDING * tolerance) & (size >= last)
        lost = (best <= _SLACK * tolerance) & (size > 10 * best)
        # The product is 0 where nothing is left, and NaN where something is: a maximum may leave NaN out on CPUs.
        return (size > tolerance) & ~stalled & ~lost & (before > 0) & (k < most)

    def iterate(state: tuple[Any, ...]) -> tuple[Any, ...]:
        u, v, p, r, direction, before, last, _, best, k = state
        z = v_cycle(levels, r)
        now = jnp.sum(r * z)
        direction = z + (now / before) * direction
        along, up = open_u * jnp.diff(direction, axis=0), open_v * jnp.diff(direction, axis=1)
        applied = -divergence(along, up)
        length = now / jnp.sum(direction * applied)
        u, v, p, r = u - length * along, v - length * up, p + length * direction, r - length * applied
        size = jnp.max(jnp.abs(r))
        best = jax.tree.map(functools.partial(jnp.where, size < best[0]), (size, u, v, p), best)
        return u, v, p, r, direction, now, size, last, best, k + 1

    zeros, infinite = jnp.zeros_like(source), jnp.asarray(jnp.inf, source.dtype)
    r = left(u, v)
    off = jnp.max(jnp.abs(r))
    start = (u, v, zeros, r, zeros, infinite, off, infinite, (off, u, v, zeros), jnp.asarray(0, jnp.int32))
    *_, (_, u, v, p), k = jax.lax.while_loop(going_on, iterate, start)
    residual = jnp.max(jnp.abs(left(u, v)))
    size = jnp.where(residual <= _SLACK * tolerance, size, jnp.nan)
    return (size * u, size * v, size * p), (k, residual)
