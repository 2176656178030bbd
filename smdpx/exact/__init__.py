"""Exact oracles: what a learned score, a sampler or a likelihood should have given.

Everything here is computed from the equation, not from data, so that a user can compare their own
code with it:

- `OUMixture`: linear drift, constant noise, a Gaussian-mixture start; closed form in any dimension.
- `FokkerPlanck1D`: any scalar drift and any g(t), by a finite-volume solve of the Fokker-Planck
equation.
- `LinearGaussianField`: periodic fields whose drift is diagonal in Fourier space (the heat
equation).
- `GaussianMixture`: the starts and the posteriors of the first two.
- `neighbours`: any process of a few components, by brute force; it says its own error.

The forward process is always dx = f(t, x) dt + g dW, and a score is always ∇ₓ log p_t(x), without a
factor of g² in it. Methods take one sample; batch them with `jax.vmap`.
"""

from ._fokker_planck import FokkerPlanck1D as FokkerPlanck1D
from ._gaussian_field import LinearGaussianField as LinearGaussianField, power_law_field as power_law_field
from ._mixture import GaussianMixture as GaussianMixture
from ._neighbours import Neighbours as Neighbours, neighbours as neighbours
from ._ou import OUMixture as OUMixture
