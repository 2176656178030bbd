"""The problem's numbers, and how much of it each preset does."""

from typing import NamedTuple

import optax

import smdpx as sx

# Noise of a step of one time unit; the starts' standard deviation is .185, the ends' about 1.
NOISE = 0.05


class Preset(NamedTuple):
    """Data, networks, trainings, and what is measured.

    Attributes:
        n: points a side.
        n_solve: points a side that the data are solved on.
        dt: the longest step of that.
        trajectories: to learn from.
        cases: others, to ask about.
        draws: posterior samples of each.
        seeds: trainings, side by side.
        modes: of the surrogate, the FNO.
        width: of the surrogate.
        blocks: residual blocks of the score, of `channels` each.
        channels: of the score.
        surrogate: the curriculum of the surrogate alone, and of both at once.
        score: the curriculum of the score, beside a surrogate that stays.
        known: whether the true solver's own steps are inverted too.
    """

    n: int
    n_solve: int
    dt: float
    trajectories: int
    cases: int
    draws: int
    seeds: int
    modes: int
    width: int
    blocks: int
    channels: int
    surrogate: tuple[sx.Stage, ...]
    score: tuple[sx.Stage, ...]
    known: bool = True

    @property
    def recipe(self) -> sx.physics.TurbulenceRuns:
        """How the data are made."""
        return sx.physics.TurbulenceRuns(n=self.n, n_solve=self.n_solve, dt=self.dt)


def _stages(*stages: tuple[int, int, float], batch: int) -> tuple[sx.Stage, ...]:
    return tuple(sx.Stage(window, updates, rate, batch=batch) for window, updates, rate in stages)


def _halved(rate: float, every: int) -> optax.Schedule:
    return optax.exponential_decay(rate, every, 0.5, staircase=True)


PRESETS = {
    "smoke": Preset(
        8, 16, 0.1, 20, 20, 20, 1, 3, 4, 1, 4, 
        _stages((2, 4, 1e-3), batch=4), _stages((2, 4, 1e-3), batch=4), known=False,
    ),
    "cpu": Preset(
        32, 64, 0.05, 1000, 100, 39, 3, 8, 12, 1, 12,
        _stages((2, 1200, 2e-3), (4, 200, 5e-4), (10, 30, 2e-4), batch=20), _stages((2, 400, 1e-3), batch=16),
    ),
    # The paper's: 500 epochs in batches of 20, with windows up to 10 and a rate of 1e-3 that is halved every 100; then
    # 250 epochs in batches of 6 with the surrogate frozen, and 1e-4 halved every 50.
    "paper": Preset(
        64, 128, 0.025, 1000, 100, 99, 3, 12, 20, 5, 32,
        (
            sx.Stage(2, 10_000, _halved(1e-3, 5000), batch=20),
            sx.Stage(4, 5000, _halved(2.5e-4, 5000), batch=20),
            sx.Stage(10, 10_000, _halved(1.25e-4, 5000), batch=20),
        ),
        (sx.Stage(2, 41_667, _halved(1e-4, 8333), batch=6),),
    ),
}  # fmt: skip
