"""Which loss learns a score best: windows of 2 to 32 states, through Euler and Heun, or transitions?

On noisy Lorenz-63 and on the toy problem, at 100, 10 and 1 % of the trajectories, and with a quarter or a tenth of the
steps: the error of posterior samples (by the solver that belongs to the loss), the CPU seconds of training, and how
noisy the gradients are.

python benchmarks/losses.py
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _lorenz import TS, P, g, on_attractor
from _measure import record

import smdpx as sx

# The default of fresh scores is Heun; named, because the score whose gradients are compared remembers its training.
EULER, HEUN = dfx.Euler(), dfx.Heun()
METHODS = {
    "window 2, Euler": (sx.WindowLoss(solver=EULER), 2),
    "window 2": (sx.WindowLoss(solver=HEUN), 2),
    "window 4": (sx.WindowLoss(solver=HEUN), 4),
    "window 8": (sx.WindowLoss(solver=HEUN), 8),
    "window 32": (sx.WindowLoss(solver=HEUN), 32),
    "transition": (sx.TransitionLoss(), 2),
}
UPDATES, BATCH, DRAWS, KEY = 4000, 256, 2000, jr.key(0)


class Problem(NamedTuple):
    """Physics and noise, starts, times, the network's size, ends to start from, and what draws are held against."""

    P: sx.Drift
    g: sx.Diffusion
    starts: jax.Array
    ts: np.ndarray
    fewer: int
    net: dict[str, Any]
    ends: jax.Array
    error: Callable[[jax.Array], dict[str, Any]]


def lorenz():
    """Noisy Lorenz-63 over .3 time units from its attractor: four ends, beside brute force."""
    k = jr.split(KEY, 6)
    attractor = on_attractor(100_000, k[0], k[1])
    xT = sx.simulate(P + g, attractor[-4:], TS, key=k[3]).end
    truth = sx.exact.neighbours(P + g, attractor, TS, xT, DRAWS, key=k[4], simulations=2_000_000)

    def error(x0):
        apart = [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(4)]
        return {"energy distance": apart, "own error": truth.error.tolist()}

    return Problem(P, g, attractor[:5000], TS, 4, {"shape": (3,), "widths": (64, 64, 64)}, xT, error)


def toy():
    """README's problem: P(+1) at 21 ends, beside the Fokker-Planck equation."""
    P, g = sx.Drift(lambda t, x, args: -7 * jnp.sign(x) * x**2), sx.Diffusion(0.03)
    exact = sx.exact.FokkerPlanck1D(P.f, 0.03, sx.exact.GaussianMixture([-1.0, 1.0]), 10)
    ends = jnp.linspace(-0.1, 0.1, 21)
    truth = exact.component_probabilities(10.0, ends)[:, 1]
    starts = jnp.where(jnp.arange(2500) % 2 == 0, 1.0, -1.0)
    ts = 10 * np.linspace(0.0, 1.0, 501) ** 1.5
    return Problem(
        P, g, starts, ts, 10, {}, ends, lambda x0: {"P(+1) off": float(jnp.abs(jnp.mean(x0 > 0, axis=0) - truth).max())}
    )


def gradient_noise(reverse, loss, trained, paths, window):
    """E|∇ - E∇|² / |ΔE∇|²: a batch's noise beside what changes in the mean where all weights are a tenth larger.

    Of one trained score for all losses, so that they differ in nothing else.
    """
    params, rest = eqx.partition(trained, eqx.is_inexact_array)
    source = paths.source([1])

    @jax.jit
    def gradients(params):
        def gradient(key):
            windows, args = source.draw(size=window, stride=1, batch=BATCH, key=key)
            return jax.grad(lambda p: loss(reverse + 2 * eqx.combine(p, rest), windows, key, args))(params)

        return jax.lax.map(gradient, jr.split(KEY, 64))

    here, there = gradients(params), gradients(jax.tree.map(lambda w: 1.1 * w, params))
    noise = sum(float(jnp.sum(jnp.var(leaf, axis=0, ddof=1))) for leaf in jax.tree.leaves(here))
    change = jax.tree.map(lambda a, b: jnp.mean(b - a, axis=0), here, there)
    return noise / sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(change))


def rows():
    for problem in (lorenz, toy):
        P, g, starts, ts, fewer, net, ends, error = problem()
        for share, stride in ((1.0, 1), (0.1, 1), (0.01, 1), (1.0, fewer)):
            paths = sx.simulate(P + g, starts[: round(share * len(starts))], ts[::stride], key=jr.split(KEY, 6)[2])
            common = None
            for name, (loss, window) in METHODS.items():
                if window > 8 and (share < 1 or stride > 1):  # minutes each
                    continue
                s = sx.Score(sx.nn.Whitened(sx.nn.MLP(**net, key=jr.split(KEY, 6)[5]), paths), g)
                curriculum, started = [sx.Stage(window, UPDATES, 2e-3, batch=BATCH)], time.process_time()
                s = sx.fit(-P + 2 * s, paths, key=KEY, loss=loss, curriculum=curriculum)
                seconds, common = time.process_time() - started, s if common is None else common
                solver = EULER if "Euler" in name else dfx.ShARK()
                x0 = sx.posterior(-P + 2 * s + g, ends, paths.ts[::-1], DRAWS, key=KEY, solver=solver)
                noise = gradient_noise(-P, loss, common, paths, window)
                row = {"problem": problem.__name__, "loss": name, "trajectories": len(paths)}
                row |= {"steps": len(paths.ts) - 1, "training CPU s": seconds}
                yield row | error(x0) | {"gradient noise": noise}


if __name__ == "__main__":
    record("losses", "python benchmarks/losses.py", rows())
