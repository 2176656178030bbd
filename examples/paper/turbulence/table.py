"""The rows of the record as Markdown."""

from typing import Any

import numpy as np

# The equation of each inference, with the reverse physics as it is written.
EQUATIONS = {
    "no score": "{}",
    "flow": "{} + s",
    "noise-free": "{} + 2*s",
    "SDE": "{} + 2*s + g",
    "flow with noise": "{} + s + g",
    "split steps": "{} + 2*s + g",
}


def _inference(physics: str, inference: str) -> str:
    reverse = "-P" if physics == "the solver itself" else "R"
    equation = EQUATIONS.get(inference)
    return f"{inference}, `{equation.format(reverse)}`" if equation else inference


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, mean ± standard deviation over seeds."""
    names = ["MSE", "relative error", "spectral error", "90 % covers", "spread / error", "CRPS"]
    lines = [f"| physics | inference | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for kind in dict.fromkeys((row["physics"], row["inference"]) for row in rows):
        same = [row for row in rows if (row["physics"], row["inference"]) == kind]
        cells = []
        for name in names:
            values = np.array([row[name] for row in same if name in row])
            spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3g}{spread}" if len(values) else "")
        lines.append(f"| {kind[0]} | {_inference(*kind)} | {' | '.join(cells)} |")
    return "\n".join(lines)
