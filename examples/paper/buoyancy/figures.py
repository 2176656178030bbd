"""Figures like 5 and 14 to 16 of the paper: smoke and velocity back in time, answers and samples at t = .35."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from animation import animate

import smdpx as sx
from smdpx.physics.buoyancy import to_channels

from .presets import MIDDLE

SHOWN = [
    ("reverse physics only", "`-P`"),
    ("score only", "`2*s`"),
    ("joint", "noise-free, `-P + 2*s`"),
    ("joint", "SDE, `-P + 2*s + g`"),
    ("split", "flow, `-P + s`"),
    ("split", "noise-free, `-P + 2*s`"),
    ("split", "SDE, `-P + 2*s + g`"),
]


def draw(
    out: pathlib.Path,
    held: sx.Trajectories,
    answers: dict[Any, Any],
    draws: dict[Any, np.ndarray],
    record: list[dict[str, Any]],
) -> None:
    """Write backwards.png, middle.png, posterior.png and backwards.gif, of the first case, and ranks.png of all."""
    mask = np.asarray(held.args.value[0])
    rows = {"truth": _marker(held.x), **{_name(kind): _marker(answers[kind]) for kind in SHOWN}}
    _backwards(out, rows, mask, np.asarray(held.ts))
    _middle(out, held, answers, mask)
    _posterior(out, held, draws, mask)
    _ranks(out, record)
    _animation(out, rows, mask, np.asarray(held.ts))


def _name(kind: tuple[str, str]) -> str:
    return f"{kind[0]}:\n{kind[1].replace('`', '')}"


def _marker(x: Any) -> np.ndarray:
    return np.asarray(x.marker[0])


def _show(ax: Any, field: np.ndarray, mask: np.ndarray, most: float, colours: str = "magma") -> Any:
    """One field with the obstacles in grey; x to the right and y upwards."""
    ax.set_xticks([])
    ax.set_yticks([])
    image = ax.imshow(field.T, origin="lower", cmap=colours, vmin=0, vmax=most)
    ax.imshow(np.where(mask, 0.5, np.nan).T, origin="lower", cmap="gray", vmin=0, vmax=1)
    return image


def _backwards(out: pathlib.Path, rows: dict[str, np.ndarray], mask: np.ndarray, ts: np.ndarray) -> None:
    frames = np.rint(np.linspace(len(ts) - 1, 0, 6)).astype(int)
    size = (1.3 * len(frames) + 1.0, 1.3 * len(rows))
    figure, axes = plt.subplots(len(rows), len(frames), figsize=size, layout="constrained", dpi=150)
    for line, (name, x) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=7)
        for ax, m in zip(line, frames, strict=True):
            _show(ax, x[m], mask, max(1.0, rows["truth"][m].max()))
    for ax, m in zip(axes[0], frames, strict=True):
        ax.set_title(f"t = {ts[m]:.2f}", fontsize=8)
    figure.savefig(out / "backwards.png")
    plt.close(figure)


def _middle(out: pathlib.Path, held: sx.Trajectories, answers: dict[Any, Any], mask: np.ndarray) -> None:
    """Smoke and speed at t = .35, of every method."""
    states = {"truth": held.x, **{_name(kind): x for kind, x in answers.items()}}
    # Answers of the baselines are of t = .35 alone.
    cells = {
        name: np.asarray(to_channels(type(x)(*(part[0, MIDDLE] if part.ndim == 4 else part[0] for part in x))))
        for name, x in states.items()
    }
    size = (1.35 * len(cells), 3.1)
    figure, axes = plt.subplots(2, len(cells), figsize=size, layout="constrained", dpi=150, squeeze=False)
    for column, (name, x) in zip(axes.T, cells.items(), strict=True):
        column[0].set_title(name, fontsize=6)
        _show(column[0], x[..., 0], mask, cells["truth"][..., 0].max())
        speed = np.hypot(x[..., 1], x[..., 2])
        _show(column[1], speed, mask, np.hypot(*np.moveaxis(cells["truth"][..., 1:], -1, 0)).max(), "viridis")
    axes[0, 0].set_ylabel("marker", fontsize=7)
    axes[1, 0].set_ylabel("speed", fontsize=7)
    figure.savefig(out / "middle.png")
    plt.close(figure)


def _posterior(out: pathlib.Path, held: sx.Trajectories, draws: dict[Any, np.ndarray], mask: np.ndarray) -> None:
    """Truth, samples, their mean and their standard deviation at t = .35."""
    truth = np.asarray(held.x.marker[0, MIDDLE])
    figure, axes = plt.subplots(
        len(draws), 7, figsize=(8.4, 1.3 * len(draws)), layout="constrained", dpi=150, squeeze=False
    )
    for line, (kind, x) in zip(axes, draws.items(), strict=True):
        shown = {"truth": truth} | {f"sample {i + 1}": x[i, 0] for i in range(4)} | {"mean": x[:, 0].mean(axis=0)}
        for ax, (name, field) in zip(line, shown.items(), strict=False):
            _show(ax, field, mask, truth.max())
            ax.set_title(name, fontsize=7)
        _show(line[-1], x[:, 0].std(axis=0), mask, x[:, 0].std(axis=0).max(), "viridis")
        line[-1].set_title("deviation", fontsize=7)
        line[0].set_ylabel(_name(kind), fontsize=6)
    figure.savefig(out / "posterior.png")
    plt.close(figure)


def _ranks(out: pathlib.Path, record: list[dict[str, Any]]) -> None:
    """Ranks of the truth among the samples, over cells and cases, a thin line a seed and a thick one of their mean."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", dpi=150)
    rows = [row for row in record if "ranks" in row]
    for ax, (name, where) in zip(
        axes, {"ranks": "all cells", "ranks, in smoke": "cells with smoke"}.items(), strict=True
    ):
        for i, kind in enumerate(dict.fromkeys((row["uses"], row["inference"]) for row in rows)):
            seeds = [row[name] for row in rows if (row["uses"], row["inference"]) == kind]
            edges = np.linspace(0, 1, len(seeds[0]) + 1)
            for heights in seeds:
                ax.stairs(heights, edges, color=f"C{i}", lw=0.4)
            ax.stairs(np.mean(seeds, axis=0), edges, color=f"C{i}", lw=1.4, label=_name(kind).replace("\n", " "))
        ax.axhline(1, color="k", lw=0.8, ls="--")
        ax.set(xlabel=f"rank of the truth among samples, {where}")
    axes[0].set_ylabel("density")
    axes[1].legend(fontsize=6, loc="upper center")
    figure.savefig(out / "ranks.png")
    plt.close(figure)


def _animation(out: pathlib.Path, rows: dict[str, np.ndarray], mask: np.ndarray, ts: np.ndarray) -> None:
    most = rows["truth"].max()
    animate(
        out / "backwards.gif",
        rows,
        titles=[f"t = {t:.2f}" for t in ts],
        frames=[*range(len(ts) - 1, -1, -2), *[0] * 5],
        show=lambda ax, field: _show(ax, field, mask, most),
        limits=lambda m: (0, most),
        height=2.0,
        fps=6,
    )
