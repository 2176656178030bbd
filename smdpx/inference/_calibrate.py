"""Are posterior samples right? Draws for held-out trajectories, whose starts are known, tested against these."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int

from .._types import Key, State
from ..equation._algebra import SDE, Reverse
from ..equation._fixed import weights
from ..equation._linear import AbstractLinear
from ..equation._score import scores
from ..learning._store import StoredPaths
from ..learning._trajectories import Trajectories
from ..solving import _validate as validate
from ..solving._finite import NonFiniteWarning, exploded_draws
from ..solving._foreign import numbers_of_times
from ..solving._options import whole_number
from ._calibration import LEVELS, Statistics, statistics
from ._components import Components, components
from ._posterior import posterior
from ._verdict import CalibrationReport, sentence

__all__ = ["assess", "calibrate"]

_FEWEST = 20  # cases, and draws
# A component that no draw varies is right if its error is below this share of the truths' deviation.
_RIGHT = 0.01


def calibrate(
    equation: SDE[Reverse],
    paths: Trajectories,
    *,
    key: Key,
    n: int = 200,
    ts: Any = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    basis: Callable[[Array], AbstractLinear] | None = None,
) -> CalibrationReport:
    """Draw posteriors for held-out trajectories, and say whether they are right.

    The trajectories' starts are the truths, their ends the observations. If the draws are those of p(x₀ | x_T), ranks
    of the truths among them are uniform (Talts et al. 2018, arXiv:1804.06788), 90 % of the truths lie in the 90 %
    interval, and the spread √((n+1)/n · Var) equals the error of the mean (Fortin et al. 2014). The report has these
    for each component, TARP (Lemos et al. 2023, arXiv:2302.03026) for all at once, the CRPS beside that of starts drawn
    without regard to the end, and a verdict which counts in what chance does to so many cases.

    Calibration of starts is seen, not the score itself: where it is known exactly, see `metrics.score_error`.

    Args:
        equation: the posterior's, `-P + 2*s + g`.
        paths: trajectories that the training has not seen, at least 20; 300 tell a coverage of 90 % to ± 3 %. All at
            the same times. Their `args` are the conditions of the cases.
        key: a JAX key.
        n: draws a case, at least 20.
        ts: decreasing times from the trajectories' last to their first, the steps of the solve. Default:
            `paths.ts[::-1]`.
        solver: see `posterior`.
        stepsize_controller: see `solve`.
        basis: what is counted as a component: a function from one state to an operator in the basis, such as
            `sx.Fourier.like` for fields, which are reported by rings ⌊|k|⌋ of whole wavenumbers; of a tree it is
            called with each array. Default: each number of the state.

    Returns:
        A `CalibrationReport`; print it. `sx.plot.calibration` draws it.

    Raises:
        TypeError: an equation that is no reverse SDE, or no `Trajectories`; within `jax.jit`.
        ValueError: fewer than 20 trajectories or draws; trajectories with times of their own; ts that do not run from
            their end to their start; draws that have no spread at all, or exploded in most cases; and as `posterior`.

    Warns:
        UserWarning: as `posterior`. Draws that exploded are counted in the report instead.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> ou = sx.exact.OUMixture(-0.5, 0.6, sx.exact.GaussianMixture([1.0], covariances=0.3))
    >>> P, g = sx.Drift(ou.drift), sx.Diffusion(0.6)
    >>> s = sx.Score(ou.score, g)
    >>> x0 = ou.start.sample(300, key=jax.random.key(0))
    >>> paths = sx.simulate(P + g, x0, jnp.linspace(0.0, 1.0, 101), key=jax.random.key(1))
    >>> report = sx.calibrate(-P + 2 * s + g, paths, key=jax.random.key(2))
    >>> report.calibrated, round(float(report.coverage90[0]), 1)
    (True, 0.9)
    """
    if not isinstance(equation, SDE) or equation.direction is not Reverse:
        raise TypeError(f"`calibrate` needs the posterior's equation, `-P + 2*s + g`; got `{equation}`.")
    if not isinstance(paths, Trajectories):
        mend = (
            "Load them: `paths.load()`."
            if isinstance(paths, StoredPaths)
            else ("Simulate some: `sx.simulate(P + g, x0, ts, key=...)`.")
        )
        raise TypeError(f"`calibrate` needs `Trajectories` with known starts; got {type(paths).__name__}. {mend}")
    if (n := whole_number("n", n)) < _FEWEST:
        raise ValueError(f"`n` must be at least {_FEWEST}: fewer draws have no 90 % interval; got {n}.")
    validate.check_concrete("calibrate", equation, paths, ts, key)
    _check_number(len(paths), "trajectories")
    ts = _times(paths, ts)
    validate.check_paths(paths.x, paths.ts, paths.lengths)
    key_draws, key_tests = jr.split(key)
    how = {"args": paths.args, "solver": solver, "stepsize_controller": stepsize_controller}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = posterior(equation, paths.end, ts, n, key=key_draws, **how)
    for warning in caught:  # at the user's line, and under the user's filters
        if not issubclass(warning.category, NonFiniteWarning):
            warnings.warn(warning.message, warning.category, stacklevel=2)
    kept, where, exploded = _without_exploded(samples, paths.end)
    lost = {"exploded": exploded, "where": where, "total": n * len(paths)}
    report = assess(kept, paths[where].start, basis=basis, key=key_tests, **lost)
    if report.calibrated or not _untrained(equation):
        return report
    first = "Its weights remember no training: `fit` returns the trained score, `s = sx.fit(...)`."
    return dataclasses.replace(report, advice=f"{first} {report.advice}")


def _untrained(equation: SDE) -> bool:
    """Whether a score has weights, and no training that it remembers."""
    return any(score.trained is None and any(jtu.tree_leaves(weights(score.net))) for _, score in scores(equation))


def assess(
    samples: State,
    truth: State,
    *,
    key: Key,
    exploded: Int[np.ndarray, " cases"] | None = None,
    where: Int[np.ndarray, " kept"] | None = None,
    total: int = 0,
    basis: Callable[[Array], AbstractLinear] | None = None,
) -> CalibrationReport:
    """The report of draws that are all finite.

    Args:
        samples: a tree of arrays of shape (draws, cases, ...).
        truth: a tree of arrays of shape (cases, ...).
        key: breaks ties, and draws TARP's references.
        exploded: of each case that there was, how many draws exploded.
        where: which of these the cases are; None: all.
        total: how many draws there were.
        basis: see `calibrate`.
    """
    data = components(samples, truth, basis)
    n, cases = data.draws.shape[:2]
    exploded = np.zeros(cases, int) if exploded is None else exploded
    data, determined = _with_spread(data)
    found = statistics(data, key)
    says = sentence(found, exploded, total, cases)
    where = np.arange(cases) if where is None else where
    return _report(found, says, (cases, n), exploded, where, data.names, determined)


def _report(
    found: Statistics,
    says: tuple[str, str, bool],
    counts: tuple[int, int],
    exploded: Int[np.ndarray, " cases"],
    where: Int[np.ndarray, " kept"],
    names: tuple[str, ...],
    determined: tuple[str, ...],
) -> CalibrationReport:
    rows = found.rows[: len(names)]
    deviations = np.full(len(exploded), np.nan)
    deviations[where] = found.deviations
    column = lambda name: np.array([getattr(row, name) for row in rows], np.float64)  # noqa: E731
    return CalibrationReport(
        verdict=says[0],
        advice=says[1],
        calibrated=says[2],
        cases=counts[0],
        draws=counts[1],
        exploded=exploded,
        deviations=deviations,
        names=names,
        determined=determined,
        coverage50=column("coverage50"),
        coverage90=column("coverage90"),
        offset=column("offset"),
        spread=column("spread"),
        skill=column("skill"),
        crps=column("crps"),
        climatology=column("climatology"),
        sbc_pvalue=column("sbc"),
        tarp_pvalue=found.tarp_pvalue,
        levels=np.linspace(0, 1, LEVELS),
        tarp=found.tarp,
        covered=found.covered,
        heights=found.heights,
    )


def _check_number(cases: int, what: str) -> None:
    if cases < _FEWEST:
        raise ValueError(
            f"`calibrate` needs at least {_FEWEST} {what}; got {cases}. A coverage of 90 % is known to ± 6 % from 100 "
            "cases, to ± 3 % from 300."
        )


def _times(paths: Trajectories, ts: Any) -> Any:
    """The times of the solve, from the trajectories' end to their start."""
    own = np.asarray(paths.ts, np.float64)
    if paths.lengths is not None or (own.ndim == 2 and (own != own[0]).any()):
        raise ValueError(
            "`calibrate` needs trajectories at the same times, and these have times of their own: calibrate those that "
            "share theirs, `sx.Trajectories(x[same], ts)`."
        )
    own = own.reshape(-1, own.shape[-1])[0]
    if ts is None:
        return own[::-1]
    ts = np.asarray(numbers_of_times(ts), np.float64)
    if ts.ndim != 1 or len(ts) < 2 or not np.allclose(ts[[0, -1]], own[[-1, 0]], rtol=0, atol=1e-6 * np.ptp(own)):
        raise ValueError(
            f"`ts` must run from the trajectories' last time to their first, {own[-1]:g} to {own[0]:g}; got "
            f"{'shape ' + str(ts.shape) if ts.ndim != 1 or len(ts) < 2 else f'{ts[0]:g} to {ts[-1]:g}'}."
        )
    return ts


def _without_exploded(samples: State, xT: State) -> tuple[State, np.ndarray, Int[np.ndarray, " cases"]]:
    """Draws that did not explode, as many for each case; which cases these are; how many draws of each exploded."""
    bad = exploded_draws(samples, xT)
    exploded = bad.sum(axis=0)
    where = np.flatnonzero(2 * exploded <= len(bad))
    _check_number(len(where), f"trajectories whose draws did not explode (in {len(bad[0]) - len(where)} most did)")
    if not exploded.any():
        return samples, where, exploded
    least = len(bad) - int(exploded[where].max())
    first = np.argsort(bad[:, where], axis=0, kind="stable")[:least]
    return jtu.tree_map(lambda leaf: jnp.asarray(leaf)[first, where[None]], samples), where, exploded


def _with_spread(data: Components) -> tuple[Components, tuple[str, ...]]:
    """The components that have a spread or are wrong, and the names of the rows that are left out."""
    spread = data.draws.std(axis=0, dtype=np.float64).max(axis=0)
    error = np.sqrt(np.mean((data.draws.mean(axis=0, dtype=np.float64) - data.truths) ** 2, axis=0))
    allowed = np.maximum(data.rounding, _RIGHT * data.truths.std(axis=0, dtype=np.float64))
    keep = (spread > data.rounding) | (error > allowed)
    if not keep.any():
        raise ValueError(
            "Draws and truths do not differ in any component: there is no spread to calibrate. Without noise write "
            "`point_estimate`."
        )
    left = data.take(np.flatnonzero(keep))
    return left, tuple(name for name in data.names if name not in left.names)
