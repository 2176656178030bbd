"""The Fourier neural operator, Li et al. 2021, arXiv:2010.08895: a baseline of arXiv:2301.10250, §4.2.

With h⁰ = lift [x, i/n, j/n] at the cell (i, j), F the Fourier transform over the cells, and σ the GELU,

    hˡ⁺¹ = σ(F⁻¹ R F hˡ + W hˡ + b),    net(x) = P₂ σ(P₁ h⁴),

the last hˡ without its σ. R mixes the channels of each mode (kx, ky), -modes ≤ kx < modes and 0 ≤ ky < modes, by a
complex matrix of its own, and drops the other modes. In one dimension the modes are 0 ≤ k < modes.
"""

from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Complex, Float

from .._types import Args, Key, RealScalarLike
from ..solving._validate import check_is_key
from ._conv import Layer, as_field, at_least_1, init_layers

LAYERS = 4
HIDDEN = 128


class FNO(eqx.Module):
    """A Fourier neural operator of [x, grid] that returns a field shaped like x; time is not an input.

    It acts on functions on the periodic unit square, or interval (``ndim=1``): one set of weights takes square fields
    of any size n, with n ≥ 2 ``modes``. The cell (i, j) is the point (i/n, j/n), so that a finer grid contains a
    coarser one's points. The spectral convolutions are then the same operator at every size; the GELUs and the grid
    channels, which are not periodic, add differences that shrink with n.

    Some arrays are complex, one parameter for each number. `jax.grad` of a real loss returns the conjugate of the
    direction of steepest ascent for these: conjugate it before a step of gradient descent.

    Args:
        modes: kept along each axis, on either side of zero.
        width: channels of the activations.
        ndim: dimensions of the fields, 1 or 2: (n,) or (n, n).
        key: draws the weights.
        dtype: of the real weights, a float of 32 or 64 bits, complex ones likewise; by default JAX's default float.

    Attributes:
        arrays: "lift", "layer1" to "layer4" and "project1", "project2", each with "w" (out, in) and "b" (out,); the
            layers also with "plus" and "minus" (in, out, modes, modes), for kx ≥ 0 and kx < 0; in one dimension with
            "plus" (in, out, modes) alone.

    Raises:
        ValueError: ``modes`` or ``width`` is not positive, or ``ndim`` not 1 or 2; or, when called, x is not a square
            field or has less than 2 ``modes`` cells a side.
        TypeError: when called, x has another precision than the weights.

    >>> import jax, jax.numpy as jnp
    >>> net = FNO(key=jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(net))
    465377
    >>> net(0.2, jnp.zeros((32, 32))).shape, net(0.2, jnp.zeros((64, 64))).shape
    ((32, 32), (64, 64))
    >>> FNO(8, ndim=1, key=jax.random.key(0))(0.2, jnp.zeros(64)).shape
    (64,)
    """

    arrays: dict[str, Any]
    modes: int = eqx.field(static=True)
    ndim: int = eqx.field(static=True)

    def __init__(
        self,
        modes: int = 12,
        width: int = 20,
        *,
        ndim: int = 2,
        key: Key,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        at_least_1(modes=modes, width=width)
        if ndim not in (1, 2):
            raise ValueError(f"`ndim` must be 1 or 2, got {ndim}")
        dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
        self.arrays = _init_arrays(key, modes, width, ndim, dtype)
        self.modes = modes
        self.ndim = ndim

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Evaluate the operator on one field; ``t`` and ``args`` are ignored.

        Args:
            t: ignored: the operator is autonomous.
            x: one field, shape (n, n) or (n,) with n ≥ 2 ``modes``.
            args: ignored.

        Returns:
            A field shaped like ``x``.

        Raises:
            ValueError: ``x`` is not a square field, or has less than 2 ``modes`` cells a side.
            TypeError: ``x`` has another precision than the weights.
        """
        del t, args
        x = as_field(
            x, "FNO", (None,) * self.ndim, self.arrays["lift"]["w"].dtype, f"Any n >= {2 * self.modes} will do"
        )
        n = x.shape[0]
        if n < 2 * self.modes:
            raise ValueError(
                f"`x` must have at least 2 modes = {2 * self.modes} cells a side, got {n}. For a field of this size, "
                f"`FNO(modes={n // 2})` or less"
            )
        place = jnp.arange(n, dtype=x.dtype) / n
        h = jnp.stack([x, *jnp.meshgrid(*(place,) * self.ndim, indexing="ij")])
        h = _pointwise(h, self.arrays["lift"])
        for i in range(LAYERS):
            layer = self.arrays[f"layer{i + 1}"]
            h = spectral_conv(h, layer["plus"], layer.get("minus")) + _pointwise(h, layer)
            h = jax.nn.gelu(h) if i + 1 < LAYERS else h
        return _projection(h, self.arrays["project1"], self.arrays["project2"])


def spectral_conv(
    h: Float[Array, "ins *cells"],
    plus: Complex[Array, "ins outs *modes"],
    minus: Complex[Array, "ins outs modes modes"] | None = None,
) -> Float[Array, "outs *cells"]:
    """Mix the channels of each of the lowest modes, and drop the others; in one dimension without ``minus``."""
    n, modes = h.shape[-1], plus.shape[-1]
    if minus is None:
        return jnp.fft.irfft(jnp.einsum("ix,iox->ox", jnp.fft.rfft(h)[:, :modes], plus), n)
    coefficients = jnp.fft.rfft2(h)[..., :modes]
    # As complex products: taken apart into real ones, they are no faster on CPU.
    low = jnp.einsum("ixy,ioxy->oxy", coefficients[:, :modes], plus)
    high = jnp.einsum("ixy,ioxy->oxy", coefficients[:, n - modes :], minus)
    between = jnp.zeros((low.shape[0], n - 2 * modes, modes), low.dtype)
    return jnp.fft.irfft2(jnp.concatenate([low, between, high], axis=1), s=(n, n))


def _projection(h: Float[Array, "ins *cells"], first: dict[str, Array], second: dict[str, Array]) -> Array:
    """The last two layers, point by point: P₂ σ(P₁ h).

    Between them lie `HIDDEN` channels, most of all numbers that the network makes. On a CPU they are made a row of
    cells at a time, in the cache, and a gradient makes them again: of both layers, a quarter of the time.
    """

    def at_once(h: Array) -> Array:
        return _pointwise(jax.nn.gelu(_pointwise(h, first)), second)[0]

    def by_rows(h: Array) -> Array:
        return lax.map(jax.checkpoint(at_once, prevent_cse=False), jnp.moveaxis(h, 1, 0))

    return at_once(h) if h.ndim == 2 else lax.platform_dependent(h, cpu=by_rows, default=at_once)


def _pointwise(h: Float[Array, "ins *cells"], layer: dict[str, Array]) -> Float[Array, "outs *cells"]:
    return jnp.einsum("oi,i...->o...", layer["w"], h) + layer["b"][(..., *(None,) * (h.ndim - 1))]


def _init_arrays(key: Key, modes: int, width: int, ndim: int, dtype: jax.typing.DTypeLike) -> dict[str, Any]:
    sizes = {"lift": (width, 1 + ndim), **{f"layer{i + 1}": (width, width) for i in range(LAYERS)}}
    sizes |= {"project1": (HIDDEN, width), "project2": (1, HIDDEN)}
    check_is_key(key)
    key_real, key_complex = jr.split(key)
    # Spectral and pointwise part each keep the mean square; the GELU about halves that of their sum.
    arrays = init_layers(key_real, tuple(Layer(path, shape, shape[1] ** -0.5) for path, shape in sizes.items()), dtype)
    signs = ("plus", "minus")[:ndim]
    shape = (2, LAYERS, len(signs), width, width, *(modes,) * ndim)
    # Drawn flat: XLA takes 15 times as long to compile a draw of this many axes on CPU (jax 0.10.2).
    draws = jr.normal(key_complex, (prod(shape),), dtype) * (2 * width) ** -0.5
    for i, layer in enumerate(_complex(draws.reshape(shape)), start=1):
        arrays[f"layer{i}"] |= dict(zip(signs, layer, strict=True))
    return arrays


@jax.jit
def _complex(parts: Float[Array, "two layers signs ins outs *modes"]) -> list[list[Array]]:
    return [[lax.complex(real, imag) for real, imag in zip(*layer, strict=True)] for layer in zip(*parts, strict=True)]
