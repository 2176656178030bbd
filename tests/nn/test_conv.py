"""Convolutions of one sample: their derivatives, and the layouts in which the gradients are computed."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

import smdpx as sx
from smdpx.nn._conv import conv, conv_up

CASES = {
    "same": (lambda h, layer: conv(h, layer, (1, 2)), 4, 2),
    "periodic": (lambda h, layer: conv(h, layer, (1, 2), "periodic"), 4, 2),
    "up": (conv_up, 3, 2),
    "periodic in 1-D": (lambda h, layer: conv(h, layer, (1, 2), "periodic"), 4, 1),
    "up in 1-D": (conv_up, 3, 1),
    "periodic in 3-D": (lambda h, layer: conv(h, layer, (1, 2), "periodic"), 4, 3),
}


def plain(case, h, w):
    """The same maps as one `lax` convolution, whose derivatives are JAX's own."""
    axes = h.ndim - 1
    up, cells = "up" in case, "DHW"[3 - axes :]
    pads = ((2, 1) if up else (1, 2),) * axes
    if "periodic" in case:
        h, pads = jnp.pad(h, (*pads, (0, 0)), mode="wrap"), "VALID"
    dilation, layouts = (2 if up else 1,) * axes, (f"N{cells}C", f"OI{cells}", f"N{cells}C")
    ones = (1,) * axes
    return lax.conv_general_dilated(h[None], w, ones, pads, lhs_dilation=dilation, dimension_numbers=layouts)[0]


def normal(seed, shape):
    """Numbers by NumPy: nothing to compile for each shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), float)


def both(case):
    ours, side, axes = CASES[case]
    h, w = normal(0, (3, *(6,) * axes, 2)), normal(1, (5, 2, *(side,) * axes))
    zeros = jnp.zeros(5)
    batch = lambda f: lambda h, w: jax.vmap(lambda h: f(h, w))(h)  # noqa: E731
    return batch(lambda h, w: ours(h, {"w": w, "b": zeros})), batch(partial(plain, case)), h, w


@pytest.mark.parametrize("case", CASES)
def test_reverse_mode_is_that_of_the_plain_convolution(case):
    ours, theirs, h, w = both(case)
    cotangent = normal(2, jax.eval_shape(ours, h, w).shape)

    @partial(jax.jit, static_argnums=0)
    def pulled(f, h, w):
        value, pull = jax.vjp(f, h, w)
        return value, pull(cotangent)

    (value, slopes), (expected, slopes_expected) = pulled(ours, h, w), pulled(theirs, h, w)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    for a, b in zip(slopes, slopes_expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_forward_mode_is_that_of_the_plain_convolution(case):
    ours, theirs, h, w = both(case)
    tangents = normal(3, h.shape), normal(4, w.shape)
    pushed = jax.jit(lambda f, *at: jax.jvp(f, at, tangents), static_argnums=0)
    for a, b in zip(pushed(ours, h, w), pushed(theirs, h, w), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_derivatives_of_gradients_are_those_of_the_plain_convolution():
    ours, theirs, h, w = both("same")

    @partial(jax.jit, static_argnums=0)
    def curvature(f):
        slope = jax.grad(lambda w: jnp.sum(jnp.tanh(f(h, w))))
        return jax.jvp(slope, (w,), (jnp.ones_like(w),))[1]

    np.testing.assert_allclose(curvature(ours), curvature(theirs), atol=1e-4)


def test_networks_of_several_seeds_are_differentiated_side_by_side():
    ours, theirs, h, w = both("same")
    several = jnp.stack([w, 2 * w])
    slope = lambda f: jax.jit(jax.vmap(jax.grad(lambda w: jnp.sum(jnp.sin(f(h, w))))))(several)  # noqa: E731
    np.testing.assert_allclose(slope(ours), slope(theirs), atol=1e-4)


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_gradients_convolve_in_the_layout_that_is_fast_in_loops(kind):
    """XLA's CPU backend has a fast convolution for one layout alone, and brings no other into it inside a loop."""
    make = {"resnet": lambda key: sx.nn.ResNet(8, 4, 2, key=key), "unet": lambda key: sx.nn.UNet(8, (4, 4), key=key)}
    net = make[kind](jr.key(0))
    x = jnp.ones((3, 8, 8))
    loss = lambda net: jnp.sum(jax.vmap(net, (None, 0))(0.1, x) ** 2)  # noqa: E731
    layouts = [
        eqn.params["dimension_numbers"]
        for eqn in _equations(jax.make_jaxpr(eqx.filter_grad(loss))(net).jaxpr)
        if eqn.primitive is lax.conv_general_dilated_p
    ]
    assert len(layouts) > 8
    assert {(d.lhs_spec, d.rhs_spec, d.out_spec) for d in layouts} == {((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))}


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from _equations(inner)
