"""A particle smoother beside: how near do particles come, in three components and in ten?

cuthbert's, by `sx.particle_smoother`, which needs no training, but the starts' law, the physics and the noise: on the
four end states of `lorenz63.py` beside brute force, and on sixteen of the ten scales of `peers.py` beside their closed
form, as `peers.py` compares them.

python benchmarks/particles.py
"""

import time
import warnings

import _lorenz
import jax.random as jr
import numpy as np
from _measure import record
from peers import PHYSICS, SCALE, TIMES, accuracy

import smdpx as sx

DRAWS = 1000


def lorenz():
    """Starts, ends, and what is said of draws."""
    k = jr.split(jr.key(0), 8)
    attractor = _lorenz.on_attractor(100_000, k[0], k[1])
    xT = sx.simulate(_lorenz.P + _lorenz.g, attractor[-4:], _lorenz.TS, key=k[3]).end
    process = _lorenz.P + _lorenz.g
    truth = sx.exact.neighbours(
        process, attractor, _lorenz.TS, xT, 2000, key=k[6], simulations=10_000_000, adjust=False
    )

    def said(x0):
        apart = [sx.metrics.energy_distance(x0[:, i], truth.samples[:, i]) for i in range(len(xT))]
        return {"energy distance": apart, "own error": truth.error.tolist()}

    return attractor, xT, said


def ou():
    """The same of ten components that decay."""
    (P, g), k = PHYSICS["ou"], jr.split(jr.key(1), 3)
    starts = SCALE * (3 + jr.normal(k[0], (100_000, 10)))
    xT = sx.simulate(P + g, starts[-16:], TIMES["ou"], key=k[1]).end
    return starts, xT, lambda x0: accuracy("ou", x0, {"ends": np.asarray(xT)})


def rows():
    for make in (lorenz, ou):
        (P, g), ts = PHYSICS[make.__name__], TIMES[make.__name__]
        starts, xT, said = make()
        for particles in (1000, 3000, 10_000):
            began = time.process_time()
            found = sx.particle_smoother(P + g, starts, ts, xT, DRAWS, key=jr.key(2), particles=particles)
            seconds = (time.process_time() - began) / (len(xT) * DRAWS / 1000)
            row = {"problem": make.__name__, "particles": particles, "CPU s per 1,000 draws": seconds}
            row |= {"worth at the end, least": float(found.ess.min()), "starts, least": float(found.ancestors.min())}
            yield row | said(np.asarray(found.samples))


if __name__ == "__main__":
    # That the weights collapse is what is shown here.
    warnings.filterwarnings("ignore", message=".*particles")
    record("particles", "python benchmarks/particles.py", rows())
