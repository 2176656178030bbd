"""The quadratic toy SDE of arXiv:2301.10250, §4.1: which start, +1 or -1, led to this end?

    dx = -7 sign(x) x² dt + .03 dW,  x₀ = ±1,  t in [0, 10]

python examples/paper/toy/main.py                        trains, prints the table, writes the figures (preset cpu)
python examples/paper/toy/main.py --preset smoke         the same in a minute, with no meaning in its numbers
python examples/paper/toy/main.py --preset paper         the schedule of appendix C: on a GPU; stop it and run it again
"""

import pathlib
import sys
import time
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `toy` and `record` are there

from record import versions, write

import smdpx as sx
from toy.evaluate import EULER, evaluate, exact_probability
from toy.figures import draw_figures
from toy.ou import compare_with_closed_form
from toy.presets import PRESETS, Method, Preset
from toy.table import markdown_table

LAMBDA, G, T = 7.0, 0.03, 10.0
START = sx.exact.GaussianMixture([-1.0, 1.0])
P = sx.Drift(lambda t, x, args: -LAMBDA * jnp.sign(x) * x**2)
g = sx.Diffusion(G)

BACKWARD = (lambda s: -P + 2 * s, sx.WindowLoss(solver=EULER))
BOTH_WAYS = (lambda s: -P + s, sx.TwoWayLoss(sx.WindowLoss(solver=EULER)))
METHODS: dict[str, list[tuple[Any, sx.AbstractLoss]]] = {
    "one-step": [BACKWARD],
    "multi-step": [BACKWARD],
    "two-way": [BOTH_WAYS],
    "one-step, two-way": [BACKWARD, BOTH_WAYS],
    "ISM": [(lambda s: -P + s, sx.ImplicitScoreMatching())],
    "SSM-VR": [(lambda s: -P + s, sx.SlicedScoreMatching())],
}


def data(preset: Preset, fraction: float, ts: np.ndarray, keys: jax.Array) -> jax.Array:
    """Trajectories of a part of the data, each seed's own."""
    count = max(2, round(fraction * preset.trajectories))
    x0 = jnp.where(jnp.arange(count) % 2 == 0, -1.0, 1.0)
    return jax.jit(jax.vmap(lambda key: sx.solve(P + g, x0, ts, key=jr.split(key, 4)[0], solver=EULER)))(keys)


def train(
    preset: Preset, method: str, paths: jax.Array, ts: np.ndarray, keys: jax.Array, files: list[str]
) -> tuple[list[sx.Score], float]:
    """One score a seed, each on data of its own, and the seconds of training that each took."""

    def one(key: jax.Array, x: jax.Array, file: str | None = None) -> sx.Score:
        _, key_net, *keys = jr.split(key, 4)
        trajectories = sx.Trajectories(x, ts)
        s = sx.Score(sx.nn.Whitened(sx.nn.MLP(widths=preset.widths, key=key_net), trajectories), g)
        phases = zip(METHODS[method], preset.curricula[method], keys, (1, 2), strict=False)
        for (equation, loss), curriculum, key, phase in phases:
            checkpoint = None if file is None else f"{file}-{phase}.eqx"
            s = sx.fit(equation(s), trajectories, key=key, loss=loss, curriculum=curriculum, checkpoint=checkpoint)
        return s

    started = time.perf_counter()
    if preset.resumable:
        scores = [one(*seed) for seed in zip(keys, paths, files, strict=True)]
    else:  # all seeds side by side in one program
        together = jax.block_until_ready(eqx.filter_jit(eqx.filter_vmap(one))(keys, paths))
        arrays, rest = eqx.partition(together, eqx.is_array)
        scores = [eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), rest) for i in range(preset.seeds)]
    return scores, (time.perf_counter() - started) / preset.seeds


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu",
    out: pathlib.Path = pathlib.Path("runs/paper/toy"),
    methods: tuple[Method, ...] | None = None,
) -> None:
    """Train, print the table, write the figures.

    Args:
        preset: smoke (a minute), cpu (a real result on two cores), or paper (appendix C; resumes).
        out: where the record, the table and the figures go.
        methods: which trainings to run; default: the preset's.
    """
    size = PRESETS[preset]
    ts = T * np.linspace(0.0, 1.0, size.steps + 1) ** size.power
    exact = sx.exact.FokkerPlanck1D(P.f, G, START, T)
    keys_fit, keys = jr.split(jr.key(0), size.seeds), jr.split(jr.key(8), size.seeds)
    truth = [evaluate(P, sx.Score(exact.score, g), ts, exact, size.samples, key) for key in keys]
    rows: list[dict[str, Any]] = [{"method": "exact score", "fraction": 1.0, "seeds": truth}]
    first: dict[str, sx.Score] = {}
    paths = {fraction: data(size, fraction, ts, keys_fit) for fraction in size.fractions}
    for method in size.methods if methods is None else methods:
        for fraction in size.fractions if method != "two-way" else size.fractions[:1]:
            files = [f"{out}/{method}-{fraction:g}-{seed}" for seed in range(size.seeds)]
            scores, seconds = train(size, method, paths[fraction], ts, keys_fit, files)
            first.setdefault(method, scores[0])
            samples = size.samples if fraction == 1.0 else size.samples // 4
            seeds = [evaluate(P, s, ts, exact, samples, key) for s, key in zip(scores, keys, strict=True)]
            rows.append({"method": method, "fraction": fraction, "training s per seed": seconds, "seeds": seeds})
            print(markdown_table(rows[-1:]).splitlines()[-1], f"{seconds:.0f} s of training a seed", flush=True)
    record = {"command": f"python examples/paper/toy/main.py --preset {preset}", "versions": versions(), "rows": rows}
    record["exact P(+1)"] = np.asarray(exact_probability(exact, T)).round(4).tolist()
    write(out, f"toy_{preset}.json", record)
    print("\n" + markdown_table(rows) + "\n")
    draw_figures(out, P, g, START, ts, exact, first, record)
    compare_with_closed_form(out, preset, size.widths)
    print(f"Record, tables and figures are in {out}.")


if __name__ == "__main__":
    tyro.cli(main)
