"""Stores that are cut short, corrupt, full, foreign, or of a generator that does not keep its word: what is said."""

import errno
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import zarr

import smdpx as sx
from smdpx.learning import _store_writing
from tests._problems import as_users_run as as_users_run
from tests.learning._stores import (
    KEY,
    TS,
    Interrupted,
    Waves,
    contents,
    from_chunk as from_chunk,
    make,
    states,
    stop,
)


@pytest.fixture
def paths(tmp_path):
    return make(tmp_path)


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)


# Cut short


def test_a_store_that_is_cut_short_says_what_is_there_and_how_to_go_on(tmp_path, from_chunk):
    from_chunk(1, stop)
    with pytest.raises(Interrupted):
        make(tmp_path)
    (path,) = tmp_path.glob("*.zarr")
    with pytest.raises(
        ValueError, match=r"1 of 3 chunks of 8.*chunk 1 is the first.*x/c/1/0/0 is not there.*same `sx.sto"
    ):
        sx.StoredPaths(path)


def test_what_is_whole_of_it_can_be_opened(tmp_path, paths):
    (paths.path / "x" / "c" / "1" / "0" / "0").unlink()
    some = sx.StoredPaths(paths.path, partial=True)
    np.testing.assert_array_equal(some.numbers, [*range(8), *range(16, 20)])
    np.testing.assert_array_equal(some.load().x, paths[some.numbers].load().x)


def test_a_chunk_that_is_cut_short_is_missing(tmp_path, paths):
    file = paths.path / "x" / "c" / "2" / "0" / "0"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"2 of 3 chunks.*x/c/2/0/0 has 100 bytes in place of 388"):
        sx.StoredPaths(paths.path)


@pytest.mark.parametrize("file", ["x/c/1/0/0", "args/a/c/1"])
def test_the_same_call_makes_what_is_missing_and_no_more(tmp_path, paths, from_chunk, file):
    before = contents(paths.path)
    (paths.path / file).unlink()
    from_chunk(1, stop)
    make(tmp_path)
    assert contents(paths.path) == before


def test_of_a_store_without_a_whole_chunk_nothing_can_be_opened(paths):
    for file in paths.path.glob("x/c/*/0/0"):
        file.unlink()
    with pytest.raises(ValueError, match="None of the 3 chunks"):
        sx.StoredPaths(paths.path, partial=True)


# Corrupt


def test_a_corrupt_chunk_is_named_when_it_is_read(paths):
    flip_a_bit(paths.path / "x" / "c" / "1" / "0" / "0")
    opened = sx.StoredPaths(paths.path)
    opened[:8].load()
    with pytest.raises(
        ValueError, match=r"x/c/1/0/0 is corrupt: chunk 1 of the array 'x'.*Delete this file.*bit for bit"
    ):
        opened.load()


def test_a_corrupt_condition_is_named_at_once(paths):
    flip_a_bit(paths.path / "args" / "a" / "c" / "0")
    with pytest.raises(ValueError, match="args/a/c/0 is corrupt"):
        sx.StoredPaths(paths.path)


def test_corrupt_times_are_named(paths):
    flip_a_bit(paths.path / "ts" / "c" / "0")
    with pytest.raises(ValueError, match="the array 'ts' is corrupt"):
        sx.StoredPaths(paths.path)


def test_the_good_part_of_a_corrupt_store_can_be_opened(paths):
    flip_a_bit(paths.path / "x" / "c" / "1" / "0" / "0")
    assert len(sx.StoredPaths(paths.path, partial=True)) == 12


# Full


def test_a_full_disk_leaves_what_was_written_readable(tmp_path, monkeypatch):
    written = []

    def write(path, i, rows, real=_store_writing.write):
        if i == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(i)
        real(path, i, rows)

    monkeypatch.setattr(_store_writing, "write", write)
    with pytest.raises(OSError, match=r"disk is full, with 2 of 3 chunks.*partial=True.*goes on from there") as caught:
        make(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    (path,) = tmp_path.glob("*.zarr")
    assert len(sx.StoredPaths(path, partial=True)) == 16
    monkeypatch.undo()
    assert len(make(tmp_path)) == 20


# Generators


def reshaped(paths):
    return sx.Trajectories(paths.x[..., :1], paths.ts, paths.args)


def narrowed(paths):
    return sx.Trajectories({"u": paths.x}, paths.ts, paths.args)


def later(paths):
    return sx.Trajectories(paths.x, 2 * TS, paths.args)


def with_own_times(paths):
    return sx.Trajectories(paths.x, np.tile(TS, (len(paths), 1)), paths.args)


def masked(paths):
    return sx.Trajectories(paths.x, paths.ts, {**paths.args, "mask": jnp.ones(2)})


def renamed(paths):
    return sx.Trajectories(paths.x, paths.ts, {**paths.args, "dt": 0.2})


def exploded(paths):
    return sx.Trajectories(paths.x.at[3, 2].set(jnp.nan), paths.ts, paths.args)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("then", "message"),
    [
        (reshaped, r"chunk 1 returned in 'x' float32\[6, 1\].*have float32\[6, 2\]: it must return the same"),
        (narrowed, r"returned states \{'dict'"),
        (later, r"returned the times float64\[6\] \[0\.\s+0\.4.*have float64\[6\]"),
        (with_own_times, "returned times"),
        (masked, r"returned 'args/mask'.*is a `PerSample`"),
        (renamed, r"returned `args`"),
        (lambda paths: paths[:5], r"of chunk 1 returned 5 trajectories: return as many as it is asked for. The 1 of 3"),
        (exploded, r"of chunk 1: the simulation is not finite: trajectory 3 at time index 2.*The 1 of 3 chunks"),
        (lambda paths: sx.Trajectories([paths.x[0], paths.x[0, :3]] * 4, [TS, TS[:3]] * 4), r"of \[3, 6\] states"),
        (lambda paths: paths.x, r"must return `Trajectories`; got ArrayImpl. Write `return sx.Trajectories\(x, ts\)`"),
    ],
    ids=["shape", "tree", "times", "own times", "shared", "number", "count", "not finite", "lengths", "array"],
)
def test_a_generator_that_returns_something_else_is_told(tmp_path, from_chunk, then, message):
    from_chunk(1, then)
    with pytest.raises((ValueError, TypeError), match=message):
        make(tmp_path)


def test_what_cannot_be_written_down_is_named(tmp_path):
    with pytest.raises(
        TypeError, match=r"`args/f` of the trajectories holds function, which a store cannot write down"
    ):
        make(tmp_path, generate=lambda key, n: sx.Trajectories(states(key, (n, 6)), TS, {"f": stop}))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"generate": np.ones(3)}, TypeError, "a function from a key and a number.*got ndarray"),
        ({"count": 0}, ValueError, "at least one trajectory"),
        ({"chunk": 0}, ValueError, "at least one trajectory, and one a chunk"),
        ({"key": 0}, TypeError, r"Write `jax.random.key\(0\)`"),
    ],
    ids=["generator", "count", "chunk", "key"],
)
def test_what_is_no_recipe_is_said(tmp_path, how, error, message):
    how = {"generate": Waves(), "count": 20, "key": KEY, "chunk": 8, **how}
    with pytest.raises(error, match=message):
        sx.stored(how.pop("generate"), how.pop("count"), at=tmp_path, **how)


# Something else


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trajectory store .*`sx.stored\(generate, count, key=key, at="):
        sx.StoredPaths(tmp_path / "heat.zarr")


def test_a_directory_is_no_store(tmp_path):
    with pytest.raises(ValueError, match="is no trajectory store"):
        sx.StoredPaths(tmp_path)


def test_zarr_of_something_else_is_no_store(tmp_path):
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="is a zarr group, but no trajectory store"):
        sx.StoredPaths(tmp_path / "other.zarr")


def test_a_store_of_a_newer_format_says_what_to_do(paths):
    file = paths.path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["smdpx_store"] = 2
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="of format 2, and this smdpx reads up to 1: update smdpx"):
        sx.StoredPaths(paths.path)


def test_without_zarr_the_extra_is_named(tmp_path, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r'pip install "smdpx\[store\]"'):
        sx.StoredPaths(paths.path)
