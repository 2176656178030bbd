"""Are draws calibrated? Statistics of draws against truths, each with what chance alone does to so many cases.

With the rank of a truth among its n draws, ties broken at random, and U uniform,

    u = (rank + U) / (n + 1)

is uniform for draws of the posterior, for any n. So E u = ½, else the draws are biased; the interval that just holds
the truth has credibility |2u - 1|, uniform too, so that its mean is ½ and 90 % of the truths lie in the 90 % interval,
else the draws spread too little or too much. Components of a state depend on each other and cases do not: all errors
are taken from case to case. All tests of a report together raise a false alarm in 2 of 100 reports (Bonferroni).
"""

from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Bool, Float

from .._types import Key
from ..metrics import crps, sbc_pvalue, sbc_ranks, tarp
from ..metrics._common import require
from ._components import Components

__all__ = ["LEVELS", "Row", "Statistics", "statistics"]

_FALSE_ALARMS = 0.02
# Numbers of the draws at once.
_BLOCK = 2**22
LEVELS, _BINS = 21, 20


class Row(NamedTuple):
    """What is known of one row, a component or a group of them."""

    name: str
    coverage50: float
    coverage90: float
    expected: tuple[float, float]  # of the coverage of 90 %, in all but few reports
    credibility: float  # mean of |2u - 1|
    expected_credibility: tuple[float, float]
    offset: float  # of the truths from the draws' mean, in units of the spread
    spread: float
    skill: float
    crps: float
    climatology: float
    sbc: float
    findings: tuple[str, ...]  # of "biased", "overconfident", "underconfident", "uneven"
    p: float  # the least of the tests


class Statistics(NamedTuple):
    """All rows, the last of which holds all components together where there is more than one."""

    rows: list[Row]
    skill_seen: bool
    relative_crps: float
    tarp: Float[np.ndarray, " levels"]
    tarp_pvalue: float
    tarp_found: bool
    covered: Float[np.ndarray, "2 levels"]  # with its standard error
    heights: Float[np.ndarray, "2 bins"]
    deviations: Float[np.ndarray, " cases"]  # of the truth from the draws' mean, in their spread: the largest


class _Cases(NamedTuple):
    """Numbers of each case and component, (cases, components)."""

    u: Float[np.ndarray, "cases components"]
    error: Float[np.ndarray, "cases components"]
    variance: Float[np.ndarray, "cases components"]
    crps: Float[np.ndarray, "cases components"]
    climatology: Float[np.ndarray, "cases components"]
    sbc: Float[np.ndarray, " components"]


def statistics(data: Components, key: Key) -> Statistics:
    """Test draws against truths.

    Args:
        data: their components; those without spread that agree with the truths must be left out before.
        key: breaks ties and draws TARP's references.

    Returns:
        The `Statistics`.
    """
    key_ranks, key_tarp, key_again = jr.split(key, 3)
    cases = _of_cases(data, key_ranks)
    groups = [np.flatnonzero(data.row == i) for i in range(len(data.names))]
    names = list(data.names)
    if len(groups) > 1:
        groups.append(np.arange(data.row.size))
        names.append("all")
    tests = 3 * len(groups) + len(data.names) + 1
    level = _FALSE_ALARMS / tests
    rows = [
        _row(name, data, cases, group, level, key_again, together=len(names) > 1 and i == len(names) - 1)
        for i, (name, group) in enumerate(zip(names, groups, strict=True))
    ]
    alpha, covered = tarp(data.draws, data.truths, key=key_tarp, levels=LEVELS)
    distance = float(np.abs(covered - alpha).max())
    p = float(require("scipy.stats").kstwo.sf(distance, len(data.truths)))
    skill_seen, relative_crps = _skill(cases, data.rounding)
    return Statistics(
        rows,
        skill_seen,
        relative_crps,
        covered,
        p,
        p < level,
        _with_errors([_inside(cases.u, level) for level in alpha]),
        _BINS * _with_errors([np.floor(_BINS * cases.u) == place for place in range(_BINS)]),
        _deviations(cases, data.rounding),
    )


def _deviations(cases: _Cases, rounding: Float[np.ndarray, " components"]) -> Float[np.ndarray, " cases"]:
    """How far each case's truth lies from the mean of its draws, in their deviations: of the furthest component."""
    spread, error = np.sqrt(cases.variance), np.abs(cases.error)
    return np.where(error > rounding, error / np.maximum(spread, rounding), 0).max(axis=1)


def _skill(cases: _Cases, rounding: Float[np.ndarray, " components"]) -> tuple[bool, float]:
    """Whether draws know more than the climatology does, and their CRPS in units of its."""
    scale = cases.climatology.mean(axis=0)
    # Where truths differ by rounding alone, a field's mean of 0 say, the climatology knows all.
    varies = scale > rounding
    if not varies.any():
        return True, 0.0
    relative = cases.crps[:, varies] / scale[varies]
    gain = (cases.climatology[:, varies] / scale[varies] - relative).mean(axis=1)
    return bool(gain.mean() > 2.33 * gain.std(ddof=1) / np.sqrt(len(gain))), float(relative.mean())


def _of_cases(data: Components, key: Key) -> _Cases:
    n, cases, m = data.draws.shape
    block = max(1, _BLOCK // (n * cases))
    parts = []
    for start in range(0, m, block):
        here = slice(start, start + block)
        x, y = data.draws[..., here], data.truths[:, here]
        ranks, u = _uniforms(x, y, jr.fold_in(key, start))
        parts.append(
            (
                u,
                y - x.mean(axis=0, dtype=np.float64),
                x.var(axis=0, ddof=1, dtype=np.float64),
                np.asarray(crps(x, y), np.float64),
                climatology(y),
                sbc_pvalue(ranks, n),
            )
        )
    return _Cases(*(np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)))


def _uniforms(x: np.ndarray, y: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """The ranks, and the uniform numbers of them."""
    key_ties, key_rank = jr.split(key)
    ranks = sbc_ranks(x, y, key=key_ties)
    return ranks, (ranks + np.asarray(jr.uniform(key_rank, y.shape), np.float64)) / (len(x) + 1)


def climatology(y: Float[np.ndarray, "cases components"]) -> Float[np.ndarray, "cases components"]:
    """The CRPS of each case where the starts of all other cases are its draws (the fair estimator)."""
    cases = len(y)
    y = y.astype(np.float64) - y.mean(axis=0, dtype=np.float64)
    order = np.argsort(y, axis=0)
    x = np.take_along_axis(y, order, axis=0)
    below = np.cumsum(x, axis=0) - x
    k = np.arange(cases)[:, None]
    # Σⱼ |yᵢ - yⱼ| of sorted numbers, and from all pairs those with i taken out.
    to_others = (2 * k + 1 - cases) * x + x.sum(axis=0) - 2 * below - x
    pairs = to_others.sum(axis=0) - 2 * to_others
    score = to_others / (cases - 1) - pairs / (2 * (cases - 1) * (cases - 2))
    out = np.empty_like(score)
    np.put_along_axis(out, order, score, axis=0)
    return out


def _row(name: str, data: Components, cases: _Cases, group: np.ndarray, level: float, key: Key, together: bool) -> Row:
    u, m = cases.u[:, group], len(group)
    spread2, error = cases.variance[:, group].mean(axis=0), cases.error[:, group]
    offset = error.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        offsets = offset / np.sqrt(spread2)
    offsets = np.where(offset == 0, 0, offsets)
    alone = float(_half(u).min())
    p_bias = alone if m == 1 else min(1.0, 2 * min(m * alone, float(_half(u.mean(axis=1, keepdims=True))[0])))
    found = ["biased"] if p_bias < level else []
    # What is left of the spread's error once the bias is taken off.
    x, y = data.draws[..., group], data.truths[:, group]
    centred = _uniforms(x + offset.astype(x.dtype), y, key)[1] if found else u
    p_spread, p_cover, effective = _spread_tests(centred)
    narrow = np.abs(2 * centred - 1).mean() > 0.5
    if p_cover < level:
        found.append("overconfident" if _inside(centred, 0.9).mean() < 0.9 else "underconfident")
    elif p_spread < level:
        found.append("overconfident" if narrow else "underconfident")
    sbc = min(1.0, m * float(cases.sbc[group].min()))
    if sbc < level and not found and not together:
        found.append("uneven")
    n = data.draws.shape[0]
    return Row(
        name=name,
        coverage50=float(_inside(u, 0.5).mean()),
        coverage90=float(_inside(u, 0.9).mean()),
        expected=_binomial_range(0.9, effective, level),
        credibility=float(np.abs(2 * u - 1).mean()),
        expected_credibility=_normal_range(np.abs(2 * u - 1).mean(axis=1), level),
        offset=float(offsets[np.argmax(np.abs(offsets))]),
        spread=float(np.sqrt((n + 1) / n * spread2.mean())),
        skill=float(np.sqrt((error**2).mean())),
        crps=float(cases.crps[:, group].mean()),
        climatology=float(cases.climatology[:, group].mean()),
        sbc=sbc,
        findings=tuple(found),
        p=min(p_bias, p_spread, p_cover, sbc),
    )


def _inside(u: np.ndarray, level: float) -> Bool[np.ndarray, "..."]:
    return np.abs(2 * u - 1) < level


def _half(x: Float[np.ndarray, "cases components"]) -> Float[np.ndarray, " components"]:
    """Probability of a mean over cases as far from ½ as this."""
    off, sd = np.abs(x.mean(axis=0) - 0.5), x.std(axis=0, ddof=1)
    t = np.where(sd > 0, off / np.where(sd > 0, sd, 1) * np.sqrt(len(x)), np.where(off > 0, np.inf, 0))
    return np.asarray(2 * require("scipy.stats").t.sf(t, len(x) - 1))


def _spread_tests(u: Float[np.ndarray, "cases components"]) -> tuple[float, float, int]:
    """Probabilities of the mean credibility and of the coverage of 90 %; how many independent numbers these are."""
    credibility, inside = np.abs(2 * u - 1), _inside(u, 0.9).astype(np.float64)
    effective = int(u.size / max(_design_effect(credibility), _design_effect(inside)))
    binomial = require("scipy.stats").binom
    hits = round(inside.mean() * effective)
    tails = binomial.cdf(hits, effective, 0.9), binomial.sf(hits - 1, effective, 0.9)
    mean = _half(credibility.mean(axis=1, keepdims=True))
    return float(mean[0]), min(1.0, 2 * float(min(tails))), effective


def _design_effect(x: Float[np.ndarray, "cases components"]) -> float:
    """How many times more the mean of a case varies than that of independent components, 1 to their number."""
    m, alone = x.shape[1], x.var()
    return float(np.clip(m * x.mean(axis=1).var(ddof=1) / alone, 1, m)) if alone > 0 else float(m)


def _binomial_range(p: float, n: int, level: float) -> tuple[float, float]:
    low, high = require("scipy.stats").binom.ppf([level / 2, 1 - level / 2], n, p) / n
    return float(low), float(high)


def _normal_range(x: Float[np.ndarray, " cases"], level: float) -> tuple[float, float]:
    half = float(require("scipy.stats").t.isf(level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return 0.5 - half, 0.5 + half


def _with_errors(hits: list[Bool[np.ndarray, "cases components"]]) -> Float[np.ndarray, "2 levels"]:
    """Shares of all, and their standard errors from case to case."""
    shares = np.stack([hit.mean(axis=1) for hit in hits], axis=1)
    return np.stack([shares.mean(axis=0), shares.std(axis=0, ddof=1) / np.sqrt(len(shares))])
