"""Figures of the heat problem, after figures 3, 4, 11, 12 and 13 of arXiv:2301.10250."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx
from heat.evaluate import exact_samples, learned_samples
from heat.problem import EXACT, EXPONENTIAL, INFERENCES, MIRRORED, STEPS, T, cases, infer
from heat.table import EQUATIONS, read

SCHEMES = {scheme.name: scheme for scheme in (MIRRORED, EXPONENTIAL)}
COLOURS = {"exact": "black", "mirrored step": "C1", "exponential": "C0"}


def draw_figures(out: pathlib.Path, preset: str, scores: dict[str, sx.Score]) -> None:
    """Write every figure whose record, or whose score, is there."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"figure.dpi": 160, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    if "exponential" in scores:
        _gallery(plt, scores).savefig(out / "gallery.png")
        _samples(plt, scores["exponential"]).savefig(out / "posterior_fields.png")
    for name, draw in (
        ("inferences", _calibration), ("windows", _windows), ("shifts", _shifts), ("solvers", _solvers),
    ):  # fmt: skip
        rows = read(out, f"{name}_{preset}.json")
        if rows:
            draw(plt, rows).savefig(out / f"{name}.png")
    plt.close("all")


def _gallery(plt: Any, scores: dict[str, sx.Score], count: int = 3) -> Any:
    """Figure 3: starts, ends, and the answers of each inference, learned below exact."""
    x0, xT = cases(count, jr.key(200))
    keys = jr.split(jr.key(201), count)
    columns = {
        "true start": x0,
        "observed end": xT,
        "exact mean": jax.jit(jax.vmap(lambda x: EXACT.posterior_mean(T, x)))(xT),
        "exact sample": jax.jit(jax.vmap(lambda x, key: EXACT.sample_posterior(T, x, key=key)))(xT, keys),
        "exact flow": jax.jit(jax.vmap(lambda x: EXACT.probability_flow(T, x)))(xT),
    }
    for name in INFERENCES:
        columns[EQUATIONS[name]] = infer(EXPONENTIAL, scores["exponential"], name, xT, jr.key(202))
    figure, axes = plt.subplots(
        count, len(columns), figsize=(1.35 * len(columns), 1.4 * count + 0.3), layout="constrained"
    )
    for column, (name, x) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(name, fontsize=8, family="monospace" if name.startswith("-") else None)
        for ax, image in zip(column, x, strict=True):
            _image(ax, image)
    return figure


def _samples(plt: Any, s: sx.Score) -> Any:
    """Figures 12 and 13: samples of one posterior, learned above exact, with their mean and standard deviation."""
    x0, xT = cases(1, jr.key(203))
    learned = learned_samples(EXPONENTIAL, s, xT, 64, jr.key(204))[:, 0]
    exact = exact_samples(xT, 64, jr.key(205))[:, 0]
    figure, axes = plt.subplots(2, 9, figsize=(12, 3.1), layout="constrained")
    deviation = None
    for row, (name, x, first) in zip(axes, (("learned", learned, x0[0]), ("exact", exact, xT[0])), strict=True):
        images = [first, *x[:6], jnp.mean(x, axis=0)]
        titles = ["true start" if name == "learned" else "observed end", *[f"{name} sample"] * 6, f"{name} mean"]
        for ax, image, title in zip(row, images, titles, strict=False):
            _image(ax, image)
            ax.set_title(title, fontsize=8)
        deviation = _image(row[-1], jnp.std(x, axis=0), cmap="viridis", limits=(0.0, 0.4))
        row[-1].set_title(f"{name} std", fontsize=8)
    assert deviation is not None
    figure.colorbar(deviation, ax=axes[:, -1], shrink=0.7)
    return figure


def _image(ax: Any, x: Any, cmap: str = "RdBu_r", limits: tuple[float, float] = (-3.0, 3.0)) -> Any:
    ax.set_xticks([])
    ax.set_yticks([])
    return ax.imshow(np.asarray(x), cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _calibration(plt: Any, rows: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.1), layout="constrained")
    for row in rows:
        for i, seed in enumerate(row["seeds"]):
            style = {"color": COLOURS[row["scheme"]], "alpha": 0.8, "label": row["scheme"] if i == 0 else None}
            k = np.arange(1, len(seed["spread-skill"]) + 1)
            axes[0].plot(k, seed["spread-skill"], "o-", markersize=3, **style)
            level = np.linspace(0, 1, len(seed["coverage"]))
            axes[1].plot(level, np.asarray(seed["coverage"]) - level, **style)
            axes[2].step(
                (np.arange(len(seed["ranks"])) + 0.5) / len(seed["ranks"]), seed["ranks"], where="mid", **style
            )
            if "slope by wavenumber" in seed:
                axes[3].plot(k, seed["slope by wavenumber"], "o-", markersize=3, **style)
    axes[0].axhspan(0.95, 1.05, color="0.9", zorder=0)
    axes[1].axhspan(-0.05, 0.05, color="0.9", zorder=0)
    axes[2].axhline(1, color="0.8", zorder=0)
    axes[3].axhline(1, color="black", linewidth=1)
    axes[3].set(xlabel="wavenumber", ylabel="slope on the exact score", ylim=(-3, 3))
    axes[0].set(xlabel="wavenumber", ylabel="spread / skill", ylim=(0.5, 1.2))
    axes[1].set(xlabel="credibility", ylabel="coverage - credibility (TARP)")
    axes[2].set(xlabel="rank of the truth", ylabel="frequency / uniform", ylim=(0.8, 1.2))
    axes[0].legend(frameon=False)
    return figure


def _windows(plt: Any, rows: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3), layout="constrained")
    exact, sizes = rows[0]["seeds"][0], [row["S_max"] for row in rows[1:]]
    for ax, name in zip(axes, EQUATIONS, strict=True):
        for seed in range(len(rows[1]["seeds"])):
            ax.plot(sizes, [row["seeds"][seed][name]["reconstruction"] for row in rows[1:]], "o-", color="C1")
        ax.axhline(exact[name]["reconstruction"], color="black", label="exact")
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set(title=EQUATIONS[name], xlabel="S_max")
        ax.set_ylim(0, 1.5 * exact[name]["reconstruction"])
        ax.ticklabel_format(axis="y", scilimits=(0, 0))
    axes[0].set_ylabel("reconstruction MSE")
    axes[0].legend(frameon=False)
    return figure


def _shifts(plt: Any, rows: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.4), layout="constrained", sharex="col")
    for column, row, name, label in zip(
        axes.T, rows, ("alpha", "noise"), ("α of the data", "g of the data"), strict=True
    ):
        for ax, figure_name in zip(column, ("reconstruction", "distance"), strict=True):
            for answer, colour in (("mean", "C2"), ("sample", "C0")):
                ax.plot(row[name], row[answer][figure_name], "o-", color=colour, label=answer)
                ax.plot(row[name], row[f"exact {answer}"][figure_name], "k--" if answer == "mean" else "k:",
                        label=f"exact {answer}")  # fmt: skip
            ax.axvline(1.0 if name == "alpha" else 0.1, color="0.85", zorder=0)
            ax.set_yscale("log")
            if name == "noise":
                ax.set_xscale("log")
                ax.set_xticks([], minor=True)
            ax.set_xticks(row[name], [f"{value:g}" for value in row[name]])
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("reconstruction MSE")
    axes[1, 0].set_ylabel("MSE to x₀")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _solvers(plt: Any, rows: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True)
    for i, solver in enumerate(dict.fromkeys(row["solver"] for row in rows)):
        for ax, name in zip(axes, EQUATIONS, strict=True):
            found = [
                (row["steps"], row[name]) for row in rows if row["solver"] == solver and isinstance(row[name], dict)
            ]
            if found and found[0][0] == "adaptive":
                ax.axhline(found[0][1]["distance"], color=f"C{i}", linestyle="--", label=solver)
            elif found:
                ax.plot([n for n, _ in found], [value["distance"] for _, value in found], "o-", color=f"C{i}",
                        label=solver, markersize=4)  # fmt: skip
    for ax, name in zip(axes, EQUATIONS, strict=True):
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.axvline(STEPS, color="0.85", zorder=0)
        ax.set(title=EQUATIONS[name], xlabel="steps", ylim=(0.02, 10))
    axes[0].set_ylabel("MSE to x₀")
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    return figure
