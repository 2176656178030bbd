"""The particle smoother against closed forms, and what it says of its own quality."""

# Wrong on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools
import sys

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx import metrics
from smdpx.exact import GaussianMixture, OUMixture
from smdpx.inference._particle_filter import Chain
from tests._problems import as_users_run as as_users_run

TS = np.linspace(0.0, 1.0, 11)
START = GaussianMixture(jnp.array([[-1.0, 0.5], [1.0, 0.0]]), covariances=0.3)
TWO_D = OUMixture(jnp.array([[-0.5, 1.0], [-1.0, -0.3]]), jnp.array([0.6, 0.4]), START)
ENDS = jnp.array([[0.5, -0.4], [-1.0, 0.6]])
P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
XT = jnp.array([0.3])
KEY = jr.key(0)


def normal(key, n):
    return jr.normal(key, (n,))


def smoother(process=P + g, x0=normal, ts=TS, xT=XT, n=200, **how):
    return sx.particle_smoother(process, x0, ts, xT, n, **({"key": KEY, "particles": 400} | how))


@functools.cache
def two_d():
    start = lambda key, n: START.sample(n, key=key)  # noqa: E731
    return smoother(sx.Drift(TWO_D.drift) + sx.Diffusion(TWO_D.g), start, TS, ENDS, 1000, particles=3000)


def test_draws_are_those_of_a_mixture_of_linear_gaussian_posteriors():
    exact = jax.vmap(lambda xT, key: TWO_D.sample_posterior(1.0, xT, 20_000, key=key), out_axes=1)(ENDS, jr.split(KEY))
    found = two_d()
    # Draws go back to as many starts as the report counts: three standard errors of so many are rare.
    error = 3 / found.ancestors[:, None] ** 0.5
    assert error.max() < 0.2
    assert np.all(np.abs(found.samples.mean(axis=0) - exact.mean(axis=0)) < error * exact.std(axis=0))
    assert np.all(np.abs(found.samples.var(axis=0) / exact.var(axis=0) - 1) < 1.5 * error)
    for case in range(len(ENDS)):
        apart = metrics.energy_distance(found.samples[:, case], exact[:2000, case])
        assert apart < 0.02


def test_the_sign_of_a_noise_that_is_a_function_has_no_meaning():
    # The weights of the particles that are led to the end are the same to chance.
    plus, minus = (smoother(process=P + sx.Diffusion(lambda t, c=c: c), particles=400, n=100) for c in (0.5, -0.5))
    assert abs(metrics.energy_distance(plus.samples[:, 0], minus.samples[:, 0])) < 0.05
    assert float(plus.ess[0]) == pytest.approx(float(minus.ess[0]), rel=0.2)


def test_a_branch_has_its_probability():
    exact = jax.vmap(lambda x: TWO_D.component_probabilities(1.0, x)[1])(ENDS)
    # Which start a draw belongs to, by the side of the plane between them, is known to a per cent or so.
    of_right = jax.vmap(jax.vmap(lambda x: START.component_probabilities(x)[1]))(two_d().samples)
    np.testing.assert_allclose(of_right.mean(axis=0), exact, atol=0.06)


def test_the_report_counts_what_the_draws_rest_on():
    found = two_d()
    assert found.particles == 3000
    assert np.all((found.ancestors > 50) & (found.ancestors <= 1000))
    assert np.all((found.ess > 300) & (found.ess <= 3000))
    assert np.all(np.abs(found.halves) < 0.02)
    assert "3,000 particles, worth" in repr(found)


def test_coarse_steps_of_eulers_method_have_their_own_posterior_in_each_leaf_of_a_tree():
    # Two steps of 1/2 from N(0, 1): x_T = x₀/4 + .5 √.5 (ξ₁/2 + ξ₂), and not the process's e⁻¹ x₀ + ...
    spread = 0.25 * 0.5 * 1.25
    precision = 1 + 0.25**2 / spread
    fall = sx.Drift(lambda t, x, args: jax.tree.map(jnp.negative, x))
    starts = {"a": jr.normal(KEY, (3000,)), "b": jr.normal(jr.key(1), (3000, 1))}
    xT = {"a": jnp.array([0.5, -0.5]), "b": jnp.array([[1.0], [0.0]])}
    found = smoother(fall + g, starts, np.linspace(0, 1, 3), xT, n=2001, particles=3000, solver=dfx.Euler())
    assert {name: leaf.shape for name, leaf in found.samples.items()} == {"a": (2001, 2), "b": (2001, 2, 1)}
    for name, x in found.samples.items():
        assert np.isin(x, starts[name]).all()
        np.testing.assert_allclose(x.mean(axis=0), 0.25 / spread / precision * xT[name], atol=0.12)
        np.testing.assert_allclose(x.var(axis=0), 1 / precision, rtol=0.2)


def test_a_transition_has_the_mean_and_the_linear_noise_of_the_solvers_step():
    # Φ(W) = x + gW + ½Δt [x² + (x + Δt x² + gW)²], whose mean over W ~ N(0, Δt) holds ½ g² Δt².
    x, dt, noise = 0.7, 0.1, 0.5
    chain = Chain(sx.Drift(lambda t, x, args: x**2) + sx.Diffusion(noise), dfx.Heun(), None, jnp.array(0.0))
    mean, root = chain.moments(jnp.array(0.0), jnp.array(dt), jnp.array([x]))
    ahead = x + dt * x**2
    assert float(mean[0]) == pytest.approx(x + dt / 2 * (x**2 + ahead**2 + noise**2 * dt), rel=1e-6)
    assert float(root[0, 0]) == pytest.approx(noise * dt**0.5 * (1 + dt * ahead), rel=1e-5)


SIXTEEN = {"x0": lambda key, n: jr.normal(key, (n, 16)), "ts": np.linspace(0, 1, 4)}


def test_in_many_components_it_collapses_and_says_so():
    with pytest.warns(UserWarning, match=r"have collapsed \(case 0\).*draws go back to .* starts.*ensemble_smoother"):
        found = smoother(xT=jnp.full((1, 16), 0.5), **SIXTEEN)
    assert found.ancestors[0] < 10


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"process": P}, TypeError, "a forward process with noise such as `P \\+ g`"),
        ({"process": P + sx.Diffusion(lambda t: t)}, ValueError, "Component 0 has no noise at t = 0.*neighbours"),
        ({"solver": dfx.ShARK()}, TypeError, "those of `ShARK` are not: take `diffrax.Heun"),
        (
            {"xT": jnp.full((1, 16), 80.0)} | SIXTEEN,
            ValueError,
            "No particle comes near `xT` \\(case 0\\): of 400 ",
        ),
        ({"ts": TS[:2]}, ValueError, "at least three times, two steps; got 2"),
        ({"particles": 30}, ValueError, "at least 40 for 1 components; got 30"),
        ({"n": 2}, ValueError, "`n` must be at least 4"),
        ({"n": 2.5}, TypeError, "`n` is a count"),
        ({"args": sx.PerSample(jnp.ones(1))}, ValueError, "once for each condition"),
        ({"process": sx.Drift(lambda t, x, args: 60 * x**3) + g}, ValueError, "not finite at the end.*finer steps"),
        ({"x0": jnp.ones((5, 2))}, ValueError, "states of one kind"),
    ],
)
def test_bad_input(how, error, says):
    with pytest.raises(error, match=says):
        smoother(**how)


def test_without_cuthbert_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuthbert", None)
    with pytest.raises(ImportError, match=r'pip install "smdpx\[classical\]"'):
        smoother()


def test_the_noise_of_an_exponential_step_is_that_of_its_linear_part():
    # dx = -8x dt + .5 dW over Δt: variance g²(1 - e^(-16Δt))/16, exactly.
    class Fall(eqx.Module):
        def __call__(self, t, x, args):
            return self.linear(t)(x)

        def linear(self, t):
            return sx.Diagonal(jnp.array([-8.0, -8.0]))

    chain = Chain(sx.Drift(Fall()) + g, sx.ExponentialEuler(), None, jnp.zeros(2))
    mean, root = chain.moments(jnp.array(0.0), jnp.array(0.2), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(mean, np.exp(-1.6) * np.array([1.0, 2.0]), rtol=1e-5)
    np.testing.assert_allclose(root @ root.T, 0.25 * (1 - np.exp(-3.2)) / 16 * np.eye(2), rtol=1e-5, atol=1e-8)
