"""Records' rows as Markdown tables, and how a number is written in one."""

from collections.abc import Sequence
from typing import Any

_HEADS = {
    "what": "",
    "relative_l2": "relative L2 error",
    "ratio": "ratio of times",
    "ratio_quartiles": "its quartiles",
    "ours_s": "smdpx, ms",
    "theirs_s": "by hand, ms",
    "tiled_s": "tiled, ms",
    "periodic_s": "periodic, ms",
    "speed_ratio": "ratio of speeds",
    "speed_ratio_range": "its range",
    "ours_updates_per_s": "smdpx, updates/s",
    "theirs_updates_per_s": "by hand, updates/s",
    "compile_ratio": "ratio of compile times",
    "few_checkpoints": "few checkpoints",
    "scan": "`lax.scan`",
    "Q_flow": "Q of `-P + s`",
    "Q_sde": "Q of `-P + 2*s + g`",
    "posterior_error": "posterior error",
}
# Kept in the records, left out of the tables.
_HIDDEN = {"rounds", "repeats", "largest_difference", "compile_ours_s", "compile_theirs_s", "P(+1)"}
_MILLI = {"ours_s", "theirs_s", "tiled_s", "periodic_s"}


def unbroken(table: str) -> str:
    """A table whose cells of several numbers stay on one line."""
    return table.replace(" ± ", "\u00a0±\u00a0").replace(" / ", "\u00a0/\u00a0")


def tables_of(rows: list[dict[str, Any]]) -> str:
    """One table for each kind of row, where a kind is what has the same columns."""
    kinds: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    return "\n\n".join(map(_table_of, kinds.values()))


def _table_of(rows: list[dict[str, Any]]) -> str:
    """Rows of the same columns; `what` is a column where it differs, and else the title."""
    whats = {row["what"] for row in rows if "what" in row}
    title = whats.pop() if len(whats) == 1 else ""
    columns = [key for key in rows[0] if key not in _HIDDEN and (key != "what" or not title)]
    heads = [_HEADS.get(column, column.replace("_", " ")) for column in columns]
    cells = [
        [written(1e3 * row[column] if column in _MILLI else row.get(column, "")) for column in columns] for row in rows
    ]
    return (f"**{title[0].upper()}{title[1:]}**\n\n" if title else "") + markdown(heads, cells)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    # A bar inside of a cell, as of a wavenumber |k|, would end it.
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def written(value: Any) -> str:
    """What stands in a cell: of a number three digits, of a list its range."""
    if isinstance(value, list):
        return (" to " if len(value) == 2 else " / ").join(map(written, value))
    if isinstance(value, float) and abs(value) >= 1000:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-4 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
