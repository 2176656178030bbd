"""A dilated residual network at one resolution, Stachenfeld et al. 2022, arXiv:2112.15275, in the size of the paper.

With k_d a convolution whose kernel's cells are d apart, and σ the LeakyReLU of slope .01,

    h₀ = k₁[x, t],    hᵢ = hᵢ₋₁ + (σ k_{d₄} σ k_{d₃} σ k_{d₂} σ k_{d₁}) hᵢ₋₁,   i = 1..N,    net(t, x) = k₁ h_N.
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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


class DilResNet(eqx.Module):
    """A residual network of dilated convolutions of [x, t] that returns a field shaped like x, or of other channels.

    Nothing between its first and its last layer is narrower than ``width``, and dilations let a cell see far with few
    layers: the radius of what it sees is 2 + ``blocks`` · Σ ``dilations`` cells. The defaults are the size in
    arXiv:2301.10250, §4.3; on a line of 64 cells two blocks of ``dilations=(1, 2, 4, 8, 4, 2, 1)``, as in Stachenfeld
    et al., see all of it.

    Args:
        shape: of one field, n or (n, n), or (n,) or (n, n, n); without an axis for channels.
        width: channels of the activations.
        blocks: residual blocks.
        dilations: of a block's convolutions, in order.
        channels: of the fields that come in and go out, which then have them as their last axis: with (6, 3) a field
            (n, n, 6), such as velocities beside a mask and positions, becomes one (n, n, 3). Default: no such axis.
        boundary: "periodic" (cells at the border have those at the other side as neighbours) or "zero".
        key: draws the weights.
        dtype: of the weights; by default JAX's default float.

    Attributes:
        arrays: "in", "block1" with "conv1", "conv2", ..., "out", each with "w" (out, in, height, width; in other
            dimensions alike) and "b" (out,).

    Raises:
        ValueError: ``shape`` has unequal sides, a count or a dilation is not positive, ``channels`` are not two, or
            ``boundary`` is neither word; or, when called, x is not one field of the network's shape.
        TypeError: when called, x has another precision than the weights.

    >>> import jax, jax.numpy as jnp
    >>> net = DilResNet((64,), width=8, blocks=2, dilations=(1, 2, 4, 8, 4, 2, 1), key=jax.random.key(0))
    >>> net(0.1, jnp.zeros(64)).shape
    (64,)
    """

    arrays: dict[str, Any]
    shape: tuple[int, ...] = eqx.field(static=True)
    dilations: tuple[int, ...] = eqx.field(static=True)
    channels: tuple[int, int] | None = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 48,
        blocks: int = 4,
        dilations: tuple[int, ...] = (1, 2, 2, 1),
        *,
        channels: tuple[int, int] | None = None,
        boundary: Boundary = "periodic",
        key: Key,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        if channels is not None and np.shape(channels) != (2,):
            raise ValueError(
                f"`channels` must be two counts, of the fields that come in and go out, such as (3, 3), got {channels}"
            )
        at_least_1(width=width, blocks=blocks, dilations=min(dilations, default=0), channels=min(channels or (1,)))
        check_boundary(boundary)
        self.shape = sides(shape, "DilResNet")
        layers = _layers(channels or (1, 1), width, blocks, len(dilations), len(self.shape))
        self.arrays = init_layers(key, layers, jnp.result_type(float) if dtype is None else dtype)
        self.dilations = tuple(dilations)
        self.channels = channels
        self.boundary = boundary

    def __call__(self, t: RealScalarLike, x: Float[Array, "*field"], args: Args = None) -> Float[Array, "*out"]:
        """Evaluate the network on one field; ``args`` is ignored.

        Args:
            t: physical time, a scalar.
            x: one field of the network's shape, with its channels as the last axis where it has some.
            args: ignored.

        Returns:
            A field shaped like ``x``, or with the channels that go out.

        Raises:
            ValueError: ``x`` is not one field of the network's shape.
            TypeError: ``x`` has another precision than the weights.
        """
        del args
        ins = None if self.channels is None else self.channels[0]
        x = as_field(
            x, "DilResNet", self.shape, self.arrays["in"]["w"].dtype, "For other sizes, `DilResNet(shape=...)`", ins
        )
        h = conv(with_time(x if self.channels else x[..., None], t), self.arrays["in"], (1, 1), self.boundary)
        for block in itertools.takewhile(self.arrays.__contains__, (f"block{i}" for i in itertools.count(1))):
            branch = h
            for i, d in enumerate(self.dilations, start=1):
                branch = leaky_relu(conv(branch, self.arrays[block][f"conv{i}"], (d, d), self.boundary, d))
            h = h + branch
        out = conv(h, self.arrays["out"], (1, 1), self.boundary)
        return out if self.channels else out[..., 0]


def _layers(channels: tuple[int, int], width: int, blocks: int, depth: int, axes: int) -> tuple[Layer, ...]:
    def layer(path: str, outs: int, ins: int, gain: float = 1.0, activated: bool = False) -> Layer:
        return Layer(path, (outs, ins, *(3,) * axes), gain * deviation(ins * 3**axes, activated=activated))

    layers = [layer("in", width, channels[0] + 1)]
    for i in range(1, blocks + 1):
        for j in range(1, depth + 1):
            # N branches of variance 1/N make the sum's grow by a factor of e at most, at any N.
            gain = blocks**-0.5 if j == depth else 1.0
            layers.append(layer(f"block{i}/conv{j}", width, width, gain, activated=True))
    return (*layers, layer("out", channels[1], width, 0.01))
