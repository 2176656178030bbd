"""What `calibrate` found, in three figures."""

from typing import Any

import numpy as np

from ..inference._verdict import CalibrationReport
from ._fields import EXACT, NEGATIVE, POSITIVE


def calibration(axes: Any, report: CalibrationReport) -> None:
    """Ranks of the truths, coverage against credibility, and spread against error, of a `CalibrationReport`.

    The first has height 1 throughout if draws are calibrated, ∪ if they spread too little, ∩ if too much, and slants if
    they are biased; the second lies on the diagonal, below it where draws spread too little. Bands are two standard
    errors. In the third each point is a row of the report; above the diagonal a row spreads too much.

    Args:
        axes: three matplotlib axes, as `plt.subplots(1, 3)[1]`.
        report: from `calibrate`.

    Raises:
        ValueError: another number of axes.

    >>> import jax, matplotlib, smdpx as sx
    >>> matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt
    >>> ou = sx.exact.OUMixture(-0.5, 0.6, sx.exact.GaussianMixture([1.0], covariances=0.3))
    >>> P, g = sx.Drift(ou.drift), sx.Diffusion(0.6)
    >>> x0 = ou.start.sample(100, key=jax.random.key(0))
    >>> paths = sx.simulate(P + g, x0, [0.02 * i for i in range(51)], key=jax.random.key(1))
    >>> report = sx.calibrate(-P + 2 * sx.Score(ou.score, g) + g, paths, key=jax.random.key(2))
    >>> sx.plot.calibration(plt.subplots(1, 3)[1], report)
    """
    if np.shape(axes) != (3,):
        raise ValueError(f"`axes` must be three, as `plt.subplots(1, 3)[1]`; got shape {np.shape(axes)}.")
    ranks, coverage, scales = axes
    heights, error = report.heights
    edges = np.linspace(0, 1, len(heights) + 1)
    chance = 2 * np.sqrt(np.mean(error**2))
    ranks.axhspan(1 - chance, 1 + chance, color=EXACT, alpha=0.2, lw=0)
    ranks.axhline(1, color=EXACT, lw=0.8)
    ranks.stairs(heights, edges, color=POSITIVE, lw=1.4)
    ranks.set(xlabel="rank of the truth among its draws", ylabel="frequency", xlim=(0, 1), ylim=(0, None))
    levels, (covered, error) = report.levels, report.covered
    coverage.fill_between(levels, levels - 2 * error, levels + 2 * error, color=EXACT, alpha=0.2, lw=0)
    coverage.plot([0, 1], [0, 1], color=EXACT, lw=0.8)
    coverage.plot(levels, covered, ".-", ms=4, color=POSITIVE, label="intervals")
    coverage.plot(levels, report.tarp, ".-", ms=4, lw=0.7, color=NEGATIVE, label="TARP")
    coverage.set(xlabel="credibility", ylabel="coverage", xlim=(0, 1), ylim=(0, 1))
    coverage.legend(frameon=False)
    positive = np.concatenate([report.spread, report.skill])
    decades = np.log10(positive[positive > 0])
    ends = 10.0 ** np.array([np.floor(decades.min()), np.ceil(decades.max())])
    scales.loglog(ends, ends, color=EXACT, lw=0.8)
    scales.plot(report.skill, report.spread, "o", ms=4, color=POSITIVE)
    scales.minorticks_off()
    scales.set(xlabel="error of the mean", ylabel="spread", xlim=ends, ylim=ends)
