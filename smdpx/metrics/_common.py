"""What the metrics share: checks of their inputs, pairwise distances, optional imports."""

import importlib
from functools import partial, reduce
from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..solving._validate import is_concrete

Samples: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]
"""Samples on axis 0, from NumPy or JAX; the further axes are one state's. A tree of such arrays, by `side_by_side`."""


def is_tree(value: Any) -> bool:
    """Whether a state is a tree, not one array."""
    return not isinstance(value, jax.Array | np.ndarray | np.generic)


def check_array(name: str, value: Any) -> None:
    """Raise where a tree came and only one array has a meaning, or one whose values are not known yet."""
    check_known(name, value)
    if is_tree(value):
        raise TypeError(
            f"`{name}` must be one array, got {_kind(value)}. Call the metric leaf by leaf: pass `{name}[...]` of the "
            "leaf that it is about"
        )


def check_known(name: str, value: Any) -> None:
    """Raise where values are looked at and a JAX transformation has none yet."""
    if not is_concrete(value):
        raise TypeError(
            f"Metrics look at values, and `jax.jit`, `jax.vmap` and `jax.grad` do not know those of `{name}` yet: call "
            "the metric on what they return"
        )


def check_same_tree(**values: Any) -> None:
    """Raise where two values are trees of different structures."""
    (name, value), (other, against) = values.items()
    if jax.tree.structure(value) != jax.tree.structure(against):
        raise ValueError(
            f"`{name}` and `{other}` must be arrays, or trees of one structure, got {_kind(value)} and {_kind(against)}"
        )


def side_by_side(name: str, value: Samples, axes: int) -> Float[Array | np.ndarray, "..."]:
    """One array: a tree's leaves, each flattened behind the first ``axes`` axes, one after the other."""
    check_known(name, value)
    if not is_tree(value):
        return value
    leaves = jax.tree.leaves(value)
    if not leaves or any(map(is_tree, leaves)):
        raise TypeError(f"`{name}` must be an array, or a tree of arrays, got {_kind(value)}")
    fronts = [leaf.shape[:axes] for leaf in leaves]
    if len(fronts[0]) < axes or len(set(fronts)) > 1:
        what = "samples" if axes == 1 else "draws and cases"
        raise ValueError(
            f"`{name}` must have the same {what} in front in each leaf, got leaves of shapes "
            f"{', '.join(str(leaf.shape) for leaf in leaves)}"
        )
    flat = [np.asarray(leaf).reshape(*leaf.shape[:axes], -1) for leaf in leaves]
    return np.concatenate(flat, axis=axes)


def _kind(value: Any) -> str:
    return type(value).__name__ if is_tree(value) else f"an array of shape {value.shape}"


def as_samples(name: str, value: Samples, least: int = 1) -> Float[np.ndarray, "n ..."]:
    """Check that there are at least ``least`` samples, known and finite; as NumPy's floats of 32 bits or more."""
    check_array(name, value)
    if value.ndim == 0 or value.shape[0] < least or value.size == 0:
        raise ValueError(f"`{name}` must hold at least {least} sample(s) on axis 0, got shape {value.shape}")
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4:
        array = array.astype(np.float32)  # half precision cannot count beyond 256 or 2,048 draws
    elif array.dtype.kind in "biu":
        array = array.astype(np.float64)  # unsigned differences wrap around, and flags have none
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite, got {bad} of {array.size} values that are not. Such samples "
            "have exploded: report how many there are, and leave them out (`smdpx.finite` does so for draws)"
        )
    return array


def as_pair(a: Samples, b: Samples, least: int) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Check two sets of samples of the same state, and flatten the states."""
    check_same_tree(a=a, b=b)
    x, y = as_samples("a", side_by_side("a", a, 1), least), as_samples("b", side_by_side("b", b, 1), least)
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
    check_array("samples", samples)
    check_array("truth", truth)
    if samples.shape[1:] != truth.shape:
        raise ValueError(
            f"`samples` must be shaped (draws, *truth.shape), draws first, then cases; got samples {samples.shape} and "
            f"truth {truth.shape}. {draws_to_the_front('samples', samples, truth)}"
        )
    draws = as_samples("samples", samples, least)
    # The check counts axis 0, which a scalar truth lacks.
    return draws, as_samples("truth", truth.reshape(1, *truth.shape)).reshape(truth.shape)


def check_answers(state: str, **values: Any) -> None:
    """Raise where answers are neither shaped as what they are compared with, nor with draws in front of it."""
    (name, answers), (other, against) = values.items()
    if answers.shape != against.shape and answers.shape[1:] != against.shape:
        raise ValueError(
            f"`{name}` must be shaped as `{other}`, (cases, {state}), or with draws in front, (draws, cases, {state}); "
            f"got {name} {answers.shape} and {other} {against.shape}. {draws_to_the_front(name, answers, against)}"
        )


def draws_to_the_front(name: str, samples: Any, truth: Any) -> str:
    """What to write of samples that do not fit the truth: of (cases, draws, ...) it is known."""
    if samples.shape[:1] + samples.shape[2:] == truth.shape != ():
        return f"These are (cases, draws, ...): write `jnp.moveaxis({name}, 1, 0)`"
    return f"`jnp.moveaxis({name}, i, 0)` brings the draws to the front"


def flatten(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"]:
    """Flatten each state; scalar states become vectors of one component."""
    return x.reshape(x.shape[0], -1)


def unit(x: Float[np.ndarray, "..."], axis: int | None = None) -> Any:
    """A power of two about as large as the largest number, or as the largest along an axis.

    In such units squares neither overflow nor vanish, and to divide by one and to multiply changes no digit.
    """
    _, exponent = np.frexp(np.maximum(x.max(axis), -x.min(axis)))
    return np.ldexp(np.ones_like(exponent, x.dtype), exponent - 1)


def traced_unit(x: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
    """`unit` of all arrays of a tree, inside of a compiled function; a constant, where that is differentiated."""
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(jax.lax.stop_gradient(x))]
    _, exponent = jnp.frexp(reduce(jnp.maximum, sizes))
    return jnp.ldexp(jnp.ones_like(exponent, sizes[0].dtype), exponent - 1)


def distance_sums(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "m d"],
    which: Bool[np.ndarray, " m"] | None = None,
    block: int = 2**23,
) -> Float[np.ndarray, " n"]:
    """Σⱼ |xᵢ - yⱼ| for each i, or over `which` j, holding at most about ``block`` numbers at once."""
    dtype = jnp.result_type(float)
    counted = np.ones(len(y), dtype) if which is None else np.asarray(which, dtype)
    # Counting from their middle keeps digits that a far origin would take, where they are narrowed.
    middle = np.mean(x, axis=0, dtype=np.float64)
    x, y = x - middle, y - middle
    scale = max(unit(x), unit(y))
    sums = _distance_sums(np.asarray(x / scale, dtype), np.asarray(y / scale, dtype), counted, block)
    # In double precision from here: what the sums are for is a small difference of large means.
    return np.asarray(sums, np.float64) * scale


@partial(jax.jit, static_argnames="block")
def _distance_sums(
    x: Float[Array, "n d"], y: Float[Array, "m d"], counted: Float[Array, " m"], block: int
) -> Float[Array, " n"]:
    def one(row: Float[Array, " d"]) -> Float[Array, ""]:
        # Differences, not |x|² + |y|² - 2x·y, which cancels in single precision.
        return jnp.sum(counted * jnp.sqrt(jnp.sum((row[None] - y) ** 2, axis=1)))

    rows = max(1, min(x.shape[0], block // max(1, y.size)))
    return jax.lax.map(one, x, batch_size=rows)


def require(module: str) -> ModuleType:
    """Import an optional dependency, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'this metric needs {module.split(".")[0]}: pip install "smdpx[metrics]"') from error
