"""Trajectories that can be counted: of which some can be held out, and whose moments can be taken."""

import jax.random as jr

from ._perturbed import Perturbed, blurred
from ._store import StoredPaths
from ._trajectories import Trajectories

__all__ = ["Counted", "in_memory"]

Counted = Trajectories | StoredPaths | Perturbed

# What moments, and other looks at the data, take from a store: bytes of states.
_LOOK = 2**28


def in_memory(paths: Counted) -> Trajectories:
    """Trajectories as they are; of a store as many as a look at the data takes, evenly spread; blurred ones once."""
    if isinstance(paths, Perturbed):
        return blurred(in_memory(paths.counted()), paths.g, jr.key(0))
    return paths.load(most=_LOOK) if isinstance(paths, StoredPaths) else paths
