"""Trajectories: states with their times and conditions, sliced, of unequal lengths, and the windows cut from them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import Slope, Stationary, as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 6)
clock = sx.Drift(lambda t, x, args: jnp.ones_like(x))
g = sx.Diffusion(0.1)
MASKED = np.ma.masked_greater(np.arange(12, dtype=np.float32).reshape(2, 6), 9)
RAGGED = np.array([np.ones(3), np.ones(4)], dtype=object)


def own_times(n=5):
    """Trajectories whose states say which they are and when: 100·number + time."""
    ts = np.cumsum(np.random.default_rng(0).uniform(0.1, 1.0, (n, 6)), axis=1)
    return sx.Trajectories(jnp.asarray(100 * np.arange(n)[:, None] + ts, jnp.float32), ts)


def uneven(lengths=(7, 3, 5)):
    rows = [100.0 * i + np.arange(length) ** 1.5 for i, length in enumerate(lengths)]
    return sx.Trajectories(
        [jnp.asarray(row, jnp.float32) for row in rows], [row - 100.0 * i for i, row in enumerate(rows)]
    )


def draw(paths, size=3, stride=1, batch=400):
    return jax.jit(lambda key: paths.source([stride]).draw(size=size, stride=stride, batch=batch, key=key))(KEY)


# What they are


def test_simulate_gives_states_times_and_conditions():
    paths = sx.simulate(clock, jnp.zeros(4), TS, args={"a": sx.PerSample(jnp.arange(4.0)), "b": 1})
    assert paths.x.shape == (4, 6)
    np.testing.assert_array_equal(paths.ts, TS)
    assert (len(paths), paths.args["b"]) == (4, 1)
    np.testing.assert_allclose(paths.end, 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "index", [slice(1, 3), [0, 2], np.array([True, False, True, False])], ids=["slice", "numbers", "mask"]
)
def test_an_index_takes_trajectories_with_all_that_belongs_to_them(index):
    x, ts = jnp.arange(24.0).reshape(4, 6), np.cumsum(np.ones((4, 6)), axis=1) * np.arange(1, 5)[:, None]
    some = sx.Trajectories(x, ts, {"a": sx.PerSample(jnp.arange(4.0))})[index]
    np.testing.assert_array_equal(some.x, np.asarray(x)[index])
    np.testing.assert_array_equal(some.ts, ts[index])
    np.testing.assert_array_equal(some.args["a"].value, np.arange(4.0)[index])


def test_lists_of_unequal_lengths_keep_their_starts_and_ends():
    paths = uneven()
    np.testing.assert_allclose(paths.start, [0, 100, 200])
    np.testing.assert_allclose(paths.end, [6**1.5, 100 + 2**1.5, 200 + 4**1.5], rtol=1e-6)
    np.testing.assert_allclose(paths[1:].end, paths.end[1:])


def test_trees_may_be_lists_of_trajectories_too():
    paths = sx.Trajectories([{"u": jnp.zeros(3)}, {"u": jnp.ones(4)}], [[0, 1, 2], [0, 1, 2, 3]])
    assert paths.x["u"].shape == (2, 4)
    np.testing.assert_array_equal(paths.end["u"], [0, 1])


def test_another_order_of_bytes_loses_nothing():
    x = np.arange(12.0, dtype=np.float32).reshape(2, 6)
    for given in (x.astype(">f4"), list(x.astype(">f4"))):
        np.testing.assert_array_equal(sx.Trajectories(given, TS.astype(">f8")).x, x)


def test_an_empty_mask_hides_nothing():
    np.testing.assert_array_equal(sx.Trajectories(np.ma.masked_array(np.ones((2, 6), np.float32)), TS).x, 1)


# Windows


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 2)])
def test_windows_have_their_trajectorys_own_times_and_steps(size, stride):
    windows, _ = draw(own_times(), size, stride)
    np.testing.assert_allclose(windows.x % 100, windows.t, atol=1e-4)
    np.testing.assert_allclose(windows.steps, jnp.diff(windows.t, axis=1), atol=1e-5)
    assert len(np.unique(np.asarray(windows.x) // 100)) == 5


def test_windows_are_drawn_inside_of_each_trajectory_and_all_equally_often():
    lengths = (7, 3, 5)
    windows, _ = draw(uneven(lengths), size=3, batch=6000)
    np.testing.assert_allclose(np.asarray(windows.x) % 100, windows.t, atol=1e-3)
    starts, counts = np.unique(np.asarray(windows.x[:, 0]), return_counts=True)
    assert len(starts) == sum(length - 2 for length in lengths)
    assert np.abs(counts / 6000 * len(starts) - 1).max() < 0.25


def test_each_window_has_its_trajectorys_condition():
    paths = own_times()
    paths = sx.Trajectories(paths.x, paths.ts, {"number": sx.PerSample(jnp.arange(5.0)), "shared": "text"})
    source = paths.source([1])
    windows, args = source.draw(size=2, stride=1, batch=50, key=KEY)
    np.testing.assert_array_equal(args["number"].value, np.asarray(windows.x[:, 0]) // 100)
    assert args["shared"] == "text"


def test_steps_are_differences_in_double_precision():
    ts = 1e4 + np.array([[0.0, 0.01, 0.03], [0.0, 0.02, 0.03]])
    source = sx.Trajectories(jnp.zeros((2, 3)), ts).source([1])
    np.testing.assert_allclose(source.steps[1], [[0.01, 0.02], [0.02, 0.01]], rtol=1e-6)


def test_a_list_may_have_its_times_in_one_array():
    ts = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 3.0]])
    np.testing.assert_array_equal(sx.Trajectories([jnp.ones(3), jnp.ones(3)], ts).ts, ts)


# Training


def test_trajectories_with_times_of_their_own_learn_the_exact_score():
    process = Stationary(var=0.25, g=0.5)
    rows = [np.cumsum(np.random.default_rng(i).uniform(0.01, 0.05, n)) for i, n in enumerate([12, 20] * 40)]
    paths = sx.Trajectories([process.paths(50, row, jax.random.key(i)).T for i, row in enumerate(rows)], rows)
    stages = [sx.Stage(3, 400, 0.05)]
    net = sx.Score(lambda t, x, args: x, process.g)  # fifty independent components
    s = sx.fit(-process.P + 2 * sx.Score(Slope(-1.0), net.g), paths, key=KEY, curriculum=stages, average=0.98)
    assert float(s.net.a) == pytest.approx(-1 / process.var, rel=0.05)


def test_double_precision_stays():
    with double_precision():
        assert sx.Trajectories(np.zeros((2, 6)), TS).x.dtype == jnp.float64


# Errors


def unfit(x: Any, ts: Any, args: Any = None):
    return lambda: sx.Trajectories(x, ts, args)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (unfit(jnp.ones(6), TS), ValueError, r"\(trajectories, times, ...\); got \(6,\). For one.*`x\[None\]`"),
        (unfit(jnp.ones((2, 5)), TS), ValueError, r"2 trajectories of 5 times.*shape \(6,\): give \(5,\) or \(2, 5\)"),
        (unfit([jnp.ones(3), jnp.ones(4)], TS), ValueError, r"\[3, 4\] states, and `ts` has 6.*list of times too"),
        (unfit([jnp.ones(3)], [[0.0, 1.0]]), ValueError, r"of \[3\] states, `ts` \[2\] times"),
        (unfit(jnp.ones((2, 3)), [[0, 1, 2], [0, 2, 1]]), ValueError, "turns at position 1"),
        (unfit([], []), ValueError, "empty list"),
        (unfit([jnp.ones(3)], []), ValueError, r"\[3\] states, and `ts` has 0 times"),
        (unfit([(jnp.ones(3), jnp.ones(2))], [[0, 1, 2]]), ValueError, r"trajectory 0 have \[3, 2\] times"),
        (unfit([jnp.ones(3), jnp.ones(2)], 0.1), ValueError, r"at least two times; got shape \(\)"),
        (unfit([jnp.ones(3), jnp.ones(2)], [[0, 1, 2], 1]), ValueError, r"Trajectory 1: .*two times; got shape \(\)"),
        (unfit(jnp.ones((2, 6)), TS, sx.PerSample(jnp.ones(3))), ValueError, "3 rows .*there are 2 trajectories"),
        (unfit(np.ones((3, 6)).tolist(), TS), TypeError, r"list of numbers or of lists.*`np.asarray\(x, np.float32\)`"),
        (unfit([jnp.ones(1), jnp.ones(2)], [[0.0], [0.0, 1.0]]), ValueError, "Trajectory 0: .*at least two times"),
        (unfit(RAGGED, TS), TypeError, r"rows of unequal lengths.*`sx.Trajectories\(\[x0, x1\], \[t0, t1\]\)`"),
        (unfit(MASKED, TS), ValueError, "`x` has 2 masked entries.*fill values would be taken for data"),
        (unfit(list(MASKED), TS), ValueError, "`x` has 2 masked entries"),
        (unfit(jnp.ones((2, 6)), np.ma.masked_less(TS, 0.1)), ValueError, "`ts` has 1 masked"),
        (lambda: own_times()[9:], IndexError, "none of 5 trajectories"),
    ],
    ids=[
        "one",
        "times",
        "lengths",
        "list",
        "order",
        "empty",
        "no times",
        "arrays",
        "one time",
        "one time of a list",
        "rows",
        "nested",
        "lone time",
        "objects",
    ]
    + ["masked", "masked in a list", "masked times", "nothing left"],
)
def test_what_is_no_set_of_trajectories_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


NUMBERS = [2, np.int64(2), np.array(2), jnp.array(2), (2, 3), np.array([[0, 1]])]


@pytest.mark.parametrize("take", [lambda i: own_times()[i], lambda i: sx.Perturbed(own_times(), g)[i]])
@pytest.mark.parametrize("index", NUMBERS, ids=["Python", "NumPy", "array", "JAX", "state", "matrix"])
def test_an_index_is_no_number_of_any_library(take, index):
    with pytest.raises(TypeError, match=r"`paths\[3:4\]` or `paths\[\[0, 3\]\]`"):
        take(index)


@pytest.mark.usefixtures("as_users_run")
def test_fit_wants_trajectories_and_says_what_to_write():
    s = sx.Score(Slope(-1.0), sx.Diffusion(0.1))
    with pytest.raises(TypeError, match=r"got ndarray. Write `sx.Trajectories\(x, ts\)`"):
        sx.fit(-clock + 2 * s, np.ones((2, 6)), key=KEY)  # pyright: ignore[reportArgumentType]


def test_traced_times_are_refused_by_name():
    s = sx.Score(Slope(-1.0), sx.Diffusion(0.1))
    with pytest.raises(TypeError, match="must know the times of its trajectories"):
        jax.jit(lambda paths: sx.fit(-clock + 2 * s, paths, key=KEY).net.a)(own_times())


def test_a_window_fits_into_the_longest_trajectory():
    s = sx.Score(Slope(-1.0), sx.Diffusion(0.1))
    with pytest.raises(ValueError, match="window of 8 states.*have 7"):
        sx.fit(-clock + 2 * s, uneven(), key=KEY, curriculum=[sx.Stage(8, 1)])
