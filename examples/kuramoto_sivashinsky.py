"""Kuramoto-Sivashinsky chaos backwards, in one file: what did a noisy flame front look like some time ago?

    ∂u/∂t = -½ ∂(u²)/∂x - ∂²u/∂x² - ∂⁴u/∂x⁴ + .2 dW/dt    on 64 points of a circle of length 22

Short waves decay at rates up to k⁴ = 7,000 and grow as fast backwards. The score is counted from that dissipation D,
so that it runs forward in both directions of time, and the stiff part is solved exactly.

python examples/kuramoto_sivashinsky.py    # minutes; --T 10 needs the training of benchmarks/kuramoto_sivashinsky.py
"""

import pathlib
from typing import Literal

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx

N, LENGTH = 64, 22.0
K = 2 * np.pi / LENGTH * jnp.arange(N // 2 + 1)
SMOOTH = jnp.arange(N // 2 + 1) < N / 3  # the two thirds of the waves that a product of fields does not alias


class Dissipation(eqx.Module):
    """The linear part where it decays: a rate that states what is stiff in it."""

    __call__ = lambda self, t, u, args: self.linear(t)(u)  # noqa: E731
    linear = lambda self, t: sx.Fourier(jnp.minimum(K**2 - K**4, 0))  # noqa: E731


def conservation(t, u, args):
    """Everything else: steepening, and the long waves that grow."""
    waves = jnp.fft.rfft(u)
    steepening = -0.5j * K * SMOOTH * jnp.fft.rfft(jnp.fft.irfft(SMOOTH * waves, N) ** 2)
    return jnp.fft.irfft(steepening + jnp.maximum(K**2 - K**4, 0) * waves, N)


A, D = sx.Drift(conservation, name="A"), sx.Drift(Dissipation(), name="D")
P, g = A + D, sx.Diffusion(0.2)


def learn(T, many, stage, key, width=24):
    """A score; the trajectories that it was learned from, and a twentieth that it was not."""
    k, ts, end = jr.split(key, 5), np.linspace(0, T, 101 if T < 4 else 251), dfx.SaveAt(t1=True)
    starts = sx.solve(P + g, jr.normal(k[0], (many, N)) / 2, np.linspace(0, 60, 1501), key=k[1], saveat=end)[:, 0]
    paths = sx.simulate(P + g, starts, ts, key=k[2])
    # A convolutional network between the data's moments, wave by wave, around D.
    held, paths = paths[: many // 20], paths[many // 20 :]
    net = sx.nn.DilResNet((N,), width=width, blocks=2, dilations=(1, 2, 4, 8, 4, 2, 1), key=k[3])
    s = sx.Score(sx.nn.Whitened(net, paths, basis=sx.Fourier.like), g, around=D)
    return sx.fit(-P + 2 * s, paths, key=k[4], curriculum=[stage]), paths, held


def main(preset: Literal["cpu", "smoke"] = "cpu", T: float = 2.0, out: pathlib.Path = pathlib.Path("runs/ks")) -> None:
    """Simulate, learn, judge by held-out trajectories, draw a figure; `smoke` does it in seconds, and means nothing."""
    many, width, updates, batch, n = (8000, 24, 4000, 256, 100) if preset == "cpu" else (400, 2, 10, 8, 20)
    s, paths, held = learn(T, many, sx.Stage(updates=updates, batch=batch), jr.key(0), width)
    print(sx.check_references(P + g, paths, basis=sx.Fourier.like))
    # Are the answers right, wave by wave? And are they better than a linear update of the ensemble?
    print(sx.calibrate(-P + 2 * s + g, held[:n], key=jr.key(1), n=n, basis=sx.Fourier.like))
    learned = sx.posterior(-P + 2 * s + g, held.end[:n][:40], paths.ts[::-1], n, key=jr.key(2))
    linear = sx.ensemble_smoother(paths.start, paths.end, held.end[:n][:40], n, key=jr.key(2))
    learned_crps, linear_crps = (sx.metrics.crps(x, held.start[:n][:40]).mean() for x in (learned, linear))
    print(f"CRPS: {learned_crps:.4f}, of the ensemble Kalman smoother {linear_crps:.4f}")
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.8), layout="constrained", dpi=160)
    figure.suptitle("draws of the start (blue), the start, the observed end (dotted)")
    for i, ax in enumerate(axes):
        ax.plot(learned[:20, i].T, color="tab:blue", lw=0.4)
        ax.plot(held.start[i], "k", held.end[i], "k:", lw=1)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ks.png")


if __name__ == "__main__":
    tyro.cli(main)
