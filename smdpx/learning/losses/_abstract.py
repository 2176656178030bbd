"""What a loss is."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
from jaxtyping import Array, Float

from ..._types import Args, Key
from ...equation._algebra import SDE, AbstractDrift
from .._windows import Windows

__all__ = ["AbstractLoss"]


class AbstractLoss(eqx.Module):
    """A loss: a scalar from an equation and a batch of windows.

    Attributes:
        coefficient: the score's coefficient in the equation that the loss is minimised by; None where any
            coefficient trains the same score.
        in_noise: whether it counts in units of one step's noise, so that a perfect one-step loss is about 1.
    """

    coefficient: ClassVar[int | None] = None
    in_noise: ClassVar[bool] = False

    def check(self, equation: AbstractDrift | SDE) -> None:
        """Raise where the loss has no meaning for this equation; `fit` asks before it compiles anything."""
        return

    def unrolls_by(self, equation: AbstractDrift | SDE) -> dfx.AbstractSolver | None:
        """The solver that unrolls this equation, whose error the score repairs; None where nothing is unrolled."""
        return None

    def check_data(self, equation: AbstractDrift | SDE, paths: Any, stages: Sequence[Any]) -> None:
        """Raise where the trajectories, or the windows that a curriculum cuts from them, are no data for this loss."""
        return

    @abc.abstractmethod
    def __call__(self, equation: AbstractDrift | SDE, windows: Windows, key: Key, args: Args) -> Float[Array, ""]:
        """The loss of the equation on these windows; `key` is for noise that the loss draws."""
