"""Inference with exact scores against closed forms: an OU process from a Gaussian mixture."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

LAMBDA, G, T = 0.5, 0.4, 2.0
OU = sx.exact.OUMixture(-LAMBDA, G, sx.exact.GaussianMixture([-1.0, 1.0], covariances=0.04))
P, g = sx.Drift(OU.drift), sx.Diffusion(G)
s = sx.Score(OU.score, g)
BACK = np.linspace(T, 0.0, 201)


def test_posterior_samples_have_the_exact_mean_and_variance():
    x0 = sx.posterior(-P + 2 * s + g, jnp.array([0.3]), BACK[::4], 4000, key=jr.key(0), solver=dfx.Heun())[:, 0]
    exact = OU.posterior(T, jnp.array(0.3))
    variance = float(exact.covariance())
    assert abs(float(x0.mean() - exact.mean())) < 3 * (variance / 4000) ** 0.5
    # The mixture's fourth moment is below the Gaussian's, so the Gaussian's standard error bounds its own.
    assert abs(float(x0.var()) / variance - 1) < 3 * (2 / 4000) ** 0.5


def test_posterior_gives_draws_by_cases():
    x = sx.posterior(-P + 2 * s + g, jnp.array([-1.0, 0.0, 1.0]), BACK[::20], 500, key=jr.key(0))
    assert x.shape == (500, 3)
    assert (jnp.diff(x.mean(axis=0)) > 0.5).all()


def test_posterior_gives_whole_trajectories():
    steps = dfx.SaveAt(t0=True, steps=True)
    x = sx.posterior(-P + 2 * s + g, jnp.arange(3.0), BACK[::50], 4, key=jr.key(0), saveat=steps)
    assert x.shape == (4, 3, 5)
    np.testing.assert_array_equal(x[:, :, 0], jnp.broadcast_to(jnp.arange(3.0), (4, 3)))


def test_posterior_in_chunks_fills_every_case():
    x = sx.posterior(-P + 2 * s + g, jnp.array([-1.0, 1.0]), BACK[::50], 7, key=jr.key(0), chunk=4)
    assert x.shape == (7, 2)
    assert len(np.unique(np.asarray(x))) == 14


@pytest.mark.parametrize("n", [0, -1])
def test_zero_samples_are_an_error(n):
    with pytest.raises(ValueError, match="`n` must be at least 1; got"):
        sx.posterior(-P + 2 * s + g, jnp.zeros(3), BACK, n, key=jr.key(0))


@pytest.mark.usefixtures("as_users_run")
def test_posterior_of_an_ode_is_an_error():
    with pytest.raises(TypeError, match="point_estimate"):
        sx.posterior(-P + s, jnp.zeros(3), BACK, 5, key=jr.key(0))  # pyright: ignore


@pytest.mark.usefixtures("as_users_run")
def test_posterior_of_a_forward_process_is_an_error():
    with pytest.raises(TypeError, match=r"`dx = P\(x\) dt \+ g dW` runs forward: write `-P \+ 2\*s \+ g`"):
        sx.posterior(P + g, jnp.zeros(3), BACK[::-1], 5, key=jr.key(0))  # pyright: ignore


def test_a_posterior_without_a_score_warns():
    with pytest.warns(UserWarning, match=r"samples no posterior.*here is none. Write `-P \+ 2\*s \+ g`"):
        sx.posterior(-P + g, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))


def test_point_estimate_follows_the_flow():
    x = sx.point_estimate(-P + s, jnp.array([0.3]), BACK, solver=dfx.Tsit5())
    whole = sx.solve(-P + s, jnp.array([0.3]), BACK, solver=dfx.Tsit5())
    np.testing.assert_allclose(x, whole[:, -1], rtol=1e-6)


def test_the_flow_keeps_the_marginals():
    # Quantiles of p_T go to the same quantiles of p_0.
    xT = jnp.sort(OU.sample(T, 20_000, key=jr.key(1)))[::100]
    x0 = sx.point_estimate(-P + s, xT, BACK, solver=dfx.Tsit5())
    exact = jnp.sort(OU.sample(0.0, 20_000, key=jr.key(2)))[::100]
    assert float(jnp.mean(jnp.abs(x0 - exact))) < 0.02


@pytest.mark.usefixtures("as_users_run")
def test_point_estimate_of_an_sde_is_an_error():
    with pytest.raises(TypeError, match="posterior"):
        sx.point_estimate(-P + 2 * s + g, jnp.zeros(3), BACK)  # pyright: ignore


def test_a_point_estimate_along_a_forward_equation_is_an_error():
    with pytest.raises(TypeError, match=r"runs forward: write `-P \+ s`"):
        sx.point_estimate(P - s, jnp.ones(2), FORTH)  # pyright: ignore


def test_scores_alone_run_backwards():
    assert sx.point_estimate(2 * s, jnp.ones(2), BACK[::50]).shape == (2,)


X0 = jnp.linspace(-1.5, 1.5, 13)
FORTH = np.linspace(0.0, T, 201)


def test_log_likelihood_with_the_exact_trace():
    result = sx.log_likelihood(P - s, X0, FORTH, lambda x: OU.log_prob(T, x), solver=dfx.Tsit5())
    np.testing.assert_allclose(result.log_prob, jax.vmap(lambda x: OU.log_prob(0.0, x))(X0), atol=1e-3)
    np.testing.assert_array_equal(result.standard_error, jnp.zeros(13))


def test_log_likelihood_is_the_same_for_any_solver():
    controller = dfx.PIDController(rtol=1e-6, atol=1e-6)
    result = sx.log_likelihood(
        P - s, X0, FORTH[::100], lambda x: OU.log_prob(T, x), solver=dfx.Dopri5(), stepsize_controller=controller
    )
    np.testing.assert_allclose(result.log_prob, jax.vmap(lambda x: OU.log_prob(0.0, x))(X0), atol=1e-3)


def test_hutchinson_agrees_within_its_standard_error():
    a = jnp.array([[-1.0, 0.6, 0.0], [0.2, -0.8, 0.3], [0.5, 0.0, -0.6]])
    linear = sx.exact.OUMixture(a, 0.5, sx.exact.GaussianMixture(jnp.zeros((1, 3)), covariances=1.0))
    score = sx.Score(linear.score, sx.Diffusion(0.5))
    x0 = jr.normal(jr.key(3), (64, 3))
    result = sx.log_likelihood(
        sx.Drift(linear.drift) - score, x0, FORTH[::10], lambda x: linear.log_prob(T, x), probes=64, key=jr.key(4),
    )  # fmt: skip
    exact = jax.vmap(lambda x: linear.log_prob(0.0, x))(x0)
    assert float(result.standard_error.min()) > 0
    assert float(jnp.max(jnp.abs(result.log_prob - exact) / result.standard_error)) < 4


def test_probes_need_a_key():
    with pytest.raises(ValueError, match="key"):
        sx.log_likelihood(P - s, X0, FORTH, lambda x: OU.log_prob(T, x), probes=8)


def test_one_probe_has_no_standard_error():
    with pytest.raises(ValueError, match="at least 2"):
        sx.log_likelihood(P - s, X0, FORTH, lambda x: OU.log_prob(T, x), probes=1, key=jr.key(0))


@pytest.mark.usefixtures("as_users_run")
def test_probes_are_counted():
    with pytest.raises(TypeError, match="`probes` is a count and must be an integer; got 4.0"):
        sx.log_likelihood(P - s, X0, FORTH, lambda x: OU.log_prob(T, x), probes=4.0, key=jr.key(0))  # pyright: ignore


@pytest.mark.parametrize("x0", [jnp.zeros((3, 1)), jnp.zeros((3, 2))])
def test_the_density_of_one_state_is_one_number(x0):
    flow = sx.Drift(lambda t, x, args: -x)
    with pytest.raises(ValueError, match=r"`log_prob_T` must return a scalar.*`lambda x: logpdf\(x\).sum\(\)`"):
        sx.log_likelihood(flow, x0, FORTH[::50], jax.scipy.stats.norm.logpdf)


@pytest.mark.parametrize("ts", [FORTH, BACK])
def test_log_likelihood_of_the_reverse_flow_is_an_error(ts):
    with pytest.raises(ValueError, match="runs backwards: write `P - s`, and increasing `ts`"):
        sx.log_likelihood(-P + s, X0, ts, lambda x: OU.log_prob(T, x))  # pyright: ignore


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("equation", "how", "says"),
    [(3, {}, "a drift such as `P - s`; got int"), (P - s, {"probes": 2, "key": 0}, "`key` must be a JAX key; got 0")],
)
def test_log_likelihood_names_what_is_of_another_kind(equation, how, says):
    with pytest.raises(TypeError, match=says):
        sx.log_likelihood(equation, X0, FORTH, lambda x: OU.log_prob(T, x), **how)


def test_langevin_has_the_right_temperature():
    x = OU.sample(1.0, 4000, key=jr.key(5))
    refined = sx.langevin(s, 3 * x, 1.0, step=1e-2, steps=100, key=jr.key(6))
    modes = jnp.sign(refined) * jnp.exp(-LAMBDA)
    # Within a mode the variance is the marginal's component variance; half of it at half the temperature.
    variance = float(OU.marginal(1.0).covariances[0])
    assert abs(float(jnp.mean((refined - modes) ** 2)) / variance - 1) < 0.12


@pytest.mark.parametrize(
    ("step", "steps", "says"), [(0.0, 10, "step > 0; got 0"), (0.1, 0, "`steps` must be at least 1")]
)
def test_langevin_without_steps_is_an_error(step, steps, says):
    with pytest.raises(ValueError, match=says):
        sx.langevin(s, jnp.zeros(4), 1.0, step=step, steps=steps, key=jr.key(0))


@pytest.mark.usefixtures("as_users_run")
def test_langevin_takes_no_half_steps():
    with pytest.raises(TypeError, match="`steps` is a count and must be an integer; got 2.5"):
        sx.langevin(s, jnp.zeros(4), 1.0, step=0.1, steps=2.5, key=jr.key(0))  # pyright: ignore[reportArgumentType]


def test_langevins_step_and_time_may_be_traced():
    refined = lambda t, step: sx.langevin(s, jnp.zeros(4), t, step=step, steps=2, key=jr.key(0))  # noqa: E731
    np.testing.assert_allclose(jax.jit(refined)(jnp.array(1.0), jnp.array(0.1)), refined(1.0, 0.1), rtol=1e-5)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("what", ["t", "step"])
@pytest.mark.parametrize(
    ("value", "says"),
    [(jnp.array([0.1, 1.0]), r"same for all samples; got an array of shape \(2,\)"), (None, "one number; got None")],
    ids=["an array", "None"],
)
def test_langevin_has_one_time_and_one_step(what, value, says):
    t, step = (value, 0.1) if what == "t" else (1.0, value)
    with pytest.raises(TypeError, match=f"`{what}` must be .*{says}"):
        sx.langevin(s, jnp.zeros(2), t, step=step, steps=2, key=jr.key(0))


def test_langevin_stays_at_a_finite_time():
    with pytest.raises(ValueError, match="`t` must be finite; got nan"):
        sx.langevin(s, jnp.zeros(2), float("nan"), step=0.1, steps=2, key=jr.key(0))


@pytest.mark.parametrize("traced", ["score", "key"])
def test_inference_runs_inside_jit(traced):
    def draws(s, key):
        return sx.posterior(-P + 2 * s + g, jnp.zeros(3), BACK[::20], 4, key=key)

    key = jr.key(0)
    inside = eqx.filter_jit(draws)(s, key) if traced == "score" else jax.jit(lambda key: draws(s, key))(key)
    np.testing.assert_allclose(inside, draws(s, key), rtol=1e-4, atol=1e-5)


def test_saving_the_end_alone_is_the_default():
    how = {"key": jr.key(0), "saveat": dfx.SaveAt(t1=True)}
    assert sx.posterior(-P + 2 * s + g, jnp.zeros(3), BACK[::50], 5, **how).shape == (5, 3)


@pytest.mark.parametrize("c", [1, 3.0, jnp.asarray(1.0)])
def test_a_posterior_with_another_coefficient_than_two_warns(c):
    with pytest.warns(UserWarning, match=r"samples no posterior.*coefficient 2 \(C = 2\)"):
        sx.posterior(-P + c * s + g, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))


def test_the_coefficients_of_an_ensembles_scores_count_together():
    other = sx.Score(s.net, g, name="other")
    sx.posterior(-P + s + other + g, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))  # a warning would be an error
    with pytest.warns(UserWarning, match="samples no posterior.*its scores together have 3"):
        sx.posterior(-P + s + 2 * other + g, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))


@pytest.mark.parametrize(
    ("noise", "difference"),
    [
        (0.5 * g, "at t = 2 it is 0.2, not 0.4"),
        (sx.Diffusion(lambda t: G * (1 - 0.1 * t)), "at t = 2 it is 0.32, not 0.4"),
        (sx.Diffusion(lambda t: G - 0.1 * (2 - t)), "at t = 0 it is 0.2, not 0.4"),
    ],
    ids=["half", "a function", "at the other end"],
)
def test_a_posterior_with_another_noise_than_the_scores_warns(noise, difference):
    with pytest.warns(UserWarning, match=rf"samples no posterior: its noise must be .*{difference}.*2\*s \+ s\.g"):
        sx.posterior(-P + 2 * s + noise, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))


@pytest.mark.parametrize("noise", [sx.Diffusion(np.float32(G)), sx.Diffusion(lambda t: G + 0 * t), s.g], ids=str)
def test_the_scores_noise_in_other_words_is_the_same(noise):
    sx.posterior(-P + 2 * s + noise, jnp.zeros(3), BACK[::50], 5, key=jr.key(0))


def test_another_noise_is_seen_under_jit_too():
    with pytest.warns(UserWarning, match="samples no posterior: its noise"):
        jax.eval_shape(lambda x: sx.posterior(-P + 2 * s + 0.5 * g, x, BACK[::50], 5, key=jr.key(0)), jnp.zeros(3))


def test_probes_are_independent_between_samples():
    # ∇·(A x) for an A with large entries beside its diagonal: each sample's error is its own, so their mean is small.
    A = 3 * jnp.ones((4, 4))
    flow = sx.Drift(lambda t, x, args: A @ x)
    x0, ts = jnp.zeros((1000, 4)), jnp.linspace(0.0, 0.1, 3)
    trace = sx.log_likelihood(flow, x0, ts, lambda x: jnp.zeros(()), probes=2, key=jr.key(0)).log_prob - 1.2
    assert float(trace.std()) > 0.5
    assert abs(float(trace.mean())) < 3 * float(trace.std()) / 1000**0.5


def test_langevin_leaves_components_without_noise_as_they_are():
    s = sx.Score(lambda t, x, args: -x, sx.Diffusion(jnp.array([0.0, 1.0])))
    x = sx.langevin(s, 2 * jnp.ones((4000, 2)), 1.0, step=0.05, steps=100, key=jr.key(0))
    assert (x[:, 0] == 2).all()
    assert float(x[:, 1].std()) == pytest.approx(1, abs=0.06)


def test_langevin_at_another_time_compiles_nothing():
    traces = []

    def net(t, x, args):
        traces.append(t)
        return -x

    s = sx.Score(net, sx.Diffusion(1.0))
    counts = []
    for t in (0.1, 0.2, 0.3):
        sx.langevin(s, jnp.zeros(4), t, step=0.1, steps=3, key=jr.key(0))
        counts.append(len(traces))
    assert counts[0] == counts[-1] > 0
