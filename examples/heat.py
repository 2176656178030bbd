"""The stochastic heat equation backwards (arXiv:2301.10250, §4.2), in one file: which field was it?

    ∂x/∂t = Δx + .1 dW/dt    on 32 × 32 periodic pixels,    t in [0, .2]

Linear and Gaussian, so the posterior of x₀ given x_T is closed form: learned answers beside exact ones.

python examples/heat.py    # three minutes on two cores, most of them training
"""

import pathlib
from functools import partial
from typing import Literal

import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
import tyro

import smdpx as sx

N, T, G = 32, 0.2, 0.1


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/heat")) -> None:
    """Simulate, learn, print a table, draw a figure; `smoke` does it in seconds, and its numbers mean little."""
    many, cases, draws, updates, rate = (2500, 200, 32, 4000, 0.05) if preset == "cpu" else (64, 3, 4, 100, 0.5)
    k = jr.split(jr.key(0), 6)

    # Physics that is stiff, noise, and a solver that is exact in the stiff part; steps that are short near t = 0.
    P, g = sx.Drift(sx.physics.Heat(N)), sx.Diffusion(G)
    solver, ts = sx.ExponentialEuler(), T * np.linspace(0, 1, 33) ** 2

    # Start fields to train on, simulated anew for every update; and cases whose start we pretend not to know.
    fresh = sx.FreshPaths(P + g, sx.data.gaussian_random_fields(many, N, key=k[0]), ts, windows=32, solver=solver)
    x0 = sx.data.gaussian_random_fields(cases, N, key=k[1])
    xT = sx.simulate(P + g, x0, ts, key=k[2], solver=solver).end

    # The score: a number for each wavenumber and time. A network for fields, `sx.nn.ResNet(N, key=...)`, goes here too.
    s = sx.Score(sx.nn.FourierFilter(N, t_max=T, t_min=T / 1024, nodes=32, scale=1 / (G**2 * T)), g)
    # Adam that forgets in 50 updates, as the score's size falls by 10⁵ at long waves, and its gradient's with it.
    adam, loss, curriculum = partial(optax.adam, b2=0.98), sx.WindowLoss(solver=solver), [sx.Stage(2, updates, rate)]
    s = sx.fit(-P + 2 * s, fresh, key=k[3], loss=loss, curriculum=curriculum, optimizer=adam)

    # One score, three equations, three answers; each beside its exact counterpart.
    exact, back = sx.exact.LinearGaussianField(sx.exact.power_law_field(N), g=G), ts[::-1]
    samples = sx.posterior(-P + 2 * s + g, xT, back, draws, key=k[4], solver=solver)
    draw = jax.vmap(lambda x, key: exact.sample_posterior(T, x, key=key))
    exact_samples = jax.jit(jax.vmap(draw, (None, 0)))(xT, jr.split(k[5], (draws, cases)))
    answers = {
        "exact posterior mean": jax.jit(jax.vmap(lambda x: exact.posterior_mean(T, x)))(xT),
        "`-P + 2*s`": sx.point_estimate(-P + 2 * s, xT, back, solver=solver),
        "exact posterior sample": exact_samples[0],
        "`-P + 2*s + g`": samples[0],
        "exact probability flow": jax.jit(jax.vmap(lambda x: exact.probability_flow(T, x)))(xT),
        "`-P + s`": sx.point_estimate(-P + s, xT, back, solver=solver),
    }
    conduct = partial(exact.decay, T)
    print("| answer | reconstruction MSE, 10⁻⁵ | MSE to x₀ | spectral error |\n|---|---|---|---|")
    for name, x in answers.items():
        again = sx.metrics.reconstruction_error(conduct, x, xT)
        print(f"| {name} | {1e5 * again:.2f} | {np.mean((x - x0) ** 2):.4f} | {sx.metrics.spectral_error(x, x0):.3f} |")
    ratios = [sx.metrics.spread_skill(x, x0).ratio for x in (exact_samples, samples)]
    print(f"\nSpread of the samples over their error: exact {ratios[0].mean():.2f}, learned {ratios[1].mean():.2f}.")
    shown = {"true start": x0, "observed end": xT, **answers}
    figure, axes = plt.subplots(3, len(shown), figsize=(13, 5), layout="constrained", dpi=160)
    for column, (name, x) in zip(axes.T, shown.items(), strict=True):
        column[0].set_title(name, fontsize=8)
        for ax, image in zip(column, x, strict=False):
            ax.imshow(image, cmap="RdBu_r", vmin=-3, vmax=3)
            ax.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "heat.png")
    print(f"\n{out}/heat.png shows three cases. Three seeds, baselines, windows, shifted physics and other solvers,")
    print("the paper's tables in full, are `python examples/paper/heat/main.py` (half an hour).")


if __name__ == "__main__":
    tyro.cli(main)
