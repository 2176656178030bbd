"""The contract of `solve` and `simulate`: shapes, keys, args, and every JAX transformation."""

import functools
import warnings

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import double_precision

KEY = jax.random.key(0)
TS = jnp.linspace(0.0, 1.0, 6)
P = sx.Drift(lambda t, x, args: -x + 0.1 * t)
g = sx.Diffusion(0.3)
s = sx.Score(lambda t, x, args: -x, g)


# Shapes and saving


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_the_times_are_a_new_second_axis(shape):
    assert sx.solve(P, jnp.ones(shape), TS).shape == (3, 6, *shape[1:])


def test_the_first_state_is_the_start():
    x0 = jnp.arange(3.0)
    np.testing.assert_array_equal(sx.solve(-P + 2 * s + g, x0, TS[::-1], key=KEY)[:, 0], x0)


def test_trees_keep_their_structure():
    P = sx.Drift(lambda t, x, args: {"u": -x["u"], "v": (x["v"][0] * 0,)})
    x = sx.solve(P, {"u": jnp.ones((3, 2)), "v": (jnp.ones(3),)}, TS)
    assert jax.tree.map(jnp.shape, x) == {"u": (3, 6, 2), "v": ((3, 6),)}


def test_saveat_t1_gives_the_end_alone():
    x0 = jnp.arange(3.0)
    end = sx.solve(P, x0, TS, saveat=dfx.SaveAt(t1=True))
    np.testing.assert_array_equal(end, sx.solve(P, x0, TS)[:, -1:])


def test_saveat_steps_gives_every_nth_step():
    x0 = jnp.arange(3.0)
    every = sx.solve(P, x0, TS, saveat=dfx.SaveAt(t0=True, steps=5))
    np.testing.assert_allclose(every[:, :2], sx.solve(P, x0, TS)[:, jnp.array([0, 5])], rtol=1e-6)


def test_functions_of_the_state_are_saved_with_the_physical_time():
    saveat = dfx.SaveAt(t0=True, steps=True, fn=lambda t, x, args: t + 0 * x)
    saved = sx.solve(-P, jnp.zeros(2), TS[::-1], saveat=saveat)
    np.testing.assert_allclose(saved[0], TS[::-1], atol=1e-6)


def test_adaptive_steps_save_at_the_given_times():
    controller = dfx.PIDController(rtol=1e-6, atol=1e-6)
    x = sx.solve(sx.Drift(lambda t, x, args: -x), jnp.ones(2), TS, solver=dfx.Tsit5(), stepsize_controller=controller)
    np.testing.assert_allclose(x[0], jnp.exp(-TS), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_dtype_is_the_states(dtype):
    with double_precision():
        x0 = jnp.ones(3, dtype)
        P = sx.Drift(lambda t, x, args: -x)
        assert sx.solve(P, x0, np.linspace(0, 1, 3)).dtype == dtype


@pytest.mark.parametrize(
    "ts",
    [[0.0, 0.5, 1.0], (0, 1, 2), np.linspace(0, 1, 3), jnp.linspace(0.0, 1.0, 3)],
    ids=["list", "ints", "numpy", "jax"],
)
def test_times_come_in_any_sequence(ts):
    assert sx.solve(P, jnp.ones(2), ts).shape == (2, 3)


def test_one_sample_in_a_batch_is_itself_alone():
    x0 = jnp.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(sx.solve(P, x0, TS)[1], sx.solve(P, x0[1:2], TS)[0], rtol=1e-6)


def test_args_reach_every_callable_untouched():
    args = {"rate": jnp.array(2.0), "name": "decay"}

    def f(t, x, args):
        assert args["name"] == "decay"
        return -args["rate"] * x

    s = sx.Score(lambda t, x, args: f(t, x, args), g)
    got = sx.solve(-sx.Drift(f) + s, jnp.ones(1), [1.0, 0.9], args=args, solver=dfx.Euler())
    np.testing.assert_allclose(got[0, 1], 1 + 0.1 * 2 - 0.1 * 0.5 * 0.09 * 2, rtol=1e-5)


# Keys


def test_the_same_key_gives_the_same_bits():
    x0 = jnp.ones(5)
    a, b = (sx.solve(P + g, x0, TS, key=jax.random.key(7)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_another_key_gives_other_noise():
    x0 = jnp.ones(5)
    a, b = (sx.solve(P + g, x0, TS, key=jax.random.key(i)) for i in range(2))
    assert (a[:, 1:] != b[:, 1:]).all()


def test_samples_steps_and_components_have_noise_of_their_own():
    x = sx.solve(sx.Drift(lambda t, x, args: 0 * x) + g, jnp.zeros((400, 2)), jnp.linspace(0.0, 1.0, 21), key=KEY)
    noise = jnp.diff(x, axis=1).reshape(400, -1) / (0.3 * 0.05**0.5)
    covariance = np.cov(noise.T)
    np.testing.assert_allclose(covariance, np.eye(40), atol=5 * (2 / 400) ** 0.5)
    assert np.linalg.norm(covariance - np.eye(40)) / 40 < 0.1


# JAX's transformations


def test_under_jit_it_is_the_same():
    x0 = jnp.arange(3.0)
    jitted = jax.jit(lambda x0, ts, key: sx.solve(-P + 2 * s + g, x0, ts, key=key))(x0, TS[::-1], KEY)
    np.testing.assert_allclose(jitted, sx.solve(-P + 2 * s + g, x0, TS[::-1], key=KEY), rtol=1e-6)


def test_vmap_over_keys_is_one_solve_for_each():
    x0, keys = jnp.ones(2), jax.random.split(KEY, 3)
    many = jax.vmap(lambda key: sx.solve(P + g, x0, TS, key=key))(keys)
    for key, one in zip(keys, many, strict=True):
        np.testing.assert_allclose(one, sx.solve(P + g, x0, TS, key=key), rtol=1e-6)


def test_pmap_over_keys_works():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        many = jax.pmap(lambda key: sx.solve(P + g, jnp.ones(2), TS, key=key))(jax.random.split(KEY, 1))
    np.testing.assert_allclose(many[0], sx.solve(P + g, jnp.ones(2), TS, key=jax.random.split(KEY, 1)[0]), rtol=1e-6)


def test_an_equation_with_traced_parts_solves_under_jit():
    @eqx.filter_jit
    def end(equation):
        return sx.solve(equation, jnp.ones(2), TS[::-1])[:, -1]

    np.testing.assert_allclose(end(-P + jnp.asarray(2.0) * s), end(-P + 2 * s), rtol=1e-6)


@pytest.mark.parametrize("noisy", [False, True], ids=["ODE", "SDE"])
def test_gradients_are_those_of_finite_differences(noisy):
    """In the coefficient, a parameter of the score, the noise and the start."""
    ts = np.linspace(1, 0, 6)

    def loss(p):
        g = sx.Diffusion(0.3 + 0.1 * p[2])
        s = sx.Score(lambda t, x, args: -p[1] * jnp.tanh(x) * (1 + t), g)
        P = sx.Drift(lambda t, x, args: -x)
        equation = -P + (2 + p[0]) * s + g if noisy else -P + (2 + p[0]) * s
        x = sx.solve(equation, jnp.array([0.4, -1.0]) + p[3], ts, key=KEY if noisy else None, solver=dfx.Heun())
        return jnp.sum(x**2)

    with double_precision():
        p, h = jnp.array([0.1, 1.0, 0.2, 0.3]), 1e-5
        value = jax.jit(loss)
        differences = jnp.stack([(value(p + h * d) - value(p - h * d)) / (2 * h) for d in jnp.eye(4)])
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(p), differences, rtol=1e-6, atol=1e-9)


def test_gradients_pass_through_adaptive_noise():
    def end(a):
        P = sx.Drift(lambda t, x, args: -a * x)
        controller = dfx.PIDController(rtol=1e-2, atol=1e-2)
        return sx.solve(P + g, jnp.ones(2), [0.0, 0.5], key=KEY, solver=dfx.Heun(), stepsize_controller=controller)[
            :, -1
        ].sum()

    # d/da of e^(-at) x0, and what the noise adds to it.
    assert float(jax.jit(jax.grad(end))(1.0)) == pytest.approx(-2 * 0.5 * np.exp(-0.5), abs=0.3)


def test_the_adjoint_is_the_users():
    def end(adjoint, x):
        return sx.solve(P, x[None], TS, adjoint=adjoint, saveat=dfx.SaveAt(t1=True))[0, 0]

    backward = functools.partial(end, dfx.RecursiveCheckpointAdjoint())
    forward = functools.partial(end, dfx.ForwardMode())
    expected = jax.jit(jax.grad(backward))(0.5)
    np.testing.assert_allclose(expected, (1 - 0.2 + 0.2**2 / 2) ** 5, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(forward))(0.5), expected, rtol=1e-5)


def marched_and_looped(saveat, transformed):
    """What a function of a solve gives by the march, and by diffrax's own loop."""

    def total(x, adjoint):
        saved = sx.solve(P + g, x, TS, key=KEY, adjoint=adjoint, saveat=saveat)
        return sum(jnp.sum(jnp.where(jnp.isfinite(leaf), leaf, 0) ** 3) for leaf in jax.tree.leaves(saved)), saved

    run = jax.jit(transformed(total), static_argnums=1)
    return [run(jnp.array([0.5, -1.0]), adjoint) for adjoint in (None, dfx.RecursiveCheckpointAdjoint())]


TWO_WAYS = dfx.SaveAt(subs=[dfx.SubSaveAt(steps=True, fn=lambda t, y, args: y**2), dfx.SubSaveAt(t1=True)])


@pytest.mark.parametrize(
    "saveat",
    [None, dfx.SaveAt(t1=True), dfx.SaveAt(t0=True, t1=True), dfx.SaveAt(steps=2, t1=True), TWO_WAYS],
    ids=["every step", "the end", "both ends", "every other step", "two ways"],
)
def test_the_march_is_diffraxs_loop(saveat):
    saved, expected = marched_and_looped(saveat, lambda total: total)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), saved, expected)


@pytest.mark.parametrize("saveat", [dfx.SaveAt(t1=True), TWO_WAYS], ids=["the end", "two ways"])
def test_its_gradient_is_that_of_diffraxs_loop(saveat):
    slope, expected = marched_and_looped(saveat, lambda total: jax.grad(lambda x, adjoint: total(x, adjoint)[0]))
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


# simulate


def test_simulate_without_noise_is_heuns_loop():
    x, expected = jnp.array([0.3, -1.0]), []
    for t, dt in zip(TS, [*jnp.diff(TS), 0.0], strict=True):
        expected.append(x)
        k = -x + 0.1 * t
        x = x + dt / 2 * (k - (x + dt * k) + 0.1 * (t + dt))
    np.testing.assert_allclose(sx.simulate(P, expected[0], TS).x, jnp.stack(expected, 1), rtol=1e-5)


def test_the_increments_of_simulate_are_drift_plus_noise():
    x = sx.simulate(P + g, jnp.ones(4000), TS, key=KEY, solver=dfx.Euler()).x
    noise = jnp.diff(x, axis=1) - 0.2 * (-x[:, :-1] + 0.1 * TS[None, :-1])
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=4 * 0.3 * (0.2 / 4000) ** 0.5)
    np.testing.assert_allclose(noise.std(axis=0), 0.3 * 0.2**0.5, rtol=0.05)


def test_simulate_takes_its_noise_by_components_and_in_time():
    still = sx.Drift(lambda t, x, args: 0 * x)
    noise, x0 = sx.Diffusion(lambda t: jnp.array([t, 1.0])), jnp.zeros((4000, 2))
    x = sx.simulate(still + noise, x0, TS, key=KEY, solver=dfx.Euler()).x
    np.testing.assert_allclose(jnp.diff(x, axis=1)[..., 0].std(axis=0), TS[:-1] * 0.2**0.5, rtol=0.05, atol=1e-6)
    np.testing.assert_allclose(jnp.diff(x, axis=1)[..., 1].std(axis=0), 0.2**0.5, rtol=0.05)
