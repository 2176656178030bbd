"""The staggered grid (Harlow and Welch 1965): scalars in the cells, velocities on the faces between them.

    marker[i, j]  at  ((i + ½)h, (j + ½)h)     (n, n)       the cells
    u[i, j]       at  ((i + 1)h, (j + ½)h)     (n - 1, n)   between the cells (i, j) and (i + 1, j)
    v[i, j]       at  ((i + ½)h, (j + 1)h)     (n, n - 1)   between the cells (i, j) and (i, j + 1)

The first axis is x, to the right; the second y, upwards: `axes.imshow(marker.T, origin="lower")` draws it. Only faces
between two cells are stored: through the four walls nothing flows.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["StaggeredState", "divergence", "from_channels", "to_channels"]


class StaggeredState(NamedTuple):
    """A marker and a velocity on the staggered grid of a square box of n × n cells.

    The first axis of each array is x, the second y, upwards. Through the walls, whose faces are not stored, nothing
    flows. A batch has one more axis in front of each array.

    Attributes:
        marker: a scalar in the cells, shape (n, n); smoke, dye, temperature above the surrounding one.
        u: the velocity along x on the faces between cells (i, j) and (i + 1, j), shape (n - 1, n), in length/time.
        v: the velocity along y on the faces between cells (i, j) and (i, j + 1), shape (n, n - 1).

    >>> import jax.numpy as jnp, smdpx as sx
    >>> x = sx.physics.buoyancy.StaggeredState.zeros(4)
    >>> x.marker.shape, x.u.shape, x.v.shape
    ((4, 4), (3, 4), (4, 3))
    """

    marker: Float[Array, "n n"]
    u: Float[Array, "m n"]
    v: Float[Array, "n m"]

    @classmethod
    def zeros(cls, n: int) -> "StaggeredState":
        """No marker, at rest.

        Args:
            n: cells a side, at least 2.
        """
        return cls(jnp.zeros((n, n)), jnp.zeros((n - 1, n)), jnp.zeros((n, n - 1)))


def to_channels(x: StaggeredState) -> Float[Array, "n n 3"]:
    """A state as three channels on the cells, which is how networks see it: marker, u, v.

    A cell's u is that of its right face, its v that of its upper face. The last column of cells has the wall there, and
    repeats its left face's u; the uppermost row of cells alike (edge padding, as in arXiv:2301.10250, appendix E).

    Args:
        x: one state; for a batch write `jax.vmap(to_channels)`.

    Returns:
        Shape (n, n, 3). `from_channels` gives the state back, to the bit.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> x = sx.physics.buoyancy.StaggeredState(jnp.zeros((2, 2)), jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]))
    >>> channels = sx.physics.buoyancy.to_channels(x)
    >>> channels[..., 1].tolist(), channels[..., 2].tolist()
    ([[1.0, 2.0], [1.0, 2.0]], [[3.0, 3.0], [4.0, 4.0]])
    """
    check_state(x, jnp.shape(x.marker)[-1] if jnp.ndim(x.marker) else 0, "to_channels")
    u, v = jnp.concatenate([x.u, x.u[-1:]], axis=0), jnp.concatenate([x.v, x.v[:, -1:]], axis=1)
    return jnp.stack([x.marker, u, v], axis=-1)


def from_channels(channels: Float[Array, "n n 3"]) -> StaggeredState:
    """The state of three channels on the cells: what `to_channels` padded is left out.

    Of a network's output the last column of u and the uppermost row of v say nothing.

    Args:
        channels: shape (n, n, 3); for a batch write `jax.vmap(from_channels)`.

    Raises:
        ValueError: another shape.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> sx.physics.buoyancy.from_channels(jnp.ones((4, 4, 3))).u.shape
    (3, 4)
    """
    if channels.ndim != 3 or channels.shape[2] != 3 or channels.shape[0] != channels.shape[1]:
        raise ValueError(
            f"`from_channels` takes marker, u and v as channels of shape (n, n, 3); got shape {channels.shape}. For a "
            "batch write `jax.vmap(from_channels)`."
        )
    return StaggeredState(channels[..., 0], channels[:-1, :, 1], channels[:, :-1, 2])


def divergence(u: Float[Array, "m n"], v: Float[Array, "n m"]) -> Float[Array, "n n"]:
    """What flows out of each cell, u_right - u_left + v_upper - v_lower; divided by h it is the divergence.

    Args:
        u: on the faces between cells along x, shape (n - 1, n).
        v: on the faces between cells along y, shape (n, n - 1).

    >>> import jax.numpy as jnp, smdpx as sx
    >>> sx.physics.buoyancy.divergence(jnp.array([[1.0, 0.0]]), jnp.zeros((2, 1))).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    return jnp.diff(walled(u, 0), axis=0) + jnp.diff(walled(v, 1), axis=1)


def walled(x: Float[Array, "a b"], axis: int) -> Float[Array, "c d"]:
    """With the walls' faces, through which nothing flows, at both ends of an axis."""
    return jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(2)])


def halfway(x: Float[Array, "a b"], axis: int) -> Float[Array, "c d"]:
    """The means of neighbours along an axis, which has one less then."""
    before, after = (x[:-1], x[1:]) if axis == 0 else (x[:, :-1], x[:, 1:])
    return (before + after) / 2


def check_state(x: StaggeredState, n: int, who: str) -> None:
    """Raise where the arrays have not the shapes of one state of n × n cells."""
    shapes = tuple(jnp.shape(part) for part in x)
    if shapes != ((n, n), (n - 1, n), (n, n - 1)):
        raise ValueError(
            f"`{who}` acts on one state with a marker of shape {(n, n)}, u {(n - 1, n)} and v {(n, n - 1)}; got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}. For a batch write `jax.vmap`."
        )
