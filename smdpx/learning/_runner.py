"""How a training is run: on the host, which reports, calls back and writes checkpoints, or as one traced program."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from .._types import Args, Key
from ..equation._algebra import Reverse
from ..equation._score import scores
from ..equation._trained import Trained
from ..solving._failing import said_before
from ..solving._numbers import as_arrays
from ..solving._validate import is_concrete, nan_in
from ._checkpoint import Checkpoint
from ._progress import Progress, showing, telling_from_inside
from ._sharding import on_every_device
from ._training import Stage, Training, TrainingState, advance
from ._validation import Best, chunks, compare, is_over, reports_every

__all__ = ["FitDiverged", "Job", "run_on_host", "run_traced"]


# Updates before the first look at the loss.
_FIRST = 10
# Windows that are looked at where no update was possible.
_LOOKED_AT = 16
# A perfect one-step loss is about 1 in units of the noise, and untrained networks of the right scale are near it.
_FAR_OFF = 1e4
# The loss of data whose noise is a fifth of what g says; and updates after which it means something.
_LITTLE, _ENOUGH = 0.04, 200
_SCALES = "put the network between the data's own moments, `sx.nn.Whitened(net, paths)`"


class FitDiverged(RuntimeError):
    """A loss that is not finite.

    Attributes:
        update: the update at which it came, counted from 0 over the whole curriculum.
        window: the window size of its stage.
        loss: the last finite loss; NaN where the first update of a stage has none.
        trained: the averaged model of the updates whose loss was finite; with validation, the best of the stage's
            reports, where there was one.
    """

    def __init__(self, update: int, window: int, loss: float, trained: Any, cause: str = ""):
        mend = cause or (
            "Lower the learning rate, shorten the window, or clip the gradient: `optimizer=lambda lr: optax.chain("
            "optax.clip_by_global_norm(1.0), optax.adam(lr))`."
            if update
            else f"No update was made yet, so no learning rate will help: {_SCALES}, or shorten the window. Where it "
            "is there already, see how large the trajectories get: a physics that is unstable at the steps of `ts` "
            "explodes in the data, and needs finer ones."
        )
        last = "no update of its stage had a finite one" if math.isnan(loss) else f"the last finite loss was {loss:.6g}"
        super().__init__(
            f"The loss is not finite at update {update} (window {window}); {last}. {mend} "
            "The last finite model is this error's `trained`."
        )
        self.update, self.window, self.loss, self.trained = update, window, loss, trained


class Job(eqx.Module):
    """A training and all that it needs: the curriculum, the data, and the key.

    Attributes:
        training: what stays the same from update to update.
        curriculum: the stages.
        source: what windows are drawn from.
        key: a JAX key; each stage has its own.
        how: what a score is to remember of it.
        validation: what validation windows are drawn from, or None.
        looked: whether the noise of the data was looked at before.
    """

    training: Training
    curriculum: tuple[Stage, ...]
    source: Any
    key: Key
    how: Trained = eqx.field(static=True)
    validation: Any = None
    looked: bool = eqx.field(static=True, default=False)

    @property
    def total(self) -> int:
        """Updates in all."""
        return sum(stage.updates for stage in self.curriculum)

    def no_best_yet(self, state: TrainingState) -> Best | None:
        """The best weights at the start of a stage; None without validation."""
        return None if self.validation is None else Best.none_yet(state)

    def compared(self, how: Callable[..., Any], stage: Stage, state: TrainingState, best: Best | None) -> Any:
        """The best weights after a report, and the validation loss of the averaged ones; None without validation."""
        if best is None:
            return None, None
        count = np.int32(chunks(stage, self.total, self.validation.numbers()))
        return how(self.training, stage, state, self.validation, count, best)


# One function for all trainings: the second of the same shapes and static parts finds its program compiled.
_advance = eqx.filter_jit(advance)
_compare = eqx.filter_jit(compare)
_begin = eqx.filter_jit(lambda training, stage, params, average: training.begin(stage, params, average))


def run_traced(job: Job) -> Any:
    """The whole training as part of the caller's program."""
    training, total = job.training, job.total
    params = average = training.split()[0]
    finite, done, tell = jnp.array(True), 0, telling_from_inside(total)
    for index, stage in enumerate(job.curriculum):
        state, key = training.begin(stage, params, average), jr.fold_in(job.key, index)
        best = job.no_best_yet(state)
        # With validation a piece ends where the host's would report, and the same weights are compared.
        piece = -(-stage.updates // _PIECES) if best is None else reports_every(total)

        def advance_a_piece(i: Any, both: Any) -> Any:
            stop = jnp.minimum((i + 1) * piece, stage.updates)  # noqa: B023
            state = advance(training, stage, both[0], stop, job.source, key, guard=True)  # noqa: B023
            tell(done + stop, stage.window)  # noqa: B023
            return state, job.compared(compare, stage, state, both[1])[0]  # noqa: B023

        count = -(-stage.updates // piece)
        if best is None or stage.patience is None:
            state, best = jax.lax.fori_loop(0, count, advance_a_piece, (state, best))
        else:
            _, state, best = jax.lax.while_loop(
                lambda loop: (loop[0] < count) & ~is_over(stage, loop[1], loop[2]),  # noqa: B023
                lambda loop: (loop[0] + 1, *advance_a_piece(loop[0], loop[1:])),
                (jnp.int32(0), state, best),
            )
            # Said after the loop: it depends on what the loop returns.
            tell(jnp.maximum(done + state.update, done + stage.updates), stage.window)
        params, average = (state.params, state.average) if best is None else (best.params, best.params)
        finite, done = finite & state.finite, done + stage.updates
    average = eqx.error_if(
        average, ~finite, "`fit`: a loss is not finite; call it outside of jit and vmap to see where."
    )
    return training.trained(average, job.how)


# Into how many pieces a traced stage is cut, to say after each how far it is.
_PIECES = 200


def run_on_host(job: Job, callback: Callable[[Progress], Any] | None, checkpoint: Checkpoint, args: Args) -> Any:
    """The training in compiled pieces, with a report some fifty times, and a checkpoint at each.

    Where it diverges, the conditions `args` are looked at, in the user's order.
    """
    training, job = job.training, on_every_device(_with_numbers_as_arrays(job), job.training.sharding)
    params = average = training.split()[0]
    start = _begin(job.training, job.curriculum[0], params, average)
    resumed, restored = checkpoint.restore((start, job.no_best_yet(start)))
    done = sum(stage.updates for stage in job.curriculum[:resumed])
    mean = math.inf
    with showing(job.total) as show:
        for index, stage in enumerate(job.curriculum[resumed:], start=resumed):
            key = jr.fold_in(job.key, index)
            if restored is None or index > resumed:
                state = _begin(job.training, stage, params, average)
                best = job.no_best_yet(state)
            else:
                state, best = restored
            state, best = on_every_device((state, best), training.sharding)
            show.begin(done + int(state.update), stage.window)
            summed, since, started = 0.0, int(state.update), time.perf_counter()
            over = _is_over(stage, state, best)
            for stop, reports in _stops(since, stage.updates, job.total):
                if over:
                    show.skip(done + stage.updates)
                    break
                state = _piece(job, stage, state, stop, key)
                if not bool(state.finite):
                    trained = training.trained(_kept(state, best), job.how)
                    last = float(state.last) if int(state.update) else math.nan
                    update = done + int(state.update)
                    cause = nan_in(args) or ("" if update else _said(job, stage))
                    raise FitDiverged(update, stage.window, last, trained, cause)
                summed += float(state.loss)  # waits for the device: the one sync of a piece
                if index == since == 0 and stop <= _FIRST and training.loss.in_noise:
                    _warn_of_scales(summed / stop)
                mean = summed / max(stop - since, 1)
                rate = (stop - since) / (time.perf_counter() - started)
                if not reports:
                    show.move(done + stop, mean)
                    continue
                best, value = job.compared(_compare, stage, state, best)
                checkpoint.save(index, (state, best))
                trained = training.trained(_kept(state, best), job.how)
                value = None if value is None else float(value)
                report = Progress(done + stop, job.total, stage.window, mean, rate, trained, value)
                show.report(report, None if callback is None else callback(report))
                summed, since, started = 0.0, stop, time.perf_counter()
                over = _is_over(stage, state, best)
            params, average, done = state.params, state.average, done + stage.updates
            if best is not None:
                params = average = best.params
                _warn_where_none_is_finite(best, stage)
    _warn_of_little_noise(mean, job)
    return training.trained(average, job.how)


def _said(job: Job, stage: Stage) -> str:
    """What the untrained equation's own code says of steps of this length from some of the data, if it refuses one."""
    windows, args = job.source.draw(size=stage.window, stride=stage.stride, batch=_LOOKED_AT, key=job.key)
    back = -1 if job.training.equation.direction is Reverse else 1
    x = jtu.tree_map(lambda leaf: leaf[:, ::back], windows.x)
    told = (said_before(job.training.equation, x, t[::back], args, i, 1) for i, t in enumerate(np.asarray(windows.t)))
    return next(filter(None, told), "")


def _piece(job: Job, stage: Stage, start: TrainingState, stop: int, key: Key) -> TrainingState:
    """The updates until `stop`; or, where a loss is not finite, until that one."""
    state = _advance(job.training, stage, start, np.int32(stop), job.source, key, guard=False)
    if not is_concrete(state.finite):
        raise TypeError(
            "`optimizer` holds a number that a JAX transformation traces, and `fit` cannot see it there: hand it over "
            "as `Stage(learning_rate=...)`, and take it in `optimizer=lambda lr: ...`."
        )
    if bool(state.finite):
        return state
    return _advance(job.training, stage, start, np.int32(stop), job.source, key, guard=True)


def _kept(state: TrainingState, best: Best | None) -> Any:
    """The weights to hand back: the best, or where there are none yet the averaged ones."""
    return state.average if best is None or not np.isfinite(best.loss) else best.params


def _is_over(stage: Stage, state: TrainingState, best: Best | None) -> bool:
    """Whether a stage with patience has lost it. Asked at reports alone: when pieces end depends on the machine."""
    return best is not None and bool(is_over(stage, state, best))


def _warn_where_none_is_finite(best: Best, stage: Stage) -> None:
    if not np.isfinite(best.loss):
        warnings.warn(
            f"`fit`: the validation loss of the stage with window {stage.window} was finite at no report, so its last "
            "averaged weights are kept. Are the validation trajectories like those that are trained on?",
            stacklevel=4,
        )


def _with_numbers_as_arrays(job: Job) -> Job:
    """The job with learning rates, patience, noise and floats of `args` as arrays: others are no other program."""

    def rate(stage: Stage) -> Any:
        rate = stage.learning_rate
        # NumPy's: of JAX's the conversion is a program to compile, and so is each look at whether it is positive.
        return rate if callable(rate) else np.asarray(rate, jnp.result_type(float))

    def traced(source: Any) -> Any:
        args, source = as_arrays(None, source.args)[1], as_arrays(source, None)[0]
        return source if source.args is None else eqx.tree_at(lambda source: source.args, source, args)

    equation, source = as_arrays(job.training.equation, None)[0], traced(job.source)
    held = None if job.validation is None else traced(job.validation)
    patience = [None if stage.patience is None else np.int32(stage.patience) for stage in job.curriculum]
    stages = tuple(
        dataclasses.replace(stage, learning_rate=rate(stage), patience=lasts)
        for stage, lasts in zip(job.curriculum, patience, strict=True)
    )
    return dataclasses.replace(
        job,
        training=dataclasses.replace(job.training, equation=equation),
        source=source,
        curriculum=stages,
        validation=held,
    )


def _warn_of_little_noise(loss: float, job: Job) -> None:
    """Warn where hardly any of the noise that g promises is in the data: then a loss near 1 has no cause."""
    learned = job.training.loss.in_noise and job.curriculum[-1].window == 2 and job.total >= _ENOUGH
    if learned and not job.looked and bool(scores(job.training.equation)) and loss < _LITTLE:
        warnings.warn(
            f"The loss ends at {loss:.1e}, and where the trajectories have the noise of `g` it is near 1 (in stiff "
            "problems some tenths): is theirs smaller? Give `sx.Diffusion` the noise that they were made with; and "
            "where they have none, `sx.Perturbed(paths, g)` or `sx.SplitEuler` (systems without noise, in the guides).",
            stacklevel=4,  # the line that called `fit`
        )


def _warn_of_scales(loss: float) -> None:
    if loss > _FAR_OFF:
        warnings.warn(
            f"The loss begins at {loss:.1e}, and a perfect one is about 1: what the network sees or returns is far off "
            f"the scale of these data, and a score learned from there is poor. Rather {_SCALES}. (Or, in a long "
            "window, the physics explodes backwards.)",
            stacklevel=4,  # the line that called `fit`
        )


def _stops(start: int, end: int, total: int) -> Iterator[tuple[int, bool]]:
    """Where to stop, and whether to report there: every fiftieth of the training, and between these every second."""
    every = reports_every(total)
    at, piece, compiled = start, min(every, _FIRST), False
    while at < end:
        report = min(start + ((at - start) // every + 1) * every, end)
        stop, began = min(at + piece, report), time.perf_counter()
        yield stop, stop == report
        if compiled:  # the time of the first piece says nothing
            piece = max(1, min(every, int((stop - at) / (time.perf_counter() - began))))
        at, compiled = stop, True
