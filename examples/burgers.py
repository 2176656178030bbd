"""Stochastic Burgers' equation backwards, in one file: which waves steepened into these shocks?

    ∂u/∂t + u ∂u/∂x = .05 ∂²u/∂x² + .1 dW/dt    on 64 points of a circle of length 2π, over one time unit

A shock swallows what ran into it, so many starts lead to one end. The score is counted from the viscosity, which runs
forward in both directions of time, and that stiff part is solved exactly.

python examples/burgers.py                    # minutes on two cores
python examples/burgers.py --preset smoke     # seconds; its numbers mean nothing
"""

import pathlib
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx

N, TS = 64, np.linspace(0.0, 1.0, 101)
WAVES = jnp.arange(N // 2 + 1)


class Viscosity(eqx.Module):
    """The linear part: a rate that states what is stiff in it, which is all."""

    __call__ = lambda self, t, u, args: self.linear(t)(u)  # noqa: E731
    linear = lambda self, t: sx.Fourier(-0.05 * WAVES**2)  # noqa: E731


A = sx.Drift(lambda t, u, args: sx.physics.Burgers(N, viscosity=0.0)(t, u), name="A")
D, g = sx.Drift(Viscosity(), name="D"), sx.Diffusion(0.1)
P = A + D


def starts(count, key):
    """Random waves of mean 0: smooth fields of standard deviation 1/2."""
    waves = jr.normal(key, (2, count, N // 2 + 1)) * jnp.where(WAVES > 0, 1 / (4 + WAVES**2), 0)
    u = jnp.fft.irfft(waves[0] + 1j * waves[1], N)
    return u / (2 * u.std())


def learn(many, stage, key, width=24):
    """A score; the trajectories that it was learned from, and a twentieth as many that it was not."""
    k = jr.split(key, 4)
    paths = sx.simulate(P + g, starts(many + many // 20, k[0]), TS, key=k[1])
    held, paths = paths[: many // 20], paths[many // 20 :]
    net = sx.nn.DilResNet((N,), width=width, blocks=2, dilations=(1, 2, 4, 8, 4, 2, 1), key=k[2])
    s = sx.Score(sx.nn.Whitened(net, paths, basis=sx.Fourier.like), g, around=D)
    return sx.fit(-P + 2 * s, paths, key=k[3], curriculum=[stage]), paths, held


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/burgers")) -> None:
    """Simulate, learn, judge by held-out trajectories, draw a figure."""
    many, width, updates, batch, n = (8000, 24, 5000, 128, 100) if preset == "cpu" else (400, 2, 10, 8, 20)
    # Four steps in one: a window tells the score but for noise of 1/(g√Δt), and Heun's method errs by Δt² alone.
    stage = sx.Stage(updates=updates, learning_rate=2e-3, batch=batch, stride=4)
    s, paths, held = learn(many, stage, jr.key(0), width)
    print(sx.calibrate(-P + 2 * s + g, held[:n], key=jr.key(1), n=n, basis=sx.Fourier.like))
    learned = sx.posterior(-P + 2 * s + g, held.end[:n][:40], TS[::-1], n, key=jr.key(2))
    linear = sx.ensemble_smoother(paths.start, paths.end, held.end[:n][:40], n, key=jr.key(2))
    learned_crps, linear_crps = (sx.metrics.crps(x, held.start[:n][:40]).mean() for x in (learned, linear))
    print(f"CRPS: {learned_crps:.4f}, of the ensemble Kalman smoother {linear_crps:.4f}")
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.8), layout="constrained", dpi=160)
    figure.suptitle("draws of the start (blue), the start, the observed end (dotted)")
    for i, ax in enumerate(axes):
        ax.plot(learned[:20, i].T, color="tab:blue", lw=0.4)
        ax.plot(held.start[i], "k", held.end[i], "k:", lw=1)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "burgers.png")


if __name__ == "__main__":
    tyro.cli(main)
