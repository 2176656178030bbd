"""Brute-force posteriors against closed forms, the Fokker-Planck oracle, and what they say of their own error."""

import functools
import logging

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx.exact import FokkerPlanck1D, GaussianMixture, OUMixture
from tests._problems import as_users_run as as_users_run

TS = np.linspace(0.0, 2.0, 11)
BIMODAL = OUMixture(-0.5, 0.4, GaussianMixture([-1.0, 1.0], covariances=0.04))
GAUSSIAN = OUMixture(-0.5, 0.1, GaussianMixture([0.0], covariances=1.0))
P, g = sx.Drift(BIMODAL.drift), sx.Diffusion(0.4)
DRAWS = 1000
SE = DRAWS**-0.5  # of a mean, in standard deviations; that of a variance is √2 times as much


def normal(key, n):
    return jr.normal(key, (n,))


def two_peaks(key, n):
    return jr.rademacher(key, (n,), float) + 0.2 * jr.normal(jr.fold_in(key, 1), (n,))


def neighbours(process, x0, ts, xT, n=DRAWS, simulations=50_000, **how):
    # A second-order solver, so that a few steps have the process's own law.
    given = {"key": jr.key(0), "simulations": simulations, "solver": dfx.Heun()} | how
    return sx.exact.neighbours(process, x0, ts, xT, n, **given)


@functools.cache
def bimodal(**how):
    return neighbours(P + g, two_peaks, TS, jnp.array([-0.8, 0.3]), **how)


@functools.cache
def gaussian(**how):
    return neighbours(P + sx.Diffusion(0.1), normal, TS, jnp.array([-0.2, 0.7]), **how)


def test_a_second_call_of_the_same_shapes_compiles_nothing(caplog):
    call = functools.partial(neighbours, P + g, two_peaks, TS, jnp.array([-0.8, 0.3]), 100, 2_000)
    call()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        call(key=jr.key(1))
    assert not [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]


def test_an_end_between_two_branches_is_seen_by_its_sides():
    # Starts at -1 and 1 that hardly overlap at their ends: the regression moves both across the gap, at any radius.
    fall = sx.Drift(lambda t, x, args: -1.5 * x)
    found = neighbours(fall + sx.Diffusion(0.03), two_branches, TS, jnp.array([0.0]))
    assert float(jnp.mean(jnp.abs(found.samples) < 0.5)) > 0.2
    assert found.error[0] == found.sides[0] > 0.01


def two_branches(key, n):
    return jr.rademacher(key, (n,), float) + 0.05 * jr.normal(jr.fold_in(key, 1), (n,))


def assert_moments(x, mean, variance):
    assert np.abs((x.mean(axis=0) - mean) / np.sqrt(variance)).max() < 4 * SE
    assert np.abs(x.var(axis=0) / variance - 1).max() < 4 * 2**0.5 * SE


def test_draws_are_the_exact_posterior_of_a_bimodal_start():
    for case, xT in enumerate([-0.8, 0.3]):
        exact = BIMODAL.sample_posterior(2.0, xT, DRAWS, key=jr.key(1))
        # As far apart are two exact sets, which spread over .6, in one of a hundred cases.
        assert sx.metrics.energy_distance(bimodal().samples[:, case], exact) < 0.004


def test_several_components_of_any_scale_have_the_exact_mean_and_variance():
    ou = OUMixture(
        jnp.array([[-0.5, 1.0, 0.0], [-1.0, -0.5, 0.0], [0.2, 0.0, -1.0]]),
        jnp.array([0.5, 5.0, 0.05]),
        GaussianMixture([[1.0, 0.0, 0.0]], covariances=np.diag([0.5, 20.0, 0.01])[None]),
    )
    xT = ou.marginal(1.0).mean()[None] + jnp.array([[0.0, 0.0, 0.0], [0.7, 3.0, 0.1]])
    process = sx.Drift(ou.drift) + sx.Diffusion(ou.g)
    sd = jnp.sqrt(jnp.array([0.5, 20.0, 0.01]))
    start = lambda key, n: jnp.array([[1.0, 0.0, 0.0]]) + sd[None] * jr.normal(key, (n, 3))  # noqa: E731
    x = neighbours(process, start, np.linspace(0, 1, 11), xT).samples
    for case in range(2):
        exact = ou.posterior(1.0, xT[case])
        assert_moments(x[:, case], exact.mean(), np.diag(exact.covariance()))


def test_the_regression_is_exact_at_any_radius_where_all_is_gaussian():
    found = gaussian(simulations=10_000)
    assert found.radius[1] > 0.5
    exact = [GAUSSIAN.posterior(2.0, x) for x in (-0.2, 0.7)]
    assert_moments(found.samples, *np.transpose([[each.mean(), each.covariance()] for each in exact]))


def test_a_double_well_has_the_posterior_of_its_transition_density():
    well = lambda t, x, args: x - x**3  # noqa: E731
    grid = np.linspace(-1.6, 1.6, 17)
    weights = np.exp(-0.5 * (grid / 0.5) ** 2)
    # Bayes' rule with the density of x_T from each start of a grid, which is close enough for an integral.
    fp = FokkerPlanck1D(well, 0.5, GaussianMixture(grid, weights / weights.sum()), 1.5, nodes=200)
    xT = jnp.array([0.0, 1.3])
    exact = np.asarray(jax.vmap(lambda x: fp.component_probabilities(1.5, x))(xT))
    mean = exact @ grid
    start = lambda key, n: 0.5 * jr.normal(key, (n,))  # noqa: E731
    x = neighbours(sx.Drift(well) + sx.Diffusion(0.5), start, np.linspace(0, 1.5, 21), xT).samples
    assert_moments(x, mean, exact @ grid**2 - mean**2)


def test_discrete_starts_are_kept_as_they_are():
    toy = lambda t, x, args: -7 * jnp.sign(x) * x**2  # noqa: E731
    xT, ts = jnp.array([0.02, 0.05]), 10 * np.linspace(0, 1, 65) ** 1.5
    given = jnp.array([-1.0, 1.0])  # drawn with replacement
    x = neighbours(sx.Drift(toy) + sx.Diffusion(0.03), given, ts, xT, adjust=False).samples
    assert set(np.unique(x)) == {-1.0, 1.0}
    # By the Fokker-Planck equation, as its own tests have it.
    np.testing.assert_allclose((x > 0).mean(axis=0), [0.534, 0.572], atol=4 * 0.5 * SE)


def test_the_error_is_noise_about_zero_where_the_answer_is_right():
    found = gaussian()
    assert found.error.shape == (2,)
    spread = np.sqrt([GAUSSIAN.posterior(2.0, 0.0).covariance()])
    # The U-statistic's own, of a quarter of the draws.
    assert (found.error < 4 * spread / (DRAWS / 4)).all()


def test_the_error_sees_a_radius_that_is_too_large():
    found = gaussian(simulations=10_000, adjust=False)
    exact = GAUSSIAN.sample_posterior(2.0, 0.7, DRAWS, key=jr.key(1))
    off = sx.metrics.energy_distance(found.samples[:, 1], exact)
    assert off > 0.01
    # The other radius is half as large, so three quarters of a bias of the order of r² show, in a distance squared.
    assert 0.25 * off < found.radii[1] < off
    assert found.error[1] == found.radii[1]


def test_the_radius_falls_with_the_simulations():
    # In the middle of the ends; in their tail it falls faster.
    np.testing.assert_allclose(gaussian(simulations=10_000).radius[0] / gaussian().radius[0], 5, rtol=0.15)


def test_draws_are_in_random_order():
    x = np.asarray(gaussian(simulations=10_000, adjust=False).samples[:, 1])
    # The nearest first would put what is off by the radius into the second half.
    assert abs(x[:500].mean() - x[500:].mean()) < 4 * x.std() * (2 / 500) ** 0.5


def test_the_same_key_gives_the_same_draws():
    again = gaussian.__wrapped__(simulations=10_000)
    np.testing.assert_array_equal(again.samples, gaussian(simulations=10_000).samples)


def test_trees_come_back_as_trees_without_noise_too():
    turn = sx.Drift(lambda t, x, args: {"x": x["v"], "v": -x["x"]})
    start = lambda key, n: {"x": jr.normal(key, (n, 2)), "v": jnp.zeros((n, 2))}  # noqa: E731
    xT = {"x": jnp.full((2, 2), 0.5), "v": -0.5 * jnp.ones((2, 2))}
    ts = np.linspace(0, np.pi / 4, 11)
    found = neighbours(turn, start, ts, xT, 50, simulations=1000)
    assert {name: leaf.shape for name, leaf in found.samples.items()} == {"x": (50, 2, 2), "v": (50, 2, 2)}
    np.testing.assert_allclose(found.samples["x"], 0.5**0.5, rtol=1e-3)
    np.testing.assert_allclose(found.samples["v"], 0, atol=1e-5)


def test_a_component_that_is_the_same_for_all_has_no_say():
    process = sx.Drift(lambda t, x, args: -0.5 * x * jnp.array([1.0, 0.0])) + sx.Diffusion(jnp.array([0.4, 0.0]))
    start = lambda key, n: jnp.stack([jr.normal(key, (n,)), jnp.full(n, 7.0)], axis=1)  # noqa: E731
    found = neighbours(process, start, TS, jnp.array([[0.3, 7.0]]), 50, simulations=1000)
    assert found.radius < 0.2
    assert (found.samples[..., 1] == 7).all()
    with pytest.raises(ValueError, match="All paths end at 7 in component 1, and `xT` has 6 there"):
        neighbours(process, start, TS, jnp.array([[0.3, 6.0]]), 50, simulations=1000)


def test_in_double_precision_a_component_far_from_zero_has_its_say():
    with jax.enable_x64(True):
        still, noise = sx.Drift(lambda t, x, args: 0 * x), sx.Diffusion(1.0)
        start = lambda key, n: 1e8 + jr.normal(key, (n,))  # noqa: E731
        found = sx.exact.neighbours(
            still + noise, start, TS[[0, 5]], jnp.array([1e8 + 1]), 400, key=jr.key(0), simulations=8000
        )
        # N(½, ½) from the origin, after noise of variance 1.
        assert float(found.samples.mean()) - 1e8 == pytest.approx(0.5, abs=4 * (0.5 / 400) ** 0.5)


def test_it_prints_what_it_is():
    text = repr(gaussian())
    assert text.startswith("1000 draws of each of 2 cases from 50,000 simulations, within 0.")
    assert "energy distance between halves up to" in text


def test_an_end_state_that_nothing_reaches_is_an_error():
    with pytest.raises(
        ValueError, match=r"No path ends near `xT` \(case 1\): the nearest of 1,000 is at 1\d\.\d stand"
    ):
        neighbours(P + g, two_peaks, TS, jnp.array([0.3, 9.0]), 50, 1000)


def test_an_end_state_at_the_edge_warns_of_the_radius():
    with pytest.warns(UserWarning, match=r"The paths that end nearest to `xT` \(case 1\) reach out to \d"):
        neighbours(P + g, two_peaks, TS, jnp.array([0.3, 2.0]), 50, 1000)


def test_paths_that_explode_are_an_error():
    with pytest.raises(ValueError, match=r"of 500 simulated paths are not finite at t = 2, .* finer steps"):
        neighbours(sx.Drift(lambda t, x, args: x**3) + g, two_peaks, TS, jnp.array([0.3, 0.5]), 50, 1000)


WRONG = [
    (ValueError, {"n": 8}, "`n` = 8 draws are too few for a regression on 1 components"),
    (ValueError, {"n": 200}, "`simulations` = 1,000 for 200 draws"),
    (TypeError, {"n": 10.0}, "`n` is a count"),
    (ValueError, {"xT": jnp.array([jnp.nan])}, "`xT` is not finite"),
    (ValueError, {"xT": jnp.array([[0.3, 0.3]])}, r"`x0\(key, n\)` and `xT` must hold states of one kind"),
    (ValueError, {"x0": lambda key, n: jnp.zeros(3)}, "must draw n states; asked for 500 it returned 3"),
    (ValueError, {"x0": jnp.ones(5), "process": P}, "All paths end at one state"),
    (ValueError, {"args": sx.PerSample(jnp.ones(1))}, "call it once for each condition"),
    (ValueError, {"ts": TS[::-1]}, "forward equation and wants increasing times"),
    (TypeError, {"process": -P}, "simulates a forward process"),
]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("kind", "wrong", "message"), WRONG)
def test_wrong_arguments_are_named(kind, wrong, message):
    given = {"process": P + g, "x0": two_peaks, "ts": TS, "xT": jnp.array([0.3, 0.5]), "n": 50}
    with pytest.raises(kind, match=message):
        neighbours(**(given | {"simulations": 1000} | wrong))


@pytest.mark.usefixtures("as_users_run")
def test_it_is_not_for_jit():
    with pytest.raises(TypeError, match="looks at values"):
        jax.jit(lambda xT: neighbours(P + g, two_peaks, TS, xT).samples)(jnp.array([0.3]))
