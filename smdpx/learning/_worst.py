"""The component, or the mode, that a warning names."""

import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, PyTree

__all__ = ["worst_of", "worst_of_tree"]


def worst_of(values: Float[np.ndarray, "..."] | np.floating) -> tuple[tuple[int, ...], str]:
    """Where the largest of some numbers is, and that for print: "2", or of several axes "2.0"."""
    where = tuple(map(int, np.unravel_index(np.argmax(values), np.shape(values))))
    return where, ".".join(map(str, where))


def worst_of_tree(values: PyTree[Float[np.ndarray, "..."]]) -> tuple[float, str]:
    """The largest number of a tree of arrays, and for print its array's name and where it is there: "p 2", or "p"."""
    path, most = max(jtu.tree_leaves_with_path(values), key=lambda named: named[1].max())
    return most.max(), f"{jtu.keystr(path, simple=True, separator='.')} {worst_of(most)[1]}".strip()
