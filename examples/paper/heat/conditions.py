"""One score for every conductivity and noise: the honest answer to the shift study of arXiv:2301.10250, appendix D.

    ∂x/∂t = α Δx + g dW/dt,    α in [.5, 2] and g in [.05, .2], for each trajectory its own

Physics, noise and score are told both, as rows of `args`. At α and g that no trajectory had, posterior samples are
compared with the exact posterior, wavenumber by wavenumber.

python examples/paper/heat/conditions.py                  # cpu: a quarter of an hour on two cores
python examples/paper/heat/conditions.py --preset smoke   # seconds; its numbers mean nothing
"""

import pathlib
import sys
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `heat` and `record` are there

from record import versions, write

import smdpx as sx
from heat.problem import PRIOR, N, T

ALPHAS, NOISES = (0.5, 2.0), (0.05, 0.2)
# With the exact score 32 steps would give short waves at α = 1.7 a variance of .91 of exact.
STEPS = 64
TS = T * np.linspace(0.0, 1.0, STEPS + 1) ** 2
SOLVER = sx.ExponentialEuler()
LAPLACE = sx.physics.Heat(N).linear(0.0)
SQUARES, INDEX = np.unique(-np.asarray(LAPLACE.rates), return_inverse=True)
INDEX = INDEX.reshape(LAPLACE.rates.shape)


class Preset(NamedTuple):
    """How much: trajectories, updates, windows an update, places of the table, cases and draws, tested (α, g)."""

    trajectories: int
    updates: int
    batch: int
    places: tuple[int, int]
    cases: int
    draws: int
    tested: tuple[tuple[float, float], ...]


CPU = Preset(40_000, 15_000, 512, (7, 5), 50, 100, ((0.6, 0.06), (0.6, 0.17), (1.0, 0.1), (1.7, 0.06), (1.7, 0.17)))
PRESETS = {
    "smoke": Preset(64, 20, 32, (2, 2), 2, 3, ((1.0, 0.1),)),
    "cpu": CPU,
    "paper": CPU._replace(updates=30_000, batch=1024, cases=200),
}


class Conduction(eqx.Module):
    """α Δx, with the α of the sample's own row."""

    def __call__(self, t: Any, x: jax.Array, args: Any) -> jax.Array:
        """The rate."""
        return self.linear(t, args)(x)

    def linear(self, t: Any, args: Any) -> sx.AbstractLinear:
        """All of it."""
        return args["alpha"] * LAPLACE


class ConditionedFilter(eqx.Module):
    """A table over log α, log g, time and wavenumber, as `sx.nn.FourierFilter` is one over time and wavenumber.

    Between its places in α and g it is a polynomial: with lines in between, the mean of waves that hardly survive,
    where an error of the score is one of an exponent, is off by a tenth. It starts where noise and conduction balance,
    as they do far from the start: there the score is -(2 α |k|² / g²) x.
    """

    values: jax.Array
    places: tuple[int, int] = eqx.field(static=True)

    def __init__(self, places: tuple[int, int], nodes: int = 32):
        alphas = ALPHAS[0] * (ALPHAS[1] / ALPHAS[0]) ** _nodes(places[0])[:, None, None, None]
        values = np.arcsinh(2 * T * alphas * np.asarray(SQUARES))
        values = np.broadcast_to(values, (*places, nodes, len(SQUARES)))
        self.values, self.places = jnp.asarray(values.reshape(-1, *values.shape[2:]), jnp.float32), places

    def __call__(self, t: Any, x: jax.Array, args: Any) -> jax.Array:
        """The score of one field."""
        return self.linear(t, args)(x)

    def linear(self, t: Any, args: Any) -> sx.AbstractLinear:
        """The score as an operator: the network is linear in the field."""
        alpha, g = args["alpha"], args["g"]
        # Time first: where all samples have one time, as in inference, this is done once for all.
        now = jnp.log1p(jnp.clip(t, 0, T) * STEPS**2 / T) / np.log1p(STEPS**2)
        table = jnp.einsum("t, ptk -> pk", _hats(now, self.values.shape[1]), self.values)
        places = [jnp.log(value / low) / np.log(high / low) for value, (low, high) in ((alpha, ALPHAS), (g, NOISES))]
        of_alpha, of_g = (_polynomials(place, count) for place, count in zip(places, self.places, strict=True))
        return sx.Fourier(-jnp.sinh(jnp.outer(of_alpha, of_g).ravel() @ table)[INDEX] / (g**2 * T))


def _hats(place: Any, count: int) -> jax.Array:
    """The weights of `count` nodes at a place between 0 and 1; two of them are not 0."""
    return jnp.maximum(1 - jnp.abs(jnp.clip(place, 0, 1) * (count - 1) - jnp.arange(count)), 0)


def _nodes(count: int) -> np.ndarray:
    """Chebyshev's nodes between 0 and 1."""
    return 0.5 + 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def _polynomials(place: Any, count: int) -> jax.Array:
    """Lagrange's polynomials of `count` Chebyshev nodes, at a place between 0 and 1."""
    chebyshev = lambda numpy, x: numpy.cos(numpy.arange(count) * numpy.arccos(2 * x - 1)[..., None])  # noqa: E731
    to_values = np.linalg.inv(chebyshev(np, _nodes(count)))
    return chebyshev(jnp, jnp.clip(place, 0, 1)) @ jnp.asarray(to_values, jnp.float32)


P = sx.Drift(Conduction())
g = sx.Diffusion(lambda t, args: args["g"])


def train(preset: Preset, key: jax.Array) -> sx.Score:
    """One score, from trajectories that each have a conductivity and a noise of their own."""
    keys = jr.split(key, 3)
    uniform = jr.uniform(keys[0], (2, preset.trajectories))
    args = {
        "alpha": sx.PerSample(ALPHAS[0] * (ALPHAS[1] / ALPHAS[0]) ** uniform[0]),
        "g": sx.PerSample(NOISES[0] * (NOISES[1] / NOISES[0]) ** uniform[1]),
    }
    x0 = sx.data.gaussian_random_fields(preset.trajectories, N, key=keys[1])
    paths = sx.FreshPaths(P + g, x0, TS, args, windows=32, solver=SOLVER)
    s = sx.Score(ConditionedFilter(preset.places), g)
    return sx.fit(
        -P + 2 * s,
        paths,
        key=keys[2],
        loss=sx.WindowLoss(solver=SOLVER),
        curriculum=[sx.Stage(2, preset.updates, 0.05, batch=preset.batch)],
        optimizer=partial(optax.adam, b2=0.98),
    )


def compare(
    s: sx.Score, preset: Preset, alpha: float, noise: float, key: jax.Array, solver: Any = None
) -> dict[str, Any]:
    """Answers at one condition against the exact posterior, by whole wavenumbers |k| = 1, 2, ... n/2.

    Returns:
        The ratios of the variance of samples; and the relative L2 errors of the mean, the noise-free `-P + 2*s`, up to
        the last wavenumber at which the exact mean holds a thousandth of the start's power.
    """
    start, path, draw = jr.split(key, 3)
    x0 = sx.data.gaussian_random_fields(preset.cases, N, key=start)
    args = {"alpha": sx.PerSample(jnp.full(preset.cases, alpha)), "g": sx.PerSample(jnp.full(preset.cases, noise))}
    xT = sx.simulate(P + g, x0, TS, key=path, args=args, solver=solver).end
    samples = sx.posterior(-P + 2 * s + g, xT, TS[::-1], preset.draws, key=draw, args=args, solver=solver)
    learned = sx.point_estimate(-P + 2 * s, xT, TS[::-1], args=args, solver=solver)

    k = np.rint(np.fft.fftfreq(N, 1 / N))
    squares = k[:, None] ** 2 + k[None] ** 2
    exact = sx.exact.LinearGaussianField(PRIOR, alpha * squares, g=noise)
    truth = jax.jit(jax.vmap(lambda x: exact.posterior_mean(T, x)))(xT)
    spectrum = lambda x: _by_wavenumber(np.abs(np.fft.fft2(np.asarray(x)) / N) ** 2, np.rint(np.sqrt(squares)))  # noqa: E731
    spread = spectrum(samples - samples.mean(axis=0)) * preset.draws / (preset.draws - 1)
    error, size = np.sqrt(spectrum(learned - truth) / spectrum(truth)), spectrum(truth) / spectrum(x0)
    variances = _by_wavenumber(np.asarray(exact.posterior_variances(T)), np.rint(np.sqrt(squares)))
    return {
        "alpha": alpha,
        "g": noise,
        "variance": (spread / variances).tolist(),
        "mean": error[: 1 + int(np.flatnonzero(size > 1e-3).max())].tolist(),
    }


def _by_wavenumber(values: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The mean of values (..., n, n) over each ring of whole wavenumbers, and over all that is in front."""
    return np.array([values[..., k == size].mean() for size in range(1, N // 2 + 1)])


def main(preset: Literal["smoke", "cpu", "paper"] = "cpu", out: pathlib.Path = pathlib.Path("runs/paper/heat")) -> None:
    """Train once, compare at unseen conditions, write conditions_<preset>.json.

    Args:
        preset: smoke (seconds), cpu (a real result on two cores), or paper (for a GPU).
        out: where the record goes.
    """
    size = PRESETS[preset]
    s = train(size, jr.key(0))
    rows = [compare(s, size, *pair, jr.fold_in(jr.key(1), i), SOLVER) for i, pair in enumerate(size.tested)]
    command = f"python examples/paper/heat/conditions.py --preset {preset}"
    write(out, f"conditions_{preset}.json", {"command": command, "versions": versions(), "rows": rows})
    for row in rows:
        variance, mean = np.array(row["variance"]), np.array(row["mean"])
        print(
            f"α = {row['alpha']:g}, g = {row['g']:g}: variance {variance.min():.3f} to {variance.max():.3f} of exact, "
            f"mean off by {mean.max():.3f} at most"
        )


if __name__ == "__main__":
    tyro.cli(main)
