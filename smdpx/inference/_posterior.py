"""Samples of what could have led to an end state: the reverse-time SDE, C = 2 (arXiv:2301.10250, eq 9)."""

import warnings
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from .._types import Args, Key, State
from ..equation._algebra import SDE, Reverse
from ..equation._drift import scores
from ..learning._sharding import pieces, take
from ..solving import _validate as validate
from ..solving._finite import warn_of_non_finite
from ..solving._solve import solved

__all__ = ["posterior"]

# How many numbers `posterior` holds at once: 64 MiB in single precision, before the network's own.
_NUMBERS_AT_ONCE = 2**24


def posterior(
    equation: SDE[Reverse],
    xT: State,
    ts: Any,
    n: int,
    *,
    key: Key,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    saveat: dfx.SaveAt | None = None,
    chunk: int | None = None,
) -> State:
    """Samples of trajectories that could have led to each end state (arXiv:2301.10250, eq 9).

    With the exact score, `-P + 2*s + g` samples p(x₀ | x_T); so does `-P + C*s + (C - 1)**0.5 * g` only at
    C = 2: other C keep each marginal p_t and not the law of the path.

    Args:
        equation: a reverse `SDE`, `-P + 2*s + g`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        n: samples a case, at least 1.
        key: a JAX key.
        args: handed to every callable untouched.
        solver: a diffrax SDE solver. Default: `diffrax.Euler()`.
        stepsize_controller: see `solve`.
        saveat: `diffrax.SaveAt(t1=True)` (default) for end points, `diffrax.SaveAt(t0=True, steps=True)` for whole
            trajectories.
        chunk: how many samples to solve at once, which bounds the memory. Default: as many as hold 2²⁴
            numbers. The noise depends on `key` and on `chunk`.

    Returns:
        Samples of shape (cases, n, ...) at ts[-1]; with another `saveat`, (cases, n, times, ...).

    Raises:
        ValueError: n < 1, and as `solve`.
        TypeError: an equation without noise.

    Warns:
        NonFiniteWarning: samples that are not finite: how many, of which cases, and (of whole trajectories) from what
            time on. Count them: leaving out what exploded without a word makes intervals too narrow.
        UserWarning: a score's coefficient that is not 2, with which nothing is a posterior.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x, g)
    >>> sx.posterior(-P + 2 * s + g, jnp.zeros(4), [1.0, 0.5, 0.0], 10, key=jax.random.key(0)).shape
    (4, 10)
    """
    if not isinstance(equation, SDE):
        raise TypeError(
            f"`posterior` samples an SDE; `{equation}` has no noise and would give {n} equal copies. "
            "Write `-P + 2*s + g`, or call `maximum_likelihood`."
        )
    _warn_of_other_coefficients(equation)
    if n < 1:
        raise ValueError(f"`posterior` needs n >= 1 samples a case; got {n}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` must be at least 1; got {chunk}.")
    xT = validate.check_states(xT, "xT")
    whole = saveat is not None and eqx.tree_equal(saveat, dfx.SaveAt(t1=True)) is not True
    cases = jtu.tree_leaves(xT)[0].shape[0]
    if chunk is None:
        saved = sum(leaf.size for leaf in jtu.tree_leaves(xT)) // cases * (len(ts) if whole else 1)
        chunk = max(1, _NUMBERS_AT_ONCE // max(saved, 1))
    devices = max(pieces(leaf) for leaf in jtu.tree_leaves(xT))
    chunk = max(devices, chunk - chunk % devices)
    size = min(chunk, cases * n + -(cases * n) % devices)
    index = np.repeat(np.arange(cases), n)
    ends, all_of_it = [], jnp.array(True)
    for start in range(0, cases * n, chunk):
        # The last chunk is filled up, so that every chunk runs the one compiled program.
        part = index[np.minimum(np.arange(start, start + size), cases * n - 1)]
        x, fine = solved(
            equation,
            jtu.tree_map(lambda leaf: take(leaf, part), xT),  # noqa: B023
            ts,
            jr.fold_in(key, start),
            args,
            solver,
            stepsize_controller,
            saveat if whole else dfx.SaveAt(t1=True),
        )
        all_of_it &= fine
        ends.append(x if whole else jtu.tree_map(lambda leaf: leaf[:, -1], x))
    samples = jtu.tree_map(lambda *leaves: jnp.concatenate(leaves)[: cases * n], *ends)
    samples = jtu.tree_map(lambda leaf: leaf.reshape((cases, n, *leaf.shape[1:])), samples)
    every = whole and eqx.tree_equal(saveat, dfx.SaveAt(t0=True, steps=True)) is True and validate.is_concrete(ts)
    warn_of_non_finite(all_of_it, samples, "case", np.asarray(ts) if every else None, axes=2)
    return samples


def _warn_of_other_coefficients(equation: SDE[Reverse]) -> None:
    for coefficient, score in scores(equation):
        if isinstance(coefficient, int | float) and coefficient != 2:
            warnings.warn(
                f"`{equation}` samples no posterior: the reverse-time SDE has coefficient 2 (C = 2), and here "
                f"{score!r} has {coefficient:g}. Write `-P + 2*s + g`; or call `solve` where you want this process.",
                stacklevel=3,
            )
