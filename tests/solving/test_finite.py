"""What is not finite is never returned in silence."""

from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import smdpx as sx

# dx/dτ = x³ reaches infinity at τ = 1/(2 x²): from 2 at once, from .1 never.
CUBE = sx.ReverseDrift(lambda t, x, args: x**3)
g = sx.Diffusion(1e-6)
STILL = 2 * sx.Score(lambda t, x, args: 0 * x, g)
TS, X = np.linspace(1.0, 0.0, 101), jnp.array([0.1, 2.0, -0.2])
KEY = jax.random.key(0)


def test_solve_says_how_many_which_and_from_what_time_on():
    with pytest.warns(sx.NonFiniteWarning, match=r"1 of 3 solutions .*\(sample 1\), from t = 0\.[78]\d* on"):
        sx.solve(CUBE, X, TS)


def test_posterior_says_which_cases():
    with pytest.warns(sx.NonFiniteWarning, match=r"4 of 12 solutions .*\(case 1\): .*SaveAt\(t0=True, steps=True\)"):
        sx.posterior(CUBE + STILL + g, X, TS, 4, key=KEY)


def test_posterior_of_whole_trajectories_says_from_what_time_on():
    with pytest.warns(sx.NonFiniteWarning, match=r"\(case 1\), from t = 0\.[78]\d* on"):
        sx.posterior(CUBE + STILL + g, X, TS, 4, key=KEY, saveat=dfx.SaveAt(t0=True, steps=True))


def test_the_flow_and_langevin_say_it_too():
    with pytest.warns(sx.NonFiniteWarning, match="case 1"):
        sx.point_estimate(CUBE, X, TS)
    with pytest.warns(sx.NonFiniteWarning, match="sample 1"):
        sx.langevin(sx.Score(lambda t, x, args: x**3, g), X, 0.0, step=0.01, steps=100, key=KEY)


def test_finite_but_absurd_is_said():
    # Five steps from 2: 1e22 is finite in single precision, and its square is not.
    cube = sx.ReverseDrift(lambda t, x, args: 10 * x**3)
    with pytest.warns(sx.NonFiniteWarning, match="1 of 2 solutions"):
        x = sx.solve(cube, jnp.array([0.01, 2.0]), np.linspace(1.0, 0.0, 5), solver=dfx.Euler())
    assert float(x[1, -2]) < np.inf


def test_one_nan_of_many_is_said_and_dropped():
    # XLA's maximum over this many numbers leaves NaN out.
    lost = sx.ReverseDrift(lambda t, x, args: jnp.where(x > 1, jnp.nan, 0))
    with pytest.warns(sx.NonFiniteWarning, match=r"1 of 10000 solutions .*\(sample 7777\)"):
        x = sx.solve(lost, jnp.zeros((10_000, 2)).at[7777, 1].set(2.0), [1.0, 0.5, 0.0], saveat=dfx.SaveAt(t1=True))
    kept, dropped = sx.finite(x)
    assert kept.shape == (9_999, 1, 2)
    np.testing.assert_array_equal(dropped, [1])


def test_room_that_diffrax_left_empty_is_no_solution():
    how = {"solver": dfx.Tsit5(), "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)}
    x = sx.solve(CUBE, X[:1], TS, saveat=dfx.SaveAt(steps=True), **how)
    assert jnp.isinf(x).any()


def test_inside_jit_nothing_is_looked_at():
    assert not jnp.isfinite(jax.jit(lambda x: sx.solve(CUBE, x, TS))(X)[1, -1])


# Far beyond the others, in any unit


def explode(unit, xT, **how):
    """Posterior samples where what starts beyond 1 unit grows by 1.3¹⁰⁰, 2e11, and the rest stays."""
    grow = sx.ReverseDrift(lambda t, x, args: jnp.where(jnp.abs(x) > unit, 30 * x, 0))
    noise = sx.Diffusion(1e-6 * unit)
    return sx.posterior(grow + 2 * sx.Score(lambda t, x, args: 0 * x, noise) + noise, xT, TS, 3, key=KEY, **how)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_a_finite_draw_far_beyond_the_others_has_exploded_in_any_unit(unit):
    xT = unit * jnp.array([0.1, 1.3, -0.2, 0.0])
    with pytest.warns(sx.NonFiniteWarning, match=r"3 of 12 solutions .*\(case 1\).*sx\.finite\(samples, xT\)"):
        x = explode(unit, xT)
    assert jnp.isfinite(x).all()
    kept, dropped = sx.finite(x[:, [0, 2, 3]], xT)
    assert kept.shape == (3, 3)
    assert not dropped.any()


def test_whole_trajectories_say_when_they_left_the_others():
    # 1.3^k > 10⁴ from k = 36 steps on.
    with pytest.warns(sx.NonFiniteWarning, match=r"3 of 6 solutions .*\(case 1\), from t = 0\.6[45] on"):
        explode(1.0, jnp.array([0.1, 1.3]), saveat=dfx.SaveAt(t0=True, steps=True), solver=dfx.Euler())


def test_ends_at_zero_are_usual():
    x = explode(1.0, jnp.zeros(4))  # only noise, far beyond 10⁴ · 0
    assert 0 < jnp.abs(x).max() < 1e-4


def test_all_draws_that_grow_alike_have_not_exploded():
    sx.posterior(sx.ReverseDrift(lambda t, x, args: 30 * x) + STILL + g, X, TS, 3, key=KEY)


def test_where_all_is_well_nothing_is_looked_at_again(monkeypatch):
    monkeypatch.delattr("smdpx.solving._finite.exploded")
    explode(1.0, jnp.array([0.1, 0.2]))


# What is left after them


DRAWS = jnp.array([[1.0, 2.0, 3.0], [np.nan, 2.1, 1e10], [1.2, 2.2, -np.inf], [1.3, 2.3, 3.3]])


def test_finite_keeps_the_first_good_draws_of_each_case_and_counts_the_rest():
    kept, dropped = sx.finite(DRAWS)
    np.testing.assert_array_equal(kept, jnp.array([[1.0, 2.0, 3.0], [1.2, 2.1, 3.3]]))
    np.testing.assert_array_equal(dropped, [1, 0, 2])


def test_finite_gives_good_samples_back_as_they_are():
    kept, dropped = sx.finite(DRAWS[:, 1:2])
    np.testing.assert_array_equal(kept, DRAWS[:, 1:2])
    assert not dropped.any()


def test_finite_drops_a_draw_from_all_arrays_of_a_tree_each_in_its_unit():
    tree = {"u": jnp.stack([DRAWS, DRAWS], axis=-1), "v": np.full((4, 3), 1e-8).astype(np.float32)}
    tree["v"][0, 1] = 1.0  # of v, not of u, an explosion
    kept, dropped = sx.finite(tree)
    np.testing.assert_array_equal(dropped, [1, 1, 2])
    np.testing.assert_array_equal(kept["u"][..., 0], jnp.array([[1.0, 2.1, 3.0], [1.2, 2.2, 3.3]]))
    np.testing.assert_array_equal(kept["v"], np.full((2, 3), 1e-8, np.float32))


def test_draws_as_large_as_the_end_states_are_good():
    draws = jnp.array([[1e-6], [2e-6], [1.0]])
    assert sx.finite(draws)[1] == 1
    assert sx.finite(draws, jnp.array([1.0]))[1] == 0


@pytest.mark.filterwarnings("ignore::smdpx.NonFiniteWarning")
def test_finite_keeps_what_posterior_did_not_warn_of():
    xT = jnp.array([0.1, 1.3, -0.2])
    with pytest.raises(ValueError, match=r"All 3 draws of 1 of 3 cases exploded \(case 1\)"):
        sx.finite(explode(1.0, xT), xT)


def test_finite_under_jit_is_an_error():
    with pytest.raises(TypeError, match="`finite` looks at values, which `jax.jit`"):
        jax.jit(sx.finite)(DRAWS)


def test_finite_wants_draws_and_cases():
    with pytest.raises(ValueError, match=r"shape \(draws, cases, ...\).*got \(4,\).*`samples\[:, None\]`"):
        sx.finite(DRAWS[:, 0])


@pytest.mark.parametrize(
    ("samples", "xT", "says"),
    [
        ({"u": DRAWS, "v": DRAWS}, DRAWS[0], r"same structure; got an array of shape \(3,\) for samples that"),
        (DRAWS, {"u": DRAWS[0]}, r"got PyTreeDef\(\{'u': \*\}\) for samples that are an array of shape \(4, 3\)"),
        (DRAWS, [1.0, 2.0, 3.0], r"Of a list of numbers write `jnp.asarray\(xT\)`"),
        (DRAWS, jnp.zeros(0), "`xT` has zero cases"),
    ],
    ids=["an array", "a tree", "a list", "nothing"],
)
def test_finite_wants_the_end_states_of_the_samples(samples, xT, says):
    with pytest.raises(ValueError, match=says):
        sx.finite(samples, xT)


class Tank(eqx.Module):
    """A step that knows when it cannot be taken, and can say so only where numbers are known."""

    def __call__(self, x, dt):
        empty = x.level < dt
        if not isinstance(empty, Tracer) and empty:
            raise RuntimeError(f"the tank is empty at {float(x.level):g}")
        return x._replace(level=jnp.where(empty, jnp.nan, x.level - dt), flow=x.flow)


class Water(NamedTuple):
    level: jax.Array
    flow: jax.Array


@pytest.mark.parametrize("backwards", [False, True])
def test_where_a_step_returns_nan_its_own_code_is_asked_why(backwards):
    P = sx.Drift.from_step(Tank(), reverse=Tank())
    x0, ts = Water(jnp.array([9.0, 2.5]), jnp.ones(2)), [0.0, 1.0, 2.0, 3.0, 4.0]
    why = r"`P\(x\)` says of the step there: RuntimeError: the tank is empty at 0.5"
    if backwards:
        with pytest.warns(sx.NonFiniteWarning, match=rf"1 of 2 .*\(sample 1\), from t = 1 on: {why}\. If it is not"):
            sx.solve(-P, x0, ts[::-1])
    else:
        with pytest.raises(ValueError, match=rf"trajectory 1 at time index 3 \(t = 3\) .* 2 bad states\. {why}\.$"):
            sx.simulate(P, x0, ts)


def test_whoever_meets_such_a_step_tells_what_it_says():
    def step(x, dt):
        long = jnp.abs(dt * x) > 0.5
        if not isinstance(long, Tracer) and long:
            raise ValueError(f"dt = {float(dt):g} is too long")
        return jnp.where(long, jnp.nan, x - dt * x)

    P, g, said = sx.Drift.from_step(step, reverse=sx.negative_step), sx.Diffusion(0.1), "dt = -?1 is too long"
    paths = sx.Trajectories(jnp.ones((20, 3)), [0.0, 1.0, 2.0])
    s = sx.Score(sx.nn.Whitened(sx.nn.MLP(widths=(4,), key=KEY), paths), g)
    with pytest.raises(ValueError, match=rf"a step of dt = 1 is not finite from sample 0, .* ValueError: {said}\.$"):
        sx.check(P, jnp.ones(2), dt=1.0)
    with pytest.raises(sx.FitDiverged, match=rf"at update 0 .* ValueError: {said}\. The last"):
        sx.fit(-P + 2 * s, paths, key=KEY, curriculum=[sx.Stage(updates=2, batch=4)])
    with pytest.warns(sx.NonFiniteWarning, match=rf"6 of 6 .*: `P.x.` says .*: ValueError: {said}\. If it is not"):
        sx.posterior(-P + 2 * s + g, jnp.ones(2), [2.0, 1.0, 0.0], 3, key=KEY)
    with pytest.warns(sx.NonFiniteWarning, match=rf"2 of 2 .*: `P.x.` says .*: ValueError: {said}\. If it is not"):
        sx.point_estimate(-P + 2 * s, jnp.ones(2), [2.0, 1.0, 0.0])
