"""Transport along a velocity by tracing points back (Courant, Isaacson and Rees 1952), and MacCormack's correction.

∂φ/∂t + w·∇φ = 0:    S φ(x) = φ(x - dt w(x))                                     semi-Lagrangian
                     φ' = Sφ + ½(φ - S₋Sφ),  clamped                             MacCormack (Selle et al. 2008)

with one Euler step back, w at the point itself, and bilinear interpolation. S₋ is S with -dt. Neither keeps Σφ;
`Conserving` gives back what is missing, where the field changes from cell to cell (after Bermejo & Conde 2002).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import RealScalarLike
from ._grid import halfway, walled

__all__ = ["Conserving", "maccormack", "semi_lagrangian"]


def semi_lagrangian(
    x: Float[Array, "a b"],
    u: Float[Array, "m n"],
    v: Float[Array, "n m"],
    dt: RealScalarLike,
    *,
    spacing: RealScalarLike = 1.0,
    slip: bool = False,
) -> Float[Array, "a b"]:
    """A field after dt of transport by a velocity: x(point - dt · velocity), bilinear between the grid's points.

    Stable for any dt, and never beyond the values that were there. First order in dt. Each step's interpolation leaves
    an error of up to h²/8 · |∇²x|, so that the error after a given time is O(dt + h²/dt): of first order in h where dt
    goes with h.

    Args:
        x: in the cells, shape (n, n), with no gradient at the walls; or a velocity's component on its faces, (n - 1, n)
            or (n, n - 1), which is 0 at and beyond the walls.
        u: the velocity along x, shape (n - 1, n).
        v: the velocity along y, shape (n, n - 1).
        dt: time; with dt < 0 backwards.
        spacing: the cells' side h.
        slip: of a velocity's component, let it go on along the walls as it is beside them; by default it falls to 0
            within the half cell behind them.

    Returns:
        Shaped like x.

    Raises:
        ValueError: shapes that do not fit.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> u, v = jnp.ones((3, 4)), jnp.zeros((4, 3))
    >>> dye = jnp.zeros((4, 4)).at[1].set(1.0)
    >>> sx.physics.buoyancy.semi_lagrangian(dye, u, v, 0.5)[:, 0].tolist()
    [0.0, 0.5, 0.5, 0.0]
    """
    return _moved(x, _Shifts.of(x, u, v, dt, spacing), slip=slip, corrected=False)


def maccormack(
    x: Float[Array, "a b"],
    u: Float[Array, "m n"],
    v: Float[Array, "n m"],
    dt: RealScalarLike,
    *,
    spacing: RealScalarLike = 1.0,
    slip: bool = False,
) -> Float[Array, "a b"]:
    """A field after dt of transport, with half of what a step there and back loses put back (Selle et al. 2008).

    Of second order in h, where dt goes with h and the velocity does not change in time along a path; the clamp, to the
    four values around the point traced back to, keeps it within what was there and costs an order at extrema. The clamp
    has ties where x is flat: there a gradient is one of several. As `semi_lagrangian`, it does not keep the total.

    Args:
        x: as for `semi_lagrangian`.
        u: the velocity along x, shape (n - 1, n).
        v: the velocity along y, shape (n, n - 1).
        dt: time; with dt < 0 backwards.
        spacing: the cells' side h.
        slip: as for `semi_lagrangian`.

    Returns:
        Shaped like x.

    Raises:
        ValueError: shapes that do not fit.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> u, v = jnp.ones((7, 8)), jnp.zeros((8, 7))
    >>> ramp = jnp.tile(jnp.arange(8.0)[:, None], 8)
    >>> sx.physics.buoyancy.maccormack(ramp, u, v, 0.5)[3:5, 0].tolist()
    [2.5, 3.5]
    """
    return _moved(x, _Shifts.of(x, u, v, dt, spacing), slip=slip, corrected=True)


class Conserving(eqx.Module):
    """A transport that keeps the total: what it has lost or gained is given back where the field is not flat.

    φ' = φ + a (high - φ),  a = (Σ before - Σ φ)/Σ (high - φ),    and with low where the total has grown

    with the highest and the lowest of a cell and its eight neighbours after the transport: so nothing is higher or
    lower than what is there already, flat places stay as they are, and edges move by less than a cell (a bounded global
    correction, as that of Bermejo & Conde 2002, doi:10.1175/1520-0493(2002)130<0423:ACQMSL>2.0.CO;2). In single
    precision the total is kept to rounding, some 1e-7 a step. It is that of all cells, those of obstacles among them.

    Args:
        transport: `maccormack`, `semi_lagrangian`, or another that is called as they are.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> from smdpx.physics import buoyancy as b
    >>> u, v = b.project(*b.StaggeredState.zeros(16)._replace(u=jnp.ones((15, 16)).at[:, 8:].set(-1.0))[1:])
    >>> x = b.solid(b.disc((40, 40), 20), n=16)
    >>> moved = [transport(x, u, v, 2.0) for transport in (b.maccormack, b.Conserving(b.maccormack))]
    >>> [abs(float(after.sum() / x.sum()) - 1) < 1e-5 for after in moved]
    [False, True]
    """

    transport: Callable[..., Any] = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "a b"],
        u: Float[Array, "m n"],
        v: Float[Array, "n m"],
        dt: RealScalarLike,
        **how: Any,
    ) -> Float[Array, "a b"]:
        """As the transport, with what it takes; its result with the total of x."""
        after = self.transport(x, u, v, dt, **how)
        missing = jnp.sum(x) - jnp.sum(after)
        room = jnp.where(missing > 0, _around(after, jnp.maximum) - after, after - _around(after, jnp.minimum))
        whole = jnp.sum(room)
        return after + jnp.clip(missing / jnp.where(whole > 0, whole, 1), -1, 1) * room


def _around(x: Array, most: Callable[[Array, Array], Array]) -> Array:
    """The highest, or the lowest, of each cell and its neighbours."""
    for axis in (0, 1):
        padded = jnp.pad(x, [(1, 1) if each == axis else (0, 0) for each in (0, 1)], mode="edge")
        before, after = (jax.lax.slice_in_dim(padded, at, at + x.shape[axis], axis=axis) for at in (0, 2))
        x = most(x, most(before, after))
    return x


class _Shifts(NamedTuple):
    """How far the velocity goes within dt from each of a field's points, in cells."""

    a: Array
    b: Array

    @classmethod
    def of(cls, x: Array, u: Array, v: Array, dt: RealScalarLike, spacing: RealScalarLike) -> "_Shifts":
        n = v.shape[0]
        if u.shape != (n - 1, n) or v.shape != (n, n - 1) or x.shape not in ((n, n), u.shape, v.shape):
            raise ValueError(
                f"Transport needs u of shape (n - 1, n), v of shape (n, n - 1) and a field of shape (n, n) or that of "
                f"either; got u {u.shape}, v {v.shape} and a field {x.shape}. For a batch write `jax.vmap`."
            )
        cells = jnp.asarray(dt, x.dtype) / jnp.asarray(spacing, x.dtype)
        # Velocities in the cells, then on the faces of the other component.
        if x.shape == u.shape:
            return cls(cells * u, cells * halfway(halfway(walled(v, 1), 1), 0))
        if x.shape == v.shape:
            return cls(cells * halfway(halfway(walled(u, 0), 0), 1), cells * v)
        return cls(cells * halfway(walled(u, 0), 0), cells * halfway(walled(v, 1), 1))


def _padded(x: Array, slip: bool) -> tuple[Array, tuple[int, int]]:
    """A field with what holds at its border, and how many rows and columns that adds before it."""
    along = 0 if slip else 1
    if x.shape[0] == x.shape[1]:
        pads = (0, 0)
    elif x.shape[0] < x.shape[1]:
        pads = (1, along)
    else:
        pads = (along, 1)
    return jnp.pad(x, [(pad, pad) for pad in pads]), pads


# One program, where a call outside of `jax.jit` would compile each of its operations.
@functools.partial(jax.jit, static_argnames=("slip", "corrected"))
def _moved(x: Array, along: _Shifts, *, slip: bool, corrected: bool) -> Array:
    """A field moved by its points' shifts, with MacCormack's correction or without."""
    corners = _Corners.around(*_padded(x, slip), along, -1)
    there = corners.interpolated()
    if not corrected:
        return there
    back = _Corners.around(*_padded(there, slip), along, 1).interpolated()
    low, high = corners.limits()
    return jnp.clip(there + (x - back) / 2, low, high)


class _Corners(NamedTuple):
    """The four values around points, and where between them these lie, in [0, 1]."""

    values: tuple[Array, Array, Array, Array]
    a: Array
    b: Array

    @classmethod
    def around(cls, padded: Array, pads: tuple[int, int], along: _Shifts, sign: int) -> "_Corners":
        """At a field's points, shifted; outside of the padded field its border goes on."""
        rows, columns = padded.shape
        a = sign * along.a + _indices(along.a, 0, pads[0])
        b = sign * along.b + _indices(along.b, 1, pads[1])
        a, b = jnp.clip(a, 0, rows - 1), jnp.clip(b, 0, columns - 1)
        # Clipped as integers too: a velocity that is not finite must not reach beyond the memory.
        i = jnp.clip(jax.lax.stop_gradient(a).astype(jnp.int32), 0, rows - 2)
        j = jnp.clip(jax.lax.stop_gradient(b).astype(jnp.int32), 0, columns - 2)
        first, flat = i * columns + j, padded.ravel()
        values = [flat.at[first + k].get(mode="promise_in_bounds") for k in (0, 1, columns, columns + 1)]
        return cls((values[0], values[1], values[2], values[3]), a - i.astype(a.dtype), b - j.astype(b.dtype))

    def interpolated(self) -> Array:
        """Bilinear."""
        first, second, third, fourth = self.values
        before, after = first + self.b * (second - first), third + self.b * (fourth - third)
        return before + self.a * (after - before)

    def limits(self) -> tuple[Array, Array]:
        """The least and the largest of the four."""
        first, second, third, fourth = self.values
        least = jnp.minimum(jnp.minimum(first, second), jnp.minimum(third, fourth))
        return least, jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))


def _indices(like: Array, axis: int, pad: int) -> Array:
    return jax.lax.broadcasted_iota(like.dtype, like.shape, axis) + jnp.asarray(pad, like.dtype)
