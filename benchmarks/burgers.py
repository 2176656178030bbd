"""Stochastic Burgers backwards: calibration wave by wave, beside the ensemble smoother and brute force.

The problem is that of `examples/burgers.py`. Calibration is that of 1,000 held-out trajectories with 20 draws each: of
100 the spread over error of a wave is uncertain by a tenth. The methods are compared on 100 of them, with 100 draws
each. No simulation comes near an end of 64 points. So brute force looks at the ends' first six principal components
alone: of a million simulations it keeps for each end the nearest, moved along their regression. It knows less than the
others, and is right about what it knows.

python benchmarks/burgers.py
"""

import pathlib
import sys
import time

import diffrax as dfx
import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
from burgers import TS, P, g, learn, starts

CASES, DRAWS, KEY = 100, 100, jr.key(1)  # of the comparison
MANY, EACH = 1000, 20  # of the calibration
COMPONENTS, PARTS, PART, KEPT = 6, 50, 20_000, 400


class PrincipalComponents:
    """The first principal components of fields, in units of their deviations."""

    def __init__(self, fields):
        fields = np.asarray(fields, np.float64)
        self.mean = fields.mean(axis=0)
        self.axes = np.linalg.svd(fields - self.mean, full_matrices=False)[2][:COMPONENTS].T
        self.scale = ((fields - self.mean) @ self.axes).std(axis=0)

    def __call__(self, fields):
        """Shape (n, COMPONENTS)."""
        return (np.asarray(fields, np.float64) - self.mean) @ self.axes / self.scale


def brute_force(paths, held, key):
    """Draws (DRAWS, cases, 64) of the starts given the ends' principal components, and the farthest that is kept."""
    seen = PrincipalComponents(paths.end)
    target, best = seen(held.end), [[] for _ in range(len(held))]
    for i in range(PARTS):
        k = jr.split(jr.fold_in(key, i))
        x0 = starts(PART, k[0])
        ends = seen(sx.solve(P + g, x0, TS[::2], key=k[1], saveat=dfx.SaveAt(t1=True))[:, 0])
        x0 = np.asarray(x0)
        for case, kept in enumerate(best):
            away = np.linalg.norm(ends - target[case], axis=1)
            near = np.argpartition(away, KEPT)[:KEPT]
            kept += [(away[j], ends[j], x0[j]) for j in near]
            best[case] = sorted(kept, key=lambda each: each[0])[:KEPT]
    draws = np.stack([_adjusted(kept, target[case]) for case, kept in enumerate(best)], axis=1)
    return draws, max(kept[-1][0] for kept in best)


def _adjusted(kept, target):
    ends, x0 = np.stack([each[1] for each in kept]), np.stack([each[2] for each in kept])
    ones = np.concatenate([np.ones((KEPT, 1)), ends - target], axis=1)
    slopes = np.linalg.lstsq(ones, x0, rcond=None)[0][1:]
    which = np.random.default_rng(0).permutation(KEPT)[:DRAWS]
    return (x0 - (ends - target) @ slopes)[which]


def row(method, x0, truth, seen, **more):
    """Coverage of the 90 % interval, spread over error, CRPS; at all points, and of the starts' components."""
    x0, truth = np.asarray(x0, np.float64), np.asarray(truth, np.float64)
    inside = np.stack([seen(draw) for draw in x0]), seen(truth)
    found = {"method": method}
    for name, (x, y) in {"points": (x0, truth), f"{COMPONENTS} components": inside}.items():
        found[f"{name}: 90 % covers"] = float(np.mean(sx.metrics.covered(x, y)))
        found[f"{name}: spread/error"] = sx.metrics.spread_over_error(x, y)
        found[f"{name}: CRPS"] = float(np.mean(sx.metrics.crps(x, y)))
    return found | more


def rows():
    began = time.process_time()
    s, paths, every = learn(20 * MANY, sx.Stage(updates=5000, learning_rate=2e-3, batch=128, stride=4), jr.key(0))
    trained = time.process_time()
    waves = sx.calibrate(-P + 2 * s + g, every, key=KEY, n=EACH, basis=sx.Fourier.like)
    seconds, ratio = time.process_time() - trained, (waves.spread / waves.skill)[1:]
    yield {
        "exploded": f"{waves.exploded.sum():,} of {MANY * EACH:,}",
        "90 % covers": float(np.interp(0.9, waves.levels, waves.covered[0])),
        "spread / error, waves 1 to 8": " ".join(f"{each:.2f}" for each in ratio[:8]),
        "waves 9 to 32": f"{ratio[8:].min():.2f} to {ratio[8:].max():.2f}",
        "verdict": waves.verdict,
        "training CPU s": trained - began,
        "CPU s of 10,000 draws": seconds * 10_000 / (MANY * EACH),
    }
    held = every[:CASES]
    seen, truth = PrincipalComponents(paths.start), held.start
    yield row("smdpx", sx.posterior(-P + 2 * s + g, held.end, TS[::-1], DRAWS, key=KEY), truth, seen)
    yield row("ensemble smoother", sx.ensemble_smoother(paths.start, paths.end, held.end, DRAWS, key=KEY), truth, seen)
    began = time.process_time()
    draws, reach = brute_force(paths, held, jr.key(2))
    seconds = time.process_time() - began
    yield row("brute force, 6 components of the end", draws, truth, seen, reach=reach, **{"CPU s": seconds})
    yield row("other starts", np.repeat(np.asarray(paths.start)[:DRAWS, None], CASES, axis=1), truth, seen)


if __name__ == "__main__":
    record("burgers", "python benchmarks/burgers.py", rows())
