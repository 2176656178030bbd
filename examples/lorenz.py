"""Noisy Lorenz-63 backwards, in one file: where on the attractor was the state .3 time units ago?

    dx = 10 (y - x) dt + 2 dW₁,    dy = (x (28 - z) - y) dt + 2 dW₂,    dz = (xy - 8/3 z) dt + 2 dW₃

Chaotic and nonlinear, with no closed form: learned answers beside brute force, and the ensemble Kalman smoother.

python examples/lorenz.py    # three scores, by three solvers, at two numbers of steps: minutes on two cores
"""

import pathlib
import warnings
from typing import Literal

import diffrax as dfx
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx


def velocity(t, x, args):
    """The rate of one state (x, y, z)."""
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/lorenz")) -> None:
    """Simulate, learn, print a table, draw a figure; `smoke` does it in seconds, and its numbers mean nothing."""
    many, updates, draws, brute = (20_000, 12_000, 3000, 4_000_000) if preset == "cpu" else (100, 20, 40, 2000)
    k = jr.split(jr.key(0), 8)

    # Physics, noise, states on the attractor, some of which are starts to learn from, and four ends to ask about.
    P, g, ts = sx.Drift(velocity), sx.Diffusion(2.0), np.linspace(0.0, 0.3, 61)
    warm_up, end = np.linspace(0.0, 6.0, 1201), dfx.SaveAt(t1=True)
    attractor = sx.solve(P + g, jr.normal(k[0], (5 * many, 3)) + 20, warm_up, key=k[1], saveat=end)[:, 0]
    paths = sx.simulate(P + g, attractor[:many], ts, key=k[2])
    xT = sx.simulate(P + g, attractor[-4:], ts, key=k[3]).end

    # The same score learned in three ways: through Euler's method, through Heun's (the default), from the transitions.
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(3,), widths=(96, 96, 96), key=k[4]), paths), g)
    euler, stages = sx.WindowLoss(solver=dfx.Euler()), [sx.Stage(updates=updates, batch=512)]
    losses = {"Euler window": euler, "window": sx.WindowLoss(), "transition": sx.TransitionLoss()}
    scores = {name: sx.fit(-P + 2 * s, paths, key=k[5], loss=loss, curriculum=stages) for name, loss in losses.items()}

    # Brute force: of millions of paths those that end near x_T, not moved, as no regression holds between two branches.
    truth = sx.exact.neighbours(P + g, attractor, ts, xT, draws, key=k[6], simulations=brute, adjust=False)
    # And the usual tool: a linear update of the ensemble.
    answers = {"ensemble Kalman smoother": sx.ensemble_smoother(paths.start, paths.end, xT, draws, key=k[7])}
    warnings.filterwarnings("ignore", message=".*was trained (through|on steps)")  # to show that is the point here
    for name, s in scores.items():
        for solver in (dfx.Euler(), dfx.Heun(), dfx.ShARK(), dfx.SRA1()):
            for steps in (60, 120) if preset == "cpu" else (60,):
                back = np.linspace(0.3, 0.0, steps + 1)
                x0 = sx.posterior(-P + 2 * s + g, xT, back, draws, key=k[7], solver=solver)
                answers[f"{name}; {type(solver).__name__}, {steps} steps"] = x0

    print(truth)
    print("| energy distance to brute force | end 1 | end 2 | end 3 | end 4 |\n|---|---|---|---|---|")
    print(f"| its own error | {' | '.join(f'{error:.4f}' for error in truth.error)} |")
    for name, x0 in answers.items():
        apart = [f"{sx.metrics.energy_distance(x0[:, i], truth.samples[:, i]):.4f}" for i in range(len(xT))]
        print(f"| {name} | {' | '.join(apart)} |", flush=True)

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained", dpi=160)
    for i, ax in enumerate(axes):
        ax.plot(*paths.start[:, ::2].T, ",", color=".8")
        ax.plot(*truth.samples[::3, i, ::2].T, ".", ms=2, label="brute force")
        ax.plot(*answers["window; ShARK, 60 steps"][::3, i, ::2].T, ".", ms=2, label="learned")
        ax.plot(xT[i, 0], xT[i, 2], "k+", ms=9, label="end")
        ax.set(xlabel="x", ylabel="z")
    axes[0].legend(frameon=False, fontsize=8)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "lorenz.png")
    print(f"\n{out}/lorenz.png shows the attractor, four ends, and where each may have begun.")


if __name__ == "__main__":
    tyro.cli(main)
