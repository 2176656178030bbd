"""The quadratic toy SDE of arXiv:2301.10250, §4.1: which start, +1 or -1, led to this end?

    dx = -7 sign(x) x² dt + .03 dW,  x₀ = ±1,  t in [0, 10]

python examples/toy.py                        trains, prints the table, writes the figures (preset cpu)
python examples/toy.py --preset smoke         the same in minutes, with no meaning in its numbers
python examples/toy.py --preset paper         the schedule of appendix C: on a GPU; stop it and run it again
"""

import pathlib
import time
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import tyro
from _record import versions, write
from _toy_evaluate import evaluate, exact_probability
from _toy_figures import draw_figures
from _toy_ou import compare_with_closed_form
from _toy_presets import PRESETS, Preset
from _toy_table import markdown_table

import smdpx as sx

LAMBDA, G, T = 7.0, 0.03, 10.0
START = sx.exact.GaussianMixture([-1.0, 1.0])
P = sx.Drift(lambda t, x, args: -LAMBDA * jnp.sign(x) * x**2)
g = sx.Diffusion(G)

BACKWARD = (lambda s: -P + 2 * s, sx.WindowLoss())
BOTH_WAYS = (lambda s: -P + s, sx.TwoWayLoss())
METHODS: dict[str, list[tuple[Any, sx.AbstractLoss]]] = {
    "one-step": [BACKWARD],
    "multi-step": [BACKWARD],
    "two-way": [BOTH_WAYS],
    "one-step, two-way": [BACKWARD, BOTH_WAYS],
    "ISM": [(lambda s: -P + s, sx.ImplicitScoreMatching())],
    "SSM-VR": [(lambda s: -P + s, sx.SlicedScoreMatching())],
}
Method = Literal["one-step", "multi-step", "two-way", "one-step, two-way", "ISM", "SSM-VR"]


def train(
    preset: Preset, method: str, fraction: float, ts: np.ndarray, checkpoints: pathlib.Path
) -> tuple[list[sx.Score], float]:
    """One score a seed, each on data of its own, and the seconds of training that each took."""
    count = max(2, round(fraction * preset.trajectories))
    x0 = jnp.where(jnp.arange(count) % 2 == 0, -1.0, 1.0)

    def one(key: jax.Array, files: tuple[pathlib.Path | None, ...] = (None, None)) -> sx.Score:
        key_data, key_net, *keys = jr.split(key, 4)
        paths = sx.simulate(P + g, x0, ts, key=key_data)
        s = sx.Score(sx.nn.MLP(x_scale=0.1, out_scale=1 / G, key=key_net), g)
        phases = zip(METHODS[method], preset.curricula[method], keys, files, strict=False)
        for (equation, loss), curriculum, key, file in phases:
            s = sx.fit(equation(s), paths, key=key, loss=loss, curriculum=curriculum, checkpoint=file)
        return s

    keys = jr.split(jr.key(0), preset.seeds)
    started = time.perf_counter()
    if preset.resumable:
        names = [f"{method}-{fraction:g}-{seed}" for seed in range(preset.seeds)]
        files = [(checkpoints / f"{name}-1.eqx", checkpoints / f"{name}-2.eqx") for name in names]
        scores = [one(key, file) for key, file in zip(keys, files, strict=True)]
    else:  # all seeds side by side in one program
        together = jax.block_until_ready(eqx.filter_jit(eqx.filter_vmap(lambda key: one(key)))(keys))
        arrays, rest = eqx.partition(together, eqx.is_array)
        scores = [eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), rest) for i in range(preset.seeds)]
    return scores, (time.perf_counter() - started) / preset.seeds


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu",
    out: pathlib.Path = pathlib.Path("runs/toy"),
    methods: tuple[Method, ...] = get_args(Method),
) -> None:
    """Train, print the table, write the figures.

    Args:
        preset: smoke (minutes), cpu (a real result on two cores), or paper (appendix C; resumes).
        out: where the record, the table and the figures go.
        methods: which trainings to run.
    """
    size = PRESETS[preset]
    ts = T * np.linspace(0.0, 1.0, size.steps + 1) ** size.power
    exact = sx.exact.FokkerPlanck1D(P.f, G, START, T)
    keys = jr.split(jr.key(8), size.seeds)
    truth = [evaluate(P, sx.Score(exact.score, g), ts, exact, size.samples, key) for key in keys]
    rows: list[dict[str, Any]] = [{"method": "exact score", "fraction": 1.0, "seeds": truth}]
    first: dict[str, sx.Score] = {}
    for method in methods:
        for fraction in size.fractions if method != "two-way" else size.fractions[:1]:
            scores, seconds = train(size, method, fraction, ts, out)
            first.setdefault(method, scores[0])
            samples = size.samples if fraction == 1.0 else size.samples // 4
            seeds = [evaluate(P, s, ts, exact, samples, key) for s, key in zip(scores, keys, strict=True)]
            rows.append({"method": method, "fraction": fraction, "training s per seed": seconds, "seeds": seeds})
            print(markdown_table(rows[-1:]).splitlines()[-1], f"{seconds:.0f} s of training a seed", flush=True)
    record = {"command": f"python examples/toy.py --preset {preset}", "versions": versions(), "rows": rows}
    record["exact P(+1)"] = np.asarray(exact_probability(exact, T)).round(4).tolist()
    write(out, f"toy_{preset}.json", record)
    print("\n" + markdown_table(rows) + "\n")
    draw_figures(out, P, g, START, ts, exact, first, record)
    compare_with_closed_form(out, preset)
    print(f"Record, tables and figures are in {out}.")


if __name__ == "__main__":
    tyro.cli(main)
