"""Periodic fields on other grids, by their Fourier series.

    x(r) = Σ_k c_k exp(ik·r)        the same c_k on another number of points, for the k that both grids have

On an even number n of points the waves n/2 and -n/2 are one, cos(n/2 · r): their two coefficients on a finer grid are
added where the grid becomes coarser, and its one is halved where it becomes finer. So finer and back is the identity.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..solving._validate import check_precision


def resample(x: ArrayLike, n: int, axes: tuple[int, ...] = (-2, -1)) -> Float[Array, "..."]:
    """Periodic fields on n points along each of some axes, by truncation or continuation of their Fourier series.

    Coarser fields keep the waves that their grid can hold, no wave is aliased, and means stay. Finer ones are the same
    trigonometric polynomial at more points. Points start at the same corner: field j of n lies at j/n of the period.

    Args:
        x: real fields with the periodic axes at any place, such as (samples, times, n, n).
        n: points along each of the axes, even.
        axes: the periodic axes. Default: the last two.

    Returns:
        Fields of n points along the axes, in the precision of x.

    Raises:
        TypeError: fields that are not real, not floating, or of less than 32 bits.
        ValueError: an odd number of points, here or there, or axes that x does not have.

    >>> import jax.numpy as jnp
    >>> r = jnp.linspace(0, 2 * jnp.pi, 8, endpoint=False)
    >>> fine = jnp.cos(r) + jnp.cos(3 * r)  # the wave 3 does not fit onto four points
    >>> coarse = resample(fine, 4, axes=(0,))
    >>> print(jnp.round(coarse, 3) + 0)
    [ 1.  0. -1.  0.]
    """
    x = jnp.asarray(x)
    check_precision(x.dtype, "x")
    if len(set(axes)) < len(axes) or not all(-x.ndim <= axis < x.ndim for axis in axes):
        raise ValueError(f"`axes` must name different axes of `x`, whose shape is {x.shape}; got {axes}.")
    sizes = {x.shape[axis] for axis in axes}
    odd = sorted(size for size in sizes | {n} if size % 2 or size < 2)
    if odd:
        raise ValueError(
            f"`resample` takes even numbers of points, at least 2; got {odd[0]}: write {odd[0] + odd[0] % 2 or 2}, or "
            "name the periodic axes by `axes`."
        )
    fields = x
    for axis in axes:
        fields = _along(fields, n, axis)
    return fields


# One program, where each operation outside of one would be a program of its own.
@partial(jax.jit, static_argnums=(1, 2))
def _along(x: Array, n: int, axis: int) -> Array:
    """One axis: the half spectrum, cut or filled with zeros, its shortest common wave put right."""
    m = x.shape[axis]
    if m == n:
        return x
    modes = jnp.moveaxis(jnp.fft.rfft(x, axis=axis), axis, -1)
    shortest = min(m, n) // 2
    # c and its conjugate meet in one coefficient, or the one parts into two.
    edge = modes[..., shortest]
    edge = 2 * edge.real.astype(edge.dtype) if n < m else edge / 2
    modes = modes[..., : shortest + 1].at[..., -1].set(edge)
    modes = jnp.pad(modes, [(0, 0)] * (modes.ndim - 1) + [(0, n // 2 - shortest)])
    return jnp.moveaxis(jnp.fft.irfft(modes, n) * (n / m), -1, axis).astype(x.dtype)
