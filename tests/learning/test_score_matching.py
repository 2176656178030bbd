"""Score matching, implicit and sliced: the divergence plus half the square, and what it is minimised by."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import Slope, Stationary, as_users_run as as_users_run

KEY = jax.random.key(0)
g = sx.Diffusion(0.5)
P = sx.Drift(lambda t, x, args: jnp.sin(x) * (1 + t))


@eqx.filter_jit
def value(loss, equation, windows, key=KEY):
    """A loss in one program, where a call outside of one compiles every operation of its own."""
    return loss(equation, windows, key, None)


def states(n=7):
    x = jax.random.normal(KEY, (n, 3, 2))
    return sx.Windows(x, jnp.tile(jnp.array([0.1, 0.2, 0.3]), (n, 1)), 0.1)


def curl(t, x, args):
    """A field with cross terms, so that a divergence needs more than its diagonal's sum of squares."""
    return jnp.stack([x[0] * x[1] - t * x[0], jnp.sin(x[0]) - x[1] ** 2])


def test_implicit_score_matching_is_divergence_plus_half_the_square():
    w = states()
    x, t = w.x[:, 1:].reshape(-1, 2), w.t[:, 1:].reshape(-1)
    divergence = x[:, 1] - t - 2 * x[:, 1]
    square = jnp.sum(jax.jit(jax.vmap(lambda t, x: curl(t, x, None)))(t, x) ** 2, axis=1)
    s = sx.Score(curl, g)
    np.testing.assert_allclose(
        value(sx.ImplicitScoreMatching(), -P + s, w), jnp.mean(divergence + 0.5 * square), rtol=1e-5
    )


def test_sliced_score_matching_is_implicit_score_matching_on_average():
    w, s = states(), sx.Score(curl, g)
    values = jax.jit(jax.vmap(lambda key: sx.SlicedScoreMatching()(-P + s, w, key, None)))(jax.random.split(KEY, 4000))
    implicit = value(sx.ImplicitScoreMatching(), -P + s, w)
    assert values.std() > 0
    assert abs(float(values.mean() - implicit)) < 3 * float(values.std()) / 4000**0.5


def test_sliced_score_matching_is_exact_in_one_dimension():
    x = jax.random.normal(KEY, (5, 3))
    w, s = sx.Windows(x, jnp.tile(jnp.array([0.1, 0.2, 0.3]), (5, 1)), 0.1), sx.Score(lambda t, x, args: -t * x**3, g)
    np.testing.assert_allclose(
        value(sx.SlicedScoreMatching(), -P + s, w), value(sx.ImplicitScoreMatching(), -P + s, w), rtol=1e-5
    )


def test_score_matching_sees_neither_physics_nor_coefficient():
    w, s = states(), sx.Score(curl, g)
    other = sx.Drift(lambda t, x, args: x)
    loss = sx.ImplicitScoreMatching()
    assert value(loss, -other + 2 * s, w) == value(loss, -P + s, w)


def test_score_matching_weighs_times():
    w, s = states(), sx.Score(curl, g)
    late = sx.Windows(w.x[:, 1:], w.t[:, 1:], w.step)
    only_late = sx.ImplicitScoreMatching(weight=lambda t: jnp.where(t > 0.25, 2.0, 0.0))
    np.testing.assert_allclose(value(only_late, -P + s, w), value(sx.ImplicitScoreMatching(), -P + s, late), rtol=1e-5)


def test_of_a_stationary_process_the_minimum_is_one_number():
    process = Stationary()
    w = sx.Windows(process.paths(20000, [0.0, 0.1], KEY), jnp.tile(jnp.array([0.0, 0.1]), (20000, 1)), 0.1)

    def loss(a):
        return sx.ImplicitScoreMatching()(-process.P + sx.Score(Slope(a), process.g), w, KEY, None)

    # Quadratic in the slope: one Newton step from anywhere is the minimum.
    slope, curvature = jax.jit(lambda a: (jax.grad(loss)(a), jax.grad(jax.grad(loss))(a)))(0.0)
    assert float(-slope / curvature) == pytest.approx(-1 / process.var, rel=0.04)
