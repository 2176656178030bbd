"""Checkpoints of a training: which training it is, the stage that it is in, and what changes from update to update."""

import json
import os
import pathlib
from typing import Any

import equinox as eqx

__all__ = ["Checkpoint"]


class Checkpoint:
    """A file that a training writes its state to and resumes from; without a path it does nothing.

    The first line is JSON: the stage, and a digest of each thing that decides the training's future. What follows are
    the arrays.
    """

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: dict[str, str]):
        self.path = None if path is None else pathlib.Path(path)
        self.fingerprint = fingerprint

    def restore(self, like: Any) -> tuple[int, Any]:
        """The stage that the file is in and its state; (0, None) where there is none."""
        if self.path is None or not self.path.exists():
            return 0, None
        with self.path.open("rb") as file:
            try:
                header = json.loads(file.readline())
                stage, written = int(header["stage"]), dict(header["fingerprint"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"`checkpoint`: {str(self.path)!r} is no checkpoint of `fit`.") from error
            other = [name for name, digest in self.fingerprint.items() if written.get(name) != digest]
            if other:
                raise ValueError(
                    f"`checkpoint`: {str(self.path)!r} was written by a training with another "
                    f"{', another '.join(other)}. To go on with that training, give what it was given; to start anew, "
                    "delete the file or name another."
                )
            try:
                return stage, eqx.tree_deserialise_leaves(file, like)
            except (RuntimeError, ValueError, EOFError) as error:  # Equinox names the leaf, NumPy what was wrong
                raise ValueError(
                    f"`checkpoint`: {str(self.path)!r} is one of this training, but its arrays cannot be read: the "
                    "file is cut off or damaged, as by a copy that was interrupted or a disk that was full. Copy it "
                    "again from where it came; to start anew, delete the file or name another."
                ) from error

    def save(self, stage: int, state: Any) -> None:
        """Write the stage and its state."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and moved: a training that is stopped here leaves the last checkpoint whole.
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            file.write(json.dumps({"stage": stage, "fingerprint": self.fingerprint}).encode() + b"\n")
            eqx.tree_serialise_leaves(file, state)
        partial.replace(self.path)
