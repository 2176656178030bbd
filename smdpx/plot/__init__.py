"""Figures on matplotlib axes: trajectories, score fields, posterior curves, calibration (the extra `plot`).

Each function draws on axes that the caller made and returns nothing; nothing here computes a result.
"""

from ._calibration import calibration as calibration
from ._fields import curve as curve, field as field, paths as paths
