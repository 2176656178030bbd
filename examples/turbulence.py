"""Turbulence backwards with physics that nobody gives, in one file: which eddies became these ten time units ago?

    ∂ω/∂t + u·∇ω = 10⁻⁵ Δω + .1 (sin 2π(x + y) + cos 2π(x + y))    on 32 × 32 points of a torus, a frame a time unit

All that is known are frames. A Fourier neural operator R learns to step back from each to the one before; beside it,
with R frozen, a score learns the law of frames that are blurred by σ = .05: such data have no noise, so it is put in.

python examples/turbulence.py                    # ten minutes on two cores; the data are made once, and kept
python examples/turbulence.py --preset smoke     # seconds; its numbers mean nothing
"""

import pathlib
from typing import Literal

import diffrax as dfx
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import tyro

import smdpx as sx


def main(preset: Literal["cpu", "smoke"] = "cpu", out: pathlib.Path = pathlib.Path("runs/turbulence")) -> None:
    """Make the data, learn, print a table, draw a figure."""
    n, many, updates, cases = (32, 1000, 1500, 50) if preset == "cpu" else (16, 24, 4, 8)
    k, g = jr.split(jr.key(0), 8), sx.Diffusion(0.05)

    # The data: vorticity of Li et al. (2021), solved on twice the points; a store on disk, made once.
    recipe = sx.physics.TurbulenceRuns(n=n, n_solve=2 * n, dt=0.05)
    frames = sx.stored(recipe, many + cases, key=k[0], at=out / "data", chunk=50).load()
    held, paths = frames[:cases], frames[cases:]

    # The surrogate: a map from frame to frame, so Euler's method with its step; first single steps, then several.
    euler = sx.WindowLoss(solver=dfx.Euler())
    stages = [sx.Stage(2, updates, 2e-3, batch=20), sx.Stage(4, max(1, updates // 5), 5e-4, batch=20)]
    R = sx.ReverseDrift(sx.nn.FNO(n // 4, 12, key=k[1]))
    R = sx.fit(R, paths, key=k[2], loss=euler, curriculum=stages)

    # The score, between the blurred frames' own Fourier moments. Of R + 2*s it alone is trained.
    blurred = sx.Perturbed(paths, g)
    net = sx.nn.Whitened(sx.nn.ResNet((n, n), width=12, blocks=1, key=k[3]), blurred, basis=sx.Fourier.like)
    s = sx.Score(net, g)
    s = sx.fit(R + 2 * s, blurred, key=k[4], curriculum=[sx.Stage(2, max(1, updates // 3), batch=16)])

    # Four answers. Solvers are not named: surrogate and score remember what they were trained through.
    back, answers = held.ts[::-1], {}
    for name, equation in {"`R`": R, "`R + s`": R + s, "`R + 2*s`": R + 2 * s, "`R + 2*s + g`": R + 2 * s + g}.items():
        answers[name] = sx.solve(equation, held.end, back, key=k[5] if isinstance(equation, sx.SDE) else None)[:, -1]
    linear = sx.ensemble_smoother(paths.start, paths.end, held.end, 1, key=k[6], noise=0.05)[0]
    answers["ensemble Kalman smoother"] = linear
    size, waves = np.sqrt(np.mean(held.start**2)), min(10, n // 2)
    print("| answer | relative error at t = 0 | spectral error |\n|---|---|---|")
    for name, x in answers.items():
        error = np.sqrt(np.mean((x - held.start) ** 2)) / size
        print(f"| {name} | {error:.3f} | {sx.metrics.spectral_error(x, held.start, largest=waves):.3f} |")

    shown = {"end, t = 10": held.end, "start, t = 0": held.start, **answers}
    figure, axes = plt.subplots(3, len(shown), figsize=(12, 5.4), layout="constrained", dpi=160)
    for column, (name, x) in zip(axes.T, shown.items(), strict=True):
        column[0].set_title(name, fontsize=8)
        for ax, field in zip(column, x, strict=False):
            ax.imshow(field.T, origin="lower", cmap="RdBu_r", vmin=-3 * x.std(), vmax=3 * x.std())
            ax.axis("off")
    figure.savefig(out / "turbulence.png")
    print(f"\n{out}/turbulence.png shows three cases. Three seeds, both trained at once, the true solver, calibration:")
    print("`python examples/paper/turbulence/main.py` (half an hour).")


if __name__ == "__main__":
    tyro.cli(main)
