"""Validation: trajectories that a training does not learn from say which of its averaged weights are the best.

Compared are always the same windows with the same noise, so that reports differ by their weights alone. Nothing of the
training sees the comparison but which average is kept, and when a stage with `patience` ends.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from ..equation._algebra import SDE, AbstractDrift
from ..solving import _validate as validate
from ._counted import Counted
from ._training import Stage, Training, TrainingState
from ._trajectories import AbstractPaths

__all__ = ["Best", "chunks", "compare", "hold_out", "is_over", "reports_every"]

# Two models whose losses differ by d per number are told apart by some 4 / d numbers, each with noise of its own: many,
# since what a score adds to a step is small beside the noise. Fields have many numbers, but few windows see few times.
_NUMBERS, _WINDOWS = 8192, 512


class Best(eqx.Module):
    """The averaged weights with the lowest validation loss over the reports of a stage.

    Attributes:
        params: the weights.
        loss: their validation loss; infinite until one was finite, and until then the last weights are kept.
        update: the update of the stage that they were reported at.
    """

    params: Any
    loss: Array
    update: Array

    @classmethod
    def none_yet(cls, state: TrainingState) -> "Best":
        """At the start of a stage."""
        return cls(state.average, jnp.full_like(state.loss, jnp.inf), jnp.zeros_like(state.update))


def hold_out(
    validation: float | Counted | None,
    paths: AbstractPaths,
    equation: AbstractDrift | SDE,
    curriculum: Sequence[Stage],
) -> tuple[AbstractPaths, Counted | None]:
    """What is trained on and what is held out.

    Raises:
        ValueError: nothing left to train on, windows that do not fit, other states, or patience without validation.
        TypeError: something else than trajectories, or a share of what is simulated anew.
    """
    if validation is None:
        if any(stage.patience is not None for stage in curriculum):
            raise ValueError(
                "`Stage(patience=...)` stops by the loss of trajectories that are held out, and none are: write "
                "`fit(..., validation=0.1)`, or give `Trajectories`."
            )
        return paths, None
    if isinstance(validation, Counted):
        _check_alike(paths, validation)
        _check_part("`validation`", validation, equation, curriculum)
        return paths, validation
    paths, held = _shared(validation, paths)
    _check_part(f"`paths` without the share of `validation={validation:g}`", paths, equation, curriculum)
    _check_part(f"the share of `validation={validation:g}`", held, equation, curriculum)
    return paths, held


def _check_part(name: str, part: AbstractPaths, equation: AbstractDrift | SDE, curriculum: Sequence[Stage]) -> None:
    try:
        part.check(equation, curriculum)
        validate.check_drifts(equation, *part.samples(), name="validation")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _shared(share: Any, paths: AbstractPaths) -> tuple[Any, Any]:
    """Trajectories without a share of them, and the share."""
    if isinstance(share, bool) or not isinstance(share, int | float | np.floating):
        raise TypeError(
            f"`validation` is a share of the trajectories, such as 0.1, or `Trajectories`; got {type(share).__name__}."
        )
    if not isinstance(paths, Counted):
        raise TypeError(
            f"`validation={share:g}` is a share of `Trajectories`, and `{type(paths).__name__}` are not a number of "
            "them: give some that are simulated once, `validation=sx.simulate(P + g, x0, ts, key=key)`."
        )
    if not 0 < share < 1:
        raise ValueError(f"`validation` is a share of the trajectories in (0, 1), such as 0.1; got {share:g}.")
    total = len(paths)
    count = max(1, round(share * total))
    if count >= total:
        raise ValueError(
            f"`validation={share:g}` holds out {count} of {total} trajectories, which leaves nothing to train on: "
            "take a smaller share, or give other `Trajectories`."
        )
    # At random, since trajectories are often sorted; by a seed of its own, so that all keys see the same ones.
    held = np.zeros(total, bool)
    held[np.random.default_rng(0).permutation(total)[:count]] = True
    return paths[~held], paths[held]


def _check_alike(paths: AbstractPaths, held: AbstractPaths) -> None:
    """Raise where the states are not of one kind."""

    def kind(paths: AbstractPaths) -> Any:
        return jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", paths.samples()[0])

    if kind(paths) != kind(held):
        raise ValueError(f"`validation` has states of {kind(held)}, and `paths` of {kind(paths)}.".replace("'", ""))


def reports_every(total: int) -> int:
    """The updates from report to report: some fifty reports in all."""
    return max(1, -(-total // 50))


def chunks(stage: Stage, total: int, size: int) -> int:
    """How many batches of the stage a comparison takes, of states of `size` numbers.

    Half of a report's updates at most: a forward pass costs a third of an update.
    """
    windows = max(_WINDOWS, _NUMBERS // size)
    return max(1, min(-(-windows // stage.batch), reports_every(total) // 2))


def compare(
    training: Training, stage: Stage, state: TrainingState, source: Any, count: Any, best: Best
) -> tuple[Best, Array]:
    """The better of the best weights and the averaged ones, and the validation loss of the latter.

    Args:
        training: what is trained.
        stage: the stage of the curriculum.
        state: that of the training.
        source: what validation windows are drawn from.
        count: how many batches of them.
        best: the best so far.
    """

    def add(i: Any, total: Array) -> Array:
        # The same key at each report: the windows are drawn again and not kept.
        key = jr.fold_in(jr.key(0), i)
        value = training.over_windows(lambda loss: loss, stage, state.average, source, key)
        return total + value.astype(total.dtype)

    value = jax.lax.fori_loop(0, count, add, jnp.zeros_like(best.loss)) / jnp.asarray(count, best.loss.dtype)
    better = (value < best.loss) | ~jnp.isfinite(best.loss)
    loss = jnp.where(jnp.isfinite(value), value, jnp.inf)
    new = Best(state.average, loss.astype(best.loss.dtype), state.update)
    return jtu.tree_map(lambda a, b: jnp.where(better, a, b), new, best), value


def is_over(stage: Stage, state: TrainingState, best: Best) -> Any:
    """Whether the validation loss has not come down for as many updates as the stage has patience for."""
    return stage.patience is not None and state.update - best.update >= stage.patience
