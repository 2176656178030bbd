"""What the exact score times ½, 1 and 2 does to the toy problem's answers: the figure of `factor-two.md`.

python docs/figures/factor_two.py        writes factor_two.png and docs/results/factor_two.json
"""

import pathlib
import sys

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib as mpl
import numpy as np

import smdpx as sx

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from _record import versions, write  # noqa: E402

G, T, SAMPLES = 0.03, 10.0, 2000
P = sx.Drift(lambda t, x, args: -7 * jnp.sign(x) * x**2)
g = sx.Diffusion(G)
COLOURS = {0.5: "#2166ac", 1.0: "#222222", 2.0: "#b2182b"}


def main() -> None:
    """Three scores, each judged by Q, by the posterior probability, and by its slope."""
    exact = sx.exact.FokkerPlanck1D(P.f, G, sx.exact.GaussianMixture([-1.0, 1.0]), T)
    back = (T * np.linspace(0.0, 1.0, 501) ** 1.5)[::-1]
    ends, few = jnp.linspace(-0.1, 0.1, 1000), jnp.linspace(-0.1, 0.1, 21)
    truth = exact.component_probabilities(T, few)[:, 1]
    t = jnp.repeat(jnp.linspace(1.0, T, 10), 200)
    x = jnp.concatenate([exact.sample(u, 200, key=k) for u, k in zip(t[::200], jr.split(jr.key(0), 10), strict=True)])
    rows, curves = [], {}
    for factor in COLOURS:
        s = sx.Score(lambda t, x, args, factor=factor: factor * exact.score(t, x), g)
        x0 = sx.posterior(-P + 2 * s + g, few, back, SAMPLES, key=jr.key(1), solver=dfx.Euler())
        curves[factor] = jnp.mean(x0 > 0, axis=0)
        sde = sx.posterior(-P + 2 * s + g, ends, back, 1, key=jr.key(2), solver=dfx.Euler())[0]
        rows.append(
            {
                "score": f"{factor:g} × exact",
                "Q_flow": sx.metrics.posterior_metric_q(sx.point_estimate(-P + s, ends, back, solver=dfx.Euler())),
                "Q_sde": sx.metrics.posterior_metric_q(sde),
                "posterior_error": float(jnp.max(jnp.abs(curves[factor] - truth))),
                "slope": sx.metrics.score_error(s.net, exact.score, t, x).slope,
            }
        )
        print(rows[-1])
    record = {"command": "python docs/figures/factor_two.py", "versions": versions(), "rows": rows}
    write(ROOT / "docs" / "results", "factor_two.json", record)
    draw(rows, few, curves, truth)


def draw(rows: list[dict], x: jax.Array, curves: dict[float, jax.Array], truth: jax.Array) -> None:
    """Q beside the posterior probability."""
    plt.rcParams.update({"figure.dpi": 160, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (bars, lines) = plt.subplots(1, 2, figsize=(8.4, 3.2), width_ratios=(1, 1.5), layout="constrained")
    place = np.arange(len(rows))
    for shift, key, label, hatch in ((-0.2, "Q_flow", "flow", ""), (0.2, "Q_sde", "SDE", "////")):
        drawn = bars.bar(place + shift, [row[key] for row in rows], 0.36, color=list(COLOURS.values()), alpha=0.8)
        for bar in drawn:
            bar.set(hatch=hatch, edgecolor="white")
        bars.bar_label(drawn, [f"{label}\n{row[key]:.2f}" for row in rows], fontsize=7, padding=2)
    bars.set_xticks(place, [f"{factor:g} × score" for factor in COLOURS])
    bars.set(ylabel="Q", ylim=(0, 1.2), title="Q")
    bars.set_yticks([0, 0.5, 1])
    lines.plot(x, truth, color="#2ca25f", lw=4, alpha=0.5, label="exact answer")
    for factor, curve in curves.items():
        lines.plot(x, curve, ".-", ms=5, lw=0.9, color=COLOURS[factor], label=f"{factor:g} × score")
    lines.set(xlabel="end state x_T", ylabel="P(x₀ = +1 | x_T)", title="posterior probability", xlim=(-0.102, 0.102))
    lines.legend(frameon=False)
    figure.savefig(HERE / "factor_two.png")


if __name__ == "__main__":
    main()
