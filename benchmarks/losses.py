"""Which loss learns a score best: windows of 2 to 32 states, by methods of first and second order, or transitions?

On noisy Lorenz-63, on the toy problem, and on heat of 16 × 16 pixels with the paper's network and a thin one of its
kind, at 100, 10 and 1 % of the trajectories, and with a quarter or a tenth of the steps: the error of posterior samples
(by the solver that belongs to the loss), the CPU seconds of training, and how noisy the gradients are.

python benchmarks/losses.py             # Lorenz-63 and the toy
python benchmarks/losses.py heat        # by the thin network
python benchmarks/losses.py paper       # heat by the paper's, from 100 and 10 % of the trajectories
python benchmarks/losses.py paper few   # and from 1 % of them, and by few steps
"""

import sys
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

KEY = jr.key(0)


class Problem(NamedTuple):
    """What is learned, and how long.

    Attributes:
        P: the physics.
        g: the noise.
        starts: of the trajectories.
        ts: their times.
        fewer: every how manieth time is kept of few steps.
        net: the network.
        ends: what the posterior is asked of.
        error: what draws are held against.
        first: the method of first order, for training and sampling.
        second: that of second order for training. The default of fresh scores; named, because the score whose gradients
            are compared remembers its training.
        sampler: that of second order for sampling.
        updates: of each training.
        draws: of each end.
        batch: how many windows an update has, given their states.
        around: what the score is counted from, if not from the Gaussian of the data.
    """

    P: sx.Drift
    g: sx.Diffusion
    starts: jax.Array
    ts: np.ndarray
    fewer: int
    net: Any
    ends: jax.Array
    error: Callable[[jax.Array], dict[str, Any]]
    first: dfx.AbstractSolver = dfx.Euler()
    second: dfx.AbstractSolver = dfx.Heun()
    sampler: dfx.AbstractSolver = dfx.ShARK()
    updates: int = 4000
    draws: int = 2000
    batch: Callable[[int], int] = lambda window: 256
    around: sx.Drift | None = None

    def methods(self):
        """Name, loss, states of a window, solver of the draws."""
        yield f"window 2, {type(self.first).__name__}", sx.WindowLoss(solver=self.first), 2, self.first
        for window in (2, 4, 8, 16, 32):
            yield f"window {window}", sx.WindowLoss(solver=self.second), window, self.sampler
        yield "transition", sx.TransitionLoss(), 2, self.sampler


def lorenz():
    """Noisy Lorenz-63 over .3 time units from its attractor: four ends, beside brute force."""
    k = jr.split(KEY, 6)
    attractor = on_attractor(100_000, k[0], k[1])
    xT = sx.simulate(P + g, attractor[-4:], TS, key=k[3]).end
    truth = sx.exact.neighbours(P + g, attractor, TS, xT, 2000, key=k[4], simulations=2_000_000)

    def error(x0):
        apart = [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(4)]
        return {"energy distance": apart, "own error": truth.error.tolist()}

    return Problem(P, g, attractor[:5000], TS, 4, sx.nn.MLP(shape=(3,), widths=(64, 64, 64), key=k[5]), xT, error)


def toy():
    """README's problem: P(+1) at 21 ends, beside the Fokker-Planck equation."""
    P, g = sx.Drift(lambda t, x, args: -7 * jnp.sign(x) * x**2), sx.Diffusion(0.03)
    exact = sx.exact.FokkerPlanck1D(P.f, 0.03, sx.exact.GaussianMixture([-1.0, 1.0]), 10)
    ends = jnp.linspace(-0.1, 0.1, 21)
    truth = exact.component_probabilities(10.0, ends)[:, 1]
    starts = jnp.where(jnp.arange(2500) % 2 == 0, 1.0, -1.0)
    ts = 10 * np.linspace(0.0, 1.0, 501) ** 1.5

    def error(x0):
        return {"P(+1) off": float(jnp.abs(jnp.mean(x0 > 0, axis=0) - truth).max())}

    return Problem(P, g, starts, ts, 10, sx.nn.MLP(key=jr.split(KEY, 6)[5]), ends, error)


def heat():
    """Fields of 16 × 16 pixels that conduct heat, whose posterior is closed form; by a convolutional network.

    Counted from the physics, between the moments of pixels: that the score is a filter, the network has to learn. It is
    evaluated equally often for windows of any length, by smaller batches.
    """
    n, T = 16, 0.2
    exact = sx.exact.LinearGaussianField(sx.exact.power_law_field(n), g=0.1)
    x0 = jax.vmap(lambda key: exact.sample_prior(key=key))(jr.split(KEY, 5016))
    xT = jax.vmap(lambda x, key: exact.simulate(T, x, key=key))(x0[-16:], jr.split(jr.key(1), 16))
    mean = jax.vmap(lambda x: exact.posterior_mean(T, x))(xT)
    waves = np.fft.fftfreq(n, 1 / n)
    rings = np.rint(np.hypot(*np.meshgrid(waves, waves))).astype(int)
    deviation = np.sqrt(np.asarray(exact.posterior_variances(T)))

    def error(x0):
        modes = np.fft.fft2(np.asarray(x0 - mean), norm="ortho")
        z = [modes[..., rings == k] / deviation[rings == k] for k in range(1, n // 2 + 1)]
        means = [float(np.sqrt(np.mean(np.abs(ring.mean(axis=0)) ** 2))) for ring in z]
        variances = [float(np.mean(ring.var(axis=0, ddof=1))) for ring in z]
        return {"mean off": max(means), "variance": [min(variances), max(variances)]}

    P, g = sx.Drift(sx.physics.Heat(n)), sx.Diffusion(0.1)
    net = sx.nn.ResNet((n, n), width=8, blocks=1, key=jr.split(KEY, 6)[5])
    how = {"first": sx.ExponentialEuler(), "second": sx.ExponentialHeun(), "sampler": sx.ExponentialHeun()}
    ts, batch = T * np.linspace(0.0, 1.0, 33) ** 2, lambda window: max(1, 64 // (window - 1))
    return Problem(P, g, x0[:5000], ts, 4, net, xT, error, **how, updates=2000, draws=200, batch=batch, around=P)


def paper():
    """The same by the paper's network of 330,754 weights, seventy times as many, in batches of a quarter."""
    net = sx.nn.ResNet((16, 16), key=jr.split(KEY, 6)[5])
    return heat()._replace(net=net, draws=50, batch=lambda window: max(1, 16 // (window - 1)))


def gradient_noise(reverse, loss, trained, paths, window, batch):
    """E|∇ - E∇|² / |ΔE∇|²: a batch's noise beside what changes in the mean where all weights are a tenth larger.

    Of one trained score for all losses, so that they differ in nothing else.
    """
    params, rest = eqx.partition(trained, eqx.is_inexact_array)
    source = paths.source([1])

    @jax.jit
    def gradients(params):
        def gradient(key):
            windows, args = source.draw(size=window, stride=1, batch=batch, key=key)
            return jax.grad(lambda p: loss(reverse + 2 * eqx.combine(p, rest), windows, key, args))(params)

        return jax.lax.map(gradient, jr.split(KEY, 64))

    here, there = gradients(params), gradients(jax.tree.map(lambda w: 1.1 * w, params))
    noise = sum(float(jnp.sum(jnp.var(leaf, axis=0, ddof=1))) for leaf in jax.tree.leaves(here))
    change = jax.tree.map(lambda a, b: jnp.mean(b - a, axis=0), here, there)
    return noise / sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(change))


MANY, FEW = ((1.0, False), (0.1, False)), ((0.01, False), (1.0, True))  # shares of the trajectories, with few steps?


def rows(*problems, data=MANY + FEW):
    for make in problems:
        problem = make()
        P, g, starts = problem.P, problem.g, problem.starts
        for share, long_steps in data:
            stride = problem.fewer if long_steps else 1
            few = starts[: round(share * len(starts))]
            paths = sx.simulate(P + g, few, problem.ts[::stride], key=jr.split(KEY, 6)[2])
            common = None
            for name, loss, window, solver in problem.methods():
                if window > len(paths.ts):
                    continue
                batch = problem.batch(window)
                s = sx.Score(sx.nn.Whitened(problem.net, paths), g, around=problem.around)
                curriculum, started = [sx.Stage(window, problem.updates, 2e-3, batch=batch)], time.process_time()
                s = sx.fit(-P + 2 * s, paths, key=KEY, loss=loss, curriculum=curriculum)
                seconds, common = time.process_time() - started, s if common is None else common
                x0 = sx.posterior(-P + 2 * s + g, problem.ends, paths.ts[::-1], problem.draws, key=KEY, solver=solver)
                noise = gradient_noise(-P, loss, common, paths, window, batch)
                row = {"problem": make.__name__, "loss": name, "trajectories": len(paths)}
                row |= {"steps": len(paths.ts) - 1, "training CPU s": seconds}
                yield row | problem.error(x0) | {"gradient noise": noise}


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            record("losses", "python benchmarks/losses.py", rows(lorenz, toy))
        case ["heat"]:
            record("losses_heat", "python benchmarks/losses.py heat", rows(heat))
        case ["paper"]:
            record("losses_paper", "python benchmarks/losses.py paper", rows(paper, data=MANY))
        case ["paper", "few"]:
            record("losses_paper_few", "python benchmarks/losses.py paper few", rows(paper, data=FEW))
        case _:
            sys.exit(__doc__)
