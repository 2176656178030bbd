"""Metrics against closed forms: what each is for distributions whose answer is known."""

import math
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from smdpx import metrics

K0, K1, K2, K3 = jr.split(jr.key(0), 4)


def cdf(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def pdf(z):
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def mean_abs(mean, deviation):
    """E|Z| of a normal Z."""
    z = mean / deviation
    return deviation * (2 * pdf(z) + z * (2 * cdf(z) - 1))


# Q


@pytest.mark.parametrize(
    ("points", "q"),
    [
        ([-1.0, 1.0], 1.0),
        ([1.0, 1.0], 0.0),
        ([-0.91, 1.09], 1.0),
        ([-0.89, 1.0], 0.0),
        ([-1.0, 1.0, 1.0, 1.0], 0.5),
        ([-1.0, 1.0, math.nan, math.inf], 0.5),
    ],
)
def test_q_counts_the_rarer_mode(points, q):
    assert metrics.posterior_metric_q(jnp.array(points)) == q


def test_q_takes_any_number_of_modes():
    points = jnp.array([0.0, 0.0, 2.0, 5.0])
    assert metrics.posterior_metric_q(points, modes=(0.0, 2.0, 5.0)) == 0.75


def test_q_of_fair_draws_is_as_documented():
    draws = np.sign(np.asarray(jr.uniform(K0, (200, 1000))) - 0.5)
    qs = np.array([metrics.posterior_metric_q(row) for row in draws])
    assert qs.mean() == pytest.approx(0.975, abs=0.004)
    assert qs.std() == pytest.approx(0.019, abs=0.007)


def test_q_refuses_states_that_are_no_scalars():
    with pytest.raises(ValueError, match=r"`x0` must be scalar states.*\(5, 2\)"):
        metrics.posterior_metric_q(jnp.ones((5, 2)))


# Distances


def test_wasserstein_of_a_shift_is_the_shift():
    a = jr.normal(K0, (500,))
    assert metrics.wasserstein1(a, a + 0.7) == pytest.approx(0.7, abs=1e-6)


def test_wasserstein_of_two_normals_is_the_shift():
    a, b = jr.normal(K0, (20_000,)), 3 + jr.normal(K1, (10_000,))
    assert metrics.wasserstein1(a, b) == pytest.approx(3, abs=0.05)


def test_wasserstein_of_a_shift_in_several_dimensions_is_as_documented():
    a, d = jr.normal(K0, (200, 2, 3)), 6
    shrink = math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    distance = metrics.wasserstein1(a, a + 1, key=K1, directions=1000)
    assert distance == pytest.approx(math.sqrt(d) * shrink, rel=0.06)


def test_wasserstein_asks_for_a_key_in_several_dimensions():
    with pytest.raises(ValueError, match=r"`key` is needed.*here 2"):
        metrics.wasserstein1(jnp.ones((3, 2)), jnp.ones((3, 2)))


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 1.0), (0.0, 2.0), (0.5, 0.5)])
def test_energy_distance_of_two_normals(shift, scale):
    a, b = jr.normal(K0, (4000,)), shift + scale * jr.normal(K1, (3000,))
    truth = 2 * mean_abs(shift, math.hypot(1, scale)) - mean_abs(0, math.sqrt(2)) - mean_abs(0, scale * math.sqrt(2))
    assert metrics.energy_distance(a, b) == pytest.approx(truth, abs=0.03)


def test_energy_distance_is_unbiased():
    pairs = jr.normal(K0, (400, 2, 5))
    mean = np.mean([metrics.energy_distance(a, b) for a, b in np.asarray(pairs)])
    # With equal indices left in, it would be E|X - X'| · 2/5 = .45.
    assert mean == pytest.approx(0, abs=0.05)


def test_energy_distance_sees_dependence_between_components():
    a = jr.normal(K0, (1000, 2))
    same = jnp.stack([a[:, 0], a[:, 0]], axis=1)
    assert metrics.energy_distance(jr.normal(K1, (1000, 2)), same) > 0.05


def test_energy_distance_of_double_precision_does_not_see_the_origin():
    a, b = np.random.default_rng(0).normal(size=(2, 200, 1)) + np.array([[[0.0]], [[1.0]]])
    assert metrics.energy_distance(a + 1e8, b + 1e8) == pytest.approx(metrics.energy_distance(a, b), rel=1e-4)


def test_energy_distance_in_blocks_equals_one_block():
    from smdpx.metrics._common import distance_sums

    a, b = np.asarray(jr.normal(K0, (37, 3))), np.asarray(jr.normal(K1, (11, 3)))
    assert np.allclose(distance_sums(a, b, block=100), distance_sums(a, b), rtol=1e-6)


def test_c2st_of_one_distribution_is_a_half():
    a, b = jr.normal(K0, (2, 400, 2))
    assert metrics.c2st(a, b, key=K1) == pytest.approx(0.5, abs=0.06)


def test_c2st_of_a_shift_is_the_best_possible_accuracy():
    a, b = jr.normal(K0, (2, 1500))
    assert metrics.c2st(a, b + 1, key=K1, folds=3) == pytest.approx(cdf(0.5), abs=0.03)


def test_c2st_needs_equally_many():
    with pytest.raises(ValueError, match="equally many.*got 20 and 30"):
        metrics.c2st(jnp.ones(20), jnp.ones(30), key=K0)


@pytest.mark.parametrize("name", ["wasserstein1", "energy_distance", "c2st"])
class TestDistances:
    def call(self, name, a, b):
        extra = {} if name == "energy_distance" else {"key": K0}
        return getattr(metrics, name)(a, b, **extra)

    def test_take_numpy_in_double_precision(self, name):
        a = np.linspace(0, 1, 30)
        assert isinstance(self.call(name, a, a + 5), float)

    def test_refuse_what_has_exploded(self, name):
        with pytest.raises(ValueError, match="`b` must be finite, got 1 of 30"):
            self.call(name, jnp.ones(30), jnp.ones(30).at[3].set(jnp.nan))

    def test_refuse_nothing(self, name):
        with pytest.raises(ValueError, match="`a` must hold at least"):
            self.call(name, jnp.ones((0, 2)), jnp.ones((30, 2)))

    def test_refuse_states_of_different_shapes(self, name):
        with pytest.raises(ValueError, match=r"same shape.*\(2,\) and \(3,\)"):
            self.call(name, jnp.ones((30, 2)), jnp.ones((30, 3)))


@pytest.mark.parametrize("module", ["scipy.stats", "sklearn.model_selection"])
def test_missing_packages_are_named_with_the_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    name = "wasserstein1" if module == "scipy.stats" else "c2st"
    with pytest.raises(ImportError, match=r"pip install \"smdpx\[metrics\]\""):
        getattr(metrics, name)(jnp.ones(30), jnp.ones(30), key=K0)


# Scores


@pytest.mark.parametrize("y", [0.0, 0.5, -3.0])
def test_crps_of_a_normal(y):
    truth = y * (2 * cdf(y) - 1) + 2 * pdf(y) - 1 / math.sqrt(math.pi)
    draws = jr.normal(K0, (20_000,))
    assert float(metrics.crps(draws, jnp.array(y))) == pytest.approx(truth, abs=0.03)


def test_crps_is_the_mean_over_pairs():
    x, y = jr.normal(K0, (7, 3)), jr.normal(K1, (3,))
    pairs = jnp.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * 7 * 6)
    expected = jnp.abs(x - y[None]).mean(0) - pairs
    assert jnp.allclose(metrics.crps(x, y), expected, atol=1e-6)


def test_crps_does_not_depend_on_the_number_of_draws():
    y, x = jr.normal(K0, (20_000,)), jr.normal(K1, (2, 20_000))
    # Draws and truths are of one normal: E|X - y| / 2 = 1/√π.
    assert metrics.crps(x, y).mean() == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_crps_of_half_precision_counts_any_number_of_draws(dtype):
    x = jr.normal(K0, (3000,)).astype(dtype)
    wide = metrics.crps(x.astype(jnp.float32), jnp.zeros(()))
    assert float(metrics.crps(x, jnp.zeros((), dtype))) == pytest.approx(float(wide), rel=1e-6)


def test_covered_is_the_share_of_calibrated_draws_for_any_number_of_them():
    for m, level in ((19, 0.9), (20, 0.9), (7, 0.5)):
        x = jax.random.normal(jax.random.key(m), (m + 1, 20_000))
        assert np.mean(metrics.covered(x[1:], x[0], level)) == pytest.approx(level, abs=0.01)


def test_what_does_not_vary_is_covered():
    assert metrics.covered(np.ones((19, 3)), np.ones(3)).all()


def test_so_few_draws_have_no_such_interval():
    with pytest.raises(ValueError, match=r"9 draws have intervals of a level in \(0, 0.8\], got `level` = 0.9"):
        metrics.covered(np.arange(9.0), np.array(4.0))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_spread_over_error_is_the_scale_of_the_spread(scale):
    x = np.asarray(jax.random.normal(jax.random.key(1), (6, 20_000)))
    middle = x[1:].mean(axis=0)
    draws = {"a": middle + scale * (x[1:] - middle)}
    # The mean's error holds the draws' own, 1 + 1/m, whatever their spread.
    assert metrics.spread_over_error(draws, {"a": x[0]})["a"] == pytest.approx(scale, rel=0.02)


def test_energy_score_of_one_component_is_crps():
    x, y = jr.normal(K0, (6, 4, 1)), jr.normal(K1, (4, 1))
    score = metrics.energy_score(x, y)
    assert score.shape == (4,)
    assert jnp.allclose(score, metrics.crps(x, y)[:, 0], atol=1e-6)


def test_energy_score_prefers_the_right_dependence():
    z = jr.normal(K0, (101, 500, 1))
    dependent = jnp.concatenate([z, z], axis=2)
    independent = jr.normal(K1, (100, 500, 2))
    right = metrics.energy_score(dependent[1:], dependent[0]).mean()
    assert right + 0.02 < metrics.energy_score(independent, dependent[0]).mean()


# Calibration: truths and draws, given one parameter of each case, are of one normal.


def calibrated(spread=1.0, bias=0.0, cases=1000, draws=49):
    centre, truth = jr.normal(K0, (2, cases, 2))
    noise = jr.normal(K1, (draws, cases, 2))
    return centre[None] + spread * noise + bias, centre + truth


def test_ranks_of_hand_made_draws():
    draws = jnp.array([[0.0, 1.0, 2.0]]).T
    for truth, rank in [(-1.0, 0), (0.5, 1), (1.5, 2), (9.0, 3)]:
        assert metrics.sbc_ranks(draws, jnp.array([truth])).tolist() == [rank]


def test_ranks_of_calibrated_draws_are_uniform():
    ps = metrics.sbc_pvalue(metrics.sbc_ranks(*calibrated()), 49)
    assert ps.shape == (2,)
    assert float(ps.min()) > 0.01


@pytest.mark.parametrize("wrong", [{"spread": 0.6}, {"spread": 1.6}, {"bias": 0.4}])
def test_ranks_of_wrong_draws_are_not_uniform(wrong):
    ps = metrics.sbc_pvalue(metrics.sbc_ranks(*calibrated(**wrong)), 49)
    assert float(ps.max()) < 1e-6


def test_rank_pvalues_are_themselves_uniform():
    # 48 ranks in 10 bins: the bins are unequal, and the test must know it.
    ps = metrics.sbc_pvalue(jr.randint(K0, (500, 400), 0, 48), 47, bins=10)
    assert float(jnp.mean(ps < 0.1)) == pytest.approx(0.1, abs=0.045)
    assert float(jnp.mean(ps)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("ranks", "bins", "message"),
    [
        (jnp.arange(100), None, "`ranks` must be in 0 ... draws = 9, got 0 ... 99"),
        (jnp.arange(10), 5, "at least 5 cases a bin"),
        (jnp.arange(10), 11, "`bins` must be in 2 ... draws"),
    ],
)
def test_rank_pvalue_refuses(ranks, bins, message):
    with pytest.raises(ValueError, match=message):
        metrics.sbc_pvalue(ranks, 9, bins=bins)


def test_tarp_of_calibrated_draws_is_the_diagonal():
    alpha, coverage = metrics.tarp(*calibrated(), key=K2)
    assert jnp.abs(coverage - alpha).max() < 0.045


def test_tarp_is_exact_for_few_draws():
    alpha, coverage = metrics.tarp(*calibrated(cases=20_000, draws=1), key=K2)
    assert jnp.abs(coverage - alpha).max() < 0.012


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_tarp_around_far_points_is_the_coverage_of_half_spaces(spread):
    samples, truth = calibrated(spread, cases=2000, draws=199)
    far = jnp.full_like(truth, 1e3)
    alpha, coverage = metrics.tarp(samples, truth, key=K2, references=far)
    quantiles = jax.scipy.stats.norm.ppf(alpha)
    assert np.abs(coverage - jax.scipy.stats.norm.cdf(spread * quantiles)).max() < 0.03


def test_tarp_sees_a_bias():
    alpha, coverage = metrics.tarp(*calibrated(bias=1.5), key=K2)
    assert jnp.abs(coverage - alpha).max() > 0.08


def test_tarp_needs_references_that_know_the_data_to_find_ignorant_draws():
    centre, truth = jr.normal(K0, (2, 1000, 2))
    prior = math.sqrt(2) * jr.normal(K1, (99, 1000, 2))
    alpha, blind = metrics.tarp(prior, centre + truth, key=K2)
    alpha, seeing = metrics.tarp(prior, centre + truth, key=K2, references=centre)
    assert jnp.abs(blind - alpha).max() < 0.045
    assert jnp.abs(seeing - alpha).max() > 0.1


@pytest.mark.parametrize("name", ["crps", "energy_score", "sbc_ranks", "tarp"])
class TestDraws:
    def call(self, name, samples, truth):
        extra = {"key": K0} if name == "tarp" else {}
        return getattr(metrics, name)(samples, truth, **extra)

    def test_refuse_shapes_that_do_not_match(self, name):
        with pytest.raises(ValueError, match=r"`samples` must be shaped.*\(4, 9\).*\(4,\)"):
            self.call(name, jnp.ones((4, 9)), jnp.ones(4))

    @pytest.mark.parametrize("state", [(), (2,)], ids=["numbers", "vectors"])
    def test_refuse_cases_before_draws_and_say_what_to_write(self, name, state):
        mend = r"\(cases, draws, ...\): write `jnp.moveaxis\(samples, 1, 0\)`"
        with pytest.raises(ValueError, match=mend):
            self.call(name, jnp.ones((4, 9, *state)), jnp.ones((4, *state)))

    def test_refuse_what_has_exploded(self, name):
        with pytest.raises(ValueError, match="`samples` must be finite, got 12 of 12"):
            self.call(name, jnp.full((3, 4), jnp.inf), jnp.ones(4))

    def test_refuse_no_draws(self, name):
        with pytest.raises(ValueError, match="`samples` must hold at least"):
            self.call(name, jnp.ones((0, 4)), jnp.ones(4))


def test_scalar_truths_are_told_how_to_be_one_case():
    with pytest.raises(ValueError, match="`samples\\[:, None\\], truth\\[None\\]`"):
        metrics.sbc_ranks(jnp.ones(5), jnp.array(1.0))


def test_metrics_in_double_precision():
    with jax.enable_x64(True):
        x, y = jnp.linspace(0.0, 1.0, 30).reshape(10, 3), jnp.zeros(3)
        assert metrics.crps(x, y).dtype == jnp.float64
        assert metrics.energy_score(x, y).dtype == jnp.float64


# Under JAX's transformations


@pytest.mark.parametrize(
    "metric",
    [
        lambda x: metrics.crps(x, x[0]),
        lambda x: metrics.crps({"u": x}, {"u": x[0]}),
        lambda x: metrics.covered(x, x[0]),
        lambda x: metrics.spread_over_error(x, x[0]),
        lambda x: metrics.energy_score(x, x[0]),
        lambda x: metrics.energy_distance({"u": x}, {"u": x}),
        lambda x: metrics.wasserstein1(x[0], x[1]),
        lambda x: metrics.c2st(x, x, key=K0),
        lambda x: metrics.sbc_ranks(x, x[0]),
        lambda x: metrics.sbc_pvalue(x[0].astype(int), 9),
        lambda x: metrics.tarp(x, x[0], key=K0),
        lambda x: metrics.posterior_metric_q(x[0]),
        lambda x: metrics.rank_histogram(x[0].astype(int), 9),
        lambda x: metrics.spread_skill(x, x[0]),
        lambda x: metrics.power_spectrum(x),
        lambda x: metrics.score_error(lambda t, x, args: -x, lambda t, x, args: -x, jnp.zeros(20), x),
    ],
)
def test_values_that_are_not_known_yet_are_asked_for_outside(metric):
    with pytest.raises(TypeError, match="look at values.*do not know.*call the metric on what they return"):
        jax.eval_shape(metric, jnp.ones((20, 20)))
