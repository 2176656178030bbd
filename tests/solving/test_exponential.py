"""The exponential solver: exact where an equation is linear, of its orders elsewhere, stable where Euler is not."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.exact import LinearGaussianField, power_law_field
from tests._problems import as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
EXP, HEUN = sx.ExponentialEuler(), sx.ExponentialHeun()
BOTH = pytest.mark.parametrize("solver", [EXP, HEUN], ids=["Euler", "Heun"])
PIECE = 8


class Linear(eqx.Module):
    """rates(t)·x + rest(t, x), by components: only the first summand is stated."""

    rates: Any
    rest: Any = None

    def __call__(self, t, x, args):
        rate = self.linear(t)(x)
        return rate if self.rest is None else rate + self.rest(t, x)

    def linear(self, t):
        return sx.Diagonal(self.rates(t) if callable(self.rates) else self.rates)


def last(equation, x0, ts, **how):
    how = {"solver": EXP, **how}
    return sx.solve(equation, x0, ts, saveat=dfx.SaveAt(t1=True), **how)[:, 0]


def power(x, mean):
    """Each Fourier mode's mean square distance from a field, over the samples."""
    return np.mean(np.abs(np.fft.fft2(np.asarray(x) - np.asarray(mean), norm="ortho")) ** 2, axis=0)


# One step is exact where the drift is linear and constant, however long and stiff


@BOTH
def test_a_linear_ode_takes_one_step(solver):
    rates = np.array([0.7, 0.0, -1e-6, -1.0, -30.0, -1e6])
    with double_precision():
        x = last(sx.Drift(Linear(rates)), jnp.ones((1, 6)), [0.0, 2.0], solver=solver)
    # To the rounding of x: a step is a change, so what it leaves of a strong decay is no more exact than that.
    np.testing.assert_allclose(x[0], np.exp(2 * rates), rtol=1e-15, atol=1e-15)


@BOTH
def test_the_noise_of_one_step_has_the_laws_variance_in_each_component(solver):
    rates, g, h, samples = np.array([-40.0, -1.0, 0.0, 0.8]), np.array([0.6, 0.1, 2.0, 0.6]), 0.5, 20000
    equation = sx.Drift(Linear(rates)) + sx.Diffusion(g)
    x = np.asarray(last(equation, jnp.ones((samples, 4)), [0.0, h], key=KEY, solver=solver))
    var = g**2 * np.where(rates == 0, h, np.expm1(2 * h * rates) / np.where(rates == 0, 1, 2 * rates))
    assert (abs(x.mean(0) - np.exp(h * rates)) < 3 * np.sqrt(var / samples)).all()
    np.testing.assert_allclose(x.var(0), var, rtol=3 * (2 / samples) ** 0.5)


def test_of_the_heat_equation_with_noise_in_every_mode():
    field, T, samples = LinearGaussianField(power_law_field(8), g=0.3), 0.2, 4000
    x0 = field.sample_prior(key=KEY)
    x = last(sx.Drift(field.drift) + sx.Diffusion(0.3), jnp.tile(x0, (samples, 1, 1)), [0.0, T], key=KEY)
    rates = np.asarray(field.rates)
    var = 0.3**2 * np.where(rates == 0, T, -np.expm1(-2 * T * rates) / np.where(rates == 0, 1, 2 * rates))
    np.testing.assert_allclose(power(x, field.decay(T, x0)), var, rtol=0.1)
    assert (power(x.mean(0)[None], field.decay(T, x0)) < 12 * var / samples).all()


def stationary():
    """A field whose law does not change, so that its reverse equations are linear with constant rates."""
    k = np.fft.fftfreq(8, 1 / 8)
    rates = k[:, None] ** 2 + k[None] ** 2 + 1
    field, g = LinearGaussianField(0.5**2 / (2 * rates), rates, g=0.5), sx.Diffusion(0.5)
    return field, sx.Drift(field.drift), sx.Score(field.score, g), g


@BOTH
@pytest.mark.parametrize(("c", "answer"), [(2, "posterior_mean"), (1, "probability_flow")])
def test_backwards_with_the_exact_score_one_step_gives_mean_and_flow(c, answer, solver):
    field, P, s, _ = stationary()
    xT = field.sample_prior(key=KEY)
    x0 = last(-P + c * s, xT[None], [0.7, 0.0], solver=solver)
    np.testing.assert_allclose(x0[0], getattr(field, answer)(0.7, xT), atol=1e-6)


def test_backwards_with_the_exact_score_one_step_samples_the_posterior():
    (field, P, s, g), T, samples = stationary(), 0.1, 4000
    xT = field.sample_prior(key=KEY)
    x = last(-P + 2 * s + g, jnp.tile(xT, (samples, 1, 1)), [T, 0.0], key=KEY)
    spread = field.variances * -jnp.expm1(-2 * T * field.rates)
    np.testing.assert_allclose(power(x, field.posterior_mean(T, xT)), spread, rtol=0.1)


class Walk(dfx.AbstractBrownianPath):
    """A Brownian path on a fine grid of [0, 1], seen from `start` on: the noise that several solves share."""

    w: jax.Array
    start: jax.Array
    t0: Any = 0.0
    t1: Any = 1.0
    levy_area: Any = eqx.field(static=True, default=dfx.BrownianIncrement)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        assert t1 is not None
        a, b = (jnp.round((self.start + t) * (len(self.w) - 1)).astype(int) for t in (t0, t1))
        return self.w[b] - self.w[a]


def end(equation, x, ts, solver: dfx.AbstractSolver = EXP, w=None):
    """The last state, solved in pieces of eight steps: one compilation whatever the number of steps."""
    for m in range(0, len(ts) - 1, PIECE):
        path = None if w is None else Walk(w=w, start=jnp.asarray(ts[m]))
        part = ts[m : m + PIECE + 1]
        x = sx.solve(equation, x, part, solver=solver, saveat=dfx.SaveAt(t1=True), brownian_path=path)[:, 0]
    return x


def order(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


# Orders of convergence, in double precision


def changing(t):
    return -3 * (1 + jnp.sin(4 * t)) * jnp.array([1.0, 2.0])


def rest(t, x):
    return jnp.sin(3 * x[::-1]) + t


@pytest.mark.parametrize(
    ("solver", "f", "expected"),
    [
        (EXP, Linear(np.array([-1.0, -6.0]), rest), 1),
        (EXP, Linear(changing), 2),
        (HEUN, Linear(np.array([-1.0, -6.0]), rest), 2),
        (HEUN, Linear(changing, rest), 2),
    ],
    ids=[
        "Euler's first in what is not linear",
        "and second in how the linear part changes",
        "Heun's second",
        "in both",
    ],
)
def test_order_in_the_step(solver, f, expected):
    x, steps = np.array([[0.5, -0.2], [1.4, 2.0]]), [32, 64, 128]
    with double_precision():
        exact = end(sx.Drift(f), x, np.linspace(0, 1, 129), dfx.Dopri8())
        ends = [end(sx.Drift(f), x, np.linspace(0, 1, n + 1), solver) for n in steps]
        errors = [float(jnp.abs(x - exact).max()) for x in ends]
    assert order(steps, errors) == pytest.approx(expected, abs=0.15)


def test_what_a_stiff_part_follows_is_followed_to_second_order():
    # dx = -1000 (x - cos t): at steps of 60 / rate Euler's is late by about a step, Heun's by its square.
    f, ts = Linear(-1000.0, lambda t, x: 1000 * jnp.cos(t)), np.linspace(0, 1, 17)
    with double_precision():
        late = [abs(float(end(sx.Drift(f), np.ones(1), ts, solver)[0]) - np.cos(1)) for solver in (EXP, HEUN)]
    assert 0.02 < late[0] < 1 / 16
    assert late[1] < 1 / 16**2


class Pull(eqx.Module):
    """The score of N(mean, 0.01 + t/4), all of it stated: what is left of it beside its linear part is its offset."""

    mean: float

    def __call__(self, t, x, args):
        return self.linear(t)(x - self.mean)

    def linear(self, t):
        rates = -1 / (0.01 + jnp.asarray(t) / 4) * jnp.ones(3)
        return sx.Diagonal(rates, -self.mean * rates)


@BOTH
def test_where_the_origin_lies_does_not_matter_to_what_is_stated_with_its_offset(solver):
    g, ts = sx.Diffusion(0.5), np.linspace(1.0, 0.0, 11)

    def ends(mean):
        back = sx.ReverseDrift(lambda t, x, args: 0 * x) + 2 * sx.Score(Pull(mean), g) + g
        return last(back, jnp.full((4, 3), mean + 0.3), ts, key=KEY, solver=solver) - mean

    with double_precision():
        np.testing.assert_allclose(ends(100.0), ends(0.0), atol=1e-9)


def test_offsets_are_scaled_and_added_with_their_operators():
    one, two = sx.Fourier(jnp.ones(3), offset=jnp.arange(3.0)), sx.Fourier(jnp.ones(3))
    both: Any = 3 * one + two
    np.testing.assert_array_equal(both.rates, jnp.full(3, 4.0))
    np.testing.assert_array_equal(both.offset, 3 * jnp.arange(3.0))
    assert (two + two).beside is None


@BOTH
def test_strong_order_one_with_noise(solver):
    f = Linear(np.array([-1.0, -6.0]), rest)
    equation, fine, steps = sx.Drift(f) + sx.Diffusion(1.5), 2048, [32, 64, 128]
    with double_precision():
        normals = jax.random.normal(KEY, (fine, 64, 2)) / fine**0.5
        w = jnp.concatenate([jnp.zeros((1, 64, 2)), jnp.cumsum(normals, axis=0)])
        x, path = jnp.full((64, 2), 0.5, float), Walk(w=w, start=jnp.asarray(0.0))
        exact = sx.solve(equation, x, np.linspace(0, 1, fine + 1), brownian_path=path, saveat=dfx.SaveAt(t1=True))[:, 0]
        ends = [end(equation, x, np.linspace(0, 1, n + 1), solver, w) for n in steps]
        errors = [float(jnp.sqrt(jnp.mean((x - exact) ** 2))) for x in ends]
    assert order(steps, errors) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("solver", "plain"), [(EXP, dfx.Euler()), (HEUN, dfx.Heun())], ids=["Euler", "Heun"])
def test_without_stiffness_they_are_eulers_and_heuns_methods(solver, plain):
    f = Linear(np.zeros(2), lambda t, x: jnp.sin(3 * x[::-1]))
    equation, x, ts = sx.Drift(f) + sx.Diffusion(0.3), jnp.array([[0.5, -0.2], [1.4, 2.0]]), [0.0, 0.1, 0.3, 0.4]
    expected = sx.solve(equation, x, ts, solver=plain, key=KEY)
    np.testing.assert_allclose(sx.solve(equation, x, ts, solver=solver, key=KEY), expected, rtol=1e-6)


@pytest.mark.parametrize(("solver", "expected"), [(EXP, 1), (HEUN, 2)], ids=["Euler", "Heun"])
def test_weak_order_in_the_variance_of_what_is_not_stated(solver, expected):
    # dx = -2.5 x dt + (1 + t) dW, of which -4 x is stated. An end is Σ cᵢ ΔWᵢ; sample i has one increment, the i-th.
    equation = sx.Drift(Linear(-4.0, lambda t, x: 1.5 * x)) + sx.Diffusion(lambda t: 1 + t)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    s, fine, steps = (nodes + 1) / 2, 64, [16, 32, 64]
    exact, errors = np.sum(weights / 2 * np.exp(-5 * (1 - s)) * (1 + s) ** 2), []
    with double_precision():
        for n in steps:
            after = (np.arange(fine) + 1) * fine // n
            w = jnp.asarray(np.arange(fine + 1)[:, None] >= after, float)
            c = end(equation, jnp.zeros(fine), np.linspace(0, 1, n + 1), solver, w)
            errors.append(abs(float(jnp.sum(c**2)) / n - exact))
    assert order(steps, errors) == pytest.approx(expected, abs=0.15)


# The reverse heat equation (arXiv:2301.10250, §4.2): rates up to 512, times the step of 32 steps 3.2

T = 0.2
BIG = LinearGaussianField(power_law_field(32), g=0.1)
PHYSICS, g = sx.Drift(BIG.drift), sx.Diffusion(0.1)
s = sx.Score(BIG.score, g)
XT = BIG.simulate(T, BIG.sample_prior(key=KEY), key=jax.random.key(1))


@pytest.mark.parametrize(
    ("c", "answer", "bounds"),
    [(2, "posterior_mean", [1e-3, 1e-4, 3e-5]), (1, "probability_flow", [0.05, 2e-3, 2e-4])],
)
def test_few_steps_give_the_posterior_mean_and_the_probability_flow(c, answer, bounds):
    exact = getattr(BIG, answer)(T, XT)
    for steps, bound in zip([8, 32, 64], bounds, strict=True):
        x0 = end(-PHYSICS + c * s, XT[None], np.linspace(T, 0, steps + 1))[0]
        assert float(jnp.linalg.norm(x0 - exact) / jnp.linalg.norm(exact)) < bound


def test_eulers_method_explodes_at_as_many_steps():
    x0 = sx.solve(-PHYSICS + 2 * s, XT[None], np.linspace(T, 0, 33), solver=dfx.Euler())[0, -1]
    assert not float(jnp.abs(x0).max()) < 1e4


def test_32_steps_sample_the_posterior_at_every_scale():
    samples, ts = 300, np.linspace(T, 0, 33)
    x0 = sx.solve(-PHYSICS + 2 * s + g, jnp.tile(XT, (samples, 1, 1)), ts, solver=EXP, key=KEY)[:, -1]
    rates, prior = np.asarray(BIG.rates, float), np.asarray(BIG.variances, float)
    noise = 0.1**2 * np.where(rates == 0, T, -np.expm1(-2 * T * rates) / np.where(rates == 0, 1, 2 * rates))
    variance = prior * noise / (prior * np.exp(-2 * T * rates) + noise)
    apart = np.asarray(x0) - np.asarray(BIG.posterior_mean(T, XT))
    got = np.mean(np.abs(np.fft.fft2(apart, norm="ortho")) ** 2, axis=0)
    for least, most in [(1, 3), (3, 9), (9, 33), (33, 129), (129, 257), (257, 513)]:
        shell = (least <= rates) & (rates < most)
        assert np.mean(got[shell] / variance[shell]) ** 0.5 == pytest.approx(1, abs=0.06)


# In training


def euler_by_hand(x, h, L):
    return x + jnp.expm1(h * L) / L * (L * x + jnp.sin(x))


def heun_by_hand(x, h, L):
    a = jnp.exp(h * L) * x + jnp.expm1(h * L) / L * jnp.sin(x)
    return a + (jnp.expm1(h * L) - h * L) / (h * L**2) * (jnp.sin(a) - jnp.sin(x))


@pytest.mark.parametrize(("solver", "step"), [(EXP, euler_by_hand), (HEUN, heun_by_hand)], ids=["Euler", "Heun"])
def test_value_and_gradient_of_a_window_loss_are_the_hand_written_loops(solver, step):
    # Windows with times of their own, uneven ones.
    rng, G = np.random.default_rng(0), 0.5
    t = jnp.asarray(rng.uniform(size=(5, 1)) + np.cumsum(rng.uniform(0.05, 0.4, (5, 4)), axis=1), jnp.float32)
    w = sx.Windows(jnp.asarray(rng.normal(size=(5, 4)), jnp.float32), t, None)

    def loss(a):
        physics = sx.ReverseDrift(Linear(lambda t: -20 * (1 + t), lambda t, x: jnp.sin(x)))
        score = sx.Score(Linear(lambda t: -a * (2 + t)), sx.Diffusion(G))
        return sx.WindowLoss(solver=solver)(physics + 2 * score, w, KEY, None)

    def by_hand(a):
        x, total = w.x[:, -1], 0.0
        for m in (2, 1, 0):
            h, middle = t[:, m + 1] - t[:, m], (t[:, m + 1] + t[:, m]) / 2
            L = -20 * (1 + middle) - G**2 * a * (2 + middle)
            x = step(x, h, L)
            total += (x - w.x[:, m]) ** 2
        return jnp.mean(total / 3 / (G**2 * jnp.diff(t, axis=1).mean(axis=1)))

    got, expected = jax.jit(jax.value_and_grad(loss))(0.7), jax.jit(jax.value_and_grad(by_hand))(0.7)
    np.testing.assert_allclose(got, expected, rtol=2e-5)


# Precision

SMALL = sx.Drift(sx.physics.Heat(8))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@BOTH
def test_states_keep_their_precision(dtype, solver):
    with double_precision():
        end = lambda x: last(SMALL + g, x, [0.0, 0.1], key=KEY, solver=solver)  # noqa: E731
        x = jax.eval_shape(end, jax.ShapeDtypeStruct((1, 8, 8), dtype))
    assert x.dtype == dtype


# Errors

STIFF = sx.Drift(Linear(np.array([-1.0, -2.0])))
X = jnp.ones((3, 2))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (sx.Drift(lambda t, x, args: -x), r"stiff linear part, and `P\(x\)` states none.*linear\(t\).*diffrax.Euler"),
        (STIFF + sx.Drift.from_step(lambda x, dt: x), "is a solver's step, which has no rate"),
    ],
    ids=["no linear part", "a step"],
)
@pytest.mark.parametrize("noise", [False, True], ids=["ODE", "SDE"])
def test_it_needs_a_linear_part_and_a_rate(drift, message, noise):
    equation, key = (drift + g, KEY) if noise else (drift, None)
    with pytest.raises(TypeError, match=message):
        last(equation, X, [0.0, 1.0], key=key)


@pytest.mark.usefixtures("as_users_run")
def test_the_linear_parts_of_one_equation_share_a_basis():
    pixels = sx.Drift(Linear(-jnp.ones((8, 8))))
    with pytest.raises(TypeError, match="diagonal in one basis; got Fourier and Diagonal"):
        last(SMALL + pixels, jnp.ones((1, 8, 8)), [0.0, 0.1])


@pytest.mark.usefixtures("as_users_run")
def test_the_linear_part_of_a_score_has_its_noise_by_components_or_is_refused():
    by_components = sx.Diffusion(jnp.array([0.1, 0.2]))
    linear = sx.Score(Linear(np.array([-1.0, -2.0])), by_components).linear(0.0)
    np.testing.assert_allclose(linear.rates, [-0.5 * 0.1**2, -(0.2**2)], rtol=1e-6)
    with pytest.raises(TypeError, match="needs a g that is one number"):
        sx.Score(Waves(), by_components).linear(0.0)


class Waves(eqx.Module):
    """A linear part that mixes the components."""

    def __call__(self, t, x, args):
        return self.linear(t)(x)

    def linear(self, t):
        return sx.Fourier(jnp.array([-1.0, -2.0]))


@pytest.mark.usefixtures("as_users_run")
def test_its_steps_do_not_adapt():
    with pytest.raises(TypeError, match="`ExponentialHeun` has no error estimate"):
        last(STIFF, X, [0.0, 1.0], solver=HEUN, stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-3))
