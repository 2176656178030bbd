"""How much of everything the heat problem's presets do."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

import smdpx as sx
from heat.problem import STEPS, G, N, T


@dataclasses.dataclass(frozen=True)
class Preset:
    """A size of the whole experiment.

    Attributes:
        seeds: trainings of each kind.
        trajectories: initial fields to train on.
        cases: test cases.
        draws: posterior samples a case.
        windows: cut from each trajectory and update.
        network: makes the score's network.
        curriculum: of its training.
        optimizer: of its training.
        stage: one stage of the S_max study, given the window.
        sizes: windows of the S_max study.
        steps: numbers of steps of the solver study.
        convolutional: updates of the networks that are no filters.
        width: of the ResNets.
        blocks: of a ResNet, on each side.
        levels: widths of the UNet.
        members: of the ensemble smoother.
        noise: of the observation, as the smoother is told: an ensemble smaller than the field needs some.
        resumable: train seed by seed with checkpoints, over all devices, instead of all side by side on one.
    """

    seeds: int
    trajectories: int
    cases: int
    draws: int
    windows: int
    network: Callable[[jax.Array], Any]
    curriculum: list[sx.Stage]
    optimizer: Callable[..., optax.GradientTransformation]
    stage: Callable[[int], sx.Stage]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    convolutional: int
    width: int
    blocks: int
    levels: tuple[int, ...]
    members: int
    noise: float = 0.0
    resumable: bool = False


def fourier_filter(key: jax.Array) -> sx.nn.FourierFilter:
    """The score of a stationary Gaussian field: a number for each wavenumber and time. Starts at zero: no key."""
    return sx.nn.FourierFilter(N, t_max=T, t_min=T / STEPS**2, nodes=32, scale=1 / (G**2 * T))


def resnet(key: jax.Array) -> sx.nn.ResNet:
    """The paper's network, with periodic convolutions."""
    return sx.nn.ResNet(N, key=key)


def fast_adam(rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam that forgets in 50 updates: the score's size falls by 10⁵ at long waves, and its gradient's with it."""
    return optax.adam(rate, b2=0.98)


def equal_work(evaluations: int) -> Callable[[int], sx.Stage]:
    """Stages of any window that evaluate the network equally often."""

    def stage(window: int) -> sx.Stage:
        batch = max(32, 32 * round(8 / (window - 1)))
        return sx.Stage(window, max(1, evaluations // (batch * (window - 1))), 1e-2, batch=batch)

    return stage


def paper_curriculum(updates_an_epoch: int) -> list[sx.Stage]:
    """§4.2: S = 6, 8, ... 32 steps, two epochs each, then 80 epochs; Adam at 1e-4, halved every 20 epochs."""
    halved = optax.exponential_decay(1e-4, 20 * updates_an_epoch, 0.5, staircase=True)
    constant = optax.constant_schedule(1e-4)
    growing = [sx.Stage(size + 1, 2 * updates_an_epoch, constant, batch=16) for size in range(6, 33, 2)]
    return [*growing, sx.Stage(33, 80 * updates_an_epoch, halved, batch=16)]


_SMALL = equal_work(64)
_SIZES, _STEPS, _LEVELS = (2, 4, 8, 16, 32), (8, 16, 32, 64, 256), (16, 32, 48, 64, 80, 96, 112)
PRESETS = {
    # Every part once, and as few programs as that takes: three cases are as many as the gallery's.
    "smoke": Preset(2, 64, 3, 4, 32, fourier_filter, [sx.Stage(2, 120, 0.5, batch=32)], fast_adam, _SMALL, (2,),
        (32,), 3, 4, 1, (4, 4), 64, 0.1),
    "cpu": Preset(
        3, 2500, 800, 64, 32, fourier_filter, [sx.Stage(2, 4000, 5e-2, batch=256)], fast_adam, equal_work(200_000),
        _SIZES, _STEPS, 600, 16, 3, _LEVELS, 2500,
    ),
    "paper": Preset(
        3, 2500, 1000, 64, 1, resnet, paper_curriculum(2500 // 16), optax.adam, equal_work(2_000_000), _SIZES,
        _STEPS, 20_000, 32, 5, _LEVELS, 2500, resumable=True,
    ),
}  # fmt: skip
