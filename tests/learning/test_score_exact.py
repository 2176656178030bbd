"""Trained scores against the closed form: the Ornstein-Uhlenbeck process from x₀ = ±1.

Density-weighted over t in [0.5, 10], as the example's table is; both trainings must find the score itself, not
half or twice it.
"""

import jax.random as jr
import numpy as np
import pytest
from toy import ou
from toy.evaluate import score_error

import smdpx as sx

# A step's change tells of the score as its length does, and of the noise as the root of that: longer ones need fewer
# windows. Their bias is of first order one way, and of second order both ways.
CURRICULA = {
    "one-step": [sx.Stage(updates=5000, batch=1024, learning_rate=5e-3, stride=3)],
    "two-way": [sx.Stage(updates=3000, batch=2048, learning_rate=1e-2, stride=6)],
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", CURRICULA)
def test_the_trained_score_is_the_exact_one(name):
    s = ou.train(name, CURRICULA[name])
    error = score_error(s, ou.OU, np.linspace(0.5, 10.0, 96), jr.key(1))
    assert error.relative_l2 < 0.1
    assert abs(error.slope - 1) < 0.05
