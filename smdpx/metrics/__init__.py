"""Metrics of posteriors: NumPy or JAX arrays in, floats or NumPy arrays out, samples on axis 0.

They run on the host, not under ``jit``, and refuse values that are not finite.

- Against known modes: `posterior_metric_q`.
- Against samples of an exact posterior: `wasserstein1`, `energy_distance`, `c2st`.
- Against truths alone: `crps`, `energy_score`; `sbc_ranks` with `sbc_pvalue`, and `tarp`.

`wasserstein1` and `sbc_pvalue` need SciPy, `c2st` scikit-learn: ``pip install "smdpx[metrics]"``.
"""

from ._calibration import (
    crps as crps,
)
from ._calibration import (
    energy_score as energy_score,
)
from ._calibration import (
    sbc_pvalue as sbc_pvalue,
)
from ._calibration import (
    sbc_ranks as sbc_ranks,
)
from ._calibration import (
    tarp as tarp,
)
from ._distance import (
    c2st as c2st,
)
from ._distance import (
    energy_distance as energy_distance,
)
from ._distance import (
    wasserstein1 as wasserstein1,
)
from ._toy import posterior_metric_q as posterior_metric_q
