"""The problem's numbers, and how much of it each preset does."""

from typing import NamedTuple

import smdpx as sx

# Frames are .01 apart, from t = .01 to t = .65; number 34 is that of t = .35, where the paper's comparison ends.
DT, MIDDLE = 0.01, 34


class Preset(NamedTuple):
    """Data, networks, trainings, and what is measured.

    Attributes:
        n: cells a side.
        runs: trajectories to learn from, each with obstacles of its own.
        cases: others, to ask about.
        draws: posterior samples of each.
        seeds: trainings.
        width: channels of the dilated network.
        blocks: of it.
        dilations: of a block.
        stages: the curriculum, of all three trainings.
        denoiser: that of the diffusion model, whose network is as large.
        levels: its noise levels, N.
    """

    n: int
    runs: int
    cases: int
    draws: int
    seeds: int
    width: int
    blocks: int
    dilations: tuple[int, ...]
    stages: tuple[sx.Stage, ...]
    denoiser: tuple[sx.Stage, ...]
    levels: int

    @property
    def flow(self) -> sx.physics.Buoyancy:
        """The simulator."""
        return sx.physics.Buoyancy(self.n)

    @property
    def recipe(self) -> sx.physics.BuoyancyRuns:
        """How the data are made."""
        return sx.physics.BuoyancyRuns(self.flow, dt=DT)


def _stages(*stages: tuple[int, int, float], batch: int = 16) -> tuple[sx.Stage, ...]:
    return tuple(sx.Stage(window, updates, rate, batch=batch) for window, updates, rate in stages)


PRESETS = {
    "smoke": Preset(
        12, 16, 2, 20, 1, 4, 1, (1,), _stages((2, 2, 1e-3), batch=4), _stages((2, 2, 1e-3), batch=4), 3,
    ),
    "cpu": Preset(
        32, 250, 10, 19, 3, 16, 2, (1, 2, 4, 2),
        _stages((2, 1800, 1e-3), (4, 600, 1e-3), (8, 300, 5e-4)), _stages((2, 1500, 1e-3), batch=32), 1000,
    ),
    # The paper's: windows of 2, 4, ..., 20 states, 30 epochs each, with a window from each run an update.
    "paper": Preset(
        64, 250, 5, 64, 3, 48, 4, (1, 2, 2, 1),
        _stages(*((window, 30_000 // window, 1e-4) for window in range(2, 21, 2))),
        _stages((2, 100_000, 1e-4), batch=32), 1000,
    ),
}  # fmt: skip
