"""Networks: one sample in, an array of its shape out, at any time, in any precision."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from smdpx.nn import FNO, MLP, DilResNet, Grid, ResNet, UNet
from tests._problems import as_users_run as as_users_run

KEY = jr.key(0)
SMALL = (8, 6)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5)])
def test_mlp_returns_an_array_shaped_like_its_state(shape):
    net = MLP(shape, SMALL, key=KEY)
    assert net(0.5, jnp.ones(shape)).shape == shape


def test_mlp_has_the_papers_layers():
    sizes = [w.shape for w in MLP(key=KEY).weights]
    assert sizes == [(2, 30), (30, 30), (30, 25), (25, 20), (20, 10), (10, 1)]
    assert sum(leaf.size for leaf in jax.tree.leaves(MLP(key=KEY))) == 2536


def test_mlp_starts_like_haiku():
    weight = MLP((100,), (1000,), key=KEY).weights[0] * 101**0.5
    # A normal cut at two deviations has standard deviation .8796.
    assert float(jnp.abs(weight).max()) <= 2.0
    assert float(weight.std()) == pytest.approx(0.8796, abs=0.01)


@pytest.mark.parametrize("t", [0, 0.0, -1.0])
def test_mlp_and_its_gradients_are_finite_at_time_zero(t):
    net = MLP(widths=SMALL, key=KEY)
    value, slope = jax.jit(lambda x: jax.value_and_grad(net, argnums=1)(t, x))(jnp.array(1.0))
    slope_t = jax.jit(jax.grad(net))(jnp.array(float(t)), jnp.array(1.0))
    assert jnp.isfinite(jnp.stack([value, slope, slope_t])).all()


def test_mlp_depends_on_time_above_t_min():
    net = MLP(widths=SMALL, key=KEY, t_min=0.1)
    x = jnp.array(0.3)
    assert net(0.05, x) == net(0.1, x)
    assert net(0.2, x) != net(0.1, x)


def test_mlp_scales_multiply_the_output_and_divide_the_input():
    plain = MLP(widths=SMALL, key=KEY)
    scaled = MLP(widths=SMALL, key=KEY, x_scale=2.0, out_scale=30.0)
    x = jnp.array(0.7)
    assert jnp.allclose(scaled(0.5, 2 * x), 30 * plain(0.5, x), rtol=1e-6)


@pytest.mark.parametrize("per_sample_times", [False, True])
def test_mlp_vmapped_equals_one_at_a_time(per_sample_times):
    net = MLP((2,), SMALL, key=KEY)
    xs = jr.normal(KEY, (5, 2))
    ts = jnp.linspace(0.1, 1.0, 5) if per_sample_times else jnp.full(5, 0.4)
    batch = jax.jit(jax.vmap(net, (0 if per_sample_times else None, 0)))(ts if per_sample_times else ts[0], xs)
    one = eqx.filter_jit(net)
    single = np.stack([one(t, x) for t, x in zip(ts, xs, strict=True)])
    assert jnp.allclose(batch, single, atol=1e-6)


@pytest.mark.parametrize("net", [MLP(widths=SMALL, key=KEY), Grid()])
def test_every_leaf_is_an_array_so_that_trees_can_be_averaged(net):
    mean = jax.tree.map(lambda a, b: jnp.asarray((np.asarray(a) + np.asarray(b)) / 2), net, net)
    value = eqx.filter_jit(lambda net: net(0.5, jnp.array(1.0)))
    assert np.array_equal(value(mean), value(net))


def test_networks_in_double_precision():
    with jax.enable_x64(True):
        x = jnp.array(0.5, jnp.float64)
        assert eqx.filter_jit(MLP(widths=SMALL, key=KEY))(jnp.array(0.1), x).dtype == jnp.float64
        assert eqx.filter_jit(Grid())(jnp.array(0.1), x).dtype == jnp.float64


def test_mlp_refuses_a_batch_and_names_vmap():
    with pytest.raises(ValueError, match=r"shape \(\), got shape \(512,\).*vmap"):
        MLP(key=KEY)(0.5, jnp.zeros(512))


@pytest.mark.parametrize("name", ["t_min", "x_scale", "out_scale"])
def test_mlp_refuses_what_is_not_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be positive, got 0"):
        MLP(key=KEY, **{name: 0.0})  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("kind", [MLP, functools.partial(ResNet, 8)])
def test_a_scale_is_one_number(kind):
    with pytest.raises(TypeError, match=r"`x_scale` is one number; got an array of shape \(2,\).*Whitened"):
        kind(x_scale=jnp.ones(2), key=KEY)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("widths", [64, (64.0,), "64"])
def test_mlps_widths_are_integers(widths):
    with pytest.raises(TypeError, match="`widths"):
        MLP(widths=widths, key=KEY)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "make",
    [
        lambda key: MLP(key=key),
        lambda key: ResNet(8, key=key),
        lambda key: UNet(16, widths=(4, 8), key=key),
        lambda key: DilResNet((8,), key=key),
        lambda key: FNO(key=key),
    ],
    ids=["MLP", "ResNet", "UNet", "DilResNet", "FNO"],
)
def test_a_network_is_drawn_by_a_key(make):
    with pytest.raises(TypeError, match="`key` must be a JAX key; got 0"):
        make(0)


def bilinear_grid() -> Grid:
    """A table of 1 + 2t + 3x + 4tx, which bilinear interpolation reproduces exactly."""
    grid = Grid((-1, 1), (0, 2), (5, 9))
    t, x = np.meshgrid(np.linspace(0, 2, 5), np.linspace(-1, 1, 9), indexing="ij")
    return with_values(grid, jnp.asarray(1 + 2 * t + 3 * x + 4 * t * x, float))


def with_values(grid: Grid, values: jax.Array) -> Grid:
    return jax.tree.map(lambda _: values, grid)


def test_grid_starts_at_zero():
    assert Grid()(3.3, jnp.array(0.2)) == 0


def test_grid_reproduces_a_bilinear_function_up_to_its_edges():
    t, x = (z.ravel().astype("f") for z in np.meshgrid(np.linspace(0, 2, 7), np.linspace(-1, 1, 12)))
    values = jax.jit(jax.vmap(bilinear_grid()))(t, x)
    np.testing.assert_allclose(values, 1 + 2 * t + 3 * x + 4 * t * x, atol=1e-5)


def test_grid_slope_is_the_cells():
    slope = jax.jit(jax.grad(bilinear_grid(), argnums=1))(0.3, jnp.array(0.1))
    assert slope == pytest.approx(3 + 4 * 0.3, abs=1e-5)


def test_grid_is_constant_outside():
    grid = bilinear_grid()
    value, slope = jax.jit(jax.value_and_grad(grid, argnums=1))(9.0, jnp.array(7.0))
    assert value == pytest.approx(eqx.filter_jit(grid)(2.0, jnp.array(1.0)))
    assert slope == 0


def test_grid_gradient_reaches_only_the_cells_four_nodes():
    grad = np.asarray(jax.jit(jax.grad(lambda net: net(0.3, jnp.array(0.1))))(bilinear_grid()).values)
    assert int(np.count_nonzero(grad)) == 4
    assert float(grad.sum()) == pytest.approx(1.0)


def test_grid_passes_nan_on():
    assert jnp.isnan(bilinear_grid()(0.3, jnp.array(jnp.nan)))


def test_grid_refuses_a_batch_and_names_vmap():
    with pytest.raises(ValueError, match=r"got shape \(512,\).*vmap"):
        Grid()(0.5, jnp.zeros(512))


def test_grid_refuses_a_reversed_range():
    with pytest.raises(ValueError, match="`x_range` must be"):
        Grid((1, -1))
