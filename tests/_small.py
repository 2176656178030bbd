"""A problem of three numbers, and a training of one update: what tests of errors hand in, right but for one thing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import smdpx as sx

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 6)
X0 = jnp.ones(3)
P = sx.Drift(lambda t, x, args: -x)
g = sx.Diffusion(0.3)
s = sx.Score(lambda t, x, args: -x, g)
net = sx.Score(sx.nn.MLP(widths=(4,), key=KEY), g)
PATHS = jnp.ones((4, 6))


def fit(paths=PATHS, ts: Any = TS, equation: Any = None, **how):
    how = {"curriculum": [sx.Stage(updates=1, batch=2)], "key": KEY, **how}
    return sx.fit(-P + 2 * net if equation is None else equation, sx.Trajectories(paths, ts), **how)
