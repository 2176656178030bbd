"""A network between the data's own moments: no scale, unit or origin is left for the user to set.

    net(t, x) = B⁻¹ [ -(c - B m)/v + a F(u, z)/s ],    c = B x,    z = b((x - m)/σ),    s = min(√v, √(Q/10))

with the mean m(t) and the variance v(t) of the trajectories, component by component or mode by mode of a basis B, and Q
the variance that noise adds over the whole time. The first term is the score of the Gaussian with these moments; of 2
to 64 components it has their correlations too, -C⁻¹(x - m), of which what is written here is stated as the linear part.
What is driven is correlated with what drives it, as position is with velocity: an oscillator's posterior variance is
1.15 of exact where a network has to learn that, and 1.02 where the data tell it.

The remainder's network F sees states in units of their components' deviations σ, bounded by b(z) = 4 tanh(z/4), and the
clock u of the data from 0 to 1; an error in F moves every component's or mode's posterior by as many of its deviations,
whatever its scale; and a is 0 at the start.

Of a field, F sees the field and not its modes each in its own unit, as it returns them: what physics does to a field, a
product say, is local there, and in whitened modes lost among short waves that are nothing but noise. Of
Kuramoto-Sivashinsky, whitened inputs leave the mean off by .76 where these leave .16.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from .._types import Args, RealScalarLike, State
from ..equation._fixed import Fixed
from ..equation._linear import AbstractLinear, Diagonal, is_part
from ..learning._counted import Counted, in_memory
from ..learning._moments import Moments, Scales, moments, warn_of_rounding
from ..learning._perturbed import Perturbed
from ..learning._starts import warn_of_a_wide_start

__all__ = ["Whitened"]

# Inputs are bounded there, in deviations; and beyond the box by this share of its half width nothing is known.
_BOUND, _FADE = 4.0, 0.25
# After a narrow start the score is larger than 1/√Q: on the toy a remainder in units of 1/√(Q/10) is learned better
# (score error .13 against .16, four seeds), and in those of 1/√(Q/100) as well.
_EARLIER = 10.0
# Between these a mode passes from one reference to the other: shares of the balance, exponents of growth and of decay,
# and of the change of the variance since the start.
_DAMPED, _HELD, _KEPT, _CHANGED = (0.8, 0.95), (1.5, 0.5), (10.0, 3.0), (0.15, 0.5)


class Whitened(eqx.Module):
    """A network for scores of any scale: between the mean and the deviation of the data, around their Gaussian.

    Whatever the components' sizes, the unit and the origin of time, the network inside sees numbers of order one and
    has to return numbers of order one. It states its linear part, so exponential solvers can use it. As the score
    `Score(net, g, around=D)` it leaves the Gaussian out: then the remainder is counted from 2D/g².

    **The guard.** Outside of the box that the trajectories visited at t (the smallest and the largest of each
    component, fading in over a quarter of its half width) no network knows the score, and a physics that runs backwards
    may explode. There the equation runs its physics forward in both directions of time, in components that it would
    otherwise carry further out, so that no draw stays far out where the physics confines. Inside nothing changes.
    States of a deterministic system are confined by no balance of dissipation and noise: of `Perturbed` trajectories
    there is no guard unless it is asked for.

    Args:
        net: any network called `(t, x, args)` on one state, with scales of its own left at 1: `MLP`, `ResNet`, ...
        paths: the trajectories to train on, at least 16; of a deterministic system `Perturbed`. Of `StoredPaths` as
            many are read as fit in 256 MB, evenly spread.
        basis: what the moments are taken in: a function from one state to an operator in the basis. Default: component
            by component, with the correlations of up to 64 in one array. `sx.Fourier.like` for periodic fields, mode by
            mode, `lambda x: sx.Fourier.like(x, axes=(0, 1))` with channels.
        guard: whether there is one; False runs the equation as it is outside of the data too.

    Raises:
        TypeError: paths that are no `Trajectories`: of `FreshPaths`, simulate some; a basis that is no such function.
        ValueError: fewer than 16 trajectories, or a basis that does not fit the state.

    Warns:
        UserWarning: components or modes whose variance falls to less than a third within the first step: finer steps
            there.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(jnp.array([1e-3, 1e3]))
    >>> x0 = jnp.array([[1e-3, 1e3]]) * jax.random.normal(jax.random.key(0), (64, 2))
    >>> paths = sx.simulate(P + g, x0, jnp.linspace(0.0, 1.0, 11), key=jax.random.key(1))
    >>> net = sx.nn.Whitened(sx.nn.MLP(shape=(2,), key=jax.random.key(2)), paths)
    >>> s = sx.Score(net, g)
    """

    net: Callable[..., Any]
    gain: Float[Array, ""]
    bases: Fixed
    scales: Fixed
    guard: bool = eqx.field(static=True)

    def __init__(
        self,
        net: Callable[..., Any],
        paths: Counted,
        *,
        basis: Callable[[Array], AbstractLinear] = Diagonal.like,
        guard: bool | None = None,
    ):
        if not isinstance(paths, Counted):
            raise TypeError(
                f"`Whitened` takes its scales from `Trajectories`; got {type(paths).__name__}. Simulate some: "
                "`sx.simulate(P + g, x0, ts, key=key)`."
            )
        known = in_memory(paths)
        one = jtu.tree_map(lambda leaf: jnp.asarray(leaf[0, 0]), known.x)
        bases = jtu.tree_map(lambda x: _checked(basis, x), one)
        self.net = net
        tables = jtu.tree_map(lambda x, L: moments(known, jnp.asarray(x), L), known.x, bases)
        self.scales = Fixed(tables)
        for table in jtu.tree_leaves(tables, is_leaf=_is_moments):
            warn_of_a_wide_start(table, known.ts)
            warn_of_rounding(table)
        self.bases = Fixed(bases)
        self.gain = jnp.zeros((), jnp.result_type(*jtu.tree_leaves(one)))
        # Smoke where none of the trajectories had any would be held there: what flows in runs in again, at every step.
        self.guard = not isinstance(paths, Perturbed) if guard is None else guard

    def __call__(self, t: RealScalarLike, x: State, args: Args = None) -> State:
        """The score: the Gaussian's and the remainder."""
        self._check(x)
        here = self._here(t)
        return jtu.tree_map(jnp.add, self._map(_gaussian, here, x), self._remainder(t, here, x, args))

    def remainder(
        self, t: RealScalarLike, x: State, args: Args = None, balance: PyTree[AbstractLinear] = None
    ) -> State:
        """What the network adds to another reference; to one whose linear part is `balance` x, the Gaussian's rest too.

        The rest makes the reference the Gaussian of the data in each mode where that needs no dissipation to hold it.
        """
        self._check(x)
        here = self._here(t)
        added = self._remainder(t, here, x, args)
        if balance is None:
            return added

        def with_rest(L: AbstractLinear | None, B: Any, table: Moments, a: Array, here: Scales, x: Array) -> Array:
            if L is None:
                return a
            center = _share(table, here, B.rates) * jnp.where(jnp.isfinite(B.rates), B.rates, 0)
            return a + L(x - here.mean) - L.with_rates(center.astype(L.rates.dtype))(here.mean)

        more = self.more(t, balance)
        return jtu.tree_map(with_rest, more, balance, self.scales(), added, here, x, is_leaf=is_part)

    def more(self, t: RealScalarLike, balance: PyTree[AbstractLinear]) -> PyTree[AbstractLinear]:
        """What the Gaussian pulls more than other operators, one for each array, in modes that are counted from it."""

        def rest(own: AbstractLinear, table: Moments, here: Scales, other: AbstractLinear | None) -> Any:
            if other is None or type(own) is not type(other) or own.alike != other.alike:
                return None
            share = _share(table, here, other.rates)
            more = jnp.where(share > 0, share * (-_inverse(here.variance) - other.rates), 0)
            towards = _pull(own, -share * _inverse(here.variance), here)  # with D's own, which is about 0
            return towards.with_rates(more.astype(own.rates.dtype))

        return self._map(rest, self.scales(), self._here(t), balance)

    def _remainder(self, t: RealScalarLike, here: Any, x: State, args: Args) -> State:
        def bounded(L: AbstractLinear, here: Scales, x: Array) -> Array:
            del L  # what is seen are components, whatever the basis of the scales
            return _BOUND * jnp.tanh((x - here.mean) * _inverse(jnp.sqrt(here.spread)) / _BOUND)

        def scale(L: AbstractLinear, here: Scales, F: Array) -> Array:
            narrow = jnp.sqrt(jnp.minimum(here.variance, here.noise / _EARLIER))
            return L.with_rates(self.gain.astype(F.dtype) * _inverse(narrow))(F)

        clock = jtu.tree_leaves(self.scales.value, is_leaf=_is_moments)[0].clock(t)
        return self._map(scale, here, self.net(clock, self._map(bounded, here, x), args))

    def linear(self, t: RealScalarLike) -> PyTree[AbstractLinear]:
        """The Gaussian's part, as an operator with its offset; of a state that is a tree, one for each array."""
        return self._map(lambda L, here: _pull(L, -_inverse(here.variance), here), self._here(t))

    def outside(self, t: RealScalarLike, x: State) -> State | None:
        """How far out of the data each component is, -1 below, 0 inside, 1 above; None where there is no guard."""
        if not self.guard:
            return None

        def beyond(L: AbstractLinear, here: Scales, x: Array) -> Array:
            reach = jnp.sqrt(here.reach)
            away = (jnp.abs(x - here.center) - reach) * _inverse(_FADE * reach)
            return jnp.where(reach > 0, jnp.sign(x - here.center) * jnp.clip(away, 0, 1), 0)

        return self._map(beyond, self._here(t), x)

    def _check(self, x: State) -> None:
        """Raise where a state is not like those that the moments are of."""
        trees = jtu.tree_structure(self.bases.value, is_leaf=_is_basis), jtu.tree_structure(x)
        if trees[0] != trees[1]:
            raise TypeError(
                f"`Whitened` was made from trajectories whose states are {trees[0]}; got one state that is {trees[1]}. "
                "Give states like those, or make it anew from these."
            )
        tables = jtu.tree_leaves(self.scales.value, is_leaf=_is_moments)
        made, got = [table.mean.shape[1:] for table in tables], [jnp.shape(leaf) for leaf in jtu.tree_leaves(x)]
        if made != got:
            one = len(made) == 1
            raise ValueError(
                f"`Whitened` was made from trajectories whose states have shape {made[0] if one else made}; got one "
                f"state of shape {got[0] if one else got}. Give states like those, or make it anew from these."
            )

    def _here(self, t: RealScalarLike) -> Any:
        """The scales at t of each array of the state."""
        return jtu.tree_map(lambda table: table.at(t), self.scales(), is_leaf=_is_moments)

    def _map(self, f: Callable[..., Any], here: Any, *states: State) -> Any:
        """f(basis, scales, array, ...) of each array of the state."""
        return jtu.tree_map(f, self.bases(), here, *states, is_leaf=_is_basis)


def _pull(L: AbstractLinear, rates: Array, here: Scales) -> AbstractLinear:
    """A linear pull towards the mean: the rates, and what they make of it."""
    rates, mean = rates.astype(L.rates.dtype), L.to_basis(here.mean)
    return L.with_rates(rates).with_offset(-rates.astype(mean.dtype) * mean)


def _gaussian(L: AbstractLinear, here: Scales, x: Array) -> Array:
    """The score of the Gaussian with these moments."""
    away = x - here.mean
    alone = L.with_rates(-_inverse(here.variance))(away)
    if here.coupling is None:
        return alone
    scale = _inverse(jnp.sqrt(here.variance))
    return alone - scale * (here.coupling.astype(away.dtype) @ (scale * away).ravel()).reshape(away.shape)


def _share(table: Moments, here: Scales, balance: Array) -> Array:
    """How far each mode is counted from the data's Gaussian and not from the balance 2λ/g²: 1 to 0.

    Backwards the Gaussian has the rate |λ| - g²/v, the balance -|λ|. A mode is counted from the Gaussian where the two
    hardly differ; or where what it grows by over all times, ∫ (|λ| - g²/v)₊ dt, is a factor that a network can hold,
    and v is that of its start: it has not forgotten that, ∫ |λ| dt, or v changes from there on. A v that stays what it
    is, of a mode that has long forgotten, and is not the balance's, is that of what drives it: of Kuramoto-
    Sivashinsky's tenth wave, with g²/v at .6 of 2|λ|, the Gaussian's damping would leave 2.2 times the spread.
    """
    pull = _inverse(here.variance)
    balance = jnp.broadcast_to(balance, pull.shape)
    least = jnp.where(balance < 0, -balance, 1)
    by_rate = _between(pull / least, _DAMPED)
    widths = jnp.diff(table.times) / (table.times[-1] - table.times[0])
    weights = (0.5 * (jnp.pad(widths, (0, 1)) + jnp.pad(widths, (1, 0)))).astype(table.variance.dtype)
    growing = jnp.maximum(least[None] / 2 - _inverse(table.variance), 0)
    growth = table.noise * jnp.tensordot(weights, growing, axes=1)
    average = jnp.tensordot(weights, table.variance, axes=1)
    change = jnp.abs(jnp.log(table.variance[0] * _inverse(average)))
    started = jnp.maximum(_between(table.noise * least / 2, _KEPT), _between(change, _CHANGED))
    young = jnp.minimum(_between(growth, _HELD), started)
    noisy = jnp.isfinite(balance)
    return jnp.where(balance < 0, jnp.where(noisy, jnp.maximum(by_rate, jnp.where(noisy, young, 0)), 0), 1)


def _between(x: Array, ends: tuple[float, float]) -> Array:
    """From 0 at the first of two numbers to 1 at the other."""
    return jnp.clip((x - ends[0]) / (ends[1] - ends[0]), 0, 1)


def _inverse(x: Array) -> Array:
    """1/x, and 0 where x is: what does not vary has no scale, and no part in a score."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _checked(basis: Any, x: Array) -> AbstractLinear:
    """The operator in the basis for one array of the state, or an error that says what a basis is."""
    mend = "write `sx.Fourier.like`, of channels `lambda x: sx.Fourier.like(x, axes=(0, 1))`."
    if isinstance(basis, AbstractLinear) or not callable(basis):
        raise TypeError(
            "`Whitened(basis=...)` needs a function from one state to an operator in the basis; got "
            f"{'an operator' if isinstance(basis, AbstractLinear) else type(basis).__name__}: {mend}"
        )
    try:
        made = basis(x)
        if not isinstance(made, AbstractLinear):
            raise TypeError(f"it returns {type(made).__name__}, which is no operator")
        jax.eval_shape(made, x)
    except (IndexError, TypeError, ValueError) as error:
        # Not `type(error)`: errors of JAX's own classes are not made of a sentence.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        why = str(error).removesuffix(".")
        raise kind(f"`Whitened(basis=...)` does not fit states of shape {x.shape}: {why}. For it {mend}") from error
    return made


def _is_basis(leaf: Any) -> bool:
    return isinstance(leaf, AbstractLinear)


def _is_moments(leaf: Any) -> bool:
    return isinstance(leaf, Moments)
