"""The transition loss: the noise that it finds again, what it is minimised by, and to what order."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import smdpx as sx
from smdpx.learning.losses._transition import KNOWN, Step, noise_of, transition_score
from tests._problems import as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
MATRIX = np.array([[-0.8, 2.0], [-2.0, -0.3]])  # decays and turns
g = sx.Diffusion(lambda t: (1 + t) * jnp.array([0.3, 0.7]))


class Turning(eqx.Module):
    """x ↦ M x, with its decay as the stated linear part."""

    def __call__(self, t, x, args):
        return jnp.asarray(MATRIX) @ x

    def linear(self, t):
        return sx.Diagonal(jnp.diagonal(jnp.asarray(MATRIX)))


P = sx.Drift(Turning())


@pytest.fixture(autouse=True)
def _double():
    with double_precision():
        yield


class Known(dfx.AbstractBrownianPath):
    """A step's Brownian increment, given."""

    w: Any = None
    levy_area: Any = eqx.field(static=True, default=dfx.BrownianIncrement)
    t0: Any = eqx.field(static=True, default=0.0)
    t1: Any = eqx.field(static=True, default=1.0)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        return self.w


def one_step(process, solver, x, t, dt, w):
    """Where diffrax takes x with the Brownian increment w."""
    terms = sx.terms(process, t, Known(w=jnp.asarray(w)))
    state = solver.init(terms, 0.0, dt, x, None)
    return solver.step(terms, 0.0, dt, x, None, state, made_jump=False)[0]


def cubature(mean, cov):
    """Points with equal weights whose mean and covariance are exactly these: means of quadratics are exact."""
    root = np.linalg.cholesky(cov) * len(mean) ** 0.5
    return np.concatenate([mean + root.T, mean - root.T])


def pairs(process, solver, mean, cov, t, dt):
    """Neighbours whose first two moments are exactly the chain's, and the chain's score at the later ones."""
    n = len(mean)
    points = cubature(np.r_[mean, np.zeros(n)], np.block([[cov, np.zeros((n, n))], [np.zeros((n, n)), dt * np.eye(n)]]))
    x0, w = points[:, :n], points[:, n:]
    x1 = np.asarray(jax.jit(jax.vmap(lambda x, w: one_step(process, solver, x, t, dt, w)))(x0, w))
    precision = np.linalg.inv(np.cov(x1.T, bias=True))
    ts = jnp.asarray(np.tile([t, t + dt], (len(x0), 1)))
    return sx.Windows(jnp.asarray(np.stack([x0, x1], 1)), ts, dt), precision, x1.mean(0)


class Affine(eqx.Module):
    """The score K x + b."""

    K: jax.Array
    b: jax.Array

    def __call__(self, t, x, args):
        return self.K.astype(x.dtype) @ x + self.b.astype(x.dtype)


@eqx.filter_jit
def value(loss, equation, windows, args=None):
    return loss(equation, windows, KEY, args)


def beside_the_minimum(loss, P, g, windows, precision, mean):
    """The loss's gradient and curvature at the score of the chain, in the parameters K and b."""
    flat, unravel = ravel_pytree(Affine(-jnp.asarray(precision), jnp.asarray(precision @ mean)))
    f = jax.grad(lambda flat: loss(-P + 2 * sx.Score(unravel(flat), g), windows, KEY, None))

    @jax.jit
    def both(flat):
        gradient, curve = jax.linearize(f, flat)
        return gradient, jax.vmap(curve)(jnp.eye(flat.size))

    gradient, curvature = both(flat)
    return np.asarray(gradient), np.asarray(curvature)


SOLVERS = [dfx.Euler(), sx.ExponentialEuler(), dfx.Heun(), dfx.Midpoint(), dfx.Ralston(), sx.ExponentialHeun()]
solvers = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
MEAN, COV = np.array([0.5, -1.0]), np.array([[0.3, 0.1], [0.1, 0.2]])


# The noise and its score


@solvers
def test_the_noise_is_found_again(solver):
    nonlinear = P + sx.Drift(lambda t, x, args: jnp.sin(3 * x) * (1 + t))
    x0, w, dt = jnp.array([0.4, -0.7]), jnp.array([0.03, -0.07]), 0.002
    x1 = eqx.filter_jit(one_step)(nonlinear + g, solver, x0, 0.3, dt, w)
    step = Step(nonlinear + g, solver, jnp.asarray(0.3), jnp.asarray(dt), x0, x1, None)
    np.testing.assert_allclose(eqx.filter_jit(noise_of)(step), w / dt**0.5, rtol=1e-8)


def test_the_transition_of_a_field_is_exact_mode_by_mode():
    L, G, dt = sx.physics.Heat(4).linear(0.0), 0.1, 0.5
    process = sx.Drift(sx.physics.Heat(4)) + sx.Diffusion(G)
    x0, xi = jax.random.normal(KEY, (2, 4, 4))
    x1 = one_step(process, sx.ExponentialEuler(), x0, 0.0, dt, dt**0.5 * xi)
    step = Step(process, sx.ExponentialEuler(), jnp.zeros(()), jnp.asarray(dt), x0, x1, None)
    # The heat equation's own: mean exp(ΔtL) x₀, variance g²(exp(2ΔtL) - 1)/2L.
    mean = L.function(lambda r: jnp.exp(dt * r), x0)
    inverse = lambda r: 1 / (G**2 * jnp.where(r < 0, jnp.expm1(2 * dt * r) / jnp.where(r < 0, 2 * r, 1), dt))  # noqa: E731
    exact = step.of_score(-L.function(inverse, x1 - mean))
    np.testing.assert_allclose(exact, -xi, rtol=1e-6)
    np.testing.assert_allclose(transition_score(step, KEY), exact, rtol=1e-6)


def test_each_transition_that_is_known_is_tested():
    assert {type(solver) for solver in SOLVERS} == set(KNOWN)


def cubic(x):
    return x - x**3


def exact_transition_score(x0, w, dt, G):
    """d log p(x₁|x₀)/dx₁ of Heun's method in one dimension, by the change of variables from w to x₁."""

    def end(w):
        k = dt * cubic(x0) + G * w
        return x0 + 0.5 * (k + dt * cubic(x0 + k) + G * w)

    slope = jax.grad(end)
    log_p = lambda w: -0.5 * w**2 / dt - jnp.log(slope(w))  # noqa: E731
    return jax.grad(log_p)(w) / slope(w), end(w)


def test_the_transition_of_heuns_method_is_right_to_second_order():
    def error(dt, G=0.5, x0=1.1):
        w = 0.7 * dt**0.5
        exact, x1 = exact_transition_score(x0, w, dt, G)
        process = sx.Drift(lambda t, x, args: cubic(x)) + sx.Diffusion(G)
        step = Step(process, dfx.Heun(), jnp.zeros(()), dt, jnp.asarray(x0), x1, None)
        return transition_score(step, KEY) / (G * dt**0.5) - exact

    coarse, middle, fine = np.abs(jax.jit(jax.vmap(error))(jnp.array([0.04, 0.02, 0.01])))
    assert coarse / middle > 3.5
    assert middle / fine > 3.5


def test_the_divergence_is_right_on_average_over_its_random_signs():
    # Of P = (x₀³, x₀² x₁): ∇ log det M = ½Δt g ∇(∇·P) + O(Δt²) = ½Δt g (8 x₀, 0).
    process = sx.Drift(lambda t, x, args: jnp.array([x[0] ** 3, x[0] ** 2 * x[1]])) + sx.Diffusion(0.5)
    dt = 1e-4
    x0 = jnp.array([0.9, -0.4])
    x1 = one_step(process, dfx.Heun(), x0, 0.0, dt, jnp.zeros(2))
    step = Step(process, dfx.Heun(), jnp.zeros(()), jnp.asarray(dt), x0, x1, None)
    scores = jax.jit(jax.vmap(lambda key: transition_score(step, key)))(jax.random.split(KEY, 4000)) / (0.5 * dt**0.5)
    np.testing.assert_allclose(scores.mean(0), -0.5 * dt * np.array([8 * 0.9, 0]), atol=0.05 * dt)


# What it is minimised by: means over cubature points are exact for linear processes, so there is no sampling error


@solvers
def test_the_minimum_is_at_the_score_of_the_simulated_chain(solver):
    windows, precision, mean = pairs(P + g, solver, MEAN, COV, 0.2, 0.005)
    gradient, curvature = beside_the_minimum(sx.TransitionLoss(solver), P, g, windows, precision, mean)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    assert np.linalg.eigvalsh(curvature).min() > 0


def test_a_simulators_step_needs_no_reversal():
    A = np.array([[0.9, 0.2], [-0.1, 0.8]])
    step = sx.Drift.from_step(lambda x, dt: jnp.asarray(A) @ x)
    windows, precision, mean = pairs(step + g, dfx.Euler(), MEAN, COV, 0.2, 0.1)

    def at(a):
        net = Affine(-a * jnp.asarray(precision), a * jnp.asarray(precision @ mean))
        return sx.TransitionLoss()(step - sx.Score(net, g), windows, KEY, None)

    assert abs(float(jax.jit(jax.grad(at))(1.0))) < 1e-10


def test_components_without_noise_are_left_out():
    quiet, dt = sx.Diffusion(jnp.array([0.0, 0.7])), 0.05
    oscillator = sx.Drift(lambda t, x, args: jnp.array([[0.0, 1.0], [-1.0, -0.2]]) @ x)
    windows, precision, mean = pairs(oscillator + quiet, dfx.Euler(), MEAN, COV, 0.0, dt)
    gradient, curvature = beside_the_minimum(
        sx.TransitionLoss(dfx.Euler()), oscillator, quiet, windows, precision, mean
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-10)
    noisy = np.array([2, 3, 5])  # of K's rows and of b: the velocity's
    assert not curvature[[0, 1, 4]].any()
    assert np.linalg.eigvalsh(curvature[np.ix_(noisy, noisy)]).min() > 0


def test_noise_that_reaches_quiet_components_within_a_step_costs_an_order():
    quiet = sx.Diffusion(jnp.array([0.0, 0.7]))
    oscillator = sx.Drift(lambda t, x, args: jnp.array([[0.0, 1.0], [-1.0, -0.2]]) @ x)
    noisy = np.array([2, 3, 5])

    def off(dt):
        windows, precision, mean = pairs(oscillator + quiet, dfx.Heun(), MEAN, COV, 0.0, dt)
        loss = sx.TransitionLoss(dfx.Heun())
        gradient, curvature = beside_the_minimum(loss, oscillator, quiet, windows, precision, mean)
        return np.abs(np.linalg.solve(curvature[np.ix_(noisy, noisy)], gradient[noisy])).max()

    assert off(0.02) / off(0.01) == pytest.approx(2, rel=0.05)


def test_a_perfect_loss_is_one_less_what_a_step_tells_of_its_noise():
    # 1 - g²Δt E|s|²/d: in units of each component's noise.
    noise, dt = sx.Diffusion(jnp.array([1e-3, 1e3])), 0.01
    decay = sx.Drift(lambda t, x, args: -x)
    scale = np.array([1e-3, 1e3])
    windows, precision, mean = pairs(decay + noise, dfx.Euler(), 0 * scale, np.diag(0.5 * scale**2), 0.0, dt)
    net = Affine(-jnp.asarray(precision), jnp.asarray(precision @ mean))
    got = value(sx.TransitionLoss(dfx.Euler()), -decay + 2 * sx.Score(net, noise), windows)
    expected = 1 - dt * np.mean(np.diag(precision) * scale**2)
    assert float(got) == pytest.approx(expected, rel=1e-6)


# Which equations, which windows


def windows_of(size, uneven=False):
    rng = np.random.default_rng(size)
    steps = rng.uniform(0.05, 0.1, (5, size)) if uneven else np.full((5, size), 0.05)
    t = rng.uniform(size=(5, 1)) + np.cumsum(steps, axis=1)
    return sx.Windows(jnp.asarray(rng.normal(size=(5, size, 2))), jnp.asarray(t), None if uneven else 0.05)


NET = Affine(-jnp.eye(2), jnp.ones(2))


def test_every_equation_of_the_process_trains_the_same_score():
    s, w = sx.Score(NET, g), windows_of(2)
    values = [value(sx.TransitionLoss(dfx.Euler()), e, w) for e in (-P + 2 * s, -P + s, P - s, -P + 2 * s + g)]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)


def test_the_default_is_the_solver_that_the_process_is_simulated_by():
    s, w = sx.Score(NET, g), windows_of(2)
    values = [value(sx.TransitionLoss(solver), -P + 2 * s, w) for solver in (None, sx.ExponentialHeun())]
    assert float(values[0]) == float(values[1])


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_all_neighbours_of_a_window_count(uneven):
    s, w, loss = sx.Score(NET, g), windows_of(4, uneven), sx.TransitionLoss(dfx.Euler())
    two = [sx.Windows(w.x[:, i : i + 2], w.t[:, i : i + 2], w.step) for i in range(3)]
    expected = np.mean([value(loss, -P + 2 * s, w) for w in two])
    assert float(value(loss, -P + 2 * s, w)) == pytest.approx(expected, rel=1e-12)


def test_each_sample_has_conditions_of_its_own():
    rates, w, loss = jnp.linspace(0.5, 2.5, 5), windows_of(3), sx.TransitionLoss(dfx.Euler())
    s, decay = sx.Score(NET, sx.Diffusion(lambda t, args: 0.3 * args)), sx.Drift(lambda t, x, args: -args * x)
    got = value(loss, -decay + 2 * s, w, sx.PerSample(rates))
    alone = [value(loss, -decay + 2 * s, jax.tree.map(lambda a, i=i: a[i : i + 1], w), rates[i]) for i in range(5)]
    assert float(got) == pytest.approx(np.mean(alone), rel=1e-12)


def test_trees_and_precisions_may_be_mixed():
    w = windows_of(2)
    tree = sx.Windows({"u": w.x[..., 0], "v": w.x[..., 1].astype(jnp.float32)}, w.t, w.step)
    P = lambda t, x, args: jax.tree.map(lambda leaf: -leaf, x)  # noqa: E731
    equation = -sx.Drift(P) + 2 * sx.Score(P, sx.Diffusion(0.5))
    values = [value(sx.TransitionLoss(dfx.Heun()), equation, w) for w in (tree, w)]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-4)


def test_a_score_around_the_physics_is_counted_from_there():
    s0, noise = sx.Score(NET, sx.Diffusion(0.5)), sx.Diffusion(0.5)
    physics = sx.Drift(lambda t, x, args: -(x**3))
    around = sx.Score(lambda t, x, args: NET(t, x, args) + 2 * x**3 / 0.25, noise, around=physics)
    values = [value(sx.TransitionLoss(dfx.Euler()), -physics + 2 * s, windows_of(2)) for s in (around, s0)]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-12)


def test_around_a_simulators_step_it_is_counted_over_the_interval():
    noise, w = sx.Diffusion(0.5), windows_of(2)
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.mirror)
    around = sx.Score(lambda t, x, args: jnp.zeros_like(x), noise, around=step)
    plain = sx.Score(lambda t, x, args: 2 * (x / 1.05 - x) / (0.25 * 0.05), noise)
    values = [value(sx.TransitionLoss(), -step + 2 * s, w) for s in (around, plain)]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-12)


def test_around_a_simulators_step_the_sign_of_a_functions_g_means_nothing():
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.mirror)
    scores = [sx.Score(NET, sx.Diffusion(lambda t, g=g: g + 0 * t), around=step) for g in (0.5, -0.5)]
    values = [value(sx.TransitionLoss(), -step + 2 * s, windows_of(2)) for s in scores]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-12)


# Physics that JAX cannot differentiate


def called_back(t, x, args):
    return jax.pure_callback(
        lambda x: -np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
    )


def gradient(P, solver):
    at = lambda b: sx.TransitionLoss(solver)(-P + 2 * sx.Score(Affine(NET.K, b), g), windows_of(2), KEY, None)  # noqa: E731
    return jax.jit(jax.grad(at))(jnp.ones(2))


def test_the_transition_of_eulers_method_needs_no_derivative_of_the_physics():
    expected = gradient(sx.Drift(lambda t, x, args: -x), dfx.Euler())
    np.testing.assert_allclose(gradient(sx.Drift(called_back), dfx.Euler()), expected, rtol=1e-12)


@pytest.mark.usefixtures("as_users_run")
def test_that_of_heuns_method_says_that_it_does():
    with pytest.raises(TypeError, match=r"cannot differentiate.*transition of `Heun`.*diffrax.Euler"):
        gradient(sx.Drift(called_back), dfx.Heun())


# What is refused


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("loss", "equation", "match"),
    [
        (sx.TransitionLoss(dfx.ShARK()), lambda s: -P + 2 * s, "does not know the transition of `ShARK`.*WindowLoss"),
        (sx.TransitionLoss(), lambda s: 2 * s, "does not hold its forward physics"),
        (sx.TransitionLoss(), lambda s: sx.ReverseDrift(P.f) + 2 * s, "does not hold its forward physics"),
        (sx.TransitionLoss(), lambda s: -P, "trains one score.* has 0"),
        (
            sx.TransitionLoss(dfx.Heun()),
            lambda s: sx.Drift.from_step(lambda x, dt: x) - s,
            "solver's step, which has no rate",
        ),
    ],
    ids=["Lévy areas", "no physics", "a reverse simulator", "no score", "a step by Heun"],
)
def test_equations_and_solvers_without_a_known_transition_are_refused(loss, equation, match):
    with pytest.raises(TypeError, match=match):
        loss.check(equation(sx.Score(NET, g)))
