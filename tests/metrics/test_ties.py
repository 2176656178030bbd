"""Metrics of states that tie, of trees, and of components without a score."""

import pickle

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx import metrics

KEY = jr.key(0)


def rounded(cases=4000, draws=19):
    """Calibrated draws and truths of a few values: most of them tie."""
    x = jnp.round(jr.normal(KEY, (draws + 1, cases, 1)))
    return x[1:], x[0]


def test_ranks_of_calibrated_draws_that_tie_are_uniform():
    assert metrics.sbc_pvalue(metrics.sbc_ranks(*rounded(), key=jr.key(1)), 19).min() > 0.01


def test_coverage_of_calibrated_draws_that_tie_is_the_level():
    alpha, coverage = metrics.tarp(*rounded(), key=jr.key(1))
    np.testing.assert_allclose(coverage, alpha, atol=0.03)


def test_c2st_of_a_set_and_itself_is_a_half():
    a = jr.normal(KEY, (300, 2))
    assert metrics.c2st(a, a, key=KEY) == pytest.approx(0.5, abs=0.02)


def test_crps_of_a_tree_is_leaf_by_leaf():
    draws, truth = jr.normal(KEY, (8, 5)), jnp.zeros(5)
    tree = metrics.crps({"u": draws, "v": (2 * draws,)}, {"u": truth, "v": (truth,)})
    np.testing.assert_allclose(tree["u"], metrics.crps(draws, truth))
    np.testing.assert_allclose(tree["v"][0], 2 * metrics.crps(draws, truth))


def test_distances_put_the_leaves_of_a_tree_side_by_side():
    a, b = jr.normal(KEY, (2, 50, 2))
    tree = lambda x: {"u": x[:, 0], "v": x[:, 1:]}  # noqa: E731
    assert metrics.energy_distance(tree(a), tree(b)) == pytest.approx(metrics.energy_distance(a, b))


def test_one_normalisation_of_a_tree_is_refused_with_the_mend():
    with pytest.raises(TypeError, match=r"must be one array, got dict.*jax.tree.map\(Normalisation.of, x\)"):
        sx.data.Normalisation.of({"u": np.ones((3, 2))})


def test_the_score_error_counts_components_with_noise():
    s = sx.Score(lambda t, x, args: -x * jnp.array([7.0, 1.0]), sx.Diffusion(jnp.array([0.0, 1.0])))
    error = metrics.score_error(s, lambda t, x, args: -x, jnp.zeros(100), jr.normal(KEY, (100, 2)))
    assert error.relative_l2 == 0


def test_a_score_can_be_pickled():
    s = sx.Score(sx.nn.MLP(key=KEY), sx.Diffusion(0.1))
    again, t, x = pickle.loads(pickle.dumps(s)), jnp.array(0.3), jnp.array(0.2)
    assert again.net(t, x, None) == s.net(t, x, None)


def test_weights_in_a_closure_are_named():
    weights = jax.random.normal(KEY, (2,))
    s = sx.Score(lambda t, x, args: weights[0] * x, sx.Diffusion(0.1))
    P = sx.Drift(lambda t, x, args: -x)
    with pytest.raises(TypeError, match="closes over.*eqx.Module"):
        sx.fit(-P + 2 * s, sx.Trajectories(jnp.zeros((4, 3)), np.linspace(0, 1, 3)), key=KEY)
