"""Buoyancy-driven flow: what steps, gradients and posteriors cost, how that grows, and the pressure's iterations.

taskset -c 0 python benchmarks/buoyancy.py            # a minute on one core; --runs 4 for less
"""

import argparse
import os
import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import paired, record

import smdpx as sx
from smdpx.physics import Buoyancy, buoyancy as b

DT = 0.01


def geometries(n, runs):
    """Masks of random obstacles, (runs, n, n)."""
    return jax.vmap(lambda key: b.solid(b.draw_obstacles(key), n=n))(jr.split(jr.key(0), runs))


def copies(n, runs):
    """The first of them, over and over."""
    return jnp.repeat(geometries(n, 1), runs, axis=0)


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
    run, start, slope = forward(64, 65), forward(64, 30), gradient(64, 20)
    for of, geometries_of in (("", geometries), (", copies of one geometry", copies)):
        for batch in (1, 4, 16):
            masks = geometries_of(64, batch)
            health = run(masks)[1][1]
            cpu, wall = cpu_ms(run, masks)
            row = {"what": f"64², 65 steps{of}", "geometries": batch, "cpu_ms": cpu, "wall_ms": wall}
            # All of a batch go on until the last of them is done.
            slowest = float(health.iterations.max(axis=0).mean())
            yield row | {"cpu_ms_per_geometry": cpu / batch, "iterations_a_step": slowest}
        for batch in (1, 4, 16):
            masks = geometries_of(64, batch)
            cpu, wall = cpu_ms(slope, start(masks)[0], masks)
            row = {"what": f"64², gradient of 20 steps{of}", "geometries": batch, "cpu_ms": cpu, "wall_ms": wall}
            yield row | {"cpu_ms_per_geometry": cpu / batch}
    for n in (32, 64, 128):
        cpu, wall = cpu_ms(forward(n, 65), geometries(n, 1))
        yield {"what": f"{n}², 65 steps", "geometries": 1, "cpu_ms": cpu, "wall_ms": wall}


@eqx.filter_jit
def by_hand(flow, net, ends, masks, key, ts):
    """Samples of -P + 2*s + g with g = 1: the solver's step with -dt, the network and noise, in a scan."""

    def step(x, inputs):
        t, key = inputs
        back = jax.vmap(lambda x, mask: flow.step(t, x, -DT, mask))(x, masks)
        score = jax.vmap(lambda x, mask: net(t, x, mask))(x, masks)
        keys = jr.split(key, 3)
        noise = [jr.normal(key, leaf.shape) for key, leaf in zip(keys, x, strict=True)]
        parts = zip(back, score, noise, strict=True)
        return b.StaggeredState(*(x + DT * s + DT**0.5 * z for x, s, z in parts)), None

    return jax.lax.scan(step, ends, (ts[:-1], jr.split(key, len(ts) - 1)))[0]


def posterior(n=32, steps=20, each=8):
    """A posterior of 64 trajectories beside a hand-written loop over batches of eight: both march in batches."""
    flow, cases = Buoyancy(n), 8
    masks = geometries(n, cases)
    ends = forward(n, 65)(masks)[0]
    shape = {"width": 16, "blocks": 2, "channels": (6, 3), "boundary": "zero"}
    net = b.OnCells(sx.nn.DilResNet(n, **shape, key=jr.key(1)))
    g, ts = sx.Diffusion(1.0), 0.65 - DT * np.arange(steps + 1)
    P, s = sx.Drift.from_step(flow.step, reverse=sx.negative_step, dt=DT), sx.Score(net, g)
    how = {"args": flow.obstacles(masks), "key": jr.key(2), "solver": dfx.Euler(), "saveat": dfx.SaveAt(t1=True)}
    ours = lambda: sx.posterior(-P + 2 * s + g, ends, ts, each, **how)  # noqa: E731
    theirs = lambda: by_hand(flow, net, ends, masks, jr.key(2), jnp.asarray(ts, float))  # noqa: E731
    found = paired(ours, theirs, rounds=7)
    # So many times what the loop takes for its one batch.
    found |= {name: value / each for name, value in found.items() if name == "ratio"}
    found["ratio_quartiles"] = [value / each for value in found["ratio_quartiles"]]
    yield {"what": f"{n}², a posterior of 64 trajectories / {each} loops by hand of {cases}", "steps": steps} | found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=16, help="geometries to count iterations on")
    options = parser.parse_args()

    def rows():
        yield from iterations(options.runs)
        yield from speed()
        yield from posterior()
        yield {"what": "load average at the end", "load_average": os.getloadavg()[0]}

    record("buoyancy", f"taskset -c 0 python benchmarks/buoyancy.py --runs {options.runs}", rows())


if __name__ == "__main__":
    main()
