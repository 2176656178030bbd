"""Forced turbulence whose dynamics nobody gives, backwards (arXiv:2301.10250, §4.4 and appendix F).

Frames of a vorticity are all that is known. A Fourier neural operator learns to step back from frame to frame; beside
it, frozen, a score what it leaves open; and both at once, for comparison, as well as the solver's own steps.

python examples/paper/turbulence/main.py                    # cpu: 32 × 32, three seeds, on two cores
python examples/paper/turbulence/main.py --preset smoke     # a minute; its numbers mean nothing
python examples/paper/turbulence/main.py --preset paper     # 64 × 64, the paper's schedule, for GPUs; resumes
"""

import pathlib
import sys
import time
from typing import Any, Literal

import jax.random as jr
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `turbulence` and `record` are there

from record import versions, write

import smdpx as sx
from turbulence.evaluate import classical, of_seed
from turbulence.figures import draw
from turbulence.presets import PRESETS
from turbulence.table import table
from turbulence.train import g, learn


def main(
    preset: Literal["smoke", "cpu", "paper"] = "cpu", out: pathlib.Path = pathlib.Path("runs/paper/turbulence")
) -> None:
    """Make the data, train, invert end states of trajectories that nothing was learned from, write record and figures.

    Args:
        preset: smoke (a minute), cpu (a real result on two cores), or paper (the paper's scale; resumes).
        out: where the data, the checkpoints, the record and the figures go.
    """
    size = PRESETS[preset]
    began = time.process_time()
    count = size.cases + size.trajectories
    frames = sx.stored(size.recipe, count, key=jr.key(0), at=out / "data", chunk=50).load()
    data, began = time.process_time() - began, time.process_time()
    held, paths = frames[: size.cases], frames[size.cases :]
    rows: list[dict[str, Any]] = [{"seed": None} | classical(size, paths, held, jr.key(2))]
    shown: dict[Any, Any] = {}
    report = None
    for seed in range(size.seeds):
        learned = learn(size, paths, seed, out / f"checkpoints_{preset}")
        found, answers = of_seed(size, learned, held, jr.fold_in(jr.key(3), seed))
        rows += [{"seed": seed} | row for row in found]
        shown = shown or answers
        if seed == 0:
            R, s = learned.R, learned.s
            report = sx.calibrate(R + 2 * s + g, held, key=jr.key(4), n=size.draws, basis=sx.Fourier.like)
            print(report)
    command = f"python examples/paper/turbulence/main.py --preset {preset}"
    seconds = {"data CPU s": data, "rest CPU s": time.process_time() - began}
    said = {"calibration": repr(report)}
    write(out, f"inferences_{preset}.json", {"command": command, "versions": versions(), "rows": rows} | seconds | said)
    draw(out, held, shown)
    print(table(rows))
    print(f"Record and figures are in {out}.")


if __name__ == "__main__":
    tyro.cli(main)
