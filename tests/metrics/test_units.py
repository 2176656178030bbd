"""Metrics of numbers whose squares are none, and of numbers that are no floats."""

# Wrong on purpose.
# pyright: reportArgumentType=false

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx import metrics
from tests._problems import as_users_run as as_users_run

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(50, 3)), 0.5 + 1.3 * RNG.normal(size=(50, 3))
DRAWS, TRUTH = RNG.normal(size=(10, 30, 2)), RNG.normal(size=(30, 2))
KEY = jr.key(0)

SINGLE = [1e-36, 1e-22, 1e20, 1e36]
DOUBLE = [1e-300, 1e-20, 1e20, 1e300]
UNITS = [(np.float32, unit) for unit in SINGLE] + [(np.float64, unit) for unit in DOUBLE]


@pytest.mark.parametrize(("dtype", "unit"), UNITS)
class TestUnits:
    """Of states in a unit: what has one is in it, what has none does not see it."""

    def test_of_the_energy_distance(self, dtype, unit):
        a, b = ((unit * x).astype(dtype) for x in (A, B))
        assert metrics.energy_distance(a, b) / unit == pytest.approx(metrics.energy_distance(A, B), rel=1e-5)

    def test_of_the_energy_score(self, dtype, unit):
        x, y = ((unit * x).astype(dtype) for x in (DRAWS, TRUTH))
        np.testing.assert_allclose(metrics.energy_score(x, y) / unit, metrics.energy_score(DRAWS, TRUTH), rtol=1e-4)

    def test_of_spread_over_error(self, dtype, unit):
        x, y = ((unit * x).astype(dtype) for x in (DRAWS, TRUTH))
        assert metrics.spread_over_error(x, y) == pytest.approx(metrics.spread_over_error(DRAWS, TRUTH), rel=1e-5)

    def test_of_each_component_of_tarp(self, dtype, unit):
        x, y = ((np.array([unit, 1]) * x).astype(dtype) for x in (DRAWS, TRUTH))
        np.testing.assert_array_equal(metrics.tarp(x, y, key=KEY)[1], metrics.tarp(DRAWS, TRUTH, key=KEY)[1])

    def test_of_c2st(self, dtype, unit):
        a, b = ((unit * x).astype(dtype) for x in (A, B))
        assert metrics.c2st(a, b, key=KEY, folds=2) == pytest.approx(metrics.c2st(A, B, key=KEY, folds=2), abs=0.05)


@pytest.mark.parametrize("unit", SINGLE)
def test_a_score_that_is_a_tenth_off_is_so_in_any_unit(unit):
    x = jnp.asarray(unit * A, jnp.float32)
    error = metrics.score_error(lambda t, x, args: -1.1 * x, lambda t, x, args: -x, jnp.ones(len(x)), x)
    assert error.relative_l2 == pytest.approx(0.1, rel=1e-3)
    assert error.slope == pytest.approx(1.1, rel=1e-3)


def test_a_score_that_is_far_too_large_is_so_by_a_number():
    x = jnp.asarray(A, jnp.float32)
    error = metrics.score_error(lambda t, x, args: -1e30 * x, lambda t, x, args: -x, jnp.ones(len(x)), x)
    assert (error.relative_l2, error.slope) == pytest.approx((1e30, 1e30), rel=1e-5)


def test_an_ordinary_unit_changes_no_digit():
    energy, spread = metrics.energy_score(DRAWS, TRUTH), metrics.spread_over_error(DRAWS, TRUTH)
    np.testing.assert_array_equal(metrics.energy_score(4 * DRAWS, 4 * TRUTH), 4 * energy)
    assert metrics.spread_over_error(4 * DRAWS, 4 * TRUTH) == spread


# Numbers that are no floats


COUNTS = np.array([[1, 0], [3, 1], [0, 1]]), np.array([2, 0])


def in_cases(metric):
    return lambda x, y: metric(x[..., None], y[..., None])


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "metric",
    [metrics.crps, in_cases(metrics.energy_score), lambda x, y: metrics.tarp(x[..., None], y[..., None], key=KEY)],
    ids=["crps", "energy score", "tarp"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, bool])
def test_counts_and_flags_are_numbers(metric, dtype):
    x, y = (part.astype(dtype) for part in COUNTS)
    np.testing.assert_array_equal(metric(x, y), metric(x.astype(float), y.astype(float)))


@pytest.mark.usefixtures("as_users_run")
def test_times_of_whole_numbered_states_keep_their_fractions():
    error = sx.metrics.score_error(
        lambda t, x, args: -x * t, lambda t, x, args: -x * 0.5, 0.5 * jnp.ones(3), jnp.arange(3)
    )
    assert error.relative_l2 == 0
