"""Where an equation with a score is more than a sum: its reference cancels, and outside of what it knows physics runs.

    -(A + D) + C·(D + ½g²·r) = -A + (C - 1)·D + C·½g²·r          a score counted from D
    (1 - w)·[-P + C·½g²·s] + w·(C - 1)·P                         w = 0 inside of what a score knows, to 1 outside

Functions of the summands that `_algebra` makes; no class of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from .._types import State
from ._coefficient import scale

__all__ = ["blended", "cancelled", "links"]


def links(parts: tuple[Any, ...]) -> tuple[tuple[int, int, int], ...]:
    """The summands of scores' references that the equation contains too: (score, summand, part)."""
    return tuple(
        (i, j, k)
        for i, part in enumerate(parts)
        if (reference := part.drift.reference) is not None and not (reference.g and reference.g.has_zeros())
        for j, summand in enumerate(reference.drift.summands)
        for k, other in enumerate(parts)
        if other.drift is summand.drift and other.reversed is not part.reversed
    )


def cancelled(parts: tuple[Any, ...], links: tuple[tuple[int, int, int], ...]) -> tuple[Any, ...]:
    """The summands with the scores' references apart, and what is left of them and of the physics that they cancel."""
    physics = {k for _, _, k in links}
    left_over: list[Any] = []
    for i, part in enumerate(parts):
        if i in physics:
            continue
        reference = part.drift.reference
        if reference is None:
            left_over.append(part)
            continue
        for j, summand in enumerate(reference.drift.summands):
            other = next((parts[k] for score, own, k in links if (score, own) == (i, j)), None)
            c = part.coefficient * summand.coefficient - (0 if other is None else other.coefficient)
            if not (isinstance(c, int | float) and c == 0):
                along = replace(reference, drift=summand.drift, g=reference.g if other is None else None)
                left_over.append(replace(part, coefficient=c, drift=along, reversed=part.reversed ^ summand.reversed))
        left_over.append(replace(part, drift=part.drift.free()))
    return tuple(left_over)


def blended(w: State, change: State, over: Any, back: Callable[[], State]) -> State:
    """(1 - w)·change + w·over·back(), where the first may be anything once w is 1."""
    inside = jtu.tree_map(lambda w, c: jnp.where(w < 1, (1 - w) * c, 0), w, change)
    if isinstance(over, int | float) and over == 0:  # of a flow nothing is left, and a step needs no reversal
        return inside
    return jtu.tree_map(lambda w, c, f: c + w * f, w, inside, scale(over, back()))
