"""Smoke that rises around obstacles, and the parts that it is made of, each usable alone.

- `Buoyancy`: the flow of arXiv:2301.10250, §4.3; `BuoyancyRuns`: recipes for data of it.
- `StaggeredState`, `divergence`: the staggered grid. `OnCells`, `to_channels`, `from_channels`: how networks see it.
- `semi_lagrangian`, `maccormack`: transport of a scalar or of a velocity; `Conserving`: one that keeps the total.
- `project`, `solve_pressure`: velocities without divergence, around obstacles.
- `box`, `disc`, `solid`, `draw_obstacles`, `check_obstacles`: obstacles and their masks.
- `Inflow`: what flows in.

Smoke in a closed box, by the parts:

>>> import jax, jax.numpy as jnp
>>> from smdpx.physics import buoyancy as b
>>> def step(x, dt):
...     smoke = b.maccormack(x.marker, x.u, x.v, dt)
...     u, v = b.semi_lagrangian(x.u, x.u, x.v, dt), b.semi_lagrangian(x.v, x.u, x.v, dt)
...     return b.StaggeredState(smoke, *b.project(u, v + 0.1 * dt * (smoke[:, 1:] + smoke[:, :-1]) / 2))
>>> x = b.StaggeredState.zeros(32)._replace(marker=b.solid(b.disc((50, 25), 15), n=32))
>>> x = jax.lax.fori_loop(0, 40, lambda i, x: step(x, 0.5), x)
>>> print(f"{(x.marker.sum(0) @ jnp.arange(32.0) / x.marker.sum()):.0f} of 32 cells above the floor")  # at first 8
13 of 32 cells above the floor
"""

from ._advection import Conserving as Conserving, maccormack as maccormack, semi_lagrangian as semi_lagrangian
from ._flow import Buoyancy as Buoyancy, Health as Health
from ._grid import (
    StaggeredState as StaggeredState,
    divergence as divergence,
    from_channels as from_channels,
    to_channels as to_channels,
)
from ._inflow import Inflow as Inflow
from ._network import OnCells as OnCells
from ._obstacles import (
    Obstacle as Obstacle,
    box as box,
    check_obstacles as check_obstacles,
    disc as disc,
    draw_obstacles as draw_obstacles,
    solid as solid,
)
from ._projection import Pressure as Pressure, project as project, solve_pressure as solve_pressure
from ._runs import BuoyancyRuns as BuoyancyRuns
