"""Scores and calibration of posterior draws against truths, where no exact posterior is known.

Draws are on axis 0. With xᵢ the m draws for one truth y,

    covered = x₍ₐ₎ ≤ y ≤ x₍ᵦ₎, the order statistics a = (m+1)(1-p)/2 and b = (m+1)(1+p)/2 of a level p
    ratio² = (m+1)/m mean Var(x) / mean (x̄ - y)²
    CRPS = (1/m) Σᵢ |xᵢ - y| - 1/(2m(m-1)) Σᵢⱼ |xᵢ - xⱼ|          (energy score: Euclidean norms)
    rank = #{i : xᵢ < y} + a uniform integer in 0 ... #{i : xᵢ = y},   uniform on 0 ... m for the posterior's draws
    TARP = the rank of |y - r| among |xᵢ - r| for a random point r, in all components at once

CRPS and energy score are proper scores: the true posterior has the lowest expected value. Coverage,
ranks and TARP test calibration, which draws from the prior pass as well: use them with a score.
"""

from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._types import Key
from ._common import (
    Samples,
    as_draws,
    as_samples,
    check_array,
    check_same_tree,
    distance_sums,
    flatten,
    is_tree,
    require,
    side_by_side,
    unit,
)


def crps(samples: Samples, truth: Samples) -> PyTree[Float[np.ndarray, "..."]]:
    """Continuous ranked probability score of each component, by the fair estimator.

    CRPS = E|X - y| - ½ E|X - X'| (Gneiting and Raftery 2007), with the second mean over pairs of
    different draws (Ferro 2014), so that its expectation doesn't depend on the number of draws.

    Args:
        samples: draws, shape (draws, ...), at least two; with cases, (draws, cases, ...). Or a tree of such arrays.
        truth: what they predict, shape (...), or a tree.

    Returns:
        One score a component, shape (...) or a tree, in units of the state; lower is better. Average it over
        cases. An exact deterministic answer has 0; few draws may give slightly negative values.

    Raises:
        ValueError: shapes that don't match, fewer than two draws, or values that are not finite.

    >>> import jax.numpy as jnp
    >>> crps(jnp.array([[0.0, 1.0], [1.0, 1.0]]), jnp.array([2.0, 3.0])).tolist()
    [1.0, 2.0]
    """
    if is_tree(samples) or is_tree(truth):
        check_same_tree(samples=samples, truth=truth)
        return jax.tree.map(crps, samples, truth)
    draws, target = as_draws(samples, truth, least=2)
    m = len(draws)
    # Sorted, Σᵢⱼ |xᵢ - xⱼ| = 2 Σᵢ (2i - m - 1) xᵢ, i = 1 ... m: m log m work, not m². Counting
    # from the truth keeps digits that a far mean would take.
    x = np.sort(draws - target, axis=0)
    weights = (2 * np.arange(1, m + 1, dtype=x.dtype) - m - 1) / (m * (m - 1))
    return np.asarray(np.mean(np.abs(x), axis=0) - np.tensordot(weights, x, axes=1))


def covered(samples: Samples, truth: Samples, level: float = 0.9) -> PyTree[Bool[np.ndarray, "..."]]:
    """Whether each component of the truth lies in the central interval of its draws.

    The interval reaches between the draws number (m+1)(1±level)/2 of m in order, interpolated in between (Weibull's
    quantiles): of truths and draws of one distribution it holds the share `level`, for any number of draws.

    Args:
        samples: draws, shape (draws, ...), at least two; with cases, (draws, cases, ...). Or a tree of such arrays.
        truth: what they predict, shape (...), or a tree.
        level: the share that is to be covered, in (0, (m-1)/(m+1)]: 19 draws are the fewest that have a 90 % interval.

    Returns:
        Of each component, shape (...) or a tree. Its mean over cases is the coverage.

    Raises:
        ValueError: shapes that don't match, a level that so few draws cannot have, or values that are not finite.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (20, 5000))  # one truth and nineteen draws of one distribution
    >>> f"{covered(x[1:], x[0]).mean():.1f}"
    '0.9'
    """
    if is_tree(samples) or is_tree(truth):
        check_same_tree(samples=samples, truth=truth)
        return jax.tree.map(lambda x, y: covered(x, y, level), samples, truth)
    draws, target = as_draws(samples, truth, least=2)
    m = len(draws)
    if not 0 < level <= (m - 1) / (m + 1) + 1e-9:
        raise ValueError(f"{m} draws have intervals of a level in (0, {(m - 1) / (m + 1):.3g}], got `level` = {level}")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    return np.asarray((low <= target) & (target <= high))


def spread_over_error(samples: Samples, truth: Samples) -> PyTree[float]:
    """How large the draws' spread is beside the error of their mean, over all cases and components.

    √((m+1)/m · mean Var(x) / mean (x̄ - y)²), 1 for truths and draws of one distribution, for any number of draws
    (Fortin et al. 2014); below 1 the draws are overconfident. Of fields, `spread_skill` says it wave by wave.

    Args:
        samples: draws, shape (draws, ...), at least two; with cases, (draws, cases, ...). Or a tree of such arrays.
        truth: what they predict, shape (...), or a tree.

    Returns:
        The ratio, of a tree one for each array. Of N independent components and cases it is 1 ± about 1/√(2N). Where
        neither spread nor error is there, NaN.

    Raises:
        ValueError: shapes that don't match, fewer than two draws, or values that are not finite.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (10, 5000))
    >>> f"{spread_over_error(x[1:], x[0]):.1f}"
    '1.0'
    """
    if is_tree(samples) or is_tree(truth):
        check_same_tree(samples=samples, truth=truth)
        return jax.tree.map(spread_over_error, samples, truth)
    draws, target = as_draws(samples, truth, least=2)
    m = len(draws)
    scale = max(float(unit(draws)), float(unit(target)))
    draws, target = draws / scale, target / scale
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (m + 1) / m * draws.var(axis=0, ddof=1).mean() / np.mean((draws.mean(axis=0) - target) ** 2)
    return float(np.sqrt(ratio))


def energy_score(samples: Samples, truth: Samples) -> Float[np.ndarray, " cases"]:
    """Energy score of whole states, CRPS's form for several components, by the fair estimator.

    ES = E|X - y| - ½ E|X - X'| with Euclidean norms (Gneiting and Raftery 2007); it sees
    dependence between components, which CRPS does not.

    Args:
        samples: draws, shape (draws, cases, ...), at least two draws. Leaves of a tree are put side by side, so they
            need one unit.
        truth: what they predict, shape (cases, ...), or a tree.

    Returns:
        One score a case, shape (cases,), in units of the state; lower is better.

    Raises:
        ValueError: shapes that don't match, no axis of cases, fewer than two draws, or values that
            are not finite.

    >>> import jax.numpy as jnp
    >>> draws = jnp.array([[[0.0, 0.0]], [[6.0, 8.0]]])
    >>> energy_score(draws, jnp.array([[3.0, 4.0]])).tolist()
    [0.0]
    """
    draws, target = _with_cases(*_whole(samples, truth), least=2)
    m = len(draws)

    score = np.empty(len(target))
    for case, y in enumerate(flatten(target)):
        x = flatten(draws[:, case])
        to_others = distance_sums(x, x).sum() / (2 * m * (m - 1))
        scale = float(unit(x - y))
        score[case] = float(np.linalg.norm((x - y) / scale, axis=1).mean()) * scale - to_others
    return score


def sbc_ranks(samples: Samples, truth: Samples, *, key: Key | None = None) -> PyTree[Int[np.ndarray, "cases ..."]]:
    """Rank of each truth among its draws, for simulation-based calibration.

    rank = #{i : xᵢ < y} + U, U a uniform integer in 0 ... #{i : xᵢ = y}: the truth's place among the draws that equal
    it is drawn at random. So the ranks are uniform on 0 ... draws if truths come from the prior and draws from the
    posterior (Talts et al. 2018, arXiv:1804.06788), for clipped, rounded and discrete states too. A
    histogram of the ranks is ∪-shaped for overconfident draws, ∩-shaped for underconfident
    ones, slanted for biased ones.

    Args:
        samples: draws, shape (draws, cases, ...), or a tree of such arrays.
        truth: the states that the cases were simulated from, shape (cases, ...), or a tree.
        key: breaks ties. Left out, it is `jax.random.key(0)`: the same inputs have the same ranks.

    Returns:
        Integers in 0 ... draws, shape (cases, ...) or a tree, one for each component.

    Raises:
        ValueError: shapes that don't match, no axis of cases, or values that are not finite.

    >>> import jax.numpy as jnp
    >>> sbc_ranks(jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([0.5, 9.0])).tolist()
    [1, 2]
    """
    key = jr.key(0) if key is None else key
    if is_tree(samples) or is_tree(truth):
        check_same_tree(samples=samples, truth=truth)
        leaves, tree = jax.tree.flatten(samples)
        pairs = zip(leaves, jax.tree.leaves(truth), jr.split(key, max(1, len(leaves))), strict=True)
        return jax.tree.unflatten(tree, [sbc_ranks(x, y, key=k) for x, y, k in pairs])
    draws, target = _with_cases(samples, truth)
    below, ties = np.sum(draws < target, axis=0), np.sum(draws == target, axis=0)
    if not ties.any():
        return below
    uniform = np.asarray(jr.uniform(key, ties.shape), np.float64)
    return below + np.floor(uniform * (ties + 1)).astype(below.dtype)


def sbc_pvalue(
    ranks: Int[Array | np.ndarray, "cases ..."], draws: int, *, bins: int | None = None
) -> Float[np.ndarray, "..."]:
    """Probability of ranks as uneven as these if they were uniform, by the chi-square test.

    χ² = Σ (observed - expected)² / expected over bins of the ranks, with bins - 1 degrees of
    freedom. Components of one case depend on each other, so each is tested by itself.

    Args:
        ranks: from `sbc_ranks`, shape (cases, ...), in 0 ... ``draws``, of independent cases.
        draws: number of draws that the ranks were found with.
        bins: number of bins, in 2 ... ``draws`` + 1. By default one for each 20 cases, within
            these limits.

    Returns:
        p-values, shape (...). Below .01: not calibrated. Of many components some are small by
        chance: compare the smallest with .01 / number of components.

    Raises:
        ValueError: ranks outside 0 ... ``draws``, bins outside their limits, or fewer than five
            cases a bin, with which the test doesn't hold.
        ImportError: SciPy is not installed.

    >>> import jax.numpy as jnp
    >>> float(sbc_pvalue(jnp.arange(100) % 10, draws=9))
    1.0
    """
    check_array("ranks", ranks)
    if ranks.ndim == 0 or ranks.size == 0:
        raise ValueError(f"`ranks` must have shape (cases, ...), cases > 0, got {ranks.shape}")
    low, high = int(ranks.min()), int(ranks.max())
    if low < 0 or high > draws:
        raise ValueError(f"`ranks` must be in 0 ... draws = {draws}, got {low} ... {high}")
    cases = len(ranks)
    bins = max(2, min(draws + 1, cases // 20)) if bins is None else bins
    if not 2 <= bins <= draws + 1:
        raise ValueError(f"`bins` must be in 2 ... draws + 1 = {draws + 1}, got {bins}")
    if cases < 5 * bins:
        raise ValueError(
            f"`ranks` must hold at least 5 cases a bin, got {cases} cases for {bins} bins. Simulate"
            " more cases, or pass fewer `bins`"
        )

    def count(r: Int[np.ndarray, " n"]) -> Int[np.ndarray, " bins"]:
        return np.bincount(r * bins // (draws + 1), minlength=bins)

    components = np.asarray(ranks).reshape(cases, -1).T.astype(np.int64)
    observed = np.array([count(r) for r in components])
    # Bins hold unequally many ranks unless bins divides draws + 1.
    expected = count(np.arange(draws + 1)) * (cases / (draws + 1))
    chi2 = ((observed - expected) ** 2 / expected).sum(axis=1)
    return np.asarray(require("scipy.stats").chi2.sf(chi2, bins - 1)).reshape(ranks.shape[1:])


def tarp(
    samples: Samples,
    truth: Samples,
    *,
    key: Key,
    levels: int = 21,
    references: Samples | None = None,
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """Expected coverage of credible regions around random points, in all components at once.

    For each case draw a reference r; the ball around r that reaches to the truth has credibility
    u = P(|X - r| < |y - r|), and coverage(α) = P(u < α) = α if the draws are the posterior's (Lemos
    et al. 2023, arXiv:2302.03026). u is (#{nearer draws} + uniform · (1 + #{draws as near})) / (draws + 1), which is
    uniform for any number of draws, and where draws and truths tie. Components are divided by the
    truths' standard deviations.

    Args:
        samples: draws, shape (draws, cases, ...). Leaves of a tree are put side by side.
        truth: the states that the cases were simulated from, shape (cases, ...), or a tree.
        key: draws references and breaks ties.
        levels: number of credibility levels, evenly from 0 to 1, ≥ 2.
        references: one a case, shape (cases, ...); by default uniform in the box that holds the
            truths. References that depend on the observation find more: draws from the prior pass
            with all others.

    Returns:
        Credibility levels α and the coverage at each, both of shape (levels,). On the diagonal:
        calibrated, ± √(α(1-α) / cases). Above it at small α and below at large: overconfident; the
        other way round: underconfident; on one side throughout: biased. With references near the
        truths the patterns mix.

    Raises:
        ValueError: shapes that don't match, no axis of cases, values that are not finite, or fewer
            than two levels.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (100, 500, 2))
    >>> alpha, coverage = tarp(x[1:], x[0], key=jr.key(1), levels=5)
    >>> bool(abs(coverage - alpha).max() < 0.07)
    True
    """
    if levels < 2:
        raise ValueError(f"`levels` must be at least 2, got {levels}")
    samples, whole = _whole(samples, truth)
    draws, target = _with_cases(samples, whole)
    key_references, key_ties = jr.split(key)
    if references is None:
        low, high = target.min(axis=0), target.max(axis=0)
        points = low + (high - low) * np.asarray(jr.uniform(key_references, target.shape))
    else:
        check_same_tree(references=references, truth=truth)
        given = np.asarray(side_by_side("references", references, 1))
        if given.shape != whole.shape:
            raise ValueError(
                f"`references` must be one state a case, shaped like `truth` {whole.shape}, got shape {given.shape}"
            )
        points = as_samples("references", given)
    size = unit(target, axis=0)
    scale = (target / size).std(axis=0) * size
    scale = np.where(scale > 0, scale, 1)

    def distance(x: Float[np.ndarray, "cases ..."]) -> Float[np.ndarray, " cases"]:
        return np.linalg.norm(flatten((x - points) / scale), axis=1)

    to_truth = distance(target)
    nearer, ties = np.zeros(len(target), int), np.zeros(len(target), int)
    # A draw at a time: the differences of all draws at once would double the memory.
    for draw in draws:
        to_draw = distance(draw)
        nearer += to_draw < to_truth
        ties += to_draw == to_truth
    u = (nearer + np.asarray(jr.uniform(key_ties, ties.shape)) * (ties + 1)) / (len(draws) + 1)
    alpha = np.linspace(0, 1, levels)
    return alpha, (u < alpha[:, None]).mean(axis=1)


def _whole(samples: Samples, truth: Samples) -> tuple[Any, Any]:
    """Draws and truths with a tree's leaves side by side."""
    check_same_tree(samples=samples, truth=truth)
    return side_by_side("samples", samples, 2), side_by_side("truth", truth, 1)


def _with_cases(
    samples: Samples, truth: Samples, least: int = 1
) -> tuple[Float[np.ndarray, "draws cases ..."], Float[np.ndarray, "cases ..."]]:
    check_array("truth", truth)
    if truth.ndim == 0:
        raise ValueError(
            "`truth` must have shape (cases, ...) and `samples` (draws, cases, ...), got a scalar "
            "truth. For one case, write `samples[:, None], truth[None]`"
        )
    return as_draws(samples, truth, least)
