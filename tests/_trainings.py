"""One small training that the tests of `fit` share: an equation, trajectories and a curriculum of a second."""

import equinox as eqx
import jax
import numpy as np

import smdpx as sx
from tests._problems import Stationary

KEY = jax.random.key(0)
process = Stationary(var=0.25, g=0.5)
P, g = process.P, process.g
TS = np.linspace(0, 1, 21)
PATHS = sx.Trajectories(process.paths(64, TS, jax.random.key(1)), TS)
SHORT = [sx.Stage(updates=30, batch=16, learning_rate=1e-2)]


def mlp():
    return sx.Score(sx.nn.MLP(widths=(4,), key=jax.random.key(2)), g)


def fit(key=KEY, s=None, curriculum=SHORT, **how):
    return sx.fit(-P + 2 * (mlp() if s is None else s), PATHS, key=key, curriculum=curriculum, **how)


def weights(trained):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(trained, eqx.is_inexact_array))])
