"""The network of LPIPS, AlexNet (v0.1), over weights that the user brings: none are shipped, none are fetched.

Five layers of convolution and ReLU, max-pooling (3 wide, stride 2) in front of the second and the third. With features
f_l of layer l, each pixel's divided by their norm over the channels, and linear weights w_l ≥ 0 of the channels,

    d(x, y) = Σ_l  mean over pixels of  Σ_c w_lc (f_lc(x) - f_lc(y))²

(Zhang et al. 2018, arXiv:1801.03924, eq 1; the layers are torchvision's ``alexnet().features`` up to the last ReLU, the
constants and names those of the package lpips 0.1.4).
"""

import os
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Weights: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]
"""A file of arrays by name, or the arrays: those of `SHAPES`."""

WRITE_WEIGHTS = """
    import lpips, numpy
    net = lpips.LPIPS(net="alex")  # fetches torchvision's AlexNet
    numpy.savez("lpips_alex.npz", **{name: value.numpy() for name, value in net.state_dict().items()})
"""


class _Layer(NamedTuple):
    name: str
    shape: tuple[int, int, int, int]  # channels out and in, pixels of the kernel
    stride: int
    padding: int
    pooled: bool  # before


_LAYERS = (
    _Layer("net.slice1.0", (64, 3, 11, 11), 4, 2, False),
    _Layer("net.slice2.3", (192, 64, 5, 5), 1, 2, True),
    _Layer("net.slice3.6", (384, 192, 3, 3), 1, 1, True),
    _Layer("net.slice4.8", (256, 384, 3, 3), 1, 1, False),
    _Layer("net.slice5.10", (256, 256, 3, 3), 1, 1, False),
)

SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{layer.name}.weight": layer.shape for layer in _LAYERS},
    **{f"{layer.name}.bias": layer.shape[:1] for layer in _LAYERS},
    **{f"lin{i}.model.1.weight": (1, layer.shape[0], 1, 1) for i, layer in enumerate(_LAYERS)},
}
"""The weights by their names in PyTorch, and their shapes."""

SMALLEST = 31
"""Pixels a side that leave the last layers one."""

# The mean and the deviation of ImageNet's colours, on [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


def read_weights(weights: Weights) -> dict[str, Float[Array, "..."]]:
    """The weights of `SHAPES`, from a file or as they are, checked."""
    arrays = weights if isinstance(weights, Mapping) else _read(weights)
    missing = [name for name in SHAPES if name not in arrays]
    if missing:
        raise ValueError(
            f"`weights` must hold the {len(SHAPES)} arrays of LPIPS on AlexNet; {len(missing)} are missing: "
            f"{', '.join(missing)}. {_whence()}"
        )
    found = {name: jnp.asarray(arrays[name], jnp.result_type(float)) for name in SHAPES}
    for name, shape in SHAPES.items():
        if found[name].shape != shape:
            raise ValueError(f"`weights[{name!r}]` must have shape {shape}, got {found[name].shape}. {_whence()}")
    return found


def _read(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    name = os.fspath(file)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"`weights` must be a file, and there is no {name}. {_whence()}")
    with open(name, "rb") as opened:
        try:
            archive = np.load(opened, allow_pickle=False)
            return {name: archive[name] for name in archive.files if name in SHAPES}
        except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(f"`weights` must be an .npz archive of arrays, and {name} is none. {_whence()}") from error


def _whence() -> str:
    return (
        "The weights are no part of smdpx: they are torchvision's AlexNet and the linear layers of the package lpips. "
        f"Write them once, where torch, torchvision and lpips are installed:\n{WRITE_WEIGHTS}"
    )


def alexnet_distance(
    x: Float[Array, "h w 3"], y: Float[Array, "h w 3"], weights: dict[str, Float[Array, "..."]]
) -> Float[Array, ""]:
    """The distance d of two images with colours in [-1, 1]."""
    distance = jnp.zeros((), x.dtype)
    for i, (f, g) in enumerate(zip(_features(x, weights), _features(y, weights), strict=True)):
        linear = weights[f"lin{i}.model.1.weight"][0]
        distance += jnp.mean(jnp.sum(linear * (_unit(f) - _unit(g)) ** 2, axis=0))
    return distance


def _features(x: Float[Array, "h w 3"], weights: dict[str, Float[Array, "..."]]) -> list[Float[Array, "c _ _"]]:
    """What each layer gives."""
    shift, scale = (jnp.asarray(values, x.dtype)[None, None, :] for values in (_SHIFT, _SCALE))
    x = jnp.moveaxis((x - shift) / scale, -1, 0)
    features = []
    for layer in _LAYERS:
        if layer.pooled:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3), (1, 2, 2), "VALID")
        x = jax.lax.conv_general_dilated(
            x[None],
            weights[f"{layer.name}.weight"],
            (layer.stride, layer.stride),
            [(layer.padding, layer.padding)] * 2,
            precision=jax.lax.Precision.HIGHEST,
        )[0]
        x = jax.nn.relu(x + weights[f"{layer.name}.bias"][:, None, None])
        features.append(x)
    return features


def _unit(f: Float[Array, "c h w"]) -> Float[Array, "c h w"]:
    """Each pixel's features over their norm; the constant is the original's, for pixels without any."""
    return f / (jnp.sqrt(jnp.sum(f**2, axis=0, keepdims=True)) + 1e-10)
