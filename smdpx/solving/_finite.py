"""Solutions that left the finite numbers: said, and never returned in silence.

A learned score extrapolates outside of the data, and a reversed drift may grow faster than linearly there, so a few of
many samples can explode. What explodes to 1e30 in single precision is on its way to infinity: `limit` is where the
square of a number, which every mean square takes, is no longer finite.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import State
from ._validate import is_concrete

__all__ = ["NonFiniteWarning", "all_fine", "warn_of_non_finite"]


class NonFiniteWarning(RuntimeWarning):
    """Some of the returned states are not finite, or so large that their squares are not."""


def limit(dtype: Any) -> float:
    """The largest number whose square is finite in this precision, 1.8e19 in single."""
    return float(np.sqrt(float(jnp.finfo(dtype).max)))


def all_fine(x: State) -> jax.Array:
    """Whether all numbers are finite and not absurd: what a compiled solve returns beside its states."""
    return jnp.stack([(jnp.abs(leaf) <= limit(leaf.dtype)).all() for leaf in jtu.tree_leaves(x)]).all()


@eqx.filter_jit
def _bad(x: State, axes: int) -> jax.Array:
    """Where a state is not finite, over its leading axes."""
    each = [
        (~(jnp.abs(leaf) <= limit(leaf.dtype))).reshape(*leaf.shape[:axes], -1).any(axis=axes)
        for leaf in jtu.tree_leaves(x)
    ]
    return jnp.stack(each).any(axis=0)


def warn_of_non_finite(fine: Any, x: State, what: str, ts: Any = None, *, axes: int = 1, stacklevel: int = 3) -> None:
    """Warn where states are not finite: how many, the first of which, and from what time on.

    Args:
        fine: what `all_fine` said of them; unknown under a JAX transformation, where nothing is said.
        x: states with the samples in front, or cases and samples.
        what: what the first axis counts: "sample" or "case".
        ts: the times of the axis behind these, where there is one.
        axes: how many axes count samples.
        stacklevel: as for `warnings.warn`, from the caller's caller.
    """
    if not is_concrete(fine, x) or bool(fine):
        return
    bad: Any = np.asarray(_bad(x, axes + (ts is not None)))
    since = ""
    if ts is not None:
        first = float(ts[int(np.argmax(bad.reshape(-1, bad.shape[-1]).any(axis=0)))])
        since, bad = f", from t = {first:g} on", bad.any(axis=-1)
    touched = bad.reshape(bad.shape[0], -1).any(axis=1)
    names = ", ".join(str(i) for i in np.flatnonzero(touched)[:5]) + (", ..." if touched.sum() > 5 else "")
    see = "" if ts is not None else " `saveat=diffrax.SaveAt(t0=True, steps=True)` shows from what time on."
    warnings.warn(
        f"{bad.sum()} of {bad.size} solutions are not finite or beyond {limit(jtu.tree_leaves(x)[0].dtype):.0e} "
        f"({what} {names}){since}: a score that extrapolates outside of its data, or steps that are too long. Take "
        "finer steps near the end, another solver, or a network with bounded outputs; leave them out by "
        f"`jnp.isfinite(x)`, and count them in what you report.{see}",
        NonFiniteWarning,
        stacklevel=stacklevel + 1,
    )
