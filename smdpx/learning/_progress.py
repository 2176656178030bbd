"""What a training tells its user: a record per report, shown by tqdm where there is a terminal to show it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["Progress"]


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        update: updates done, over the whole curriculum.
        total: updates in all.
        window: the window size of the stage.
        loss: mean loss since the last report.
        updates_per_second: since the last report; the first of a stage holds its compilation.
        trained: the drift with the averaged weights so far.
    """

    update: int
    total: int
    window: int
    loss: float
    updates_per_second: float
    trained: Any


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Progress, dict[str, float] | None], None]]:
    """A function that shows a `Progress` and some metrics; silent without a terminal or without tqdm."""
    if not sys.stderr.isatty():
        yield lambda progress, metrics: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda progress, metrics: None
        return
    with tqdm(total=total, unit="update", unit_scale=True) as bar:

        def show(progress: Progress, metrics: dict[str, float] | None) -> None:
            bar.set_postfix({"window": progress.window, "loss": f"{progress.loss:.4g}", **(metrics or {})})
            bar.update(progress.update - bar.n)

        yield show
