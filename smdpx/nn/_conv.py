"""What the networks of fields share: checks of a field, convolutions of one sample, initial weights.

Fields have one to three axes of equal length. Activations of one sample are (n, n, channels): under vmap XLA sees one
NHWC convolution, on two cores 5 to 15% faster than NCHW in the gradient. Weights are stored (out, in, height, width),
as PyTorch does; those of other dimensions alike.
"""

from functools import partial
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from .._types import Key, RealScalarLike
from ..solving._validate import check_is_key
from ._one_array import check_one_array, check_shape

Boundary: TypeAlias = Literal["periodic", "zero"]
Pads: TypeAlias = tuple[tuple[int, int], ...]
"""Cells added before and after, on each axis."""

SLOPE = 0.01
"""Of the LeakyReLU below zero."""


class Layer(NamedTuple):
    """A layer to be: its place in a nested dict ("block1/conv1"), its weights' shape (out, in, ...), their spread."""

    path: str
    shape: tuple[int, ...]
    std: float


def sides(shape: int | tuple[int, ...], owner: str) -> tuple[int, ...]:
    """The shape of a network's fields, checked; an int n stands for (n, n)."""
    if not isinstance(shape, int | np.integer):
        check_shape(shape, owner)
    lengths = (int(shape),) * 2 if isinstance(shape, int | np.integer) else tuple(map(int, shape))
    if not 1 <= len(lengths) <= 3 or len(set(lengths)) > 1 or lengths[0] < 1:
        raise ValueError(
            f"`shape` must be that of a square field, n or (n, n) with n >= 1, or (n,) or (n, n, n), got {shape}: "
            f"`{owner}(32)`, and in one dimension `{owner}((64,))`"
        )
    return lengths


def at_least_1(**counts: int) -> None:
    """Raise where a count is not positive, naming it."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")


def check_boundary(boundary: str) -> None:
    """Raise where a boundary is neither word."""
    if boundary not in ("periodic", "zero"):
        raise ValueError(f'`boundary` must be "periodic" or "zero", got {boundary!r}')


def with_time(x: Float[Array, "*cells ins"], t: RealScalarLike) -> Float[Array, "*cells more"]:
    """The channels of one field, and t."""
    return jnp.concatenate([x, jnp.broadcast_to(jnp.asarray(t, x.dtype), (*x.shape[:-1], 1))], axis=-1)


def as_field(
    x: Any, owner: str, shape: tuple[int | None, ...], dtype: Any, mend: str, channels: int | None = None
) -> Array:
    """One field as an array, or an error: of the network's shape (None: of any side), in its precision.

    With ``channels`` it has so many, as its last axis.
    """
    check_one_array(x, owner)
    x = jnp.asarray(x)
    if channels is not None:
        if x.shape != (*shape, channels):
            raise ValueError(f"`x` must be one field of shape {(*shape, channels)}, got shape {x.shape}. {mend}")
    elif x.ndim != len(shape) or len(set(x.shape)) > 1 or shape[0] not in (None, x.shape[0]):
        free = "a field (n,)" if len(shape) == 1 else "a square field (n, n)"
        expected = free if shape[0] is None else f"one field of shape {shape}"
        batch = " For a batch, write `jax.vmap(net, in_axes=(None, 0))(t, x)`."
        raise ValueError(f"`x` must be {expected}, got shape {x.shape}.{batch if x.ndim > len(shape) else ''} {mend}")
    if x.dtype != dtype:
        raise TypeError(f"`x` is {x.dtype} and the network's weights are {dtype}. {_of_precision(x.dtype, dtype)}")
    return x


def _of_precision(got: Any, wanted: Any) -> str:
    """What to write where only the precision is another."""
    if jnp.issubdtype(got, jnp.complexfloating):
        return "Give the field, not its spectrum: `jnp.fft.irfftn(x)`"
    floats = jnp.issubdtype(got, jnp.floating)
    return f"Write `x.astype(jnp.{wanted})`{f', or build the network with `dtype=jnp.{got}`' if floats else ''}"


def conv(
    h: Float[Array, "*cells ins"],
    layer: dict[str, Array],
    pads: tuple[int, int],
    boundary: Boundary = "zero",
    dilation: int = 1,
) -> Float[Array, "*cells outs"]:
    """Correlate with the layer's weights, ``pads`` cells added before and after on each axis, and add the bias.

    With a dilation the kernel's cells are that many apart.
    """
    axes = h.ndim - 1
    if boundary == "zero" or pads == (0, 0):
        return _correlate(h, layer["w"], (pads,) * axes, 1, dilation) + _bias(layer, axes)
    wrapped = jnp.pad(h, (*(pads,) * axes, (0, 0)), mode="wrap")
    # One row of zeros too many, dropped: XLA's CPU convolution (jax 0.10.2) is 4 times slower at a batch of 16 where
    # it pads nothing, and so is its weights' gradient.
    more = ((0, 1), *((0, 0),) * (axes - 1))
    return _correlate(wrapped, layer["w"], more, 1, dilation)[: h.shape[0]] + _bias(layer, axes)


def conv_up(h: Float[Array, "*cells ins"], layer: dict[str, Array]) -> Float[Array, "*twice outs"]:
    """The 3x3 transposed convolution with stride 2: correlate with h and zeros in between, and add the bias."""
    axes = h.ndim - 1
    return _correlate(h, layer["w"], ((2, 1),) * axes, 2) + _bias(layer, axes)


def _bias(layer: dict[str, Array], axes: int) -> Array:
    return layer["b"][(None,) * axes]


# Inside a loop XLA's CPU backend is 20 times slower in any layout but NHWC, with kernels HWIO (jax issue 12868): it
# brings convolutions into that layout outside of loops only. So do it here, for the gradients as well: JAX transposes
# the derivative below by exchanging axes' roles, which leads from the layouts here to the fast one. Derivatives in
# forward mode are not transposed, and so are slow in such loops.
@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _correlate(h: Array, w: Array, pads: Pads, up: int = 1, dilation: int = 1) -> Array:
    how = pads, up, dilation
    return _convolve(h[None], w.transpose(*range(2, w.ndim), 1, 0), how, _layouts(h, "N_C", "_IO", "N_C"))[0]


def _correlate_jvp(pads: Pads, up: int, dilation: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (h, w), (dh, dw) = primals, tangents
    how = pads, up, dilation
    out = _correlate(h, w, *how)
    parts = []
    # What is not differentiated, such as the input, would otherwise be a convolution of zeros.
    if not isinstance(dh, SymbolicZero):
        layouts, outs_ins_last = _layouts(h, "N_C", "_OI", "N_C"), w.transpose(*range(2, w.ndim), 0, 1)
        parts.append(_convolve(dh[None], outs_ins_last, how, layouts)[0])
    if not isinstance(dw, SymbolicZero):
        ins_first, outs_last = jnp.swapaxes(h[None], 0, -1), jnp.moveaxis(dw, 0, -1)
        layouts = _layouts(h, "C_N", "I_O", "_NC")
        parts.append(_convolve(ins_first, outs_last, how, layouts)[..., 0, :])
    return out, sum(parts[1:], parts[0])  # never empty: JAX calls this where something is differentiated


_correlate.defjvp(_correlate_jvp, symbolic_zeros=True)


def _layouts(h: Array, left: str, right: str, out: str) -> tuple[str, str, str]:
    """Layouts with the axes of a field h (..., channels) in place of the dash: HW of a square."""
    cells = "DHW"[4 - h.ndim :]
    return left.replace("_", cells), right.replace("_", cells), out.replace("_", cells)


def _convolve(h: Array, w: Array, how: tuple[Pads, int, int], layouts: tuple[str, str, str]) -> Array:
    pads, up, dilation = how
    each = lambda n: (n,) * len(pads)  # noqa: E731
    return lax.conv_general_dilated(h, w, each(1), pads, each(up), each(dilation), dimension_numbers=layouts)


def leaky_relu(h: Array) -> Array:
    """The networks' activation: h where h > 0, .01 h elsewhere."""
    return jax.nn.leaky_relu(h, SLOPE)


def init_layers(key: Key, layers: tuple[Layer, ...], dtype: jax.typing.DTypeLike) -> dict[str, Any]:
    """Nested dicts of {"w", "b"}: normal weights and zero biases."""
    check_is_key(key)
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
