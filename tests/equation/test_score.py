"""A score around a dissipation: ∇log p = 2D/g² + r, and what that makes of every equation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

A = sx.Drift(lambda t, x, args: jnp.stack([x[1], -x[0]]), name="A")
D = sx.Drift(lambda t, x, args: -(x**3), name="D")
g = sx.Diffusion(0.5)
X, DT = jnp.array([0.7, -1.2]), 0.1


def net(t, x, args):
    return jnp.sin(x) + t


r = sx.Score(net, g)
s = sx.Score(net, g, around=D)
P = A + D


def rate(equation, t=0.3):
    return np.asarray(equation.rate(t, X, None))


def test_the_reverse_drift_turns_the_rest_round_and_runs_the_dissipation_forward():
    np.testing.assert_allclose(rate(-P + 2 * s), rate(-A) + rate(D) + rate(2 * r), rtol=1e-6)


def test_the_flow_has_no_dissipation_left():
    np.testing.assert_allclose(rate(-P + s), rate(-A) + rate(r), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(rate(P - s), rate(A) - rate(r), rtol=1e-6, atol=1e-7)


def test_it_is_the_same_equation_as_the_whole_score():
    whole = sx.Score(lambda t, x, args: 2 * D.rate(t, x, args) / 0.25 + net(t, x, args), g)
    for C in (1, 2, 0.3):
        np.testing.assert_allclose(rate(-P + C * s), rate(-P + C * whole), rtol=1e-5)
    np.testing.assert_allclose(s(0.3, X), whole(0.3, X), rtol=1e-6)


def test_it_is_printed_as_what_it_is():
    assert str(-P + 2 * s + g) == "dx = [-A(x) + D(x) + 2·½g²·s(t, x)] dτ + g dW"
    assert str(-P + s) == "dx = [-A(x) + ½g²·s(t, x)] dτ"
    assert str(P - s) == "dx = [A(x) - ½g²·s(t, x)] dt"
    assert str(-D + 2 * s) == "dx = [D(x) + 2·½g²·s(t, x)] dτ"


def test_a_reference_that_the_physics_does_not_name_is_printed_beside_it():
    assert str(-A + 2 * s) == "dx = [-A(x) + 2·D(x) + 2·½g²·s(t, x)] dτ"


def test_the_reference_may_be_a_sum():
    both = sx.Score(net, g, around=A + 0.5 * D)
    np.testing.assert_allclose(rate(-P + 2 * both), rate(A) + rate(2 * r), rtol=1e-6, atol=1e-7)


def test_components_without_noise_have_no_reference():
    half = sx.Diffusion(jnp.array([0.5, 0.0]))
    some = sx.Score(net, half, around=D)
    np.testing.assert_allclose(rate(-P + 2 * some)[1], rate(-P)[1])
    np.testing.assert_allclose(rate(-P + 2 * some)[0], rate(-P + 2 * s)[0], rtol=1e-6)
    assert float(some(0.3, X)[1]) == 0


class Relaxing(eqx.Module):
    """A simulator with a number of its own."""

    rate: jax.Array

    def __call__(self, x, dt):
        return x / (1 + self.rate * dt)


def test_of_a_simulators_step_the_forward_step_runs_in_reverse_time():
    # Its reversal would be another step, (1 + dt)x, which the dissipation never takes.
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.negative_step)
    free = sx.Score(net, g)
    around = sx.Score(net, g, around=step)
    change = (-(A + step) + 2 * around).increment(0.3, X, DT, None)
    expected = (-A + 2 * free).increment(0.3, X, DT, None) + X / (1 + DT) - X
    np.testing.assert_allclose(change, expected, rtol=1e-6)
    flow = (-(A + step) + around).increment(0.3, X, DT, None)
    np.testing.assert_allclose(flow, (-A + free).increment(0.3, X, DT, None), rtol=1e-6)


STEP = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=lambda x, dt: x + 7 * dt)
HALF = jnp.array([0.5, 0.0])
NOISE = {"array": lambda: HALF, "function": lambda: lambda t: HALF, "of conditions": lambda: lambda t, args: args["g"]}


@pytest.mark.parametrize("noise", NOISE)
def test_in_components_without_noise_a_step_takes_its_stated_reversal(noise):
    half = sx.Diffusion(NOISE[noise]())
    args, forward = {"g": HALF}, X / (1 + DT) - X
    free = sx.Score(net, half)
    for C, left in ((1, 0), (2, 1), (0.3, -0.7)):
        change = (-STEP + C * sx.Score(net, half, around=STEP)).increment(0.3, X, DT, args)
        learned = (C * free).increment(0.3, X, DT, args)
        np.testing.assert_allclose(change, learned + jnp.array([left * forward[0], 7 * DT]), rtol=1e-5, atol=1e-6)


def test_a_traced_noise_that_is_zero_somewhere_is_no_exception():
    def change(g):
        half = sx.Diffusion(g)
        return (-STEP + 2 * sx.Score(net, half, around=STEP)).increment(0.3, X, DT, None)

    gs = jnp.array([[0.5, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(jax.vmap(change)(gs), jnp.stack([change(g) for g in gs]), rtol=1e-6)


def test_the_mean_of_two_scores_around_one_step_is_that_of_their_remainders():
    first, second = sx.Score(net, g, around=STEP), sx.Score(lambda t, x, args: 3 * x, g, around=STEP)
    flow = -STEP + 0.5 * first + 0.5 * second
    np.testing.assert_allclose(
        flow.increment(0.3, X, DT, None), DT * 0.125 * 0.5 * (net(0.3, X, None) + 3 * X), rtol=1e-5, atol=1e-6
    )


def test_a_steps_reference_survives_jit():
    step = sx.Drift.from_step(lambda x, dt: x / (1 + dt), reverse=sx.negative_step)
    equation = -step + 2 * sx.Score(net, g, around=step)
    inside = eqx.filter_jit(lambda equation, x: equation.increment(0.3, x, DT, None))
    np.testing.assert_allclose(inside(equation, X), equation.increment(0.3, X, DT, None), rtol=1e-6)


def test_outside_of_what_an_ensemble_knows_physics_runs_as_outside_of_one_score():
    class Lost(eqx.Module):
        def __call__(self, t, x, args):
            return net(t, x, args)

        def outside(self, t, x):
            return -jnp.sign(P.rate(t, x, None))

    first, second = sx.Score(Lost(), g), sx.Score(Lost(), g)
    np.testing.assert_allclose(rate(-P + first + second), rate(P), rtol=1e-6)
    np.testing.assert_allclose(rate(-P + 0.5 * first + 0.5 * second), 0, atol=1e-6)


@pytest.mark.parametrize("change", ["rate", "increment"])
def test_the_physics_is_evaluated_once_whoever_asks_for_it(change):
    calls = []

    def counting(t, x, args):
        calls.append(t)
        return -(x**3)

    class Guarded(eqx.Module):
        def __call__(self, t, x, args):
            return net(t, x, args)

        def outside(self, t, x):
            return jnp.array([0.5, 0.0])

    drag = sx.Drift(counting)
    equation = -(A + drag) + 2 * sx.Score(Guarded(), g, around=drag)
    got = equation.rate(0.3, X, None) if change == "rate" else equation.increment(0.3, X, DT, None)
    assert len(calls) == 1
    inside, forward = rate(-P + 2 * s), rate(P)
    want = np.array([0.5 * inside[0] + 0.5 * forward[0], inside[1]])
    np.testing.assert_allclose(got, want if change == "rate" else DT * want, rtol=1e-5)


def test_linear_parts_are_those_of_what_runs():
    class Decay:
        def __call__(self, t, x, args):
            return -3 * x

        def linear(self, t):
            return sx.Diagonal(jnp.full(2, -3.0))

    decay = sx.Drift(Decay())
    equation = -(A + decay) + 2 * sx.Score(net, g, around=decay)
    flow = -(A + decay) + sx.Score(net, g, around=decay)
    for drift, rates in ((equation, -3.0), (flow, 0.0)):
        L = drift.linear(0.3)
        assert L is not None
        np.testing.assert_allclose(L.rates, rates)


def test_a_networks_own_reference_is_left_out():
    class Whole:
        def __call__(self, t, x, args):
            return -1e6 * x + self.remainder(t, x, args)

        def remainder(self, t, x, args, balance=None):
            return net(t, x, args)

    np.testing.assert_allclose(rate(-P + 2 * sx.Score(Whole(), g, around=D)), rate(-P + 2 * s), rtol=1e-6)


def test_langevin_climbs_the_whole_score():
    # Of dx = -x dt + g dW the stationary score is 2P/g²: with the remainder zero, langevin stays in its law.
    decay = sx.Drift(lambda t, x, args: -x)
    stationary = sx.Score(lambda t, x, args: jnp.zeros_like(x), g, around=decay)
    x = 0.125**0.5 * jax.random.normal(jax.random.key(0), (4000,))
    x = sx.langevin(stationary, x, 1.0, step=0.01, steps=50, key=jax.random.key(1))
    assert float(x.var()) == pytest.approx(0.125, rel=0.1)


@pytest.mark.parametrize("inside", [False, True], ids=["outside of jit", "within jit"])
def test_a_copy_of_a_score_cancels_the_same_step(inside):
    # A trained score, or one from a file, is counted from a copy of the physics.
    step = sx.Drift.from_step(Relaxing(jnp.array(1.0)), reverse=sx.negative_step)
    score = sx.Score(net, g, around=step)
    copy = jax.tree.map(lambda leaf: leaf + 0 if eqx.is_array(leaf) else leaf, score)
    assert copy.around is not step
    change = lambda s: (-step + 2 * s).increment(0.3, X, DT, None)  # noqa: E731
    within = jax.jit(lambda: change(copy))() if inside else change(copy)
    np.testing.assert_allclose(within, change(score), rtol=1e-6)
    assert str(-step + 2 * copy) == str(-step + 2 * score)


def test_a_score_around_another_step_cancels_nothing():
    step = sx.Drift.from_step(Relaxing(jnp.array(1.0)), reverse=sx.negative_step)
    other = sx.Score(net, g, around=sx.Drift.from_step(Relaxing(jnp.array(2.0)), reverse=sx.negative_step))
    assert (-step + 2 * other).links == ()


def test_the_trained_score_cancels_the_physics_that_it_was_trained_around():
    step = sx.Drift.from_step(Relaxing(jnp.array(1.0)), reverse=sx.negative_step)
    paths = sx.simulate(step + g, jnp.ones((32, 2)), np.linspace(0, 1, 11), key=jax.random.key(0))
    score = sx.Score(sx.nn.MLP(shape=(2,), widths=(8,), key=jax.random.key(1)), g, around=step)
    trained = sx.fit(-step + 2 * score, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=3)])
    assert (-step + 2 * trained).links == (-step + 2 * score).links != ()


def test_the_trained_score_keeps_its_reference():
    paths = sx.simulate(P + g, jnp.ones((32, 2)), np.linspace(0, 1, 11), key=jax.random.key(0))
    score = sx.Score(sx.nn.MLP(shape=(2,), widths=(8,), key=jax.random.key(1)), g, around=D)
    trained = sx.fit(-P + 2 * score, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=3)])
    assert trained.around is not None
    assert trained.trained is not None


def test_a_reverse_simulator_run_forward_is_a_reference_too():
    R = sx.ReverseDrift(lambda t, x, args: x**3)
    around = R + 2 * sx.Score(net, g, around=-R)
    assert str(around) == "dx = [-R(x) + 2·½g²·s(t, x)] dτ"
    expected = (-R.rate(0.3, X, None)) + 2 * sx.Score(net, g).rate(0.3, X, None)
    np.testing.assert_allclose(around.rate(0.3, X, None), expected, rtol=1e-6)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("around", [-D, g, 2.0], ids=["reversed", "noise", "number"])
def test_a_reference_that_is_no_forward_drift_is_an_error(around):
    with pytest.raises(TypeError, match="takes a forward drift, a part of the physics"):
        sx.Score(net, g, around=around)


@pytest.mark.usefixtures("as_users_run")
def test_a_reference_that_the_equation_does_not_contain_warns():
    P = sx.Drift(lambda t, x, args: -x)
    other = sx.Score(sx.nn.MLP(widths=(4,), key=jax.random.key(1)), g, around=sx.Drift(lambda t, x, args: -2 * x, "D"))
    paths = sx.simulate(P + g, jnp.ones(4), [0.0, 0.5, 1.0], key=jax.random.key(0))
    with pytest.warns(UserWarning, match=r"around D\(x\), which .* does not contain"):
        sx.fit(-P + 2 * other, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=1)])


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("noise", [5e-20, np.float32(1e20), jnp.array([1.0, 1e-25])])
def test_a_noise_whose_square_is_no_number_is_an_error(noise):
    with pytest.raises(ValueError, match=r"needs g², .* no number in float32. Choose units"):
        sx.Score(net, sx.Diffusion(noise))
