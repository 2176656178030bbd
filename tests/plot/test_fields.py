"""Plots of trajectories say what they were given where it is none of theirs."""

# Wrong on purpose.
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

TS, X = np.linspace(0, 1, 5), np.ones((3, 5), np.float32)


@pytest.fixture
def axes():
    pytest.importorskip("matplotlib").use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_each_trajectory_is_a_line(axes):
    sx.plot.paths(axes, TS, X, most=2)
    assert len(axes.lines) == 2


def test_a_network_in_double_precision_is_drawn(axes):
    with jax.enable_x64(True):
        net = sx.nn.MLP(widths=(4,), key=jax.random.key(0))
        image = sx.plot.field(axes, net, TS, TS, limit=1.0)
        np.testing.assert_allclose(image.get_array()[1, 0], net(TS[0], jnp.array(TS[1])))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("ts", "x", "message"),
    [
        (TS, np.ones((3, 5, 2)), r"scalar states.*`x` of shape \(3, 5, 2\): give one component, `x\[..., 0\]`"),
        (X, TS, r"got `ts` of shape \(3, 5\) and `x` of shape \(5,\): give `ts` of shape \(times,\), and then `x`"),
        (TS[:4], X, r"got `ts` of shape \(4,\) and `x` of shape \(3, 5\)"),
        (TS, sx.Trajectories(X, TS), r"got Trajectories. Write `plot.paths\(axes, paths.ts, paths.x\)`"),
    ],
    ids=["components", "swapped", "other times", "trajectories"],
)
def test_what_is_no_scalar_state_over_time_is_refused(axes, ts, x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sx.plot.paths(axes, ts, x)
