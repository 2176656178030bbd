"""Checkpoints of a training: the stage that it is in, and everything that changes from update to update."""

import os
import pathlib
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp

File: TypeAlias = str | os.PathLike[str] | None


def restore(checkpoint: File, like: Any) -> tuple[int, Any]:
    """The stage that a checkpoint is in and its state; (0, None) where there is none."""
    if checkpoint is None or not pathlib.Path(checkpoint).exists():
        return 0, None
    with pathlib.Path(checkpoint).open("rb") as file:
        try:
            return int(eqx.tree_deserialise_leaves(file, jnp.int32(0))), eqx.tree_deserialise_leaves(file, like)
        except (RuntimeError, ValueError, EOFError) as error:
            raise ValueError(
                f"`checkpoint`: {str(checkpoint)!r} was written by another network or optimiser. "
                "Delete it to start anew."
            ) from error


def save(checkpoint: File, stage: int, state: Any) -> None:
    """Write the stage and its state; nothing without a file."""
    if checkpoint is None:
        return
    path = pathlib.Path(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and moved: a training that is stopped here leaves the last checkpoint whole.
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        eqx.tree_serialise_leaves(file, jnp.int32(stage))
        eqx.tree_serialise_leaves(file, state)
    partial.replace(path)
