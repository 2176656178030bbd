"""The heat problem's studies: longer windows, physics that changes after training, other solvers and steps."""

import pathlib
import warnings
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import smdpx as sx
from heat.evaluate import exact_limits, three_inferences
from heat.presets import Preset
from heat.problem import EXPONENTIAL, INFERENCES, MIRRORED, PRIOR, STEPS, TS, N, Scheme, T, cases, figures, g
from heat.train import train

Row = dict[str, Any]


def window_sizes(preset: Preset, out: pathlib.Path, x0: jax.Array, xT: jax.Array) -> list[Row]:
    """Figure 4: the same score trained on with windows of S_max states, the network evaluated equally often."""
    starts, _ = train(preset, MIRRORED, preset.curriculum, out)
    rows = [{"S_max": "exact", "seeds": [exact_limits(x0, xT, jr.key(0))]}]
    for size in preset.sizes:
        scores, seconds = train(preset, MIRRORED, [preset.stage(size)], out, starts)
        seeds = [three_inferences(MIRRORED, s, x0, xT, jr.key(1)) for s in scores]
        rows.append({"S_max": size, "training s per seed": seconds, "seeds": seeds})
        print(rows[-1], flush=True)
    return rows


def shifts(s: sx.Score, count: int) -> list[Row]:
    """Figure 11: data of another conductivity α or noise g, inferred with that physics and the score as it was trained.

    One call of `sx.sweep` each, over numbers inside the equation.
    """

    def answers(alpha: jax.Array, noise: jax.Array) -> Any:
        P, noise_g = sx.Drift(sx.physics.Heat(N, alpha)), sx.Diffusion(noise)
        step = sx.Drift.from_step(sx.physics.Heat(N, alpha).step, reverse=sx.mirror)
        ts, score = EXPONENTIAL.grid(), sx.Score(s.net, g)  # the learned drift ½g²s as it was trained
        x0 = sx.data.gaussian_random_fields(count, N, key=jr.key(5))
        xT = sx.solve(step + noise_g, x0, TS, key=jr.key(6))[:, -1]
        sample = sx.solve(-P + 2 * score + noise_g, xT, ts[::-1], key=jr.key(7), solver=EXPONENTIAL.solver)[:, -1]
        mean = sx.solve(-P + 2 * score, xT, ts[::-1], solver=EXPONENTIAL.solver)[:, -1]
        rates = jnp.asarray(alpha) * sx.exact.LinearGaussianField(PRIOR, g=0.1).rates
        exact = sx.exact.LinearGaussianField(PRIOR, rates, g=noise, dt=T / STEPS)
        keys = jr.split(jr.key(8), count)
        best = jax.vmap(lambda x, key: exact.sample_posterior(T, x, key=key))(xT, keys)
        best_mean = jax.vmap(lambda x: exact.posterior_mean(T, x))(xT)
        again = jax.vmap(lambda x: exact.decay(T, x))
        return {
            name: {"reconstruction": jnp.mean((again(x) - xT) ** 2), "distance": jnp.mean((x - x0) ** 2)}
            for name, x in (("sample", sample), ("mean", mean), ("exact sample", best), ("exact mean", best_mean))
        }

    rows = []
    for values in (
        {"alpha": np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5]), "noise": np.array([0.1])},
        {"alpha": np.array([1.0]), "noise": np.array([0.05, 0.07, 0.1, 0.14, 0.2])},
    ):
        results = jax.tree.map(lambda leaf: np.asarray(leaf, float).ravel().tolist(), sx.sweep(answers, **values))
        rows.append({**{name: value.tolist() for name, value in values.items()}, **results})
    return rows


def solvers(mirrored: sx.Score, exponential: sx.Score, count: int, wanted: tuple[int, ...]) -> list[Row]:
    """One trained score, other solvers and other numbers of steps, of those that are wanted."""
    x0, xT = cases(count, jr.key(9))
    adaptive = dfx.PIDController(rtol=1e-4, atol=1e-6)
    rates = Scheme("rates", EXPONENTIAL.P, dfx.Euler(), 1.0)
    runs: list[tuple[str, Scheme, sx.Score, Any, tuple[int, ...], Any]] = [
        (
            "Euler, mirrored step; score trained on 32 steps of it",
            MIRRORED,
            mirrored,
            dfx.Euler(),
            (8, 16, 32, 64),
            None,
        ),
        ("Exponential Euler", EXPONENTIAL, exponential, sx.ExponentialEuler(), (8, 16, 32, 64), None),
        ("Euler", rates, exponential, dfx.Euler(), (8, 16, 32, 64, 256), None),
        ("Heun", rates, exponential, dfx.Heun(), (32, 64, 256), None),
        ("Tsit5, adaptive", rates, exponential, dfx.Tsit5(), (32,), adaptive),
        ("ShARK", rates, exponential, dfx.ShARK(), (32, 64, 256), None),
    ]
    rows = []
    for name, scheme, s, solver, steps, controller in runs:
        for n in (n for n in steps if n in wanted or controller is not None):
            found = {}
            for inference, equation in INFERENCES.items():
                found[inference] = _figures(equation(scheme.P, s), x0, xT, scheme.grid(n), solver, controller)
            rows.append({"solver": name, "steps": n if controller is None else "adaptive", **found})
            print(rows[-1], flush=True)
    return rows


def _figures(equation: Any, x0: jax.Array, xT: jax.Array, ts: np.ndarray, solver: Any, controller: Any) -> Any:
    """The three figures, or None where the solver does not take this equation or its answer is not finite."""
    noisy = isinstance(equation, sx.SDE)
    if (noisy and (controller is not None or isinstance(solver, dfx.Heun))) or (
        not noisy and isinstance(solver, dfx.ShARK)
    ):
        return None
    with warnings.catch_warnings():
        # Other steps than those that were trained are the point here.
        warnings.filterwarnings("ignore", message=".*was trained (on steps|through)")
        x = sx.solve(
            equation, xT, ts[::-1], solver=solver, stepsize_controller=controller,
            key=jr.key(10) if noisy else None, saveat=None if controller is not None else dfx.SaveAt(t1=True),
        )[:, -1]  # fmt: skip
    return figures(x, x0, xT) if bool(jnp.isfinite(x).all()) and float(jnp.abs(x).max()) < 1e6 else "diverged"
