"""Which loss learns the score of Lorenz-63 best: windows of 2 to 8 states, through Euler and Heun, or transitions?

At 100, 10 and 1 % of 5,000 trajectories, and with 15 steps in place of 60: the energy distance of posterior samples (by
the solver that belongs to the loss) to brute force, the CPU seconds of training, and how noisy the gradients are.

python benchmarks/losses.py
"""

import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
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


def gradient_noise(loss, trained, paths, window):
    """E|∇ - E∇|² / |ΔE∇|²: a batch's noise beside what changes in the mean where all weights are a tenth larger.

    Of one trained score for all losses, so that they differ in nothing else.
    """
    params, rest = eqx.partition(trained, eqx.is_inexact_array)
    source = paths.source([1])

    @jax.jit
    def gradients(params):
        def gradient(key):
            windows, args = source.draw(size=window, stride=1, batch=BATCH, key=key)
            return jax.grad(lambda p: loss(-P + 2 * eqx.combine(p, rest), windows, key, args))(params)

        return jax.lax.map(gradient, jr.split(KEY, 64))

    here, there = gradients(params), gradients(jax.tree.map(lambda w: 1.1 * w, params))
    noise = sum(float(jnp.sum(jnp.var(leaf, axis=0, ddof=1))) for leaf in jax.tree.leaves(here))
    change = jax.tree.map(lambda a, b: jnp.mean(b - a, axis=0), here, there)
    return noise / sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(change))


def rows():
    k = jr.split(KEY, 6)
    warm_up, end = np.linspace(0.0, 6.0, 1201), dfx.SaveAt(t1=True)
    attractor = sx.solve(P + g, jr.normal(k[0], (100_000, 3)) + 20, warm_up, key=k[1], saveat=end)[:, 0]
    fine = np.linspace(0.0, 0.3, 61)
    xT = sx.simulate(P + g, attractor[-4:], fine, key=k[3]).end
    truth = sx.exact.neighbours(P + g, attractor, fine, xT, DRAWS, key=k[4], simulations=2_000_000)
    for steps, count in ((60, 5000), (60, 500), (60, 50), (15, 5000)):
        paths = sx.simulate(P + g, attractor[:count], fine[:: 60 // steps], key=k[2])
        common = None
        for name, (loss, window) in METHODS.items():
            s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(3,), widths=(64, 64, 64), key=k[5]), paths), g)
            curriculum, started = [sx.Stage(window, UPDATES, 2e-3, batch=BATCH)], time.process_time()
            s = sx.fit(-P + 2 * s, paths, key=k[5], loss=loss, curriculum=curriculum)
            seconds = time.process_time() - started
            common = s if common is None else common
            solver = EULER if "Euler" in name else dfx.ShARK()
            x0 = sx.posterior(-P + 2 * s + g, xT, paths.ts[::-1], DRAWS, key=k[3], solver=solver)
            apart = [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(4)]
            noise = gradient_noise(loss, common, paths, window)
            row = {"loss": name, "trajectories": count, "steps": steps, "energy distance": apart}
            yield row | {"training CPU s": seconds, "gradient noise": noise, "own error": truth.error.tolist()}


if __name__ == "__main__":
    record("losses", "python benchmarks/losses.py", rows())
