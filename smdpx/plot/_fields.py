"""Trajectories, functions of (t, x), and curves against an exact one, for scalar states."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

POSITIVE, NEGATIVE, EXACT = "#b2182b", "#2166ac", "#222222"


def paths(axes: Any, ts: ArrayLike, x: ArrayLike, *, most: int = 60, colour_by: int = -1) -> None:
    """Trajectories of a scalar state over time, coloured by the sign of one of their states.

    Args:
        axes: matplotlib axes.
        ts: times, shape (times,).
        x: trajectories, shape (trajectories, times).
        most: how many to draw at most.
        colour_by: the index in time whose sign colours a trajectory.

    Raises:
        TypeError: an x that is no array, `Trajectories` say.
        ValueError: states of several components, or another number of times.
    """
    if not isinstance(x, jax.Array | np.ndarray | list | tuple):
        mend = " Write `plot.paths(axes, paths.ts, paths.x)`." if hasattr(x, "ts") else ""
        raise TypeError(f"`x` must be an array of shape (trajectories, times); got {type(x).__name__}.{mend}")
    x = np.asarray(x)[:most]
    if x.ndim != 2 or np.shape(ts) != x.shape[1:]:
        several = x.ndim > 2 and np.shape(ts) == x.shape[1:2]
        mend = "one component, `x[..., 0]`" if several else "`ts` of shape (times,), and then `x`"
        raise ValueError(
            f"`x` must have shape (trajectories, times), scalar states at the times `ts`; got `ts` of shape "
            f"{np.shape(ts)} and `x` of shape {x.shape}: give {mend}."
        )
    for path in x:
        axes.plot(ts, path, lw=0.6, alpha=0.6, color=POSITIVE if path[colour_by] > 0 else NEGATIVE)
    axes.set(xlabel="t", ylabel="x", xlim=(np.min(ts), np.max(ts)))


def field(
    axes: Any,
    f: Callable[[Any, Any, Any], Any],
    ts: ArrayLike,
    xs: ArrayLike,
    *,
    limit: float,
    linear: float | None = None,
    density: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """A function f(t, x, args) as colours, symmetric about zero.

    Args:
        axes: matplotlib axes.
        f: the function of one state, a score for instance.
        ts: times, shape (m,).
        xs: states, shape (n,).
        limit: the value at the ends of the colour scale.
        linear: the scale is logarithmic beyond this size; None for linear throughout.
        density: log p_t(x); what lies below the maximum of its time by more than 12 is left blank,
            since no data ever saw it.

    Returns:
        The image, for a colour bar.
    """
    from matplotlib import colors

    t, x = jnp.asarray(ts, float), jnp.asarray(xs, float)
    values = np.array(_over(f, t, x, None))
    if density is not None:
        log_p = np.asarray(_over(density, t, x))
        values[log_p < log_p.max(axis=1, keepdims=True) - 12] = np.nan
    norm = colors.Normalize(-limit, limit) if linear is None else colors.SymLogNorm(linear, vmin=-limit, vmax=limit)
    image = axes.pcolormesh(ts, xs, values.T, cmap="RdBu_r", norm=norm, shading="nearest", rasterized=True)
    axes.set(xlabel="t", ylabel="x", facecolor="#eeeeee")
    return image


@eqx.filter_jit
def _over(f: Callable[..., Any], t: jax.Array, x: jax.Array, *rest: None) -> jax.Array:
    """The function at every time and state: networks of one structure share a program."""
    return jax.vmap(jax.vmap(lambda t, x: f(t, x, *rest), (None, 0)), (0, None))(t, x)


def curve(axes: Any, x: ArrayLike, learned: Sequence[ArrayLike], exact: ArrayLike, *, label: str = "") -> None:
    """Several learned curves, one a seed, against the exact one.

    Args:
        axes: matplotlib axes.
        x: abscissae, shape (n,).
        learned: curves of shape (n,).
        exact: the exact curve, shape (n,).
        label: what the learned ones are called.
    """
    for i, y in enumerate(learned):
        axes.plot(x, y, ".-", ms=4, lw=0.7, alpha=0.8, color=POSITIVE, label=label if i == 0 else None)
    axes.plot(x, exact, color=EXACT, lw=1.4, label="exact")
    axes.legend(frameon=False)
