"""Noisy Lorenz-63 over .3 time units from its attractor, as `examples/lorenz.py` has it: what three benchmarks ask."""

import diffrax as dfx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx


def velocity(t, x, args):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


P, g, TS = sx.Drift(velocity), sx.Diffusion(2.0), np.linspace(0.0, 0.3, 61)


def on_attractor(count, key, noise_key):
    """States after six time units from anywhere."""
    warm_up, end = np.linspace(0.0, 6.0, 1201), dfx.SaveAt(t1=True)
    return sx.solve(P + g, jr.normal(key, (count, 3)) + 20, warm_up, key=noise_key, saveat=end)[:, 0]
