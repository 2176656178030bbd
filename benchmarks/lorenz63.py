"""Noisy Lorenz-63 backwards: does a score belong to the process, or to the scheme that it was learned through?

The four end states of `examples/lorenz.py`, and its network and training, three times over, each time from 20,000 other
trajectories: through Euler's method, through Heun's (the default) and from transitions; solved by four solvers with 60
and 120 steps. Beside brute force of five times as many simulations as in the example.

python benchmarks/lorenz63.py
"""

import time
import warnings

import diffrax as dfx
import jax.random as jr
import numpy as np
from _lorenz import TS, P, g, on_attractor
from _measure import record

import smdpx as sx

SEEDS, MANY, DRAWS, SIMULATIONS = 3, 20_000, 3000, 20_000_000
LOSSES = {
    "Euler window": sx.WindowLoss(solver=dfx.Euler()),
    "window": sx.WindowLoss(),
    "transition": sx.TransitionLoss(),
}
SOLVERS = (dfx.Euler(), dfx.Heun(), dfx.ShARK(), dfx.SRA1())


def learn(paths, loss, key):
    """A score, and the CPU seconds of its training."""
    net_key, fit_key = jr.split(key)
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(3,), widths=(96, 96, 96), key=net_key), paths), g)
    started = time.process_time()
    s = sx.fit(-P + 2 * s, paths, key=fit_key, loss=loss, curriculum=[sx.Stage(updates=12_000, batch=512)])
    return s, time.process_time() - started


def rows():
    k = jr.split(jr.key(0), 8)
    attractor = on_attractor(5 * MANY, k[0], k[1])
    xT = sx.simulate(P + g, attractor[-4:], TS, key=k[3]).end
    # A pool of starts of its own: among few, the nearest to a rare end would be the same ones again and again.
    pool = on_attractor(400_000, *jr.split(k[6]))
    # Starts lie on two branches: moved along one regression, those of the first end, between them, would meet half way.
    truth = sx.exact.neighbours(P + g, pool, TS, xT, DRAWS, key=k[6], simulations=SIMULATIONS, adjust=False)

    def apart(x0):
        return [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(len(xT))]

    yield {
        "method": "brute force's own error",
        "energy distance": truth.error.tolist(),
        "radius": truth.radius.tolist(),
    }
    trajectories = [sx.simulate(P + g, attractor[i * MANY :][:MANY], TS, key=jr.fold_in(k[2], i)) for i in range(SEEDS)]
    linear = [sx.ensemble_smoother(paths.start, paths.end, xT, DRAWS, key=k[7]) for paths in trajectories]
    yield row("ensemble Kalman smoother", [apart(x0) for x0 in linear], 0.0)
    for name, loss in LOSSES.items():
        learned = [learn(paths, loss, jr.fold_in(k[4], i)) for i, paths in enumerate(trajectories)]
        seconds = float(np.mean([each for _, each in learned]))
        for solver in SOLVERS:
            for steps in (60, 120):
                back = np.linspace(0.3, 0.0, steps + 1)
                draws = [sx.posterior(-P + 2 * s + g, xT, back, DRAWS, key=k[7], solver=solver) for s, _ in learned]
                method = f"{name}; {type(solver).__name__}, {steps} steps"
                yield row(method, [apart(x0) for x0 in draws], seconds)


def row(method, distances, seconds):
    """The mean over seeds, and the farthest of them, for each end state."""
    mean, worst = np.mean(distances, axis=0).tolist(), np.max(distances, axis=0).tolist()
    return {"method": method, "energy distance": mean, "farthest seed": worst, "training CPU s": seconds}


if __name__ == "__main__":
    # To solve by other solvers than the score was learned through is the point here.
    warnings.filterwarnings("ignore", message=".*was trained (through|on steps)")
    record("lorenz63", "python benchmarks/lorenz63.py", rows())
