"""Data and weights of any precision: what is narrowed is said, and weights may be narrower than states."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import Slope, as_users_run as as_users_run, double_precision

TS = np.linspace(0, 1, 6)
P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
CURRICULUM = [sx.Stage(updates=5, batch=8, learning_rate=0.01)]


def fit(paths, s, **how):
    return sx.fit(-P + 2 * s, paths, key=jax.random.key(0), curriculum=CURRICULUM, **how)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x", lambda x: sx.Trajectories(x, TS)),
        ("x", lambda x: sx.Trajectories(list(x), TS)),
        ("x", lambda x: sx.Trajectories([x[0], x[1, :4]], [TS, TS[:4]])),
        ("x0", lambda x: sx.FreshPaths(P + g, x, TS)),
    ],
    ids=["array", "list", "uneven list", "fresh"],
)
def test_data_in_double_precision_are_narrowed_where_they_come_in(name, make):
    with pytest.warns(UserWarning, match=rf"`{name}` is float64.*{name}.astype\(np.float32\)") as said:
        paths = make(np.ones((3, 6)))
    assert len(said) == 1
    assert paths.samples()[0].dtype == jnp.float32


@pytest.mark.parametrize("make", [sx.Trajectories, lambda x, ts: sx.FreshPaths(P + g, x[:, 0], ts)])
def test_single_precision_weights_train_on_double_precision_data(make):
    class Narrow(Slope):
        def __call__(self, t, x, args):
            return (self.a * x.astype(jnp.float32)).astype(x.dtype)

    with double_precision():
        x = np.cumsum(np.random.default_rng(0).normal(size=(32, 6)) * [1, *[0.2] * 5], axis=1)
        net = eqx.tree_at(lambda net: net.a, Narrow(0.0), jnp.float32(0.0))
        s = fit(make(x, TS), sx.Score(net, g))
    assert s.net.a.dtype == jnp.float32
    assert 0 < abs(float(s.net.a)) < 1


@pytest.mark.usefixtures("as_users_run")
def test_a_solver_that_needs_noise_is_refused_before_anything_is_compiled():
    with pytest.raises(TypeError, match="`ShARK` solves SDEs, and .* has no noise"):
        fit(sx.Trajectories(jnp.ones((3, 6)), TS), sx.Score(Slope(1.0), g), loss=sx.WindowLoss(solver=dfx.ShARK()))


def test_scales_of_single_precision_states_are_single_where_double_precision_is_on():
    with double_precision():
        x = 1 + np.cumsum(np.random.default_rng(0).normal(size=(32, 6)).astype("f"), axis=1)
        net = sx.nn.Whitened(sx.nn.MLP(widths=(4,), key=jax.random.key(0), dtype="float32"), sx.Trajectories(x, TS))
        assert net(0.5, jnp.array(1.0, "float32")).dtype == jnp.float32
