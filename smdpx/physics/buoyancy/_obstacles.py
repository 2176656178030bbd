"""Obstacles: boxes and discs, random ones by the rule of arXiv:2301.10250 (appendix E), and their cells.

Both are a rectangle with a margin around it: a box has no margin, a disc no sides. Two overlap where the gap between
their rectangles, (max(0, gap along x), max(0, gap along y)), is no longer than both margins together.
"""

import functools
import sys
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Num
from scipy import ndimage

from ..._types import Key, RealScalarLike
from ...solving._validate import is_concrete

__all__ = ["Obstacle", "box", "check_obstacles", "disc", "draw_obstacles", "solid"]


class Obstacle(NamedTuple):
    """All points within a margin of a rectangle: `box` and `disc` make one; with an axis in front, several.

    Attributes:
        low: the rectangle's lower left corner, shape (..., 2).
        high: its upper right corner, shape (..., 2).
        margin: shape (...); -inf for an obstacle that is not there.
    """

    low: Float[Array, "... 2"]
    high: Float[Array, "... 2"]
    margin: Float[Array, "..."]


def box(low: Any, high: Any) -> Obstacle:
    """A box with its sides along the axes.

    Args:
        low: the lower left corner (x, y).
        high: the upper right corner (x, y).

    Raises:
        ValueError: corners in another order.

    >>> import smdpx as sx
    >>> b = sx.physics.buoyancy
    >>> print(b.solid(b.box((0, 0), (2, 1)), n=4, length=4.0).T[::-1])  # drawn with y upwards
    [[0. 0. 0. 0.]
     [0. 0. 0. 0.]
     [0. 0. 0. 0.]
     [1. 1. 0. 0.]]
    """
    low, high = jnp.asarray(low, float), jnp.asarray(high, float)
    if is_concrete(low, high) and not bool((low < high).all()):
        raise ValueError(
            f"`box(low, high)` goes from its lower left to its upper right corner; got {low.tolist()} and "
            f"{high.tolist()}."
        )
    return Obstacle(low, high, jnp.zeros(()))


def disc(centre: Any, radius: RealScalarLike) -> Obstacle:
    """A disc.

    Args:
        centre: (x, y).
        radius: > 0.

    Raises:
        ValueError: a radius that is not positive.

    >>> import smdpx as sx
    >>> b = sx.physics.buoyancy
    >>> int(b.solid(b.disc((50, 50), 10), n=100).sum())  # π 10², in cells of 1 by 1
    316
    """
    if is_concrete(radius) and not 0 < float(radius) < float("inf"):
        raise ValueError(f"`disc(centre, radius)` needs a radius > 0; got {radius}.")
    centre = jnp.asarray(centre, float)
    return Obstacle(centre, centre, jnp.asarray(radius, float))


def solid(*obstacles: Obstacle, n: int, length: float = 100.0) -> Float[Array, "n n"]:
    """Which cells are solid: 1 where a cell's centre lies in an obstacle, and 0 in fluid.

    Args:
        *obstacles: any number, each one or several with an axis in front; of a batch of geometries write
            `jax.vmap(lambda o: solid(o, n=n))(obstacles)`.
        n: cells a side.
        length: the square's side, in the obstacles' units.

    >>> import jax, smdpx as sx
    >>> b = sx.physics.buoyancy
    >>> obstacles = jax.vmap(b.draw_obstacles)(jax.random.split(jax.random.key(0), 5))
    >>> jax.vmap(lambda o: b.solid(o, n=16))(obstacles).shape
    (5, 16, 16)
    """
    inside = jnp.zeros((n, n), bool)
    for each in obstacles:
        inside |= _covered(each, n, jnp.asarray(length, float))
    return inside.astype(float)


@functools.partial(jax.jit, static_argnums=1)
def _covered(obstacle: Obstacle, n: int, length: Array) -> Bool[Array, "n n"]:
    """The cells whose centre lies in an obstacle, or in one of several."""
    centres = (jnp.arange(n, dtype=float) + 0.5) * (length / n)
    points = jnp.stack(jnp.meshgrid(centres, centres, indexing="ij"), axis=-1)
    cells = Obstacle(points, points, jnp.zeros((n, n)))
    several = Obstacle(obstacle.low.reshape(-1, 2), obstacle.high.reshape(-1, 2), obstacle.margin.ravel())
    return jax.vmap(lambda one: _overlaps(one, cells))(several).any(axis=0)


def draw_obstacles(key: Key, clear: Obstacle | None = None) -> Obstacle:
    """Random obstacles in the square [0, 100]² by the rule of arXiv:2301.10250, appendix E.

    One or two boxes of length 10 to 100 and thickness 5 to 12, along x or y, each away from a corner with x in [1, 100]
    and y in [50, 100], to the right, the left, upwards or downwards, the last but to y = 20; and one or two discs of
    radius 5 to 12 with their centre there. All numbers are uniform. What overlaps the inflow or another obstacle is
    drawn again.

    Args:
        key: a JAX key.
        clear: what must not be overlapped. Default: the inflow's disc, at (50, 10) with radius 5.

    Returns:
        An `Obstacle` of four, two boxes and two discs, of which the second may be absent: margin -inf.

    >>> import jax, smdpx as sx
    >>> obstacles = sx.physics.buoyancy.draw_obstacles(jax.random.key(0))
    >>> obstacles.low.shape, obstacles.margin.shape
    ((4, 2), (4,))
    """
    key, key_counts = jr.split(key)
    boxes, discs = jr.randint(key_counts, (2,), 1, 3)
    clear = disc((50.0, 10.0), 5.0) if clear is None else clear
    nothing = Obstacle(jnp.zeros((4, 2)), jnp.zeros((4, 2)), jnp.full(4, -jnp.inf))
    placed = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), clear, nothing)

    def place(placed: Obstacle, slot: tuple[Array, Array, Array]) -> tuple[Obstacle, None]:
        i, is_box, there = slot
        new = _placed(jr.fold_in(key, i), is_box, placed)
        new = new._replace(margin=jnp.where(there, new.margin, -jnp.inf))
        return jax.tree.map(lambda all, one: all.at[i + 1].set(one), placed, new), None

    there = jnp.stack([jnp.array(True), boxes > 1, jnp.array(True), discs > 1])
    placed, _ = jax.lax.scan(place, placed, (jnp.arange(4), jnp.arange(4) < 2, there))
    return jax.tree.map(lambda leaf: leaf[1:], placed)


def check_obstacles(
    obstacles: Num[Any, "..."] | Bool[Any, "..."], n: int, inflow: Num[Any, "n n"] | None = None, who: str = "obstacles"
) -> None:
    """Raise where masks of obstacles, one or a batch, cannot be simulated; warn of pockets that are cut off.

    Args:
        obstacles: 1 in solid cells and 0 in fluid, shape (n, n) or (samples, n, n).
        n: cells a side.
        inflow: what flows into each cell, 0 where nothing does.
        who: what is named in the errors.

    Raises:
        TypeError: masks that are traced.
        ValueError: another shape, values other than 0 and 1, obstacles over the inflow, or no fluid.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> sx.physics.buoyancy.check_obstacles(jnp.ones((4, 4)), 4)
    Traceback (most recent call last):
    ...
    ValueError: `obstacles` fill the domain: all 16 cells are solid, and there is nothing left that could flow.
    """
    if not is_concrete(obstacles):
        raise TypeError(f"`{who}`: values are looked at, which a JAX transformation does not know: call it outside.")
    masks = np.asarray(obstacles)
    if masks.shape[-2:] != (n, n) or masks.ndim not in (2, 3):
        raise ValueError(_wrong_shape(masks.shape, n, who, " or (samples, n, n)"))
    cut: list[str] = []
    for i, mask in enumerate(masks.reshape(-1, n, n)):
        which = f"`{who}`" if masks.ndim == 2 else f"`{who}[{i}]`"
        odd = mask[(mask != 0) & (mask != 1)]
        if odd.size:
            raise ValueError(
                f"{which} must be 1 in solid cells and 0 in fluid, nothing else; got {odd[0]} ({odd.size} of "
                f"{mask.size} cells). For fractions write `(fraction > 0.5).astype(float)`."
            )
        if mask.all():
            raise ValueError(
                f"{which} fill the domain: all {mask.size} cells are solid, and there is nothing left that could flow."
            )
        inlet = np.zeros((n, n), bool) if inflow is None else np.asarray(inflow) != 0
        if (over := inlet & (mask != 0)).any():
            raise ValueError(
                f"{which} cover {over.sum()} of the inflow's {inlet.sum()} cells, so that what "
                "flows in would lie inside of them. Move them away, or the inflow, `Inflow(centre=...)`."
            )
        _, count = ndimage.label(mask == 0)  # pyright: ignore[reportGeneralTypeIssues]
        if count > 1:
            cut.append(f"{which} cut the fluid into {count} pockets, between which nothing flows")
    if cut:
        others = f" ({len(cut)} of {len(masks)} masks have such pockets)" if len(cut) > 1 else ""
        _warn(f"{cut[0]}{others}. That is simulated as it is; of each pocket the mean pressure is arbitrary.")


def solid_cells(obstacles: Any, n: int, dtype: Any) -> Float[Array, "n n"]:
    """The mask of one sample as numbers, or an error that names the shape it must have."""
    if obstacles is None:
        return jnp.zeros((n, n), dtype)
    got = getattr(obstacles, "shape", type(obstacles).__name__)
    if got != (n, n):
        raise ValueError(_wrong_shape(got, n, "obstacles", ""))
    return jnp.asarray(obstacles).astype(dtype)


def _wrong_shape(got: Any, n: int, who: str, or_else: str) -> str:
    return (
        f"`{who}` must be a mask of the {n} × {n} cells, shape {(n, n)}{or_else}; got {got}. Masks that differ from "
        "sample to sample are a condition, `args=sx.PerSample(masks)`; other `args` need a step of their own, such as "
        '`sx.Drift.from_step(lambda t, x, dt, args: flow.step(t, x, dt, args["mask"]))`.'
    )


def _warn(message: str) -> None:
    """Warn at the user's line, and not at one of this library's, however many of these lie between."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


_INSIDE = {"smdpx", "jax", "equinox", "jaxtyping", "beartype"}


def _overlaps(one: Obstacle, others: Obstacle) -> Bool[Array, "..."]:
    """Whether an obstacle meets each of others."""
    low, high = (jnp.expand_dims(part, tuple(range(others.low.ndim - 1))) for part in (one.low, one.high))
    gap = jnp.maximum(0, jnp.maximum(low - others.high, others.low - high))
    reach = one.margin + others.margin
    return (jnp.sum(gap**2, axis=-1) <= reach**2) & (reach >= 0)


def _placed(key: Key, is_box: Array, placed: Obstacle) -> Obstacle:
    """The first box or disc that overlaps nothing."""

    def overlaps(state: tuple[Key, Obstacle]) -> Array:
        return _overlaps(state[1], placed).any()

    def again(state: tuple[Key, Obstacle]) -> tuple[Key, Obstacle]:
        key, now = jr.split(state[0])
        return key, jax.tree.map(lambda a, b: jnp.where(is_box, a, b), _a_box(now), _a_disc(now))

    # A draw that is rejected before the first: it is the inflow's place, or whatever is to be kept clear.
    return jax.lax.while_loop(overlaps, again, (key, jax.tree.map(lambda leaf: leaf[0], placed)))[1]


def _corner(key: Key) -> Array:
    return jr.uniform(key, (2,), float, jnp.array([1.0, 50.0]), jnp.array([100.0, 100.0]))


def _a_box(key: Key) -> Obstacle:
    key_corner, key_way, key_length, key_thickness = jr.split(key, 4)
    corner, way = _corner(key_corner), jr.randint(key_way, (), 0, 4)
    length = jr.uniform(key_length, (), float, 10, 100)
    thickness = jr.uniform(key_thickness, (), float, 5, 12)
    # To the right and to the left lie along x, upwards and downwards along y.
    size = jnp.where(way < 2, jnp.stack([length, thickness]), jnp.stack([thickness, length]))
    before = corner - size
    before = jnp.stack([before[0], jnp.maximum(before[1], 20)])
    backwards = (way == 1) | (way == 3)
    low, high = jnp.where(backwards, before, corner), jnp.where(backwards, corner, corner + size)
    # Outside of the box nothing is overlapped.
    return Obstacle(jnp.clip(low, 0, 100), jnp.clip(high, 0, 100), jnp.zeros((), low.dtype))


def _a_disc(key: Key) -> Obstacle:
    key_centre, key_radius = jr.split(key)
    centre = _corner(key_centre)
    return Obstacle(centre, centre, jr.uniform(key_radius, (), float, 5, 12))
