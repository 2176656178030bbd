"""What the spread of samples is worth, in the words of the tables."""

import numpy as np

import smdpx as sx


def spread(draws: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Samples (draws, cases, ...) against the truths: coverage of the 90 % interval, spread over error, CRPS."""
    return {
        "90 % covers": float(np.mean(sx.metrics.covered(draws, truth))),
        "spread / error": sx.metrics.spread_over_error(draws, truth),
        "CRPS": float(np.mean(sx.metrics.crps(draws, truth))),
    }
