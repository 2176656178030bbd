"""The heat problem of arXiv:2301.10250, §4.2: its physics, two schemes to unroll it by, cases, the exact answer."""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.random as jr
import numpy as np

import smdpx as sx

N, T, G, STEPS = 32, 0.2, 0.1, 32
TS = np.linspace(0.0, T, STEPS + 1)
PRIOR = sx.exact.power_law_field(N)
# The test data's process: Euler-Maruyama, 32 exact decays with noise after each. Everything about it is closed form.
EXACT = sx.exact.LinearGaussianField(PRIOR, g=G, dt=T / STEPS)
# The process in continuous time, whose score is what a solver in no need of these steps learns.
CONTINUOUS = sx.exact.LinearGaussianField(PRIOR, g=G)

heat = sx.physics.Heat(N)
g = sx.Diffusion(G)


class Scheme(NamedTuple):
    """How the physics and the solver are put together.

    Attributes:
        name: in tables.
        P: the physics.
        solver: for data, training and inference alike.
        power: its grid is t_k = T (k/32)^power. With 2 the last steps are short: near t = 0 the short waves' score
            changes within a step of an even grid, and their samples' spread would be 10 % too small.
        data: the physics that trajectories are simulated with, where that is not P.
    """

    name: str
    P: Any
    solver: dfx.AbstractSolver
    power: float
    data: Any = None

    def grid(self, steps: int = STEPS) -> np.ndarray:
        """Times from 0 to T."""
        return T * np.linspace(0.0, 1.0, steps + 1) ** self.power


# The paper's: the solver's own step, negated to run backwards. And one that is exact in the stiff linear part.
MIRRORED = Scheme("mirrored step", sx.Drift.from_step(heat.step, reverse=sx.mirror), dfx.Euler(), 1.0)
EXPONENTIAL = Scheme("exponential", sx.Drift(heat), sx.ExponentialEuler(), 2.0)

# The three inferences by name: of one score, three answers.
INFERENCES = {
    "posterior mean": lambda P, s: -P + 2 * s,
    "posterior sample": lambda P, s: -P + 2 * s + g,
    "probability flow": lambda P, s: -P + s,
}


def fields(count: int, key: jax.Array) -> jax.Array:
    """Initial states: Gaussian fields of power |k|⁻⁴ and unit variance."""
    return sx.data.gaussian_random_fields(count, N, key=key)


def cases(count: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Test cases: true starts, and the end states that are observed."""
    key_start, key_path = jr.split(key)
    x0 = fields(count, key_start)
    return x0, sx.simulate(MIRRORED.P + g, x0, TS, key=key_path).end


def infer(scheme: Scheme, s: sx.Score, name: str, xT: jax.Array, key: jax.Array) -> jax.Array:
    """The end at t = 0 of one inference, one field a case."""
    equation, ts = INFERENCES[name](scheme.P, s), scheme.grid()
    if isinstance(equation, sx.SDE):
        return sx.posterior(equation, xT, ts[::-1], 1, key=key, solver=scheme.solver)[0]
    return sx.point_estimate(equation, xT, ts[::-1], solver=scheme.solver)


def conducted(x: jax.Array) -> jax.Array:
    """What a field becomes until T without noise."""
    return heat.step(x, T)


def figures(x: Any, x0: Any, xT: Any) -> dict[str, float]:
    """The three figures of every table: each alone can be fooled. Infinite where an answer exploded."""
    if not np.max(np.abs(x)) < 1e12:
        return dict.fromkeys(("reconstruction", "distance", "spectral"), float("inf"))
    return {
        "reconstruction": sx.metrics.reconstruction_error(conducted, x, xT),
        "distance": float(np.mean((np.asarray(x) - np.asarray(x0)) ** 2)),
        "spectral": sx.metrics.spectral_error(x, x0),
    }
