"""What the samplers of systems without noise sample: a linear contraction, where all of it is known.

    dx = -x dt,    x₀ ~ N(0, 1),    t in [0, 1],    blurred states ~ N(0, e⁻²ᵗ + σ²),    σ² = g² Δt

python benchmarks/deterministic.py

By the exact score of the blurred states: mean and deviation of draws of x₀ for x_T = .3, and the deviation of draws for
blurred end states, one for each of 40,000.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

T, X_T, DRAWS = 1.0, 0.3, 40_000
P = sx.Drift(lambda t, x, args: -x)


def with_noise(g):
    """Mean and deviation of x₀ for x_T, if noise g acts all along the path."""
    x0 = sx.exact.OUMixture(-1.0, g, sx.exact.GaussianMixture([0.0], covariances=1.0)).posterior(T, X_T)
    return float(x0.mean()), float(jnp.sqrt(x0.covariance()))


def draws(C, solver, g, steps):
    """Those for x_T, and those for all end states."""
    ts, blur = np.linspace(0, T, steps + 1), g**2 * T / steps
    s = sx.Score(lambda t, x, args: -x / (jnp.exp(-2 * t) + blur), sx.Diffusion(g))
    blurred = np.sqrt(np.exp(-2 * T) + blur) * jr.normal(jr.key(0), (DRAWS,))
    ends = jnp.concatenate([jnp.full(DRAWS, X_T), blurred])
    x0 = sx.solve(-P + C * s + sx.Diffusion(g), ends, ts[::-1], key=jr.key(1), solver=solver)[:, -1]
    return np.asarray(x0[:DRAWS]), np.asarray(x0[DRAWS:])


def row(name, mean, sd, over_all, g="", steps=""):
    return {"draws by": name, "g": g, "steps": steps, "mean": mean, "sd": sd, "sd over all ends": over_all}


def rows():
    yield row("the deterministic system, $e^T x_T$", float(np.exp(T) * X_T), 0.0, 1.0)
    for g in (0.1, 0.3):
        yield row("the system with noise $g$ along the path, exact", *with_noise(g), 1.0, g)
        for steps in (10, 40):
            for equation, C, solver in (
                ("`-P + 2*s + g`, blurred states", 2, None),
                ("`-P + s + g`, blurred states", 1, None),
                ("`-P + 2*s + g`, `SplitEuler`", 2, sx.SplitEuler()),
            ):
                here, everywhere = draws(C, solver, g, steps)
                yield row(equation, float(here.mean()), float(here.std()), float(everywhere.std()), g, steps)


if __name__ == "__main__":
    record("deterministic", "python benchmarks/deterministic.py", rows())
