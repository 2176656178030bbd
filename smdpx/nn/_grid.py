"""A table of values with bilinear interpolation: a score for scalar states without a network.

With the nodes (tᵢ, xⱼ) of a uniform grid and (a, b) ∈ [0, 1]² the place within a cell,

    net(t, x) = (1-a)(1-b) v[i, j] + (1-a) b v[i, j+1] + a (1-b) v[i+1, j] + a b v[i+1, j+1],

the non-parametric score of arXiv:2301.10250, §4.1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._types import Args, RealScalarLike
from ._one_array import as_state


class Grid(eqx.Module):
    """A bilinear table over (t, x) for scalar states, zero at the start, constant outside the grid.

    Its values are its parameters. Only nodes that samples visit are trained, so the grid should
    cover the samples and no more, with spacings near the solver's step in t.

    Args:
        x_range: positions of the first and last node in x.
        t_range: times of the first and last node in t.
        shape: number of nodes in t and in x, each at least 2. The default has spacings of .02 in t
            and .01 in x.
        out_scale: typical size of what is learned, > 0; the values are multiplied by it. For a
            score, a good value is 1/g (see `MLP`).
        dtype: of the values; by default JAX's default float.

    Raises:
        ValueError: a range is empty or reversed, the grid has fewer than 2 nodes in one direction,
            or ``out_scale`` is not positive; or, when called, x is not a scalar.

    >>> import jax.numpy as jnp
    >>> net = Grid(out_scale=1 / 0.03)
    >>> net.values.shape, net(0.5, jnp.array(1.0)).shape
    ((501, 251), ())
    """

    values: Float[Array, "times positions"]
    x_range: tuple[float, float] = eqx.field(static=True)
    t_range: tuple[float, float] = eqx.field(static=True)
    out_scale: float = eqx.field(static=True)

    def __init__(
        self,
        x_range: tuple[float | int, float | int] = (-1.25, 1.25),
        t_range: tuple[float | int, float | int] = (0.0, 10.0),
        shape: tuple[int, int] = (501, 251),
        *,
        out_scale: float | int = 1.0,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        for name, (low, high) in (("x_range", x_range), ("t_range", t_range)):
            if not low < high:
                raise ValueError(f"`{name}` must be (low, high) with low < high, got {low, high}")
        if min(shape) < 2:
            raise ValueError(f"`shape` must have at least 2 nodes in t and in x, got {shape}")
        if not out_scale > 0:
            raise ValueError(f"`out_scale` must be positive, got {out_scale}")
        self.values = jnp.zeros(shape, jnp.result_type(float) if dtype is None else dtype)
        self.x_range = (float(x_range[0]), float(x_range[1]))
        self.t_range = (float(t_range[0]), float(t_range[1]))
        self.out_scale = float(out_scale)

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Interpolate the table at one sample.

        Args:
            t: physical time, a scalar.
            x: one scalar state.
            args: ignored.

        Returns:
            A scalar. Its derivative in x is the cell's slope, and zero outside the grid.

        Raises:
            ValueError: ``x`` is not a scalar.
        """
        del args
        x = as_state(x, "Grid")
        if x.shape != ():
            raise ValueError(
                f"`x` must be a scalar state, got shape {x.shape}. For a batch, write "
                "`jax.vmap(grid, in_axes=(None, 0))(t, x)`; for larger states, `smdpx.nn.MLP`"
            )
        times, positions = self.values.shape
        i, a = _locate(jnp.asarray(t, x.dtype), self.t_range, times)
        j, b = _locate(x, self.x_range, positions)
        # Indices are in bounds by construction; saying so saves the gather its clamps.
        v = self.values.at[i + jnp.array([[0, 0], [1, 1]]), j + jnp.array([[0, 1], [0, 1]])].get(
            mode="promise_in_bounds"
        )
        in_t = v[0] * (1 - a) + v[1] * a
        return self.out_scale * (in_t[0] * (1 - b) + in_t[1] * b)


def _locate(z: Float[Array, ""], ends: tuple[float, float], nodes: int) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Cell of z and the place within it; beyond the ends, the end (the clip's slope is zero)."""
    low, high = ends
    u = jnp.clip((z - low) * ((nodes - 1) / (high - low)), 0, nodes - 1)
    # The last node belongs to the last cell, at place 1.
    cell = jnp.clip(jnp.floor(u), 0, nodes - 2)
    # A NaN stays in the place, thus in the result, and its cell is a valid one.
    return jnp.nan_to_num(cell).astype(int), u - cell
