"""Numbers at the door: what is converted is said, what is kept is kept, and no value of theirs compiles anew."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 11)
P = sx.Drift(lambda t, x, args: -x)
g = sx.Diffusion(0.3)
g_of_time = sx.Diffusion(lambda t: 1 + t)
s = sx.Score(lambda t, x, args: -x, g)


# Double precision where JAX computes in single


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x0", lambda x: sx.solve(P, x, TS)),
        ("x0", lambda x: sx.simulate(P + g, x, TS, key=KEY).x),
        ("xT", lambda x: sx.posterior(-P + 2 * s + g, x, TS[::-1], 4, key=KEY, chunk=3)),
        ("x", lambda x: sx.langevin(s, x, 0.5, step=0.01, steps=2, key=KEY)),
    ],
    ids=["solve", "simulate", "posterior", "langevin"],
)
def test_double_precision_is_narrowed_once_and_said(name, call):
    x = np.linspace(0.1, 1, 3)
    with pytest.warns(UserWarning, match=rf"`{name}` is float64.*astype\(np.float32\).*jax_enable_x64") as said:
        narrowed = call(x)
    assert len(said) == 1
    np.testing.assert_array_equal(narrowed, call(x.astype(np.float32)))


def test_check_measures_narrowed_states():
    with pytest.warns(UserWarning, match="`x` is float64"):
        assert sx.check(P, np.linspace(0.1, 1, 3), dt=0.1).batch_error < 1e-6


def test_double_precision_that_is_switched_on_is_kept():
    with double_precision():
        assert sx.solve(P, np.ones(3), TS).dtype == jnp.float64


# Several precisions in one state


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"solver": dfx.Heun()},
        {"solver": dfx.Heun(), "adjoint": dfx.DirectAdjoint()},
        {"solver": dfx.Tsit5(), "stepsize_controller": dfx.PIDController(rtol=1e-6, atol=1e-6)},
        {"solver": dfx.Heun(), "saveat": dfx.SaveAt(steps=2)},
        {"solver": sx.SplitEuler()},
    ],
    ids=["Euler", "Heun", "adjoint", "adaptive", "saveat", "split"],
)
def test_each_array_keeps_its_precision_and_callables_see_it(how):
    seen = set()

    def f(t, x, args):
        seen.add((x["u"].dtype.name, x["v"].dtype.name))
        return {"u": -x["u"], "v": -x["v"]}

    with double_precision():
        x0 = {"u": jnp.ones((3, 2), jnp.float32), "v": jnp.ones(3, jnp.float64)}
        x = sx.solve(sx.Drift(f), x0, TS, **how)
        alone = sx.solve(P, x0["v"], TS, **how)
    assert (x["u"].dtype, x["v"].dtype) == (jnp.float32, jnp.float64)
    assert seen == {("float32", "float64")}
    np.testing.assert_allclose(x["v"], alone, rtol=1e-5 if "stepsize_controller" in how else 1e-15)
    np.testing.assert_allclose(x["u"][..., 0], alone, rtol=1e-5)


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.ShARK()], ids=["Euler", "ShARK"])
def test_noise_has_the_precision_of_its_array(solver):
    P = sx.Drift(lambda t, x, args: jax.tree.map(jnp.negative, x))
    with double_precision():
        x0 = (jnp.ones(4000, jnp.float32), jnp.ones(4000, jnp.float64))
        x = sx.simulate(P + sx.Diffusion((0.0, 1.0)), x0, TS, key=KEY, solver=solver).x
    still, noisy = map(np.asarray, x)
    assert (still.dtype, noisy.dtype) == (np.float32, np.float64)
    assert still[:, -1].std() < 1e-6
    assert noisy[:, -1].var() == pytest.approx((1 - np.exp(-2)) / 2, rel=0.1)


def test_windows_of_several_precisions_unroll():
    with double_precision():
        x = {"u": jnp.ones((2, 3), jnp.float32), "v": jnp.ones((2, 3), jnp.float64)}
        windows = sx.Windows(x, jnp.tile(jnp.linspace(0, 0.2, 3), (2, 1)), 0.1)
        P = sx.Drift(lambda t, x, args: jax.tree.map(jnp.zeros_like, x))
        s = sx.Score(lambda t, x, args: jax.tree.map(jnp.ones_like, x), sx.Diffusion(1.0))
        # Steps of ½g²Δt = .05 and twice it, of two components, in units of 2g²Δt = .2.
        expected = 2 * (0.05**2 + 0.1**2) / 2 / 0.2
        value = sx.WindowLoss(solver=dfx.Heun())(-P + s, windows, KEY, None)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


# Numbers that cannot be states


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("equation", [P, P + g], ids=["ODE", "SDE"])
def test_half_precision_is_refused_by_name(equation, dtype):
    with pytest.raises(TypeError, match=rf"`x0` is {jnp.dtype(dtype)}.*32 bits at least.*astype\(jnp.float32\)"):
        sx.solve(equation, jnp.ones(3, dtype), TS, key=KEY if equation is not P else None)


@pytest.mark.usefixtures("as_users_run")
def test_complex_states_are_told_to_keep_both_parts():
    with pytest.raises(TypeError, match=r"must be real, got dtype complex64.*jnp.stack\(\[x0.real, x0.imag\].*irfft"):
        sx.solve(P, jnp.ones((3, 4), complex), TS)


def test_real_and_imaginary_parts_solve_the_complex_equation():
    rate, z0 = -0.3 + 2j, jnp.array([1 + 1j, 0.5j])

    def split(t, x, args):
        dz = jnp.complex64(rate) * jax.lax.complex(x[0], x[1])
        return jnp.stack([dz.real, dz.imag])

    x = np.asarray(sx.solve(sx.Drift(split), jnp.stack([z0.real, z0.imag], axis=1), TS, solver=dfx.Euler()))
    np.testing.assert_allclose(x[:, -1, 0] + 1j * x[:, -1, 1], np.asarray(z0) * (1 + 0.1 * rate) ** 10, rtol=1e-5)


# Python's numbers


@pytest.mark.parametrize(
    ("noise", "args"),
    [
        (lambda value: sx.Diffusion(0.1), lambda value: value),
        (lambda value: sx.Diffusion(0.1), lambda value: {"rate": [value], "name": "run 7", "steps": 3}),
        (lambda value: sx.Diffusion(value), lambda value: 0.5),
        (lambda value: sx.Diffusion({"x": value}), lambda value: 0.5),
        (lambda value: value * g, lambda value: 0.5),
        (lambda value: (value - 0.1) ** 0.5 * g_of_time, lambda value: 0.5),
    ],
    ids=["args", "args in a tree", "noise", "a tree of noise", "scaled noise", "scaled noise of time"],
)
@pytest.mark.parametrize("how", [{}, {"adjoint": dfx.DirectAdjoint()}], ids=["march", "diffeqsolve"])
def test_a_python_float_compiles_nothing_anew(noise, args, how):
    traces = []

    def f(t, x, args):
        traces.append(0)
        rate = args["rate"][0] if isinstance(args, dict) else args
        return {"x": -rate * x["x"]}

    P, x0 = sx.Drift(f), {"x": jnp.ones(3)}
    sx.solve(P + noise(0.2), x0, TS, key=KEY, args=args(0.2), **how)
    first = len(traces)
    sx.solve(P + noise(0.3), x0, TS, key=KEY, args=args(0.3), **how)
    assert len(traces) == first


def test_the_noise_of_a_score_compiles_nothing_anew():
    traces = []

    def f(t, x, args):
        traces.append(0)
        return -x

    def run(value):
        noise = sx.Diffusion(value)
        sx.posterior(-P + 2 * sx.Score(f, noise) + noise, jnp.ones(2), TS[::-1], 3, key=KEY)
        return len(traces)

    assert run(0.2) == run(0.3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_python_float_takes_the_precision_of_what_it_meets(dtype):
    P = sx.Drift(lambda t, x, args: -args * x)
    with double_precision():
        x0 = jnp.linspace(0.1, 1, 3).astype(dtype)
        x = sx.solve(P + g, x0, TS, key=KEY, args=0.3)
        y = sx.solve(sx.Drift(lambda t, x, args: -0.3 * x) + g, x0, TS, key=KEY)
    assert x.dtype == dtype
    np.testing.assert_allclose(x, y, atol=4 * float(jnp.finfo(dtype).eps))


def test_integers_and_flags_in_args_stay_pythons():
    def f(t, x, args):
        return -(x ** args["power"]) if args["damped"] else x

    args = {"power": 2, "damped": True}
    x = sx.solve(sx.Drift(f), jnp.ones(2), [0.0, 0.5], args=args, solver=dfx.Euler())
    np.testing.assert_allclose(x[:, 1], 0.5)
