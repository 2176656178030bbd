"""Which parts of an equation a training trains, and that the others stay as they are."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

KEY = jax.random.key(0)
g = sx.Diffusion(0.3)


class Gain(eqx.Module):
    """A network of one number."""

    gain: Any

    def __call__(self, t, x, args):
        return self.gain * x


def gain(x: float) -> Gain:
    return Gain(jnp.asarray(x))


def gain_of(net: Any) -> float:
    return float(net.gain)


# x(t + 1/10) = 1.2 x(t): backwards by Euler's method, a rate of (1/1.2 - 1) 10 = -5/3.
TS = np.linspace(0, 1, 11)
X0 = jax.random.normal(KEY, (64,))
GROWTH = sx.Trajectories(jnp.outer(X0, 1.2 ** jnp.arange(11.0)), TS)
R, s = sx.ReverseDrift(gain(0.0)), sx.Score(gain(0.0), g)
EULER = sx.WindowLoss(solver=dfx.Euler())
ONCE = [sx.Stage(updates=2, batch=8)]


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_surrogate_is_learned_alone():
    stage = sx.Stage(updates=600, learning_rate=0.1)
    trained = sx.fit(R, GROWTH, key=KEY, loss=EULER, curriculum=[stage], average=0.9)
    assert gain_of(trained.f) == pytest.approx(-5 / 3, abs=1e-3)


def test_it_remembers_how_and_is_solved_alike():
    trained = sx.fit(R, GROWTH, key=KEY, loss=EULER, curriculum=ONCE)
    assert trained.trained.solver is dfx.Euler
    assert trained.trained.steps == pytest.approx((0.1, 0.1))
    one_step = sx.solve(trained, jnp.ones(1), [1.0, 0.9])[0, -1]
    assert one_step == pytest.approx(1 + 0.1 * gain_of(trained.f), rel=1e-6)


def test_of_a_surrogate_and_a_score_the_score_is_trained_and_the_surrogate_stays_bit_for_bit():
    equation = R + 2 * s
    trained = sx.fit(equation, GROWTH, key=KEY, curriculum=ONCE)
    assert isinstance(trained, sx.Score)
    assert gain_of(trained.net) != 0
    assert gain_of(R.f) == 0
    named = sx.fit(equation, GROWTH, key=KEY, train=s, curriculum=ONCE)
    assert same(trained, named)


def test_a_surrogate_of_complex_weights_beside_a_score_is_that_of_constants_no_optimiser_reaches():
    paths = sx.Trajectories(jax.random.normal(KEY, (8, 3, 16)), [0.0, 0.1, 0.2])
    frozen = sx.fit(sx.ReverseDrift(sx.nn.FNO(2, 2, ndim=1, key=KEY)), paths, key=KEY, curriculum=ONCE)
    before = [np.array(leaf) for leaf in jax.tree.leaves(frozen)]
    score = sx.Score(sx.nn.FNO(2, 2, ndim=1, key=jax.random.key(1)), g)
    how: Any = {"key": KEY, "loss": EULER, "curriculum": [sx.Stage(updates=50, batch=8)]}
    trained = sx.fit(frozen + 2 * score, paths, **how)
    assert any(leaf.dtype == np.complex64 for leaf in before)
    assert not same(trained.net, score.net)
    assert all(np.array_equal(was, leaf) for was, leaf in zip(before, jax.tree.leaves(frozen), strict=True))
    # What a function closes over is no leaf: had the training moved its surrogate, the score would be another.
    constant = sx.ReverseDrift(lambda t, x, args: frozen.f(t, x, args))
    again = sx.fit(constant + 2 * score, paths, **how)
    assert same(trained, again)


def test_both_at_once_come_back_in_the_order_of_their_names():
    first = sx.fit(R + 2 * s, GROWTH, key=KEY, train=(R, s), curriculum=ONCE)
    second = sx.fit(R + 2 * s, GROWTH, key=KEY, train=[s, R], curriculum=ONCE)
    assert [type(drift) for drift in first] == [sx.ReverseDrift, sx.Score]
    assert all(leaf != 0 for leaf in jax.tree.leaves(first))
    assert same(first, second[::-1])


def test_with_one_name_the_rest_stays():
    still = sx.Score(gain(0.5), g)
    trained = sx.fit(R + 2 * still, GROWTH, key=KEY, train=R, curriculum=ONCE)
    assert isinstance(trained, sx.ReverseDrift)
    assert gain_of(still.net) == 0.5


def test_forward_physics_can_be_learned_too():
    P = sx.Drift(gain(0.0))
    stage = sx.Stage(updates=600, learning_rate=0.1)
    trained = sx.fit(P, GROWTH, key=KEY, train=P, loss=EULER, curriculum=[stage], average=0.9)
    assert gain_of(trained.f) == pytest.approx(2.0, abs=1e-3)


def test_a_step_with_weights_can_be_learned():
    class Step(Gain):
        def __call__(self, x, dt):  # pyright: ignore[reportIncompatibleMethodOverride]
            return self.gain * x

    P = sx.Drift.from_step(Step(jnp.asarray(1.0)), reverse=sx.mirror)
    stage = sx.Stage(updates=600, learning_rate=0.1)
    trained = sx.fit(P, GROWTH, key=KEY, train=P, curriculum=[stage], average=0.9)
    assert trained.step.gain == pytest.approx(1.2, abs=1e-3)


def test_seeds_side_by_side():
    both = eqx.filter_vmap(lambda key: sx.fit(R + 2 * s, GROWTH, key=key, train=(R, s), curriculum=ONCE))
    trained = both(jax.random.split(KEY, 3))
    assert [drift.shape for drift in (trained[0].f.gain, trained[1].net.gain)] == [(3,), (3,)]


def test_a_checkpoint_knows_what_was_trained(tmp_path):
    file = tmp_path / "training"
    sx.fit(R + 2 * s, GROWTH, key=KEY, train=(R, s), curriculum=ONCE, checkpoint=file)
    with pytest.raises(ValueError, match="another train"):
        sx.fit(R + 2 * s, GROWTH, key=KEY, train=(s, R), curriculum=ONCE, checkpoint=file)


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (sx.ReverseDrift(gain(0.0)), r"names R\(x\), which is no drift of .*very objects"),
        ((R, s, R), "twice"),
        ((), "names no drift"),
        (2 * s, "which is no drift of"),
    ],
    ids=["a stranger", "twice", "none", "with its coefficient"],
)
def test_names_that_mean_nothing(train, says):
    with pytest.raises(TypeError, match=says):
        sx.fit(R + 2 * s, GROWTH, key=KEY, train=train, curriculum=ONCE)


def test_what_a_score_is_counted_from_stays():
    D = sx.Drift(gain(-1.0), name="D")
    around = sx.Score(gain(0.0), g, around=D)
    with pytest.raises(TypeError, match=r"D\(x\), which .* is counted from"):
        sx.fit(-D + 2 * around, GROWTH, key=KEY, train=D, curriculum=ONCE)


def test_two_surrogates_need_a_name():
    other = sx.ReverseDrift(gain(0.0), name="Q")
    with pytest.raises(TypeError, match=r"name what is to be trained"):
        sx.fit(R + other, GROWTH, key=KEY, curriculum=ONCE)
    assert isinstance(sx.fit(R + other, GROWTH, key=KEY, train=other, curriculum=ONCE), sx.ReverseDrift)
