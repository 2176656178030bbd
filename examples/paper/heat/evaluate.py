"""What the heat problem's table holds: the three figures of each inference, the posterior's, and the score's own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx
from heat.problem import CONTINUOUS, EXACT, INFERENCES, STEPS, TS, G, N, Scheme, T, figures, g, infer


def three_inferences(scheme: Scheme, s: sx.Score, x0: jax.Array, xT: jax.Array, key: jax.Array) -> dict[str, Any]:
    """The figures of each inference of one score."""
    return {name: figures(infer(scheme, s, name, xT, key), x0, xT) for name in INFERENCES}


def exact_limits(
    x0: jax.Array, xT: jax.Array, key: jax.Array, dt: float | None = T / STEPS
) -> dict[str, dict[str, float]]:
    """The figures of the exact answers and of the truth itself: nothing learned can be expected to do better.

    Of the process that made the data, the chain of 32 steps; or with ``dt`` None of the process in continuous time,
    whose score is what a solver in no need of these steps learns.
    """
    keys = jr.split(key, len(xT))
    with jax.enable_x64(True):  # the short waves of a posterior mean are below single precision's rounding
        exact = sx.exact.LinearGaussianField(sx.exact.power_law_field(N), g=G, dt=dt)

        @jax.jit
        @jax.vmap
        def answer(x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
            return {
                "posterior mean": exact.posterior_mean(T, x),
                "posterior sample": exact.sample_posterior(T, x, key=key),
                "probability flow": exact.probability_flow(T, x),
            }

        answers = {**answer(jnp.asarray(xT, float), keys), "truth": x0}
        return {name: figures(np.asarray(x), np.asarray(x0), np.asarray(xT)) for name, x in answers.items()}


def exact_samples(xT: jax.Array, draws: int, key: jax.Array) -> jax.Array:
    """Samples of the exact posterior, (draws, cases, n, n)."""
    return _exact_samples(xT, jr.split(key, (draws, len(xT))))


@jax.jit
def _exact_samples(xT: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(jax.vmap(lambda x, key: EXACT.sample_posterior(T, x, key=key)), (None, 0))(xT, keys)


def learned_samples(scheme: Scheme, s: sx.Score, xT: jax.Array, draws: int, key: jax.Array) -> jax.Array:
    """Samples of the learned posterior, (draws, cases, n, n)."""
    equation = -scheme.P + 2 * s + g
    return sx.posterior(equation, xT, scheme.grid()[::-1], draws, key=key, solver=scheme.solver)


def posterior_figures(
    samples: jax.Array, exact: jax.Array, other: jax.Array, x0: jax.Array, key: Any
) -> dict[str, Any]:
    """How a set of samples compares with the exact posterior's: in distribution, in coverage, at each scale.

    `exact` and `other` are two sets of exact samples; the energy distance between those is what finite sets have.
    """
    alpha, coverage = sx.metrics.tarp(samples, x0, key=key, references=jr.permutation(jr.fold_in(key, 1), x0))
    calibration = sx.metrics.spread_skill(samples, x0)
    ranks = sx.metrics.sbc_ranks(samples, x0)
    return {
        "energy ratio": energy_distances(samples, exact) / energy_distances(other, exact),
        "energy score": float(np.mean(sx.metrics.energy_score(samples, x0))),
        "CRPS": float(np.mean(sx.metrics.crps(samples, x0))),
        "TARP": float(np.max(np.abs(coverage - alpha))),
        "coverage": coverage.round(4).tolist(),
        "spread-skill": calibration.ratio.round(4).tolist(),
        "skill": calibration.skill.round(6).tolist(),
        "ranks": sx.metrics.rank_histogram(ranks, len(samples)).round(4).tolist(),
    }


def energy_distances(a: jax.Array, b: jax.Array, cases: int = 200) -> float:
    """Energy distance between two sets of draws, mean over cases, each set's own distances with the zeros counted in.

    With them (Székely & Rizzo's V-statistic) two sets of one distribution have a distance > 0, so that ratios of such
    distances mean something; `sx.metrics.energy_distance` has mean zero there.
    """
    return float(_energy_distances(jnp.moveaxis(a, 1, 0)[:cases], jnp.moveaxis(b, 1, 0)[:cases]))


@jax.jit
def _energy_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)

    return jnp.mean(jax.vmap(distance)(a, b))


def _mean_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    rows = jax.lax.map(lambda row: jnp.sqrt(jnp.sum((y - row) ** 2, axis=1)), x)  # not by |x|² - 2xy + |y|²: it cancels
    return jnp.mean(rows)


def score_by_wavenumber(s: sx.Score, key: jax.Array, count: int = 500) -> dict[str, Any]:
    """Slope of the learned on the exact continuous-time score at each wavenumber: is what was learned the score?

    Over states of the process at eight times in [Δt, T].
    """
    inner, square = (np.asarray(value) for value in _products(s, jnp.linspace(TS[1], T, 8), key, count))
    k = np.fft.fftfreq(N, 1 / N)
    bins = np.sqrt(k[:, None] ** 2 + k**2).astype(int)
    slopes = [float(inner[bins == b].sum() / square[bins == b].sum()) for b in range(1, N // 2 + 1)]
    return {"slope by wavenumber": np.round(slopes, 4).tolist(), "slope": float(inner.sum() / square.sum())}


@eqx.filter_jit
def _products(s: sx.Score, times: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Of each mode, summed over times: the learned times the exact score, and the exact one squared."""
    starts, paths = jr.split(key)
    x0 = sx.data.gaussian_random_fields(count, N, key=starts)

    def at(i: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jr.split(jr.fold_in(paths, i), count)
        x = jax.vmap(lambda x, key: CONTINUOUS.simulate(t, x, key=key))(x0, keys)
        learned = jnp.fft.fft2(jax.vmap(lambda x: s.net(t, x, None))(x))
        exact = jnp.fft.fft2(jax.vmap(lambda x: CONTINUOUS.score(t, x))(x))
        return jnp.mean((learned * exact.conj()).real, axis=0), jnp.mean(jnp.abs(exact) ** 2, axis=0)

    inner, square = jax.lax.map(lambda it: at(*it), (jnp.arange(len(times)), times))
    return inner.sum(axis=0), square.sum(axis=0)
