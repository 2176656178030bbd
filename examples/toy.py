"""The toy problem of arXiv:2301.10250, §4.1, in one file: which start, +1 or -1, led to this end?

    dx = -7 sign(x) x² dt + .03 dW,    x₀ = ±1,    t in [0, 10]

python examples/toy.py    # the score learned in three ways, beside the exact one: two minutes on two cores
"""

import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx

PAPER = {"one-step": "0.78 / 0.93", "multi-step": "0.97 / 0.99", "ISM": "0.19 / 0.92"}  # table 1, flow and SDE
COLUMNS = ("score", "Q, `-P + s`", "Q, `-P + 2*s + g`", "paper's Q", "error of P(+1)", "slope on the exact score")


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/toy")) -> None:
    """Simulate, learn, print a table, draw a figure; `smoke` does it in seconds, and its numbers mean nothing."""
    many, steps, updates, batch, draws = (2500, 500, 4000, 4096, 4000) if preset == "cpu" else (64, 20, 40, 64, 20)
    k = jr.split(jr.key(0), 6)

    # Physics, noise, and trajectories, at times that are finer at the start.
    P, g = sx.Drift(lambda t, x, args: -7 * jnp.sign(x) * x**2), sx.Diffusion(0.03)
    ts = 10 * np.linspace(0, 1, steps + 1) ** 1.5
    paths = sx.simulate(P + g, np.resize(np.array([-1, 1], "f"), many), ts, key=k[0])

    # The exact answer: the Fokker-Planck equation on a grid.
    exact = sx.exact.FokkerPlanck1D(P.f, 0.03, sx.exact.GaussianMixture([-1.0, 1.0]), 10)

    # One score, trained on other equations and by other losses. Multi-step goes on from one-step with longer windows.
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(key=k[1]), paths), g)
    short = [sx.Stage(2, updates, 3e-3, batch=batch)]
    longer = [sx.Stage(window, updates // (4 * window), 3e-4, batch=batch) for window in (4, 8)]
    one_step = sx.fit(-P + 2 * s, paths, key=k[2], curriculum=short)
    multi_step = sx.fit(-P + 2 * one_step, paths, key=k[3], curriculum=longer)
    ism = sx.fit(-P + s, paths, key=k[2], curriculum=short, loss=sx.ImplicitScoreMatching())
    scores = {"exact": sx.Score(exact.score, g), "one-step": one_step, "multi-step": multi_step, "ISM": ism}

    # Back from 1,000 ends by the probability flow and the SDE; from 11 of them the SDE many times.
    back, ends, few = ts[::-1], np.linspace(-0.1, 0.1, 1000, dtype="f"), np.linspace(-0.1, 0.1, 11, dtype="f")
    truth = exact.component_probabilities(10.0, few)[:, 1]
    times = np.linspace(1, 10, 19)
    fresh = jax.jit(jax.vmap(lambda t, key: exact.sample(t, 500, key=key)))(times, jr.split(k[4], 19)).ravel()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3), layout="constrained", dpi=160)
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    for name, s in scores.items():
        flow = sx.solve(-P + s, ends, back)
        sde = sx.solve(-P + 2 * s + g, ends, back, key=k[5])
        up = jnp.mean(sx.posterior(-P + 2 * s + g, few, back, draws, key=k[5]) > 0, axis=0)
        slope = sx.metrics.score_error(s, exact.score, np.repeat(times, 500), fresh).slope
        Q = [f"{sx.metrics.posterior_metric_q(x[:, -1]):.3f}" for x in (flow, sde)]
        row = (name, *Q, PAPER.get(name, ""), f"{np.abs(up - truth).max():.3f}", f"{slope:.3f}")
        print(f"| {' | '.join(row)} |", flush=True)
        if name == "multi-step":
            sx.plot.paths(left, back, flow[::17])
            sx.plot.paths(middle, back, sde[::17])
        right.plot(few, up, ".", label=name)

    left.set(title="probability flow")
    middle.set(title="reverse-time SDE")
    right.plot(few, truth, "k-", zorder=0)
    right.set(title="P(start was +1 | end)", xlabel="end")
    right.legend(frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "toy.png")
    print(
        f"\n{out}/toy.png shows paths and P(+1). This was one seed and all of the data: three seeds, less data, two-way"
    )
    print("and sliced losses, the paper's tables in full, are `python examples/paper/toy/main.py` (40 minutes).")


if __name__ == "__main__":
    tyro.cli(main)
