"""Figures of the toy problem, after figures 2, 8, 9 and 10 of arXiv:2301.10250."""

import pathlib
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx
from toy.evaluate import EULER


def draw_figures(
    out: pathlib.Path,
    P: sx.Drift,
    g: sx.Diffusion,
    start: sx.exact.GaussianMixture,
    ts: np.ndarray,
    exact: sx.exact.FokkerPlanck1D,
    scores: dict[str, sx.Score],
    record: dict[str, Any],
) -> None:
    """Write paths.png, score_fields.png and posterior.png for the scores of one seed each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"figure.dpi": 160, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    best = scores.get("one-step", next(iter(scores.values())))

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 2.9), sharey=True, layout="constrained")
    x0 = start.sample(60, key=jr.key(1))
    ends, back = jnp.linspace(-0.1, 0.1, 60), ts[::-1]
    sx.plot.paths(axes[0], ts, sx.solve(P + g, x0, ts, key=jr.key(2), solver=EULER), colour_by=0)
    sx.plot.paths(axes[1], back, sx.solve(-P + best, ends, back, solver=EULER))
    sx.plot.paths(axes[2], back, sx.solve(-P + 2 * best + g, ends, back, key=jr.key(3), solver=EULER))
    for ax, title in zip(axes, ("data", "probability flow", "reverse-time SDE"), strict=True):
        ax.set(title=title, ylim=(-1.25, 1.25))
    axes[1].set_ylabel("")
    axes[2].set_ylabel("")
    figure.savefig(out / "paths.png")

    shown = [(name, scores[name].net) for name in ("one-step", "multi-step", "ISM") if name in scores]
    shown.append(("exact", exact.score))
    figure, grid = plt.subplots(2, len(shown), figsize=(2.7 * len(shown) + 1, 4.6), layout="constrained", squeeze=False)
    images = []
    for row, (times, states) in enumerate(((ts[1:], (-1.25, 1.25)), (ts[ts >= 1.0], (-0.15, 0.15)))):
        for ax, (name, net) in zip(grid[row], shown, strict=True):
            image = sx.plot.field(
                ax, net, times[:: max(1, len(times) // 200)], np.linspace(*states, 201), limit=1e3, linear=30.0,
                density=exact.log_prob,
            )  # fmt: skip
            images.append(image)
            ax.set_title(name if row == 0 else "")
    figure.colorbar(images[-1], ax=grid, label="∇ log p_t(x)")
    figure.savefig(out / "score_fields.png")

    rows = [row for row in record["rows"] if row["fraction"] == 1.0 and row["method"] != "exact score"]
    figure, axes = plt.subplots(
        1, len(rows), figsize=(2.4 * len(rows) + 0.6, 2.7), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, row in zip(axes[0], rows, strict=True):
        x = np.linspace(-0.1, 0.1, 21)
        sx.plot.curve(ax, x, [seed["P(+1)"] for seed in row["seeds"]], record["exact P(+1)"], label="sampled")
        ax.set(title=row["method"], xlabel="x at T")
    axes[0, 0].set_ylabel("P(x at 0 is +1)")
    figure.savefig(out / "posterior.png")
    plt.close("all")
