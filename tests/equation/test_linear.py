"""Linear parts follow the algebra: what an equation states is what its rate does to a state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import smdpx as sx
from smdpx.exact import LinearGaussianField, power_law_field
from tests._problems import as_users_run as as_users_run, double_precision

RNG = np.random.default_rng(0)
G = 0.3


class Linear(eqx.Module):
    """(1 + t)·rates·x, and nothing else: its linear part is all of it."""

    rates: Any

    def __call__(self, t, x, args):
        return self.linear(t)(x)

    def linear(self, t):
        return sx.Diagonal((1 + jnp.asarray(t)) * self.rates)


def rates(drift, t=0.3):
    L = drift.linear(t)
    assert L is not None
    return L.rates


def even(n):
    """Rates of the modes of an n × n field, even in the wavenumber."""
    rates = RNG.normal(size=(n, n))
    mirrored = np.roll(rates[::-1, ::-1], (1, 1), (0, 1))
    return jnp.asarray(rates + mirrored, jnp.float32)[:, : n // 2 + 1]


P = sx.Drift(Linear(jnp.array([-1.0, 2.0, 0.5])))
BACK = -P
R = sx.ReverseDrift(Linear(jnp.array([3.0, -0.1, 0.0])))
g = sx.Diffusion(G)
s = sx.Score(Linear(jnp.array([-4.0, -1.0, -9.0])), g)
X = jnp.asarray(RNG.normal(size=3), jnp.float32)

EXPRESSIONS = {
    "P": P,
    "-P": -P,
    "-(-P)": -BACK,
    "s": s,
    "-P + 2*s": -P + 2 * s,
    "-P + s": -P + s,
    "P - s": P - s,
    "0.5*P": 0.5 * P,
    "P/4": P / 4,
    "P + P": P + P,
    "3*(-P + s)": 3 * (-P + s),
    "R + 2*s": R + 2 * s,
    "-P + s + s": -P + s + s,
    "-P + -1*s": -P + -1 * s,
    "0*s + R": 0 * s + R,
    "np.float64(2.)*s - P": np.float64(2.0) * s + -P,
    "np.int64(2)*s": np.int64(2) * s,
    "array*s": jnp.array(2.0) * s,
    "True*s": True * s,
    "g(t)": sx.Score(s.net, sx.Diffusion(lambda t: G * t)),
    "array g": sx.Score(s.net, sx.Diffusion(jnp.array(G))),
    "np g": -P + np.float64(2.0) * sx.Score(s.net, sx.Diffusion(np.float64(G))),
}


@pytest.mark.parametrize("drift", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
@pytest.mark.parametrize("t", [0.0, 0.7])
def test_of_a_linear_equation_the_linear_part_is_the_rate(drift, t):
    np.testing.assert_allclose(drift.linear(t)(X), drift.rate(t, X, None), rtol=1e-6)


def test_that_of_the_reverse_equation_in_numbers():
    # -P + 2·½g²s at t = 1, where P and s are twice their rates at 0.
    p, q = np.array([-1.0, 2.0, 0.5]), np.array([-4.0, -1.0, -9.0])
    np.testing.assert_allclose(rates(-P + 2 * s, 1.0), 2 * (-p + G**2 * q), rtol=1e-6)


def test_coefficients_and_times_may_be_traced():
    traced = jax.jit(lambda c, t: rates(-P + c * s, t))(2.0, 1.0)
    np.testing.assert_allclose(traced, rates(-P + 2 * s, 1.0), rtol=1e-6)


def test_drifts_without_one_count_as_zero_beside_drifts_with_one():
    plain, net = sx.Drift(lambda t, x, args: jnp.sin(x)), sx.Score(lambda t, x, args: -x, sx.Diffusion(jnp.ones(3)))
    np.testing.assert_array_equal(rates(P + 5 * plain), rates(P))
    np.testing.assert_array_equal(rates(-plain + -P + 2 * net), rates(-P))


def test_without_any_there_is_none():
    plain, step = sx.Drift(lambda t, x, args: jnp.sin(x)), sx.Drift.from_step(lambda x, dt: x, sx.mirror)
    assert plain.linear(0.0) is None
    assert (-plain + 2 * sx.Score(lambda t, x, args: -x, g)).linear(0.0) is None
    assert (-step).linear(0.0) is None


def test_a_networks_layer_that_is_called_linear_states_nothing():
    class Network(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, t, x, args):
            return self.linear(x)

    net = sx.Score(Network(eqx.nn.Linear(3, 3, key=jax.random.key(0))), g)
    assert net.linear(0.0) is None
    np.testing.assert_array_equal(rates(-P + 2 * net), rates(-P))


def test_the_functions_of_a_gaussian_field_are_pytrees_of_its_arrays():
    field = LinearGaussianField(power_law_field(4), g=0.1)
    for f in (field.drift, field.score):
        assert any(leaf is field.rates for leaf in jax.tree.leaves(f))
    # So a second one is no second program, and gradients reach them.
    assert jax.tree.structure(sx.Score(field.score, g)) == jax.tree.structure(sx.Score(field.score, g))


# The operators


@pytest.mark.parametrize("make", [lambda: sx.Diagonal(jnp.array([1.0, -2.0, 3.0])), lambda: sx.Fourier(even(4))])
def test_operators_of_one_basis_add_and_scale(make):
    A, B = make(), make()
    x = jnp.asarray(RNG.normal(size=(3,) if isinstance(A, sx.Diagonal) else (4, 4)), jnp.float32)
    np.testing.assert_allclose((A + B)(x), A(x) + B(x), rtol=1e-5, atol=1e-6)
    for c in (2, 0.5, np.float64(2.0), np.float32(2.0), jnp.array(2.0)):
        assert type(c * A) is type(A)
        np.testing.assert_allclose((c * A)(x), float(c) * A(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_a_function_of_a_fourier_operator_is_the_function_of_its_matrix(n):
    with double_precision():
        L = sx.Fourier(even(n).astype(float))
        x = jnp.asarray(RNG.normal(size=(n, n)))
        matrix = jax.jit(jax.jacobian(lambda x: L(x.reshape(n, n)).ravel()))(x.ravel())
        expected = scipy.linalg.expm(np.asarray(matrix)) @ np.asarray(x).ravel()
        applied = jax.jit(lambda x: L.function(jnp.exp, x).ravel())(x)
        np.testing.assert_allclose(applied, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "axes", "along"),
    [
        ((7,), None, (0,)),
        ((4, 6), None, (0, 1)),
        ((4, 3, 6), None, (0, 1, 2)),
        ((2, 6), (1,), (1,)),
        ((6, 4, 2), (0, 1), (0, 1)),
    ],
    ids=["1-D", "rectangle", "3-D", "channels first", "channels last"],
)
def test_a_fourier_operator_has_any_number_of_axes_and_channels(shape, axes, along):
    # -|k|² is the Laplacian of each channel, in its own number of axes.
    with double_precision():
        waves = np.meshgrid(*[np.rint(np.fft.fftfreq(shape[a], 1 / shape[a])) for a in along], indexing="ij")
        squares = sum(k**2 for k in waves)
        half = np.take(squares, np.arange(shape[along[-1]] // 2 + 1), axis=-1)
        others = [axis for axis in range(len(shape)) if axis not in along]
        rates = np.broadcast_to(np.expand_dims(half, others), sx.Fourier.like(jnp.zeros(shape), axes).rates.shape)
        L = sx.Fourier(-jnp.asarray(rates), axes)
        x = RNG.normal(size=shape)
        spectrum = np.fft.fftn(x, axes=along)
        expected = np.fft.ifftn(-np.expand_dims(squares, others) * spectrum, axes=along).real
        np.testing.assert_allclose(L(jnp.asarray(x)), expected, atol=1e-10)


def test_a_basis_keeps_squares():
    x = jnp.asarray(RNG.normal(size=(64,)), jnp.float32)
    spectrum = np.fft.fft(np.asarray(x), norm="ortho")
    np.testing.assert_allclose(sx.Fourier.like(x).to_basis(x), spectrum[:33], atol=1e-5)


def test_rates_may_be_one_number_whole_numbers_or_numpys():
    np.testing.assert_array_equal(sx.Diagonal(-2.0)(X), -2 * X)
    assert sx.Diagonal(np.array([1, 2, 3])).rates.dtype == jnp.float32
    assert jax.vmap(lambda rate: sx.Diagonal(rate)(X))(jnp.ones(5)).shape == (5, 3)


@pytest.mark.parametrize(("make", "shape"), [(sx.Diagonal, (2,)), (sx.Fourier, (2, 2))])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_states_keep_their_precision_whatever_that_of_the_rates(make, shape, dtype):
    with double_precision():
        for rates in (jnp.float32, jnp.float64):
            assert make(jnp.ones(shape, rates))(jnp.ones(shape, dtype)).dtype == dtype


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        (lambda: sx.Fourier(jnp.ones((2, 2))) + sx.Diagonal(jnp.ones(2)), TypeError, "one basis; got Fourier and Diag"),
        (
            lambda: sx.Fourier(jnp.ones((4, 3))) + sx.Fourier(jnp.ones((8, 5))),
            ValueError,
            r"act on one state; got rates \(4, 3\) and \(8, 5\)",
        ),
        (
            lambda: sx.Fourier(jnp.ones(3)) + sx.Fourier(jnp.ones((4, 3))),
            ValueError,
            r"act on one state; got rates \(3,\) and \(4, 3\)",
        ),
        (lambda: sx.Diagonal(jnp.ones(2)) + 1.0, TypeError, "one basis; got Diagonal and float"),
        (
            lambda: sx.Fourier(jnp.ones((4, 4)))(jnp.ones((4, 4))),
            ValueError,
            r"\(4, 3\), and .* \(4, 4\).*rates\[:, : m",
        ),
        (
            lambda: sx.Fourier(jnp.ones((4, 3)))(jnp.ones((8, 8))),
            ValueError,
            r"shape \(8, 8\), .*\(8, 5\).*: batch with",
        ),
        (lambda: sx.Fourier(jnp.ones((4, 3)))(jnp.ones((2, 4, 4))), ValueError, r"shape \(2, 4, 4\).*: batch with"),
        (lambda: sx.Fourier(jnp.ones((4, 3)), axes=(2,)), ValueError, r"\(4, 3\) have no axes \(2,\)"),
        (
            lambda: sx.Fourier(jnp.ones((3, 3)), axes=(0,)) + sx.Fourier(jnp.ones((3, 3)), axes=(1,)),
            TypeError,
            r"along the axes \(0,\) and \(1,\)",
        ),
        (lambda: sx.Diagonal(jnp.array([1j])), TypeError, "real rates; got complex64"),
    ],
)
def test_what_does_not_fit_is_an_error(do, error, message):
    with pytest.raises(error, match=message):
        do()
