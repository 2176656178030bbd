"""Which reference a score should be counted from, measured: how a linear error grows backwards in time.

With the physics' own linear rate of a mode, λ_k(t) = E ∂P_k/∂c_k over the states of the trajectories at t, c = B x,

    around the data's Gaussian    dc/dτ = (-λ_k - g²/v_k) c      (-(x - m)/v as the score)
    around the dissipation        dc/dτ = λ_k c                  (2P/g²)

before anything is learned. Where the integral of a rate over a stretch of the reverse solve is large and positive, what
the network does not know is multiplied by its exponential.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._types import Args, RealScalarLike, State
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._conditions import first_row, map_rows
from ..equation._diffusion import Diffusion
from ..equation._linear import AbstractLinear, Diagonal, is_part
from ..equation._score import Score, unrecorded
from ..solving import _validate as validate
from ..solving._terms import over_samples
from ._counted import Counted, in_memory
from ._moments import Moments, moments
from ._nodes import at_nodes
from ._trajectories import Trajectories
from ._worst import worst_of, worst_of_tree

__all__ = ["ReferenceReport", "check_references", "warn_of_growth", "warn_of_no_balance"]

# An error of rounding, e^-16 in single precision, reaches the size of the state.
_TOO_MUCH = 20.0
# Products of a state with the drift's derivative, at one time.
_PRODUCTS, _MOST_STATES = 2**14, 64
# A mean of 2D/g² at the end, where that of a score is 0: in the states' deviations, and beside D's own deviation.
_FAR, _BESIDE, _ENDS = 10.0, 0.5, 256


class ReferenceReport(eqx.Module):
    """What `check_references` measured: numbers of factors of e, one for each component or mode.

    Of states that are trees each is a tree of arrays like them.

    Attributes:
        gaussian: the largest growth, over any stretch of the reverse solve, of an error around the data's Gaussian.
        around: the same around the dissipation, `Score(net, g, around=P)`; of a mode that decays it is 0.
        forgotten: how many factors of e the mode's own linear decay takes over the whole time, ∫ -λ dt. Well above 1:
            the mode is relaxed, and the dissipation is its reference. Well below: it remembers its start.
    """

    gaussian: PyTree[Float[np.ndarray, "..."]]
    around: PyTree[Float[np.ndarray, "..."]]
    forgotten: PyTree[Float[np.ndarray, "..."]]

    def __repr__(self) -> str:
        forgotten = _numbers(self.forgotten)
        return (
            f"around the Gaussian of the data {_worst(self.gaussian)}; around the dissipation {_worst(self.around)}; "
            f"{int((forgotten > 1).sum())} of {forgotten.size} modes have forgotten their start. (`around` "
            "takes the part of the physics that relaxes, `P = A + D` and `around=D`, with what it relaxes to: a decay "
            "and its source together.)"
        )


def _worst(growth: PyTree[np.ndarray]) -> str:
    (most, name), numbers = worst_of_tree(growth), _numbers(growth)
    if most < 1:
        return "nothing grows"
    place = f", most of all mode {name}" if numbers.size > 1 else ""
    return f"errors grow up to e^{most:.1f} ({int((numbers > 1).sum())} of {numbers.size} modes{place})"


def _numbers(tree: PyTree[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jtu.tree_leaves(tree)])


def check_references(
    process: SDE[Forward],
    paths: Counted,
    *,
    basis: Callable[[Array], AbstractLinear] = Diagonal.like,
) -> ReferenceReport:
    """Measure, component by component or mode by mode, around which reference a score is stable backwards in time.

    Two references are known before anything is learned, that of `nn.Whitened` (the Gaussian of the data) and the
    dissipation (`Score(net, g, around=D)`). Around the wrong one, what the network does not know yet is multiplied by
    exponentials; growth beyond a few factors of e is more than a remainder can be asked to hold.

    Args:
        process: the forward process, `P + g`.
        paths: trajectories of it, at least 16; each may have times and conditions of its own. Of a store, as
            `nn.Whitened` takes them.
        basis: what is counted: a function from one state to an operator in the basis, as `nn.Whitened` takes it; of
            states that are trees components alone.

    Returns:
        A `ReferenceReport`.

    Raises:
        TypeError: a process without noise, or in reverse; a basis for states that are trees; within `jax.jit`.
        ValueError: fewer than 16 trajectories.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: jnp.array([-30.0, -0.1]) * x), sx.Diffusion(1.0)
    >>> x0 = jax.random.normal(jax.random.key(0), (200, 2))
    >>> paths = sx.simulate(P + g, x0, jnp.linspace(0.0, 1.0, 101), key=jax.random.key(1))
    >>> report = sx.check_references(P + g, paths)
    >>> report.forgotten.round(1).tolist()
    [30.0, 0.1]
    """
    if not isinstance(process, SDE) or process.direction is not Forward:
        raise TypeError(f"`check_references` needs the forward process, `P + g`; got `{process}`.")
    validate.check_concrete("check_references", process, paths)
    data = in_memory(paths)
    x, shaped = data.x, lambda values: values
    if jtu.tree_structure(x) != jtu.tree_structure(0):
        if basis != Diagonal.like:
            raise TypeError("`check_references` counts components of states that are trees: leave `basis` out.")
        process, x, shaped = _raveled(process, x)
    x = jnp.asarray(x)
    L = basis(x[0, 0])
    table = moments(data, x, L)
    states, _, ts, steps = at_nodes(data, x, L)
    few = max(1, min(len(x), _MOST_STATES, _PRODUCTS // L.rates.size))
    finite = np.isfinite(np.asarray(states)).reshape(*states.shape[:2], -1)
    known = [np.flatnonzero(row.all(axis=1)) for row in finite]
    some = np.stack([rows[np.rint(np.linspace(0, len(rows) - 1, few)).astype(int)] for rows in known])
    each = _at_each_node(process, L, table, ts, steps, states, some, data.args)
    own, g2, v = (np.asarray(values) for values in each)
    if L.alike:  # a basis of waves mixes what is alike
        g2 = np.mean(g2, axis=tuple(range(1, g2.ndim)), keepdims=True)
    gaussian = -own - np.where(v > 0, g2 / np.where(v > 0, v, 1), 0)
    forgotten = np.asarray(np.trapezoid(-own, ts, axis=0))
    return ReferenceReport(*map(shaped, (_growth(ts, gaussian), _growth(ts, own), forgotten)))


class _Raveled(AbstractDrift[Forward]):
    """A drift of trees as one of arrays, with the numbers of all of their arrays one after the other."""

    drift: AbstractDrift
    unravel: Callable[[Array], State] = eqx.field(static=True)

    @property
    def direction(self) -> type[Forward]:
        return Forward

    def rate(self, t: RealScalarLike, x: State, args: Args) -> State:
        return ravel_pytree(self.drift.rate(t, self.unravel(x), args))[0]

    def increment(self, t: RealScalarLike, x: State, dt: RealScalarLike, args: Args) -> State:
        return ravel_pytree(self.drift.increment(t, self.unravel(x), dt, args))[0]


class _RaveledNoise(eqx.Module):
    """The noise of trees as that of such arrays."""

    g: Diffusion
    one: State

    def __call__(self, t: RealScalarLike, args: Args) -> Array:
        return ravel_pytree(self.g.like(t, self.one, args))[0]


def _raveled(process: SDE, x: State) -> tuple[SDE, Array, Callable[[np.ndarray], State]]:
    """A process of trees, and its trajectories, as those of arrays; and how a number for each component is a tree."""
    one = jtu.tree_map(lambda leaf: jnp.asarray(leaf[0, 0]), x)
    leaves, tree = jtu.tree_flatten(one)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def shaped(values: np.ndarray) -> State:
        parts = zip(np.split(values, ends), leaves, strict=True)
        return jtu.tree_unflatten(tree, [part.reshape(leaf.shape) for part, leaf in parts])

    drift = _Raveled(process.drift, ravel_pytree(one)[1])
    flat = jax.vmap(jax.vmap(lambda x: ravel_pytree(x)[0]))(x)
    return SDE(drift, Diffusion(_RaveledNoise(process.diffusion, one))), flat, shaped


@eqx.filter_jit
def _at_each_node(
    process: SDE,
    L: AbstractLinear,
    table: Moments,
    ts: Array | np.ndarray,
    steps: Array | np.ndarray,
    states: Array,
    some: Array | np.ndarray,
    args: Args,
) -> tuple[Array, Array, Array]:
    """The drift's own rates, the noise's square, and the data's variance, the nodes in front."""

    def at(node: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array]:
        t, step, of_all, index = node
        x, own_args = of_all[index], map_rows(lambda leaf: leaf[index], args)
        own = _own_rate(process.drift, L, t, x, step, own_args)
        return own, _mean_square(process.diffusion, t, x, own_args), table.at(t).variance

    return jax.lax.map(at, (jnp.asarray(ts, states.dtype), jnp.asarray(steps, states.dtype), states, some))


def _mean_square(noise: Diffusion, t: Array, x: Array, args: Args) -> Array:
    """The mean of g² over states, each with its own conditions."""
    return jnp.mean(over_samples(lambda x, args: noise.like(t, x, args) ** 2, args, x), axis=0)


def _own_rate(drift: AbstractDrift, L: AbstractLinear, t: Array, x: Array, dt: Array, args: Args) -> Array:
    """The diagonal of the drift's derivative in the basis, the mean over states: one product for each mode."""

    def of_mode(k: Array) -> Array:
        coefficients = L.to_basis(x[0])
        one = (jnp.arange(coefficients.size) == k).reshape(coefficients.shape).astype(coefficients.dtype)
        w = L.from_basis(one, x[0])
        own = jnp.sum(jnp.abs(one * L.to_basis(w)))

        def of_state(x: Array, args: Args) -> Array:
            _, change = jax.jvp(lambda x: drift.increment(t, x, dt, args), (x,), (w,))
            return jnp.sum(jnp.real(one * L.to_basis(change)))

        return jnp.mean(over_samples(of_state, args, x)) / (dt * own)

    modes = L.rates.size
    return jax.lax.map(of_mode, jnp.arange(modes), batch_size=min(modes, 64)).reshape(L.rates.shape)


def _growth(ts: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The largest integral of each rate over a stretch of the times, at least 0."""
    pieces = (0.5 * (rates[1:] + rates[:-1]).T * np.diff(ts)).T
    best = here = np.zeros(rates.shape[1:])
    for piece in pieces:
        here = np.maximum(here + piece, 0)
        best = np.maximum(best, here)
    return np.asarray(best)


def warn_of_growth(equation: AbstractDrift | SDE, times: tuple[float, float], args: Any) -> None:
    """Warn where the stated linear part of a reverse equation grows by more than rounding can stand."""
    ts = np.linspace(*times, 17)
    try:
        drift = equation.drift if isinstance(equation, SDE) else equation
        rates = _stated_rates(unrecorded(drift), ts, args)
    except TypeError:  # a linear part that has no number here is the solver's business
        return
    if not validate.is_concrete(rates):
        return
    for rate in rates:
        growth = _growth(ts, np.asarray(rate, np.float64))
        if growth.max() <= _TOO_MUCH:
            continue
        warnings.warn(
            f"`{equation}` is under-damped: its linear part alone grows by e^{growth.max():.0f} over the solve (mode "
            f"{worst_of(growth)[1]}; more than e^{_TOO_MUCH:.0f} in {int((growth > _TOO_MUCH).sum())} of "
            f"{growth.size}), and what the network does not know grows with it. Count the score around the dissipation "
            "of these modes: `P = A + D` and `Score(net, g, around=D)`; `sx.check_references(P + g, paths)` measures "
            "it.",
            stacklevel=4,
        )


def warn_of_no_balance(score: Score, paths: Trajectories) -> None:
    """Warn where the dissipation that a score is counted from does not vanish, on average, where trajectories end.

    E ∇log p = 0 at any time. A decay without the source that feeds it draws states to where none are, and all of that
    is left for the network to undo.
    """
    D = score.around
    if D is None or not D.has_rate:
        return
    some = paths[:_ENDS]
    means, devs, noises = _of_dissipation(D, score.g, some.end, jnp.asarray(paths.span()[1]), some.args)

    def off_by(*values: Array) -> np.ndarray:
        x, mean, dev, g2 = (np.asarray(each, np.float64) for each in values)
        off = 2 * np.abs(mean) / np.where(g2 > 0, g2, np.inf) * np.std(x, axis=0)
        return np.where(np.abs(mean) > _BESIDE * dev, off, 0)

    off = jtu.tree_map(off_by, some.end, means, devs, noises)
    most, name = worst_of_tree(off)
    if most <= _FAR:
        return
    place = f" of component {name}" if name else ""
    warnings.warn(
        f"`{score!r}` is counted around {D!r}, which does not vanish where the trajectories end: there the mean"
        f"{place} of 2{D!r}/g², where a score's is 0, is {most:.0f} times the size of a score, and the "
        "network has to undo it. What relaxes needs what it relaxes to: a decay and its source both belong in D, "
        "all of the physics if it must be (`around=P`); where it moves on even so, leave `around` out.",
        stacklevel=4,
    )


@eqx.filter_jit
def _of_dissipation(D: AbstractDrift, g: Diffusion, x: Any, t: Array, args: Args) -> tuple[Any, Any, Any]:
    """Mean and deviation of D over states, and the mean of g²."""
    t = t.astype(validate.widest(x))
    rates = over_samples(lambda x, args: D.rate(t, x, args), args, x)
    noises = over_samples(lambda x, args: jtu.tree_map(jnp.square, g.like(t, x, args)), args, x)
    over = lambda f, tree: jtu.tree_map(lambda leaf: f(leaf, axis=0), tree)  # noqa: E731
    return over(jnp.mean, rates), over(jnp.std, rates), over(jnp.mean, noises)


@eqx.filter_jit
def _stated_rates(drift: AbstractDrift, ts: Array | np.ndarray, args: Args) -> list[Array]:
    """The rates of the stated linear part, the times in front: of each array of the state that has one."""

    def at(t: Array) -> list[Array]:
        linear = drift.linear(t, first_row(args))
        return [L.rates for L in jtu.tree_leaves(linear, is_leaf=is_part) if L is not None]

    return jax.lax.map(at, jnp.asarray(ts))
