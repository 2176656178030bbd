"""The exponential solvers on states that are trees: each array has a linear part, or none, of its own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run, double_precision
from tests.solving.test_exponential import BOTH, EXP, HEUN, KEY, STIFF, Linear, X


class Apart(eqx.Module):
    """Each array's own decay, stated for "field" and "stiff", and a slow one that is not."""

    def __call__(self, t, x, args):
        parts = self.linear(t)
        return {"field": parts["field"](x["field"]), "stiff": parts["stiff"](x["stiff"]), "slow": -x["slow"]}

    def linear(self, t):
        k2 = jnp.arange(5.0) ** 2
        return {"field": sx.Fourier(-10 * k2), "stiff": sx.Diagonal(jnp.array([-1.0, -1e4])), "slow": None}


def tree(samples):
    wave = jnp.cos(2 * jnp.pi * jnp.arange(8.0) / 8)
    return {"field": jnp.tile(wave, (samples, 1)), "stiff": jnp.ones((samples, 2)), "slow": jnp.ones(samples)}


@BOTH
def test_each_array_of_a_tree_has_a_linear_part_of_its_own(solver):
    x = sx.solve(sx.Drift(Apart()), tree(1), [0.0, 0.5], solver=solver)
    np.testing.assert_allclose(x["field"][0, -1], np.exp(-5) * tree(1)["field"][0], atol=1e-6)
    np.testing.assert_allclose(x["stiff"][0, -1], [np.exp(-0.5), 0], atol=1e-6)
    plain = 1 - 0.5 + (0.5**2 / 2 if solver is HEUN else 0)  # without a stiff part: Euler's and Heun's
    assert float(x["slow"][0, -1]) == pytest.approx(plain, abs=1e-6)


def test_arrays_of_several_precisions_are_solved_by_the_default():
    with double_precision():
        x0 = {name: x.astype(jnp.float64 if name == "slow" else jnp.float32) for name, x in tree(1).items()}
        x = sx.solve(sx.Drift(Apart()), x0, [0.0, 0.5])
    assert {name: leaf.dtype for name, leaf in x.items()} == {name: leaf.dtype for name, leaf in x0.items()}
    np.testing.assert_allclose(x["stiff"][0, -1], [np.exp(-0.5), 0], atol=1e-6)


@BOTH
def test_noise_of_each_array_of_a_tree_has_its_laws_variance(solver):
    G = {"field": 1.0, "stiff": 10.0, "slow": 0.1}
    ends = sx.solve(sx.Drift(Apart()) + sx.Diffusion(G), tree(20000), [0.0, 0.5], solver=solver, key=KEY)
    var = {name: np.asarray(x[:, -1]).var(0) for name, x in ends.items()}
    close = 3 * (2 / 20000) ** 0.5
    np.testing.assert_allclose(var["stiff"], [1e2 * (1 - np.exp(-1)) / 2, 1e2 / 2e4], rtol=close)
    k2, modes = 10 * np.arange(5.0) ** 2, np.array([1, 2, 2, 2, 1])  # modes of ±k, of 8 in all
    law = np.where(k2 == 0, 0.5, -np.expm1(-k2) / np.where(k2 == 0, 1, 2 * k2))
    np.testing.assert_allclose(var["field"], np.sum(modes * law) / 8, rtol=close)
    # The step's own matrix on one increment: 1, or 1 - h/2 for Heun's.
    assert float(var["slow"]) == pytest.approx(0.005 * (0.75**2 if solver is HEUN else 1), rel=close)


def test_the_score_of_a_tree_has_the_noise_of_each_array():
    G = {"field": 2.0, "stiff": 3.0, "slow": jnp.array([1.0])}
    linear: Any = (-sx.Drift(Apart()) + 2 * sx.Score(Apart(), sx.Diffusion(G))).linear(0.0)
    np.testing.assert_allclose(linear["field"].rates, (4 - 1) * -10 * np.arange(5.0) ** 2)
    np.testing.assert_allclose(linear["stiff"].rates, [-8, -8e4])
    assert linear["slow"] is None


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("x", [{"u": X}, {"u": X, "v": X}], ids=["one leaf", "two"])
def test_the_linear_part_has_the_states_structure(x):
    class Tree(Linear):
        def __call__(self, t, x, args):
            return jax.tree.map(lambda leaf: -leaf, x)

    with pytest.raises(TypeError, match="the state is .*for each array, None for an array"):
        sx.solve(sx.Drift(Tree(-jnp.ones(2))), x, [0.0, 1.0], solver=EXP)


@pytest.mark.usefixtures("as_users_run")
def test_the_linear_parts_of_one_equation_are_of_one_state():
    with pytest.raises(TypeError, match="are of one state; got the trees"):
        (sx.Drift(Apart()) + STIFF).linear(0.0)
