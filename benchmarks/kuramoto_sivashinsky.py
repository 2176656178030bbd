"""Kuramoto-Sivashinsky backwards over 2 and 10 time units: calibration wave by wave, beside the ensemble smoother.

The problem is that of `examples/kuramoto_sivashinsky.py`. Calibration is that of 1,000 held-out trajectories with 20
draws each: of 100 the spread over error of a wave is uncertain by a tenth.

Over ten time units little is left of the start but which of its rare shapes it had, and a score has to weigh these
right: that takes a longer training. A window tells the score but for noise of 1/(g√Δt): over four steps in one half of
that, and the solver's second order leaves little of their length in it. Trained on the steps as they are solved at the
end, the score was worse.

python benchmarks/kuramoto_sivashinsky.py
"""

import pathlib
import sys
import time

import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
from kuramoto_sivashinsky import P, g, learn

MANY, EACH, DRAWS, KEY = 1000, 20, 100, jr.key(1)
STAGES = {2.0: sx.Stage(updates=4000), 10.0: sx.Stage(updates=48_000, stride=4)}


def rows():
    for T, stage in STAGES.items():
        began = time.process_time()
        s, paths, held = learn(T, 20 * MANY, stage, jr.key(0))
        trained = time.process_time()
        waves = sx.calibrate(-P + 2 * s + g, held, key=KEY, n=EACH, basis=sx.Fourier.like)
        seconds = time.process_time() - trained
        some = held[:40]
        learned = sx.posterior(-P + 2 * s + g, some.end, paths.ts[::-1], DRAWS, key=KEY)
        linear = sx.ensemble_smoother(paths.start, paths.end, some.end, DRAWS, key=KEY)
        others = np.repeat(paths.start[:DRAWS, None], len(some), axis=1)
        ratio = waves.spread / waves.skill
        yield {
            "T": T,
            "updates": stage.updates,
            "exploded": f"{waves.exploded.sum():,} of {MANY * EACH:,}",
            "90 % covers": float(np.interp(0.9, waves.levels, waves.covered[0])),
            "spread / error, waves 0 to 8": " ".join(f"{each:.2f}" for each in ratio[:9]),
            "waves 9 to 32": f"{ratio[9:].min():.2f} to {ratio[9:].max():.2f}",
            **{
                f"CRPS of {name}": float(sx.metrics.crps(x, some.start).mean())
                for name, x in {"smdpx": learned, "the ensemble smoother": linear, "other starts": others}.items()
            },
            "verdict": waves.verdict,
            "training CPU s": trained - began,
            "CPU s of 10,000 draws": seconds * 10_000 / (MANY * EACH),
        }


if __name__ == "__main__":
    record("kuramoto_sivashinsky", "python benchmarks/kuramoto_sivashinsky.py", rows())
