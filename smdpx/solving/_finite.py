"""Solutions that exploded: said, never returned in silence, and left out with their count.

A learned score extrapolates outside of the data, and a reversed drift may grow faster than linearly there, so a few of
many samples can explode, and not all of these reach infinity: some stop at 1e10 or 1e30, and own every mean. For each
array of the state, with |x| the largest number of one solution, a solution has exploded where x is not finite, or

    |x| > 10⁴ · max(median of |x| over all solutions, largest |x_T|),

which no unit changes; or where the square of |x|, which every mean square takes, is not finite. Of what `solve` returns
only the last is said: growth may be what its physics does.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, Int

from .._types import State
from ._validate import check_concrete, check_states, is_concrete

__all__ = ["NonFiniteWarning", "exploded", "exploded_draws", "finite", "largest", "warn_of_explosions"]

_FAR = 1e4
_UNSCORED = "steps that are too long"
_USUAL = f"a score that extrapolates outside of its data, or {_UNSCORED}"


class NonFiniteWarning(RuntimeWarning):
    """Some of the returned states are not finite, or so large that they have exploded."""


def finite(samples: State, xT: State | None = None) -> tuple[State, Int[np.ndarray, " cases"]]:
    """Posterior samples without those that exploded, and how many these were.

    A draw is dropped where one of its arrays is not finite, or holds a number beyond 10⁴ times both the median of the
    draws' largest numbers and the largest of `xT` (the medians are over all draws of all cases). These are the draws
    that `posterior` warns of. Report the count: what is left out without a word makes intervals too narrow.

    Args:
        samples: what `posterior` returns: arrays of shape (draws, cases, ...), or a tree of them.
        xT: the end states that they belong to; their size counts as usual, as it does in `posterior`'s warning.

    Returns:
        kept: of each case its first m good draws, in their order, shape (m, cases, ...); m is the least number of
            good draws that a case has. Where none is dropped, the samples themselves.
        dropped: for each case, how many of its draws exploded. Good draws beyond the first m are not counted.

    Raises:
        TypeError: samples that are not known yet, under `jax.jit`.
        ValueError: no axes of draws and cases in front, end states of another tree or none at all, or cases without
            one good draw.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> kept, dropped = sx.finite(jnp.array([[1.0, 2.0], [1e30, 3.0], [1.5, 2.5]]))
    >>> kept.tolist(), dropped.tolist()
    ([[1.0, 2.0], [1.5, 3.0]], [1, 0])
    """
    check_concrete("finite", samples, xT, mend="call it on what they return")
    check_states(samples, "samples")
    leaves = jtu.tree_leaves(samples)
    if any(leaf.ndim < 2 for leaf in leaves) or len({leaf.shape[1] for leaf in leaves}) > 1:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(
            f"`samples` must have shape (draws, cases, ...), as `posterior` returns them; got {shapes}. For one case "
            "write `samples[:, None]`."
        )
    if xT is not None:
        _check_ends(samples, xT)
    least = [0.0] * len(leaves) if xT is None else sizes(xT)
    bad, _ = exploded(samples, least, axes=2)
    dropped = bad.sum(axis=0)
    if not dropped.any():
        return samples, dropped
    m = len(bad) - int(dropped.max())
    if m == 0:
        lost = np.flatnonzero(dropped == len(bad))
        raise ValueError(
            f"All {len(bad)} draws of {len(lost)} of {len(dropped)} cases exploded (case {first_few(lost)}): leave "
            "these cases out, and say so; or solve with finer steps, another solver, or a network with bounded outputs."
        )
    first = jnp.asarray(np.argsort(bad, axis=0, kind="stable")[:m])
    each = jnp.arange(first.shape[1])[None]
    return jtu.tree_map(lambda leaf: jnp.asarray(leaf)[first, each], samples), dropped


def _check_ends(samples: State, xT: State) -> None:
    of_samples, of_ends = jtu.tree_structure(samples), jtu.tree_structure(xT)
    if of_samples != of_ends:
        raise ValueError(
            "`xT` must be the end states that `samples` belong to, an array or a tree of the same structure; got "
            f"{_kind(xT, of_ends)} for samples that are {_kind(samples, of_samples)}. Of a list of numbers write "
            "`jnp.asarray(xT)`."
        )
    if any(np.size(leaf) == 0 for leaf in jtu.tree_leaves(xT)):
        raise ValueError("`xT` has zero cases.")


def _kind(x: State, structure: Any) -> str:
    return f"an array of shape {np.shape(x)}" if jtu.treedef_is_leaf(structure) else str(structure)


def exploded_draws(samples: State, xT: State) -> Bool[np.ndarray, "draws cases"]:
    """Which of the draws of a posterior exploded, as `posterior` warns of them."""
    return exploded(samples, sizes(xT), axes=2)[0]


def largest(x: State) -> State:
    """The largest number of each array, infinity where one is NaN: what a compiled solve returns beside its states."""
    return jtu.tree_map(_largest, x)


@functools.partial(jax.jit, inline=True)  # four programs, where it is called outside of one
def _largest(x: Float[jax.Array, "..."]) -> Float[jax.Array, ""]:
    return jnp.max(_size(x), initial=0)


def _size(x: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    # On CPUs XLA's maximum over a few thousand numbers leaves NaN out (openxla/xla issue 21461), and never infinity.
    return jnp.where(jnp.isnan(x), jnp.inf, jnp.abs(x))


def sizes(x: State) -> list[float]:
    """The largest number of each known array."""
    return [float(np.max(np.abs(np.asarray(leaf)))) for leaf in jtu.tree_leaves(x)]


def _limit(dtype: Any, usual: float) -> float:
    """The largest number that is no explosion."""
    square = math.sqrt(float(jnp.finfo(dtype).max))
    return min(square, _FAR * usual) if usual > 0 else square


def exploded(
    x: State, least: Sequence[float], *, axes: int, timed: bool = False
) -> tuple[Bool[np.ndarray, "..."], list[float]]:
    """Where solutions exploded, and the limit in each array.

    Args:
        x: states whose first axes count solutions, before the axis of times where there is one.
        least: for each array, a size that is usual whatever the median is.
        axes: how many axes count solutions.
        timed: whether the next axis is that of times; then it is told apart in the answer.
    """
    bad, limits = np.array(False), []
    for leaf, known in zip(jtu.tree_leaves(x), least, strict=True):
        size = np.asarray(_per_solution(leaf, axes + timed)).astype(np.float64)
        whole = size.max(axis=-1) if timed else size
        good = whole[np.isfinite(whole)]
        # The lower of two medians: of two halves, the one that stayed small is the usual one.
        median = float(np.quantile(good, 0.5, method="lower")) if good.size else 0.0
        limits.append(_limit(leaf.dtype, max(known, median)))
        bad = bad | ~(size <= limits[-1])
    return bad, limits


@eqx.filter_jit
def _per_solution(leaf: Float[jax.Array, "..."], axes: int) -> Float[jax.Array, "..."]:
    return jnp.max(_size(leaf), axis=tuple(range(axes, leaf.ndim)), initial=0)


def warn_of_explosions(
    most: Any,
    x: State,
    what: str,
    ts: Any = None,
    *,
    like: State | None = None,
    axes: int = 1,
    mend: str | None = None,
    said: Callable[[int, int], str] | None = None,
    scored: bool = True,
) -> None:
    """Warn where solutions exploded: how many, the first of which, and from what time on.

    Args:
        most: what `largest` said of them in the compiled solve, so that nothing else is looked at where all is well;
            None where it is unknown. Under a JAX transformation nothing is said.
        x: states with the samples in front; or draws, then cases.
        what: what the last of these axes counts: "sample" or "case".
        ts: the times of the axis behind these, where there is one.
        like: states whose size is usual. Without them only what has no finite square has exploded.
        axes: how many axes count solutions, 1 or 2.
        mend: what to write instead, where the caller has none of a solve's arguments.
        said: what the equation's own code says of the step to a sample's (or case's) m-th state; 1 where no times are.
        scored: whether the equation has a score, which may be the cause.
    """
    if most is None or not is_concrete(most, x, like):
        return
    dtypes = [leaf.dtype for leaf in jtu.tree_leaves(x)]
    least = [math.inf] * len(dtypes) if like is None else sizes(like)
    # Within the least limit that there may be, medians need not be found.
    known = zip(jax.device_get(jtu.tree_leaves(most)), dtypes, least, strict=True)
    if all(float(size) <= min(_limit(dtype, math.inf), _FAR * usual) for size, dtype, usual in known):
        return
    bad, limits = exploded(x, least, axes=axes, timed=ts is not None)
    if not bad.any():
        return
    since, see, m = "", "" if mend else " `saveat=diffrax.SaveAt(t0=True, steps=True)` shows from what time on.", 1
    first = bad
    if ts is not None:
        m = int(np.argmax(bad.reshape(-1, bad.shape[-1]).any(axis=0)))
        since, see, first, bad = f", from t = {float(ts[m]):g} on", "", bad[..., m], bad.any(axis=-1)
    why = said(int(np.argmax(first.any(axis=0) if axes == 2 else first)), m) if said else ""
    usual = _USUAL if scored else _UNSCORED
    why = f"{why} If it is not that, {usual}" if why else usual
    which = first_few(np.flatnonzero(bad.any(axis=0) if axes == 2 else bad))
    out = " (`kept, dropped = sx.finite(samples, xT)`)" if axes == 2 else ""
    warnings.warn(
        f"{bad.sum()} of {bad.size} solutions are not finite or beyond {' and '.join(f'{x:.0e}' for x in limits)} "
        f"({what} {which}){since}: {why}. Take "
        f"{mend or 'finer steps near the end, another solver'}{', or a network with bounded outputs' * scored}; or "
        f"leave them out, and count them in what you report{out}.{see}",
        NonFiniteWarning,
        stacklevel=3,  # the line that called `posterior` or `solve`
    )


def first_few(indices: Int[np.ndarray, " n"]) -> str:
    """The first five, for print."""
    return ", ".join(str(i) for i in indices[:5]) + (", ..." if len(indices) > 5 else "")
