"""Stochastic Lorenz-96 backwards, 40 variables and defaults only: is it calibrated, and better than the usual tools?

    dx_i = [(x_{i+1} - x_{i-2}) x_{i-1} - x_i + 8] dt + dW_i,    T = .4

with scalar additive noise as in Grudzien, Bocquet and Carrassi (2020, doi:10.5194/gmd-13-1903-2020). Of each network
its class, size and updates are chosen, and nothing else. Trajectories that were not learned from are the truths;
beside the learned posteriors the ensemble and the particle smoother.

python benchmarks/lorenz96.py
"""

import time

import diffrax as dfx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

# Of 99 draws the 5th and the 95th have the truth between them in 90 % of cases.
COUNT, CASES, DRAWS, FEW = 10_000, 200, 99, 2
TS, KEY = np.linspace(0.0, 0.4, 41), jr.key(0)


def velocity(t, x, args):
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8


P, g = sx.Drift(velocity), sx.Diffusion(1.0)


def row(method, x0, truth, seconds, training=0.0, **more):
    """The figures of one method; coverage and spread over all components and cases."""
    x0, truth = np.asarray(x0), np.asarray(truth)
    found = {
        "method": method,
        "cases": len(truth),
        "coverage of 90 %": float(np.mean(sx.metrics.covered(x0, truth))),
        "spread/error": sx.metrics.spread_over_error(x0, truth),
        "CRPS": float(np.mean(sx.metrics.crps(x0, truth))),
    }
    return found | more | {"training CPU s": training, "CPU s": seconds}


def rows():
    k = jr.split(KEY, 8)
    end, start = dfx.SaveAt(t1=True), 8 + jr.normal(k[0], (CASES + COUNT, 40))
    attractor = sx.solve(P + g, start, np.linspace(0.0, 8.0, 801), key=k[1], saveat=end)[:, 0]
    paths = sx.simulate(P + g, attractor, TS, key=k[2])
    held, paths = paths[:CASES], paths[CASES:]
    any_start = jr.randint(k[3], (DRAWS, CASES), 0, COUNT)
    yield row("climatology", paths.start[any_start], held.start, 0.0)

    started = time.process_time()
    x0 = sx.ensemble_smoother(paths.start, paths.end, held.end, DRAWS, key=k[3])
    yield row("ensemble Kalman smoother", x0, held.start, time.process_time() - started)

    started, how = time.process_time(), {"key": k[4], "particles": 2000, "solver": dfx.Euler()}
    name = "particle smoother"
    try:
        x0 = sx.particle_smoother(P + g, paths.start, TS, held.end[:FEW], DRAWS, **how).samples
        yield row(name, x0, held.start[:FEW], time.process_time() - started)
    except ValueError as error:
        yield {"method": name, "cases": FEW, "says": str(error), "CPU s": time.process_time() - started}

    nets = {
        "MLP": (sx.nn.MLP(shape=(40,), widths=(256, 256, 256), key=k[5]), 20_000),
        "ResNet": (sx.nn.ResNet((40,), width=16, blocks=2, key=k[5]), 2000),
    }
    for name, (net, updates) in nets.items():
        started = time.process_time()
        s = sx.Score(sx.nn.Whitened(net, paths), g)
        s = sx.fit(-P + 2 * s, paths, key=k[6], curriculum=[sx.Stage(updates=updates)])
        training, started = time.process_time() - started, time.process_time()
        report = sx.calibrate(-P + 2 * s + g, held, key=k[7], n=DRAWS)
        seconds = time.process_time() - started
        x0 = sx.posterior(-P + 2 * s + g, held.end, TS[::-1], DRAWS, key=k[7])
        more = {"exploded": int(report.exploded.sum()), "verdict": report.verdict}
        yield row(f"{name}, {updates} updates", x0, held.start, seconds, training, **more)


if __name__ == "__main__":
    record("lorenz96", "python benchmarks/lorenz96.py", rows())
