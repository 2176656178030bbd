"""Which drifts of an equation a training trains: its score, or those that the user names."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu

from ..equation._algebra import SDE, AbstractDrift
from ..equation._drift import ReverseDrift
from ..equation._fixed import weights
from ..equation._score import Score, scores

__all__ = ["Parts", "parts_of"]


class Parts(eqx.Module):
    """Summands of an equation, by their numbers.

    Attributes:
        summands: which.
        alone: whether the user gets one drift back, or a tuple of them.
    """

    summands: tuple[int, ...] = eqx.field(static=True)
    alone: bool = eqx.field(static=True)

    def drifts(self, equation: AbstractDrift | SDE) -> tuple[Any, ...]:
        """The drifts themselves."""
        return tuple(equation.summands[i].drift for i in self.summands)

    def spec(self, equation: AbstractDrift | SDE) -> Any:
        """The equation's tree with True at each array that is trained."""
        networks = lambda equation: [network(drift) for drift in self.drifts(equation)]  # noqa: E731
        nothing = jtu.tree_map(lambda _: False, equation)
        return eqx.tree_at(networks, nothing, [weights(net) for net in networks(equation)])


def network(drift: Any) -> Any:
    """What of a drift is trained: of a score its network, and neither the noise nor what it is counted from."""
    return drift.net if isinstance(drift, Score) else drift


def parts_of(equation: AbstractDrift | SDE, train: Any) -> Parts:
    """The parts that `fit(train=...)` names; without it the score, or where there is none the reverse simulator.

    Raises:
        TypeError: what is no drift of the equation, is named twice or has nothing to train; or, without names, not one
            score or one reverse simulator.
    """
    parts = Parts((_default(equation),), True) if train is None else _named(equation, train)
    for drift in parts.drifts(equation):
        if not any(jtu.tree_leaves(weights(network(drift)))):
            raise TypeError(
                f"`{equation}` has nothing to train: {drift!r} holds no arrays. Use `sx.nn.MLP`. Weights "
                "that a function closes over are constants to JAX: make them leaves, by an `eqx.Module` with the "
                "weights as a field, or by `jax.tree_util.Partial(lambda w, t, x, args: net.apply(w, t, x), weights)`."
            )
    return parts


def _default(equation: AbstractDrift | SDE) -> int:
    drifts = [term.drift for term in equation.summands]
    found = [i for i, drift in enumerate(drifts) if isinstance(drift, Score)]
    surrogates = [i for i, drift in enumerate(drifts) if isinstance(drift, ReverseDrift)]
    if len(found) == 1:
        return found[0]
    if not found and len(surrogates) == 1:
        return surrogates[0]
    raise TypeError(
        f"`fit` trains one score, or one `ReverseDrift` where there is no score; `{equation}` has {len(found)} and "
        f"{len(surrogates)}. Write `-P + 2*s` with `s = Score(net, g)`, or name what is to be trained: "
        "`fit(R + 2*s, ..., train=(R, s))`."
    )


def _named(equation: AbstractDrift | SDE, train: Any) -> Parts:
    alone = not isinstance(train, Sequence)
    named = (train,) if alone else tuple(train)
    if not named:
        raise TypeError("`train` names no drift: give those of the equation that are to be trained, `train=(R, s)`.")
    places = []
    for drift in named:
        place = [i for i, term in enumerate(equation.summands) if term.drift is drift]
        if not place:
            raise TypeError(
                f"`train` names {drift!r}, which is no drift of `{equation}`: give the very objects that the equation "
                "was made of, such as `train=(R, s)` for `R + 2*s`, without signs and coefficients."
            )
        places.append(place[0])
        for _, score in scores(equation):
            if score.around is not None and any(term.drift is drift for term in score.around.summands):
                raise TypeError(
                    f"`train` names {drift!r}, which {score!r} is counted from (`around`): training would change one "
                    "of the two. Count the score from something that stays, or train them one after the other."
                )
    if len(set(places)) < len(places):
        raise TypeError(f"`train` names a drift of `{equation}` twice.")
    return Parts(tuple(places), alone)
