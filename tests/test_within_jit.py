"""Functions that look at values say so within a program, whether its inputs reach them or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

g = sx.Diffusion(0.5)
P = sx.Drift(lambda t, x, args: -x)
PATHS = sx.Trajectories(np.linspace(0.0, 1.0, 20 * 3, dtype=np.float32).reshape(20, 3), [0.0, 0.5, 1.0])
EQUATION = -P + 2 * sx.Score(lambda t, x, args: -x, g) + g
KEY = jax.random.key(0)

CALLS = {
    "calibrate": lambda x: sx.calibrate(EQUATION, PATHS, key=jax.random.fold_in(KEY, x[0].astype(int))),
    "check": lambda x: sx.check(P, x, dt=0.1),
    "check_references": lambda x: sx.check_references(P + g, sx.Trajectories(x[:, None] * jnp.ones((1, 3)), PATHS.ts)),
    "finite": lambda x: sx.finite(x[:, None]),
    "neighbours": lambda x: sx.exact.neighbours(P + g, lambda key, n: jnp.zeros(n), [0.0, 1.0], x, key=KEY),
    "particle_smoother": lambda x: sx.particle_smoother(P + g, x, [0.0, 0.5, 1.0], x[:1], 10, key=KEY),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("known", [False, True], ids=["of an argument", "of what is known"])
def test_functions_that_look_at_values_say_so(name, known):
    x = jnp.linspace(0.0, 1.0, 20)
    program = (lambda y: CALLS[name](x)) if known else CALLS[name]
    with pytest.raises(TypeError, match=f"`{name}` looks at values, which `jax.jit`"):
        jax.jit(program)(x)
