"""Training on a store: windows are those of the same trajectories in memory, bit for bit, wherever it runs.

Where windows are read in the training, the weights are those to rounding: the compiler orders sums by how an array
lies in memory, and lays out what it gathers itself otherwise than what it is handed.
"""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.learning import _runner
from smdpx.learning._fingerprint import digest
from tests._problems import Stationary
from tests._trainings import TS, mlp, weights
from tests.learning._stores import KEY, make

process = Stationary(var=0.25, g=0.5)
P = process.P
STAGES = [sx.Stage(updates=30, batch=16, learning_rate=1e-2), sx.Stage(3, 20, 1e-3, stride=2, batch=16)]


def generate(key, count):
    return sx.Trajectories(process.paths(count, TS, key), TS)


def in_rows(key, count):
    """Trajectories with times and conditions of their own."""
    rates = jnp.linspace(0.5, 2.0, count)
    ts = np.asarray(rates)[:, None] * TS
    x = jnp.stack([process.paths(1, row, k)[0] for row, k in zip(ts, jax.random.split(key, count), strict=True)])
    return sx.Trajectories(x, ts, {"rate": sx.PerSample(rates)})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose windows are read from its files."""
    return make(tmp_path_factory.mktemp("data"), 60, generate, memory=0)


def fit(paths, s=None, curriculum=STAGES, **how):
    return sx.fit(-P + 2 * (mlp() if s is None else s), paths, key=how.pop("key", KEY), curriculum=curriculum, **how)


def draw(paths, **how):
    how = {"size": 3, "stride": 2, "batch": 50, **how}
    return jax.jit(lambda key: paths.source([how["stride"]]).draw(**how, key=key))(KEY)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


def test_windows_are_those_of_the_same_trajectories_in_memory(store):
    same(draw(store), draw(store.load()))
    same(draw(store[7:31]), draw(store[7:31].load()))


def test_times_and_conditions_are_those_of_each_windows_trajectory(tmp_path):
    paths = make(tmp_path, 16, in_rows, memory=0)
    same(draw(paths), draw(paths.load()))


def test_a_tree_is_read_with_each_arrays_type(tmp_path):
    def trees(key, count):
        x = process.paths(count, TS, key)
        return sx.Trajectories({"u": x, "v": jnp.stack([x, 2 * x], axis=-1)}, TS)

    paths = make(tmp_path, 16, trees, memory=0)
    same(draw(paths), draw(paths.load()))


def test_of_many_files_a_few_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("smdpx.learning._store_files._MOST_MAPPED", 2)
    paths = make(tmp_path, 60, generate, memory=0)
    same(draw(paths), draw(paths.load()))
    assert paths.files.mapped.cache_info().currsize == 2


def test_a_training_is_that_in_memory(store):
    close(weights(fit(store)), weights(fit(store.load())))


def test_a_training_repeats_bit_for_bit(store):
    same(weights(fit(store)), weights(fit(sx.StoredPaths(store.path, memory=0))))


def test_of_few_states_it_is_that_in_memory_bit_for_bit(store):
    few = sx.StoredPaths(store.path)
    same(weights(fit(few)), weights(fit(few.load())))


def test_few_states_are_loaded_and_more_are_read_as_they_are_drawn(store):
    assert isinstance(sx.StoredPaths(store.path).source([1]).x, jax.Array)
    assert not isinstance(store.source([1]).x, jax.Array)


@pytest.mark.parametrize("validation", [0.25, "slice"])
def test_validation_is_a_share_or_a_slice_of_the_store(store, validation):
    held = 0.25 if validation == 0.25 else store[45:]
    whole = 0.25 if validation == 0.25 else store[45:].load()
    paths = store if validation == 0.25 else store[:45]
    close(weights(fit(paths, validation=held)), weights(fit(paths.load(), validation=whole)))


def test_a_second_training_compiles_nothing(tmp_path, store):
    fit(store)
    programs: Any = _runner._advance
    before = programs._cached._cache_size()
    fit(sx.StoredPaths(store.path, memory=0), key=jax.random.key(1))
    assert programs._cached._cache_size() == before


@pytest.mark.parametrize("memory", [0, 2**30], ids=["read", "loaded"])
def test_seeds_train_side_by_side(store, memory):
    store = sx.StoredPaths(store.path, memory=memory)
    keys, stages = jax.random.split(KEY, 3), [sx.Stage(updates=5, batch=8)]
    train = lambda paths: jax.jit(jax.vmap(lambda key: weights_of(fit(paths, key=key, curriculum=stages))))(keys)  # noqa: E731
    weights_of = lambda s: [leaf for leaf in jax.tree.leaves(s) if isinstance(leaf, jax.Array)]  # noqa: E731
    close(train(store), train(store.load()))


def test_scales_come_from_the_store(store):
    net = sx.nn.MLP(widths=(4,), key=KEY)
    same(*(jax.tree.leaves(sx.nn.Whitened(net, paths).scales.value) for paths in (store, store.load())))


def test_references_are_measured_on_the_store(store):
    assert repr(sx.check_references(P + process.g, store)) == repr(sx.check_references(P + process.g, store.load()))


def test_a_narrow_start_is_seen_in_the_store(tmp_path):
    def narrow(key, count):
        x = process.paths(count, TS, key)
        return sx.Trajectories(x.at[:, 0].multiply(1e-3), TS)

    with pytest.warns(UserWarning, match="start narrower than a step's noise"):
        fit(make(tmp_path, 16, narrow, memory=0), curriculum=[sx.Stage(updates=2, batch=8)])


# Checkpoints


class Interrupted(Exception):
    pass


def test_a_stopped_training_goes_on(tmp_path, store):
    def interrupt(progress):
        if progress.update >= 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(store, checkpoint=tmp_path / "state.eqx", callback=interrupt)
    same(weights(fit(store, checkpoint=tmp_path / "state.eqx")), weights(fit(store)))


def test_a_checkpoint_of_other_trajectories_is_refused(tmp_path, store):
    fit(store, checkpoint=tmp_path / "state.eqx")
    with pytest.raises(ValueError, match="with another data"):
        fit(store[:50], checkpoint=tmp_path / "state.eqx")


def test_a_fingerprint_reads_no_states(tmp_path):
    paths = make(tmp_path, 16, generate, memory=0)
    before = digest(paths)
    for file in paths.path.glob("x/c/*/0"):
        file.unlink()
    assert digest(paths) == before != digest(paths[1:])


def test_a_store_that_moved_is_the_same(tmp_path):
    paths = make(tmp_path / "a", 16, generate)
    before = digest(paths)
    moved = paths.path.rename(tmp_path / paths.path.name)
    assert digest(sx.StoredPaths(moved)) == before


# Damage while it is read


def test_a_chunk_that_is_corrupt_stops_a_training_with_its_name(tmp_path):
    paths = make(tmp_path, 16, generate, memory=0)
    file = paths.path / "x" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"x/c/1/0 is corrupt: chunk 1 of the array 'x'.*Delete this file.*partial=True"
    ):
        sx.fit(-P + 2 * mlp(), sx.StoredPaths(paths.path, memory=0)[8:], key=KEY, curriculum=STAGES)


def test_traced_trajectories_are_refused(store):
    with pytest.raises(TypeError, match="no business of a JAX transformation.*close over"):
        jax.jit(lambda paths: fit(paths))(store)


# Several devices


SHARDED = """
import jax, numpy as np
from tests.learning.test_store_fit import *

sharding = jax.sharding.NamedSharding(
    jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,)), jax.sharding.PartitionSpec("batch")
)
how = {"sharding": sharding, "curriculum": [sx.Stage(updates=5, batch=8)]}
paths = make(sys.argv[1], 16, generate, memory=0)
close(weights(fit(paths, **how)), weights(fit(paths.load(), **how)))
"""


def test_a_training_on_several_devices_is_that_in_memory(tmp_path):
    env = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", SHARDED, str(tmp_path)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
