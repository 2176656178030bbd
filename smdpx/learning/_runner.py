"""How a training is run: on the host, which reports, calls back and writes checkpoints, or as one traced program."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._types import Key
from ..solving._numbers import as_arrays
from ..solving._validate import is_concrete
from ._checkpoint import Checkpoint
from ._progress import Progress, showing, telling_from_inside
from ._sharding import on_every_device
from ._training import Stage, Training, TrainingState, advance

__all__ = ["FitDiverged", "Job", "run_on_host", "run_traced"]


# Updates before the first look at the loss.
_FIRST = 10
# A perfect one-step loss is about 1 in units of the noise, and untrained networks of the right scale are near it.
_FAR_OFF = 1e4
_SCALES = "put the network between the data's own moments, `sx.nn.Whitened(net, paths)`"


class FitDiverged(RuntimeError):
    """A loss that is not finite.

    Attributes:
        update: the update at which it came, counted from 0 over the whole curriculum.
        window: the window size of its stage.
        loss: the last finite loss; NaN where the first update of a stage has none.
        trained: the averaged model of the updates whose loss was finite.
    """

    def __init__(self, update: int, window: int, loss: float, trained: Any):
        mend = (
            "Lower the learning rate, shorten the window, or clip the gradient: `optimizer=lambda lr: optax.chain("
            "optax.clip_by_global_norm(1.0), optax.adam(lr))`."
            if update
            else f"No update was made yet, so no learning rate will help: {_SCALES}, or shorten the window."
        )
        super().__init__(
            f"The loss is not finite at update {update} (window {window}); the last finite loss was {loss:.6g}. {mend} "
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
        steps: the shortest and the longest step that is unrolled.
    """

    training: Training
    curriculum: tuple[Stage, ...]
    source: Any
    key: Key
    steps: tuple[float, float] = eqx.field(static=True)

    @property
    def total(self) -> int:
        """Updates in all."""
        return sum(stage.updates for stage in self.curriculum)


# One function for all trainings: the second of the same shapes and static parts finds its program compiled.
_advance = eqx.filter_jit(advance)
_begin = eqx.filter_jit(lambda training, stage, params, average: training.begin(stage, params, average))


def run_traced(job: Job) -> Any:
    """The whole training as part of the caller's program."""
    training, total = job.training, job.total
    params = average = training.split()[0]
    finite, done, tell = jnp.array(True), 0, telling_from_inside(total)
    for index, stage in enumerate(job.curriculum):
        state, key = training.begin(stage, params, average), jr.fold_in(job.key, index)
        piece = -(-stage.updates // _PIECES)

        def advance_a_piece(i: Any, state: TrainingState) -> TrainingState:
            stop = jnp.minimum((i + 1) * piece, stage.updates)  # noqa: B023
            state = advance(training, stage, state, stop, job.source, key, guard=True)  # noqa: B023
            tell(done + stop, stage.window)  # noqa: B023
            return state

        state = jax.lax.fori_loop(0, -(-stage.updates // piece), advance_a_piece, state)
        params, average, finite = state.params, state.average, finite & state.finite
        done += stage.updates
    average = eqx.error_if(
        average, ~finite, "`fit`: a loss is not finite; call it outside of jit and vmap to see where."
    )
    return training.trained(average, job.steps)


# Into how many pieces a traced stage is cut, to say after each how far it is.
_PIECES = 200


def run_on_host(job: Job, callback: Callable[[Progress], Any] | None, checkpoint: Checkpoint) -> Any:
    """The training in compiled pieces, with a report some fifty times, and a checkpoint at each."""
    training, job = job.training, on_every_device(_with_numbers_as_arrays(job), job.training.sharding)
    params = average = training.split()[0]
    resumed, restored = checkpoint.restore(_begin(job.training, job.curriculum[0], params, average))
    done = sum(stage.updates for stage in job.curriculum[:resumed])
    with showing(job.total) as show:
        for index, stage in enumerate(job.curriculum[resumed:], start=resumed):
            key = jr.fold_in(job.key, index)
            fresh = restored is None or index > resumed
            state = _begin(job.training, stage, params, average) if fresh else restored
            state = on_every_device(state, training.sharding)
            show.begin(done + int(state.update), stage.window)
            summed, since, started = 0.0, int(state.update), time.perf_counter()
            for stop, reports in _stops(since, stage.updates, job.total):
                state = _piece(job, stage, state, stop, key)
                if not bool(state.finite):
                    trained = training.trained(state.average, job.steps)
                    raise FitDiverged(done + int(state.update), stage.window, float(state.last), trained)
                summed += float(state.loss)  # waits for the device: the one sync of a piece
                if index == since == 0 and stop <= _FIRST and training.loss.in_noise:
                    _warn_of_scales(summed / stop)
                mean = summed / max(stop - since, 1)
                rate = (stop - since) / (time.perf_counter() - started)
                if not reports:
                    show.move(done + stop, mean, rate)
                    continue
                checkpoint.save(index, state)
                report = Progress(
                    done + stop, job.total, stage.window, mean, rate, training.trained(state.average, job.steps)
                )
                show.report(report, None if callback is None else callback(report))
                summed, since, started = 0.0, stop, time.perf_counter()
            params, average, done = state.params, state.average, done + stage.updates
    return training.trained(average, job.steps)


def _piece(job: Job, stage: Stage, start: TrainingState, stop: int, key: Key) -> TrainingState:
    """The updates until `stop`; or, where a loss is not finite, until that one."""
    state = _advance(job.training, stage, start, jnp.int32(stop), job.source, key, guard=False)
    if not is_concrete(state.finite):
        raise TypeError(
            "`optimizer` holds a number that a JAX transformation traces, and `fit` cannot see it there: hand it over "
            "as `Stage(learning_rate=...)`, and take it in `optimizer=lambda lr: ...`."
        )
    if bool(state.finite):
        return state
    return _advance(job.training, stage, start, jnp.int32(stop), job.source, key, guard=True)


def _with_numbers_as_arrays(job: Job) -> Job:
    """The job with learning rates, noise and floats of `args` as arrays, so that others are no other program."""

    def rate(stage: Stage) -> Any:
        return stage.learning_rate if callable(stage.learning_rate) else jnp.asarray(stage.learning_rate, float)

    equation, args = as_arrays(job.training.equation, job.source.args)
    source = dataclasses.replace(as_arrays(job.source, None)[0], args=args)
    stages = tuple(dataclasses.replace(stage, learning_rate=rate(stage)) for stage in job.curriculum)
    return dataclasses.replace(
        job, training=dataclasses.replace(job.training, equation=equation), source=source, curriculum=stages
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
    every = max(1, -(-total // 50))
    at, piece, compiled = start, min(every, _FIRST), False
    while at < end:
        report = min(start + ((at - start) // every + 1) * every, end)
        stop, began = min(at + piece, report), time.perf_counter()
        yield stop, stop == report
        if compiled:  # the time of the first piece says nothing
            piece = max(1, min(every, int((stop - at) / (time.perf_counter() - began))))
        at, compiled = stop, True
