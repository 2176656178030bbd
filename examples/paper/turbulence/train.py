"""The trainings: a surrogate, a score beside it, both at once, and scores beside the solver's own steps."""

import dataclasses
import pathlib
from typing import Any

import diffrax as dfx
import jax
import jax.random as jr
from devices import over_devices

import smdpx as sx

from .presets import NOISE, Preset

# A surrogate is a map from frame to frame, and so is what a score adds to it: Euler's method with steps of one frame.
EULER = sx.WindowLoss(solver=dfx.Euler())
g = sx.Diffusion(NOISE)


@dataclasses.dataclass
class Learned:
    """What one seed has learned.

    Attributes:
        R: the surrogate, alone.
        s: the score beside it, of blurred states.
        split: the score beside it that is taken after a step's noise.
        both: surrogate and score that were trained at once.
        known: the score beside the solver's own steps; None where these are left out.
    """

    R: Any
    s: Any
    split: Any
    both: tuple[Any, Any]
    known: Any


def solver_step(size: Preset) -> sx.StepDrift:
    """The true equation on the points that are kept, by steps of one frame; run backwards with negative steps."""
    flow = sx.physics.Turbulence(size.n, substeps=round(1 / size.dt))
    return sx.Drift.from_step(flow.step, reverse=sx.negative_step, dt=1.0)


def learn(size: Preset, paths: sx.Trajectories, seed: int, out: pathlib.Path) -> Learned:
    """All trainings of one seed; each goes on from its checkpoint in `out`, if it was stopped."""
    k, blurred = jr.split(jr.fold_in(jr.key(1), seed), 8), sx.Perturbed(paths, g)
    out.mkdir(parents=True, exist_ok=True)

    def surrogate() -> sx.ReverseDrift:
        return sx.ReverseDrift(sx.nn.FNO(size.modes, size.width, key=k[0]))

    def score(key: jax.Array) -> sx.Score:
        net = sx.nn.ResNet((size.n, size.n), width=size.channels, blocks=size.blocks, key=key)
        return sx.Score(sx.nn.Whitened(net, blurred, basis=sx.Fourier.like), g)

    def fit(name: str, equation: Any, data: Any, key: jax.Array, stages: Any, **how: Any) -> Any:
        print(f"seed {seed}: {name}", flush=True)
        file = out / f"{name.replace(' ', '_')}_{seed}.eqx"
        how = {"loss": EULER, "sharding": over_devices(stages), **how}
        return sx.fit(equation, data, key=key, curriculum=stages, checkpoint=file, **how)

    R, s = surrogate(), score(k[1])
    R = fit("surrogate", R, paths, k[2], size.surrogate)
    # Of R + 2*s the score alone is trained: R stays as it is, bit for bit.
    beside = fit("score", R + 2 * s, blurred, k[3], size.score)
    split = sx.WindowLoss(solver=sx.SplitEuler())
    after = fit("split", R + 2 * s + g, paths, k[4], size.score, loss=split)
    start = surrogate()
    both = fit("both", start + 2 * s, blurred, k[5], size.surrogate, train=(start, s))
    known = fit("known", -solver_step(size) + 2 * s, blurred, k[6], size.score) if size.known else None
    return Learned(R, beside, after, both, known)
