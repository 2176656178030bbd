"""Buoyancy-driven flow around obstacles, backwards from t = .65 to t = .01 (arXiv:2301.10250, §4.3 and appendix E).

Smoke rises from an inflow around boxes and discs, which differ from run to run. The solver's steps, run backwards,
lose their way in tens of frames. Beside them a score learns what blurred states look like: jointly with the step, or
after it. A score without physics, L-BFGS and diffusion posterior sampling through the simulator stand beside.

python examples/paper/buoyancy/main.py                    # cpu: 32 × 32, three seeds; 40 minutes of a core
python examples/paper/buoyancy/main.py --preset smoke     # a minute; its numbers mean nothing
python examples/paper/buoyancy/main.py --preset paper     # 64 × 64, the paper's schedule, for GPUs; resumes
"""

import pathlib
import sys
import time
from typing import Any, Literal

import jax.random as jr
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `buoyancy` and `record` are there

from record import versions, write

import smdpx as sx
from buoyancy.evaluate import baselines, of_seed
from buoyancy.figures import draw
from buoyancy.presets import DT, PRESETS
from buoyancy.table import table
from buoyancy.train import learn


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu",
    out: pathlib.Path = pathlib.Path("runs/paper/buoyancy"),
    sigma: float = 0.1,
    lpips: pathlib.Path | None = None,
) -> None:
    """Make the data, train, invert end states around obstacles that nothing was learned from, write record and figures.

    Args:
        preset: smoke (a minute), cpu (a real result on two cores), or paper (the paper's scale; resumes).
        out: where the data, the checkpoints, the record and the figures go.
        sigma: noise of a state, g√Δt; .1 by the paper's text, .01 by the command of its code. The record of another
            than .1 has it in its name; the figures do not, so give `out` too.
        lpips: weights for LPIPS, which is left out without them; `sx.metrics.lpips` says where they come from.
    """
    size, g = PRESETS[preset], sx.Diffusion(sigma / DT**0.5)
    began = time.process_time()
    runs = sx.stored(size.recipe, size.cases + size.runs, key=jr.key(0), at=out / "data", chunk=10).load()
    held, paths = runs[: size.cases], runs[size.cases :]
    rows: list[dict[str, Any]] = []
    shown: dict[Any, Any] = {}
    samples: dict[Any, Any] = {}
    for seed in range(size.seeds):
        learned = learn(size, paths, g, seed, out / f"checkpoints_{preset}_{sigma:g}")
        found, answers, draws = of_seed(size, learned, g, held, jr.fold_in(jr.key(2), seed), lpips)
        rows += [{"seed": seed} | row for row in found]
        shown, samples = shown or answers, samples or draws
    for row, x in baselines(size, paths, held, jr.key(3), lpips):
        rows.append(row)
        shown[row["uses"], row["inference"]] = x
    command = f"python examples/paper/buoyancy/main.py --preset {preset} --sigma {sigma:g}"
    record = {"command": command, "versions": versions(), "rows": rows, "CPU s": time.process_time() - began}
    write(out, f"inferences_{preset}{'' if sigma == 0.1 else f'_{sigma:g}'}.json", record)
    draw(out, held, shown, samples, rows)
    print(table(rows))
    print(f"Record and figures are in {out}.")


if __name__ == "__main__":
    tyro.cli(main)
