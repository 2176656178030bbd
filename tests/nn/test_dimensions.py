"""Networks of fields of one and three dimensions: those of two, seen on fields that do not vary along an axis."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import smdpx as sx
from smdpx.nn import FNO, DilResNet, ResNet, Tiled, UNet
from smdpx.nn._fno import spectral_conv
from tests._problems import as_users_run as as_users_run
from tests.nn.test_fields import apply, quick_jit

KEY = jr.key(0)


def resnet(shape):
    return ResNet(shape, width=3, blocks=2, out_scale=30.0, key=KEY)


def unet(shape):
    return UNet(shape, widths=(3, 4, 4), key=KEY)


def dilated(shape):
    net = DilResNet(shape, width=3, blocks=2, dilations=(1, 2), key=KEY)
    return eqx.tree_at(lambda net: net.arrays["out"]["w"], net, replace_fn=lambda w: 100 * w)


def tiled(shape):
    return Tiled(unet(tuple(n + 8 for n in shape)), 4)


def line(axes, n=8):
    """A field that varies along the first `axes` axes."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(n,) * axes), float)


def one_axis_more(net, wider):
    """The weights of a network in one dimension more, where every kernel leaves the new axis as it is."""

    def extend(path, w):
        if w.ndim < 3:
            return w
        side, taps = w.shape[-1], np.zeros(w.shape[-1])
        # The cell itself; of a transposed convolution one tap at even and one at odd cells.
        taps[[1, 2] if path[-2] == jtu.DictKey("up") else [side // 2]] = 1.0
        # By NumPy: nothing to compile for each kernel.
        return jnp.asarray(np.asarray(w)[..., None] * taps.astype(w.dtype))

    extended = [extend(path, w) for path, w in jtu.tree_leaves_with_path(net)]
    assert [w.shape for w in extended] == [w.shape for w in jtu.tree_leaves(wider)]
    return jtu.tree_unflatten(jtu.tree_structure(wider), extended)


@pytest.mark.parametrize("make", [resnet, dilated, unet, tiled])
@pytest.mark.parametrize("axes", [1, 2])
def test_it_is_the_network_of_one_dimension_more_on_fields_that_are_constant_there(make, axes):
    net = make((8,) * axes)
    wider = one_axis_more(net, make((8,) * (axes + 1)))
    x = line(axes)
    got, expected = apply(net, 0.3, x), apply(wider, 0.3, jnp.repeat(x[..., None], 8, axis=-1))
    assert got.shape == x.shape
    assert np.std(got) > 0.02
    np.testing.assert_allclose(expected, np.repeat(np.asarray(got)[..., None], 8, axis=-1), atol=2e-5)


def test_a_line_is_moved_with_its_field():
    net, x = resnet((8,)), line(1)
    np.testing.assert_allclose(apply(net, 0.3, jnp.roll(x, 3)), jnp.roll(apply(net, 0.3, x), 3), atol=1e-5)


def test_weights_and_errors_are_those_of_the_dimension():
    assert sum(leaf.size for leaf in jax.tree.leaves(eqx.filter_eval_shape(lambda: ResNet((32,), key=KEY)))) == 83_202
    with pytest.raises(ValueError, match=r"shape \(8,\), got shape \(3, 8\).*vmap"):
        resnet((8,))(0.1, jnp.zeros((3, 8)))
    with pytest.raises(ValueError, match=r"a field \(n,\), got shape \(3, 8\).*vmap"):
        FNO(2, 3, ndim=1, key=KEY)(0.1, jnp.zeros((3, 8)))


# The Fourier neural operator


def test_the_spectral_convolution_of_a_line_is_the_product_in_fourier_space():
    plus, n = FNO(3, 4, ndim=1, key=KEY).arrays["layer1"]["plus"], 8
    for k in (1, 2):
        wave = np.exp(2j * np.pi * k * np.arange(n) / n)
        got = spectral_conv(jnp.zeros((4, n)).at[0].set(np.real(wave)), plus)
        np.testing.assert_allclose(got, np.real(np.asarray(plus)[0, :, k, None] * wave), atol=1e-5)
    high = jnp.zeros((4, n)).at[0].set(jnp.cos(2 * jnp.pi * 3 * jnp.arange(8.0) / n))
    np.testing.assert_allclose(spectral_conv(high, plus), 0, atol=1e-5)


def test_the_fourier_operator_of_a_line_is_the_same_at_every_size_but_for_aliasing():
    net = FNO(3, 4, ndim=1, key=KEY)
    # Its grid channel jumps at the border, which no size resolves.
    net = eqx.tree_at(lambda net: net.arrays["lift"]["w"], net, net.arrays["lift"]["w"].at[:, 1:].set(0))
    coarse, fine = (apply(net, 0.0, jnp.cos(2 * jnp.pi * jnp.arange(float(n)) / n)) for n in (32, 64))
    assert np.std(coarse) > 0.01
    np.testing.assert_allclose(fine[::2], coarse, atol=1e-4)


# Between the data's moments


@pytest.mark.parametrize(
    "make", [resnet, unet, lambda shape: FNO(3, 4, ndim=1, key=KEY)], ids=["resnet", "unet", "fno"]
)
def test_whitened_mode_by_mode_it_starts_at_the_gaussian_score(make):
    x = sample_lines()
    net = sx.nn.Whitened(make((8,)), sx.Trajectories(x, [0.0, 0.5, 1.0]), basis=sx.Fourier.like)
    modes = np.fft.rfft(np.asarray(x[:, 1]) - np.asarray(x[:, 1]).mean(0), norm="ortho")
    v = np.mean(abs(modes) ** 2, axis=0)
    mean = np.fft.rfft(np.asarray(x[:, 1]).mean(0), norm="ortho")
    mean = np.where(abs(mean) ** 2 > 2 * np.log(len(v)) * v / len(x), mean, 0)  # no more than chance
    expected = np.fft.irfft((mean - np.fft.rfft(np.asarray(x[0, 1]), norm="ortho")) / v, norm="ortho")
    np.testing.assert_allclose(quick_jit(lambda x: net(0.5, x))(x[0, 1]), expected, rtol=1e-3, atol=1e-3)


def test_whitened_it_trains():
    x = sample_lines()
    paths = sx.Trajectories(x, [0.0, 0.1, 0.2])
    net = sx.nn.Whitened(resnet((8,)), paths, basis=sx.Fourier.like)
    P, noise = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    how: Any = {"key": KEY, "curriculum": [sx.Stage(updates=5, batch=16, learning_rate=1e-2)]}
    trained = sx.fit(-P + 2 * sx.Score(net, noise), paths, loss=sx.WindowLoss(solver=sx.ExponentialHeun()), **how).net
    assert float(trained.gain) != 0
    moved = quick_jit(lambda net: net(0.1, x[0, 1]))
    assert np.all(np.isfinite(moved(trained)))
    assert not np.allclose(moved(trained), moved(net))


def sample_lines():
    """Lines of 8 cells at 3 times, smooth ones, that noise drives slowly away from 1."""
    draws = np.fft.rfft(np.random.default_rng(2).normal(size=(64, 3, 8))) / (1 + np.arange(5))
    return jnp.asarray(1 + np.cumsum(np.fft.irfft(draws) * np.array([[1.0], [0.3], [0.3]]), axis=1), jnp.float32)
