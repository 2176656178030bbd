"""A report on draws whose faults are known, and on equations whose posteriors are."""

import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import smdpx as sx
from smdpx.inference._calibrate import assess
from smdpx.inference._components import components
from tests._problems import OU, as_users_run as as_users_run

TS = np.linspace(0, 1, 41)


def test_double_precision_is_counted_where_promotion_is_strict():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        counted = components(jnp.ones((2, 3)), jnp.ones(3), None)
    assert counted.draws.dtype == counted.truths.dtype == np.float64


# On equations

PROCESS = OU()
NONE = {"factor": 1.0, "shift": 0.0, "cubic": 0.0}


def faulty(t, x, args):
    """The exact score, and what is wrong with it: numbers in `args`, so that one program serves all."""
    return args["factor"] * PROCESS.score(t, x) + args["shift"] + args["cubic"] * jnp.where(x > 1.9, x**3, 0)


def held_out(n, seed, args=None, ou=PROCESS):
    """Starts and ends of the process's own law, without a step's error."""
    key_start, key_end = jr.split(jr.key(seed))
    x0 = ou.start(n, key_start)
    decay = np.exp(-ou.rate * ou.T)
    sd = (ou.noise**2 * (1 - decay**2) / (2 * ou.rate)) ** 0.5
    xT = decay * x0 + sd * jr.normal(key_end, (n,))
    # Between its ends a trajectory is not looked at.
    return sx.Trajectories(jnp.linspace(x0, xT, 41, axis=1), TS, args)


def calibrate(seed=0, cases=300, how=None, **faults):
    equation = -PROCESS.P + 2 * sx.Score(faulty, PROCESS.g) + PROCESS.g
    return sx.calibrate(equation, held_out(cases, seed, {**NONE, **faults}), key=jr.key(seed), **(how or {}))


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_posterior_is_calibrated_and_has_the_exact_numbers(seed):
    report = calibrate(seed)
    assert report.calibrated
    assert report.verdict.startswith("calibrated: the 90 % interval covers")
    # Three standard errors of 300 cases.
    assert report.coverage90[0] == pytest.approx(0.9, abs=3 * 0.0173)
    assert report.coverage50[0] == pytest.approx(0.5, abs=3 * 0.0289)
    assert report.spread[0] / report.skill[0] == pytest.approx(1, abs=3 / 600**0.5)
    _, variance = PROCESS.posterior(0.0)
    assert report.spread[0] == pytest.approx(float(variance) ** 0.5, rel=0.03)
    # Of a Gaussian the CRPS of its own law is sd / √π.
    assert report.crps[0] == pytest.approx(float(variance / np.pi) ** 0.5, rel=0.15)
    assert report.climatology[0] == pytest.approx((PROCESS.var / np.pi) ** 0.5, rel=0.15)


def test_a_score_twice_too_large_is_overconfident():
    report = calibrate(factor=2.0)
    assert not report.calibrated
    covers = f"covers {report.coverage90[0]:.2f} (0.85 to 0.95 expected of 300 cases)"
    assert report.verdict.endswith(f"overconfident: the 90 % interval {covers}")
    assert "more trajectories" in report.advice


def test_a_shifted_score_is_biased_and_no_more():
    report = calibrate(shift=1.0)
    assert report.verdict.startswith("biased: truths lie")
    assert "below the mean of their draws" in report.verdict
    assert "confident" not in report.verdict


def test_draws_that_explode_are_counted_in_the_report_and_all_else_is_of_the_others():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said in the report
        report = calibrate(cubic=1e3)
    assert not report.calibrated
    assert 0 < report.exploded.sum() < 0.2 * 300 * 200
    assert report.verdict.startswith(f"exploded draws: {report.exploded.sum():,} of 60,000 (cases ")
    assert np.isfinite([report.coverage90, report.crps, report.spread]).all()
    assert report.draws < 200


def test_draws_that_explode_in_most_cases_leave_nothing_to_test():
    with pytest.raises(ValueError, match=r"draws did not explode \(in 300 most did\); got"):
        calibrate(cubic=1e6, shift=10.0)


def test_conditions_travel_with_the_trajectories():
    ou = OU(mean=0.0)
    centres = jnp.linspace(-2, 2, 200)
    base = held_out(200, 0, ou=ou)
    paths = sx.Trajectories(base.x + centres[:, None], TS, args=sx.PerSample(centres))
    P = sx.Drift(lambda t, x, args: -0.5 * (x - args))
    s = sx.Score(lambda t, x, args: ou.score(t, x - args), ou.g)
    assert sx.calibrate(-P + 2 * s + ou.g, paths, key=jr.key(2)).calibrated


def test_a_tree_has_a_row_for_each_number():
    P = sx.Drift(lambda t, x, args: jax.tree.map(lambda leaf: -0.5 * leaf, x))
    s = sx.Score(lambda t, x, args: jax.tree.map(lambda leaf: PROCESS.score(t, leaf), x), PROCESS.g)
    one, other = held_out(100, 0), held_out(200, 1)
    pair = jnp.stack([other.x[:100], other.x[100:]], axis=-1)
    paths = sx.Trajectories({"q": one.x, "v": pair}, TS)
    report = sx.calibrate(-P + 2 * s + PROCESS.g, paths, key=jr.key(0))
    assert report.names == ("q", "v 0", "v 1")
    assert report.calibrated


def test_warnings_of_the_posterior_are_passed_on():
    with pytest.warns(UserWarning, match="samples no posterior"):
        sx.calibrate(-PROCESS.P + 1 * PROCESS.s + PROCESS.g, held_out(40, 0), key=jr.key(0))


# On draws


def pairs(n=100, cases=300, d=(), scale=1.0, offset=0.0, seed=0):
    """Draws from N(m, scale²) beside truths from N(m, 1), m the same and random."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(cases, *d))
    draws = mean + offset + scale * rng.normal(size=(n, cases, *d))
    return jnp.asarray(draws, "f"), jnp.asarray(mean + rng.normal(size=(cases, *d)), "f")


def of(draws, truths, **how):
    return assess(draws, truths, key=jr.key(0), **how)


@pytest.mark.parametrize(("scale", "says"), [(0.7, "overconfident"), (1.4, "underconfident")])
@pytest.mark.parametrize("d", [(), (5,)])
def test_a_spread_that_is_wrong_is_named(scale, says, d):
    assert of(*pairs(scale=scale, d=d)).verdict.startswith(says)


@pytest.mark.parametrize(("offset", "side"), [(0.5, "below"), (-0.5, "above")])
def test_a_shift_is_a_bias_to_its_side(offset, side):
    report = of(*pairs(offset=offset))
    assert report.verdict.startswith("biased: truths lie 0.")
    assert f"{side} the mean" in report.verdict
    assert "confident" not in report.verdict


def test_what_is_shifted_and_too_narrow_is_both():
    verdict = of(*pairs(offset=0.5, scale=0.6)).verdict
    assert "biased: " in verdict
    assert "; overconfident: " in verdict


def test_draws_of_the_prior_are_calibrated_and_without_skill():
    rng = np.random.default_rng(0)
    report = of(jnp.asarray(rng.normal(size=(100, 300)), "f"), jnp.asarray(rng.normal(size=300), "f"))
    assert report.calibrated
    assert "; no skill seen: CRPS 0.99 of the climatology's" in report.verdict
    np.testing.assert_allclose(report.crps, report.climatology, rtol=0.05)


def test_a_mode_in_which_truths_differ_by_rounding_alone_says_nothing_of_skill():
    draws, truths = pairs(n=50, cases=100, d=(8,))
    still = truths - truths.mean(axis=1, keepdims=True)
    nearly = draws - 0.999 * draws.mean(axis=2, keepdims=True)
    assert "no skill" not in of(nearly, still, basis=sx.Fourier.like).verdict


def test_climatology_is_the_crps_of_the_other_cases():
    draws, truths = pairs(cases=30)
    others = [sx.metrics.crps(np.delete(truths, i)[:, None], truths[i : i + 1])[0] for i in range(30)]
    assert of(draws, truths).climatology[0] == pytest.approx(np.mean(others), rel=1e-5)


@pytest.mark.parametrize(("cases", "d"), [(20, (5,)), (100, ())])
def test_right_draws_are_called_wrong_in_few_reports(cases, d):
    wrong = sum(not of(*pairs(n=40, cases=cases, d=d, seed=seed)).calibrated for seed in range(15))
    # 2 of 100 at most: 3 or more of 15 then have a chance of .003.
    assert wrong < 3


def test_components_that_are_copies_count_as_one():
    def copies(seed):
        draws, truths = pairs(n=40, cases=30, seed=seed)
        return of(jnp.stack([draws] * 4, axis=-1), jnp.stack([truths] * 4, axis=-1)).calibrated

    assert sum(not copies(seed) for seed in range(15)) < 3


def test_one_wrong_component_of_many_is_found_and_named():
    draws, truths = pairs(d=(20,))
    report = of(draws.at[..., 7].multiply(0.0).at[..., 7].add(0.5 * draws[..., 7]), truths)
    assert "in 1 of 20 rows, most of all 7" in report.verdict


def test_shapes_that_are_wrong_with_the_right_mean_and_spread_are_uneven():
    rng = np.random.default_rng(0)
    two = np.where(rng.random((200, 2000)) < 0.5, -1, 1) * 0.95 + 0.3 * rng.normal(size=(200, 2000))
    report = of(jnp.asarray(two, "f"), jnp.asarray(rng.normal(size=2000), "f"))
    assert not report.calibrated
    assert report.sbc_pvalue[0] < 1e-6


def test_right_components_that_are_wrong_together_are_seen_by_tarp():
    rng = np.random.default_rng(0)
    truths = rng.normal(size=(1000, 1)) * np.ones((1, 6))  # six copies of one number
    report = of(jnp.asarray(rng.normal(size=(100, 1000, 6)), "f"), jnp.asarray(truths, "f"))
    assert report.verdict.startswith("wrong together")


def test_fields_are_counted_by_rings_of_waves():
    draws, truths = pairs(cases=40, d=(16,))
    report = of(draws, truths, basis=sx.Fourier.like)
    assert report.names == tuple(f"|k| = {b}" for b in range(9))
    rows = np.abs(np.fft.rfft(draws.mean(axis=0) - truths, norm="ortho"))
    # Real and imaginary parts are two numbers, but for the mean and the shortest wave.
    parts = np.array([1, *[2] * 7, 1])
    np.testing.assert_allclose(report.skill, np.sqrt(np.mean(rows**2, axis=0) / parts), rtol=1e-4)


def test_a_ring_that_is_too_narrow_is_named():
    draws, truths = pairs(cases=200, n=50, d=(8, 8))
    mean = draws.mean(axis=0, keepdims=True)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(8, 1 / 8), np.arange(5), indexing="ij"))
    narrow = np.fft.rfft2(draws - mean) * np.where(np.floor(k) == 3, 0.5, 1)
    report = of(jnp.asarray(mean + np.fft.irfft2(narrow), "f"), truths, basis=sx.Fourier.like)
    assert "overconfident" in report.verdict
    assert "most of all |k| = 3" in report.verdict


def test_channels_have_rings_of_their_own():
    draws, truths = pairs(cases=20, d=(8, 2))
    report = of(draws, truths, basis=lambda x: sx.Fourier.like(x, axes=(0,)))
    assert report.names[:2] + report.names[-1:] == ("|k| = 0, channel 0", "|k| = 1, channel 0", "|k| = 4, channel 1")


def test_what_all_draws_know_has_no_row():
    draws, truths = pairs(cases=50, d=(2,))
    known = of(
        jnp.concatenate([draws, jnp.broadcast_to(truths[:, :1], (100, 50, 1)), jnp.full((100, 50, 1), 3.0)], axis=-1),
        jnp.concatenate([truths, truths[:, :1], jnp.full((50, 1), 3.0)], axis=-1),
    )
    assert known.names == ("0", "1")
    assert known.determined == ("2", "3")
    assert known.calibrated
    assert "2 known without spread: 2, 3" in repr(known)


def test_draws_without_spread_that_miss_are_said_to():
    truths = pairs(cases=50)[1]
    report = of(jnp.broadcast_to(truths + 0.1 * jnp.sin(7 * truths), (100, 50)), truths)
    assert "overconfident: draws do not spread, and miss by 0.0" in report.verdict


def test_a_truth_that_is_far_from_its_draws_is_named_though_ranks_do_not_see_it():
    draws, truths = pairs()
    report = of(draws, truths.at[7].add(40.0))
    assert report.calibrated
    assert np.flatnonzero(report.deviations > 10) == [7]
    far = "1 of 300 truths lie more than 10 deviations of their draws from these, up to 38.7 (cases 7)"
    assert repr(report).splitlines()[-1] == far
    assert "deviations of their draws" not in repr(of(draws, truths))


def test_the_report_prints_a_table():
    draws, truths = pairs(d=(30,))
    lines = repr(of(draws, truths)).splitlines()
    assert lines[1] == "300 cases, 100 draws each; TARP p " + lines[1].split()[-1]
    assert "spread/error" in lines[2]
    assert lines[-2].startswith("all  ")
    assert lines[-1] == "(24 of 30 rows, those whose coverage is furthest off)"


# Bad input


@pytest.mark.usefixtures("as_users_run")
def test_the_forward_process_is_no_posterior():
    with pytest.raises(TypeError, match=r"needs the posterior's equation, `-P \+ 2\*s \+ g`; got `dx"):
        sx.calibrate(PROCESS.P + PROCESS.g, held_out(40, 0), key=jr.key(0))  # pyright: ignore


@pytest.mark.usefixtures("as_users_run")
def test_an_equation_without_noise_is_no_posterior():
    with pytest.raises(TypeError, match="needs the posterior's equation"):
        sx.calibrate(-PROCESS.P + PROCESS.s, held_out(40, 0), key=jr.key(0))  # pyright: ignore


@pytest.mark.usefixtures("as_users_run")
def test_arrays_are_no_trajectories():
    with pytest.raises(TypeError, match="needs `Trajectories` with known starts; got ArrayImpl"):
        sx.calibrate(-PROCESS.P + 2 * PROCESS.s + PROCESS.g, jnp.zeros((40, 41)), key=jr.key(0))  # pyright: ignore


def test_too_few_trajectories_are_counted():
    with pytest.raises(ValueError, match="needs at least 20 trajectories; got 7"):
        calibrate(cases=7)


def test_too_few_draws_are_counted():
    with pytest.raises(ValueError, match="`n` must be at least 20"):
        sx.calibrate(-PROCESS.P + 2 * PROCESS.s + PROCESS.g, held_out(40, 0), key=jr.key(0), n=5)


def test_trajectories_with_times_of_their_own_are_refused():
    paths = held_out(40, 0)
    own = np.stack([TS * (1 + 0.01 * i) for i in range(40)])
    with pytest.raises(ValueError, match="calibrate those that share theirs"):
        sx.calibrate(-PROCESS.P + 2 * PROCESS.s + PROCESS.g, sx.Trajectories(paths.x, own), key=jr.key(0))


def test_times_that_end_elsewhere_are_refused():
    with pytest.raises(ValueError, match="last time to their first, 1 to 0; got 1 to 0.1"):
        calibrate(how={"ts": np.linspace(1, 0.1, 10)})


def test_a_score_that_was_never_trained_is_named():
    P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.5)
    paths = sx.simulate(
        P + g, jnp.asarray(np.random.default_rng(0).normal(size=100), "f"), np.linspace(0, 1, 6), key=jr.key(0)
    )
    s = sx.Score(sx.nn.MLP(widths=(4,), out_scale=5.0, key=jr.key(1)), g)
    report = sx.calibrate(-P + 2 * s + g, paths, key=jr.key(2), n=20)
    assert not report.calibrated
    assert report.advice.startswith("Its weights remember no training: `fit` returns the trained score")
