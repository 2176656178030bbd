"""The same trainings where the score has a closed form (figure 10 of arXiv:2301.10250).

dx = -½ x dt + .04 dW,  x₀ = ±1,  t in [0, 10]
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from record import versions, write

import smdpx as sx
from toy.evaluate import EULER, score_error
from toy.presets import WIDTHS

RATE, G, T, EARLIEST = 0.5, 0.04, 10.0, 0.5
OU = sx.exact.OUMixture(-RATE, G, sx.exact.GaussianMixture([-1.0, 1.0]))
P, g = sx.Drift(OU.drift), sx.Diffusion(G)
WINDOW = sx.WindowLoss(solver=EULER)
TRAININGS = {"one-step": (lambda s: -P + 2 * s, WINDOW), "two-way": (lambda s: -P + s, sx.TwoWayLoss(WINDOW))}
STAGES = {
    "smoke": [sx.Stage(updates=40, batch=64)],
    "cpu": [sx.Stage(updates=12_000, batch=4096, learning_rate=3e-3)],
    "paper": [sx.Stage(updates=60_000, batch=4096, learning_rate=3e-3)],
}


def train(name: str, curriculum: list[sx.Stage], seed: int = 0, widths: tuple[int, ...] = WIDTHS) -> sx.Score:
    """A score of the OU process, from 2,500 trajectories."""
    equation, loss = TRAININGS[name]
    key_data, key_net, key_fit = jr.split(jr.key(seed), 3)
    ts = T * np.linspace(0.0, 1.0, 501) ** 1.5
    paths = sx.simulate(P + g, jnp.where(jnp.arange(2500) % 2 == 0, -1.0, 1.0), ts, key=key_data, solver=EULER)
    s = sx.Score(sx.nn.MLP(widths=widths, x_scale=0.1, out_scale=1 / G, key=key_net), g)
    return sx.fit(equation(s), paths, key=key_fit, loss=loss, curriculum=curriculum)


def compare_with_closed_form(out: pathlib.Path, preset: str, widths: tuple[int, ...]) -> None:
    """Train both ways, print their score errors, write the record ou_<preset>.json and the figure ou.png."""
    rows: list[dict[str, Any]] = []
    scores: dict[str, sx.Score] = {}
    for name in TRAININGS:
        started = time.perf_counter()
        scores[name] = jax.block_until_ready(train(name, STAGES[preset], widths=widths))
        seconds = time.perf_counter() - started
        error = score_error(scores[name], OU, np.linspace(EARLIEST, T, 96), jr.key(1))
        rows.append({"training": name, **error._asdict(), "earliest t": EARLIEST, "training s": seconds})
        print(f"OU, {name}: score error {error.relative_l2:.3f}, slope {error.slope:.3f}")
    write(
        out,
        f"ou_{preset}.json",
        {"command": f"python examples/paper/toy/main.py --preset {preset}", "versions": versions(), "rows": rows},
    )
    _draw(out, scores)


def _draw(out: pathlib.Path, scores: dict[str, sx.Score]) -> None:
    import matplotlib.pyplot as plt

    ts, xs = np.linspace(EARLIEST, T, 160), np.linspace(-1.0, 1.0, 321)
    fields = [*((name, s.net) for name, s in scores.items()), ("exact", OU.score)]
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 2.9), sharey=True, layout="constrained")
    images = []
    for ax, (name, f) in zip(axes, fields, strict=True):
        images.append(sx.plot.field(ax, f, ts, xs, limit=300.0, density=OU.log_prob))
        ax.set_title(name)
    figure.colorbar(images[-1], ax=axes, label="∇ log p_t(x)")
    figure.savefig(out / "ou.png")
    plt.close(figure)
