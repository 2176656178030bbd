"""A convolutional network in the filter's place: the heat problem's posterior by a ResNet between Fourier moments.

    ∂x/∂t = Δx + .1 dW/dt,    net(t, x) = -(x - m)/v + F / s    mode by mode, with m and v from the trajectories

Nothing is set by hand but the network's size: no scale, and nothing that says the score is a filter. Posterior samples
and the mean are compared with the exact posterior, wavenumber by wavenumber.

python examples/paper/heat/moments.py                  # cpu: minutes on two cores
python examples/paper/heat/moments.py --preset smoke   # seconds; its numbers mean nothing
"""

import pathlib
import sys
import time
from typing import Literal

import jax.numpy as jnp
import jax.random as jr
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # `heat` and `record` are there

from record import versions, write

import smdpx as sx
from heat.conditions import CPU, TS, P, compare, g
from heat.problem import G, N

# Trajectories, updates, width of the network, cases and draws.
PRESETS = {"smoke": (64, 20, 4, 2, 3), "cpu": (2500, 500, 8, 50, 64), "paper": (2500, 40_000, 32, 800, 64)}


def main(preset: Literal["smoke", "cpu", "paper"] = "cpu", out: pathlib.Path = pathlib.Path("runs/paper/heat")) -> None:
    """Simulate, train once, compare, write moments_<preset>.json.

    Args:
        preset: smoke (seconds), cpu (a real result on two cores), or paper (for a GPU).
        out: where the record goes.
    """
    many, updates, width, cases, draws = PRESETS[preset]
    k = jr.split(jr.key(0), 5)
    args = {"alpha": sx.PerSample(jnp.ones(many)), "g": sx.PerSample(jnp.full(many, G))}
    paths = sx.simulate(P + g, sx.data.gaussian_random_fields(many, N, key=k[0]), TS, key=k[1], args=args)
    net = sx.nn.ResNet(N, width=width, blocks=1 if preset != "paper" else 5, key=k[2])
    untrained = sx.Score(sx.nn.Whitened(net, paths, basis=sx.Fourier.like), g)
    began = time.process_time()
    trained = sx.fit(-P + 2 * untrained, paths, key=k[3], curriculum=[sx.Stage(updates=updates, batch=128)])
    rows = []
    for name, s in {"the data's moments alone": untrained, "with the network": trained}.items():
        seconds = time.process_time() - began if s is trained else 0.0
        row = compare(s, CPU._replace(cases=cases, draws=draws), 1.0, G, k[4])
        rows.append({"score": name, "training CPU s": seconds} | row)
        variance, mean = row["variance"], max(row["mean"])
        print(f"{name}: variance {min(variance):.3f} to {max(variance):.3f} of exact, mean off by {mean:.3f} at most")
    command = f"python examples/paper/heat/moments.py --preset {preset}"
    write(out, f"moments_{preset}.json", {"command": command, "versions": versions(), "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
