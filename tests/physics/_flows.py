"""A small grid, obstacles on it, and velocities at its faces."""

import jax
import jax.numpy as jnp

from smdpx.physics import buoyancy as b

N = 16
KEY = jax.random.key(0)
DISC = b.solid(b.disc((60, 60), 15), n=N)
POCKET = jnp.zeros((N, N)).at[4:9, 8].set(1).at[4:9, 12].set(1).at[4, 8:13].set(1).at[8, 8:13].set(1)


def faces(n, key=KEY):
    keys = jax.random.split(key)
    return jax.random.normal(keys[0], (n - 1, n)), jax.random.normal(keys[1], (n, n - 1))
