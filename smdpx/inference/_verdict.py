"""What statistics of draws against truths mean, in a sentence: what is wrong, where most of all, and what to do."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ..solving._finite import first_few
from ._calibration import Row, Statistics

__all__ = ["CalibrationReport", "sentence"]

_MOST_ROWS = 24
# Deviations beyond which no law of draws has more than 1 % (Chebyshev): ranks, which count cases, see none of few.
_FAR = 10.0
_MENDS = {
    "exploded draws": "Give more trajectories, so that fewer draws leave what was seen; then finer steps near the "
    "start, another solver, and `sx.check_references`. Where the network is not in `nn.Whitened`, take its guard.",
    "biased": "Train longer, or give more trajectories; then look at what the score is counted from "
    "(`sx.check_references`), finer steps, or, of physics that has a rate, a solver of second order "
    "(`diffrax.ShARK()`).",
    "overconfident": "Give more trajectories, or keep the weights that are best for some that are held out, "
    "`fit(validation=0.1)` (a score that has learned its own by heart spreads too little); then finer steps, another "
    "solver, and `sx.check_references`.",
    "underconfident": "Train longer or with a larger network; then finer steps, another solver, and "
    "`sx.check_references`. Is `g` the noise of these trajectories, or larger?",
    "uneven": "See where by `sx.plot.calibration`; train longer, or take finer steps, another solver, and "
    "`sx.check_references`.",
    "wrong together": "Each component's intervals are right and whole states are not: train longer or with a larger "
    "network.",
    "no skill seen": "Either these end states say little of their starts, or little was learned: calibrate more "
    "trajectories, compare with a shorter time, train longer, and see `sx.check_references`.",
}


class CalibrationReport(eqx.Module):
    """What `calibrate` found. Printed, it is the verdict and a table.

    Rows are components of the state, or rings |k| or modes of a basis; the numbers of a row of several components are
    of them all together. Shapes are (rows,) where nothing else is said.

    Attributes:
        verdict: what is wrong and where; "calibrated" where nothing is.
        advice: what to do; empty where nothing is to be done.
        calibrated: whether draws pass all tests and none exploded. Draws of the posterior do in 98 of 100 reports.
        cases: how many trajectories.
        draws: of each case, less those that exploded.
        exploded: of each case, how many draws exploded, shape (cases,). All else is of the other draws; cases that lost
            more than half are left out.
        deviations: of each case, how many of the draws' deviations the truth lies from their mean, in the component
            where these are most, shape (cases,); NaN of cases that are left out. Ranks do not see one case of hundreds
            that is far off, and the verdict goes by ranks: the table names those beyond 10.
        names: of the rows.
        determined: names of the rows that draws know without spread and right (conserved quantities, say). They
            are no rows of the table.
        coverage50: share of the truths in their draws' central 50 % interval.
        coverage90: the same of 90 %.
        offset: mean of truth minus draws' mean, in units of the spread; in a row of several components, the largest.
        spread: √((n+1)/n · mean variance of n draws), in units of the state.
        skill: root mean squared error of the draws' mean, in units of the state; spread / skill is 1 if calibrated.
        crps: mean continuous ranked probability score, in units of the state.
        climatology: the same of the starts of all other cases, which know nothing of the end state.
        sbc_pvalue: probability of ranks as uneven (`metrics.sbc_pvalue`), times the number of components of the row.
        tarp_pvalue: probability of a TARP curve as far from the diagonal (`metrics.tarp`), all components at once.
        levels: credibilities from 0 to 1 at which coverages are given, shape (levels,).
        tarp: coverage of TARP's regions at `levels`, shape (levels,).
        covered: coverage of central intervals at `levels`, all components, and its standard error, shape (2, levels).
        heights: histogram of the ranks with mean 1, all components, and its standard error, shape (2, bins).
    """

    verdict: str
    advice: str
    calibrated: bool
    cases: int
    draws: int
    exploded: Int[np.ndarray, " cases"]
    deviations: Float[np.ndarray, " cases"]
    names: tuple[str, ...]
    determined: tuple[str, ...]
    coverage50: Float[np.ndarray, " rows"]
    coverage90: Float[np.ndarray, " rows"]
    offset: Float[np.ndarray, " rows"]
    spread: Float[np.ndarray, " rows"]
    skill: Float[np.ndarray, " rows"]
    crps: Float[np.ndarray, " rows"]
    climatology: Float[np.ndarray, " rows"]
    sbc_pvalue: Float[np.ndarray, " rows"]
    tarp_pvalue: float
    levels: Float[np.ndarray, " levels"]
    tarp: Float[np.ndarray, " levels"]
    covered: Float[np.ndarray, "2 levels"]
    heights: Float[np.ndarray, "2 bins"]

    def __repr__(self) -> str:
        wide = max(len(name) for name in (*self.names, "all"))
        with np.errstate(divide="ignore"):
            ratio = self.spread / self.skill
        lines = [
            self.verdict,
            *([self.advice] if self.advice else []),
            f"{self.cases} cases, {self.draws} draws each; TARP p {self.tarp_pvalue:.2g}",
            f"{'':{wide}}  50 %  90 %  offset  spread/error      CRPS  climatology  ranks p",
        ]
        for i in self._shown():
            lines.append(
                f"{self.names[i]:{wide}}  {self.coverage50[i]:4.2f}  {self.coverage90[i]:4.2f}  {self.offset[i]:+6.2f}"
                f"  {ratio[i]:12.2f}  {self.crps[i]:8.3g}  {self.climatology[i]:11.3g}  {self.sbc_pvalue[i]:7.2g}"
            )
        if len(self.names) > 1:
            half, most = np.interp([0.5, 0.9], self.levels, self.covered[0])
            lines.append(f"{'all':{wide}}  {half:4.2f}  {most:4.2f}")
        if len(self.names) > _MOST_ROWS:
            lines.append(f"({_MOST_ROWS} of {len(self.names)} rows, those whose coverage is furthest off)")
        far = np.flatnonzero(self.deviations > _FAR)
        if far.size:
            lines.append(
                f"{far.size} of {self.cases} truths lie more than {_FAR:g} deviations of their draws from these, up to "
                f"{np.nanmax(self.deviations):.3g} (cases {first_few(far)})"
            )
        if self.determined:
            lines.append(f"{len(self.determined)} known without spread: {', '.join(self.determined[:8])}")
        return "\n".join(lines)

    def _shown(self) -> Sequence[int]:
        off = np.abs(self.coverage90 - 0.9)
        return np.sort(np.argsort(-off, kind="stable")[:_MOST_ROWS]).tolist()


def sentence(found: Statistics, exploded: Int[np.ndarray, " cases"], total: int, cases: int) -> tuple[str, str, bool]:
    """The verdict, what to do, and whether draws are calibrated.

    Args:
        found: the statistics.
        exploded: of each case, how many draws exploded.
        total: how many draws there were.
        cases: how many cases the statistics are of.
    """
    single = found.rows[:-1] if len(found.rows) > 1 else found.rows
    parts, kinds = [], []
    if exploded.any():
        kinds.append("exploded draws")
        which = first_few(np.flatnonzero(exploded))
        parts.append(f"exploded draws: {exploded.sum():,} of {total:,} (cases {which})")
    for kind in ("biased", "overconfident", "underconfident", "uneven"):
        here = [row for row in single if kind in row.findings]
        if not here and kind in found.rows[-1].findings and not parts:
            here, where = [found.rows[-1]], " in all components together"
        else:
            where = f" in {len(here)} of {len(single)} rows, most of all {{}}" if len(single) > 1 else ""
        if here:
            worst = min(here, key=lambda row: row.p)
            kinds.append(kind)
            parts.append(f"{kind}{where.format(worst.name)}: {_says(kind, worst, cases)}")
    if found.tarp_found and not kinds:
        kinds.append("wrong together")
        parts.append(
            f"wrong together: regions around random points hold truths too often or too seldom "
            f"(TARP p = {found.tarp_pvalue:.1g})"
        )
    calibrated = not kinds
    if calibrated:
        row = found.rows[-1]
        parts.append(f"calibrated: {_covers(row, cases)}")
    if not found.skill_seen:
        kinds.append("no skill seen")
        parts.append(f"no skill seen: CRPS {found.relative_crps:.2f} of the climatology's")
    return "; ".join(parts), " ".join(_MENDS[kind] for kind in kinds), calibrated


def _covers(row: Row, cases: int) -> str:
    low, high = row.expected
    return f"the 90 % interval covers {row.coverage90:.2f} ({low:.2f} to {high:.2f} expected of {cases} cases)"


def _says(kind: str, row: Row, cases: int) -> str:
    if kind == "uneven":
        return f"ranks of the truths have p = {row.sbc:.1g}"
    if kind == "biased":
        side = "above" if row.offset > 0 else "below"
        return f"truths lie {abs(row.offset):.2g} posterior deviations {side} the mean of their draws"
    if row.spread == 0:
        return f"draws do not spread, and miss by {row.skill:.2g}"
    low, high = row.expected
    if not low <= row.coverage90 <= high:
        return _covers(row, cases)
    low, high = (100 * end for end in row.expected_credibility)
    return (
        f"the interval that just holds the truth is that of {100 * row.credibility:.0f} % on average "
        f"({low:.0f} to {high:.0f} expected of {cases} cases)"
    )
