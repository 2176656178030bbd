"""The paper's figure of merit for a posterior of known modes.

    Q = K · minₖ (fraction of end points within the tolerance of mode k),    k = 1 ... K.

Q cannot tell a right score from one that is twice too large: show it beside a distance to exact
samples (`smdpx.metrics.wasserstein1`, `smdpx.metrics.energy_distance`).
"""

from collections.abc import Sequence

import numpy as np

from ._common import Samples, check_array


def posterior_metric_q(x0: Samples, modes: Sequence[float] = (-1.0, 1.0), tolerance: float = 0.1) -> float:
    """Q of arXiv:2301.10250, §4.1: do samples reach every mode, and equally often?

    Args:
        x0: end points of sampled paths, shape (n,), scalar states. Those that are not finite count
            as misses.
        modes: where the end points should be, each equally often; the paper's are ±1.
        tolerance: largest distance from a mode that counts as a hit, > 0. The paper's 10 %.

    Returns:
        Q in [0, 1] if the tolerance keeps the modes apart: 1 if all samples hit a mode, each mode
        equally often, and 0 if one mode is never hit. For fair draws Q < 1, as one mode of n draws
        is always rarer: .975 ± .019 for two modes and n = 1,000.

    Raises:
        ValueError: no samples, states that are not scalar, no modes, or a tolerance ≤ 0.

    >>> import jax.numpy as jnp
    >>> posterior_metric_q(jnp.array([-1.0, -0.95, 1.05, 0.5]))
    0.5
    """
    check_array("x0", x0)
    if x0.ndim != 1 or x0.shape[0] == 0:
        raise ValueError(f"`x0` must be scalar states of shape (n,), n > 0, got shape {x0.shape}")
    if len(modes) == 0:
        raise ValueError("`modes` must name at least one mode, got none")
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be positive, got {tolerance}")
    points = np.asarray(x0)
    hits = [int(np.sum(np.abs(points - mode) <= tolerance)) for mode in modes]
    return len(modes) * min(hits) / points.size
