"""What the networks of square fields share: checks of a field, convolutions of one sample, initial weights.

Activations of one sample are (n, n, channels): under vmap XLA sees one NHWC convolution, on two cores 5 to 15%
faster than NCHW in the gradient. Weights are stored (out, in, height, width), as PyTorch does.
"""

from functools import partial
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from .._types import Key

Boundary: TypeAlias = Literal["periodic", "zero"]
Pads: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Cells added before and after, on each axis."""

SLOPE = 0.01
"""Of the LeakyReLU below zero."""


class Layer(NamedTuple):
    """A layer to be: its place in a nested dict ("block1/conv1"), its weights' shape (OIHW) and their deviation."""

    path: str
    shape: tuple[int, ...]
    std: float


def square(shape: int | tuple[int, int], owner: str) -> tuple[int, int]:
    """The shape of a network's fields, checked; an int n stands for (n, n)."""
    sides = (shape, shape) if isinstance(shape, int) else tuple(shape)
    if len(sides) != 2 or sides[0] != sides[1] or sides[0] < 1:
        raise ValueError(f"`shape` must be that of a square field, n or (n, n) with n >= 1, got {shape}: `{owner}(32)`")
    return sides[0], sides[1]


def at_least_1(**counts: int) -> None:
    """Raise where a count is not positive, naming it."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")


def as_field(x: Any, shape: tuple[int, int] | None, dtype: Any, mend: str) -> Array:
    """One field as an array, or an error: a square of the network's shape (None: of any), in its precision."""
    x = jnp.asarray(x)
    if x.ndim != 2 or x.shape[0] != x.shape[1] or (shape is not None and x.shape != shape):
        expected = "a square field (n, n)" if shape is None else f"one field of shape {shape}"
        batch = " For a batch, write `jax.vmap(net, in_axes=(None, 0))(t, x)`."
        raise ValueError(f"`x` must be {expected}, got shape {x.shape}.{batch if x.ndim > 2 else ''} {mend}")
    if x.dtype != dtype:
        raise TypeError(
            f"`x` is {x.dtype} and the network's weights are {dtype}. Write `x.astype(jnp.{dtype})`, or build the "
            f"network with `dtype=jnp.{x.dtype}`"
        )
    return x


def conv(
    h: Float[Array, "n n ins"], layer: dict[str, Array], pads: tuple[int, int], boundary: Boundary = "zero"
) -> Float[Array, "n n outs"]:
    """Correlate with the layer's weights, ``pads`` cells added before and after on both axes, and add the bias."""
    if boundary == "zero" or pads == (0, 0):
        return _correlate(h, layer["w"], (pads, pads)) + layer["b"][None, None]
    wrapped = jnp.pad(h, (pads, pads, (0, 0)), mode="wrap")
    # One row of zeros too many, dropped: XLA's CPU convolution (jax 0.10.2) is 4 times slower at a batch of 16 where
    # it pads nothing, and so is its weights' gradient.
    return _correlate(wrapped, layer["w"], ((0, 1), (0, 0)))[: h.shape[0]] + layer["b"][None, None]


def conv_up(h: Float[Array, "n n ins"], layer: dict[str, Array]) -> Float[Array, "m m outs"]:
    """The 3x3 transposed convolution with stride 2, m = 2n: correlate with h and zeros in between, add the bias."""
    return _correlate(h, layer["w"], ((2, 1), (2, 1)), 2) + layer["b"][None, None]


# Inside a loop XLA's CPU backend is 20 times slower in any layout but NHWC, with kernels HWIO (jax issue 12868): it
# brings convolutions into that layout outside of loops only. So do it here, for the gradients as well: JAX transposes
# the derivative below by exchanging axes' roles, which leads from the layouts here to the fast one. Derivatives in
# forward mode are not transposed, and so are slow in such loops.
@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _correlate(h: Array, w: Array, pads: Pads, dilation: int = 1) -> Array:
    return _convolve(h[None], w.transpose(2, 3, 1, 0), pads, dilation, ("NHWC", "HWIO", "NHWC"))[0]


def _correlate_jvp(pads: Pads, dilation: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (h, w), (dh, dw) = primals, tangents
    out = _correlate(h, w, pads, dilation)
    parts = []
    # What is not differentiated, such as the input, would otherwise be a convolution of zeros.
    if not isinstance(dh, SymbolicZero):
        parts.append(_convolve(dh[None], w.transpose(2, 3, 0, 1), pads, dilation, ("NHWC", "HWOI", "NHWC"))[0])
    if not isinstance(dw, SymbolicZero):
        ins_first, outs_last = h[None].transpose(3, 1, 2, 0), dw.transpose(1, 2, 3, 0)
        parts.append(_convolve(ins_first, outs_last, pads, dilation, ("CHWN", "IHWO", "HWNC"))[:, :, 0])
    return out, sum(parts[1:], parts[0])  # never empty: JAX calls this where something is differentiated


_correlate.defjvp(_correlate_jvp, symbolic_zeros=True)


def _convolve(h: Array, w: Array, pads: Pads, dilation: int, layouts: tuple[str, str, str]) -> Array:
    return lax.conv_general_dilated(h, w, (1, 1), pads, lhs_dilation=(dilation, dilation), dimension_numbers=layouts)


def leaky_relu(h: Array) -> Array:
    """The networks' activation: h where h > 0, .01 h elsewhere."""
    return jax.nn.leaky_relu(h, SLOPE)


def init_layers(key: Key, layers: tuple[Layer, ...], dtype: jax.typing.DTypeLike) -> dict[str, Any]:
    """Nested dicts of {"w", "b"}: normal weights and zero biases."""
    return _cut(jr.normal(key, (sum(prod(layer.shape) for layer in layers),), dtype), layers)


# One program for all layers, and the draw not in it: XLA would repeat it for each layer.
@partial(jax.jit, static_argnames="layers")
def _cut(draws: Float[Array, " numbers"], layers: tuple[Layer, ...]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    ends = [0, *accumulate(prod(layer.shape) for layer in layers)]
    for layer, (start, end) in zip(layers, pairwise(ends), strict=True):
        *parents, name = layer.path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        weight = draws[start:end].reshape(layer.shape) * layer.std
        place[name] = {"w": weight, "b": jnp.zeros(layer.shape[0], draws.dtype)}
    return tree


def deviation(fan_in: float | int, *, activated: bool) -> float:
    """Of weights that keep the mean square: He's before a LeakyReLU, LeCun's where none follows."""
    return ((2 / (1 + SLOPE**2) if activated else 1) / fan_in) ** 0.5
