"""Scores around a dissipation that states its linear part: which mode is counted from it, and which from the data."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import OU
from tests.nn.test_whitened import TS, K, linear, normal, score, small


class Decay:
    """dx/dt = -rate x, all of it stated."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, t, x, args):
        return -self.rate * x

    def linear(self, t):
        return sx.Diagonal(-self.rate * jnp.ones(()))


@eqx.filter_jit
def more(net, t, balance):
    """What the Gaussian pulls more than a balance."""
    return net.more(t, sx.Diagonal(balance * jnp.ones(()))).rates


def around(rate, start, g=0.5, **how):
    """The untrained score around a decay, of paths that start from N(1, start²)."""
    D, noise = sx.Drift(Decay(rate), name="D"), sx.Diffusion(g)
    paths = sx.simulate(D + noise, 1 + start * normal(4000, 1), TS, key=K[1])
    return D, noise, sx.Score(sx.nn.Whitened(small((1,)), paths), noise, around=D, **how), paths


def test_what_has_relaxed_is_counted_from_the_dissipation_alone():
    # Stationary: the data's Gaussian and the balance pull alike, and the wider the data are the less it pulls.
    D, g, s, _ = around(rate=2.0, start=10.0)
    x = jnp.array([0.3])
    np.testing.assert_allclose(more(s.net, 0.0, -2 * 2.0 / 0.5**2), 0)
    np.testing.assert_allclose(score(s, 0.0, x), 2 * D.rate(0.0, x, None) / 0.5**2, rtol=1e-5)


def test_what_others_drive_is_counted_from_the_dissipation_once_it_has_relaxed():
    # Its variance is 1 / .6 of what noise and dissipation leave: that Gaussian would hardly damp the way back.
    rate, g = 30.0, 0.5
    left = g / np.sqrt(2 * rate)
    driven = {"c": sx.PerSample(np.sqrt(2 / 3) * left * jnp.asarray(normal(4000, 1)))}
    starts = driven["c"].value + left * normal(4000, 1, seed=1)
    A, D = sx.Drift(lambda t, x, args: rate * args["c"], name="A"), sx.Drift(Decay(rate), name="D")
    paths = sx.simulate(A + D + sx.Diffusion(g), starts, TS, key=K[1], args=driven)
    net = sx.nn.Whitened(small((1,)), paths)
    balance = 2 * rate / g**2
    assert float(1 / paths.x[:, -1].var() / balance) == pytest.approx(0.6, abs=0.03)
    np.testing.assert_allclose(more(net, 1.0, -balance), 0)


def test_after_a_narrow_start_the_data_pull_more_than_the_dissipation():
    _, _, s, _ = around(rate=2.0, start=0.1)
    x, balance, data = jnp.array([1.1]), 2 * 2.0 / 0.5**2, 1 / 0.1**2
    assert balance < data
    np.testing.assert_allclose(score(s, 0.0, x), -data * (x - 1), rtol=0.05)
    np.testing.assert_allclose(linear(s, 0.0, x), -0.5 * 0.5**2 * data * x, rtol=0.05)


def test_the_way_back_to_a_narrow_start_is_found_before_any_training():
    D, g, s, paths = around(rate=0.1, start=0.1)
    draws = sx.posterior(-D + 2 * s + g, paths.end[:4], TS[::-1], 500, key=K[2])
    exact = OU(rate=0.1, g=0.5, mean=1.0, var=0.1**2).posterior(np.asarray(paths.end[:4, 0]))
    np.testing.assert_allclose(draws.mean(axis=0)[:, 0], exact[0], atol=0.02)
    np.testing.assert_allclose(draws.std(axis=0)[:, 0], np.sqrt(exact[1]), atol=0.02)


@pytest.mark.parametrize(("rate", "share"), [(0.3, 1.0), (1.0, 0.5), (2.0, 0.0)])
def test_a_mode_that_grows_by_little_is_counted_from_the_data_and_one_that_grows_by_much_from_the_dissipation(
    rate, share
):
    # From so wide a start the Gaussian leaves the whole rate, and over one time unit a growth of e^rate.
    _, g, s, _ = around(rate=rate, start=10.0)
    balance = -2 * rate / 0.5**2
    np.testing.assert_allclose(more(s.net, 0.5, balance), -share * balance, rtol=0.15, atol=0.1)


def test_what_is_damped_is_counted_from_the_data_however_fast():
    # Stationary at two thirds of the variance at which noise and dissipation balance.
    x = np.sqrt(0.5**2 / (3 * 50.0)).astype("f") * normal(4000, 21, 1)
    net = sx.nn.Whitened(small((1,)), sx.Trajectories(x, TS))
    balance = -2 * 50.0 / 0.5**2
    np.testing.assert_allclose(more(net, 0.5, balance), 0.5 * balance, rtol=0.2)


def test_modes_of_another_basis_than_the_datas_are_left_alone():
    D, g, s, _ = around(rate=2.0, start=0.05)
    waves = sx.Fourier(-jnp.ones(1))
    net: Any = s.net
    assert net.more(0.0, waves) is None
