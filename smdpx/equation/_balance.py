"""Where an equation with a score is more than a sum: its reference cancels, and outside of what it knows physics runs.

    -(A + D) + C·(D + ½g²·r) = -A + (C - 1)·D + C·½g²·r          a score counted from D
    (1 - w)·[-P + C·½g²·s] + w·(C - 1)·P                         w = 0 inside of what a score knows, to 1 outside

The second with the forward drifts as P (a reverse one beside them is guidance, and stays), in components that -P
carries further out: where it leads back in, P would lead out. An oscillator whose position runs forward and whose
velocity runs backward is none: it leaves for infinity.

Functions of the summands that `_algebra` makes; no drift of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.core import Tracer

from .._types import State
from ._coefficient import scale

__all__ = ["Halves", "Link", "cancelled", "guarded", "halves", "links", "once", "printed", "same"]


class Link(NamedTuple):
    """A summand of a score's reference that the equation contains too, by the numbers of what it is made of.

    Attributes:
        score: the part that is the score.
        summand: the summand of its reference.
        part: the part that this summand cancels.
        everywhere: whether every component is known to have noise, so that it cancels in all of them.
    """

    score: int
    summand: int
    part: int
    everywhere: bool


def links(parts: tuple[Any, ...]) -> tuple[Link, ...]:
    """What cancels in a sum, each part once: of two scores around one D the first takes it, the second adds its own."""
    found: dict[int, Link] = {}
    for i, part in enumerate(parts):
        reference = part.drift.reference
        if reference is None:
            continue
        for j, summand in enumerate(reference.drift.summands):
            turned = part.reversed ^ summand.reversed
            for k, other in enumerate(parts):
                if k not in found and other.reversed is not turned and same(other.drift, summand.drift):
                    found[k] = Link(i, j, k, reference.g.everywhere())
    return tuple(found.values())


def same(one: Any, other: Any) -> bool:
    """Whether two drifts are one: a score that was trained, or read from a file, has a copy of what it counts from."""
    if one is other:
        return True
    with jax.ensure_compile_time_eval():
        equal = eqx.tree_equal(one, other)
    return not isinstance(equal, Tracer) and bool(equal)


def cancelled(parts: tuple[Any, ...], links: tuple[Link, ...]) -> tuple[Any, ...]:
    """The summands with the scores' references apart, and what is left of them and of the physics that they cancel.

    Components without noise have no score: where there may be some, they keep their physics.
    """
    of = {(link.score, link.summand): link for link in links}
    physics = {link.part for link in links}
    left_over: list[Any] = []
    for i, part in enumerate(parts):
        if i in physics:
            continue
        reference = part.drift.reference
        if reference is None:
            left_over.append(part)
            continue
        for j, summand in enumerate(reference.drift.summands):
            along, c = replace(reference, drift=summand.drift), part.coefficient * summand.coefficient
            if (link := of.get((i, j))) is not None:
                other = parts[link.part]
                c, along = c - other.coefficient, replace(along, drift=other.drift)
                if link.everywhere:
                    along = replace(along, everywhere=True)
                else:
                    left_over.append(replace(other, drift=reference.elsewhere(other.drift)))
            if not (isinstance(c, int | float) and c == 0):
                left_over.append(replace(part, coefficient=c, drift=along, reversed=part.reversed ^ summand.reversed))
        left_over.append(replace(part, drift=part.drift.free()))
    return tuple(left_over)


def printed(parts: tuple[Any, ...], links: tuple[Link, ...]) -> tuple[Any, ...]:
    """The summands as they are printed: what cancels is left out, but where some component is known to keep it."""
    known = (link for link in links if not parts[link.score].drift.reference.g.has_zeros())
    return cancelled(parts, tuple(link._replace(everywhere=True) for link in known))


def guarded(
    parts: tuple[Any, ...],
    backwards: bool,
    own: Callable[[list[Any]], State],
    back: Callable[[list[Any]], State] | None,
    change: State,
    t: Any,
    x: State,
    args: Any,
) -> State:
    """The change of a sum; outside of what a score knows the physics' own, in components that it confines.

    Args:
        parts: the summands.
        backwards: whether they run against physical time.
        own: what some of them change.
        back: what they change the other way; without it the change is 0 outside.
        change: the change of all.
        t: the physical time.
        x: one sample.
        args: its own.
    """
    drifts = [part for part in parts if not part.drift.is_score]
    # Beside forward physics a reverse drift is guidance: it points where it points, inside and outside.
    forward, reverse = ([part for part in drifts if part.reversed is way] for way in (backwards, not backwards))
    physics, guidance = (forward, reverse) if forward else (reverse, [])
    ways = [(part.drift.outside(t, x, args), part.coefficient) for part in parts]
    known = [(w, coefficient) for w, coefficient in ways if w is not None]
    if not physics or not known:
        return change
    outwards = own(physics) if backwards else scale(-1, own(physics))
    w = jtu.tree_map(lambda w, f: jnp.where(w * f > 0, jnp.abs(w), 0), known[0][0], outwards)
    if back is None:
        return _blended(w, change, 0, lambda: change)
    C = sum(coefficient for _, coefficient in known)  # of an ensemble's scores together
    blended = _blended(w, change, C - 1, lambda: back(physics))
    return jtu.tree_map(lambda b, w, f: b + w * f, blended, w, own(guidance)) if guidance else blended


def once(change: Callable[[Any], State]) -> Callable[[Any], State]:
    """The change of each part, asked for again, as it is: XLA merges no callbacks, and no gradients."""
    changes: dict[int, State] = {}

    def known(part: Any) -> State:
        if id(part) not in changes:
            changes[id(part)] = change(part)
        return changes[id(part)]

    return known


def _blended(w: State, change: State, over: Any, back: Callable[[], State]) -> State:
    """(1 - w)·change + w·over·back(), where the first may be anything once w is 1."""
    inside = jtu.tree_map(lambda w, c: jnp.where(w < 1, (1 - w) * c, 0), w, change)
    if isinstance(over, int | float) and over == 0:  # of a flow nothing is left, and a step needs no reversal
        return inside
    return jtu.tree_map(lambda w, c, f: c + w * f, w, inside, scale(over, back()))


class Halves(NamedTuple):
    """An equation's physics and its scores apart: the change of one sample by each, called (t, x, dt, args).

    Attributes:
        physics: what is no score; what scores are counted from belongs to it.
        scores: what is left of them.
    """

    physics: Callable[..., State]
    scores: Callable[..., State]


def halves(parts: tuple[Any, ...], links: tuple[Link, ...], backwards: bool) -> Halves:
    """The two halves of a sum of drifts: where the guard acts, `guarded`, the one runs forward, and the other is 0."""
    apart = cancelled(parts, links)

    def half(scores: bool) -> Callable[..., State]:
        mine = [part for part in apart if part.drift.is_score is scores]

        def change(t: Any, x: State, dt: Any, args: Any) -> State:
            still, increment = jtu.tree_map(jnp.zeros_like, x), once(lambda part: part.increment(t, x, dt, args))

            def own(some: list[Any]) -> State:
                return _sum_of(list(map(increment, some)), still)

            def back(physics: list[Any]) -> State:
                return _sum_of([part.reversed_increment(t, x, dt, args) for part in physics], still)

            return guarded(parts, backwards, own, None if scores else back, own(mine), t, x, args)

        return change

    return Halves(half(False), half(True))


def _sum_of(changes: list[State], still: State) -> State:
    return jtu.tree_map(lambda zero, *leaves: sum(leaves, zero), still, *changes)
