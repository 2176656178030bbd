"""Smoke that rises: the buoyancy-driven flow of arXiv:2301.10250, §4.3 and appendix E, with obstacles.

    ∂m/∂t + w·∇m = inflow(t, x)                  MacCormack, clamped
    ∂w/∂t + w·∇w = -∇p + β m ŷ,   ∇·w = 0        semi-Lagrangian; β m with the new m; projection

on a staggered grid in a closed box. No viscosity but the schemes' own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from ..._types import Args, RealScalarLike
from ...equation._conditions import PerSample
from ...solving._validate import is_concrete
from ._advection import maccormack, semi_lagrangian
from ._grid import StaggeredState, check_state, halfway
from ._inflow import Inflow
from ._obstacles import check_obstacles, solid_cells
from ._projection import projected, raise_unless_converged

__all__ = ["Buoyancy", "Health"]


class Health(NamedTuple):
    """What tells whether a step can be trusted.

    Attributes:
        reach: the longest way back in a step, in sides of the box; beyond 1 everything comes from behind a wall.
        obstacles: whether the mask is 0 or 1 everywhere, and 0 where there is inflow.
        residual: the largest divergence that is left in a cell, as a part of the largest speed.
        iterations: of conjugate gradients.
    """

    reach: Float[Array, ""]
    obstacles: Bool[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]


class Buoyancy(eqx.Module):
    """A marker that flows in at the bottom of a closed box and rises around obstacles, on n × n cells.

    As a solver's step, `Drift.from_step(flow.step, reverse=sx.negative_step)`: the marker is transported (MacCormack)
    and the inflow added, the velocity is transported (semi-Lagrangian) and β times the new marker added upwards, and
    what diverges is projected out. Backwards the same with a negative dt, so that the inflow is taken away again. Of
    first order in dt, and in h where dt goes with h. MacCormack's scheme does not keep the marker's total: without
    obstacles at 64² it is .98 of what has flowed in at t = .1, and 1.4 times that at t = .65. The paper's flow is so;
    `transport=Conserving(maccormack)` closes the budget to rounding.

    The equation's time and the solver's differ: the paper's frames are .01 apart, and one step of the solver of 1. So
    dt is in units of the equation's time, and the solver takes `time_scale` · dt. Lengths are those of the box,
    velocities lengths per unit of the solver's time.

    Obstacles are a condition: `args` is a mask, 1 in solid cells and 0 in fluid, or None. Give each sample its own by
    `args=flow.obstacles(masks)`, which looks at them and wraps them in `PerSample`. Where a step cannot be trusted, be
    it the mask, a dt that is too long, or a pressure that did not converge, the state is NaN under a JAX
    transformation, which `simulate` and `solve` then name, and an error else.

    Args:
        n: cells a side, at least 4.
        inflow: what flows in, where and how long.
        buoyancy: β, the velocity that a marker of 1 gains in one unit of the solver's time. May be traced.
        length: the box' side.
        time_scale: units of the solver's time in one of the equation's, > 0.
        max_iterations: of the pressure's conjugate gradients; 6 to 9 are needed.
        transport: that of the marker, `maccormack`, or what is called as it is.

    Raises:
        ValueError: an argument out of its range, or an inflow that covers no cell; when called, a state or a mask that
            does not fit, or dt too long.
        RuntimeError: when called, a pressure that does not converge: the residual reached.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> flow = sx.physics.Buoyancy(16)
    >>> P = sx.Drift.from_step(flow.step, reverse=sx.negative_step)
    >>> mask = sx.physics.buoyancy.solid(sx.physics.buoyancy.disc((50, 60), 10), n=16)
    >>> ts = jnp.linspace(0.0, 0.3, 31)
    >>> paths = sx.simulate(P, flow.start(1), ts, args=flow.obstacles(mask[None]))
    >>> paths.x.marker.shape
    (1, 31, 16, 16)
    >>> back = sx.solve(-P, paths.end, ts[::-1], args=paths.args)
    """

    n: int = eqx.field(static=True, default=64)
    inflow: Inflow = Inflow()
    buoyancy: RealScalarLike = 0.1
    length: float = eqx.field(static=True, default=100.0)
    time_scale: float = eqx.field(static=True, default=100.0)
    max_iterations: int = eqx.field(static=True, default=100)
    transport: Callable[..., Any] = eqx.field(static=True, default=maccormack)

    def __check_init__(self) -> None:
        if self.n < 4:
            raise ValueError(f"`Buoyancy` needs at least 4 cells a side; got n = {self.n}.")
        for name, value in (("length", self.length), ("time_scale", self.time_scale)):
            if not 0 < value < float("inf"):
                raise ValueError(f"`Buoyancy` needs `{name}` > 0; got {value}.")
        if self.max_iterations < 1:
            raise ValueError(f"`Buoyancy` needs at least one iteration; got max_iterations = {self.max_iterations}.")
        if self.inflow.misses(self.n, self.length):
            (x, y), radius, part = self.inflow.centre, self.inflow.radius, self.length / 100
            raise ValueError(
                f"`Buoyancy`: the inflow, a disc of radius {float(radius):g} around ({float(x):g}, {float(y):g}), "
                f"covers none of {self.n} x {self.n} cells of a box of side {self.length:g}, so nothing would flow in. "
                f"Its lengths are those of the box: write `inflow=Inflow(centre=({50 * part:g}, {10 * part:g}), "
                f"radius={5 * part:g})`, or `Inflow(rate=0.0)` for a box without inflow."
            )

    def start(self, samples: int) -> StaggeredState:
        """A batch of boxes at rest, without marker.

        Args:
            samples: how many.
        """
        return StaggeredState(*(jnp.tile(part[None], (samples, 1, 1)) for part in StaggeredState.zeros(self.n)))

    def obstacles(self, masks: Num[Array, "samples n n"] | Bool[Array, "samples n n"]) -> PerSample:
        """The condition of a batch: masks that this flow can take, one for each sample.

        Args:
            masks: 1 in solid cells and 0 in fluid, shape (samples, n, n).

        Returns:
            `PerSample`, of floats, so that networks see them too.

        Raises:
            ValueError: another shape, other values, obstacles over the inflow, or no fluid. Pockets that are cut off
                from the rest are simulated, and warned of.

        >>> import jax.numpy as jnp, smdpx as sx
        >>> sx.physics.Buoyancy(8).obstacles(jnp.zeros((3, 8, 8))).value.shape
        (3, 8, 8)
        """
        if masks.ndim != 3:
            raise ValueError(
                f"`obstacles` takes a mask for each sample, shape (samples, {self.n}, {self.n}); got {masks.shape}. "
                "For one sample write `flow.obstacles(mask[None])`."
            )
        self._check_mask(masks)
        return PerSample(jnp.asarray(masks, float))

    def step(self, t: RealScalarLike, x: StaggeredState, dt: RealScalarLike, args: Args = None) -> StaggeredState:
        """The state after dt; with dt < 0 backwards.

        Args:
            t: where the step begins, in units of the equation's time; the inflow sees it.
            x: one state.
            dt: in units of the equation's time: the solver takes `time_scale` · dt.
            args: the mask of the obstacles, shape (n, n), or None.
        """
        return self.advance(t, x, dt, args)[0]

    def advance(
        self, t: RealScalarLike, x: StaggeredState, dt: RealScalarLike, args: Args = None
    ) -> tuple[StaggeredState, Health]:
        """`step`, and how it went: the longest way back, the pressure's iterations and residual.

        Args:
            t: where the step begins, in units of the equation's time.
            x: one state.
            dt: in units of the equation's time.
            args: the mask of the obstacles, shape (n, n), or None.

        >>> import jax, smdpx as sx
        >>> flow = sx.physics.Buoyancy(16)
        >>> x, health = flow.advance(0.0, sx.physics.buoyancy.StaggeredState.zeros(16), 0.01)
        >>> int(health.iterations) <= 2  # without obstacles one, and rounding may ask for another
        True
        """
        if not isinstance(x, StaggeredState):
            raise TypeError(
                "`Buoyancy` acts on a `StaggeredState(marker, u, v)`, such as `flow.start(samples)`; got "
                f"{type(x).__name__}. Of channels write `from_channels(channels)`."
            )
        check_state(x, self.n, f"Buoyancy({self.n})")
        t, dt = jnp.asarray(t, x.marker.dtype), jnp.asarray(dt, x.marker.dtype)
        mask = None if args is None else solid_cells(args, self.n, x.marker.dtype)
        if mask is not None:
            self._check_mask(args)
        after, health = _advance(self, t, x, dt, mask)
        if is_concrete(health):
            self._raise_unless_healthy(health, dt, x)
        return after, health

    def longest_dt(self, x: StaggeredState) -> Float[Array, ""]:
        """The dt, in units of the equation's time, in which something crosses the whole box: steps must be shorter.

        A good step is much shorter; the paper's lets the fastest parts cross two to three cells.

        Args:
            x: one state.

        >>> import jax.numpy as jnp, smdpx as sx
        >>> x = sx.physics.buoyancy.StaggeredState.zeros(4)._replace(u=jnp.full((3, 4), 5.0))
        >>> print(f"{sx.physics.Buoyancy(4).longest_dt(x):.2f}")  # 100/5 units of the solver's time
        0.20
        """
        return 1 / _reach(self, x, jnp.ones((), x.u.dtype))

    def _check_mask(self, masks: Any) -> None:
        """Look at masks whose values are known."""
        if is_concrete(masks, self.inflow):
            with jax.ensure_compile_time_eval():  # under the user's jit too, they are known
                share = self.inflow.share(self.n, self.length)
            check_obstacles(masks, self.n, share)

    def _raise_unless_healthy(self, health: Health, dt: Array, x: StaggeredState) -> None:
        if float(health.reach) > 1:
            raise ValueError(
                f"`Buoyancy`: in one step of dt = {float(dt):g} the flow goes {float(health.reach):.3g} times the box' "
                f"side, and all would come from behind a wall. dt must be shorter than {float(self.longest_dt(x)):.2g} "
                f"here (`flow.longest_dt(x)`). It is in units of the equation's time, of which the solver makes "
                f"{self.time_scale:g}: the paper's step is .01."
            )
        raise_unless_converged(health.residual, health.iterations, x.u.dtype, "Buoyancy")


@eqx.filter_jit
def _advance(
    flow: Buoyancy, t: Array, x: StaggeredState, dt: Array, mask: Array | None
) -> tuple[StaggeredState, Health]:
    spacing, dtype = flow.length / flow.n, x.marker.dtype
    step = flow.time_scale * dt
    share = flow.inflow.share(flow.n, flow.length).astype(dtype)
    rate = jnp.asarray(flow.inflow.rate, dtype) * flow.inflow.active(t, dt)
    marker = flow.transport(x.marker, x.u, x.v, step, spacing=spacing) + step * rate * share
    u = semi_lagrangian(x.u, x.u, x.v, step, spacing=spacing)
    lift = step * jnp.asarray(flow.buoyancy, dtype)
    v = semi_lagrangian(x.v, x.u, x.v, step, spacing=spacing) + lift * halfway(marker, 1)
    u, v, pressure = projected(u, v, mask, max_iterations=flow.max_iterations)
    good = jnp.array(True) if mask is None else jnp.all((mask == 0) | ((mask == 1) & (share == 0)))
    health = Health(_reach(flow, x, dt), good, pressure.residual, pressure.iterations)
    # Silence would be a field that looks right: what cannot be trusted is NaN, and so is its gradient.
    trust = jnp.where(good & ~(health.reach > 1), 1, jnp.nan).astype(dtype)
    return StaggeredState(trust * marker, trust * u, trust * v), health


def _reach(flow: Buoyancy, x: StaggeredState, dt: Array) -> Array:
    fastest = jnp.maximum(jnp.max(jnp.abs(x.u)), jnp.max(jnp.abs(x.v)))
    return fastest * jnp.abs(dt) * (flow.time_scale / flow.length)
