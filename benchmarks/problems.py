"""Problems of other scales, kinds and clocks, by the defaults of the library alone, against their exact answers.

    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape, key=key), paths), g)
    s = sx.fit(-P + 2 * s, paths, key=key)
    x0 = sx.posterior(-P + 2 * s + g, xT, ts[::-1], n, key=key)

No scale, rate, width, curriculum or solver is chosen. Where one thing is, the row's "with" says so.

python benchmarks/problems.py
"""

import math
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import record
from scipy.linalg import solve_banded

import smdpx as sx

GAUSSIAN = {"asked": "mean within .1 sd, variance .95 to 1.05", "seed": 0}


def trained(P, g, paths, key, **how):
    """The score, learned by defaults; the CPU seconds that it took; the updates."""
    net = sx.nn.Whitened(sx.nn.MLP(shape=paths.x.shape[2:], key=key), paths)
    s, started = sx.Score(net, g), time.process_time()
    s = sx.fit(-P + 2 * s, paths, key=jr.fold_in(key, 1), **how)
    return s, {"training CPU s": time.process_time() - started, "updates": s.trained.curriculum[-1][2]}


def beside(draws, mean, sd):
    """The worst component's rms error of the mean over the cases; the variances' least and largest ratio."""
    off = np.sqrt(np.mean(np.square((draws.mean(axis=0) - mean) / sd), axis=0))
    ratio = np.mean(draws.var(axis=0) / sd**2, axis=0)
    return {"mean off, sd": float(np.max(off)), "variance ratio": [float(np.min(ratio)), float(np.max(ratio))]}


def decaying(key, unit=1.0, origin=0.0, size=1.0, shape=(), count=5000):
    """An OU process of rate .7 and noise .6 from N(3, 1): physics, noise, trajectories, unseen ends."""
    P, g = sx.Drift(lambda t, x, args: -0.7 / unit * x), sx.Diffusion(0.6 / math.sqrt(unit) * np.squeeze(size))
    x0 = size * (3 + jr.normal(jr.fold_in(key, 1), (count + 100, *shape)))
    paths = sx.simulate(P + g, x0, origin + unit * np.linspace(0, 1, 41), key=jr.fold_in(key, 2))
    return P, g, paths[:-100], paths[-100:].end


def decayed(draws, xT, size=1.0):
    """Draws of such a process beside its closed form, in units of each component."""
    ou = sx.exact.OUMixture(-0.7, 0.6, sx.exact.GaussianMixture([3.0], covariances=[1.0]))
    z = np.asarray(xT / size)
    exact = jax.vmap(lambda z: ou.posterior(1.0, z))(z.ravel())
    mean, sd = exact.means.reshape(z.shape), jnp.sqrt(exact.covariances).reshape(z.shape)
    return beside(np.asarray(draws / size), np.asarray(mean), np.asarray(sd))


def ou_rows():
    """Ten components whose sizes differ by 10⁴."""
    size = jnp.logspace(-2, 2, 10)[None]
    P, g, paths, xT = decaying(jr.key(0), size=size, shape=(10,))
    s, cost = trained(P, g, paths, jr.key(0))
    x0 = sx.posterior(-P + 2 * s + g, xT, paths.ts[::-1], 2000, key=jr.key(2))
    yield {"problem": "10-D OU, sizes 1e-2 to 1e2", **GAUSSIAN, **decayed(x0, xT, size), **cost}


def clock_row(unit, origin, seed=0):
    """The same process in another unit and from another origin of time."""
    P, g, paths, xT = decaying(jr.key(5), unit, origin)
    s, cost = trained(P, g, paths, jr.key(seed))
    x0 = sx.posterior(-P + 2 * s + g, xT, paths.ts[::-1], 2000, key=jr.key(2))
    return {"problem": f"OU, unit {unit:g}, from {origin:g}", **GAUSSIAN, "seed": seed, **decayed(x0, xT), **cost}


def clocks_rows():
    """First how much two trainings differ."""
    for clock in ((1, 0, 0), (1, 0, 1), (1e-3, 0), (1e3, 0), (1, 100), (1, -50), (1, 1e4)):
        yield clock_row(*clock)


def oscillator_rows():
    """Position and velocity of a damped oscillator; the noise is on the velocity alone."""
    start = sx.exact.GaussianMixture([[1.0, 0.0]], covariances=[[[1.0, 0.0], [0.0, 0.5]]])
    exact = sx.exact.OUMixture(jnp.array([[0.0, 1.0], [-4.0, -0.5]]), jnp.array([0.0, 0.7]), start)
    P, g = sx.Drift(exact.drift), sx.Diffusion(exact.g)
    k = jr.split(jr.key(0), 4)
    paths = sx.simulate(P + g, start.sample(5100, key=k[0]), np.linspace(0, 2, 81), key=k[1])
    paths, xT = paths[:-100], paths[-100:].end
    s, cost = trained(P, g, paths, k[2])
    x0 = sx.posterior(-P + 2 * s + g, xT, paths.ts[::-1], 2000, key=k[3])
    answer = jax.vmap(lambda x: exact.posterior(2.0, x))(xT)
    sd = np.sqrt(np.diagonal(answer.covariances[:, 0], axis1=1, axis2=2))
    yield {
        "problem": "underdamped oscillator",
        **GAUSSIAN,
        **beside(np.asarray(x0), np.asarray(answer.means[:, 0]), sd),
        **cost,
    }


def well_posterior(rate, g, T, ends):
    """Mean and deviation of x₀ ~ N(0, 1) given x_T, by the backward Kolmogorov equation, u_t + P u_x + ½g² u_xx = 0.

    Central differences on [-5, 5] and Crank-Nicolson back from u(T, x) = δ(x - x_T), after four implicit steps that
    damp what δ holds of short waves. Half the grid and half the steps change no digit that is shown.
    """
    x, steps = np.linspace(-5, 5, 4001), 1000
    h, P, D = x[1] - x[0], rate(x), 0.5 * g**2
    below, above = D / h**2 - P / (2 * h), D / h**2 + P / (2 * h)
    below[0] = above[-1] = 0  # no flux through the ends
    u = np.where(np.abs(x[:, None] - ends[None]) < h / 2, 1 / h, 0)
    for implicit, dt in [(1.0, T / steps / 2)] * 4 + [(0.5, T / steps)] * (steps - 2):
        forward = dt * (1 - implicit)
        right = u + forward * (above[:, None] * (np.roll(u, -1, 0) - u) + below[:, None] * (np.roll(u, 1, 0) - u))
        back = dt * implicit
        bands = np.stack([np.roll(-back * above, 1), 1 + back * (above + below), np.roll(-back * below, -1)])
        u = solve_banded((1, 1), bands, right)
    weight = u * np.exp(-(x[:, None] ** 2) / 2)
    mean = np.sum(weight * x[:, None], axis=0) / np.sum(weight, axis=0)
    return mean, np.sqrt(np.sum(weight * (x[:, None] - mean) ** 2, axis=0) / np.sum(weight, axis=0))


def well_rows():
    """A double well: a million draws from ends of the data, and seven ends beside the Kolmogorov equation."""
    P, g, ts = sx.Drift(lambda t, x, args: x - x**3), sx.Diffusion(0.5), np.linspace(0, 2, 81)
    ends = np.array([-1.2, -0.9, -0.3, 0.0, 0.3, 0.9, 1.2])
    mean, sd = well_posterior(lambda x: x - x**3, 0.5, 2.0, ends)
    paths = sx.simulate(P + g, jr.normal(jr.key(4), (20_000,)), ts, key=jr.key(5))
    s, cost = trained(P, g, paths, jr.key(0))
    few = np.asarray(sx.posterior(-P + 2 * s + g, jnp.asarray(ends, jnp.float32), ts[::-1], 100_000, key=jr.key(1)))
    many = np.asarray(sx.posterior(-P + 2 * s + g, paths.end[:1000], ts[::-1], 1000, key=jr.key(2)))
    yield {
        "problem": "double well, 20,000 trajectories",
        "asked": "both within 3 %, none beyond",
        "mean off, sd": float(np.max(np.abs(few.mean(axis=0) - mean) / sd)),
        "sd ratio": [float(f(few.std(axis=0) / sd)) for f in (np.min, np.max)],
        "draws": many.size,
        "beyond 10": int(np.sum(~(np.abs(many) < 10))),
        **cost,
    }


def toy_rows():
    """README's problem by defaults: P(+1) beside the Fokker-Planck equation, and a million draws."""
    P, g = sx.Drift(lambda t, x, args: -7 * jnp.sign(x) * x**2), sx.Diffusion(0.03)
    ts = 10 * np.linspace(0, 1, 501) ** 1.5
    exact = sx.exact.FokkerPlanck1D(P.f, 0.03, sx.exact.GaussianMixture([-1.0, 1.0]), 10)
    ends = jnp.linspace(-0.1, 0.1, 21)
    paths = sx.simulate(P + g, jnp.where(jnp.arange(2000) < 1000, 1.0, -1.0), ts, key=jr.key(1))
    s, cost = trained(P, g, paths, jr.key(0))
    up = jnp.mean(sx.posterior(-P + 2 * s + g, ends, ts[::-1], 4000, key=jr.key(2)) > 0, axis=0)
    every = jnp.linspace(paths.end.min(), paths.end.max(), 1000)
    many = np.asarray(sx.posterior(-P + 2 * s + g, every, ts[::-1], 1000, key=jr.key(3)))
    yield {
        "problem": "toy",
        "P(+1) off": float(jnp.max(jnp.abs(up - exact.component_probabilities(10.0, ends)[:, 1]))),
        "draws": many.size,
        "beyond 1.5": int(np.sum(~(np.abs(many) < 1.5))),
        **cost,
    }


def growth_row(count, validation=None):
    """Logarithms of populations that grow to a limit, few of them: what a share for validation is worth."""
    P, g, ts = sx.Drift(lambda t, x, args: 1 - jnp.exp(x)), sx.Diffusion(0.3), np.linspace(0, 4, 41)
    paths = sx.simulate(P + g, -2 + 0.5 * jr.normal(jr.key(1), (2500,)), ts, key=jr.key(2))
    s, cost = trained(P, g, paths[:count], jr.key(0), validation=validation)
    report = sx.calibrate(-P + 2 * s + g, paths[500:], key=jr.key(3))
    return {
        "problem": f"growth, {count} trajectories",
        "with": "" if validation is None else f"`validation={validation}`",
        "coverage of 90 %": float(report.coverage90[0]),
        "spread/error": float(report.spread[0] / report.skill[0]),
        "CRPS": float(report.crps[0]),
        "exploded": int(report.exploded.sum()),
        **cost,
    }


def growth_rows():
    """Few trajectories, and fewer."""
    for count in (500, 100, 40):
        yield growth_row(count)
        yield growth_row(count, validation=0.1)


if __name__ == "__main__":
    every = (ou_rows, oscillator_rows, clocks_rows, well_rows, toy_rows, growth_rows)
    record("problems", "python benchmarks/problems.py", (row for rows in every for row in rows()))
