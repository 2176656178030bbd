"""Linear operators that are diagonal in some basis: the stiff part of a drift, stated by whoever knows it.

    f(t, x) = L(t) x + N(t, x),     L = B⁻¹ diag(rates) B

A function given to `Drift` or `Score` may have a method `linear(t)` that returns its L. The algebra adds
them up, so that `-P + 2*s` has one too, and `ExponentialEuler` and `ExponentialHeun` treat it exactly. Of a state that
is a tree L is a tree like it: an operator for each array, or None for an array that has no stiff part.

What pulls towards a mean, L(t) (x - m(t)), is stated as L x + b, with b as the `offset` of L: where L changes within a
step, a solver has to know that b changes with it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._types import RealScalarLike, State

__all__ = ["AbstractLinear", "Diagonal", "Fourier"]


def squared_wavenumbers(n: int) -> Float[np.ndarray, "n n"]:
    """|k|² of the modes of n × n cells, k of whole numbers in the order of `numpy.fft.fft2`."""
    k = np.rint(np.fft.fftfreq(n, 1 / n))
    return k[:, None] ** 2 + k[None, :] ** 2


def _real(rates: Any) -> Array:
    """Rates as floats: whole numbers would make the exponential solver's step a whole number too."""
    rates = jnp.asarray(rates)
    if jnp.issubdtype(rates.dtype, jnp.complexfloating):
        raise TypeError(f"A stiff linear part needs real rates; got {rates.dtype}. Leave what rotates to the rest.")
    return rates if jnp.issubdtype(rates.dtype, jnp.floating) else rates.astype(float)


class AbstractLinear(eqx.Module):
    """A linear operator B⁻¹ diag(rates) B on one state, B orthonormal; those in one basis can be added and scaled.

    Attributes:
        rates: the eigenvalues, real, in units of 1/time.
    """

    rates: eqx.AbstractVar[Array]
    # NumPy would otherwise take `np.float64(2.) * L` apart itself.
    __array_ufunc__ = None

    @property
    def alike(self) -> tuple[int, ...]:
        """The axes of a state along which a state of this basis has components that are alike."""
        return ()

    @abc.abstractmethod
    def to_basis(self, x: Array) -> Inexact[Array, ...]:
        """The coefficients B x, shaped like the rates."""

    @abc.abstractmethod
    def from_basis(self, coefficients: Inexact[Array, ...], x: Array) -> Array:
        """The state with these coefficients, shaped and typed like x."""

    @property
    def beside(self) -> Array | None:
        """Of L x + b, such as a pull L (x - m) towards a mean, the coefficients B b: `offset`; None for 0."""
        return getattr(self, "offset", None)

    def with_rates(self, rates: Array) -> AbstractLinear:
        """The operator of these rates in the same basis."""
        return eqx.tree_at(lambda L: L.rates, self, rates)

    def with_offset(self, offset: Array | None) -> AbstractLinear:
        """The same operator, and b beside it; where it has no such field, as it is."""
        if not hasattr(self, "offset"):
            return self
        return eqx.tree_at(lambda L: L.offset, self, offset, is_leaf=lambda leaf: leaf is None)

    def __call__(self, x: Array) -> Array:
        """The operator applied to one state."""
        return self.function(lambda rates: rates, x)

    def function(self, f: Callable[[Array], Array], x: Array) -> Array:
        """B⁻¹ f(rates) B x: a function of the operator, applied to one state."""
        coefficients = self.to_basis(x)
        return self.from_basis(f(self.rates).astype(coefficients.dtype) * coefficients, x)

    def __add__(self, other: Any) -> AbstractLinear:
        if type(other) is not type(self):
            raise TypeError(
                f"The stiff linear parts of one equation must be diagonal in one basis; got {type(self).__name__} "
                f"and {type(other).__name__}. State both in the same one; the score's, between the "
                "data's moments, is Fourier's by `nn.Whitened(net, paths, basis=sx.Fourier.like)`."
            )
        try:
            rates = jnp.add(*jnp.broadcast_arrays(self.rates, other.rates))
        except ValueError:
            raise _of_two_states(self, other) from None
        given = [b for b in (self.beside, other.beside) if b is not None]
        offset = jnp.add(*jnp.broadcast_arrays(*given)) if len(given) == 2 else next(iter(given), None)
        return self.with_rates(rates).with_offset(offset)

    def __rmul__(self, c: RealScalarLike) -> AbstractLinear:
        c = c if isinstance(c, int | float) else jnp.asarray(c).astype(self.rates.dtype)
        return self.times(c)

    def times(self, c: Any) -> AbstractLinear:
        """The operator, and what is beside it, by a number or by one for each rate."""
        scaled, b = self.with_rates(c * self.rates), self.beside
        return scaled if b is None else scaled.with_offset(jnp.asarray(c, b.dtype) * b)


def _of_two_states(first: AbstractLinear, second: AbstractLinear) -> ValueError:
    shapes = f"{first.rates.shape} and {second.rates.shape}"
    return ValueError(f"The stiff linear parts of one equation act on one state; got rates {shapes}.")


class Diagonal(AbstractLinear):
    """A linear operator that acts on each component of the state by itself.

    Args:
        rates: one per component, or one for all.
        offset: b of L x + b, one per component, where there is one.

    Raises:
        TypeError: rates that are complex.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> sx.Diagonal(jnp.array([-1.0, -2.0]))(jnp.ones(2))
    Array([-1., -2.], dtype=float32)
    """

    rates: Array = eqx.field(converter=_real)
    offset: Array | None = None

    @classmethod
    def like(cls, x: Array) -> Diagonal:
        """The operator of rates zero on states like x."""
        return cls(jnp.zeros_like(x))

    def to_basis(self, x: Array) -> Array:
        """The state itself."""
        return x

    def from_basis(self, coefficients: Array, x: Array) -> Array:
        """The coefficients themselves."""
        return coefficients


class Fourier(AbstractLinear):
    """A linear operator on periodic fields that is diagonal in Fourier space, along any number of axes.

    Args:
        rates: one per mode of `jnp.fft.rfftn` along the axes, even in the wavenumber: for fields (n, m) of shape
            (n, m // 2 + 1), for fields (n,) of shape (n // 2 + 1,).
        axes: the periodic axes, in the order of `jnp.fft.rfftn`; each component along the others, the channels, has
            rates of its own. Default: all.
        offset: the coefficients of b in L x + b, where there is one, shaped like the rates.

    Raises:
        TypeError: rates that are complex.
        ValueError: axes that the rates do not have; or, when called, a field that does not fit the rates.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> decay = sx.Fourier(-jnp.ones((4, 3)))
    >>> float(decay(jnp.ones((4, 4)))[0, 0])
    -1.0
    >>> velocity = sx.Fourier.like(jnp.zeros((8, 6, 2)), axes=(0, 1))
    >>> velocity.rates.shape
    (8, 4, 2)
    """

    rates: Array = eqx.field(converter=_real)
    axes: tuple[int, ...] | None = eqx.field(static=True, default=None)
    offset: Array | None = None

    def __add__(self, other: Any) -> AbstractLinear:
        if isinstance(other, Fourier) and other.rates.ndim != self.rates.ndim:  # which would broadcast
            raise _of_two_states(self, other)
        if isinstance(other, Fourier) and other.alike != self.alike:
            raise TypeError(
                f"The stiff linear parts of one equation must be diagonal in one basis; got `Fourier` along the axes "
                f"{self.alike} and {other.alike}."
            )
        return super().__add__(other)

    def __check_init__(self) -> None:
        ndim = self.rates.ndim
        axes = tuple(range(ndim)) if self.axes is None else self.axes
        if not axes or not all(-ndim <= axis < ndim for axis in axes):
            raise ValueError(f"`Fourier`: rates of shape {self.rates.shape} have no axes {axes}.")

    @property
    def alike(self) -> tuple[int, ...]:
        """The periodic axes, counted from the first."""
        ndim = self.rates.ndim
        return tuple(range(ndim)) if self.axes is None else tuple(axis % ndim for axis in self.axes)

    @classmethod
    def like(cls, x: Array, axes: tuple[int, ...] | None = None) -> Fourier:
        """The operator of rates zero on states like x."""
        along = tuple(range(jnp.ndim(x))) if axes is None else axes
        shape = jax.eval_shape(lambda x: jnp.fft.rfftn(x, axes=along), x).shape
        return cls(jnp.zeros(shape, x.dtype), axes)

    def to_basis(self, x: Array) -> Array:
        """The half spectrum, `jnp.fft.rfftn(x, norm="ortho")` along the axes."""
        modes = list(x.shape)
        if len(modes) == self.rates.ndim:
            modes[self.alike[-1]] = modes[self.alike[-1]] // 2 + 1
        if tuple(modes) != self.rates.shape:
            raise ValueError(
                f"`x` is one field of shape {x.shape}, whose modes are {tuple(modes)}, and the rates have shape "
                f"{self.rates.shape}: batch with `jax.vmap`, and of rates for all modes, (n, m), take "
                "`rates[:, : m // 2 + 1]`."
            )
        return _to_modes(x, self.alike)

    def from_basis(self, coefficients: Array, x: Array) -> Array:
        """The real field with this half spectrum."""
        return _from_modes(coefficients, tuple(x.shape[axis] for axis in self.alike), self.alike, x.dtype)


# One program each, where a transform outside of one is four.
@partial(jax.jit, static_argnums=1, inline=True)
def _to_modes(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.fft.rfftn(x, axes=axes, norm="ortho")


@partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _from_modes(coefficients: Array, sizes: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Array:
    return jnp.fft.irfftn(coefficients, s=sizes, axes=axes, norm="ortho").astype(dtype)


def is_part(leaf: Any) -> bool:
    """Whether it is what a linear part has for one array: an operator, or None for none."""
    return leaf is None or isinstance(leaf, AbstractLinear)


def times(c: RealScalarLike, linear: PyTree[AbstractLinear]) -> PyTree[AbstractLinear]:
    """The linear part c · L, array by array."""
    return jtu.tree_map(lambda L: None if L is None else c * L, linear, is_leaf=is_part)


def plus(first: PyTree[AbstractLinear], second: PyTree[AbstractLinear]) -> PyTree[AbstractLinear]:
    """The sum of two linear parts, array by array; where one has None it is the other's."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, AbstractLinear) and isinstance(second, AbstractLinear):
        return first + second
    structures = [jtu.tree_structure(linear, is_leaf=is_part) for linear in (first, second)]
    if structures[0] != structures[1]:
        raise TypeError(
            f"The stiff linear parts of one equation are of one state; got the trees {structures[0]} and "
            f"{structures[1]}: give each the state's, None for an array that has no stiff part."
        )
    return jtu.tree_map(plus, first, second, is_leaf=is_part)


def linear_parts(linear: PyTree[AbstractLinear], x: State) -> list[AbstractLinear]:
    """The operator of each array of one state, of rates zero where there is none."""
    parts, tree = jtu.tree_flatten(linear, is_leaf=is_part)
    arrays, states = jtu.tree_flatten(x)
    if tree != states:
        raise TypeError(
            f"`linear(t)` returns the tree {tree}, and the state is {states}: return one of the state's structure, a "
            "`sx.Fourier` or a `sx.Diagonal` for each array, None for an array that has no stiff part."
        )
    return [Diagonal.like(array) if part is None else part for part, array in zip(parts, arrays, strict=True)]
