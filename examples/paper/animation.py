"""Fields of several methods side by side, moving."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter


def animate(
    file: pathlib.Path,
    rows: dict[str, np.ndarray],
    titles: Sequence[str],
    frames: Sequence[int],
    show: Callable[[Any, np.ndarray], Any],
    limits: Callable[[int], tuple[float, float]],
    *,
    height: float,
    fps: int,
) -> None:
    """Write an animation.

    Args:
        file: where to.
        rows: by what each is called, (times, n, n).
        titles: of each time.
        frames: the times that are shown, in their order.
        show: draws one field on axes, and returns its image.
        limits: least and greatest value of the colours at a time.
        height: of the figure, in inches.
        fps: frames a second.
    """
    figure, axes = plt.subplots(1, len(rows), figsize=(1.5 * len(rows), height), layout="constrained", dpi=80)
    images = [show(ax, x[frames[0]]) for ax, x in zip(axes, rows.values(), strict=True)]
    for ax, name in zip(axes, rows, strict=True):
        ax.set_title(name, fontsize=7)
    figure.suptitle(titles[frames[0]], fontsize=8)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, and not for every frame

    def frame(m: int) -> list[Any]:
        figure.suptitle(titles[m], fontsize=8)
        for image, x in zip(images, rows.values(), strict=True):
            image.set_data(x[m].T)
            image.set_clim(*limits(m))
        return images

    FuncAnimation(figure, frame, frames=list(frames)).save(file, writer=PillowWriter(fps=fps))
    plt.close(figure)
