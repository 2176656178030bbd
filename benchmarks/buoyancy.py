"""Buoyancy-driven flow: what steps and gradients cost, how that grows, and how many iterations the pressure takes.

taskset -c 0 python benchmarks/buoyancy.py            # a minute on one core; --runs 4 for less
"""

import argparse
import os
import time

import jax
import jax.numpy as jnp
import jax.random as jr
from _measure import record

from smdpx.physics import Buoyancy, buoyancy as b

DT = 0.01


def geometries(n, runs):
    """Masks of random obstacles, (runs, n, n)."""
    return jax.vmap(lambda key: b.solid(b.draw_obstacles(key), n=n))(jr.split(jr.key(0), runs))


def forward(n, steps):
    """The end and the frames' health of a flow from rest, for a batch of masks."""
    flow = Buoyancy(n)

    def run(mask):
        def step(x, i):
            x, health = flow.advance(i.astype(float) * DT, x, DT, mask)
            return x, (jnp.max(jnp.abs(b.divergence(x.u, x.v) * (1 - mask))), health)

        return jax.lax.scan(step, b.StaggeredState.zeros(n), jnp.arange(steps))

    return jax.jit(jax.vmap(run))


def gradient(n, steps):
    """The gradient of the end's squares with respect to the start, for a batch of starts and masks."""
    flow = Buoyancy(n)

    def end(x, mask):
        step = lambda x, i: (flow.step(0.3 + i.astype(float) * DT, x, DT, mask), None)  # noqa: E731
        after = jax.lax.scan(step, x, jnp.arange(steps))[0]
        return sum(jnp.sum(part**2) for part in after)

    return jax.jit(jax.vmap(jax.grad(end)))


def cpu_ms(f, *arguments, times=7):
    """The least CPU and wall milliseconds of a few calls."""
    jax.block_until_ready(f(*arguments))
    rows = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(f(*arguments))
        rows.append((1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)))
    return tuple(min(column) for column in zip(*rows, strict=True))


def iterations(runs):
    """Of the pressure, over runs of 65 steps, and what they leave."""
    masks = geometries(64, runs)
    x, (divergence, health) = forward(64, 65)(masks)
    solid = masks > 0
    through = jnp.where(solid[:, 1:] | solid[:, :-1], jnp.abs(x.u), 0).max()
    through = jnp.maximum(through, jnp.where(solid[..., 1:] | solid[..., :-1], jnp.abs(x.v), 0).max())
    yield {
        "what": "64², 65 steps: iterations of the pressure, and what is left",
        "geometries": runs,
        "iterations_mean": float(health.iterations.mean()),
        "iterations_max": int(health.iterations.max()),
        "largest_divergence": float(divergence.max()),
        "through_obstacles": float(through),
    }


def speed():
    for batch in (1, 4, 16):
        cpu, wall = cpu_ms(forward(64, 65), geometries(64, batch))
        yield {
            "what": "64², 65 steps",
            "geometries": batch,
            "cpu_ms": cpu,
            "wall_ms": wall,
            "cpu_ms_per_geometry": cpu / batch,
        }
    for batch in (1, 4, 16):
        masks = geometries(64, batch)
        start = forward(64, 30)(masks)[0]
        cpu, wall = cpu_ms(gradient(64, 20), start, masks)
        yield {
            "what": "64², gradient of 20 steps",
            "geometries": batch,
            "cpu_ms": cpu,
            "wall_ms": wall,
            "cpu_ms_per_geometry": cpu / batch,
        }
    for n in (32, 64, 128):
        cpu, wall = cpu_ms(forward(n, 65), geometries(n, 1))
        yield {"what": f"{n}², 65 steps", "geometries": 1, "cpu_ms": cpu, "wall_ms": wall}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=16, help="geometries to count iterations on")
    options = parser.parse_args()

    def rows():
        yield from iterations(options.runs)
        yield from speed()
        yield {"what": "load average at the end", "load_average": os.getloadavg()[0]}

    record("buoyancy", f"taskset -c 0 python benchmarks/buoyancy.py --runs {options.runs}", rows())


if __name__ == "__main__":
    main()
