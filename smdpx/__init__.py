"""smdpx: score matching via differentiable physics, as a small language on JAX.

An inverse problem is an equation, and the equation is the program: write the physics, the noise and the
score once; simulation, training, posterior samples and likelihoods are solves of equations made from them.
"""

from . import data as data, exact as exact, metrics as metrics, nn as nn, physics as physics, plot as plot
from ._check import StepReport as StepReport, check as check
from ._diffusion import Diffusion as Diffusion
from ._drift import Drift as Drift, ReverseDrift as ReverseDrift, Score as Score
from ._ensemble import ensemble_smoother as ensemble_smoother
from ._equation import (
    SDE as SDE,
    AbstractDrift as AbstractDrift,
    Forward as Forward,
    Reverse as Reverse,
)
from ._exponential import ExponentialEuler as ExponentialEuler
from ._finite import NonFiniteWarning as NonFiniteWarning
from ._fit import FitDiverged as FitDiverged, Stage as Stage, fit as fit
from ._infer import (
    LogLikelihood as LogLikelihood,
    langevin as langevin,
    log_likelihood as log_likelihood,
    maximum_likelihood as maximum_likelihood,
    posterior as posterior,
)
from ._linear import AbstractLinear as AbstractLinear, Diagonal as Diagonal, Fourier as Fourier
from ._loss import (
    AbstractLoss as AbstractLoss,
    ImplicitScoreMatching as ImplicitScoreMatching,
    SlicedScoreMatching as SlicedScoreMatching,
    TwoWayLoss as TwoWayLoss,
    WindowLoss as WindowLoss,
)
from ._progress import Progress as Progress
from ._solve import simulate as simulate, solve as solve
from ._step import StepDrift as StepDrift, mirror as mirror, negative_step as negative_step
from ._sweep import sweep as sweep
from ._terms import terms as terms
from ._window import FreshPaths as FreshPaths, Windows as Windows
