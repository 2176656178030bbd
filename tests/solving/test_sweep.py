"""A sweep is a Python loop over every combination, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

TS = np.linspace(0, 1, 6)
RATES, NOISES = [0.5, 1.0, 2.0], jnp.array([0.0, 0.3])


def end(rate, noise):
    """The ends of five noisy decays: a solve of an equation whose numbers are swept."""
    equation = sx.Drift(lambda t, x, args: -rate * x) + sx.Diffusion(noise)
    return sx.solve(equation, jnp.ones(5), TS, key=jax.random.key(0))[:, -1]


def test_it_is_the_loop_with_an_axis_for_each_parameter_in_their_order():
    swept = sx.sweep(end, rate=RATES, noise=NOISES)
    assert swept.shape == (3, 2, 5)
    one = jax.jit(end)
    loop = [[one(rate, noise) for noise in NOISES] for rate in RATES]
    np.testing.assert_allclose(swept, loop, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_arguments_is_that_of_the_axes():
    swept = sx.sweep(lambda a, b: 10 * a + b, b=[1.0, 2.0, 3.0], a=[4, 5])
    np.testing.assert_array_equal(swept, [[41, 51], [42, 52], [43, 53]])


def test_one_parameter_has_one_axis():
    np.testing.assert_array_equal(sx.sweep(lambda a: a**2, a=np.arange(4)), [0, 1, 4, 9])


def test_results_may_be_trees():
    out = sx.sweep(lambda a, b: {"sum": a + b, "pair": (jnp.full(2, a), jnp.int32(7))}, a=[1.0, 2.0], b=[0.5])
    assert out["sum"].shape == (2, 1)
    assert out["pair"][0].shape == (2, 1, 2)
    assert out["pair"][1].dtype == jnp.int32


def test_parameters_reach_the_function_as_scalars_and_a_parameter_may_be_called_f():
    def shapes(f):
        assert f.shape == ()
        assert f.dtype == jnp.float32
        return f

    np.testing.assert_array_equal(sx.sweep(shapes, f=[1, 2]), [1, 2])


def test_the_function_is_traced_once_and_runs_in_turn():
    traced, ran = [], []

    def watched(a):
        traced.append(a)
        jax.debug.callback(lambda a: ran.append(float(a)), a, ordered=True)
        return a

    sx.sweep(watched, a=[3.0, 1.0, 2.0])
    jax.effects_barrier()
    assert len(traced) == 1
    assert ran == [3.0, 1.0, 2.0]


def test_a_training_can_be_swept():
    g, x0 = sx.Diffusion(0.5), jnp.linspace(-1, 1, 8)
    net = sx.nn.MLP(widths=(4,), key=jax.random.key(1))

    def weights(rate):
        P = sx.Drift(lambda t, x, args: -rate * x)
        paths = sx.simulate(P + g, x0, TS, key=jax.random.key(0))
        stages = [sx.Stage(updates=3, batch=4)]
        s = sx.fit(-P + 2 * sx.Score(net, g), paths, key=jax.random.key(2), curriculum=stages)
        return s.net.weights[0]

    swept = sx.sweep(weights, rate=[0.1, 0.9, 0.1])
    assert jnp.isfinite(swept).all()
    assert (swept[0] != swept[1]).any()
    np.testing.assert_array_equal(swept[0], swept[2])


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({}, TypeError, "at least one parameter.*alpha="),
        ({"a": 1.0}, ValueError, r"`a` must be one-dimensional with at least one value; got \(\)"),
        ({"a": []}, ValueError, r"`a` must be .* at least one value; got \(0,\)"),
        ({"a": [1.0], "b": np.ones((2, 2))}, ValueError, r"`b` must be one-dimensional.*got \(2, 2\)"),
        ({"a": ["fast"]}, TypeError, "`a` must be real numbers; got dtype <U4"),
        ({"a": [1j]}, TypeError, "`a` must be real numbers; got dtype complex128"),
    ],
)
def test_values_are_lists_of_real_numbers(values, error, message):
    with pytest.raises(error, match=message):
        sx.sweep(lambda **values: 0.0, **values)


def test_a_function_that_looks_at_a_value_in_python_is_jaxs_error():
    with pytest.raises(jax.errors.TracerBoolConversionError):
        sx.sweep(lambda a: 1.0 if a > 1 else 2.0, a=[0.0, 2.0])
