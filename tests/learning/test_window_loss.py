"""The losses: the unroll that they square, and what they are minimised by."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import OU, as_users_run as as_users_run, double_precision

KEY = jax.random.key(0)
STEP, G = 0.1, 0.5
g = sx.Diffusion(G)
P = sx.Drift(lambda t, x, args: jnp.sin(x) * (1 + t))


def score(a):
    return sx.Score(lambda t, x, args: -a * x * (2 + t), g)


@eqx.filter_jit
def value(loss, equation, windows, key=KEY):
    """A loss in one program, where a call outside of one compiles every operation of its own."""
    return loss(equation, windows, key, None)


def windows(size, batch=5, dtype=jnp.float32, uneven=False):
    """Windows of noise, each with a start of its own."""
    rng = np.random.default_rng(size)
    steps = rng.uniform(0.05, 0.2, (batch, size)) if uneven else np.full((batch, size), STEP)
    t = rng.uniform(size=(batch, 1)) + np.cumsum(steps, axis=1)
    x = rng.normal(size=(batch, size))
    return sx.Windows(jnp.asarray(x, dtype), jnp.asarray(t, dtype), None if uneven else STEP)


def by_hand(w, a, *, ways="back", c=2, weights=None, heun=True):
    """The loss by plain loops over steps: (value, from arrays that numpy or JAX may differentiate)."""
    size = w.t.shape[1]

    def drift(t, x):
        return jnp.sin(x) * (1 + t)

    def rate(t, x):
        return drift(t, x) - c * 0.5 * G**2 * (-a * x * (2 + t))

    def error(order, sign):
        x, total = w.x[:, order[0]], 0.0
        for j, (m, n) in enumerate(zip(order[:-1], order[1:], strict=True)):
            t, dt = w.t[:, m], sign * jnp.abs(w.t[:, n] - w.t[:, m])
            k = rate(t, x)
            x = x + (dt / 2 * (k + rate(w.t[:, n], x + dt * k)) if heun else dt * k)
            total += (1.0 if weights is None else weights[j]) * (x - w.x[:, n]) ** 2
        return total / (size - 1)

    unit = G**2 * jnp.mean(jnp.diff(w.t, axis=1), axis=1)
    back, forth = error(range(size)[::-1], -1), error(range(size), +1)
    return jnp.mean({"back": back, "forth": forth, "both": 0.5 * (back + forth)}[ways] / unit)


# The unroll


@pytest.mark.parametrize(("size", "uneven"), [(2, False), (5, False), (5, True)], ids=["one step", "even", "uneven"])
@pytest.mark.parametrize(
    ("ways", "loss", "equation"),
    [
        ("back", sx.WindowLoss(), lambda a: -P + 2 * score(a)),
        ("forth", sx.WindowLoss(), lambda a: P - 2 * score(a)),
        ("both", sx.TwoWayLoss(), lambda a: -P + 2 * score(a)),
    ],
    ids=["back", "forth", "both"],
)
def test_value_and_gradient_are_the_hand_written_unrolls(ways, loss, equation, uneven, size):
    w = windows(size, uneven=uneven)
    got = jax.jit(jax.value_and_grad(lambda a: loss(equation(a), w, KEY, None)))(0.7)
    expected = jax.jit(jax.value_and_grad(lambda a: by_hand(w, a, ways=ways)))(0.7)
    np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_it_unrolls_by_any_solver():
    w, loss = windows(3), sx.WindowLoss(solver=dfx.Euler())
    np.testing.assert_allclose(value(loss, -P + 2 * score(0.7), w), by_hand(w, 0.7, heun=False), rtol=1e-5)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"weights": [1.0, 2.0]}, r"function of the step j.*list.*`lambda j: jnp.asarray\(table\)\[jnp.int32\(j\)"),
        ({"weights": jnp.ones(2)}, "function of the step j"),
        ({"adjoint": dfx.DirectAdjoint}, "`adjoint` is the class `DirectAdjoint`"),
    ],
)
def test_what_a_window_loss_is_made_of(how, message):
    with pytest.raises(TypeError, match=message):
        sx.WindowLoss(**how)


def test_weights_weigh_the_steps_from_where_the_unroll_starts():
    w = windows(4)
    loss = sx.WindowLoss(weights=lambda j: 1.0 / j**2)
    expected = by_hand(w, 0.7, weights=[1, 1 / 4, 1 / 9])
    np.testing.assert_allclose(value(loss, -P + 2 * score(0.7), w), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "adjoint",
    [dfx.RecursiveCheckpointAdjoint(checkpoints=2), dfx.DirectAdjoint()],
    ids=["few checkpoints", "direct"],
)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_the_adjoint_changes_no_gradient_and_no_noise(adjoint, uneven):
    w = windows(5, uneven=uneven)

    def gradient(loss):
        return jax.jit(jax.grad(lambda a: loss(-P + 2 * score(a) + g, w, KEY, None)))(0.7)

    np.testing.assert_allclose(gradient(sx.WindowLoss(adjoint=adjoint)), gradient(sx.WindowLoss()), rtol=1e-5)


@pytest.mark.parametrize("loss", [sx.WindowLoss(), sx.TwoWayLoss()], ids=["back", "two ways"])
def test_the_gradient_is_that_of_finite_differences(loss):
    with double_precision():
        w, h = windows(5, dtype=jnp.float64), 1e-6

        def value(a):
            return loss(-P + 2 * score(a), w, KEY, None)

        difference = (jax.jit(value)(0.7 + h) - jax.jit(value)(0.7 - h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(value))(0.7), difference, rtol=1e-7)


@pytest.mark.parametrize("size", [20, 40])
def test_long_windows_run_their_steps_again_and_change_no_gradient(size):
    w = windows(size, batch=2)
    value = lambda a: sx.WindowLoss()(-P + 2 * score(a), w, KEY, None)  # noqa: E731
    assert ("remat" in str(jax.make_jaxpr(value)(0.7))) == (size == 40)
    keep = sx.WindowLoss(adjoint=dfx.DirectAdjoint())
    expected = jax.jit(jax.grad(lambda a: keep(-P + 2 * score(a), w, KEY, None)))(0.7)
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.7), expected, rtol=1e-4)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("loss", [sx.WindowLoss, lambda solver: sx.TwoWayLoss(sx.WindowLoss(solver=solver))])
def test_a_solver_that_needs_noise_is_refused_without_noise(loss):
    with pytest.raises(TypeError, match="`ShARK` solves SDEs, and .* has no noise"):
        loss(solver=dfx.ShARK()).check(-P + 2 * score(1.0))
    loss(solver=dfx.ShARK()).check(-P + 2 * score(1.0) + g)
    sx.ImplicitScoreMatching().check(-P + score(1.0))


def called_back(x, dt):
    """A step of -x in NumPy, which JAX cannot differentiate."""
    return jax.pure_callback(
        lambda x, dt: x - dt * x, jax.ShapeDtypeStruct((), x.dtype), x, dt, vmap_method="sequential"
    )


def test_windows_of_two_states_need_no_derivative_of_the_physics():
    P = sx.Drift.from_step(called_back, reverse=sx.mirror)
    Q = sx.Drift.from_step(lambda x, dt: x - dt * x, reverse=sx.mirror)
    of = lambda P: jax.jit(jax.grad(lambda a: sx.WindowLoss()(-P + 2 * score(a), windows(2), KEY, None)))(0.5)  # noqa: E731
    np.testing.assert_allclose(of(P), of(Q), rtol=1e-6)


@pytest.mark.usefixtures("as_users_run")
def test_longer_windows_of_physics_without_a_derivative_are_refused_with_the_reason():
    P = sx.Drift.from_step(called_back, reverse=sx.mirror)
    with pytest.raises(TypeError, match=r"cannot differentiate.*window of 3 states.*Stage\(window=2\)"):
        jax.grad(lambda a: sx.WindowLoss()(-P + 2 * score(a), windows(3), KEY, None))(0.5)


@pytest.mark.usefixtures("as_users_run")
def test_a_rate_without_a_derivative_is_trained_through_eulers_method():
    P = sx.Drift(lambda t, x, args: called_back(x, jnp.ones(())) - x)
    of = lambda loss: jax.grad(lambda a: loss(-P + 2 * score(a), windows(2), KEY, None))(0.5)  # noqa: E731
    with pytest.raises(TypeError, match=r"several stages.*`sx.WindowLoss\(solver=diffrax.Euler\(\)\)`"):
        of(sx.WindowLoss())
    assert jnp.isfinite(of(sx.WindowLoss(solver=dfx.Euler())))


def test_a_noisy_unroll_adds_the_variance_of_its_noise():
    # One step of an SDE: E|x̂ + g dW - x|² / g²dt = |x̂ - x|² / g²dt + 1.
    w = windows(2)
    keys = jax.random.split(KEY, 4000)
    values = jax.jit(jax.vmap(lambda key: sx.WindowLoss()(-P + 2 * score(0.7) + g, w, key, None)))(keys)
    quiet = value(sx.WindowLoss(), -P + 2 * score(0.7), w)
    assert abs(float(values.mean() - quiet - 1)) < 4 * float(values.std()) / 4000**0.5


def test_a_noisy_unroll_is_differentiable():
    with double_precision():
        w, h = windows(4, dtype=jnp.float64), 1e-6
        of = jax.jit(lambda a: sx.WindowLoss()(-P + 2 * score(a) + g, w, KEY, None))
        difference = (of(0.7 + h) - of(0.7 - h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(of))(0.7), difference, rtol=1e-7)


def test_trees_and_components_add_up():
    w = windows(3)
    tree = sx.Windows({"u": w.x, "v": jnp.stack([w.x, w.x], -1)}, w.t, w.step)
    a = 0.7
    P3 = sx.Drift(lambda t, x, args: jax.tree.map(lambda y: P.f(t, y, args), x))
    s3 = sx.Score(lambda t, x, args: jax.tree.map(lambda y: -a * y * (2 + t), x), g)
    # In units of the noise of all components together, so that the value does not grow with their number.
    np.testing.assert_allclose(value(sx.WindowLoss(), -P3 + 2 * s3, tree), by_hand(w, a), rtol=1e-5)


def test_perfect_windows_of_a_deterministic_process_cost_nothing():
    ts = jnp.linspace(0.0, 1.0, 11)
    paths = sx.simulate(P, jnp.linspace(-1.0, 1.0, 8), ts)
    w, _ = paths.source([1]).draw(size=4, stride=1, batch=64, key=KEY)
    assert float(jax.jit(lambda w: sx.WindowLoss()(P, w, KEY, None))(w)) < 1e-10


# Windows


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 2), (6, 2), (11, 1)])
def test_windows_are_pieces_of_trajectories(size, stride):
    ts = jnp.linspace(0.0, 2.0, 11)
    paths = jnp.arange(4.0)[:, None] * 100 + jnp.arange(11.0)[None]
    w, _ = sx.Trajectories(paths, ts).source([stride]).draw(size=size, stride=stride, batch=500, key=KEY)
    index = w.x % 100
    np.testing.assert_array_equal(jnp.diff(index, axis=1), stride)
    np.testing.assert_allclose(w.t, 0.2 * index, rtol=1e-5)
    assert w.step == pytest.approx(0.2 * stride)
    # Every trajectory and every start is drawn, and about equally often.
    np.testing.assert_allclose(np.bincount(np.asarray(w.x[:, 0] // 100, int)) / 500, 0.25, atol=0.08)
    starts = 11 - (size - 1) * stride
    np.testing.assert_allclose(np.bincount(np.asarray(index[:, 0], int)) / 500, 1 / starts, atol=0.06)


# What each loss is minimised by: the exact score beats its multiples, paired on the same windows


def loss_of_multiples(loss, equation, process, ts, size, key=KEY):
    """The loss at .5, 1 and 1.5 times the exact score, per batch: (3, batches)."""
    source = sx.Trajectories(process(20000, ts), ts).source([1])
    keys = jax.random.split(key, 40)

    def one(factor, key):
        w, _ = source.draw(size=size, stride=1, batch=4000, key=key)
        return loss(equation(factor), w, key, None)

    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(jnp.array([0.5, 1.0, 1.5]), keys)


ou = OU(rate=0.5, g=0.8, mean=0.5, var=0.2)
TS = np.linspace(0, 1, 51)


def ou_score(factor):
    return sx.Score(lambda t, x, args: factor * ou.score(t, x), ou.g)


def ou_paths(n, ts):
    return sx.simulate(ou.P + ou.g, ou.start(n, KEY), ts, key=jax.random.key(1)).x


@pytest.mark.parametrize(
    ("loss", "equation", "size"),
    [
        (sx.WindowLoss(), lambda factor: -ou.P + 2 * ou_score(factor), 2),
        (sx.WindowLoss(), lambda factor: -ou.P + 2 * ou_score(factor), 5),
        (sx.TwoWayLoss(), lambda factor: -ou.P + ou_score(factor), 2),
        (sx.ImplicitScoreMatching(), lambda factor: -ou.P + ou_score(factor), 2),
        (sx.SlicedScoreMatching(), lambda factor: -ou.P + ou_score(factor), 2),
    ],
    ids=["one step, C = 2", "window, C = 2", "two ways, C = 1", "ISM", "SSM"],
)
def test_the_exact_score_minimises(loss, equation, size):
    half, exact, more = loss_of_multiples(loss, equation, ou_paths, TS, size)
    for other in (half, more):
        gap = np.asarray(other - exact)
        assert gap.mean() > 5 * gap.std() / len(gap) ** 0.5


def test_the_minimum_is_at_the_exact_score_and_not_beside_it():
    # A parabola through three multiples: its lowest point is at 1.
    for loss, c, ts in [(sx.WindowLoss(), 2, TS), (sx.TwoWayLoss(), 1, TS), (sx.WindowLoss(), 2, TS**1.5)]:
        values = loss_of_multiples(loss, lambda f, c=c: -ou.P + c * ou_score(f), ou_paths, ts, 2).mean(axis=1)
        a, b, _ = np.polyfit([0.5, 1.0, 1.5], np.asarray(values), 2)
        assert -b / (2 * a) == pytest.approx(1.0, abs=0.06)


def test_the_factor_two_in_numbers():
    # Backward windows on coefficient 1 are minimised by twice the score.
    values = loss_of_multiples(sx.WindowLoss(), lambda f: -ou.P + ou_score(f), ou_paths, TS, 2).mean(axis=1)
    a, b, _ = np.polyfit([0.5, 1.0, 1.5], np.asarray(values), 2)
    assert -b / (2 * a) == pytest.approx(2.0, abs=0.12)


def test_forward_windows_alone_learn_no_score():
    values = loss_of_multiples(sx.WindowLoss(), lambda f: ou.P - ou_score(f), ou_paths, TS, 2).mean(axis=1)
    a, b, _ = np.polyfit([0.5, 1.0, 1.5], np.asarray(values), 2)
    assert -b / (2 * a) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("c", [1, 2])
def test_so_a_forward_equation_with_a_score_is_refused_and_both_ways_are_not(c):
    with pytest.raises(ValueError, match=r"`WindowLoss` unrolls .* forwards.*learns no score: train `-P \+ 2\*s`"):
        sx.WindowLoss().check(P - c * score(1.0))
    sx.TwoWayLoss().check(P - c * score(1.0))


def test_a_perfect_one_step_loss_is_about_one():
    _, exact, _ = loss_of_multiples(sx.WindowLoss(), lambda f: -ou.P + 2 * ou_score(f), ou_paths, TS, 2)
    assert float(exact.mean()) == pytest.approx(1.0, abs=0.05)


# Solvers


def test_halved_steps_are_refused_where_noise_is_that_of_whole_ones():
    with pytest.raises(TypeError, match="`HalfSolver` takes steps in halves.*give the solver inside of it"):
        sx.WindowLoss(solver=dfx.HalfSolver(dfx.Euler())).check(-P + 2 * score(1.0) + g)


def test_halved_steps_without_noise_are_twice_as_many():
    w, equation = windows(2), -P + 2 * score(1.0)
    middle = w.t.mean(axis=1, keepdims=True)
    finer = sx.Windows(w.x[:, [0, 0, 1]], jnp.concatenate([w.t[:, :1], middle, w.t[:, 1:]], axis=1), STEP / 2)
    halved = value(sx.WindowLoss(solver=dfx.HalfSolver(dfx.Heun())), equation, w)
    expected = value(sx.WindowLoss(weights=lambda j: jnp.where(j == 2, 1.0, 0.0)), equation, finer)
    assert float(halved) == pytest.approx(float(expected), rel=1e-5)  # the unit of half a step, and half of the states


def test_an_implicit_solver_needs_tolerances_of_its_own():
    with pytest.raises(ValueError, match=r"needs tolerances.*Kvaerno3\(root_finder=diffrax.VeryChord\("):
        sx.WindowLoss(solver=dfx.Kvaerno3()).check(-P + 2 * score(1.0))
    with_its_own = dfx.Kvaerno3(root_finder=dfx.VeryChord(rtol=1e-6, atol=1e-6))
    sx.WindowLoss(solver=with_its_own).check(-P + 2 * score(1.0))


# Units


def loss_of(scale, noise=(0.3, 0.5)):
    """The loss of the zero score on two components, each in a unit of its own."""
    scale, noise = jnp.asarray(scale), jnp.asarray(noise)
    x = scale[None, None] * jnp.cumsum(0.1 * noise[None, None] * jax.random.normal(KEY, (6, 3, 2)), axis=1)
    P, g = sx.Drift(lambda t, x, args: jnp.zeros_like(x)), sx.Diffusion(scale * noise)
    windows = sx.Windows(x, jnp.tile(jnp.array([0.0, 0.01, 0.02]), (6, 1)), 0.01)
    s = sx.Score(lambda t, x, args: jnp.zeros_like(x), g)
    return float(value(sx.WindowLoss(), -P + 2 * s, windows, jax.random.key(1)))


def test_each_component_counts_in_units_of_its_own_noise():
    assert loss_of([1.0, 1.0]) == pytest.approx(loss_of([1e-3, 1e4]), rel=1e-5)


def test_a_component_without_noise_has_no_part():
    alone = loss_of([1.0, 1.0], noise=(0.3, 0.0))
    assert np.isfinite(alone)
    assert alone == pytest.approx(loss_of([1.0, 1e6], noise=(0.3, 0.0)), rel=1e-6)
