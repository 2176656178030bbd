"""Fields compared as a person would compare their pictures: MS-SSIM, and LPIPS over weights that you bring.

A mean squared error punishes a sharp structure that is a pixel off more than no structure at all. These two compare
structure instead: `ms_ssim` means, variances and covariances in windows, at several scales; `lpips` the features of an
image network.

Images have a range of values, fields have none: both metrics put a range (low, high), the truth's unless you say
otherwise, on what images have. Values beyond it are not clipped.

Fields are on the last two axes, cases before them, draws before these; they need be neither square nor periodic.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import RealScalarLike
from ._alexnet import SMALLEST, Weights, alexnet_distance, read_weights
from ._common import Samples, as_samples, check_answers, check_array, require

_WINDOW = 11  # pixels of a Gaussian window of deviation 1.5, as SSIM is defined
# Of Wang et al. 2003, finest scale first: how much observers mind a difference at each.
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# So large a constant makes the luminance's ratio 1, which leaves contrast and structure.
_NO_LUMINANCE = 1e8


def ms_ssim(
    samples: Samples, truth: Samples, *, data_range: tuple[RealScalarLike, RealScalarLike] | None = None
) -> Float[np.ndarray, "..."]:
    """Multi-scale structural similarity of each field and its truth, 1 for equal ones; 1 - MS-SSIM is a distance.

    In windows of 11 × 11 pixels, with means μ, variances σ² and covariance σ_xy weighted by a Gaussian of deviation
    1.5, and C₁ = .01², C₂ = .03² on fields scaled to [0, 1],

        l = (2 μ_x μ_y + C₁) / (μ_x² + μ_y² + C₁),    cs = (2 σ_xy + C₂) / (σ_x² + σ_y² + C₂)

        MS-SSIM = (mean l·cs)_M^w_M · Π_{j < M} (mean cs)_j^w_j

    over scales j = 1 ... M, each of which has half the pixels a side of the one before, by means over 2 × 2 pixels (an
    odd last row counts twice); a negative mean counts as 0. (Wang, Simoncelli and Bovik 2003, eq 7, with their weights
    .0448, .2856, .3001, .2363, .1333.) The windows lie inside the field, also of a periodic one.

    M = 5 if 11 pixels are left at the coarsest scale, which takes 161 a side. Smaller fields have as many scales as
    leave 11, and the weights of these divided by their sum: 4 from 81, 3 from 41, 2 from 21, and below that plain
    SSIM. Compare values of one size only. The windows' means are `dm_pix.ssim`'s.

    Args:
        samples: one field a case, shape (cases, h, w), or draws of them, (draws, cases, h, w), at least 11 pixels a
            side. Of several channels, one at a time.
        truth: the true fields, shape (cases, h, w).
        data_range: (low, high), what [0, 1] stands for. By default the least and the greatest value of all of
            ``truth``: give it where values of several sets of cases are compared.

    Returns:
        The similarity of each field, in [0, 1], shape (cases,) or (draws, cases).

    Raises:
        ValueError: shapes that don't match, fields below 11 pixels a side, values that are not finite, or an empty
            range.
        ImportError: dm-pix is not installed.

    >>> import jax.random as jr
    >>> x = jr.normal(jr.key(0), (2, 32, 32))
    >>> [f"{similarity:.2f}" for similarity in ms_ssim(x + 0.1, x)]
    ['1.00', '1.00']
    >>> [f"{similarity:.1f}" for similarity in ms_ssim(x[::-1], x)]  # two cases that have nothing in common
    ['0.1', '0.1']
    """
    require("dm_pix")
    x, y = _scaled(samples, truth, data_range, least=_WINDOW)
    return _each(_ms_ssim, samples.shape[:-2], x, y)


def lpips(
    samples: Samples,
    truth: Samples,
    weights: Weights,
    *,
    data_range: tuple[RealScalarLike, RealScalarLike] | None = None,
    colours: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Float[np.ndarray, "..."]:
    """Learned perceptual distance of each field and its truth, LPIPS on AlexNet, v0.1 (Zhang et al. 2018).

    Σ_l mean over pixels of Σ_c w_lc (f_lc(x) - f_lc(y))², with the features f_l of AlexNet's five layers, of unit norm
    over the channels c at each pixel, and weights w that were fitted to what observers call alike.

    The weights are no part of smdpx, and nothing is fetched. Where torch, torchvision and lpips are installed, write
    them once:

        import lpips, numpy
        net = lpips.LPIPS(net="alex")  # fetches torchvision's AlexNet
        numpy.savez("lpips_alex.npz", **{name: value.numpy() for name, value in net.state_dict().items()})

    The code of arXiv:2301.10250 (§4.3, buoyancy) shows both fields in viridis, each from its own least to its own
    greatest value (but for a slip: the second's ends at the first's greatest). For this, scale the fields yourself, and
    pass ``data_range=(0, 1)`` and ``colours=matplotlib.colormaps["viridis"]``.

    Args:
        samples: one field a case, shape (cases, h, w), or draws of them, (draws, cases, h, w), at least 31 pixels a
            side. Of several channels, one at a time.
        truth: the true fields, shape (cases, h, w).
        weights: the ``.npz`` file, or a mapping from the same names to arrays: for the layers ``net.slice1.0``,
            ``net.slice2.3``, ``net.slice3.6``, ``net.slice4.8`` and ``net.slice5.10`` each ``.weight`` (channels out,
            channels in, pixels, pixels) and ``.bias``, and ``lin0.model.1.weight`` to ``lin4.model.1.weight``
            (1, channels, 1, 1). Other names are left alone.
        data_range: (low, high), what an image's [-1, 1] stands for. By default the least and the greatest value of all
            of ``truth``: give it where values of several sets of cases are compared.
        colours: from values, [0, 1] over the range, to colours in [0, 1] on one more axis of 3, or 4 whose last is
            left out; a colour map of matplotlib's is one. By default grey: the value in all three channels.

    Returns:
        The distance of each field, ≥ 0, without unit, shape (cases,) or (draws, cases); 0 for equal fields.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights that lack names or have other shapes, shapes of fields that don't match, fields below 31
            pixels a side, values that are not finite, an empty range, or colours of another shape.

    >>> import jax.numpy as jnp, jax.random as jr
    >>> from smdpx.metrics._alexnet import SHAPES  # stand-ins; else "lpips_alex.npz"
    >>> weights = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    >>> x = jr.normal(jr.key(0), (2, 32, 32))
    >>> lpips(x, x, weights).tolist()
    [0.0, 0.0]
    """
    arrays = read_weights(weights)
    x, y = (2 * _image(field, colours) - 1 for field in _scaled(samples, truth, data_range, least=SMALLEST))
    return _each(alexnet_distance, samples.shape[:-2], x, y, arrays)


def _scaled(
    samples: Samples, truth: Samples, data_range: tuple[RealScalarLike, RealScalarLike] | None, least: int
) -> tuple[Float[np.ndarray, "... h w"], Float[np.ndarray, "... h w"]]:
    """Check fields and their truths; give them with the range on [0, 1]."""
    for name, x in (("samples", samples), ("truth", truth)):
        check_array(name, x)
        if x.ndim < 3 or min(x.shape[-2:]) < least:
            raise ValueError(
                f"`{name}` must be fields of shape (cases, h, w) with at least {least} pixels a side, got shape "
                f"{x.shape}. For one field write `{name}[None]`; for channels in the end, `{name}[..., i]`; for fields "
                "that are too small, `jnp.repeat` their pixels along both axes"
            )
    check_answers("h, w", samples=samples, truth=truth)
    x, y = (as_samples(name, x).astype(np.float64) for name, x in (("samples", samples), ("truth", truth)))
    low, high = (y.min(), y.max()) if data_range is None else (float(end) for end in data_range)
    if not (np.isfinite([low, high]).all() and low < high):
        mend = "`truth` is constant, so name the range yourself" if data_range is None else "Its lower end comes first"
        raise ValueError(f"`data_range` must be (low, high), low < high, both finite, got ({low}, {high}). {mend}")
    return (x - low) / (high - low), (y - low) / (high - low)


def _image(
    x: Float[np.ndarray, "... h w"], colours: Callable[[np.ndarray], np.ndarray] | None
) -> Float[np.ndarray, "... h w 3"]:
    if colours is None:
        return np.repeat(x[..., None], 3, axis=-1)
    found = np.asarray(colours(x), np.float64)
    if found.shape not in ((*x.shape, 3), (*x.shape, 4)):
        raise ValueError(
            f"`colours` must give shape {(*x.shape, 3)}, or 4 in the end, of values of shape {x.shape}; it gave "
            f'{found.shape}. `matplotlib.colormaps["viridis"]` is one that does'
        )
    return found[..., :3]


def _each(
    compare: Callable[..., Array],
    front: tuple[int, ...],
    x: Float[np.ndarray, "..."],
    y: Float[np.ndarray, "..."],
    *args: Any,
) -> Float[np.ndarray, "..."]:
    """Compare image by image, each draw with its case's truth; ``front`` are the axes in front of an image's."""
    image = x.shape[len(front) :]
    dtype = jnp.result_type(float)
    both = (jnp.asarray(z, dtype).reshape(-1, *image) for z in (x, np.broadcast_to(y, x.shape)))
    return np.asarray(_map(compare, *both, *args)).reshape(front)


@eqx.filter_jit
def _map(compare: Callable[..., Array], x: Array, y: Array, *args: Any) -> Array:
    # In batches: features of all fields at once would take a hundred times the fields' memory.
    return jax.lax.map(lambda pair: compare(*pair, *args), (x, y), batch_size=32)


def _ms_ssim(x: Float[Array, "h w"], y: Float[Array, "h w"]) -> Float[Array, ""]:
    ssim = require("dm_pix").ssim
    means = []
    # dm_pix mixes integers and floats, which a user's stricter setting refuses.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for coarser in reversed(range(_scales(min(x.shape)))):
            means.append(ssim(x[..., None], y[..., None], k1=_NO_LUMINANCE if coarser else 0.01))
            x, y = _halved(x), _halved(y)
    exponents = np.array(_EXPONENTS[: len(means)]) / sum(_EXPONENTS[: len(means)])
    return jnp.prod(jnp.maximum(jnp.stack(means), 0) ** jnp.asarray(exponents, x.dtype))


def _scales(pixels: int) -> int:
    """How many scales have room for a window."""
    sizes = [-(-pixels // 2**j) for j in range(len(_EXPONENTS))]
    return sum(size >= _WINDOW for size in sizes)


def _halved(x: Float[Array, "h w"]) -> Float[Array, "_ _"]:
    even = jnp.pad(x, [(0, size % 2) for size in x.shape], mode="edge")
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
