"""The stochastic heat equation backwards, against its exact posterior (arXiv:2301.10250, §4.2 and appendix D).

A field on 32 × 32 periodic pixels conducts heat until t = .2 under noise: which field was it? The problem is
linear and Gaussian, so the posterior is closed form, mode by mode, and every method here is measured against it.

python examples/paper/heat/main.py                      # cpu: all parts, on two cores
python examples/paper/heat/main.py --preset smoke       # a minute, of compilation; its numbers mean nothing
python examples/paper/heat/main.py --preset paper       # the paper's network and schedule, for GPUs; resumes
python examples/paper/heat/main.py --parts solvers      # one part alone; it trains what it needs
python examples/paper/heat/main.py --published-weights DIR  # also the paper's weights, heat_resnet_weights.npz in DIR
"""

import pathlib
import sys
import time
from typing import Any, Literal, get_args

import jax
import jax.random as jr
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `heat` and `record` are there

from record import versions, write

import smdpx as sx
from heat.baselines import classical, networks, published
from heat.evaluate import (
    exact_limits,
    exact_samples,
    learned_samples,
    posterior_figures,
    score_by_wavenumber,
    three_inferences,
)
from heat.figures import draw_figures
from heat.presets import PRESETS
from heat.problem import CONTINUOUS, EXPONENTIAL, MIRRORED, cases, g
from heat.studies import shifts, solvers, window_sizes
from heat.table import markdown_table
from heat.train import train

Part = Literal["limits", "inferences", "baselines", "windows", "shifts", "solvers"]


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu",
    out: pathlib.Path = pathlib.Path("runs/paper/heat"),
    parts: tuple[Part, ...] = get_args(Part),
    published_weights: pathlib.Path | None = None,
) -> None:
    """Train, measure against the exact posterior, write records and figures.

    Args:
        preset: smoke (a minute), cpu (a real result on two cores), or paper (the paper's scale; resumes).
        out: where the records, the tables and the figures go.
        parts: which experiments to run; each writes a record of its own.
        published_weights: a folder with the paper's weights, heat_resnet_weights.npz, to measure as well.
    """
    size = PRESETS[preset]
    x0, xT = cases(size.cases, jr.key(100))
    scores: dict[str, list[sx.Score]] = {}
    seconds: dict[str, float] = {}
    for scheme in (MIRRORED, EXPONENTIAL) if {*parts} & {"inferences", "shifts", "solvers"} else ():
        scores[scheme.name], seconds[scheme.name] = train(size, scheme, size.curriculum, out)
        print(f"{scheme.name}: {seconds[scheme.name]:.0f} s of training a seed", flush=True)

    def record(part: Part, rows: Any, options: str = "") -> None:
        command = f"python examples/paper/heat/main.py --preset {preset} --parts {part}{options}"
        write(out, f"{part}_{preset}.json", {"command": command, "versions": versions(), "rows": rows})

    if "limits" in parts:
        solved = three_inferences(EXPONENTIAL, sx.Score(CONTINUOUS.score, g), x0, xT, jr.key(4))
        rows = [
            {"scheme": "exact, continuous", "figures": exact_limits(x0, xT, jr.key(3), dt=None)},
            {"scheme": "exact score, exponential", "figures": solved},
        ]
        record("limits", rows)
    if "inferences" in parts:
        record("inferences", inferences(size, scores, seconds, x0, xT))
    if "baselines" in parts:
        rows = classical(size, x0[:500], xT[:500], jr.key(101)) + networks(size, out, x0[:500], xT[:500], jr.key(102))
        options = ""
        if published_weights is not None:
            rows += published(published_weights, x0[:100], xT[:100], jr.key(103))
            options = f" --published-weights {published_weights}"
        record("baselines", rows, options)
    if "windows" in parts:
        record("windows", window_sizes(size, out, x0[:500], xT[:500]))
    if "shifts" in parts:
        record("shifts", shifts(scores["exponential"][0], min(size.cases, 500)))
    if "solvers" in parts:
        record(
            "solvers", solvers(scores["mirrored step"][0], scores["exponential"][0], min(size.cases, 500), size.steps)
        )
    print("\n" + markdown_table(out, preset) + "\n")
    draw_figures(out, preset, {name: found[0] for name, found in scores.items()})
    print(f"Records and figures are in {out}.")


def inferences(
    size: Any, scores: dict[str, list[sx.Score]], seconds: dict[str, float], x0: jax.Array, xT: jax.Array
) -> list[dict[str, Any]]:
    """The three inferences of each scheme's scores, the posterior in full, and the exact limits."""
    began = time.perf_counter()
    one, two = (exact_samples(xT, size.draws, jr.key(seed)) for seed in (1, 2))
    exact = {"figures": exact_limits(x0, xT, jr.key(3)), **posterior_figures(two, one, two, x0, jr.key(4))}
    rows: list[dict[str, Any]] = [{"scheme": "exact", "seeds": [exact]}]
    for scheme in (MIRRORED, EXPONENTIAL):
        row: dict[str, Any] = {"scheme": scheme.name, "training s per seed": seconds[scheme.name], "seeds": []}
        for seed, s in enumerate(scores[scheme.name]):
            samples = learned_samples(scheme, s, xT, size.draws, jr.key(10 + seed))
            found = {"figures": three_inferences(scheme, s, x0, xT, jr.key(20 + seed))}
            found |= posterior_figures(samples, one, two, x0, jr.key(30 + seed))
            row["seeds"].append(found | score_by_wavenumber(s, jr.key(40 + seed)))
        rows.append(row)
    print(f"measured in {time.perf_counter() - began:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    tyro.cli(main)
