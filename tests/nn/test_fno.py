"""The Fourier neural operator: an operator on functions, whatever the size of their grid."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from smdpx.nn import FNO
from smdpx.nn._fno import spectral_conv
from tests._problems import as_users_run as as_users_run
from tests.nn.test_fields import apply, fields, quick_jit, small

KEY = jr.key(0)


def wave(n):
    """A function on the square with waves of at most 3 periods, at the points of an n x n grid."""
    a = 2 * jnp.pi * jnp.arange(n, dtype=float) / n
    return jnp.cos(a)[:, None] * jnp.sin(2 * a)[None, :] + 0.5 * jnp.cos(3 * a + 1)[None, :]


def test_fno_spectral_convolution_is_an_operator_on_functions():
    layer = small("fno").arrays["layer1"]

    def act(n):
        channels = jnp.stack([wave(n) ** power for power in range(4)])
        return spectral_conv(channels, layer["plus"], layer["minus"])

    coarse, fine = quick_jit(lambda: (act(32), act(64)))()
    assert np.std(coarse) > 0.1
    assert np.allclose(fine[:, ::2, ::2], coarse, atol=1e-5)


def test_fno_spectral_convolution_commutes_with_translations():
    layer = small("fno").arrays["layer1"]
    h = fields(4, 10)
    act = quick_jit(lambda h: spectral_conv(h, layer["plus"], layer["minus"]))
    assert np.allclose(act(np.roll(h, (3, 4), (1, 2))), np.roll(act(h), (3, 4), (1, 2)), atol=1e-5)


def test_fno_spectral_convolution_is_the_product_in_fourier_space():
    """One mode at a time: exp(i k·r) of channel 0 gets the entry of k as its factor."""
    layer, n = small("fno").arrays["layer1"], 8
    place = np.arange(n) / n
    for kx, ky in ((0, 1), (2, 1), (-1, 2), (-3, 1)):
        phase = np.exp(2j * np.pi * (kx * place[:, None] + ky * place[None, :]))
        factors = np.asarray(layer["plus"] if kx >= 0 else layer["minus"])[0, :, kx, ky]
        expected = np.real(factors[:, None, None] * phase)
        h = jnp.zeros((4, n, n)).at[0].set(np.real(phase))
        assert np.allclose(spectral_conv(h, layer["plus"], layer["minus"]), expected, atol=1e-5)


def test_fno_is_the_same_at_every_size_but_for_aliasing():
    # Its grid channels jump at the square's border, which no size resolves.
    weight = small("fno").arrays["lift"]["w"].at[:, 1:].set(0)
    net = eqx.tree_at(lambda net: net.arrays["lift"]["w"], small("fno"), weight)
    coarse, fine = (apply(net, 0.0, wave(n)) for n in (32, 64))
    assert np.std(coarse) > 0.01
    assert np.allclose(fine[::2, ::2], coarse, atol=1e-4)


def test_fno_wants_two_cells_a_mode():
    net = eqx.filter_eval_shape(lambda: FNO(4, 2, key=KEY))
    assert eqx.filter_eval_shape(lambda net, x: net(0.0, x), net, jnp.zeros((8, 8))).shape == (8, 8)
    with pytest.raises(ValueError, match=r"at least 2 modes = 8 cells a side, got 7.*FNO\(modes=3\)"):
        eqx.filter_eval_shape(lambda net, x: net(0.0, x), net, jnp.zeros((7, 7)))
