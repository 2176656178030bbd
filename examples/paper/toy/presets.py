"""How much of everything the toy problem's presets do."""

import dataclasses
from typing import Literal, get_args

import optax

import smdpx as sx

Method = Literal["one-step", "multi-step", "two-way", "one-step, two-way", "ISM", "SSM-VR"]
WIDTHS = (30, 30, 25, 20, 10)  # of the paper's network


@dataclasses.dataclass(frozen=True)
class Preset:
    """A size of the whole experiment.

    Attributes:
        seeds: trainings of each kind.
        trajectories: the full data.
        steps: steps from t = 0 to T.
        power: the grid is t_k = T (k/steps)^power. At 1, the paper's grid, Euler's first step lands four standard
            deviations off the process's mean, and a one-step loss learns to repair that; at 1.5 it does not.
        fractions: of the data.
        samples: of the posterior at each of 21 end points (a quarter of it for less than the full data).
        curricula: of each training, one a phase.
        methods: the trainings.
        widths: of the network's hidden layers.
        resumable: train seed by seed with checkpoints, instead of all side by side.
    """

    seeds: int
    trajectories: int
    steps: int
    power: float
    fractions: tuple[float, ...]
    samples: int
    curricula: dict[str, list[list[sx.Stage]]]
    methods: tuple[Method, ...] = get_args(Method)
    widths: tuple[int, ...] = WIDTHS
    resumable: bool = False


def stages(updates: int, batch: int, learning_rate: float = 3e-3) -> dict[str, list[list[sx.Stage]]]:
    """Curricula of about equal cost: a two-way update is two, and a window of w states w - 1."""

    def one(part: float, window: int = 2, rate: float = learning_rate) -> sx.Stage:
        return sx.Stage(window, max(1, round(part * updates)), rate, batch=batch)

    multi = [one(0.6), one(0.06, 4, learning_rate / 10), one(0.03, 8, learning_rate / 10)]
    return {
        "one-step": [[one(1)]],
        "multi-step": [multi],
        "two-way": [[one(0.75)]],
        "one-step, two-way": [[one(0.6)], [one(0.6, rate=learning_rate / 2)]],
        "ISM": [[one(0.7)]],
        "SSM-VR": [[one(0.7)]],
    }


def paper_stages() -> dict[str, list[list[sx.Stage]]]:
    """Appendix C: windows 2 to 10 at constant rates, batch 512; score matching with batch 10,000."""
    constant = optax.constant_schedule
    start = sx.Stage(2, 505_000, constant(1e-3), stride=5, batch=512)
    multi = [start, *(sx.Stage(w, 2_505_000, constant(1e-4), batch=512) for w in range(2, 11))]
    matching = [sx.Stage(2, 250_000, constant(rate), batch=10_000) for rate in (1e-3, 1e-4)]
    one = multi[:2]
    return {
        "one-step": [one],
        "multi-step": [multi],
        "two-way": [one],
        "one-step, two-way": [one, one],
        "ISM": [matching],
        "SSM-VR": [matching],
    }


PRESETS = {
    # Every branch once: windows that grow, two phases, both ways, another loss; and as few programs as that takes.
    "smoke": Preset(
        2,
        64,
        20,
        1.5,
        (1.0,),
        20,
        {
            "multi-step": [[sx.Stage(window, 20, 1e-3, batch=64) for window in (2, 3)]],
            "one-step, two-way": [[sx.Stage(2, 20, batch=64)]] * 2,
            "ISM": [[sx.Stage(2, 20, batch=64)]],
        },
        ("multi-step", "one-step, two-way", "ISM"),
        (8, 8),
    ),  # fmt: skip
    "cpu": Preset(3, 2500, 500, 1.5, (1.0, 0.1, 0.01), 4000, stages(12_000, 4096)),
    "paper": Preset(3, 2500, 500, 1.0, (1.0, 0.1, 0.01), 4000, paper_stages(), resumable=True),
}
