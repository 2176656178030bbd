"""Recipes for data of buoyancy-driven flow: random obstacles, and what rises around them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..._types import Key
from ...equation._conditions import PerSample
from ...learning._trajectories import Trajectories
from ...solving._validate import check_simulation, is_concrete
from ._flow import Buoyancy, Health
from ._grid import StaggeredState
from ._obstacles import disc, draw_obstacles, solid
from ._projection import raise_unless_converged

__all__ = ["BuoyancyRuns"]


class BuoyancyRuns(eqx.Module):
    """A recipe for trajectories of buoyancy-driven flow around random obstacles: called with a key and a count.

    The default is the data of arXiv:2301.10250, §4.3: 64² cells, from an empty box at rest at t = 0, the 65 frames at
    t = .01, .02, ..., .65; each run with one or two boxes and one or two discs (`draw_obstacles`). 250 runs train in
    the paper, and 5 test.

    Args:
        flow: what is simulated; its box has a side of 100.
        ts: the frames' times, evenly spaced, multiples of dt; the start is at t = 0, and what lies before ts[0] is not
            kept.
        dt: the solver's step, in units of the equation's time.

    Raises:
        ValueError: times that are not such, or a box of another side; or, when called, a dt that is too long.
        RuntimeError: when called, a pressure that does not converge.

    >>> import jax, smdpx as sx
    >>> recipe = sx.physics.BuoyancyRuns(sx.physics.Buoyancy(16), ts=(0.1, 0.2, 0.3))
    >>> paths = recipe(jax.random.key(0), 2)
    >>> paths.x.u.shape, paths.args.value.shape
    ((2, 3, 15, 16), (2, 16, 16))
    """

    flow: Buoyancy = Buoyancy()
    ts: tuple[float, ...] = eqx.field(
        static=True,
        default=tuple((j + 1) / 100 for j in range(65)),
        converter=lambda ts: tuple(map(float, ts)),
    )
    dt: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if not 0 < self.dt < float("inf"):
            raise ValueError(f"`BuoyancyRuns`: `dt` must be > 0; got {self.dt}.")
        if self.flow.length != 100:
            raise ValueError(
                f"`BuoyancyRuns` draws obstacles for a box of side 100; the flow's is {self.flow.length:g}. Simulate "
                "obstacles of your own by `sx.simulate(P, flow.start(count), ts, args=flow.obstacles(masks))`."
            )
        steps = np.diff(np.round(np.array(self.ts) / self.dt))
        off = np.abs(np.array(self.ts) / self.dt - np.round(np.array(self.ts) / self.dt))
        if len(self.ts) < 2 or self.ts[0] < 0 or (steps < 1).any() or np.ptp(steps) > 0 or off.max() > 1e-6:
            raise ValueError(
                "`BuoyancyRuns`: `ts` holds at least two times ≥ 0, multiples of dt that increase by equal steps; got "
                f"dt = {self.dt:g} and {self.ts[:6]}{'...' if len(self.ts) > 6 else ''}: such as "
                "`ts=tuple((j + 1) / 100 for j in range(65))`."
            )

    def __call__(self, key: Key, count: int) -> Trajectories:
        """Trajectories by this recipe; the same key and count give the same.

        Args:
            key: a JAX key.
            count: how many, at least 1.

        Returns:
            `Trajectories`: `StaggeredState`s with arrays of shape (count, times, ...) at `ts`, and as `args` the masks,
            `PerSample` of shape (count, n, n).

        Raises:
            ValueError: a dt that is too long.
            RuntimeError: a pressure that does not converge.
        """
        if count < 1:
            raise ValueError(f"`BuoyancyRuns`: `count` must be at least 1; got {count}.")
        masks, x, worst = _simulated(self, jr.split(key, count))
        if is_concrete(worst):
            self._check(worst)
            check_simulation(x, np.asarray(self.ts))
        return Trajectories(x, self.ts, PerSample(masks))

    def _check(self, worst: Health) -> None:
        """Raise where a step could not be trusted."""
        if float(worst.reach) > 1:
            raise ValueError(
                f"`BuoyancyRuns(dt={self.dt:g})`: a flow crosses the whole box in one step. Give a shorter dt; the "
                "paper's, .01, lets it cross two to three cells."
            )
        raise_unless_converged(worst.residual, worst.iterations, worst.residual.dtype, "BuoyancyRuns")


@eqx.filter_jit
def _simulated(recipe: BuoyancyRuns, keys: Array) -> tuple[Float[Array, "count n n"], StaggeredState, Health]:
    """The masks, the frames that a recipe keeps, and the worst of all steps."""
    flow, dt = recipe.flow, recipe.dt
    first, frames = round(recipe.ts[0] / dt), len(recipe.ts)
    between = round((recipe.ts[1] - recipe.ts[0]) / dt)
    inflow = disc(flow.inflow.centre, flow.inflow.radius)

    def run(key: Key) -> tuple[Array, StaggeredState, Health]:
        mask = solid(draw_obstacles(key, inflow), n=flow.n)

        def step(x: StaggeredState, i: Array) -> tuple[StaggeredState, Health]:
            return flow.advance(i.astype(mask.dtype) * dt, x, dt, mask)

        def frame(x: StaggeredState, start: Array) -> tuple[StaggeredState, tuple[StaggeredState, Health]]:
            x, health = jax.lax.scan(step, x, start + jnp.arange(between))
            return x, (x, health)

        x, before = jax.lax.scan(step, StaggeredState.zeros(flow.n), jnp.arange(first))
        start = x
        _, (x, health) = jax.lax.scan(frame, x, first + between * jnp.arange(frames - 1))
        x = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), start, x)
        every = jax.tree.map(lambda a, b: jnp.concatenate([a, b.ravel()]), before, health)
        return mask, x, every

    masks, x, every = jax.vmap(run)(keys)
    # The first step that could not be trusted, and not what follows from it.
    worst = Health(*(jnp.max(jnp.nan_to_num(part)) for part in every))
    return masks, x, worst
