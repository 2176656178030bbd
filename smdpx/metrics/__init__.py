"""Metrics of posteriors: NumPy or JAX arrays in, floats or NumPy arrays out, samples on axis 0.

They run on the host, not under ``jit``, and refuse values that are not finite.

- Against known modes: `posterior_metric_q`.
- Against samples of an exact posterior: `wasserstein1`, `energy_distance`, `c2st`.
- Against truths alone: `crps`, `energy_score`; `covered`, `spread_over_error`; `sbc_ranks` with `sbc_pvalue` and
  `rank_histogram`, and `tarp`.
- Of periodic fields: `spectral_error` and `power_spectrum`, `spread_skill` per wavenumber, `reconstruction_error`.
- Of fields as pictures: `ms_ssim`, and `lpips` over weights that you bring.

`c2st` needs scikit-learn, `ms_ssim` dm-pix: ``pip install "smdpx[metrics]"``.
"""

from ._calibration import (
    covered as covered,
    crps as crps,
    energy_score as energy_score,
    sbc_pvalue as sbc_pvalue,
    sbc_ranks as sbc_ranks,
    spread_over_error as spread_over_error,
    tarp as tarp,
)
from ._distance import (
    c2st as c2st,
    energy_distance as energy_distance,
    wasserstein1 as wasserstein1,
)
from ._fields import (
    SpreadSkill as SpreadSkill,
    power_spectrum as power_spectrum,
    rank_histogram as rank_histogram,
    reconstruction_error as reconstruction_error,
    spectral_error as spectral_error,
    spread_skill as spread_skill,
)
from ._images import lpips as lpips, ms_ssim as ms_ssim
from ._score import ScoreError as ScoreError, score_error as score_error
from ._toy import posterior_metric_q as posterior_metric_q
