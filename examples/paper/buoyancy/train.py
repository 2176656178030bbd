"""The trainings: a score beside the simulator on blurred states, one for split steps, one without any physics."""

import dataclasses
import pathlib
from typing import Any

import diffrax as dfx
import jax
import jax.random as jr
from devices import over_devices

import smdpx as sx
from smdpx.physics.buoyancy import OnCells

from .presets import DT, Preset


@dataclasses.dataclass
class Learned:
    """What one seed has learned.

    Attributes:
        joint: the score beside the simulator, of blurred states.
        split: the score beside it that is taken after a step's noise.
        only: what steps back without a simulator.
    """

    joint: Any
    split: Any
    only: Any


def physics(size: Preset) -> sx.StepDrift:
    """The simulator: a step of the solver from frame to frame, backwards with -dt."""
    return sx.Drift.from_step(size.flow.step, reverse=sx.negative_step, dt=DT)


def network(size: Preset, key: jax.Array) -> OnCells:
    """The paper's dilated network, of the marker, the velocity, the obstacles and the place."""
    shape = {"width": size.width, "blocks": size.blocks, "dilations": size.dilations}
    return OnCells(sx.nn.DilResNet(size.n, **shape, channels=(6, 3), boundary="zero", key=key))


def learn(size: Preset, paths: sx.Trajectories, g: sx.Diffusion, seed: int, out: pathlib.Path) -> Learned:
    """All trainings of one seed; each goes on from its checkpoint in `out`, if it was stopped."""
    k, P, blurred = jr.split(jr.fold_in(jr.key(1), seed), 2), physics(size), sx.Perturbed(paths, g)
    out.mkdir(parents=True, exist_ok=True)
    s = sx.Score(sx.nn.Whitened(network(size, k[0]), blurred), g)

    def fit(name: str, equation: Any, data: Any, loss: sx.WindowLoss) -> Any:
        print(f"seed {seed}: {name}", flush=True)
        file = out / f"{name}_{seed}.eqx"
        sharding = over_devices(size.stages)
        return sx.fit(equation, data, key=k[1], curriculum=size.stages, loss=loss, checkpoint=file, sharding=sharding)

    return Learned(
        fit("joint", -P + 2 * s, blurred, sx.WindowLoss()),
        fit("split", -P + 2 * s + g, paths, sx.WindowLoss(solver=sx.SplitEuler())),
        fit("only", 2 * s, blurred, sx.WindowLoss(solver=dfx.Euler())),
    )
