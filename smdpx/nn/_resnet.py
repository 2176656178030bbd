"""The residual network that arXiv:2301.10250, §4.2, trains as the score of the heat equation.

With σ the LeakyReLU of slope .01, k the boundary's convolutions and kᵀ their transposed ones,

    h₀ = k₄[x / x_scale, t],     hᵢ = hᵢ₋₁ + σ(k₄ σ(k₄ hᵢ₋₁)),       i = 1..N       (encoder)
    u₀ = k₄ᵀ k₁ h_N,             uᵢ = uᵢ₋₁ + σ(k₄ᵀ σ(k₄ᵀ uᵢ₋₁)),     i = 1..N       (decoder)
    net(t, x) = out_scale · k₅ u_N,

except that u_N lacks its uᵢ₋₁, and the middle uᵢ has the middle hᵢ added.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ._conv import (
    Boundary,
    Layer,
    as_field,
    at_least_1,
    check_boundary,
    conv,
    deviation,
    init_layers,
    leaky_relu,
    sides,
    with_time,
)
from ._one_array import check_positive

# Cells before and after that keep the size: of 4x4 convolutions, of their transposed ones, of the last, of 1x1.
DOWN, UP, LAST, NONE = (1, 2), (2, 1), (2, 2), (0, 0)


class ResNet(eqx.Module):
    """A residual network of [x, t] at one resolution that returns a field shaped like x.

    By default the boundary is periodic: the network commutes with translations, and needs none of the padding that
    the published one (zeros at the border, see `Tiled`) brings, which makes it 3 to 4 times faster on 32x32.

    As a score it stands for ∇ₓ log p_t(x). Good values are ``x_scale`` = the standard deviation of x, and
    ``out_scale`` = 1/g (see `MLP`). At initialisation the output is a few percent of ``out_scale``, so that the
    first rollouts are nearly those of the physics alone.

    The receptive field has a radius of 35 cells: on 32x32 every cell of the output sees every cell of the input.

    Fields of one or three dimensions, (n,) or (n, n, n), have the same network with convolutions of as many.

    Args:
        shape: of one field, n or (n, n), or (n,) or (n, n, n); without an axis for channels.
        width: channels of the activations.
        blocks: residual blocks in the encoder, and as many in the decoder.
        boundary: "periodic" (cells at the border have those at the other side as neighbours) or "zero".
        bypass_middle: replaces the decoder's middle block by the encoder's middle output, which is otherwise added to
            it. The network whose weights were published with the paper is so by an oversight: its block 3 has weights
            that nothing uses. `Tiled(ResNet(64, boundary="zero", bypass_middle=True, key=key), 16)` is that network.
        x_scale: typical size of x, > 0; the input is x / ``x_scale``.
        out_scale: typical size of what is learned, > 0; the output is multiplied by it.
        key: draws the weights.
        dtype: of the weights; by default JAX's default float.

    Attributes:
        enc: the encoder's arrays: "in", "block1" with "conv1" and "conv2", ..., "out", each with "w" (out, in, height,
            width; in other dimensions alike) and "b" (out,).
        dec: the decoder's, alike.

    Raises:
        ValueError: ``shape`` has unequal sides, a count or a scale is not positive, or ``boundary`` is neither word;
            or, when called, x is not one field of the network's shape.
        TypeError: when called, x has another precision than the weights.

    >>> import jax, jax.numpy as jnp
    >>> net = ResNet(32, key=jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(net))
    330754
    >>> jax.vmap(net, in_axes=(None, 0))(0.1, jnp.zeros((2, 32, 32))).shape
    (2, 32, 32)
    >>> ResNet((64,), width=8, blocks=1, key=jax.random.key(0))(0.1, jnp.zeros(64)).shape
    (64,)
    """

    enc: dict[str, Any]
    dec: dict[str, Any]
    shape: tuple[int, ...] = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)
    bypass_middle: bool = eqx.field(static=True)
    x_scale: float = eqx.field(static=True)
    out_scale: float = eqx.field(static=True)

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 32,
        blocks: int = 5,
        *,
        boundary: Boundary = "periodic",
        bypass_middle: bool = False,
        x_scale: float | int = 1.0,
        out_scale: float | int = 1.0,
        key: Key,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        at_least_1(width=width, blocks=blocks)
        check_boundary(boundary)
        check_positive(x_scale=x_scale, out_scale=out_scale)
        self.shape = sides(shape, "ResNet")
        layers = _layers(width, blocks, len(self.shape))
        arrays = init_layers(key, layers, jnp.result_type(float) if dtype is None else dtype)
        self.enc, self.dec = arrays["enc"], arrays["dec"]
        self.blocks = blocks
        self.boundary = boundary
        self.bypass_middle = bypass_middle
        self.x_scale = float(x_scale)
        self.out_scale = float(out_scale)

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Evaluate the network on one field; ``args`` is ignored.

        Args:
            t: physical time, a scalar.
            x: one field of the network's shape.
            args: ignored.

        Returns:
            A field shaped like ``x``.

        Raises:
            ValueError: ``x`` is not one field of the network's shape.
            TypeError: ``x`` has another precision than the weights.
        """
        del args
        x = as_field(x, "ResNet", self.shape, self.enc["in"]["w"].dtype, "For other sizes, `ResNet(shape=...)`")
        middle = f"block{(self.blocks + 1) // 2}"
        h = conv(with_time((x / self.x_scale)[..., None], t), self.enc["in"], DOWN, self.boundary)
        skip = h
        for block in self._names():
            h = h + self._branch(h, self.enc[block], DOWN)
            skip = h if block == middle else skip
        h = conv(conv(h, self.enc["out"], NONE), self.dec["in"], UP, self.boundary)
        for block in self._names():
            if block == middle and self.bypass_middle:
                h = h + skip
                continue
            branch = self._branch(h, self.dec[block], UP)
            # The decoder's last block has no residual.
            h = branch if block == f"block{self.blocks}" else h + branch
            h = h + skip if block == middle else h
        return self.out_scale * conv(h, self.dec["out"], LAST, self.boundary)[..., 0]

    def _names(self) -> list[str]:
        return [f"block{i + 1}" for i in range(self.blocks)]

    def _branch(self, h: Array, block: dict[str, Any], pads: tuple[int, int]) -> Array:
        for name in ("conv1", "conv2"):
            h = leaky_relu(conv(h, block[name], pads, self.boundary))
        return h


def _layers(width: int, blocks: int, axes: int) -> tuple[Layer, ...]:
    def layer(path: str, outs: int, ins: int, size: int, gain: float, activated: bool = False) -> Layer:
        return Layer(path, (outs, ins, *(size,) * axes), gain * deviation(ins * size**axes, activated=activated))

    layers = [layer("enc/in", width, 2, 4, 1.0), layer("enc/out", 1, width, 1, 1.0), layer("dec/in", width, 1, 4, 1.0)]
    for part in ("enc", "dec"):
        for i in range(1, blocks + 1):
            # N branches of variance 1/N make the sum's grow by a factor of e at most, at any N.
            gain = 1.0 if (part, i) == ("dec", blocks) else blocks**-0.5
            layers.append(layer(f"{part}/block{i}/conv1", width, width, 4, 1.0, True))
            layers.append(layer(f"{part}/block{i}/conv2", width, width, 4, gain, True))
    return (*layers, layer("dec/out", 1, width, 5, 0.01))
