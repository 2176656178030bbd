"""smdpx beside simulation-based inference (sbi's NPE and FMPE) and the ensemble Kalman smoother, on three problems.

Lorenz-63 against brute force (1,000, 5,000 and 50,000 trajectories); ten components of scales 1e-2 to 1e2 that decay,
and heat on 16 × 16 pixels, both against their closed form. All by defaults, but for the size of smdpx's network for
fields and its updates, from the same trajectories, of which sbi can use the pairs (x₀, x_T). Lines are those from the
trajectories to the draws: the simulator is everyone's.

sbi has an environment of its own, with CPU torch or any other, and does not see smdpx:

    python -m venv .venv-sbi && .venv-sbi/bin/python -m pip install "sbi==0.27.*"

    python benchmarks/peers.py data                   # the trajectories and end states, into runs/peers
    python benchmarks/peers.py truth                  # brute force for Lorenz-63
    python benchmarks/peers.py train lorenz 5000      # smdpx and the smoother; also `ou 5000`, `heat 5000`
    .venv-sbi/bin/python benchmarks/peers_sbi.py npe lorenz 5000    # npe, nsf or fmpe
    python benchmarks/peers.py score                  # all draws by the same metrics, the record under docs/results
"""

import inspect
import json
import pathlib
import sys
import time

import _lorenz
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

RUNS = pathlib.Path(__file__).parent.parent / "runs" / "peers"
SIZES = {"lorenz": (1000, 5000, 50_000), "ou": (5000,), "heat": (5000,)}
DRAWS = {"lorenz": 2000, "ou": 1000, "heat": 500}  # of each end state, of which there are 8, 32 and 16
METHODS = ("smdpx", "sbi-npe", "sbi-nsf", "sbi-fmpe", "ensemble-Kalman-smoother")
N, KEY = 16, jr.key(0)
SCALE = np.geomspace(1e-2, 1e2, 10).astype("f")


PHYSICS = {
    "lorenz": (_lorenz.P, _lorenz.g),
    "ou": (sx.Drift(lambda t, x, args: -0.7 * x), sx.Diffusion(0.6 * SCALE)),
    "heat": (sx.Drift(sx.physics.Heat(N)), sx.Diffusion(0.1)),
}
TIMES = {"lorenz": _lorenz.TS, "ou": np.linspace(0, 1, 41), "heat": 0.2 * np.linspace(0, 1, 33) ** 2}


# What a user writes, from trajectories to draws: one training for vectors, of any number and scale, one for fields.
def learn_vector(P, g, paths, key):
    net = sx.nn.Whitened(sx.nn.MLP(shape=paths.end.shape[1:], key=key), paths)
    return sx.fit(-P + 2 * sx.Score(net, g), paths, key=key, validation=0.1)


def learn_field(P, g, paths, key):
    net = sx.nn.Whitened(sx.nn.ResNet((N, N), width=8, blocks=2, key=key), paths, basis=sx.Fourier.like)
    stages = [sx.Stage(updates=2000)]
    return sx.fit(-P + 2 * sx.Score(net, g), paths, key=key, curriculum=stages, validation=0.1)


def draw(P, g, s, paths, ends, n, key):
    return sx.posterior(-P + 2 * s + g, ends, paths.ts[::-1], n, key=key)


def smooth(paths, ends, n, key):
    return sx.ensemble_smoother(paths.start, paths.end, ends, min(n, len(paths)), key=key)


def lines(*functions):
    """The lines of these functions' bodies."""
    return sum(len(inspect.getsource(f).strip().splitlines()) - 1 for f in functions)


def data():
    """Trajectories and end states."""
    RUNS.mkdir(parents=True, exist_ok=True)
    k = jr.split(KEY, 4)
    starts = {
        "lorenz": (_lorenz.on_attractor(100_000, KEY, KEY), SIZES["lorenz"][-1], 8),
        "ou": (SCALE * (3 + jr.normal(k[0], (5032, 10))), 5000, 32),
        "heat": (jax.vmap(lambda key: heat().sample_prior(key=key))(jr.split(k[1], 5016)), 5000, 16),
    }
    for problem, (x0, count, cases) in starts.items():
        P, g = PHYSICS[problem]
        paths = sx.simulate(P + g, x0[:count], TIMES[problem], key=k[2])
        ends = sx.simulate(P + g, x0[-cases:], TIMES[problem], key=k[3]).end
        np.savez(RUNS / f"{problem}.npz", x=paths.x, ends=ends, draws=DRAWS[problem])


def heat():
    return sx.exact.LinearGaussianField(sx.exact.power_law_field(N), g=0.1)


def truth():
    """Brute force for the ends of Lorenz-63, from the trajectories' own starts."""
    (P, g), stored = PHYSICS["lorenz"], np.load(RUNS / "lorenz.npz")
    starts, ends = (jnp.asarray(x) for x in (stored["x"][:, 0], stored["ends"]))
    found = sx.exact.neighbours(P + g, starts, TIMES["lorenz"], ends, 2000, key=KEY, simulations=4_000_000)
    print(found, found.error)
    np.savez(RUNS / "truth.npz", samples=found.samples, error=found.error)


def train(problem, count):
    """Draws by smdpx and by the smoother, with the CPU seconds that they took."""
    stored = np.load(RUNS / f"{problem}.npz")
    paths, ends = sx.Trajectories(jnp.asarray(stored["x"][:count]), TIMES[problem]), jnp.asarray(stored["ends"])
    (P, g), n, cases = PHYSICS[problem], DRAWS[problem], len(ends)
    learn = learn_field if problem == "heat" else learn_vector
    s, training = timed(lambda: learn(P, g, paths, KEY))
    methods = {
        "smdpx": (lambda: draw(P, g, s, paths, ends, n, KEY), training, lines(learn, draw)),
        "ensemble Kalman smoother": (lambda: smooth(paths, ends, n, KEY), 0.0, lines(smooth)),
    }
    for method, (f, training, written) in methods.items():
        _, first = timed(f)
        samples, again = timed(f)
        row = {"problem": problem, "trajectories": count, "method": method, "training CPU s": training}
        row |= {"CPU s per 1,000 draws": again / (n * cases / 1000), "lines": written, "compiling CPU s": first - again}
        print(row)
        file = RUNS / f"{problem}-{count}-{method.replace(' ', '-')}"
        file.with_suffix(".json").write_text(json.dumps(row))
        np.save(file.with_suffix(".npy"), samples)


def timed(f):
    start = time.process_time()
    result = jax.block_until_ready(f())
    return result, time.process_time() - start


def whitened(problem, x, ends):
    """Draws of a Gaussian posterior in units of its deviations, less its mean, and each number's group.

    Components; or real Fourier coefficients, in rings of wavenumbers.
    """
    if problem == "ou":
        decay, noise = np.exp(-0.7), 0.36 * (1 - np.exp(-1.4)) / 1.4
        variance = 1 / (1 + decay**2 / noise)
        mean = SCALE * (3 + variance * decay / noise * (ends / SCALE - 3 * decay))
        return (x - mean) / (SCALE * np.sqrt(variance)), np.arange(10)
    exact = heat()
    waves = np.rint(np.fft.fftfreq(N, 1 / N))
    rings = np.floor(np.hypot(*np.meshgrid(waves, waves))).astype(int)
    modes = np.fft.fft2(x - np.asarray(jax.vmap(lambda y: exact.posterior_mean(0.2, y))(ends)), norm="ortho")
    varies = rings > 0  # the prior has no mean
    deviations = np.sqrt(np.asarray(exact.posterior_variances(0.2))[varies])
    return (modes.real - modes.imag)[..., varies] / deviations, rings[varies]


def accuracy(problem, samples, stored):
    """Energy distances to the truth at four ends; or their mean over ends, worst mean, and range of variances."""
    if problem == "lorenz":
        brute = np.load(RUNS / "truth.npz")
        # Between two branches brute force is wrong and compares nothing: of eight ends the four that it knows best.
        best = np.sort(np.argsort(brute["error"])[:4])
        apart = [sx.metrics.energy_distance(samples[:, i], brute["samples"][:, i]) for i in best]
        return {"energy distance": apart, "own error": brute["error"][best].tolist()}
    z, groups = whitened(problem, samples.reshape(*samples.shape[:2], *stored["ends"].shape[1:]), stored["ends"])
    exact = np.asarray(jr.normal(KEY, (2, *z.shape)))
    far = lambda a, b: float(np.mean([sx.metrics.energy_distance(a[:, i], b[:, i]) for i in range(a.shape[1])]))  # noqa: E731
    of = [groups == i for i in np.unique(groups) if i <= max(N // 2, 9 * (problem == "ou"))]
    means = [float(np.sqrt(np.mean(z.mean(axis=0)[:, i] ** 2))) for i in of]
    variances = [float(np.mean(z.var(axis=0, ddof=1)[:, i])) for i in of]
    row = {"energy distance": [far(z, exact[0])], "own error": [abs(far(exact[1], exact[0]))]}
    return row | {"mean error": max(means), "variance": [min(variances), max(variances)]}


def rows():
    for problem, counts in SIZES.items():
        stored = np.load(RUNS / f"{problem}.npz")
        for count in counts:
            for method in METHODS:
                file = RUNS / f"{problem}-{count}-{method}.json"
                if not file.exists():
                    continue
                samples = np.load(file.with_suffix(".npy"))
                finite = np.isfinite(samples).all(axis=tuple(range(2, samples.ndim))).all(axis=1)
                row = json.loads(file.read_text()) | accuracy(problem, samples[finite], stored)
                yield row | {"exploded draws": int((~finite).sum())}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data"]:
            data()
        case ["truth"]:
            truth()
        case ["train", problem, count]:
            train(problem, int(count))
        case ["score"]:
            record("peers", "python benchmarks/peers.py score", rows())
        case _:
            sys.exit(__doc__)
