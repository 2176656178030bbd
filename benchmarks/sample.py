"""Sampling 1,000 paths of 500 steps: `solve` against a hand-written `lax.scan`, ODE and SDE; and one path of noise.

By an MLP, and by one between moments (`nn.Whitened`; by hand the same network, without its guard).

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

DT, LAMBDA, G, STEPS, PATHS = 0.001, 7.0, 0.03, 500, 1000


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


def one_path():
    """One path of dX = dW in 1,000 steps, where nothing but the solver's own work counts: under `jit`, and called."""
    still, ts, x = sx.Drift(lambda t, x, args: jnp.zeros_like(x)), np.linspace(0, 1, 1001), jnp.zeros(1)

    @jax.jit
    def theirs(key):
        def step(x, i):
            x = x + jnp.sqrt(1e-3) * jr.normal(jr.fold_in(key, i), (1,))
            return x, x

        return jax.lax.scan(step, x, jnp.arange(1000))[1]

    def ours(key):
        return sx.solve(still + sx.Diffusion(1.0), x, ts, key=key, solver=dfx.Euler())

    jitted, key = jax.jit(ours), jr.key(0)
    row = {"what": "one path of noise, under jit", "paths": 1, "steps": 1000}
    yield row | paired(lambda: jitted(key), lambda: theirs(key))
    eager = paired(lambda: ours(key), lambda: jitted(key))
    yield (
        row
        | {"what": "one path of noise, called: the host's share"}
        | {"host_ms": 1e3 * (eager["ours_s"] - eager["theirs_s"])}
    )


def main():
    g, P = sx.Diffusion(G), sx.Drift(drift)
    x, ts, end = jnp.linspace(-0.01, 0.01, PATHS), DT * np.arange(STEPS, -1, -1), dfx.SaveAt(t1=True)
    wide = sx.Trajectories(jr.normal(jr.key(3), (64, 11)), DT * 50 * np.arange(11))  # no path gets outside
    networks = {
        "": sx.nn.MLP(x_scale=0.1, key=jr.key(1)),
        ", between moments": sx.nn.Whitened(sx.nn.MLP(key=jr.key(1)), wide),
    }
    rows = []
    for name, net in networks.items():
        s = sx.Score(net, g)
        flow = lambda: sx.solve(-P + s, x, ts, saveat=end, solver=dfx.Euler())  # noqa: E731, B023
        sde = lambda: sx.solve(-P + 2 * s + g, x, ts, key=jr.key(0), saveat=end, solver=dfx.Euler())  # noqa: E731, B023
        for what, ours, coefficient, noise in (("ODE", flow, 1.0, False), ("SDE", sde, 2.0, True)):
            theirs = lambda: by_hand(net, x, jr.key(0), coefficient, noise)  # noqa: E731, B023
            rows.append({"what": what + name, "paths": PATHS, "steps": STEPS, **paired(ours, theirs)})
    rows += one_path()
    record("sample", "python benchmarks/sample.py", rows)


if __name__ == "__main__":
    main()
