"""What a trained drift remembers of its training."""

from typing import NamedTuple

__all__ = ["Trained"]


class Trained(NamedTuple):
    """What a score, or a reverse simulator, was trained with: it has repaired what that does wrong, and nothing else.

    Attributes:
        steps: the shortest and the longest step that was unrolled.
        solver: the class of the diffrax solver that unrolled them; None of a loss that unrolls nothing.
        curriculum: of each stage its window, its stride and its updates.
        times: the first and the last time of the trajectories.
        args: whether the trajectories had `args`, which a network may have read.
        shapes: of a state, array by array.
    """

    steps: tuple[float, float]
    solver: type | None = None
    curriculum: tuple[tuple[int, int, int], ...] = ()
    times: tuple[float, float] | None = None
    args: bool = False
    shapes: tuple[tuple[int, ...], ...] | None = None
