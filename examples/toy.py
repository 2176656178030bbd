"""The quadratic toy SDE of arXiv:2301.10250, §4.1: which start, +1 or -1, led to this end?

    dx = -7 sign(x) x² dt + .03 dW,  x₀ = ±1,  t in [0, 10]

python examples/toy.py                        trains, prints the table, writes the figures (preset cpu)
python examples/toy.py --preset smoke         the same in seconds, with no meaning in its numbers
python examples/toy.py --preset paper         the schedule of appendix C: on a GPU; stop it and run it again
"""

import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import tyro
from _record import versions, write
from _toy_figures import draw_figures
from _toy_table import markdown_table

import smdpx as sx

LAMBDA, G, T = 7.0, 0.03, 10.0
P = sx.Drift(lambda t, x, args: -LAMBDA * jnp.sign(x) * x**2)
g = sx.Diffusion(G)
START = sx.exact.GaussianMixture([-1.0, 1.0])


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much of everything. The grid is t_k = T (k/steps)^power: an uneven one resolves the start."""

    seeds: int
    trajectories: int
    steps: int
    power: float
    fractions: tuple[float, ...]
    samples: int  # of the posterior, at each of 21 end points
    curricula: dict[str, list[sx.Stage]]


def stages(updates: int, batch: int, learning_rate: float = 2e-3) -> dict[str, list[sx.Stage]]:
    """Curricula that cost about the same: the windows of the multi-step one double."""
    one = [sx.Stage(updates=updates, batch=batch, learning_rate=learning_rate)]
    multi = [sx.Stage(2, updates // 2, learning_rate, batch=batch)]
    multi += [sx.Stage(w, updates // (6 * w), learning_rate / 4, batch=batch) for w in (4, 8)]
    return {"one-step": one, "multi-step": multi, "two-way": one, "ISM": one, "SSM-VR": one}


def paper_stages() -> dict[str, list[sx.Stage]]:
    """Appendix C: windows 2 to 10 at constant rates, batch 512; score matching with batch 10,000."""
    constant = optax.constant_schedule
    start = sx.Stage(2, 505_000, constant(1e-3), stride=5, batch=512)
    multi = [start] + [sx.Stage(w, 2_505_000, constant(1e-4), batch=512) for w in range(2, 11)]
    matching = [sx.Stage(2, 250_000, constant(rate), batch=10_000) for rate in (1e-3, 1e-4)]
    return {"one-step": multi[:2], "multi-step": multi, "two-way": multi[:2], "ISM": matching, "SSM-VR": matching}


PRESETS = {
    "smoke": Preset(2, 200, 50, 1.5, (1.0, 0.1), 50, stages(120, 64)),
    "cpu": Preset(3, 2500, 500, 1.5, (1.0, 0.1, 0.01), 4000, stages(30_000, 1024)),
    "paper": Preset(3, 2500, 500, 1.0, (1.0, 0.1, 0.01), 4000, paper_stages()),
}

METHODS: dict[str, tuple[Any, sx.AbstractLoss]] = {
    "multi-step": (lambda s: -P + 2 * s, sx.WindowLoss()),
    "one-step": (lambda s: -P + 2 * s, sx.WindowLoss()),
    "two-way": (lambda s: -P + s, sx.TwoWayLoss()),
    "ISM": (lambda s: -P + s, sx.ImplicitScoreMatching()),
    "SSM-VR": (lambda s: -P + s, sx.SlicedScoreMatching()),
}


def train(preset: Preset, method: str, fraction: float, ts: np.ndarray, out: pathlib.Path) -> tuple[sx.Score, float]:
    """One score per seed, trained side by side in one program (or one by one with checkpoints): (seeds, ...)."""
    equation, loss = METHODS[method]
    count = max(2, round(fraction * preset.trajectories))
    x0 = jnp.where(jnp.arange(count) % 2 == 0, 1.0, -1.0)

    def one(key: jax.Array, checkpoint: pathlib.Path | None = None) -> sx.Score:
        key_data, key_net, key_fit = jr.split(key, 3)
        s = sx.Score(sx.nn.MLP(x_scale=0.1, out_scale=1 / G, key=key_net), g)
        paths = sx.solve(P + g, x0, ts, key=key_data)
        return sx.fit(equation(s), paths, ts, key=key_fit, loss=loss, curriculum=preset.curricula[method],
                      checkpoint=checkpoint)  # fmt: skip

    keys = jr.split(jr.key(0), preset.seeds)
    started = time.perf_counter()
    if preset is PRESETS["paper"]:
        trained = [one(key, out / f"{method}-{fraction:g}-{i}.eqx") for i, key in enumerate(keys)]
        s = jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *trained)
    else:
        s = eqx.filter_jit(eqx.filter_vmap(one))(keys)
    jax.block_until_ready(jax.tree.leaves(eqx.filter(s, eqx.is_array)))
    return s, (time.perf_counter() - started) / preset.seeds


def evaluate(
    s: sx.Score, ts: np.ndarray, exact: sx.exact.FokkerPlanck1D, samples: int, key: jax.Array
) -> dict[str, Any]:
    """Q of the three inferences, the posterior probability of +1 at 21 end points, and the score's error."""
    key_sde, key_posterior, key_data = jr.split(key, 3)
    ends, back = jnp.linspace(-0.1, 0.1, 1000), ts[::-1]
    q = sx.metrics.posterior_metric_q
    few = jnp.linspace(-0.1, 0.1, 21)
    x0 = sx.posterior(-P + 2 * s + g, few, back, samples, key=key_posterior)
    truth = exact.component_probabilities(T, few)[:, 1]
    probability = jnp.mean(x0 > 0, axis=1)
    # Fresh states of the process itself at times from t = 1 on: before, the grid's own error dominates.
    t = jnp.repeat(jnp.linspace(1.0, T, 19), 500)
    x = jnp.concatenate(
        [exact.sample(float(u), 500, key=k) for u, k in zip(t[::500], jr.split(key_data, 19), strict=True)]
    )
    error = sx.metrics.score_error(s.net, exact.score, t, x)
    return {
        "Q flow": q(sx.maximum_likelihood(-P + s, ends, back)),
        "Q noise-free": q(sx.maximum_likelihood(-P + 2 * s, ends, back)),
        "Q SDE": q(sx.posterior(-P + 2 * s + g, ends, back, 1, key=key_sde)[:, 0]),
        "posterior error": float(jnp.max(jnp.abs(probability - truth))),
        "score error": error.relative_l2,
        "slope": error.slope,
        "P(+1)": np.asarray(probability).round(4).tolist(),
    }


def main(
    preset: str = "cpu", out: pathlib.Path = pathlib.Path("runs/toy"), methods: tuple[str, ...] = tuple(METHODS)
) -> None:
    """Train, print the table, write the figures.

    Args:
        preset: smoke (seconds), cpu (a real result on two cores), or paper (appendix C; resumes).
        out: where the record, the table and the figures go.
        methods: which trainings to run.
    """
    if preset not in PRESETS or not set(methods) <= set(METHODS):
        sys.exit(f"Unknown preset {preset!r} or method in {methods}: choose from {list(PRESETS)} and {list(METHODS)}.")
    chosen = PRESETS[preset]
    ts = T * np.linspace(0.0, 1.0, chosen.steps + 1) ** chosen.power
    exact = sx.exact.FokkerPlanck1D(P.f, G, START, T)
    truth = [
        evaluate(sx.Score(exact.score, g), ts, exact, chosen.samples, key) for key in jr.split(jr.key(7), chosen.seeds)
    ]
    rows: list[dict[str, Any]] = [{"method": "exact score", "fraction": 1.0, "seeds": truth}]
    scores: dict[str, sx.Score] = {}
    for method in methods:
        for fraction in chosen.fractions if method != "two-way" else chosen.fractions[:1]:
            s, seconds = train(chosen, method, fraction, ts, out)
            each = [
                jax.tree.map(lambda leaf, i=i: leaf[i] if eqx.is_array(leaf) else leaf, s) for i in range(chosen.seeds)
            ]
            keys = jr.split(jr.key(8), chosen.seeds)
            seeds = [evaluate(s, ts, exact, chosen.samples, key) for s, key in zip(each, keys, strict=True)]
            rows.append({"method": method, "fraction": fraction, "training s per seed": seconds, "seeds": seeds})
            print(markdown_table(rows[-1:]).splitlines()[-1], f"  ({seconds:.0f} s of training a seed)", flush=True)
            if fraction == 1.0:
                scores[method] = each[0]
    record = {"command": f"python examples/toy.py --preset {preset}", "versions": versions(), "rows": rows}
    record["exact P(+1)"] = (
        np.asarray(exact.component_probabilities(T, jnp.linspace(-0.1, 0.1, 21))[:, 1]).round(4).tolist()
    )
    write(out, f"toy_{preset}.json", record)
    print(markdown_table(rows))
    draw_figures(out, P, g, START, ts, exact, scores, record)
    print(f"Record, table and figures are in {out}.")


if __name__ == "__main__":
    tyro.cli(functools.partial(main))
