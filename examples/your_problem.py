"""A new inverse problem in 15 lines: a damped pendulum in a noisy wind. Where did it start, given where it is now?

    dθ = ω dt + g dW₁,    dω = (-sin θ - ω/5) dt + g dW₂

python examples/your_problem.py
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx

# What you know: times, physics, noise, and where the pendulum may start.
k = jr.split(jr.key(0), 5)
ts = np.linspace(0.0, 3.0, 61)
P = sx.Drift(lambda t, x, args: jnp.stack([x[1], -jnp.sin(x[0]) - 0.2 * x[1]]))
g = sx.Diffusion(0.2)
start = jr.normal(k[0], (2500, 2))

# Learn the score from 2,300 trajectories, and ask for the start of the other 200 from their end.
paths = sx.simulate(P + g, start, ts, key=k[2])
s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(2,), key=k[1]), paths[200:]), g)
s = sx.fit(-P + 2 * s, paths[200:], key=k[3])
guesses = sx.posterior(-P + 2 * s + g, paths[:200].end, ts[::-1], 200, key=k[4])

# Were the answers right? 90 % of the true starts should lie between the 5 % and 95 % quantiles of their guesses.
low, high = jnp.quantile(guesses, jnp.array([0.05, 0.95]), axis=0)
print("inside the 90 % interval (angle, velocity):", jnp.mean((low < start[:200]) & (start[:200] < high), axis=0))
