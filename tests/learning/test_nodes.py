"""The nodes of `Whitened`'s tables: where the data change, and a start that is gone within a step is warned of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

K = jax.random.split(jax.random.key(0), 4)
g = sx.Diffusion(0.1)


class Decay:
    """A stiff rate of 300, which balances the noise at a deviation of .004."""

    __call__ = lambda self, t, x, args: -300.0 * x  # noqa: E731
    linear = lambda self, t: sx.Diagonal(jnp.asarray(-300.0))  # noqa: E731


D = sx.Drift(Decay())


def paths(ts, deviation=0.03, count=1000):
    return sx.simulate(D + g, deviation * jax.random.normal(K[0], (count,)), ts, key=K[1])


def whitened(paths):
    return sx.nn.Whitened(sx.nn.MLP(widths=(4,), key=K[2]), paths, guard=False)


def nodes(paths):
    return np.asarray(whitened(paths).scales().times)


def test_nodes_lie_where_the_variance_changes():
    ts = np.linspace(0, 1, 801)
    times = nodes(paths(ts))
    assert len(times) == 33
    assert (times[0], times[-1]) == (0, 1)
    # Half of the variance is gone at .0012, and 1/50 is left at .0065.
    assert 5 <= np.sum(times < 0.02) <= 25


def test_where_nothing_changes_they_are_about_even():
    gaps = np.diff(nodes(paths(np.linspace(0, 1, 801), deviation=g.g / 600**0.5)))
    assert gaps.max() < 4 / 32


def test_few_times_are_all_nodes():
    ts = np.linspace(0, 0.1, 33) ** 2
    np.testing.assert_allclose(nodes(paths(ts)), ts, rtol=1e-6)


def test_in_a_program_they_are_even():
    data = paths(np.linspace(0, 1, 65))
    times = jax.jit(lambda x: whitened(sx.Trajectories(x, data.ts)).scales().times)(data.x)
    np.testing.assert_allclose(times, np.linspace(0, 1, 33), atol=1e-6)


def test_a_start_that_is_soon_forgotten_is_drawn_before_any_training():
    """With even nodes the variance was 5e5 times too large."""
    ts = np.linspace(0, 1, 801)
    data = paths(ts, count=4000)
    s = sx.Score(whitened(data), g)
    draws = sx.posterior(-D + 2 * s + g, data.end[:20], ts[::-1], 200, key=K[3])
    assert 0.2 < float(draws.var()) / 0.03**2 < 5


def test_a_start_that_is_gone_within_a_step_is_warned_of():
    message = r"falls to 0.0\d+ of what it was within the first step of 0.02 .*first step of 0.003\d or less"
    with pytest.warns(UserWarning, match=message):
        whitened(paths(np.linspace(0, 1, 51)))
    whitened(paths(np.linspace(0, 1, 51) ** 2))


def test_of_several_components_the_worst_is_named():
    sizes = jnp.array([[[1.0, 1.0], [1.0, 0.1], [1.0, 0.1]]])
    both = sx.Trajectories(sizes * jax.random.normal(K[0], (1000, 1, 2)), [0.0, 0.5, 1.0])
    with pytest.warns(UserWarning, match=r"the variance of component or mode 1 falls to 0.01 .*\(1 of 2\)"):
        sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=K[2]), both)
