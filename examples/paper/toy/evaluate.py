"""What the toy problem's table holds: Q of three inferences, and the two columns that Q cannot replace."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx

EULER = dfx.Euler()  # the paper's scheme: data, windows and inference alike
ENDS = jnp.linspace(-0.1, 0.1, 1000)
FEW = jnp.linspace(-0.1, 0.1, 21)
LATE = np.linspace(1.0, 10.0, 19)  # times of the score's error


def evaluate(
    P: sx.Drift, s: sx.Score, ts: np.ndarray, exact: sx.exact.FokkerPlanck1D, samples: int, key: jax.Array
) -> dict[str, Any]:
    """Q of the inferences, the sampled probability of +1 at 21 end points, and the score's error."""
    key_sde, key_posterior, key_data = jr.split(key, 3)
    g, back, T = s.g, ts[::-1], float(ts[-1])
    x0 = sx.posterior(-P + 2 * s + g, FEW, back, samples, key=key_posterior, solver=EULER)
    probability = jnp.mean(x0 > 0, axis=0)
    error = score_error(s, exact, LATE, key_data)
    q = sx.metrics.posterior_metric_q
    return {
        "Q flow": q(sx.point_estimate(-P + s, ENDS, back, solver=EULER)),
        "Q noise-free": q(sx.point_estimate(-P + 2 * s, ENDS, back, solver=EULER)),
        "Q SDE": q(sx.posterior(-P + 2 * s + g, ENDS, back, 1, key=key_sde, solver=EULER)[0]),
        "posterior error": float(jnp.max(jnp.abs(probability - exact_probability(exact, T)))),
        "score error": error.relative_l2,
        "slope": error.slope,
        "P(+1)": np.asarray(probability).round(4).tolist(),
    }


def exact_probability(exact: sx.exact.FokkerPlanck1D, T: float) -> jax.Array:
    """P(x₀ = +1 | x_T) at the 21 end points."""
    return exact.component_probabilities(T, FEW)[:, 1]


def score_error(s: sx.Score, exact: Any, times: np.ndarray, key: jax.Array) -> sx.metrics.ScoreError:
    """The learned score's error over 500 fresh states of the exact process at each time."""
    x = _states(exact, jnp.asarray(times), jr.split(key, len(times)))
    return sx.metrics.score_error(s.net, exact.score, np.repeat(times, 500), x.ravel())


@eqx.filter_jit
def _states(exact: Any, times: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda t, key: exact.sample(t, 500, key=key))(times, keys)
