"""A U-Net with spatial dropout: the Bayesian baseline of arXiv:2301.10250, §4.2.

Down: two 3x3 convolutions a level, 2x2 maxima between levels. Up: a 3x3 transposed convolution with stride 2, the
level's own activations beside it, one 1x1 convolution (3x3 at the top). Then 5x5. After each convolution but the last,

    h ← LeakyReLU(h) · m / (1 - dropout),    m: one Bernoulli(1 - dropout) number for each channel.
"""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ._conv import Layer, as_field, at_least_1, conv, conv_up, deviation, init_layers, leaky_relu, sides, with_time


class UNet(eqx.Module):
    """A U-Net of [x, t] whose spatial dropout, driven by a key, draws from an approximate posterior.

    The key is ``args``: ``net(t, x, key)`` is one Monte Carlo sample of the output and ``net(t, x)`` has no dropout. In
    `jax.vmap`, give each sample its own key, as in the example; a shared one drops the same channels everywhere.

    Fields have zeros beyond their border. For periodic fields of 32x32, `Tiled(UNet(64, key=key), 16)` pads as the
    published network does, which lets its seven levels go down to a single cell. The published one has no activation
    but the maxima, and no dropout at its coarsest level; this one has a LeakyReLU (slope .01) and dropout after each
    convolution but the last, with no effect on the 706,035 parameters. Of the last layer's three channels only the
    first is used, so too in the published one.

    Fields of one or three dimensions, (n,) or (n, n, n), have the same network with convolutions of as many.

    Args:
        shape: of one field, n or (n, n), or (n,) or (n, n, n); n is a multiple of 2^(levels - 1).
        widths: channels of each level, from the finest to the coarsest.
        dropout: probability that a channel is dropped, in [0, 1).
        key: draws the weights.
        dtype: of the weights; by default JAX's default float.

    Attributes:
        down: arrays of the way down: "level1" (the finest) with "conv1" and "conv2", ..., each with "w" (out, in,
            height, width; in other dimensions alike) and "b" (out,).
        up: of the way up: "level1" with "up" and "conv", ....
        out: of the last layer.

    Raises:
        ValueError: ``shape`` has unequal sides or is not divisible as often as there are levels, a width is not
            positive, or ``dropout`` not in [0, 1); or, when called, x is not one field of the network's shape.
        TypeError: when called, x has another precision than the weights, or, with dropout, ``args`` is no JAX key.

    >>> import jax, jax.numpy as jnp
    >>> net = UNet(16, widths=(4, 8, 8), dropout=0.1, key=jax.random.key(0))
    >>> keys = jax.random.split(jax.random.key(1), 5)
    >>> jax.vmap(net, in_axes=(None, None, 0))(0.2, jnp.ones((16, 16)), keys).shape
    (5, 16, 16)
    """

    down: dict[str, Any]
    up: dict[str, Any]
    out: dict[str, Any]
    shape: tuple[int, ...] = eqx.field(static=True)
    widths: tuple[int, ...] = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        shape: int | tuple[int, ...],
        widths: tuple[int, ...] = (16, 32, 48, 64, 80, 96, 112),
        dropout: float | int = 0.0,
        *,
        key: Key,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        at_least_1(levels=len(widths), widths=min(widths, default=1))
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {dropout}")
        self.shape = sides(shape, "UNet")
        halvings = 2 ** (len(widths) - 1)
        if self.shape[0] % halvings:
            raise ValueError(
                f"`shape` must be a multiple of {halvings} for {len(widths)} levels, got {self.shape}. Give fewer "
                "`widths`, or pad periodic fields with `smdpx.nn.Tiled`"
            )
        layers = _layers(tuple(widths), self.shape[0] // halvings, len(self.shape))
        arrays = init_layers(key, layers, jnp.result_type(float) if dtype is None else dtype)
        self.down, self.up, self.out = arrays["down"], arrays.get("up", {}), arrays["out"]
        self.widths = tuple(widths)
        self.dropout = float(dropout)

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Evaluate the network on one field.

        Args:
            t: physical time, a scalar.
            x: one field of the network's shape.
            args: a JAX key that draws the dropped channels; None: nothing is dropped.

        Returns:
            A field shaped like ``x``.

        Raises:
            ValueError: ``x`` is not one field of the network's shape.
            TypeError: ``x`` has another precision than the weights, or, with dropout, ``args`` is no JAX key.
        """
        x = as_field(x, "UNet", self.shape, self.out["w"].dtype, "For other sizes, `UNet(shape=...)`")
        masks = self._masks(args, x.dtype)
        h = with_time(x[..., None], t)
        levels = [f"level{i + 1}" for i in range(len(self.widths))]
        skips = []
        for level in levels:
            h = _halve(h) if skips else h
            for layer in self.down[level].values():
                h = leaky_relu(conv(h, layer, _same(layer))) * next(masks)
            skips.append(h)
        for level, skip in reversed(list(zip(levels, skips, strict=True))[:-1]):
            layers = self.up[level]
            h = leaky_relu(conv_up(h, layers["up"])) * next(masks)
            h = jnp.concatenate([skip, h], axis=-1)
            h = leaky_relu(conv(h, layers["conv"], _same(layers["conv"]))) * next(masks)
        return conv(h, self.out, _same(self.out))[..., 0]

    def _masks(self, key: Any, dtype: Any) -> Iterator[Any]:
        """What each convolution's channels are multiplied by, in the order of the call."""
        order = [*self.widths, *reversed(self.widths[:-1])]
        counts = [width for width in order for _ in range(2)]
        if self.dropout == 0 or key is None:
            return iter([1] * len(counts))
        is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if not is_key or key.shape != ():
            came = f"an array of {key.dtype} {key.shape}" if isinstance(key, jax.Array) else type(key).__name__
            raise TypeError(
                f"`args` must be one JAX key, which drives the dropout, or None for no dropout; got {came}. Write "
                "`net(t, x, jax.random.key(0))`, or for a batch `jax.vmap(net, (None, 0, 0))(t, x, keys)`"
            )
        # All channels of all layers in one draw: one by one, compilation takes seconds.
        kept = jr.bernoulli(key, 1 - self.dropout, (sum(counts),)).astype(dtype) / (1 - self.dropout)
        kept = kept[(None,) * len(self.shape)]
        return iter([kept[..., start:end] for start, end in pairwise([0, *accumulate(counts)])])


def _halve(h: Array) -> Array:
    # Maxima of a reshaped array: the gradient of XLA's windowed maximum is a scatter.
    *cells, channels = h.shape
    pairs = [side for n in cells for side in (n // 2, 2)]
    return h.reshape(*pairs, channels).max(axis=tuple(range(1, len(pairs), 2)))


def _same(layer: dict[str, Array]) -> tuple[int, int]:
    side = layer["w"].shape[-1] // 2
    return side, side


def _layers(widths: tuple[int, ...], bottom: int, axes: int) -> tuple[Layer, ...]:
    def layer(
        path: str, outs: int, ins: int, size: int, fan_in: float | int | None = None, activated: bool = True
    ) -> Layer:
        fan_in = float(ins * size**axes) if fan_in is None else fan_in
        return Layer(path, (outs, ins, *(size,) * axes), deviation(fan_in, activated=activated))

    layers = []
    for i, (ins, outs) in enumerate(pairwise([2, *widths]), start=1):
        # A single cell has no neighbours.
        size = 1 if i == len(widths) and bottom == 1 else 3
        layers += [layer(f"down/level{i}/conv1", outs, ins, size), layer(f"down/level{i}/conv2", outs, outs, size)]
    for i, (outs, ins) in enumerate(pairwise(widths), start=1):
        # With stride 2 a cell of the output sees 3/2 of the 3 taps along each axis, on average.
        layers.append(layer(f"up/level{i}/up", outs, ins, 3, fan_in=ins * 1.5**axes))
        layers.append(layer(f"up/level{i}/conv", outs, 2 * outs, 3 if i == 1 else 1))
    return (*layers, layer("out", 3, widths[0], 5, activated=False))
