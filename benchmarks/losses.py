"""Which loss learns the score of Lorenz-63 best: windows of 2 to 8 states, through Euler and Heun, or transitions?

At 100, 10 and 1 % of 5,000 trajectories, and with 15 steps in place of 60: the energy distance of posterior samples (by
the solver that belongs to the loss) to brute force, the CPU seconds of training, and how noisy the first gradients are.

python benchmarks/losses.py
"""

import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from _measure import record

import smdpx as sx

EULER = dfx.Euler()
METHODS = {
    "window 2, Euler": (sx.WindowLoss(solver=EULER), 2),
    "window 2": (sx.WindowLoss(), 2),
    "window 4": (sx.WindowLoss(), 4),
    "window 8": (sx.WindowLoss(), 8),
    "transition": (sx.TransitionLoss(), 2),
}
UPDATES, BATCH, DRAWS, KEY = 4000, 256, 2000, jr.key(0)


def velocity(t, x, args):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


P, g = sx.Drift(velocity), sx.Diffusion(2.0)


def gradient_noise(loss, equation, paths, window):
    """E|∇ - E∇|² / |E∇|² of a batch, at the start of the training."""
    params, rest = eqx.partition(equation, eqx.is_inexact_array)
    source = paths.source([1])

    @jax.jit
    def gradient(key):
        windows, args = source.draw(size=window, stride=1, batch=BATCH, key=key)
        return jax.grad(lambda p: loss(eqx.combine(p, rest), windows, key, args))(params)

    each = jtu.tree_leaves(jax.lax.map(gradient, jr.split(KEY, 64)))
    noise = sum(float(jnp.sum(jnp.var(leaf, axis=0, ddof=1))) for leaf in each)
    return noise / (sum(float(jnp.sum(jnp.mean(leaf, axis=0) ** 2)) for leaf in each) - noise / 64)


def rows():
    k = jr.split(KEY, 6)
    warm_up, end = np.linspace(0.0, 6.0, 1201), dfx.SaveAt(t1=True)
    attractor = sx.solve(P + g, jr.normal(k[0], (100_000, 3)) + 20, warm_up, key=k[1], saveat=end)[:, 0]
    fine = np.linspace(0.0, 0.3, 61)
    xT = sx.simulate(P + g, attractor[-4:], fine, key=k[3]).end
    truth = sx.exact.neighbours(P + g, attractor, fine, xT, DRAWS, key=k[4], simulations=2_000_000)
    for steps, count in ((60, 5000), (60, 500), (60, 50), (15, 5000)):
        paths = sx.simulate(P + g, attractor[:count], fine[:: 60 // steps], key=k[2])
        for name, (loss, window) in METHODS.items():
            s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(3,), widths=(64, 64, 64), key=k[5]), paths), g)
            noise = gradient_noise(loss, -P + 2 * s, paths, window)
            curriculum, started = [sx.Stage(window, UPDATES, 2e-3, batch=BATCH)], time.process_time()
            s = sx.fit(-P + 2 * s, paths, key=k[5], loss=loss, curriculum=curriculum)
            seconds = time.process_time() - started
            solver = EULER if "Euler" in name else dfx.ShARK()
            x0 = sx.posterior(-P + 2 * s + g, xT, paths.ts[::-1], DRAWS, key=k[3], solver=solver)
            apart = [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(4)]
            row = {"loss": name, "trajectories": count, "steps": steps, "energy distance": apart}
            yield row | {"training CPU s": seconds, "gradient noise": noise, "own error": truth.error.tolist()}


if __name__ == "__main__":
    record("losses", "python benchmarks/losses.py", rows())
