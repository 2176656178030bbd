"""The training itself, as a pure function of its arrays: it runs under `jit` and `vmap`, and compiles once.

θ ← θ - optimiser(∇_θ loss(equation(θ), windows)),      θ̄ ← a θ̄ + (1 - a) θ
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array

from .._types import Key
from ..equation._conditions import rows, with_conditions
from ..equation._drift import ReverseDrift
from ..equation._score import Score
from ..equation._trained import Trained
from ..solving import _validate as validate
from ..solving._options import integer
from ._parts import Parts
from ._sharding import mean_over_devices
from .losses._abstract import AbstractLoss

__all__ = ["Stage", "Training", "TrainingState", "advance"]


class Stage(eqx.Module):
    """One stage of a curriculum: a window size and how long to train on it.

    Attributes:
        window: states a window, at least 2; 2 is the one-step loss.
        updates: optimiser updates, at least 1.
        learning_rate: the peak of a schedule that warms up over 5 % of the updates and decays to 1 % of the
            peak on a cosine; or an optax schedule of your own, `optax.constant_schedule(1e-4)` for a
            constant. The default is good for networks between the data's moments, convolutions among them;
            arXiv:2301.10250 trains its own by 1e-4. A number may be traced: `jax.vmap` over learning rates trains them
            side by side, and another one compiles nothing.
        stride: grid steps between a window's states.
        batch: windows an update.
        patience: with `fit(validation=...)`: end the stage at the first report that finds no lower validation loss in
            this many updates. Default: all updates are done, and the best of the reports is kept all the same. The
            schedule of the learning rate knows nothing of it, and what its decay would have gained is lost.

    Raises:
        ValueError: fewer than one update, window, or update of patience; a learning rate that is not positive.
        TypeError: a count that is no integer; a learning rate that is neither a number nor a schedule.

    >>> import smdpx as sx
    >>> curriculum = [sx.Stage(window=2, updates=10_000), sx.Stage(window=10, updates=2_000, learning_rate=1e-4)]
    """

    window: int = eqx.field(static=True, default=2, converter=partial(integer, "window"))
    updates: int = eqx.field(static=True, default=10_000, converter=partial(integer, "updates"))
    learning_rate: Any = 1e-3
    stride: int = eqx.field(static=True, default=1, converter=partial(integer, "stride"))
    batch: int = eqx.field(static=True, default=256, converter=partial(integer, "batch"))
    patience: Any = None

    def __check_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ValueError(f"`Stage` needs at least one update and one window; got {self.updates}, {self.batch}.")
        if self.patience is not None and validate.is_concrete(self.patience) and integer("patience", self.patience) < 1:
            raise ValueError(
                f"`Stage(patience={self.patience})` counts updates without a lower validation loss: at least 1."
            )
        if callable(self.learning_rate) or not validate.is_concrete(self.learning_rate):
            return
        rate = np.asarray(self.learning_rate)
        if rate.shape or not (jnp.issubdtype(rate.dtype, jnp.floating) or jnp.issubdtype(rate.dtype, jnp.integer)):
            raise TypeError(
                f"`learning_rate` is a number, such as 1e-3, or an optax schedule; got {self.learning_rate!r}."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"`Stage` needs a learning rate > 0; got {self.learning_rate}.")

    def schedule(self) -> Any:
        """The learning rate as a function of the update within the stage."""
        if callable(self.learning_rate):
            return self.learning_rate
        warmup = self.updates // 20
        shape = optax.warmup_cosine_decay_schedule(0.0 if warmup else 1.0, 1.0, warmup, self.updates, 0.01)

        def schedule(count: Any) -> Any:
            return self.learning_rate * jnp.asarray(shape(count))

        return schedule


class TrainingState(eqx.Module):
    """What changes from update to update."""

    params: Any
    average: Any
    optimizer: Any
    update: Array  # within the stage
    loss: Array  # summed since the last report
    last: Array  # the last finite loss; before the first update 0
    finite: Array


class Training(eqx.Module):
    """What stays the same from update to update.

    Attributes:
        equation: what is trained, with its first weights.
        parts: which of its drifts are.
        loss: what is minimised.
        optimizer: from a learning-rate schedule to an optax optimiser.
        average: the decay of the averaged weights.
        sharding: how a batch lies on several devices.
    """

    equation: Any
    parts: Parts
    loss: AbstractLoss
    optimizer: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    average: float = eqx.field(static=True)
    sharding: jax.sharding.NamedSharding | None = eqx.field(static=True)

    def split(self) -> tuple[Any, Any]:
        """The arrays that are trained, and everything else."""
        return eqx.partition(self.equation, self.parts.spec(self.equation))

    def trained(self, params: Any, how: Trained) -> Any:
        """The trained drifts with these parameters; scores and reverse simulators remember what with."""
        drifts = tuple(
            dataclasses.replace(drift, trained=how) if isinstance(drift, Score | ReverseDrift) else drift
            for drift in self.parts.drifts(eqx.combine(params, self.split()[1]))
        )
        return drifts[0] if self.parts.alone else drifts

    def begin(self, stage: Stage, params: Any, average: Any) -> TrainingState:
        """The state at the start of a stage: the weights go on, the optimiser and the average start anew."""
        optimizer = self.optimizer(stage.schedule()).init(params)
        # Weakly typed numbers, as some optimisers begin with, would compile the update a second time.
        strong = lambda leaf: jnp.asarray(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf  # noqa: E731
        optimizer = jtu.tree_map(strong, optimizer)
        zero = jnp.zeros((), jnp.finfo(jtu.tree_leaves(params)[0].dtype).dtype)  # real, of complex weights too
        return TrainingState(params, average, optimizer, jnp.int32(0), zero, zero, jnp.array(True))

    def over_windows(self, what: Callable[..., Any], stage: Stage, params: Any, source: Any, key: Key) -> Any:
        """What is asked of the loss of a batch of windows as a function of the parameters: itself, its gradient."""
        rest = self.split()[1]
        key_windows, key_loss = jr.split(key)
        how = {"size": stage.window, "stride": stage.stride, "batch": stage.batch, "sharding": self.sharding}
        windows, args = source.draw(key=key_windows, **how)

        def on(batch: Any, params: Any, key: Key) -> Any:
            windows, values = batch
            own = with_conditions(args, values)
            return what(lambda p: _scalar(self.loss, self.loss(eqx.combine(p, rest), windows, key, own)))(params)

        return mean_over_devices(on, self.sharding)((windows, rows(args)), params, key_loss)

    def update(self, stage: Stage, state: TrainingState, source: Any, key: Key, *, guard: bool) -> TrainingState:
        """One update; with a guard the average takes no weights whose loss is not finite."""
        key = jr.fold_in(key, state.update)
        value, gradient = self.over_windows(jax.value_and_grad, stage, state.params, source, key)
        value = value.astype(state.loss.dtype)  # states and weights may differ in precision
        finite = jnp.isfinite(value) if guard else True
        # The average takes only weights whose loss was seen to be finite, so that it can be handed back.
        ramp = jnp.minimum(self.average, (1 + state.update) / (10 + state.update))

        def blend(a: Array, p: Array) -> Array:
            decay = ramp.astype(a.dtype)
            return jnp.where(finite, decay * a + (1 - decay) * p, a) if guard else decay * a + (1 - decay) * p

        average = jtu.tree_map(blend, state.average, state.params)
        # optax counts in integers and multiplies them with floats: a user's strict promotion refuses that.
        # JAX's gradient in complex weights is the conjugate of the direction of steepest ascent.
        with jax.numpy_dtype_promotion("standard"):
            gradient = jtu.tree_map(jnp.conj, gradient)
            # What plateaus and line searches look at; the loss of other weights is that on the same windows.
            seen = {
                "value": value,
                "grad": gradient,
                "value_fn": lambda p: self.over_windows(lambda loss: loss, stage, p, source, key).astype(value.dtype),
            }
            optimizer = optax.with_extra_args_support(self.optimizer(stage.schedule()))
            step, optimizer = optimizer.update(gradient, state.optimizer, state.params, **seen)
            params = optax.apply_updates(state.params, step)
        total = state.loss + (jnp.where(finite, value, 0) if guard else value)
        last = jnp.where(finite, value, state.last) if guard else value
        done = state.update + jnp.asarray(finite, jnp.int32)
        return TrainingState(params, average, optimizer, done, total, last, jnp.asarray(finite))


def _scalar(loss: AbstractLoss, value: Any) -> Any:
    if jnp.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = jnp.result_type(value), list(jnp.shape(value))
        raise TypeError(
            f"`{type(loss).__name__}` must return one real number, the mean over its windows; it returned "
            f"{got[0]}{got[1]}. Write `jnp.mean(...)`."
        )
    return value


def advance(
    training: Training, stage: Stage, state: TrainingState, stop: Any, source: Any, key: Key, *, guard: bool
) -> TrainingState:
    """Updates until `stop` in one compiled loop, whatever their number.

    With a guard the loop stops at the first loss that is not finite, and the average holds no weights of
    a later update. Without one it is some 4 % faster, and only says afterwards that there was such a loss.

    Args:
        training: what stays the same.
        stage: the stage of the curriculum.
        state: where it begins; the sum of losses starts anew.
        stop: the update of the stage to stop before.
        source: what windows are drawn from.
        key: the stage's own.
        guard: whether to stop at a loss that is not finite.

    Returns:
        The state after the last update.
    """

    def update(state: TrainingState) -> TrainingState:
        return training.update(stage, state, source, key, guard=guard)

    state = eqx.tree_at(lambda s: s.loss, state, jnp.zeros_like(state.loss))
    if guard:
        return jax.lax.while_loop(lambda state: (state.update < stop) & state.finite, update, state)
    state = jax.lax.fori_loop(state.update, stop, lambda _, state: update(state), state)
    return eqx.tree_at(lambda s: s.finite, state, jnp.isfinite(state.loss))
