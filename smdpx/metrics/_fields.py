"""Metrics of periodic fields: spectra, calibration per wavenumber, and the way back to the observation.

With unitary Fourier coefficients x_k of a field (n, n) and integer wavenumbers k = (k₁, k₂), bin b holds the modes with
⌊|k|⌋ = b, for b = 1 ... ⌊n/2⌋. Bin 0 is the mean; the corners beyond the last bin are left out.

    power spectrum       P_b = mean over bin b of |x_k|²                           (white noise: 1 in every bin)
    spectral error       mean over b = 1 ... 10 of |Δ log mean over bin b of |Re x_k||
    spread-skill ratio   √((m+1)/m · Var over m draws) / RMSE of their mean, per bin

Fields are on the last two axes, cases before them, draws before these.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..equation._linear import squared_wavenumbers
from ._common import Samples, as_draws, as_samples, check_answers, check_array


def power_spectrum(x: Samples) -> tuple[Int[np.ndarray, " bins"], Float[np.ndarray, "... bins"]]:
    """Radially averaged power of each field.

    P_b is the mean of |x_k|² over the modes with ⌊|k|⌋ = b, coefficients being unitary: white noise of variance 1 has
    1 in every bin, a field with power |k|^-4 falls from bin to bin as about (b + ½)^-4.

    Args:
        x: periodic fields, shape (..., n, n), at least one axis in front, n ≥ 2.

    Returns:
        Wavenumbers b = 1 ... ⌊n/2⌋, shape (bins,), and the power of each field, shape (..., bins), in units of the
        state squared. Plot the mean over cases on two logarithmic axes.

    Raises:
        ValueError: no fields, fields that are not square, or values that are not finite.

    >>> import jax.numpy as jnp
    >>> column = jnp.sin(jnp.pi / 2 * jnp.arange(8.0))
    >>> wavenumbers, power = power_spectrum(jnp.tile(column, (1, 8, 1)))
    >>> wavenumbers.tolist(), power.round(3).tolist()
    ([1, 2, 3, 4], [[0.0, 2.0, 0.0, 0.0]])
    """
    fields = _as_fields("x", x)
    wavenumbers = np.arange(1, fields.shape[-1] // 2 + 1)
    return wavenumbers, _over_bins(np.abs(np.fft.fft2(fields, norm="ortho")) ** 2)


def spectral_error(samples: Samples, truth: Samples, *, largest: int = 10) -> float:
    """How far the spectrum of each field is from that of its truth (arXiv:2301.10250, eq 67).

    The mean over cases and wavenumbers b = 1 ... ``largest`` of |log A_b(sample) - log A_b(truth)|, natural logarithms,
    with A_b the mean of |Re ifft2(x)| over the modes with ⌊|k|⌋ = b, as the paper's code computes it. The paper's sum
    starts at 0; bin 0 is the field's mean, whose logarithm is infinite for fields without one.

    Only the real parts count, so one field has an error against its shifted copy: .13 between independent draws of the
    paper's fields. A smooth answer, such as a posterior mean, has a large error (5.7 there) however near it is.

    Args:
        samples: one field a case, shape (cases, n, n), or draws of them, (draws, cases, n, n).
        truth: the true fields, shape (cases, n, n).
        largest: the last wavenumber, in 1 ... ⌊n/2⌋.

    Returns:
        The error, ≥ 0, without unit: .1 is a factor of 1.1 in amplitude. The spectrum of a field in single precision
        is rounding error below about 1e-7 of its largest amplitude: pass smooth answers in double precision.

    Raises:
        ValueError: shapes that don't match, fields that are not square, values that are not finite, ``largest`` out of
            range, or a field without any power at a wavenumber, whose logarithm would be infinite.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (3, 32, 32))
    >>> round(spectral_error(2 * x, x), 4)  # log 2
    0.6931
    """
    guess, target = _as_fields("samples", samples), _as_fields("truth", truth)
    check_answers("n, n", samples=guess, truth=target)
    half = target.shape[-1] // 2
    if not 1 <= largest <= half:
        raise ValueError(f"`largest` must be in 1 ... {half}, half the pixels a side, got {largest}")
    logarithms = []
    for name, fields in (("samples", guess), ("truth", target)):
        amplitude = _over_bins(np.abs(np.fft.ifft2(fields).real))[..., :largest]
        if not amplitude.all():
            *field, b = (int(i) for i in np.argwhere(amplitude == 0)[0])
            raise ValueError(
                f"`{name}[{', '.join(map(str, field))}]` has no power at wavenumber {b + 1}, so the error is infinite; "
                "pass a smaller `largest`, or leave the field out"
            )
        logarithms.append(np.log(amplitude))
    return float(np.mean(np.abs(logarithms[0] - logarithms[1])))


class SpreadSkill(NamedTuple):
    """What `spread_skill` returns, all of shape (bins,).

    Attributes:
        wavenumbers: b = 1 ... ⌊n/2⌋.
        spread: √((m+1)/m · the unbiased variance of m draws), mean over the modes of a bin and the cases.
        skill: root mean squared error of the draws' mean.
        ratio: spread / skill; 1 is calibrated.
    """

    wavenumbers: Int[np.ndarray, " bins"]
    spread: Float[np.ndarray, " bins"]
    skill: Float[np.ndarray, " bins"]
    ratio: Float[np.ndarray, " bins"]


def spread_skill(samples: Samples, truth: Samples) -> SpreadSkill:
    """Is the spread of posterior draws as large as their mean's error, at each scale?

    For Fourier coefficients of m draws with mean x̄ and of the truth y, both means over cases and over modes with
    ⌊|k|⌋ = b,

        spread² = (m+1)/m · mean Var(x_k),    skill² = mean |x̄_k - y_k|²,    ratio = spread / skill.

    Truth and draws of one distribution have ratio 1 for any number of draws, thanks to the factor (m+1)/m (Fortin et
    al. 2014). Draws from the prior pass as well: look at the skill too.

    Args:
        samples: draws, shape (draws, cases, n, n), at least two draws.
        truth: the states that the cases were simulated from, shape (cases, n, n).

    Returns:
        A `SpreadSkill`; spread and skill are in units of the state, as in a pixel if all modes were alike. Below 1 the
        draws are overconfident at that wavenumber, above 1 underconfident. Of N independent modes in all, the ratio of
        calibrated draws is 1 ± about 1/√N. Where neither draws nor truths have any power it is NaN.

    Raises:
        ValueError: shapes that don't match, no axis of cases, fields that are not square, fewer than two draws, or
            values that are not finite.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (5, 200, 8, 8))  # one truth and four draws of one distribution
    >>> [f"{ratio:.1f}" for ratio in spread_skill(x[1:], x[0]).ratio]
    ['1.0', '1.0', '1.0', '1.0']
    """
    _as_fields("truth", truth)
    draws, target = as_draws(samples, truth, least=2)
    m = len(draws)
    variance, error = np.zeros(target.shape[1:]), np.zeros(target.shape[1:])
    # A case at a time: the coefficients of all draws would take four times the samples' memory.
    for case, y in enumerate(target.astype(np.float64)):
        x = np.fft.fft2(draws[:, case].astype(np.float64) - y, norm="ortho")
        variance += x.var(axis=0, ddof=1)
        error += np.abs(x.mean(axis=0)) ** 2
    spread = np.sqrt((m + 1) / m * _over_bins(variance) / len(target))
    skill = np.sqrt(_over_bins(error) / len(target))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spread / skill
    return SpreadSkill(np.arange(1, len(ratio) + 1), spread, skill, ratio)


def reconstruction_error(forward: Callable[[Any], Any], x0: Samples, xT: Samples) -> float:
    """Mean squared error of the answers pushed back through the physics, (forward(x₀) - x_T)².

    By itself it discriminates nothing: reverse physics alone has the best reconstruction of all (up to rounding) and
    answers that are noise. Even the truth has the error that the noise along its path makes. So show it beside a
    distance to x₀ or a `spectral_error`.

    Args:
        forward: the noise-free forward process of one state, x₀ to x_T, in JAX; it is vectorised here.
        x0: one answer a case, shape (cases, ...), or draws of them, (draws, cases, ...).
        xT: the observed end states, shape (cases, ...).

    Returns:
        The mean over cases (and draws) and components, in units of the state squared.

    Raises:
        ValueError: shapes that don't match, or values that are not finite, before or after ``forward``.

    >>> import jax.numpy as jnp
    >>> reconstruction_error(lambda x: 0.5 * x, jnp.array([2.0, 4.0]), jnp.array([1.0, 3.0]))
    0.5
    """
    check_array("x0", x0)
    check_array("xT", xT)
    check_answers("...", x0=x0, xT=xT)
    guess, end = as_samples("x0", x0), as_samples("xT", xT)
    again = _each(forward, jnp.asarray(guess.reshape(-1, *end.shape[1:])))
    if again.shape[1:] != end.shape[1:]:
        raise ValueError(
            f"`forward` must give an end state of shape {end.shape[1:]} for one x0, gave {again.shape[1:]}"
        )
    difference = as_samples("forward(x0)", again).reshape(guess.shape).astype(np.float64) - end
    return float(np.mean(difference**2))


@eqx.filter_jit
def _each(forward: Callable[[Any], Any], x: jax.Array) -> jax.Array:
    """A second call with the same function compiles nothing."""
    return jax.vmap(forward)(x)


def rank_histogram(
    ranks: Int[Array | np.ndarray, "cases ..."], draws: int, *, bins: int | None = None
) -> Float[np.ndarray, " bins"]:
    """Histogram of `sbc_ranks` with mean height 1, all components together.

    Flat at 1 for draws of the posterior; ∪-shaped for overconfident draws, ∩-shaped for underconfident ones, slanted
    for biased ones. Rank r of 0 ... m stands for the interval [r, r + 1] / (m + 1) of [0, 1], and a rank across two of
    the evenly wide bins is divided between them, so that uniform ranks are flat whatever the number of bins.

    Args:
        ranks: from `sbc_ranks`, shape (cases, ...), in 0 ... ``draws``. Pick components for one histogram of each.
        draws: number of draws that the ranks were found with.
        bins: number of bins, in 1 ... ``draws`` + 1. By default 20, within this limit.

    Returns:
        Heights, shape (bins,), with mean 1; for N independent ranks each is ± √(bins / N). Pixels of one field depend
        on each other, so that N is nearer to the number of cases; `sbc_pvalue` tests each component.

    Raises:
        ValueError: no ranks, ranks outside 0 ... ``draws``, or bins outside their limits.

    >>> import jax.numpy as jnp
    >>> rank_histogram(jnp.array([0, 1, 2, 2]), draws=2, bins=2).round(3).tolist()
    [0.75, 1.25]
    """
    check_array("ranks", ranks)
    if ranks.ndim == 0 or ranks.size == 0:
        raise ValueError(f"`ranks` must have shape (cases, ...), cases > 0, got {ranks.shape}")
    low, high = int(ranks.min()), int(ranks.max())
    if low < 0 or high > draws:
        raise ValueError(f"`ranks` must be in 0 ... draws = {draws}, got {low} ... {high}")
    bins = min(20, draws + 1) if bins is None else bins
    if not 1 <= bins <= draws + 1:
        raise ValueError(f"`bins` must be in 1 ... draws + 1 = {draws + 1}, got {bins}")
    counts = np.bincount(np.asarray(ranks, np.int64).ravel(), minlength=draws + 1)
    below = np.concatenate([[0], np.cumsum(counts)]) / ranks.size
    # Linear between the ranks' ends: a divided rank is spread evenly over its interval.
    return np.diff(np.interp(np.linspace(0, draws + 1, bins + 1), np.arange(draws + 2), below)) * bins


def _as_fields(name: str, x: Samples) -> Float[np.ndarray, "... n n"]:
    """Check periodic square fields, all finite; give them in double precision."""
    check_array(name, x)
    if x.ndim < 3 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        raise ValueError(
            f"`{name}` must be square fields of shape (cases, n, n), n ≥ 2, got shape {x.shape}. "
            f"For one field write `{name}[None]`; for channels in the end, `{name}[..., i]`"
        )
    return as_samples(name, x).astype(np.float64)


def _over_bins(values: Float[np.ndarray, "... n n"]) -> Float[np.ndarray, "... bins"]:
    """Means over the modes with ⌊|k|⌋ = 1 ... ⌊n/2⌋, of values in the order of `numpy.fft.fft2`."""
    n = values.shape[-1]
    bins = np.floor(np.sqrt(squared_wavenumbers(n))).astype(int).ravel()
    order = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[order], np.arange(n // 2 + 2))
    ordered = values.reshape(*values.shape[:-2], n * n)[..., order[: starts[-1]]]
    return (np.add.reduceat(ordered, starts[:-1], axis=-1) / np.diff(starts))[..., 1:]
