"""The toy problem's table from its record, with the paper's numbers beside ours."""

from typing import Any

import numpy as np

# arXiv:2301.10250, table 1 (with the deviations of table 3 left out): flow and SDE at 100, 10 and 1 % of the data.
PAPER = {
    "multi-step": {1.0: (0.97, 0.99), 0.1: (0.91, 0.94), 0.01: (0.81, 0.85)},
    "one-step": {1.0: (0.78, 0.93), 0.1: (0.44, 0.71), 0.01: (0.41, 0.75)},
    "ISM": {1.0: (0.19, 0.92), 0.1: (0.15, 0.94), 0.01: (0.01, 0.52)},
    "SSM-VR": {1.0: (0.17, 0.88), 0.1: (0.49, 0.94), 0.01: (0.27, 0.67)},
}
COLUMNS = ("Q flow", "Q noise-free", "Q SDE", "posterior error", "score error", "slope")
HEAD = (
    "| training | data | Q flow `-P + s` | paper | Q noise-free `-P + 2*s` | Q SDE `-P + 2*s + g` | paper "
    "| posterior error | score error | slope |"
)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over seeds, one row a training; the paper's Q where it has one."""
    lines = [HEAD, "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [_cell([seed[column] for seed in row["seeds"]]) for column in COLUMNS]
        flow, sde = PAPER.get(row["method"], {}).get(row["fraction"], ("", ""))
        cells = [cells[0], _paper(flow), cells[1], cells[2], _paper(sde), *cells[3:]]
        lines.append(f"| {row['method']} | {row['fraction']:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def _paper(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"
