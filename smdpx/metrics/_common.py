"""What the metrics share: checks of their inputs, pairwise distances, optional imports."""

import importlib
from functools import partial
from types import ModuleType
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Samples: TypeAlias = Float[Array | np.ndarray, "..."]
"""Samples on axis 0, from NumPy or JAX; the further axes are one state's."""


def as_samples(name: str, value: Samples, least: int = 1) -> Float[np.ndarray, "n ..."]:
    """Check that there are at least ``least`` samples, all finite; give them as a NumPy array."""
    if value.ndim == 0 or value.shape[0] < least or value.size == 0:
        raise ValueError(f"`{name}` must hold at least {least} sample(s) on axis 0, got shape {value.shape}")
    array = np.asarray(value)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite, got {bad} of {array.size} values that are not. Such samples "
            "have exploded: report how many there are, and leave them out"
        )
    return array


def as_pair(a: Samples, b: Samples, least: int) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Check two sets of samples of the same state, and flatten the states."""
    x, y = as_samples("a", a, least), as_samples("b", b, least)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            "`a` and `b` must hold states of the same shape (samples are on axis 0), got states of "
            f"shapes {x.shape[1:]} and {y.shape[1:]}"
        )
    return flatten(x), flatten(y)


def as_draws(
    samples: Samples, truth: Samples, least: int = 1
) -> tuple[Float[np.ndarray, "draws ..."], Float[np.ndarray, "..."]]:
    """Check draws with one more axis in front than what they are to predict."""
    if samples.shape[1:] != truth.shape:
        raise ValueError(
            f"`samples` must be shaped (draws, *truth.shape), got samples {samples.shape} and "
            f"truth {truth.shape}. `jnp.moveaxis(samples, i, 0)` brings the draws to the front"
        )
    draws = as_samples("samples", samples, least)
    # The check counts axis 0, which a scalar truth lacks.
    return draws, as_samples("truth", truth.reshape(1, *truth.shape)).reshape(truth.shape)


def flatten(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"]:
    """Flatten each state; scalar states become vectors of one component."""
    return x.reshape(x.shape[0], -1)


def distance_sums(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], block: int = 2**23
) -> Float[np.ndarray, " n"]:
    """Σⱼ |xᵢ - yⱼ| for each i, holding at most about ``block`` numbers at once."""
    dtype = jnp.result_type(float)
    sums = _distance_sums(jnp.asarray(x, dtype), jnp.asarray(y, dtype), block)
    # In double precision from here: what the sums are for is a small difference of large means.
    return np.asarray(sums, np.float64)


@partial(jax.jit, static_argnames="block")
def _distance_sums(x: Float[Array, "n d"], y: Float[Array, "m d"], block: int) -> Float[Array, " n"]:
    def one(row: Float[Array, " d"]) -> Float[Array, ""]:
        # Differences, not |x|² + |y|² - 2x·y, which cancels in single precision.
        return jnp.sum(jnp.sqrt(jnp.sum((row[None] - y) ** 2, axis=1)))

    rows = max(1, min(x.shape[0], block // max(1, y.size)))
    return jax.lax.map(one, x, batch_size=rows)


def require(module: str) -> ModuleType:
    """Import an optional dependency, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'this metric needs {module.split(".")[0]}: pip install "smdpx[metrics]"') from error
