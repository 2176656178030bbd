"""Fields to start from, and the scale they are trained in.

x = irfft2(√v_k · rfft2(ξ)),  v_k ∝ (|k|² + corner²)^(-power/2),  ξ white         x ↦ (x - mean) / std
"""

from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._types import Key, RealScalarLike, State
from ..exact import power_law_field
from ..solving._validate import check_precision, is_concrete

# How many squares `Normalisation.of` holds at once: 128 MiB.
_NUMBERS_AT_ONCE = 2**24


def gaussian_random_fields(
    count: int, n: int, power: RealScalarLike = 4, corner: RealScalarLike = 0, *, key: Key
) -> Float[Array, "count n n"]:
    """Independent periodic Gaussian fields with power |k|^-power, as the initial states of arXiv:2301.10250, §4.2.

    With a corner their power is (|k|² + corner²)^(-power/2): a Matérn field, the law of (-Δ + τ²)^-α on the unit torus
    where power = 2α and corner = τ/2π, as turbulence starts from in Li et al. 2021 (arXiv:2010.08895, α 2.5, τ 7).

    The law is that of `smdpx.exact.power_law_field`: mean 0 of each field, variance 1 in each pixel. (The paper's code
    computes Re ifft2((a + ib) |f|⁻²) with white a and b, which has this law up to a factor.)

    Args:
        count: number of fields, at least 1.
        n: pixels a side, at least 2, even or odd.
        power: the exponent, of the power rather than the amplitude; the paper's is 4.
        corner: the wavenumber below which the spectrum is flat, ≥ 0, k of whole numbers.
        key: a JAX key.

    Returns:
        Fields, shape (count, n, n).

    Raises:
        ValueError: count is below 1, n below 2, or the corner negative.

    >>> import jax
    >>> x = gaussian_random_fields(500, 32, key=jax.random.key(0))
    >>> x.shape, f"{x.std():.2f}"
    ((500, 32, 32), '1.00')
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    return _filtered_noise(power_law_field(n, power, corner), count, key)


@partial(jax.jit, static_argnames="count")
def _filtered_noise(power: Float[Array, "n n"], count: int, key: Key) -> Float[Array, "count n n"]:
    amplitude = jnp.sqrt(power)
    white = jr.normal(key, (count, *amplitude.shape), amplitude.dtype)
    # The amplitude is even in k, so the fields are real: the half spectrum is enough.
    spectrum = jnp.fft.rfft2(white)
    half = amplitude[:, : spectrum.shape[-1]].astype(spectrum.dtype)
    return jnp.fft.irfft2(half[None] * spectrum, s=amplitude.shape)


class Normalisation(eqx.Module):
    """The affine map to mean 0 and standard deviation 1, and back.

    Fit it to training data with `Normalisation.of`, and use the same one for every other state. One mean and one
    standard deviation for all pixels is the default: numbers of their own for each pixel would break translation
    invariance. In a network it is not trained. It is of one array; a tree has one for each leaf,
    `jax.tree.map(Normalisation.of, x)`.

    Args:
        mean: shape () or one that broadcasts against a state's.
        std: as mean, positive.

    Attributes:
        mean: what is subtracted.
        std: what the difference is divided by.

    Raises:
        ValueError: a mean or standard deviation that is not finite, or a standard deviation that is not positive.

    >>> import jax.numpy as jnp
    >>> scale = Normalisation.of(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> float(scale.mean), scale.apply(jnp.array([3.0])).tolist()
    (3.0, [0.0])
    >>> scale.invert(scale.apply(jnp.array([1.5, 2.5]))).tolist()
    [1.5, 2.5]
    """

    mean: Float[Array, "..."]
    std: Float[Array, "..."]

    def __init__(
        self,
        mean: RealScalarLike | Float[Array | np.ndarray, "..."],
        std: RealScalarLike | Float[Array | np.ndarray, "..."],
    ):
        if is_concrete(mean) and not np.isfinite(mean).all():
            raise ValueError(f"`mean` must be finite, got {mean}")
        if is_concrete(std):
            wrong = ~(np.isfinite(std) & (np.asarray(std) > 0))
            if wrong.any():
                index = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise ValueError(
                    f"`std` must be finite and positive, got {np.asarray(std)[index]:g}"
                    + (f" at index {index}" if index else "")
                    + "; data that are constant have no scale, so leave them out"
                )
        self.mean = jnp.asarray(mean, jnp.result_type(float))
        self.std = jnp.asarray(std, jnp.result_type(float))

    @classmethod
    def of(cls, x: State, axis: int | Sequence[int] | None = None) -> "Normalisation":
        """The mean and standard deviation of samples.

        Args:
            x: training data, samples in front; trajectories too, (samples, times, ...).
            axis: the axes to average over; axis 0 is always one of them. Left out: all. For channels in the end of
                (samples, n, n, channels): (0, 1, 2).

        Returns:
            A `Normalisation` that takes states of any batch: the averaged axes in front are not part of it.

        Raises:
            TypeError: x is a tree, or not floating.
            ValueError: no samples, values that are not finite, axis 0 not averaged over, or a constant component.

        >>> import jax.numpy as jnp
        >>> velocity_and_marker = jnp.stack([jnp.arange(4.0), 100 * jnp.arange(4.0)], axis=-1)
        >>> Normalisation.of(velocity_and_marker, axis=0).mean.tolist()
        [1.5, 150.0]
        """
        _check_array(x)
        x = np.asarray(x)
        check_precision(x.dtype, "x", narrowest=1)
        if x.ndim == 0 or x.size == 0:
            raise ValueError(f"`x` must hold samples in front, got shape {x.shape}")
        given = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
        if not all(-x.ndim <= i < x.ndim for i in given):
            raise ValueError(f"`axis` must name axes of `x`, whose shape is {x.shape}; got {axis}")
        axes = tuple(sorted({i % x.ndim for i in given}))
        if axes[:1] != (0,):
            raise ValueError(f"`axis` must hold 0, the samples' axis; got {axis}")
        bad = x.size - int(np.isfinite(x).sum())
        if bad:
            raise ValueError(f"`x` must be finite, got {bad} of {x.size} values that are not; drop such samples")
        # In double precision: sums of many millions of numbers.
        mean = x.mean(axis=axes, keepdims=True, dtype=np.float64)
        rows = max(1, _NUMBERS_AT_ONCE // x[0].size)
        squares = sum(np.sum((x[i : i + rows] - mean) ** 2, axis=axes, keepdims=True) for i in range(0, len(x), rows))
        std = np.sqrt(squares * (mean.size / x.size))
        # The mean of a constant is off by rounding.
        std = np.where(std <= float(jnp.finfo(x.dtype).eps) * np.abs(mean), 0, std)
        front = next((i for i in range(x.ndim) if i not in axes), x.ndim)
        return cls(mean.reshape(mean.shape[front:]), std.reshape(mean.shape[front:]))

    def apply(self, x: State) -> Float[Array, "*shape"]:
        """Normalise: (x - mean) / std.

        Args:
            x: a state or a batch of them, in the data's units.
        """
        mean, std = self._for(x)
        return (jnp.asarray(x) - mean) / std

    def invert(self, x: State) -> Float[Array, "*shape"]:
        """Undo it: x · std + mean.

        Args:
            x: a state or a batch of them, normalised.
        """
        mean, std = self._for(x)
        return jnp.asarray(x) * std + mean

    def _for(self, x: State) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Mean and std in the shape and precision of x, and constants for gradients: they are data."""
        _check_array(x)
        x = jnp.asarray(x)
        check_precision(x.dtype, "x", narrowest=1)
        mean, std = (jax.lax.stop_gradient(value).astype(x.dtype) for value in (self.mean, self.std))
        try:
            return jnp.broadcast_to(mean, x.shape), jnp.broadcast_to(std, x.shape)
        except ValueError:
            raise ValueError(
                f"`x` must have states that the mean's shape {self.mean.shape} and the standard deviation's "
                f"{self.std.shape} broadcast against, got {x.shape}"
            ) from None


def _check_array(x: State) -> None:
    if isinstance(x, dict | list | tuple) or not hasattr(x, "shape"):
        raise TypeError(
            f"`x` must be one array, got {type(x).__name__}. A tree has one normalisation for each leaf: write "
            "`scales = jax.tree.map(Normalisation.of, x)`, then `scales[leaf].apply(x[leaf])`; or ravel each state "
            "into one vector"
        )
