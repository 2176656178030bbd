"""Draws and truths component by component, in groups that a report has one row for.

A component is a number of the state: of one array, of each array of a tree, or a coefficient c = B x of a basis, real
and imaginary part by themselves. Rows are components; of `Fourier` they are rings ⌊|k|⌋ of whole wavenumbers, of other
bases their modes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._types import State
from ..equation._linear import AbstractLinear, Fourier

__all__ = ["Components", "components"]

# In units of the machine's precision, times the size of the state: what is no more than rounding.
_ROUNDING = 64


class Components(NamedTuple):
    """The numbers of draws and truths side by side.

    Attributes:
        draws: (draws, cases, components).
        truths: (cases, components).
        row: which row each component is counted in.
        names: of the rows.
        rounding: below what a difference of each component is rounding.
    """

    draws: Float[np.ndarray, "draws cases components"]
    truths: Float[np.ndarray, "cases components"]
    row: Int[np.ndarray, " components"]
    names: tuple[str, ...]
    rounding: Float[np.ndarray, " components"]

    def take(self, which: np.ndarray) -> "Components":
        """Some of the components, and the rows that are left."""
        kept = np.unique(self.row[which])
        names = tuple(self.names[i] for i in kept)
        row = np.searchsorted(kept, self.row[which])
        return Components(self.draws[..., which], self.truths[:, which], row, names, self.rounding[which])


def components(samples: State, truth: State, basis: Callable[[Array], AbstractLinear] | None) -> Components:
    """All components of a state.

    Args:
        samples: draws, a tree of arrays of shape (draws, cases, ...).
        truth: a tree of arrays of shape (cases, ...).
        basis: from one state (of each array of the tree) to an operator in the basis, or None: the numbers themselves.

    Returns:
        The components, those of a tree's arrays one after the other.
    """
    parts, names = [], []
    leaves = zip(jtu.tree_leaves_with_path(samples), jtu.tree_leaves(truth), strict=True)
    for (path, x), y in leaves:
        wide = np.promote_types(x.dtype, np.float32)  # JAX's own refuses to, where promotion is strict
        x, y = jnp.asarray(x, wide), jnp.asarray(y, wide)
        L = None if basis is None else basis(y[0])
        state = y.shape[1:]
        if L is None:
            draws, truths = np.asarray(x), np.asarray(y)
        else:
            draws, truths = np.asarray(_coefficients(L, x, 2)), np.asarray(_coefficients(L, y, 1))
        row, own = _rows(L, state)
        if np.iscomplexobj(draws):
            draws, truths = (np.stack([np.real(each), np.imag(each)], axis=-1) for each in (draws, truths))
            row = np.repeat(row, 2)
        draws = draws.reshape(*draws.shape[:2], -1)
        truths = truths.reshape(len(truths), -1)
        size = np.mean(truths.astype(np.float64) ** 2, axis=0)
        # A transform rounds all coefficients by the largest.
        size = size if L is None or not L.alike else np.full_like(size, size.mean())
        rounding = _ROUNDING * float(jnp.finfo(wide).eps) * np.sqrt(size)
        parts.append((draws, truths, row + len(names), rounding))
        leaf = jtu.keystr(path, simple=True, separator=".")
        names += [f"{leaf} {name}".strip() if leaf else name or "x" for name in own]
    draws, truths, row, rounding = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    return Components(draws, truths, row, tuple(names), rounding)


@eqx.filter_jit
def _coefficients(L: AbstractLinear, x: Array, axes: int) -> Array:
    to_basis: Any = L.to_basis
    for _ in range(axes):
        to_basis = jax.vmap(to_basis)
    return to_basis(x)


def _rows(L: AbstractLinear | None, state: tuple[int, ...]) -> tuple[Int[np.ndarray, " numbers"], list[str]]:
    """Which row each coefficient belongs to, and what the rows are called."""
    if not isinstance(L, Fourier):
        shape = state if L is None else L.rates.shape
        return np.arange(int(np.prod(shape))), [".".join(map(str, i)) for i in np.ndindex(*shape)]
    square = np.zeros(())
    for axis, modes in enumerate(L.rates.shape):
        k = np.zeros(modes)
        if axis in L.alike:
            half = axis == L.alike[-1]
            k = np.arange(modes) if half else np.rint(np.fft.fftfreq(modes, 1 / modes))
        square = square[..., None] + k**2
    ring = np.floor(np.sqrt(square)).astype(int)
    others = [n for axis, n in enumerate(L.rates.shape) if axis not in L.alike]
    rings, channels = int(ring.max()) + 1, int(np.prod(others))
    # Channel by channel: the axes that are no waves count in their order.
    along = [axis for axis in range(ring.ndim) if axis not in L.alike]
    channel = np.zeros(ring.shape, int)
    for axis in along:
        place = np.arange(ring.shape[axis]).reshape([-1 if a == axis else 1 for a in range(ring.ndim)])
        channel = channel * ring.shape[axis] + place
    places = list(np.ndindex(*others))
    of = [f", channel {'.'.join(map(str, place))}" if others else "" for place in places]
    names = [f"|k| = {b}{of[c]}" for c in range(channels) for b in range(rings)]
    return (channel * rings + ring).ravel(), names
