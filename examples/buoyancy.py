"""Smoke backwards, in one file: how did this plume find its way around the obstacles?

    ∂m/∂t + w·∇m = inflow,    ∂w/∂t + w·∇w = -∇p + .1 m ŷ,    ∇·w = 0    on 32 × 32 cells of a closed box

Each run has obstacles of its own, a condition. Nothing else is random, so states are blurred by σ = g√Δt = .1
(arXiv:2301.10250, §4.3 and appendix A.3): a score of blurred states holds what the solver's negative steps lose.

python examples/buoyancy.py                    # minutes on two cores; the data are made once, and kept
python examples/buoyancy.py --preset smoke     # seconds; its numbers mean nothing
"""

import pathlib
from typing import Literal

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx
from smdpx.physics.buoyancy import OnCells


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/buoyancy")) -> None:
    """Make the data, learn, print a table, draw a figure."""
    n, many, cases, updates = (32, 250, 20, 2000) if preset == "cpu" else (8, 16, 2, 2)
    k, g = jr.split(jr.key(0), 4), sx.Diffusion(1.0)

    # A step of the solver, backwards with -dt; frames .01 apart from t = .01 to .65, with the obstacles as `args`.
    flow = sx.physics.Buoyancy(n)
    P = sx.Drift.from_step(flow.step, reverse=sx.negative_step, dt=0.01)
    runs = sx.stored(sx.physics.BuoyancyRuns(flow), many + cases, key=k[0], at=out / "data", chunk=10).load()
    held, paths = runs[:cases], runs[cases:]

    # A dilated network on the cells, between the blurred states' own moments, on longer and longer windows.
    blurred = sx.Perturbed(paths, g)
    net = sx.nn.DilResNet(n, width=16, blocks=2, dilations=(1, 2, 4, 2), channels=(6, 3), boundary="zero", key=k[1])
    s = sx.Score(sx.nn.Whitened(OnCells(net), blurred), g)
    stages = [(2, updates, 1e-3), (4, updates // 6, 5e-4), (6, updates // 12, 3e-4)]
    curriculum = [sx.Stage(*stage, batch=16) for stage in stages[: 3 if preset == "cpu" else 1]]
    s = sx.fit(-P + 2 * s, blurred, key=k[2], curriculum=curriculum)

    # Back to the first frame: the solver alone, and beside the score in three ways.
    back, shown, frames = np.asarray(held.ts)[::-1], {"truth": held.x.marker}, (5, 10, 20, 30, 64)
    print(f"| answer | error of the marker {', '.join(map(str, frames))} frames back |\n|---|---|")
    equations = {"`-P`": -P, "`-P + s`": -P + s, "`-P + 2*s`": -P + 2 * s, "`-P + 2*s + g`": -P + 2 * s + g}
    for name, equation in equations.items():
        noise = k[3] if isinstance(equation, sx.SDE) else None
        x = sx.solve(equation, held.end, back, args=held.args, key=noise).marker[:, ::-1]
        off = [np.mean((x - held.x.marker)[:, 64 - m] ** 2) / np.mean(held.x.marker[:, 64 - m] ** 2) for m in frames]
        shown[name] = x
        print(f"| {name} | {' '.join(f'{value**0.5:.2f}' for value in off)} |")

    figure, axes = plt.subplots(len(shown), 5, figsize=(7, 1.4 * len(shown)), layout="constrained", dpi=150)
    for line, (name, x) in zip(axes, shown.items(), strict=True):
        line[0].set_ylabel(name.strip("`"), fontsize=7)
        for ax, m in zip(line, (64, 49, 34, 19, 4), strict=True):
            ax.imshow(x[0, m].T, origin="lower", cmap="magma", vmin=0, vmax=held.x.marker[0, m].max())
            ax.imshow(np.where(held.args.value[0], 0.5, np.nan).T, origin="lower", cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[], title=f"t = {held.ts[m]:.2f}" if name == "truth" else "")
    figure.savefig(out / "buoyancy.png")
    print(f"\n{out}/buoyancy.png shows one case. Three seeds, split steps, no physics, L-BFGS and DPS:")
    print("`python examples/paper/buoyancy/main.py`.")


if __name__ == "__main__":
    tyro.cli(main)
