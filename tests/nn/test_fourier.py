"""The Fourier filter: a table over wavenumber and time, linear in the field, and blind to place and direction."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.exact import LinearGaussianField, power_law_field
from smdpx.nn import FourierFilter
from tests._problems import as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
T_MAX, T_MIN, NODES, SCALE = 0.2, 1e-3, 6, 500.0
# The table's times: u = log(1 + t/t_min) in equal parts.
TIMES = T_MIN * np.expm1(np.linspace(0, np.log1p(T_MAX / T_MIN), NODES))
FILTER, TABLE = np.sinh, np.arcsinh  # from the table's values to the filter in units of -scale, and back


def network(n=8, values=None, **how):
    net = FourierFilter(n, **{"t_max": T_MAX, "t_min": T_MIN, "nodes": NODES, "scale": SCALE, **how})
    if values is None:
        values = 0.3 * jax.random.normal(KEY, net.values.shape)
    return eqx.tree_at(lambda net: net.values, net, jnp.asarray(values, net.values.dtype))


def field(n=8, key=KEY):
    return jax.random.normal(key, (n, n))


def rates(net, t):
    return np.asarray(net.linear(t).rates)


# Its form


@pytest.mark.parametrize(("n", "wavenumbers"), [(2, 3), (3, 3), (8, 15), (32, 135)])
def test_it_has_a_parameter_for_each_wavenumber_and_time(n, wavenumbers):
    net = network(n, nodes=7)
    assert sum(leaf.size for leaf in jax.tree.leaves(net)) == 7 * wavenumbers


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_it_returns_a_field_and_is_its_own_linear_part(n):
    net, x, y = network(n), field(n), field(n, jax.random.key(1))
    assert net(0.1, x).shape == (n, n)
    np.testing.assert_array_equal(net(0.1, x, "ignored"), net.linear(0.1)(x))
    np.testing.assert_allclose(net(0.1, 2 * x - y), 2 * net(0.1, x) - net(0.1, y), rtol=1e-4, atol=0.1)


def test_it_starts_as_white_noises_score_at_every_time():
    net = FourierFilter(8, t_max=T_MAX, t_min=T_MIN, scale=SCALE)
    for t in (0.0, 0.01, T_MAX):
        np.testing.assert_allclose(net(t, field()), -SCALE * FILTER(0.0) * field(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: jnp.roll(x, (3, -2), (0, 1)),
        lambda x: x.T,
        lambda x: jnp.rot90(x),
        lambda x: jnp.roll(x[::-1], 1, 0),
        lambda x: -x,
    ],
    ids=["translation", "transposition", "rotation", "reflection", "sign"],
)
@pytest.mark.parametrize("n", [8, 9])
def test_it_commutes_with_the_symmetries_of_the_square(move, n):
    net = network(n)
    np.testing.assert_allclose(net(0.03, move(field(n))), move(net(0.03, field(n))), rtol=1e-4, atol=2e-3)


# Its table


def at(net, wavenumber_squared):
    """The column of the table, by what it does to a plane wave: modes of one |k|² share it."""
    k = np.fft.fftfreq(net.n, 1 / net.n)
    squares = np.unique(k[:, None] ** 2 + k[None] ** 2)
    return int(np.flatnonzero(squares == wavenumber_squared)[0])


@pytest.mark.parametrize("k", [(0, 0), (1, 0), (0, -1), (2, 1), (-1, 2), (4, 4)])
def test_at_its_nodes_the_filter_is_the_tables(k):
    net = network()
    r = 2 * np.pi * np.arange(8) / 8
    wave = jnp.asarray(np.cos(k[0] * r[:, None] + k[1] * r[None, :]), jnp.float32)
    column = np.asarray(net.values[:, at(net, k[0] ** 2 + k[1] ** 2)])
    for t, h in zip(TIMES, column, strict=True):
        np.testing.assert_allclose(net(t, wave), -SCALE * FILTER(h) * wave, rtol=1e-3, atol=1e-2)


def test_between_nodes_the_table_is_linear_in_log_time():
    net = network()
    h = [TABLE(rates(net, t) / -SCALE) for t in TIMES]
    for m in range(NODES - 1):
        for part in (0.25, 0.5, 0.9):
            u = (1 - part) * np.log1p(TIMES[m] / T_MIN) + part * np.log1p(TIMES[m + 1] / T_MIN)
            between = TABLE(rates(net, T_MIN * np.expm1(u)) / -SCALE)
            np.testing.assert_allclose(between, (1 - part) * h[m] + part * h[m + 1], atol=2e-5)


def test_outside_its_times_it_is_constant():
    net = network()
    np.testing.assert_array_equal(rates(net, 5.0), rates(net, T_MAX))
    np.testing.assert_array_equal(rates(net, -0.1), rates(net, 0.0))


def test_a_table_of_the_exact_score_is_the_exact_score():
    exact = LinearGaussianField(power_law_field(8), g=0.1)
    times = jnp.asarray(TIMES[1:])  # at 0 the empty mode has no variance
    tables = TABLE(np.asarray(jax.vmap(lambda t: exact.score.linear(t).rates)(times)) / -SCALE)
    k = np.fft.fftfreq(8, 1 / 8)
    _, index = np.unique(k[:, None] ** 2 + k[None, :5] ** 2, return_index=True)
    values = np.concatenate([tables[:1], tables]).reshape(NODES, -1)[:, index]
    net = network(values=values)
    for t in TIMES[1:]:
        np.testing.assert_allclose(net(t, field()), exact.score(t, field()), rtol=1e-3, atol=1e-2 * SCALE)


def test_an_entry_of_the_table_gets_its_gradient_from_its_own_times_and_waves():
    def value(net):
        return net(TIMES[2], jnp.ones((8, 8)))[0, 0]

    gradient = jax.grad(value)(network()).values
    assert np.abs(gradient).argmax() == 2 * gradient.shape[1]  # node 2, |k| = 0
    others = np.delete(np.abs(gradient).ravel(), 2 * gradient.shape[1])
    assert others.max() < 1e-3 * np.abs(gradient).max()


# In equations, in any precision


def test_it_is_a_score_for_the_exponential_solver():
    s = sx.Score(network(), sx.Diffusion(0.1))
    one = sx.solve(-sx.Drift(sx.physics.Heat(8)) + 2 * s, field()[None], [0.1, 0.08], solver=sx.ExponentialEuler())
    L = 0.1**2 * network().linear(0.09) + -1 * (-1 * (-1 * sx.physics.Heat(8).linear(0.0)))
    np.testing.assert_allclose(one[0, -1], L.function(lambda rates: jnp.exp(0.02 * rates), field()), atol=2e-5)


def test_states_and_tables_of_any_precision():
    with double_precision():
        assert network().values.dtype == jnp.float64
        single = network(dtype=jnp.float32)
        assert single.values.dtype == jnp.float32
        for net in (network(), single):
            for dtype in (jnp.float32, jnp.float64):
                assert net(0.1, jnp.ones((8, 8), dtype)).dtype == dtype


def test_times_may_be_traced_and_differ_from_sample_to_sample():
    net, times, x = network(), jnp.array([0.0, 0.01, 0.3]), jax.random.normal(KEY, (3, 8, 8))
    batch = jax.jit(jax.vmap(net))(times, x)
    single = jnp.stack([net(t, x) for t, x in zip(times, x, strict=True)])
    np.testing.assert_allclose(batch, single, rtol=1e-4, atol=1e-2)


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n": 1}, "`n` and `nodes` must be at least 2, got 1 and 6"),
        ({"nodes": 1}, "`n` and `nodes` must be at least 2, got 8 and 1"),
        ({"t_max": 0.0}, "`t_max` must be positive, got 0.0"),
        ({"t_min": -1.0}, "`t_min` must be positive, got -1.0"),
        ({"scale": float("nan")}, "`scale` must be positive, got nan"),
    ],
)
def test_what_is_out_of_range_is_named(how, message):
    with pytest.raises(ValueError, match=message):
        network(**how)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("shape", [(9, 9), (8, 9), (8,), (2, 8, 8), ()])
def test_it_filters_one_field_of_its_size(shape):
    with pytest.raises(ValueError, match=r"one field of shape \(8, 8\), got \(.*jax.vmap"):
        network()(0.1, jnp.zeros(shape))
