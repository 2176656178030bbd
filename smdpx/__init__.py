"""smdpx: score matching via differentiable physics, as a small language on JAX.

An inverse problem is an equation, and the equation is the program: write the physics, the noise and the
score once; simulation, training, posterior samples and likelihoods are solves of equations made from them.
"""

from importlib.metadata import version

from . import data as data, exact as exact, metrics as metrics, nn as nn, physics as physics, plot as plot
from .equation._algebra import (
    SDE as SDE,
    AbstractDrift as AbstractDrift,
    Forward as Forward,
    Reverse as Reverse,
)
from .equation._conditions import PerSample as PerSample
from .equation._diffusion import Diffusion as Diffusion
from .equation._drift import (
    Drift as Drift,
    ReverseDrift as ReverseDrift,
    StepDrift as StepDrift,
    mirror as mirror,
    negative_step as negative_step,
)
from .equation._linear import AbstractLinear as AbstractLinear, Diagonal as Diagonal, Fourier as Fourier
from .equation._score import Score as Score
from .equation._trained import Trained as Trained
from .inference._calibrate import calibrate as calibrate
from .inference._ensemble import ensemble_smoother as ensemble_smoother
from .inference._langevin import langevin as langevin
from .inference._likelihood import LogLikelihood as LogLikelihood, log_likelihood as log_likelihood
from .inference._particles import ParticleSmoothing as ParticleSmoothing, particle_smoother as particle_smoother
from .inference._point_estimate import point_estimate as point_estimate
from .inference._posterior import posterior as posterior
from .inference._verdict import CalibrationReport as CalibrationReport
from .learning._fit import fit as fit
from .learning._fresh_paths import FreshPaths as FreshPaths
from .learning._perturbed import Perturbed as Perturbed
from .learning._progress import Progress as Progress
from .learning._references import ReferenceReport as ReferenceReport, check_references as check_references
from .learning._runner import FitDiverged as FitDiverged
from .learning._simulate import simulate as simulate
from .learning._store import StoredPaths as StoredPaths
from .learning._store_writing import stored as stored
from .learning._training import Stage as Stage
from .learning._trajectories import AbstractPaths as AbstractPaths, Trajectories as Trajectories
from .learning._windows import Windows as Windows
from .learning.losses._abstract import AbstractLoss as AbstractLoss
from .learning.losses._score_matching import (
    ImplicitScoreMatching as ImplicitScoreMatching,
    SlicedScoreMatching as SlicedScoreMatching,
)
from .learning.losses._transition_loss import TransitionLoss as TransitionLoss
from .learning.losses._window_loss import TwoWayLoss as TwoWayLoss, WindowLoss as WindowLoss
from .solving._check import StepReport as StepReport, check as check
from .solving._exponential import ExponentialEuler as ExponentialEuler, ExponentialHeun as ExponentialHeun
from .solving._finite import NonFiniteWarning as NonFiniteWarning, finite as finite
from .solving._solve import solve as solve
from .solving._split import SplitEuler as SplitEuler
from .solving._sweep import sweep as sweep
from .solving._terms import terms as terms

__version__ = version("smdpx")
