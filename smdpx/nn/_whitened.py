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
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from .._types import Args, RealScalarLike, State
from ..equation._fixed import Fixed
from ..equation._linear import AbstractLinear, Diagonal, is_part
from ..learning._counted import Counted, in_memory
from ..learning._moments import Moments, Scales, moments

__all__ = ["Whitened"]

# Inputs are bounded there, in deviations; and beyond the box by this share of its half width nothing is known.
_BOUND, _FADE = 4.0, 0.25
# After a narrow start the score is larger than 1/√Q: on the toy a remainder in units of 1/√(Q/10) is learned better
# (score error .13 against .16, four seeds), and in those of 1/√(Q/100) as well.
_EARLIER = 10.0
# Shares of the balance between which a mode passes from it to the data's Gaussian.
_DAMPED = (0.6, 0.8)


class Whitened(eqx.Module):
    """A network for scores of any scale: between the mean and the deviation of the data, around their Gaussian.

    Whatever the components' sizes, the unit and the origin of time, the network inside sees numbers of order one and
    has to return numbers of order one. It states its linear part, so `ExponentialEuler` can use it. As the score
    `Score(net, g, around=D)` it leaves the Gaussian out: then the remainder is counted from 2D/g².

    **The guard.** Outside of the box that the trajectories visited at t (the smallest and the largest of each
    component, fading in over a quarter of its half width) no network knows the score, and a physics that runs backwards
    may explode. There the equation runs its physics forward in both directions of time, so that no draw stays far out
    where the physics confines. Inside nothing changes.

    Args:
        net: any network called `(t, x, args)` on one state, with scales of its own left at 1: `MLP`, `ResNet`, ...
        paths: the trajectories to train on, at least 16; of a deterministic system `Perturbed`. Of `StoredPaths` as
            many are read as fit in 256 MB, evenly spread.
        basis: what the moments are taken in: a function from one state to an operator in the basis. Default: component
            by component, with the correlations of up to 64 in one array. `sx.Fourier.like` for periodic fields, mode by
            mode, `lambda x: sx.Fourier.like(x, axes=(0, 1))` with channels.
        guard: False runs the equation as it is outside of the data too.

    Raises:
        TypeError: paths that are no `Trajectories`: of `FreshPaths`, simulate some.
        ValueError: fewer than 16 trajectories, or a basis that does not fit the state.

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
        guard: bool = True,
    ):
        if not isinstance(paths, Counted):
            raise TypeError(
                f"`Whitened` takes its scales from `Trajectories`; got {type(paths).__name__}. Simulate some: "
                "`sx.simulate(P + g, x0, ts, key=key)`."
            )
        known = in_memory(paths)
        one = jtu.tree_map(lambda leaf: jnp.asarray(leaf[0, 0]), known.x)
        bases = jtu.tree_map(basis, one)
        self.net = net
        self.scales = Fixed(jtu.tree_map(lambda x, L: moments(known, jnp.asarray(x), L), known.x, bases))
        self.bases = Fixed(bases)
        self.gain = jnp.zeros((), jnp.result_type(*jtu.tree_leaves(one)))
        self.guard = guard

    def __call__(self, t: RealScalarLike, x: State, args: Args = None) -> State:
        """The score: the Gaussian's and the remainder."""
        here = self._here(t)
        return jtu.tree_map(jnp.add, self._map(_gaussian, here, x), self._remainder(t, here, x, args))

    def remainder(
        self, t: RealScalarLike, x: State, args: Args = None, balance: PyTree[AbstractLinear] = None
    ) -> State:
        """What the network adds to another reference; to one whose linear part is `balance` x, the Gaussian's rest too.

        The rest makes the reference the Gaussian of the data in each mode where that is damped by itself.
        """
        here = self._here(t)
        added = self._remainder(t, here, x, args)
        if balance is None:
            return added

        def with_rest(L: AbstractLinear | None, B: Any, own: AbstractLinear, a: Array, here: Scales, x: Array) -> Array:
            if L is None:
                return a
            center = _damped(own.rates, B.rates) * jnp.where(jnp.isfinite(B.rates), B.rates, 0)
            return a + L(x - here.mean) - L.with_rates(center)(here.mean)

        more, own = self.more(t, balance), self.linear(t)
        return jtu.tree_map(with_rest, more, balance, own, added, here, x, is_leaf=is_part)

    def more(self, t: RealScalarLike, balance: PyTree[AbstractLinear]) -> PyTree[AbstractLinear]:
        """What the Gaussian pulls more than other operators, one for each array, in the modes where it is damped."""

        def rest(own: AbstractLinear, other: AbstractLinear | None) -> AbstractLinear | None:
            if other is None or type(own) is not type(other) or own.alike != other.alike:
                return None
            share = _damped(own.rates, other.rates)
            return own.with_rates(jnp.where(share > 0, share * (own.rates - other.rates.astype(own.rates.dtype)), 0))

        return jtu.tree_map(rest, self.linear(t), balance, is_leaf=is_part)

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
        """The Gaussian's part, as an operator; of a state that is a tree, one for each array."""
        return self._map(lambda L, here: L.with_rates(-_inverse(here.variance)), self._here(t))

    def outside(self, t: RealScalarLike, x: State) -> State | None:
        """How far out of the data each component is, 0 inside to 1; None where there is no guard."""
        if not self.guard:
            return None

        def beyond(L: AbstractLinear, here: Scales, x: Array) -> Array:
            reach = jnp.sqrt(here.reach)
            away = (jnp.abs(x - here.center) - reach) * _inverse(_FADE * reach)
            return jnp.where(reach > 0, jnp.clip(away, 0, 1), 0)

        return self._map(beyond, self._here(t), x)

    def _here(self, t: RealScalarLike) -> Any:
        """The scales at t of each array of the state."""
        return jtu.tree_map(lambda table: table.at(t), self.scales(), is_leaf=_is_moments)

    def _map(self, f: Callable[..., Any], here: Any, *states: State) -> Any:
        """f(basis, scales, array, ...) of each array of the state."""
        return jtu.tree_map(f, self.bases(), here, *states, is_leaf=lambda leaf: isinstance(leaf, AbstractLinear))


def _gaussian(L: AbstractLinear, here: Scales, x: Array) -> Array:
    """The score of the Gaussian with these moments."""
    away = x - here.mean
    alone = L.with_rates(-_inverse(here.variance))(away)
    if here.coupling is None:
        return alone
    scale = _inverse(jnp.sqrt(here.variance))
    return alone - scale * (here.coupling.astype(away.dtype) @ (scale * away).ravel()).reshape(away.shape)


def _damped(own: Array, balance: Array) -> Array:
    """How far a mode is taken from the data's Gaussian, of rates -1/v, and how far from the balance 2λ/g²: 1 to 0.

    Backwards the Gaussian's rate is |λ| - g²/v, so half of the balance is neutral: there errors do not die.
    """
    low, high = _DAMPED
    ratio = own / jnp.where(balance < 0, balance, -1).astype(own.dtype)
    return jnp.where(balance < 0, jnp.clip((ratio - low) / (high - low), 0, 1), 1)


def _inverse(x: Array) -> Array:
    """1/x, and 0 where x is: what does not vary has no scale, and no part in a score."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _is_moments(leaf: Any) -> bool:
    return isinstance(leaf, Moments)
