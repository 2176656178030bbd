"""Training, continued: complex weights, known data under jit, several devices."""

import json
import os
import pathlib
import subprocess
import sys

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import smdpx as sx
from tests._problems import Slope, Stationary, as_users_run as as_users_run

KEY = jax.random.key(0)
process = Stationary(var=0.25, g=0.5)
P, g = process.P, process.g
TS = np.linspace(0, 1, 21)
ONCE = [sx.Stage(updates=1, batch=4)]


# Complex weights


class Rotation(eqx.Module):
    """The one-parameter score w·(x₀ + i x₁), seen as two real components."""

    w: jax.Array

    def __call__(self, t, x, args):
        z = self.w * jax.lax.complex(x[0], x[1])
        return jnp.stack([z.real, z.imag])


def test_complex_weights_descend_in_both_parts():
    # Two independent components: the score is -x/var, so w is real. Along the gradient as JAX gives it, not its
    # conjugate, the imaginary part would grow from wherever it starts.
    paths = process.paths(8000, TS, KEY).reshape(4000, 2, 21).swapaxes(1, 2)
    s = sx.Score(Rotation(jnp.array(-1 + 3j)), g)
    stages = [sx.Stage(updates=400, learning_rate=0.05)]
    s = sx.fit(-P + 2 * s, sx.Trajectories(paths, TS), key=KEY, curriculum=stages, average=0.98)
    assert s.net.w.dtype == jnp.complex64
    assert complex(s.net.w) == pytest.approx(-1 / process.var, abs=0.2)


# Under a transformation


def test_known_data_may_be_trained_on_under_jit():
    s, x = sx.Score(Slope(-4.0), g), process.paths(8, TS, KEY)
    paths, broken = sx.Trajectories(x, TS), sx.Trajectories(x.at[1, 2].set(jnp.nan), TS)
    inside = jax.jit(lambda key: sx.fit(-P + 2 * s, paths, key=key, curriculum=ONCE, average=0.0).net.a)(KEY)
    assert float(inside) == -4.0  # the weights whose loss was seen
    with pytest.raises(ValueError, match="`paths` is not finite: trajectory 1 at time index 2"):
        jax.jit(lambda key: sx.fit(-P + 2 * s, broken, key=key, curriculum=ONCE).net.a)(KEY)


# Several devices: on one machine, in a process of its own, since the number of devices is fixed at the start

ON_FOUR_DEVICES = """
import json, re
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, smdpx as sx

assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
s = sx.Score(sx.nn.MLP((2,), (4,), key=jax.random.key(0)), g)
ts, stages = np.linspace(0, 1, 6), [sx.Stage(window=4, updates=3, batch=16, learning_rate=1e-2)]


def program(kind, sharding):
    def train(x, key):
        paths = sx.FreshPaths(P + g, x[:, 0], ts, windows=2) if kind == "fresh" else sx.Trajectories(x, ts)
        trained = sx.fit(-P + 2 * s, paths, key=key, curriculum=stages, average=0.5, sharding=sharding)
        return eqx.filter(trained.net, eqx.is_inexact_array)

    return jax.jit(train).lower(data, jax.random.key(2)).compile()


def weights(net):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(net)])


def posterior(chunk):
    x = jnp.linspace(-1, 1, 16).reshape(8, 2)
    sample = lambda x: sx.posterior(-P + 2 * s + g, x, ts[::-1], 3, key=jax.random.key(3), chunk=chunk)
    one, four = sample(x), sample(jax.device_put(x, split))
    return float(abs(one - four).max()), four.sharding.shard_shape(four.shape)[1]


def training(kind):
    one, four = program(kind, None), program(kind, split)
    unsharded, sharded = (weights(run(data, jax.random.key(2))) for run in (one, four))
    sums = [line for line in four.as_text().splitlines() if re.search(r" all-reduce(-start)?\\(", line)]
    return {
        "moved": float(abs(unsharded - weights(eqx.filter(s.net, eqx.is_inexact_array))).max()),
        "apart": float(abs(sharded - unsharded).max()),
        "update": [line for line in sums if "jit(train)/while/body" in line],
        "a step": [line for line in sums if line.count("while/body") > 2],
        "samples": sorted({int(n) for n in re.findall(r"f32\\[(\\d+),6,2\\]", four.as_text())} - {32}),
    }


data = jax.random.normal(jax.random.key(1), (32, 6, 2))
answers = {kind: training(kind) for kind in ("arrays", "fresh")}
print(json.dumps(answers | {"posterior": [posterior(None), posterior(8)]}))
"""


@pytest.fixture(scope="module")
def on_four_devices():
    flags = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES],
        env={**os.environ, **flags},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


KINDS = pytest.mark.parametrize("kind", ["arrays", "fresh"])


@KINDS
def test_on_four_devices_the_weights_are_those_of_one_to_rounding(on_four_devices, kind):
    assert on_four_devices[kind]["moved"] > 1e-3
    assert on_four_devices[kind]["apart"] < 1e-6


@KINDS
def test_an_update_sums_gradients_over_devices_once_whatever_its_window(on_four_devices, kind):
    # One all-reduce of the loss and all the gradients, in the loop over updates (in pieces, so it is the second) and in
    # no loop over steps.
    assert len(on_four_devices[kind]["update"]) == 1
    assert not on_four_devices[kind]["a step"]


@KINDS
def test_each_device_simulates_its_own_share(on_four_devices, kind):
    # 16 windows, two of each trajectory: 2 trajectories on each device, and 8 of them on none.
    assert on_four_devices[kind]["samples"] == {"arrays": [], "fresh": [2]}[kind]


def test_posterior_samples_lie_where_the_end_states_do(on_four_devices):
    (apart, share), (apart_in_chunks, _) = on_four_devices["posterior"]
    assert max(apart, apart_in_chunks) < 1e-6
    assert share == 2


def on(devices, axis_type=AxisType.Auto, *, spec=("batch",)):
    return NamedSharding(AbstractMesh((devices,), ("batch",), axis_types=(axis_type,)), PartitionSpec(*spec))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"sharding": jax.sharding.SingleDeviceSharding(jax.devices()[0])}, TypeError, "splits the first axis"),
        ({"sharding": on(4, AxisType.Explicit)}, TypeError, "mesh of automatic axes.*AxisType.Auto"),
        ({"sharding": on(4, spec=())}, TypeError, "splits the first axis"),
        ({"sharding": on(3)}, ValueError, "on 3 devices, and 4 trajectories a batch are no multiple"),
        (
            {"sharding": on(4), "loss": sx.WindowLoss(adjoint=dfx.RecursiveCheckpointAdjoint())},
            TypeError,
            "cannot run under `sharding`.*leave the loss's `adjoint` out",
        ),
        (
            {"sharding": on(4), "loss": sx.TwoWayLoss(sx.WindowLoss(adjoint=dfx.RecursiveCheckpointAdjoint()))},
            TypeError,
            "cannot run under `sharding`",
        ),
    ],
    ids=["no named sharding", "explicit axes", "nothing split", "no multiple", "adjoint", "adjoint within"],
)
def test_what_cannot_be_sharded_is_an_error_before_training(how, error, message):
    equation = -P + (1 if "TwoWay" in str(how) else 2) * sx.Score(Slope(-4.0), g)
    with pytest.raises(error, match=message):
        sx.fit(equation, sx.Trajectories(jnp.ones((4, 21)), TS), key=KEY, curriculum=ONCE, **how)
