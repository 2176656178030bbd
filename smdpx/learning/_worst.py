"""The component, or the mode, that a warning names."""

import numpy as np
from jaxtyping import Float

__all__ = ["worst_of"]


def worst_of(values: Float[np.ndarray, "..."] | np.floating) -> tuple[tuple[int, ...], str]:
    """Where the largest of some numbers is, and that for print: "2", or of several axes "2.0"."""
    where = tuple(map(int, np.unravel_index(np.argmax(values), np.shape(values))))
    return where, ".".join(map(str, where))
