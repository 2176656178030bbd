"""Parity with the published code of arXiv:2301.10250: its weights in our network, its two inferences in our solve."""

import math
import pathlib
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

DATA = pathlib.Path(__file__).parent / "data"
G, STEPS, DT = 0.1, 32, 0.2 / 32


class GivenNoise(dfx.AbstractBrownianPath):
    """Increments √dt ξ_j with given normals ξ_j, j the step."""

    normals: jax.Array
    t0: Any = eqx.field(static=True, default=-math.inf)
    t1: Any = eqx.field(static=True, default=math.inf)
    levy_area: Any = eqx.field(static=True, default=dfx.BrownianIncrement)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        step = jnp.round(jnp.asarray(t0) / DT).astype(jnp.int32)
        return jnp.sqrt(jnp.asarray(t1) - jnp.asarray(t0)) * self.normals[step]


@pytest.fixture(scope="module")
def published():
    """The arrays, and the equation's parts with the published weights as the score."""
    arrays = dict(np.load(DATA / "heat_trajectories.npz"))
    net = sx.nn.ResNet(64, boundary="zero", bypass_middle=True, key=jax.random.key(0))
    net = sx.nn.Tiled(sx.nn.load_arrays(net, DATA / "heat_resnet_weights.npz"), 16)
    P = sx.Drift.from_step(sx.physics.Heat(32).step, reverse=sx.mirror)
    return arrays, P, sx.Score(net, sx.Diffusion(G))


def relative(x, expected):
    x, expected = np.asarray(x), np.asarray(expected)
    return float(np.abs(x - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("field", "t", "expected"), [("xT", 0.2, "net_at_xT"), ("x0", 0.00625, "net_at_x0")])
def test_the_network_is_the_published_one(published, field, t, expected):
    arrays, _, s = published
    assert relative(s.net(t, jnp.asarray(arrays[field][0]), None), arrays[expected][0]) < 1e-4


def test_what_the_paper_calls_the_ode_is_minus_P_plus_s_in_its_units(published):
    arrays, P, s = published
    x = sx.solve(-P + s, jnp.asarray(arrays["xT"]), arrays["times"][::-1])
    assert relative(jnp.moveaxis(x, 1, 0), arrays["flow"]) < 1e-4


def test_what_the_paper_calls_the_sde_is_minus_P_plus_2s_plus_g_without_noise_in_the_last_step(published):
    arrays, P, s = published
    normals = np.concatenate([arrays["sde_noise"], np.zeros_like(arrays["sde_noise"][:1])])
    path = GivenNoise(normals=jnp.asarray(normals))
    x = sx.solve(-P + 2 * s + s.g, jnp.asarray(arrays["xT"]), arrays["times"][::-1], brownian_path=path)
    assert relative(jnp.moveaxis(x, 1, 0), arrays["sde"]) < 1e-4


def test_the_published_network_is_not_the_score(published):
    # Trained to repair the scheme: at k = 1 it has the other sign than the exact score, and a multiple of its size.
    arrays, _, s = published
    x = jnp.asarray(arrays["xT"][0])
    exact = sx.exact.LinearGaussianField(sx.exact.power_law_field(32), g=G, dt=DT)
    learned, truth = (np.fft.fft2(f(0.2, x, None)) for f in (s.net, exact.score))
    k = np.fft.fftfreq(32, 1 / 32)
    first = k[:, None] ** 2 + k**2 == 1
    slope = np.sum((learned * truth.conj()).real[first]) / np.sum(np.abs(truth[first]) ** 2)
    assert slope < -50
