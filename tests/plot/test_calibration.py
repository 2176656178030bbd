"""The figure of a `CalibrationReport` shows its numbers."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx.inference._calibrate import assess

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture
def axes():
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots(1, 3)
    yield axes
    plt.close(figure)


def report(scale):
    rng = np.random.default_rng(0)
    draws, truths = scale * rng.normal(size=(50, 200, 3)), rng.normal(size=(200, 3))
    return assess(jnp.asarray(draws, "f"), jnp.asarray(truths, "f"), key=jr.key(0))


def test_ranks_coverage_and_scales_are_those_of_the_report(axes):
    found = report(0.5)
    sx.plot.calibration(axes, found)
    heights = axes[0].patches[-1].get_data().values
    np.testing.assert_array_equal(heights, found.heights[0])
    assert heights[[0, -1]].min() > 2 * heights[8:12].max()  # too narrow: ∪
    covered = axes[1].lines[1].get_ydata()
    assert (covered[1:-1] < found.levels[1:-1]).all()
    skill, spread = axes[2].lines[-1].get_data()
    assert len(skill) == 3
    np.testing.assert_allclose(spread / skill, 0.5, atol=0.1)


def test_a_single_axes_is_refused(axes):
    with pytest.raises(ValueError, match="`axes` must be three"):
        sx.plot.calibration(axes[0], report(1.0))
