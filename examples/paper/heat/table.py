"""The heat problem's tables from its records."""

import json
import pathlib
from typing import Any

import numpy as np

FIGURES = ("reconstruction", "distance", "spectral")
UNITS = {"reconstruction": 1e-5}
HEAD = "| method | reconstruction MSE, 10⁻⁵ | MSE to x₀ | spectral error |\n|---|---|---|---|"
# What the three inferences are compared with, and what the figures are called.
EQUATIONS = {"posterior mean": "-P + 2*s", "posterior sample": "-P + 2*s + g", "probability flow": "-P + s"}


def read(folder: pathlib.Path, name: str) -> list[dict[str, Any]]:
    """The rows of a record; none where it is missing."""
    path = folder / name
    return json.loads(path.read_text())["rows"] if path.exists() else []


def markdown_table(folder: pathlib.Path, preset: str) -> str:
    """Exact limits, the three inferences (mean ± standard deviation over seeds), and every baseline."""
    lines = [HEAD]
    for row in read(folder, f"inferences_{preset}.json"):
        names = [*EQUATIONS, "truth"] if row["scheme"] == "exact" else [*EQUATIONS]
        for name in names:
            label = f"exact {name}" if row["scheme"] == "exact" and name != "truth" else name
            if row["scheme"] != "exact":
                label = f"`{EQUATIONS[name]}`, {row['scheme']}"
            lines.append(_line(label, [seed["figures"][name] for seed in row["seeds"]]))
        if row["scheme"] == "exact":
            for limit in read(folder, f"limits_{preset}.json"):
                lines += [_line(f"{limit['scheme']}: {name}", [limit["figures"][name]]) for name in EQUATIONS]
    for row in read(folder, f"baselines_{preset}.json"):
        cases = f" ({row['cases']} cases)" if "cases" in row else ""
        lines.append(_line(row["method"] + cases, row.get("seeds", [row])))
    return "\n".join(lines)


def posterior_table(folder: pathlib.Path, preset: str) -> str:
    """How near the learned posterior is to the exact one."""
    lines = [
        "| posterior | energy distance ÷ that of two exact sets | TARP, largest error | spread-skill by wavenumber "
        "| CRPS | slope of the score |",
        "|---|---|---|---|---|---|",
    ]
    for row in read(folder, f"inferences_{preset}.json"):
        seeds = row["seeds"]
        ratios = np.array([seed["spread-skill"] for seed in seeds])
        slope = _mean([seed["slope"] for seed in seeds]) if "slope" in seeds[0] else ""
        lines.append(
            f"| {row['scheme']} | {_mean([seed['energy ratio'] for seed in seeds])} "
            f"| {_mean([seed['TARP'] for seed in seeds])} | {ratios.min():.3f} to {ratios.max():.3f} "
            f"| {_mean([seed['CRPS'] for seed in seeds])} | {slope} |"
        )
    return "\n".join(lines)


def windows_table(folder: pathlib.Path, preset: str) -> str:
    """Reconstruction and distance against the size of the windows."""
    lines = [
        "| S_max | reconstruction, 10⁻⁵: mean | sample | flow | MSE to x₀: mean | sample | flow | spectrum: sample |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in read(folder, f"windows_{preset}.json"):
        cells = [_cell([seed[name] for seed in row["seeds"]], "reconstruction") for name in EQUATIONS]
        cells += [_cell([seed[name] for seed in row["seeds"]], "distance") for name in EQUATIONS]
        cells += [_cell([seed["posterior sample"] for seed in row["seeds"]], "spectral")]
        lines.append(f"| {row['S_max']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def solvers_table(folder: pathlib.Path, preset: str) -> str:
    """Reconstruction, distance and spectral error of each inference, by solver and steps."""
    names = " | ".join(f"`{EQUATIONS[name]}`" for name in EQUATIONS)
    lines = [f"| solver | steps | {names} |", "|---|---|---|---|---|"]
    for row in read(folder, f"solvers_{preset}.json"):
        cells = [_triple(row[name]) for name in EQUATIONS]
        lines.append(f"| {row['solver']} | {row['steps']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shifts_table(folder: pathlib.Path, preset: str) -> str:
    """Mean squared errors of shifted data, learned beside exact."""
    lines = [
        "| α | g | sample: reconstruction, 10⁻⁵ (exact) | MSE to x₀ (exact) | mean: MSE to x₀ (exact) |",
        "|---|---|---|---|---|",
    ]
    for row in read(folder, f"shifts_{preset}.json"):
        alphas, noises = np.meshgrid(row["alpha"], row["noise"], indexing="ij")
        for i, (alpha, noise) in enumerate(zip(alphas.ravel(), noises.ravel(), strict=True)):
            pairs = [
                f"{_number(row[name][what][i], what)} ({_number(row['exact ' + name][what][i], what)})"
                for name, what in (("sample", "reconstruction"), ("sample", "distance"), ("mean", "distance"))
            ]
            lines.append(f"| {alpha:g} | {noise:g} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def conditions_table(folder: pathlib.Path, preset: str) -> str:
    """One score at conductivities and noises that it was not trained at, against the exact posterior."""
    lines = [
        "| α | g | variance of samples / exact, over wavenumbers | error of the mean, over wavenumbers |",
        "|---|---|---|---|",
    ]
    for row in read(folder, f"conditions_{preset}.json"):
        variance = f"{min(row['variance']):.2f} to {max(row['variance']):.2f}"
        lines.append(f"| {row['alpha']:g} | {row['g']:g} | {variance} | at most {max(row['mean']):.3f} |")
    return "\n".join(lines)


def moments_table(folder: pathlib.Path, preset: str) -> str:
    """A convolutional network between Fourier moments, and these moments alone, against the exact posterior."""
    lines = [
        "| score | variance of samples / exact, over wavenumbers | error of the mean | training, CPU s |",
        "|---|---|---|---|",
    ]
    for row in read(folder, f"moments_{preset}.json"):
        variance = f"{min(row['variance']):.2f} to {max(row['variance']):.2f}"
        lines.append(f"| {row['score']} | {variance} | at most {max(row['mean']):.3f} | {row['training CPU s']:.0f} |")
    return "\n".join(lines)


def _triple(found: Any) -> str:
    if not isinstance(found, dict):
        return "–" if found is None else str(found)
    return " / ".join(_number(found[name], name) for name in FIGURES)


def _line(label: str, seeds: list[dict[str, float]]) -> str:
    return f"| {label} | {' | '.join(_cell(seeds, name) for name in FIGURES)} |"


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _cell(seeds: list[dict[str, float]], figure: str) -> str:
    values = [seed[figure] for seed in seeds]
    mean = _number(float(np.mean(values)), figure)
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1) / UNITS.get(figure, 1.0):.1g}"


def _number(value: float, figure: str) -> str:
    """Three digits, the zeros among them too."""
    return "0" if value == 0 else f"{value / UNITS.get(figure, 1.0):#.3g}".removesuffix(".")
