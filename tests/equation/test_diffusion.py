"""Noise: a number, an array or a function of time and conditions, never of the state."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

P = sx.Drift(lambda t, x, args: -x + t)
g = sx.Diffusion(0.5)
X = jnp.array([0.3, -1.2, 2.0])


def test_noise_is_a_number_an_array_or_a_function_of_time():
    like = jnp.zeros((2, 3))
    for noise in [0.5, jnp.full(3, 0.5), np.full((2, 3), 0.5), lambda t: t, lambda t: jnp.full(3, 0.5)]:
        np.testing.assert_allclose(sx.Diffusion(noise).like(0.5, like), jnp.full((2, 3), 0.5))


def test_noise_is_divided_as_it_is_multiplied():
    np.testing.assert_allclose((g / 2).like(0.0, X), jnp.full(3, 0.25))
    np.testing.assert_allclose((sx.Diffusion(lambda t: t) / 2).like(0.5, X), jnp.full(3, 0.25))
    with pytest.raises(TypeError):
        g / "2"  # pyright: ignore[reportUnusedExpression]


def test_noise_may_be_a_tree_like_the_states():
    noise = sx.Diffusion({"u": 0.1, "v": jnp.array([0.2, 0.3])})
    like = noise.like(0.0, {"u": jnp.zeros(2), "v": jnp.zeros(2)})
    np.testing.assert_allclose(like["u"], [0.1, 0.1])
    np.testing.assert_allclose(like["v"], [0.2, 0.3])


def test_one_noise_serves_every_array_of_a_tree():
    like = g.like(0.0, (jnp.zeros(2), jnp.zeros((3, 1))))
    assert [leaf.shape for leaf in like] == [(2,), (3, 1)]


def test_noise_scales():
    assert (2 * g).like(0.0, jnp.zeros(())) == 1.0
    assert (sx.Diffusion(lambda t: t) * 3).like(0.5, jnp.zeros(())) == 1.5


def test_noise_may_depend_on_args():
    for noise in (lambda t, args: t * args, lambda t, viscosity: t * viscosity):
        assert sx.Diffusion(noise).like(0.5, jnp.zeros(()), 3.0) == 1.5
        assert (2 * sx.Diffusion(noise)).like(0.5, jnp.zeros(()), 3.0) == 3.0


@pytest.mark.parametrize("noise", [lambda tau: tau, lambda t, c=2.0: c * t / 2, lambda *t: t[0], jnp.positive, abs])
def test_a_function_of_time_alone_is_given_time_alone(noise):
    assert sx.Diffusion(noise).like(0.5, jnp.zeros(()), 3.0) == 0.5


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "noise", [np.array([1j]), jnp.ones(2, complex), np.array(["0.1"])], ids=["1j", "JAX's", "text"]
)
def test_noise_that_is_not_real_is_refused(noise):
    with pytest.raises(TypeError, match=r"takes real numbers; got (complex|<U3).*abs"):
        sx.Diffusion(noise)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "noise",
    [lambda x: 0.5 * x, lambda state: state, lambda t, x: x, lambda t, x, args: x, lambda t, x=1.0: x],
    ids=["x", "state", "t, x", "t, x, args", "t, x=1"],
)
def test_noise_that_depends_on_the_state_is_refused_with_a_change_of_variable(noise):
    with pytest.raises(TypeError, match="not on the state.*y = log x"):
        sx.Diffusion(noise)


@pytest.mark.parametrize("noise", [{"u": 0.5}, {"w": 0.5}, [0.5]])
def test_a_tree_of_noise_is_not_spread_over_arrays_that_it_does_not_name(noise):
    with pytest.raises(ValueError, match=r"g has the tree .*Give one number, a tree like the state's"):
        sx.Diffusion(noise).like(0.0, {"u": X, "v": X})


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("of", [lambda rows: rows, lambda rows: {"u": rows}])
def test_a_noise_for_each_sample_belongs_in_args(of):
    with pytest.raises(TypeError, match=r'got a `PerSample`.*Diffusion\(lambda t, args: args\["g"\]\)'):
        sx.Diffusion(of(sx.PerSample(X)))


def test_noise_that_does_not_fit_the_state_shows_both_shapes():
    with pytest.raises(ValueError, match=r"g of shape \(4,\) does not fit a state of shape \(3,\)"):
        sx.Diffusion(jnp.ones(4)).like(0.0, X)


@pytest.mark.parametrize("of", [lambda t: 0.5 - t, lambda t, args: args - t], ids=["g(t)", "g(t, args)"])
def test_the_sign_of_a_functions_noise_has_no_meaning(of):
    score = lambda g: sx.Score(lambda t, x, args: -x, g, around=P)  # noqa: E731
    plus, minus = score(sx.Diffusion(of)), score(-1 * sx.Diffusion(of))
    for t in (0.2, 0.5, 0.8):  # positive, zero, negative
        np.testing.assert_allclose(plus(t, X, 0.5), minus(t, X, 0.5))
        np.testing.assert_allclose(plus.rate(t, X, 0.5), minus.rate(t, X, 0.5))


def test_a_traced_negative_noise_is_noise():
    noisy = jax.jit(lambda c: sx.Diffusion(c).noisy(0.0, X, None, jnp.ones(3)))
    np.testing.assert_allclose(noisy(-0.3), 1)
    np.testing.assert_allclose(noisy(0.0), 0)
