"""Networks of one array say so where a state is a tree of arrays."""

# Wrong on purpose.
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
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


@pytest.mark.parametrize("kind", [sx.nn.MLP, sx.nn.DilResNet], ids=["MLP", "DilResNet"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [({"u": (3,), "v": (3,)}, "the shape of one array; got a dict of 'u', 'v'.*joins"), ("wide", r"such as \(3,\)")],
    ids=["tree", "no shape"],
)
def test_a_shape_is_that_of_one_array(kind, shape, message):
    with pytest.raises(TypeError, match=rf"`{kind.__name__}\(shape=...\)` must be .*{message}"):
        kind(shape=shape, key=KEY)
