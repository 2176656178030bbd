"""Trajectory stores: made once and read ever after, resumed, extended, looked at, and opened as plain zarr."""

import functools
import json
import logging
import os
import pathlib
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr

import smdpx as sx
from smdpx.learning._progress import logger
from smdpx.learning._store_writing import _writing
from tests.learning._stores import KEY, TS, Interrupted, Waves, contents, from_chunk as from_chunk, make, states, stop

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def paths(tmp_path):
    return make(tmp_path)


# Making


def test_the_same_recipe_reads_the_store(tmp_path, paths, from_chunk):
    from_chunk(0, stop)
    again = make(tmp_path)
    assert again.path == paths.path
    np.testing.assert_array_equal(again.load().x, paths.load().x)


@pytest.mark.parametrize("other", [{"generate": Waves(2.0)}, {"key": jax.random.key(1)}, {"chunk": 5}], ids=str)
def test_another_recipe_makes_another_store(tmp_path, paths, other):
    how = {"generate": Waves(), "key": KEY, "chunk": 8, **other}
    assert sx.stored(how.pop("generate"), 20, at=tmp_path, **how).path != paths.path


def test_chunk_i_is_made_with_the_ith_key(paths):
    x = np.concatenate([states(jax.random.fold_in(KEY, i), (8, 6, 2)) for i in range(3)])
    np.testing.assert_array_equal(paths.load().x, x[:20])


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_run_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(tmp_path, chunks, monkeypatch, from_chunk):
    from_chunk(chunks, stop)
    with pytest.raises(Interrupted):
        make(tmp_path / "a")
    monkeypatch.undo()
    resumed, whole = make(tmp_path / "a"), make(tmp_path / "b")
    assert contents(resumed.path) == contents(whole.path)
    assert len(resumed) == 20


KILLED = """
import os, sys
from tests.learning._stores import AFTER, make

calls = []

def killed_at_the_third(paths):
    calls.append(paths)
    if len(calls) == 3:
        os.kill(os.getpid(), 9)
    return paths

AFTER.then = killed_at_the_third
make(sys.argv[1])
"""


def test_so_does_one_that_was_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], capture_output=True, cwd=ROOT)
    assert done.returncode == -9
    assert list((tmp_path / "a").glob("*.lock"))
    assert contents(make(tmp_path / "a").path) == contents(make(tmp_path / "b").path)
    assert not list((tmp_path / "a").glob("*.lock"))


def test_more_are_added_to_those_that_are_there(tmp_path, from_chunk):
    whole = make(tmp_path / "b", 40)
    make(tmp_path / "a")
    from_chunk(2, stop)  # of five chunks three are there
    longer = make(tmp_path / "a", 40)
    assert contents(longer.path) == contents(whole.path)
    assert len(sx.StoredPaths(longer.path)) == 40


def test_fewer_are_the_first_of_them(tmp_path, paths, from_chunk):
    from_chunk(0, stop)
    np.testing.assert_array_equal(make(tmp_path, 10).load().x, paths.load().x[:10])


def test_what_was_there_can_be_read_when_adding_more_was_stopped(tmp_path, paths, from_chunk):
    from_chunk(1, stop)
    with pytest.raises(Interrupted):
        make(tmp_path, 40)
    np.testing.assert_array_equal(make(tmp_path).load().x, paths.load().x)


def test_what_was_written_by_halves_is_removed(tmp_path, monkeypatch, from_chunk):
    from_chunk(1, stop)
    with pytest.raises(Interrupted):
        make(tmp_path)
    monkeypatch.undo()
    (store,) = tmp_path.glob("*.zarr")
    (store / "x" / "c" / "1.123.partial").write_bytes(b"half")
    assert not list(make(tmp_path).path.rglob("*.partial"))


def test_a_second_writer_is_told_who_the_first_is(tmp_path, paths):
    with (
        _writing(paths.path),
        pytest.raises(BlockingIOError, match=rf"written by process {os.getpid()} on .*Wait until"),
    ):
        make(tmp_path, 40)


def test_the_lock_of_a_process_that_died_is_taken_over(tmp_path, paths):
    lock = paths.path.with_name(paths.path.name + ".lock")
    lock.write_text('{"pid": 1, "host": "elsewhere"}')
    assert len(make(tmp_path, 40)) == 40
    assert not lock.exists()


def test_progress_tells_the_time_left(tmp_path, monkeypatch):
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr("smdpx.learning._progress.EVERY", 0.0)
    make(tmp_path)
    assert any(line.startswith("store: 8 of 20 trajectories") and "s left" in line for line in lines)


# What is in it


def test_the_metadata_say_what_it_is_and_what_made_it(paths):
    attributes = json.loads((paths.path / "zarr.json").read_text())["attributes"]
    assert attributes["recipe"]["generator"] == "tests.learning._stores.Waves"
    assert attributes["recipe"]["fields"] == {"scale": 1.0}
    assert attributes["recipe"]["key"] == {"impl": "threefry2x32", "data": [0, 0]}
    assert attributes["recipe"]["digest"] in paths.path.name
    assert {"smdpx", "jax", "numpy", "zarr", "python"} <= set(attributes["versions"])
    assert (attributes["trajectories"], attributes["chunk"]) == (20, 8)


def test_zarr_reads_it_without_smdpx(paths):
    group: Any = zarr.open_group(paths.path, mode="r")
    np.testing.assert_array_equal(group["x"][:20], paths.load().x)
    np.testing.assert_array_equal(group["ts"][:], TS)


def test_conditions_and_shared_values_come_back(paths):
    assert paths.args["dt"] == 0.1
    assert paths.args["name"] == "waves"
    np.testing.assert_array_equal(paths.args["mask"], [0, 1])
    np.testing.assert_array_equal(paths.args["a"].value, paths.start[:, 0])


def test_states_may_be_trees_with_times_of_their_own(tmp_path):
    def generate(key, count):
        x = states(key, (count, 6, 2))
        x = {"u": x, "v": (x[..., 0].astype(np.float32), np.zeros((count, 6), np.float32))}
        return sx.Trajectories(x, np.cumsum(1 + np.abs(states(key, (count, 6))), axis=1), solver=None)

    some = make(tmp_path, generate=generate)
    assert some.ts.shape == (20, 6)
    loaded = some[5:9].load()
    np.testing.assert_array_equal(loaded.x["u"][..., 0], loaded.x["v"][0])
    np.testing.assert_array_equal(loaded.ts, some.ts[5:9])
    np.testing.assert_array_equal(some.end["v"][1], np.zeros(20))


def test_it_knows_whose_steps_they_are(tmp_path):
    P = sx.Drift(lambda t, x, args: -x)
    paths = make(tmp_path, generate=lambda key, n: sx.simulate(P + sx.Diffusion(0.1), jnp.ones(n), TS, key=key))
    assert paths.made_by() is paths.load().made_by() is not None


# Views


@pytest.mark.parametrize(
    "index",
    [slice(3, 11), slice(None, None, -3), [2, 19, 7], np.arange(20) % 3 == 0],
    ids=["slice", "steps", "numbers", "mask"],
)
def test_an_index_takes_trajectories_with_all_that_belongs_to_them(paths, index):
    some, whole = paths[index], paths.load()[index]
    assert len(some) == len(whole)
    np.testing.assert_array_equal(some.load().x, whole.x)
    np.testing.assert_array_equal(some.start, whole.start)
    np.testing.assert_array_equal(some.end, whole.end)
    np.testing.assert_array_equal(some.args["a"].value, whole.args["a"].value)


def test_a_view_of_a_view_is_a_view(paths):
    np.testing.assert_array_equal(paths[4:][2:5].load().x, paths.load().x[6:9])


def test_a_look_takes_as_many_as_fit_evenly_spread(tmp_path):
    paths = make(tmp_path, 64)
    some = paths.load(most=32 * 6 * 2 * 4)
    np.testing.assert_array_equal(some.x, paths.load().x[np.rint(np.linspace(0, 63, 32)).astype(int)])
    assert len(paths.load(most=1)) == 16


@pytest.mark.parametrize(("index", "error"), [(3, TypeError), (slice(20, None), IndexError)], ids=["number", "empty"])
def test_an_index_that_takes_none_is_said(paths, index, error):
    with pytest.raises(error, match="trajectories"):
        paths[index]


@pytest.mark.parametrize("count", [0, -3])
def test_a_view_of_no_trajectory_is_said(paths, count):
    with pytest.raises(ValueError, match=rf"`count` trajectories, at least 1; got {count}"):
        sx.StoredPaths(paths.path, count)


# Recipes


def test_a_generator_may_be_compiled_partial_or_a_function(tmp_path):
    def waves(scale, key, count):
        return Waves(scale)(key, count)

    class Module(eqx.Module):
        scale: float

        def __call__(self, key, count):
            return waves(self.scale, key, count)

    made = [
        make(tmp_path, generate=g) for g in (functools.partial(waves, 2.0), Module(2.0), lambda k, n: waves(2.0, k, n))
    ]
    assert [path.path.name.rpartition("-")[0] for path in made] == ["waves", "module", "lambda"]
    for paths in made:
        np.testing.assert_array_equal(paths.load().x, made[0].load().x)
