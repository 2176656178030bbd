"""`fit`: the training of an equation's score on trajectories.

Windows are drawn on the device and many updates are one compiled call (`_training`); what the host does meanwhile,
reports, callbacks and checkpoints, is `_runner`'s. Called under a JAX transformation `fit` is one pure function of its
arrays, so `eqx.filter_vmap(lambda key: sx.fit(...))(keys)` trains many seeds side by side in one program.
"""

import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import diffrax as dfx
import jax
import optax

from .._types import Key
from ..equation._algebra import SDE, AbstractDrift
from ..equation._balance import same
from ..equation._coefficient import takes
from ..equation._score import Score, scores
from ..equation._trained import Trained
from ..solving import _validate as validate
from ..solving._remembered import shapes_of, warn_of_another_resolution
from ..solving._solvers import denoises, is_eulers
from ._checkpoint import Checkpoint
from ._counted import Counted
from ._fingerprint import fingerprint_of
from ._fresh_paths import FreshPaths
from ._noise import check_noise, conditions_of, warn_of_another_noise
from ._parts import Parts, parts_of
from ._progress import Progress
from ._references import warn_of_growth, warn_of_no_balance
from ._runner import Job, run_on_host, run_traced
from ._sharding import check_sharding
from ._starts import warn_of_a_narrow_start
from ._store import StoredPaths, naming_damage
from ._training import Stage, Training
from ._trajectories import AbstractPaths, Trajectories
from ._validation import hold_out
from .losses._abstract import AbstractLoss
from .losses._window_loss import WindowLoss

__all__ = ["fit"]


def fit(
    equation: AbstractDrift | SDE,
    paths: AbstractPaths,
    *,
    key: Key,
    train: AbstractDrift | Sequence[AbstractDrift] | None = None,
    loss: AbstractLoss | None = None,
    curriculum: Sequence[Stage] = (Stage(),),
    optimizer: Callable[..., optax.GradientTransformation] = optax.adam,
    average: float = 0.999,
    validation: float | Counted | None = None,
    callback: Callable[[Progress], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    sharding: jax.sharding.NamedSharding | None = None,
) -> Any:
    """Train the score in an equation on simulated trajectories (arXiv:2301.10250, eqs 3-5).

    Backward windows learn the drift with coefficient 2 (theorem A.2), so train `-P + 2*s` with the default
    loss, or `-P + s` with `TwoWayLoss`; then use `s` with any coefficient. An equation without a score
    trains its `ReverseDrift`, a surrogate of the physics. Of `R + 2*s` with a surrogate R the score is trained, and R
    stays as it is, bit for bit; `train=(R, s)` trains both.

    Args:
        equation: a reverse equation, `-P + 2*s`; with noise, `-P + 2*s + g`, the unroll is noisy.
        paths: `Trajectories`, as from `simulate` or from data of your own, `sx.Trajectories(x, ts)`; `StoredPaths` from
            a disk; or `FreshPaths`, which simulates new ones for every update. Each window takes its own steps, and its
            trajectory's `args`.
        train: the drifts of the equation that are trained, one or several: the objects that it was made of. Default:
            its score, or without one its `ReverseDrift`.
        key: a JAX key. The same key gives the same weights, bit for bit, on the same machine.
        loss: `WindowLoss()` (default), `TwoWayLoss()`, `TransitionLoss()`, `ImplicitScoreMatching()`,
            `SlicedScoreMatching()`, or your own `AbstractLoss`.
        curriculum: stages, run in order; each compiles once.
        optimizer: a function from a learning-rate schedule to an optax optimiser: `optax.adam`. It is a part of the
            compiled program: a function that is made anew, as a `lambda` in a loop over seeds is, compiles anew, so
            name it once, before the loop. One that looks at the loss is given that of the update's windows:
            `optax.contrib.reduce_on_plateau()` in a chain, or `lambda lr: optax.lbfgs()`, which finds its own steps.
        average: decay a of the exponential moving average of the weights that is returned, over
            the weights whose loss was seen to be finite; 0 for the last of these.
        validation: trajectories that are not learned from: `Trajectories`, `StoredPaths`, or a share of `paths` in
            (0, 1), such as 0.1, drawn from them by a fixed seed. At each report the averaged weights are tried on
            windows of these, the same ones each time, and of each stage the best are kept: the next stage goes on from
            them, and those of the last are returned. Default: none, and the last averaged weights are returned.
        callback: called with a `Progress` at each report (some fifty in all); what it returns is shown, such as a
            dictionary of numbers.
        checkpoint: a file to write the training's state to at each report, and to resume from. It holds a fingerprint
            of all that decides the training's future but the code of other files, and another training is refused.
        sharding: how a batch of windows lies on several devices, its first axis split:
            `NamedSharding(jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,)), PartitionSpec("batch"))`.
            Weights are on every device, and gradients are summed over them. Default: one device.

    Returns:
        The trained drift, the `Score` of the equation with the new weights; of several in `train` a tuple, in their
        order.

    Raises:
        ValueError: trajectories that are not finite (which, and when), a window longer than the trajectories, states
            that the drifts do not return alike, a validation share that leaves nothing to train on, `patience` without
            validation, a checkpoint of another training (what differs).
        TypeError: an equation with nothing to train, a name in `train` that it does not contain, paths without
            their times, or a loss that is none or returns no number.
        FitDiverged: a loss that is not finite; carries the last finite model, with validation the best one.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> paths = sx.simulate(P + g, jnp.ones(32), jnp.linspace(0.0, 1.0, 11), key=jax.random.key(0))
    >>> s = sx.Score(sx.nn.MLP(key=jax.random.key(1)), g)
    >>> s = sx.fit(-P + 2 * s, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=10)])
    >>> print(-P + s)
    dx = [-P(x) + ½g²·s(t, x)] dτ
    """
    loss = WindowLoss() if loss is None else loss
    _check_loss(loss)
    if not isinstance(curriculum, Sequence):
        raise TypeError(f"`curriculum` is a list of stages; got {type(curriculum).__name__}. Write `[sx.Stage(...)]`.")
    _check_functions(optimizer, callback)
    validate.check_is_key(key)
    curriculum = tuple(curriculum)
    _check_kinds(equation, paths)
    parts = parts_of(equation, train)
    _check(equation, parts, paths, loss, curriculum, average, sharding)
    on_host = validate.is_concrete(equation, paths, key, curriculum, validation)
    looked = on_host and _looks_at_noise(equation, parts, paths, loss, curriculum)
    seen, held = hold_out(validation, paths, equation, curriculum)
    training = Training(equation, parts, loss, optimizer, average, sharding)
    strides = sorted({stage.stride for stage in curriculum})
    unseen = None if held is None else held.source(strides)
    how = _how(equation, seen, loss, curriculum, strides)
    job = Job(training, curriculum, seen.source(strides), key, how, unseen, looked)
    if not on_host:
        if callback is not None or checkpoint is not None:
            raise ValueError("Under a JAX transformation `fit` is one program: no `callback`, no `checkpoint`.")
        return run_traced(job)
    files = Checkpoint(checkpoint, fingerprint_of(job, paths, validation) if checkpoint is not None else {})
    with naming_damage():
        return run_on_host(job, callback, files, conditions_of(paths))


def _check_kinds(equation: Any, paths: Any) -> None:
    if not isinstance(equation, AbstractDrift | SDE):
        raise TypeError(f"`fit` needs an equation such as `-P + 2*s`; got {type(equation).__name__}.")
    if not isinstance(paths, AbstractPaths):
        raise TypeError(
            f"`fit` learns from trajectories that know their times; got {type(paths).__name__}. Write "
            "`sx.Trajectories(x, ts)`, or take what `sx.simulate` returns."
        )


def _check_functions(optimizer: Any, callback: Any) -> None:
    from_a_schedule = (
        "`optimizer` makes an optimiser from a learning-rate schedule: `optax.adam`, or `lambda lr: optax.adam(lr, "
        "b2=0.98)`; got"
    )
    if not callable(optimizer):
        raise TypeError(f"{from_a_schedule} {type(optimizer).__name__}, which is made already.")
    if not takes(optimizer, 1):
        raise TypeError(f"{from_a_schedule} a function of {inspect.signature(optimizer)}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` is a function of a `Progress`, `lambda report: ...`; got {callback!r}.")


def _check_loss(loss: Any) -> None:
    if isinstance(loss, AbstractLoss):
        return
    if isinstance(loss, type) and issubclass(loss, AbstractLoss):
        raise TypeError(f"`loss` is the class `{loss.__name__}`, and `fit` needs one of it: write `{loss.__name__}()`.")
    raise TypeError(
        f"`loss` is an `AbstractLoss`, such as `sx.WindowLoss()`; got {_named(loss)}. One of your own is a subclass: "
        "`class Own(sx.AbstractLoss)`, with `def __call__(self, equation, windows, key, args)` that returns a number, "
        "and `loss=Own()`."
    )


def _named(x: Any) -> str:
    return f"`{x.__name__}`" if hasattr(x, "__name__") else type(x).__name__


def _check(equation: Any, parts: Parts, paths: Any, loss: Any, curriculum: Any, average: float, sharding: Any) -> None:
    if not curriculum:
        raise ValueError("`curriculum` has no stages: give at least one `sx.Stage(updates=...)`.")
    for stage in curriculum:
        if not isinstance(stage, Stage):
            raise TypeError(f"`curriculum` is a list of stages; it holds {stage!r}. Write `[sx.Stage(...)]`.")
    loss.check(equation)
    paths.check(equation, curriculum)
    windows = paths.windows if isinstance(paths, FreshPaths) else 1
    check_sharding(sharding, [stage.batch // windows for stage in curriculum], loss)
    if not 0 <= average < 1:
        raise ValueError(f"`average` is a decay in [0, 1); got {average}.")
    states, args = paths.samples()  # of a store, read from its files
    validate.check_drifts(equation, states, args)
    warn_of_another_resolution(equation, states, parts.drifts(equation))
    loss.check_data(equation, paths, curriculum)
    solver = loss.unrolls_by(equation)
    _warn_of_eulers_data(paths.made_by(), solver)
    # Split steps learn the score of states that they have blurred themselves, and none of those are narrower.
    blurs = solver is not None and denoises(type(solver))
    for coefficient, score in scores(equation):
        check_noise(score, paths)
        _warn_of_another_reference(equation, score)
        if isinstance(paths, Trajectories) and validate.is_concrete(paths, score.g, score.around):
            warn_of_no_balance(score, paths)
        if isinstance(paths, Trajectories | StoredPaths) and not blurs and validate.is_concrete(paths, score.g):
            # Of a store the starts of its first files: more would be a look at every file.
            warn_of_a_narrow_start(paths[:1024] if isinstance(paths, StoredPaths) else paths, score.g)
        if validate.is_concrete(paths.ts):
            times = paths.span()
            score.check_times(*times)
            if score.has_reference:
                warn_of_growth(equation, times, args)
        if loss.coefficient and validate.is_concrete(coefficient) and float(coefficient) != loss.coefficient:
            warnings.warn(
                f"`{type(loss).__name__}` is minimised by the drift with score coefficient {loss.coefficient}, so "
                f"training `{equation}` gives a score that is off by {loss.coefficient}/{float(coefficient):g}. Train "
                f"`-P + {loss.coefficient}*s`; use any coefficient afterwards.",
                stacklevel=3,
            )


def _looks_at_noise(equation: Any, parts: Any, paths: Any, loss: AbstractLoss, curriculum: tuple[Stage, ...]) -> bool:
    """Warn where the data have another noise than the score's; whether they could be asked."""
    solver, trained = loss.unrolls_by(equation), parts.drifts(equation)
    if not loss.in_noise or not trained[0].is_score or len(trained) > 1 or (solver and denoises(type(solver))):
        return False
    return warn_of_another_noise(equation, trained[0], paths, [stage.stride for stage in curriculum])


def _warn_of_another_reference(equation: AbstractDrift | SDE, score: Score) -> None:
    own = [] if score.around is None else [summand.drift for summand in score.around.summands]
    physics = [term.drift for term in equation.summands if not term.drift.is_score]
    if own and physics and not any(same(drift, term) for drift in own for term in physics):
        warnings.warn(
            f"`{score!r}` is counted around {score.around!r}, which `{equation}` does not contain: what is run forward "
            "in reverse time should be a part of the physics that is turned round. Write the physics as a sum, "
            "`P = A + D`, and `Score(net, g, around=D)` with the same D.",
            stacklevel=4,
        )


def _warn_of_eulers_data(made: type | None, solver: dfx.AbstractSolver | None) -> None:
    # The other way round the score learns to repair the error of Euler's method, and remembers it.
    if made is not None and solver is not None and is_eulers(made) and not is_eulers(type(solver)):
        warnings.warn(
            f"The trajectories are made by the steps of `{made.__name__}`, and the loss unrolls by "
            f"`{type(solver).__name__}`, to which the error of these steps is physics: where the state relaxes by a "
            "tenth in a step, samples will have a variance that is a tenth too small. Leave `solver` out where they "
            "are simulated, or give the loss Euler's method too, `solver=diffrax.Euler()`.",
            stacklevel=4,
        )


def _how(
    equation: Any, paths: AbstractPaths, loss: AbstractLoss, curriculum: tuple[Stage, ...], strides: Sequence[int]
) -> Trained:
    """What the score is to remember of its training."""
    solver = loss.unrolls_by(equation)
    states, args = paths.samples()
    return Trained(
        _trained_steps(paths, strides),
        None if solver is None else type(solver),
        tuple((stage.window, stage.stride, stage.updates) for stage in curriculum),
        paths.span() if validate.is_concrete(paths.ts) else None,
        args is not None,
        shapes_of(states),
    )


def _trained_steps(paths: AbstractPaths, strides: Sequence[int]) -> tuple[float, float]:
    """The shortest and the longest step that the training unrolls."""
    each = [paths.steps(stride) for stride in strides]
    return min(shortest for shortest, _ in each), max(longest for _, longest in each)
