"""Sampling 1,000 paths of 500 steps: `solve` against a hand-written `lax.scan`, ODE and SDE.

python benchmarks/sample.py
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import paired, record

import smdpx as sx

DT, LAMBDA, G, STEPS, PATHS = 0.02, 7.0, 0.03, 500, 1000


def drift(t, x, args):
    return -LAMBDA * jnp.sign(x) * x**2


@eqx.filter_jit
def by_hand(net, x, key, coefficient, noise):
    ts = DT * jnp.arange(STEPS, 0, -1)

    def step(x, inputs):
        t, key = inputs
        score = jax.vmap(net, (None, 0))(t, x)
        x = x + DT * (-drift(t, x, None) + coefficient * 0.5 * G**2 * score)
        if noise:
            x = x + G * jnp.sqrt(DT) * jr.normal(key, x.shape)
        return x, None

    return jax.lax.scan(step, x, (ts, jr.split(key, STEPS)))[0]


def main():
    g, P = sx.Diffusion(G), sx.Drift(drift)
    s = sx.Score(sx.nn.MLP(x_scale=0.1, out_scale=1 / G, key=jr.key(1)), g)
    x, ts, end = jnp.linspace(-0.01, 0.01, PATHS), DT * np.arange(STEPS, -1, -1), dfx.SaveAt(t1=True)
    rows = []
    for name, ours, theirs in (
        (
            "ODE",
            lambda: sx.solve(-P + s, x, ts, saveat=end),
            lambda: by_hand(s.net, x, jr.key(0), 1.0, False),
        ),
        (
            "SDE",
            lambda: sx.solve(-P + 2 * s + g, x, ts, key=jr.key(0), saveat=end),
            lambda: by_hand(s.net, x, jr.key(0), 2.0, True),
        ),
    ):
        rows.append({"what": name, "paths": PATHS, "steps": STEPS, **paired(ours, theirs)})
    record("sample", "python benchmarks/sample.py", rows)


if __name__ == "__main__":
    main()
