"""Networks of one array say so where a state is a tree of arrays."""

# Wrong on purpose.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

pytestmark = pytest.mark.usefixtures("as_users_run")

KEY = jax.random.key(0)
TREE = {"u": jnp.zeros(3), "v": jnp.zeros(3)}
NETWORKS = {
    "MLP": lambda: sx.nn.MLP((3,), (4,), key=KEY),
    "Grid": lambda: sx.nn.Grid(shape=(2, 2)),
    "DilResNet": lambda: sx.nn.DilResNet((8,), 2, 1, key=KEY),
    "ResNet": lambda: sx.nn.ResNet((8,), key=KEY),
    "UNet": lambda: sx.nn.UNet((8,), (2, 2), key=KEY),
    "FNO": lambda: sx.nn.FNO(4, 2, key=KEY, ndim=1),
    "FourierFilter": lambda: sx.nn.FourierFilter(8, t_min=0.1, t_max=1.0, scale=1.0),
    "Tiled": lambda: sx.nn.Tiled(lambda t, x, args: x, cells=1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tree_is_refused_by_the_networks_name(name):
    with pytest.raises(TypeError, match=rf"`{name}` takes .* one array; got a dict of 'u', 'v'.*eqx.Module.*joins"):
        NETWORKS[name]()(0.5, TREE)


def test_a_tree_of_scalars_inside_of_whitened_is_refused_so_too():
    paths = sx.Trajectories({"u": jax.random.normal(KEY, (20, 3)), "v": jnp.ones((20, 3))}, [0.0, 0.5, 1.0])
    net = sx.nn.Whitened(sx.nn.MLP((2,), (4,), key=KEY), paths)
    with pytest.raises((TypeError, ValueError), match="`MLP` takes states that are one array; got a dict of 'u', 'v'"):
        sx.fit(-sx.Drift(lambda t, x, args: x) + 2 * sx.Score(net, sx.Diffusion(0.1)), paths, key=KEY)


def test_whitened_names_a_state_of_another_tree():
    net = sx.nn.Whitened(
        sx.nn.MLP((3,), (4,), key=KEY), sx.Trajectories(jax.random.normal(KEY, (20, 3, 3)), [0.0, 0.5, 1.0])
    )
    with pytest.raises(TypeError, match="whose states are .*; got one state that is .*'u'.*Give states like those"):
        net(0.5, TREE)


@pytest.mark.parametrize("x", [1, np.int64(1), jnp.array(1), 1.0], ids=["int", "NumPy's", "JAX's", "float"])
@pytest.mark.parametrize("name", ["MLP", "Grid"])
def test_a_number_is_a_state_whatever_its_type(name, x):
    net = sx.nn.MLP(widths=(4,), key=KEY) if name == "MLP" else ramp()
    assert float(net(0.5, x)) == float(net(0.5, jnp.array(1.0)))


def ramp():
    net = sx.nn.Grid((0.0, 2.0), (0.0, 1.0), shape=(2, 2))
    return eqx.tree_at(lambda net: net.values, net, jnp.array([[0.0, 1.0], [2.0, 3.0]]))


def test_a_filter_takes_whole_numbers_as_numbers():
    net = sx.nn.FourierFilter(4, t_min=0.1, t_max=1.0)
    net = eqx.tree_at(lambda net: net.values, net, jax.random.normal(KEY, net.values.shape))
    whole = jnp.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(net(0.5, whole), net(0.5, whole.astype(float)))


@pytest.mark.parametrize("shape", [np.int64(8), (np.int64(8),)], ids=["a side", "a shape"])
def test_sides_may_be_numpys_integers(shape):
    net = sx.nn.DilResNet(shape, 2, 1, key=KEY)
    assert net.shape == ((8,) if isinstance(shape, tuple) else (8, 8))
    assert sx.nn.MLP((np.int64(3),), (4,), key=KEY).shape == (3,)


@pytest.mark.parametrize("channels", [(3,), 3, (1, 2, 3)])
def test_channels_are_two(channels):
    with pytest.raises(ValueError, match=r"`channels` must be two counts.*such as \(3, 3\), got"):
        sx.nn.DilResNet(8, 2, 1, channels=channels, key=KEY)


@pytest.mark.parametrize(
    ("dtype", "mend"),
    [("int32", r"Write `x.astype\(jnp.float32\)`$"), ("complex64", "Give the field, not its spectrum")],
)
def test_what_is_no_float_is_no_field_of_any_network(dtype, mend):
    with pytest.raises(TypeError, match=f"`x` is {dtype} and the network's weights are float32. {mend}"):
        sx.nn.DilResNet((8,), 2, 1, key=KEY)(0.1, jnp.ones(8, dtype))


@pytest.mark.parametrize("kind", [sx.nn.MLP, sx.nn.DilResNet], ids=["MLP", "DilResNet"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [({"u": (3,), "v": (3,)}, "the shape of one array; got a dict of 'u', 'v'.*joins"), ("wide", r"such as \(3,\)")],
    ids=["tree", "no shape"],
)
def test_a_shape_is_that_of_one_array(kind, shape, message):
    with pytest.raises(TypeError, match=rf"`{kind.__name__}\(shape=...\)` must be .*{message}"):
        kind(shape=shape, key=KEY)
