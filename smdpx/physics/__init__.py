"""Simulators: physics to put into a `Drift`, each with its equation, its units and its steps.

- `Heat`: the heat equation on a periodic square.
- `Turbulence`: vorticity in two dimensions, forced; `TurbulenceRuns`, recipes for data of it.
- `Burgers`: shocks in one dimension.
- `Buoyancy`: smoke that rises around obstacles; `BuoyancyRuns`, recipes for data of it; `buoyancy`, its parts.
- `from_jax_cfd`, `from_exponax`: other libraries' equations and steppers as drifts.

Turbulence is solved by jax-cfd: ``pip install "smdpx[cfd]"``.
"""

from . import buoyancy as buoyancy
from ._burgers import Burgers as Burgers
from ._exponax import from_exponax as from_exponax
from ._heat import Heat as Heat
from ._jax_cfd import from_jax_cfd as from_jax_cfd
from ._turbulence import (
    Turbulence as Turbulence,
    diagonal_forcing as diagonal_forcing,
    kolmogorov_forcing as kolmogorov_forcing,
)
from ._turbulence_runs import TurbulenceRuns as TurbulenceRuns
from .buoyancy import Buoyancy as Buoyancy, BuoyancyRuns as BuoyancyRuns
