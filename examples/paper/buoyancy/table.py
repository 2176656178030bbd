"""The rows of the record as Markdown."""

from typing import Any

import numpy as np

_ERRORS = ("reconstruction MSE", "error of the marker", "error of the velocity", "1 - MS-SSIM", "LPIPS")
_SPREAD = ("90 % covers", "spread / error", "spread / error, in smoke", "CRPS")
_MEASURED = (*_ERRORS, *_SPREAD, "CPU s a sample", "exploded", "draws lost")


def table(rows: list[dict[str, Any]]) -> str:
    """A table for each time, mean ± standard deviation over seeds."""
    return "\n\n".join(_at(t, rows) for t in sorted({row["t"] for row in rows})[::-1])


def _at(t: float, rows: list[dict[str, Any]]) -> str:
    rows = [row for row in rows if row["t"] == t]
    names = [name for name in _MEASURED if any(name in row for row in rows)]
    lines = [f"| t = {t:g}: uses | inference | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for kind in dict.fromkeys((row["uses"], row["inference"]) for row in rows):
        same = [row for row in rows if (row["uses"], row["inference"]) == kind]
        cells = [_cell([row[name] for row in same if name in row]) for name in names]
        lines.append(f"| {kind[0]} | {kind[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.1g}" if np.ptp(values) > 0 else ""
    return f"{np.mean(values):.3g}{spread}"
