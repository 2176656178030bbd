"""Figures like 6, 18, 20 and 21 of the paper: one case back in time, spectra at the start, errors along the way."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from animation import animate

import smdpx as sx

SHOWN = [
    ("surrogate", "no score"),
    ("surrogate, then score", "flow"),
    ("surrogate, then score", "noise-free"),
    ("surrogate, then score", "SDE"),
    ("surrogate, then score", "SDE, then Langevin"),
    ("surrogate, then score", "split steps"),
    ("both at once", "SDE"),
]


def draw(out: pathlib.Path, held: sx.Trajectories, answers: dict[tuple[str, str], np.ndarray]) -> None:
    """Write backwards.png, spectra.png, errors.png and backwards.gif."""
    truth = np.asarray(held.x)[:, ::-1]
    rows = {"truth": truth, **{f"{physics}:\n{kind}": answers[physics, kind] for physics, kind in SHOWN}}
    _backwards(out, rows, np.asarray(held.ts)[::-1])
    _spectra(out, {name: x[:, -1] for name, x in rows.items()})
    _errors(out, rows, np.asarray(held.ts)[::-1])
    _animation(out, rows, np.asarray(held.ts)[::-1])


def _backwards(out: pathlib.Path, rows: dict[str, np.ndarray], ts: np.ndarray) -> None:
    times = np.unique(np.rint(np.linspace(0, len(ts) - 1, 6)).astype(int))
    size = (1.25 * len(times) + 1.2, 1.25 * len(rows))
    figure, axes = plt.subplots(len(rows), len(times), figsize=size, layout="constrained", dpi=150)
    for line, (name, x) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=7)
        for ax, m in zip(line, times, strict=True):
            _show(ax, x[0, m], rows["truth"][0, m])
    for ax, m in zip(axes[0], times, strict=True):
        ax.set_title(f"t = {ts[m]:g}", fontsize=8)
    figure.savefig(out / "backwards.png")
    plt.close(figure)


def _show(ax: Any, field: np.ndarray, truth: np.ndarray) -> Any:
    most = np.abs(truth).max()
    ax.set_xticks([])
    ax.set_yticks([])
    return ax.imshow(field.T, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most)


def _spectra(out: pathlib.Path, starts: dict[str, np.ndarray]) -> None:
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained", dpi=150)
    for name, x in starts.items():
        k, power = sx.metrics.power_spectrum(x)
        ax.loglog(k, power.mean(axis=0), "k--" if name == "truth" else "-", lw=1.3, label=name.replace("\n", " "))
    ax.set(xlabel="wavenumber", ylabel="power of ω at t = 0")
    ax.legend(fontsize=7)
    figure.savefig(out / "spectra.png")
    plt.close(figure)


def _errors(out: pathlib.Path, rows: dict[str, np.ndarray], ts: np.ndarray) -> None:
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained", dpi=150)
    truth = rows["truth"]
    for name, x in list(rows.items())[1:]:
        error = np.sqrt(((x - truth) ** 2).mean(axis=(0, 2, 3)) / (truth**2).mean(axis=(0, 2, 3)))
        ax.plot(ts[1:], error[1:], lw=1.3, label=name.replace("\n", " "))
    ax.set(xlabel="t", ylabel="relative L2 error", yscale="log")
    ax.invert_xaxis()
    ax.legend(fontsize=7)
    figure.savefig(out / "errors.png")
    plt.close(figure)


def _animation(out: pathlib.Path, rows: dict[str, np.ndarray], ts: np.ndarray) -> None:
    truth = rows["truth"][0]

    def limits(m: int) -> tuple[float, float]:
        most = np.abs(truth[m]).max()
        return -most, most

    animate(
        out / "backwards.gif",
        {name: x[0] for name, x in rows.items()},
        titles=[f"t = {t:g}" for t in ts],
        frames=[*range(len(ts)), *[len(ts) - 1] * 3],
        show=lambda ax, field: _show(ax, field, truth[0]),
        limits=limits,
        height=1.9,
        fps=2,
    )
