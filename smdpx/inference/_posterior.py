"""Samples of what could have led to an end state: the reverse-time SDE, C = 2 (arXiv:2301.10250, eq 9)."""

import warnings
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from .._types import Args, Key, State
from ..equation._algebra import SDE, Reverse
from ..equation._conditions import first_row, map_rows
from ..equation._diffusion import Diffusion
from ..equation._drift import ReverseDrift
from ..equation._score import scores
from ..learning._progress import logger
from ..learning._sharding import pieces, take
from ..solving import _validate as validate
from ..solving._failing import said_at_the_end
from ..solving._finite import first_few, warn_of_explosions
from ..solving._options import whole_number
from ..solving._solve import plainly, solved
from ._ends import check_ends

__all__ = ["posterior"]

# How many numbers the largest array of a chunk may hold: 64 MiB in single precision.
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

    The draws are on axis 0, as NumPyro, PyTorch's distributions and sbi have it, and as `smdpx.metrics` wants them:
    their means are `samples.mean(axis=0)`, and `samples[:, i]` is one case.

    Args:
        equation: a reverse `SDE`, `-P + 2*s + g`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        n: samples a case, at least 1.
        key: a JAX key.
        args: handed to every callable untouched.
        solver: a diffrax SDE solver. Default: as `solve`, `diffrax.Heun()` where drifts have rates.
        stepsize_controller: see `solve`.
        saveat: `diffrax.SaveAt(t1=True)` (default) for end points, `diffrax.SaveAt(t0=True, steps=True)` for whole
            trajectories.
        chunk: how many samples to solve at once, which bounds the memory. Default: as many as hold 2²⁴ numbers (64 MiB
            in single precision), where a sample holds what is saved of it, or the largest array that its drift, network
            included, computes. The noise depends on `key` and on `chunk`.

    Returns:
        Samples of shape (n, cases, ...) at ts[-1]; with another `saveat`, (n, cases, times, ...).

    Raises:
        ValueError: end states that are not finite (which case), none at all, or one state without the axis of cases; n
            or chunk below 1; and as `solve`.
        TypeError: an equation without noise, or one that runs forward; an n that is no integer.

    Warns:
        NonFiniteWarning: samples that are not finite, or beyond 10⁴ times both the median sample and the largest of xT:
            how many, of which cases, and (of whole trajectories) from what time on. `finite` leaves them out and counts
            them: to leave out what exploded without a word makes intervals too narrow.
        UserWarning: no score, a score's coefficient that is not 2, or a noise that is not the score's own g: with these
            nothing is a posterior.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x, g)
    >>> sx.posterior(-P + 2 * s + g, jnp.zeros(4), [1.0, 0.5, 0.0], 10, key=jax.random.key(0)).shape
    (10, 4)
    """
    if not isinstance(equation, SDE):
        raise TypeError(
            f"`posterior` samples an SDE; `{equation}` has no noise and would give {n} equal copies. "
            "Write `-P + 2*s + g`, or call `point_estimate`."
        )
    if equation.direction is not Reverse:
        raise TypeError(
            f"`posterior` samples what led to an end state, and `{equation}` runs forward: write `-P + 2*s + g`; or "
            "call `solve` or `simulate` for what follows from a state."
        )
    validate.check_is_key(key)
    n = whole_number("n", n)
    xT, numbers = check_ends(equation, xT, args)
    validate.check_times(ts, equation)
    _warn_of_no_posterior(equation, xT, ts, args)
    keep = "end" if saveat is None else plainly(saveat)
    cases = jtu.tree_leaves(xT)[0].shape[0]
    if chunk is None:
        saved = sum(leaf.size for leaf in jtu.tree_leaves(xT)) // cases * (1 if keep == "end" else len(ts))
        chunk = max(1, _NUMBERS_AT_ONCE // max(saved, numbers, 1))
    chunk = whole_number("chunk", chunk)
    devices = max(pieces(leaf) for leaf in jtu.tree_leaves(xT))
    chunk = max(devices, chunk - chunk % devices)
    size = min(chunk, cases * n + -(cases * n) % devices)
    index = np.repeat(np.arange(cases), n)
    parts, most, left = [], None, []
    for start in range(0, cases * n, chunk):
        # The last chunk is filled up, so that every chunk runs the one compiled program.
        part = index[np.minimum(np.arange(start, start + size), cases * n - 1)]
        x, of_these, outside = solved(
            equation,
            jtu.tree_map(lambda leaf: take(leaf, part), xT),  # noqa: B023
            ts,
            jr.fold_in(key, start),
            map_rows(lambda leaf: take(leaf, part), args),  # noqa: B023
            solver,
            stepsize_controller,
            dfx.SaveAt(t1=True) if keep == "end" else saveat,
        )
        most = of_these if most is None else jtu.tree_map(jnp.maximum, most, of_these)
        parts.append(x)
        left.append(outside)
    samples = _draws_first(parts, cases, n, keep == "end")
    times = np.asarray(ts) if keep == "all" and validate.is_concrete(ts) else None
    said = said_at_the_end(equation, xT, ts, args)
    warn_of_explosions(most, samples, "case", times, like=xT, axes=2, said=said)
    _report_guard(left, cases, n)
    return samples


# Shares of draws outside of the data from which on something is wrong: of all; of one case's; of several cases', and
# what part of all cases these are. Among hundreds of right ones some end at the data's edge.
_MANY_DRAWS, _MOST_OF_A_CASE, _MANY_OF_A_CASE, _MANY_CASES = 0.02, 0.5, 0.1, 0.02
_FAULTS = (
    ": too few trajectories, end states unlike theirs, or a reference that is under-damped (`sx.check_references`)"
)


def _report_guard(left: list[Any], cases: int, n: int) -> None:
    """Say how many draws ever were outside of what the data visited, where physics that confines ran forward."""
    if not validate.is_concrete(left) or any(each is None for each in left):
        return
    out = np.concatenate(jax.device_get(left))[: cases * n].reshape(cases, n)
    if not out.any():
        return
    # A right posterior has such draws too: N trajectories leave out some 2/N of it at each time, and a draw meets many
    # times. A fault shows in many draws, in most of one case, or in many of several; a lone one of few is none.
    of_cases = out.sum(axis=1)
    most = (of_cases > max(1, _MOST_OF_A_CASE * n)).any()
    several = (of_cases > max(1, _MANY_OF_A_CASE * n)).mean() > _MANY_CASES
    many = out.mean() > _MANY_DRAWS or most or several
    logger.info(
        "posterior: %s of %s draws left what the trajectories visited at their time, and physics that would have "
        "carried them on ran forward (cases %s)%s",
        f"{out.sum():,}",
        f"{out.size:,}",
        first_few(np.flatnonzero(out.any(axis=1))),
        _FAULTS if many else "",
    )


@eqx.filter_jit
def _draws_first(parts: list[State], cases: int, n: int, ends: bool) -> State:
    """All chunks as one, (draws, cases, ...); in one program, so that the results are held twice and not four times."""

    def lay(*leaves: Any) -> Any:
        x = jnp.concatenate([leaf[:, -1] if ends else leaf for leaf in leaves])[: cases * n]
        return jnp.swapaxes(x.reshape(cases, n, *x.shape[1:]), 0, 1)

    return jtu.tree_map(lay, *parts)


def _warn_of_no_posterior(equation: SDE[Reverse], xT: State, ts: Any, args: Args) -> None:
    if not any(term.drift.is_score or isinstance(term.drift, ReverseDrift) for term in equation.summands):
        warnings.warn(
            f"`{equation}` samples no posterior: the reverse-time SDE has a score, and here is none. Write "
            "`-P + 2*s + g` with `s = sx.Score(net, g)`; or call `solve` where you want this process.",
            stacklevel=3,
        )
    terms = scores(equation)
    coefficients = [coefficient for coefficient, _ in terms]
    # Of an ensemble the coefficients count together.
    if terms and validate.is_concrete(coefficients) and (total := float(sum(coefficients))) != 2:
        named = f"{terms[0][1]!r} has" if len(terms) == 1 else "its scores together have"
        warnings.warn(
            f"`{equation}` samples no posterior: the reverse-time SDE has coefficient 2 (C = 2), and here "
            f"{named} {total:g}. Write `-P + 2*s + g`; or call `solve` where you want this process.",
            stacklevel=3,
        )
        return
    for _, score in terms:
        if (difference := _other_noise(equation.diffusion, score.g, xT, ts, args)) is not None:
            warnings.warn(
                f"`{equation}` samples no posterior: its noise must be the g of {score!r}, the process's own, and "
                f"{difference}. Write `-P + 2*s + s.g`; or call `solve` where you want this process.",
                stacklevel=3,
            )


def _other_noise(noise: Diffusion, g: Diffusion, xT: State, ts: Any, args: Args) -> str | None:
    """Where two noises differ, at the first or the last time, so far as their values are known."""
    if eqx.tree_equal(noise, g) is True or not validate.is_concrete(ts):
        return None
    leaves = jtu.tree_leaves(xT)
    with jax.ensure_compile_time_eval():  # under the user's jit too, noises that are known are compared
        one = jtu.tree_map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), xT)
        for t in (ts[0], ts[-1]):
            now = jnp.asarray(t, jnp.result_type(*leaves))
            values = [jtu.tree_leaves(each.like(now, one, first_row(args))) for each in (noise, g)]
            if not validate.is_concrete(values):
                return None
            for ours, own in zip(*jax.device_get(values), strict=True):
                apart = np.abs(np.abs(ours) - np.abs(own)) > 1e-5 * np.abs(own)  # its sign has no meaning
                if apart.any():
                    i = np.unravel_index(np.argmax(apart), apart.shape)
                    return f"at t = {float(t):g} it is {float(ours[i]):g}, not {float(own[i]):g}"
    return None
