"""Noisy Lorenz-63 backwards: does a score belong to the process, or to the scheme that it was learned through?

The four end states of `examples/lorenz.py`, and its network, learned three times over, each time from 200,000 other
trajectories: through Euler's method, through Heun's (the default) and from transitions; solved by four solvers with 60
and 120 steps. Beside brute force, and beside a training of the example's size.

An end state may have begun on two branches, 24 apart, and one per cent of the draws on the wrong one is an energy
distance of .005: so many draws are compared, to twice as many of brute force; and starts are states of trajectories
that have settled, of which there are millions for brute force to choose from.

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

SEEDS, DRAWS, SIMULATIONS = 3, 10_000, 160_000_000
EULER, WINDOW, TRANSITION = sx.WindowLoss(solver=dfx.Euler()), sx.WindowLoss(), sx.TransitionLoss()
SOLVERS = (dfx.Euler(), dfx.Heun(), dfx.ShARK(), dfx.SRA1())
# The loss, trajectories, updates, and what it is solved by.
TRAININGS = {
    "Euler window": (EULER, 200_000, 36_000, SOLVERS),
    "window": (WINDOW, 200_000, 36_000, SOLVERS),
    "transition": (TRANSITION, 200_000, 36_000, SOLVERS),
    "window, 20,000 trajectories": (WINDOW, 20_000, 36_000, SOLVERS[2:3]),
    "window, 20,000 trajectories, 12,000 updates": (WINDOW, 20_000, 12_000, SOLVERS[2:3]),
}


def settled(states, key):
    """States half a unit apart on the way of each of these, from the tenth unit to the fiftieth: (states, 80, 3)."""
    every = dfx.SaveAt(steps=100)
    return sx.solve(P + g, states, np.linspace(0.0, 50.0, 10_001), key=key, saveat=every)[:, -80:]


def learn(paths, loss, updates, key):
    """A score, and the CPU seconds of its training."""
    net_key, fit_key = jr.split(key)
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(3,), widths=(96, 96, 96), key=net_key), paths), g)
    started = time.process_time()
    s = sx.fit(-P + 2 * s, paths, key=fit_key, loss=loss, curriculum=[sx.Stage(updates=updates, batch=512)])
    return s, time.process_time() - started


def rows():
    k = jr.split(jr.key(0), 8)
    attractor = on_attractor(100_000, k[0], k[1])
    xT = sx.simulate(P + g, attractor[-4:], TS, key=k[3]).end
    states = settled(attractor[:40_000], k[5])
    # Starts lie on two branches: moved along one regression, those of the first end, between them, would meet half way.
    starts = states.reshape(-1, 3)
    truth = sx.exact.neighbours(P + g, starts, TS, xT, 2 * DRAWS, key=k[6], simulations=SIMULATIONS, adjust=False)

    def apart(x0):
        return [float(sx.metrics.energy_distance(x0[:, i], truth.samples[:, i])) for i in range(len(xT))]

    yield {
        "method": "brute force's own error",
        "energy distance": truth.error.tolist(),
        "radius": truth.radius.tolist(),
    }
    # For each training a third of the ways: of each of these sixteen states, two and a half units apart.
    parts = [states[i::SEEDS, ::5].swapaxes(0, 1).reshape(-1, 3)[:200_000] for i in range(SEEDS)]
    data = [sx.simulate(P + g, part, TS, key=jr.fold_in(k[2], i)) for i, part in enumerate(parts)]
    linear = [sx.ensemble_smoother(paths.start, paths.end, xT, DRAWS, key=jr.fold_in(k[7], SEEDS)) for paths in data]
    yield row("ensemble Kalman smoother", [apart(x0) for x0 in linear], 0.0)
    for name, (loss, many, updates, solvers) in TRAININGS.items():
        learned = [learn(paths[:many], loss, updates, jr.fold_in(k[4], i)) for i, paths in enumerate(data)]
        seconds = float(np.mean([each for _, each in learned]))
        for solver in solvers:
            for steps in (60, 120):
                distances = [
                    apart(draws(s, xT, steps, solver, jr.fold_in(k[7], i))) for i, (s, _) in enumerate(learned)
                ]
                yield row(f"{name}; {type(solver).__name__}, {steps} steps", distances, seconds)


def draws(s, xT, steps, solver, key):
    """Posterior samples by a score."""
    return sx.posterior(-P + 2 * s + g, xT, np.linspace(0.3, 0.0, steps + 1), DRAWS, key=key, solver=solver)


def row(method, distances, seconds):
    """The mean over seeds, and the farthest of them, for each end state."""
    mean, worst = np.mean(distances, axis=0).tolist(), np.max(distances, axis=0).tolist()
    return {"method": method, "energy distance": mean, "farthest seed": worst, "training CPU s": seconds}


if __name__ == "__main__":
    # To solve by other solvers than the score was learned through is the point here.
    warnings.filterwarnings("ignore", message=".*was trained (through|on steps)")
    record("lorenz63", "python benchmarks/lorenz63.py", rows())
