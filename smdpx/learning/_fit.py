"""Training: windows drawn on the device, many updates in one compiled call, the host told now and then.

    θ ← θ - optimiser(∇_θ loss(equation(θ), windows)),      θ̄ ← a θ̄ + (1 - a) θ

Called with arrays, `fit` reports progress, calls back, writes checkpoints, and raises where a loss is not
finite. Called under a JAX transformation it is one pure function of its arrays, so
`eqx.filter_vmap(lambda key: sx.fit(...))(keys)` trains many seeds side by side in one program.
"""

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._drift import ReverseDrift, Score, scores
from ..solving import _validate as validate
from ._checkpoint import restore, save
from ._progress import Progress, progress_bar
from ._sharding import check_sharding, mean_over_devices, on_every_device
from ._windows import FreshPaths, Windows, check_window, draw, even_step, long_steps
from .losses._abstract import AbstractLoss
from .losses._window_loss import WindowLoss

__all__ = ["FitDiverged", "Stage", "fit"]


class Stage(eqx.Module):
    """One stage of a curriculum: a window size and how long to train on it.

    Attributes:
        window: states a window, at least 2; 2 is the one-step loss.
        updates: optimiser updates, at least 1.
        learning_rate: the peak of a schedule that warms up over 5 % of the updates and decays to 1 % of the
            peak on a cosine; or an optax schedule of your own, `optax.constant_schedule(1e-4)` for a
            constant. Good values: 1e-3 for small networks, 1e-4 for convolutional ones.
        stride: grid steps between a window's states.
        batch: windows an update.

    >>> import smdpx as sx
    >>> curriculum = [sx.Stage(window=2, updates=10_000), sx.Stage(window=10, updates=2_000, learning_rate=1e-4)]
    """

    window: int = eqx.field(static=True, default=2)
    updates: int = eqx.field(static=True, default=10_000)
    learning_rate: float | optax.Schedule = eqx.field(static=True, default=1e-3)
    stride: int = eqx.field(static=True, default=1)
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ValueError(f"`Stage` needs at least one update and one window; got {self.updates}, {self.batch}.")
        if not callable(self.learning_rate) and not self.learning_rate > 0:
            raise ValueError(f"`Stage` needs a learning rate > 0; got {self.learning_rate}.")

    def schedule(self) -> optax.Schedule:
        """The learning rate as a function of the update within the stage."""
        if callable(self.learning_rate):
            return self.learning_rate
        peak, warmup = self.learning_rate, self.updates // 20
        return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, warmup, self.updates, 0.01 * peak)


class FitDiverged(RuntimeError):
    """A loss that is not finite.

    Attributes:
        update: the update at which it came, counted from 0 over the whole curriculum.
        window: the window size of its stage.
        loss: the last finite loss; NaN where the first update of a stage has none.
        trained: the averaged model of the updates whose loss was finite.
    """

    def __init__(self, update: int, window: int, loss: float, trained: Any):
        super().__init__(
            f"The loss is not finite at update {update} (window {window}); the last finite loss was {loss:.6g}. "
            "Lower the learning rate, shorten the window, or clip the gradient: `optimizer=lambda lr: optax.chain("
            "optax.clip_by_global_norm(1.0), optax.adam(lr))`. The last finite model is this error's `trained`."
        )
        self.update, self.window, self.loss, self.trained = update, window, loss, trained


class _State(eqx.Module):
    """What changes from update to update."""

    params: Any
    average: Any
    optimizer: Any
    update: Array  # within the stage
    loss: Array  # summed since the last report
    last: Array  # the last finite loss
    finite: Array


def fit(
    equation: AbstractDrift | SDE,
    paths: State | FreshPaths,
    ts: Any,
    *,
    key: Key,
    loss: AbstractLoss | None = None,
    curriculum: Sequence[Stage] = (Stage(),),
    optimizer: Callable[..., optax.GradientTransformation] = optax.adam,
    average: float = 0.999,
    callback: Callable[[Progress], dict[str, float] | None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    sharding: jax.sharding.NamedSharding | None = None,
    args: Args = None,
) -> Any:
    """Train the score in an equation on simulated trajectories (arXiv:2301.10250, eqs 3-5).

    Backward windows learn the drift with coefficient 2 (theorem A.2), so train `-P + 2*s` with the default
    loss, or `-P + s` with `TwoWayLoss`; then use `s` with any coefficient. An equation without a score
    trains its `ReverseDrift` (a surrogate of the physics).

    Args:
        equation: a reverse equation, `-P + 2*s`; with noise, `-P + 2*s + g`, the unroll is noisy.
        paths: trajectories of shape (trajectories, times, ...), as from `simulate`; or `FreshPaths`, which simulates
            new ones for every update.
        ts: their increasing grid. On an uneven grid each window takes its own steps.
        key: a JAX key. The same key gives the same weights, bit for bit, on the same machine.
        loss: `WindowLoss()` (default), `TwoWayLoss()`, `ImplicitScoreMatching()`, `SlicedScoreMatching()`,
            or your own `AbstractLoss`.
        curriculum: stages, run in order; each compiles once.
        optimizer: a function from a learning-rate schedule to an optax optimiser: `optax.adam`.
        average: decay a of the exponential moving average of the weights that is returned, over
            the weights whose loss was seen to be finite; 0 for the last of these.
        callback: called with a `Progress` at each report (some fifty in all); what it returns is shown.
        checkpoint: a file to write the training's state to at each report, and to resume from.
        sharding: how a batch of windows lies on several devices, its first axis split:
            `NamedSharding(jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,)), PartitionSpec("batch"))`.
            Weights are on every device, and gradients are summed over them. Default: one device.
        args: handed to every callable untouched.

    Returns:
        The trained drift: the `Score` of the equation with the new weights.

    Raises:
        ValueError: trajectories that do not fit their times or are not finite (which, and when), a
            window longer than the trajectories, states that the drifts do not return alike.
        TypeError: an equation with nothing to train.
        FitDiverged: a loss that is not finite; carries the last finite model.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> ts = jnp.linspace(0.0, 1.0, 11)
    >>> paths = sx.simulate(P + g, jnp.ones(32), ts, key=jax.random.key(0))
    >>> s = sx.Score(sx.nn.MLP(key=jax.random.key(1)), g)
    >>> s = sx.fit(-P + 2 * s, paths, ts, key=jax.random.key(2), curriculum=[sx.Stage(updates=10)])
    >>> print(-P + s)
    dx = [-P(x) + ½g²·s(t, x)] dτ
    """
    loss = WindowLoss() if loss is None else loss
    ts = _check(equation, paths, ts, loss, curriculum, average, sharding, args)
    run = _Run(equation, loss, optimizer, average, even_step(ts), _trained_steps(paths, ts, curriculum), sharding)
    start = paths.x0 if isinstance(paths, FreshPaths) else paths
    paths = paths if isinstance(paths, FreshPaths) else jtu.tree_map(jnp.asarray, paths)
    dtype = jtu.tree_leaves(start)[0].dtype
    data = (paths, jnp.asarray(ts, dtype), {stage.stride: long_steps(ts, stage.stride, dtype) for stage in curriculum})
    if not validate.is_concrete(equation, paths, key, args):
        if callback is not None or checkpoint is not None:
            raise ValueError("Under a JAX transformation `fit` is one program: no `callback`, no `checkpoint`.")
        return _fit_traced(run, curriculum, data, key, args)
    return _fit_on_host(run, curriculum, data, key, args, callback, checkpoint)


def _fit_traced(run: "_Run", curriculum: Sequence[Stage], data: Any, key: Key, args: Args) -> Any:
    params = average = run.initial()
    finite = jnp.array(True)
    for index, stage in enumerate(curriculum):
        state = run.begin(stage, params, average)
        state = run.advance(stage, index, state, stage.updates, data, key, args, guard=True)
        params, average, finite = state.params, state.average, finite & state.finite
    average = eqx.error_if(
        average, ~finite, "`fit`: a loss is not finite; call it outside of jit and vmap to see where."
    )
    return run.trained(average)


def _fit_on_host(run: "_Run", curriculum: Any, data: Any, key: Key, args: Args, callback: Any, checkpoint: Any) -> Any:
    total = sum(stage.updates for stage in curriculum)
    run, data, key, args = on_every_device((run, data, key, args), run.sharding)
    advance = eqx.filter_jit(run.advance)
    params = average = run.initial()
    resumed, restored = restore(checkpoint, run.begin(curriculum[0], params, average))
    done = sum(stage.updates for stage in curriculum[:resumed])
    with progress_bar(total) as show:
        for index, stage in enumerate(curriculum[resumed:], start=resumed):
            state = run.begin(stage, params, average) if restored is None or index > resumed else restored
            state = on_every_device(state, run.sharding)
            for stop in _reports(int(state.update), stage.updates, total):
                started, before = time.perf_counter(), int(state.update)
                start = state
                state = advance(stage, index, start, jnp.int32(stop), data, key, args, guard=False)
                if not bool(state.finite):  # run these updates again, to stop where the loss is last finite
                    state = advance(stage, index, start, jnp.int32(stop), data, key, args, guard=True)
                updates = int(state.update) - before  # waits for the device: the one sync of a report
                mean = float(state.loss) / max(updates, 1)
                if not bool(state.finite):
                    at, last = done + int(state.update), float(state.last)
                    raise FitDiverged(at, stage.window, last, run.trained(state.average))
                save(checkpoint, index, state)
                rate = updates / (time.perf_counter() - started)
                report = Progress(done + stop, total, stage.window, mean, rate, run.trained(state.average))
                show(report, None if callback is None else callback(report))
            params, average, done = state.params, state.average, done + stage.updates
    return run.trained(average)


class _Run(eqx.Module):
    """The parts of a training that stay the same, and one compiled piece of it."""

    equation: Any
    loss: AbstractLoss
    optimizer: Any = eqx.field(static=True)
    average: float = eqx.field(static=True)
    step: float | None = eqx.field(static=True)
    steps: tuple[float, float] = eqx.field(static=True)
    sharding: jax.sharding.NamedSharding | None = eqx.field(static=True)

    def _split(self) -> tuple[Any, Any]:
        """The trained network's arrays, and everything else."""
        nothing = jtu.tree_map(lambda _: False, self.equation)
        spec = eqx.tree_at(_network, nothing, jtu.tree_map(eqx.is_inexact_array, _network(self.equation)))
        return eqx.partition(self.equation, spec)

    def initial(self) -> Any:
        """The parameters to start from."""
        return self._split()[0]

    def trained(self, params: Any) -> Any:
        """The trained drift with these parameters."""
        drift = trainable(eqx.combine(params, self._split()[1]))
        return dataclasses.replace(drift, steps=self.steps) if isinstance(drift, Score) else drift

    def begin(self, stage: Stage, params: Any, average: Any) -> _State:
        """The state at the start of a stage: the weights go on, the optimiser and the average start anew."""
        optimizer = self.optimizer(stage.schedule()).init(params)
        zero = jnp.zeros((), jnp.finfo(jtu.tree_leaves(params)[0].dtype).dtype)  # real, of complex weights too
        return _State(params, average, optimizer, jnp.int32(0), zero, jnp.full_like(zero, jnp.nan), jnp.array(True))

    def advance(
        self, stage: Stage, index: int, state: _State, stop: Any, data: Any, key: Key, args: Args, *, guard: bool
    ) -> _State:
        """Updates until `stop` in one compiled loop, whatever their number.

        With a guard the loop stops at the first loss that is not finite, and the average holds no weights of
        a later update. Without one it is some 4 % faster, and only says afterwards that there was such a loss.
        """
        paths, ts, steps = data
        step = steps[stage.stride] if self.step is None else self.step
        rest = self._split()[1]
        optimizer = self.optimizer(stage.schedule())
        stage_key = jr.fold_in(key, index)

        def gradient_on(windows: Windows, params: Any, key: Key) -> tuple[Array, Any]:
            return jax.value_and_grad(lambda p: self.loss(eqx.combine(p, rest), windows, key, args))(params)

        def gradient_of(params: Any, key: Key) -> tuple[Array, Any]:
            key_windows, key_loss = jr.split(key)
            how = {"size": stage.window, "stride": stage.stride, "batch": stage.batch, "sharding": self.sharding}
            windows = draw(paths, ts, step, key=key_windows, args=args, **how)
            return mean_over_devices(gradient_on, self.sharding)(windows, params, key_loss)

        def more(state: _State) -> Array:
            return (state.update < stop) & state.finite

        def update(state: _State) -> _State:
            value, gradient = gradient_of(state.params, jr.fold_in(stage_key, state.update))
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
                step, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
                params = optax.apply_updates(state.params, step)
            total = state.loss + (jnp.where(finite, value, 0) if guard else value)
            last = jnp.where(finite, value, state.last) if guard else value
            done = state.update + jnp.asarray(finite, jnp.int32)
            return _State(params, average, optimizer_state, done, total, last, jnp.asarray(finite))

        state = eqx.tree_at(lambda s: s.loss, state, jnp.zeros_like(state.loss))
        if guard:
            return jax.lax.while_loop(more, update, state)
        state = jax.lax.fori_loop(state.update, stop, lambda _, state: update(state), state)
        return eqx.tree_at(lambda s: s.finite, state, jnp.isfinite(state.loss))


def trainable(equation: AbstractDrift | SDE) -> Any:
    """The drift of an equation that is trained: its score, or without one its reverse simulator."""
    found = scores(equation)
    if len(found) == 1:
        return found[0][1]
    surrogates = [term.drift for term in equation.summands if isinstance(term.drift, ReverseDrift)]
    if not found and len(surrogates) == 1:
        return surrogates[0]
    raise TypeError(
        f"`fit` trains one score, or one `ReverseDrift` where there is no score; `{equation}` has {len(found)} and "
        f"{len(surrogates)}. Write `-P + 2*s` with `s = Score(net, g)`."
    )


def _network(equation: Any) -> Any:
    drift = trainable(equation)
    return drift.net if isinstance(drift, Score) else drift.f


def _check(
    equation: Any, paths: Any, ts: Any, loss: Any, curriculum: Any, average: float, sharding: Any, args: Args
) -> Any:
    if not isinstance(equation, AbstractDrift | SDE):
        raise TypeError(f"`fit` needs an equation such as `-P + 2*s`; got {type(equation).__name__}.")
    network = _network(equation)
    if not any(map(eqx.is_inexact_array, jtu.tree_leaves(network))):
        raise TypeError(
            f"`{equation}` has nothing to train: {trainable(equation)!r} holds no arrays. Use `sx.nn.MLP`. Weights "
            "that a function closes over are constants to JAX: make them leaves, by an `eqx.Module` with the weights "
            "as a field, or by `jax.tree_util.Partial(lambda w, t, x, args: net.apply(w, t, x), weights)`."
        )
    ts = validate.check_times(ts)
    start = _check_data(paths, ts, curriculum, args)
    if not curriculum:
        raise ValueError("`curriculum` has no stages: give at least one `sx.Stage(updates=...)`.")
    for stage in curriculum:
        check_window(stage.window, stage.stride, len(ts))
        validate.check_step_grid(equation, ts[:: stage.stride])
    if isinstance(paths, FreshPaths) and paths.jitter:
        validate.check_free_steps(equation)
    windows = paths.windows if isinstance(paths, FreshPaths) else 1
    check_sharding(sharding, [stage.batch // windows for stage in curriculum], loss)
    if not 0 <= average < 1:
        raise ValueError(f"`average` is a decay in [0, 1); got {average}.")
    validate.check_drifts(equation, start, args)
    for coefficient, score in scores(equation):
        if isinstance(score.g.g, int | float) and score.g.g == 0:
            raise ValueError(f"{score!r} has g = 0: without noise there is no score to learn.")
        if isinstance(coefficient, int | float) and coefficient != (loss.coefficient or coefficient):
            warnings.warn(
                f"`{type(loss).__name__}` is minimised by the drift with score coefficient {loss.coefficient}, so "
                f"training `{equation}` gives a score that is off by {loss.coefficient}/{coefficient:g}. Train "
                f"`-P + {loss.coefficient}*s`; use any coefficient afterwards.",
                stacklevel=3,
            )
    return ts


def _check_data(paths: Any, ts: Any, curriculum: Any, args: Args) -> State:
    """Check what windows are drawn from; the states at its first time."""
    if not isinstance(paths, FreshPaths):
        validate.check_paths(paths, ts)
        return jtu.tree_map(lambda leaf: leaf[:, 0], paths)
    validate.check_states(paths.x0, "FreshPaths(x0=...)")
    validate.check_finite_states(paths.x0, "FreshPaths(x0=...)")
    validate.check_drifts(paths.process, paths.x0, args)
    validate.check_solver(paths.process, paths.solver, None)
    if paths.jitter:
        validate.check_free_steps(paths.process)
    else:
        validate.check_step_grid(paths.process, ts)
    for stage in curriculum:
        if stage.batch % paths.windows:
            raise ValueError(
                f"`FreshPaths` cuts {paths.windows} windows from each trajectory, and a stage's batch of {stage.batch} "
                "is no multiple of it."
            )
    return paths.x0


def _trained_steps(paths: Any, ts: Any, curriculum: Sequence[Stage]) -> tuple[float, float]:
    """The shortest and the longest step that the training unrolls."""
    earliest, latest = paths.bounds(np.asarray(ts)) if isinstance(paths, FreshPaths) else (np.asarray(ts),) * 2
    strides = {stage.stride for stage in curriculum}
    shortest = min(float((earliest[stride:] - latest[:-stride]).min()) for stride in strides)
    longest = max(float((latest[stride:] - earliest[:-stride]).max()) for stride in strides)
    return shortest, longest


def _reports(start: int, stop: int, total: int) -> Iterator[int]:
    """Where to stop and report: every fiftieth of the whole training."""
    every = max(1, -(-total // 50))
    yield from (min(update + every, stop) for update in range(start, stop, every))
