"""What inference is given: end states are named in errors, and what one of them costs decides how many run at once."""

# Wrong on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.inference import _posterior
from smdpx.inference._ends import check_ends
from tests._problems import as_users_run as as_users_run

KEY = jax.random.key(0)
TS = np.linspace(1.0, 0.0, 3)
g = sx.Diffusion(1.0)
P = sx.Drift(lambda t, x, args: -x)
ROTATION = sx.Drift(lambda t, x, args: jnp.stack([x[1], -x[0]]))
s = sx.Score(lambda t, x, args: -x, g)


def sample(physics, xT, n=4, score=s, **how):
    return sx.posterior(-physics + 2 * score + g, xT, TS, n, key=KEY, **how)


def point(physics, xT):
    return sx.point_estimate(-physics + s, xT, TS)


# Errors name `xT`, the case, and the mend


@pytest.mark.parametrize("infer", [sample, point])
class TestEndStates:
    def test_one_state_without_the_axis_of_cases(self, infer):
        with pytest.raises(
            ValueError, match=r"`xT` of shape \(2,\) is 2 samples of a scalar state.*write `xT\[None\]`"
        ):
            infer(ROTATION, jnp.ones(2))

    def test_that_are_not_finite(self, infer):
        with pytest.raises(ValueError, match="`xT` is not finite: case 1 is the first of 2"):
            infer(P, jnp.array([0.0, jnp.nan, 1.0, jnp.inf]))

    def test_of_zero_cases(self, infer):
        with pytest.raises(ValueError, match="`xT` has zero cases"):
            infer(P, jnp.zeros((0, 2)))

    @pytest.mark.usefixtures("as_users_run")
    def test_that_are_a_number(self, infer):
        with pytest.raises(TypeError, match=r"`xT` must be arrays.*jnp.asarray\(xT\)\[None\]"):
            infer(P, 0.3)


def test_a_network_of_vectors_given_numbers_says_so_too():
    net = sx.Score(sx.nn.MLP(shape=(2,), widths=(8,), key=KEY), g)
    with pytest.raises(ValueError, match=r"is 2 samples of a scalar state.*`xT\[None\]`"):
        sample(P, jnp.ones(2), score=net)


def test_a_tree_of_states_without_their_axis():
    turn = sx.Drift(lambda t, x, args: {"q": x["p"][::-1], "p": x["q"]})
    with pytest.raises(ValueError, match=r"`\[None\]` for each array in it"):
        sx.point_estimate(-turn, {"q": jnp.ones(2), "p": jnp.ones(2)}, TS)


def test_solve_says_what_a_vector_of_numbers_is():
    with pytest.raises(ValueError, match=r"`P\(x\)` failed at one sample of `x0` .*`x0\[None\]`") as failure:
        sx.solve(ROTATION, jnp.ones(2), TS[::-1])
    assert isinstance(failure.value.__cause__, IndexError)


def test_a_function_that_fails_at_vectors_keeps_its_own_error():
    def broken(t, x, args):
        raise IndexError("my own mistake")

    with pytest.raises(IndexError, match="my own mistake"):
        sx.solve(sx.Drift(broken), jnp.ones((3, 2)), TS[::-1])


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("n", [10.5, 10.0, True, "10"])
def test_the_number_of_samples_is_an_integer(n):
    with pytest.raises(TypeError, match="`n` is a count and must be an integer; got "):
        sample(P, jnp.ones(3), n)


@pytest.mark.usefixtures("as_users_run")
def test_numpys_integers_are_integers():
    assert sample(P, jnp.ones(3), np.int64(3)).shape == (3, 3)


@pytest.mark.usefixtures("as_users_run")
def test_a_point_estimate_of_no_equation_is_an_error():
    with pytest.raises(TypeError, match="`point_estimate` needs a reverse drift.*got str"):
        sx.point_estimate("-P + s", jnp.ones(3), TS)


@pytest.mark.parametrize("saveat", [None, dfx.SaveAt(steps=True)])
@pytest.mark.usefixtures("as_users_run")
def test_one_number_is_no_times(saveat):
    with pytest.raises(ValueError, match=r"`ts` must be a sequence of at least two times; got shape \(\)"):
        sx.posterior(-P + 2 * s + g, jnp.ones(3), 1.0, 4, key=KEY, saveat=saveat)


# How many samples are solved at once


def numbers(net, xT):
    return check_ends(-P + 2 * sx.Score(net, g) + g, xT, None)[1]


def test_a_sample_holds_its_networks_widest_layer():
    net = sx.nn.MLP(shape=(2,), widths=(8, 128), key=KEY)
    assert numbers(net, jnp.ones((5, 2))) == 128


def test_weights_are_held_once_and_not_for_each_sample():
    W = jnp.ones((2, 300))
    assert numbers(lambda t, x, args: (W * W).sum() * x, jnp.ones((5, 2))) == 2


def test_arrays_inside_of_loops_and_branches_count():
    def net(t, x, args):
        wide = jax.lax.fori_loop(
            0, 3, lambda i, y: y + jax.lax.cond(i > 0, lambda: jnp.outer(x, x).sum(), lambda: t), t
        )
        return wide * x

    assert numbers(net, jnp.ones((5, 20))) == 400


def test_a_wider_network_has_smaller_chunks(monkeypatch):
    monkeypatch.setattr(_posterior, "_NUMBERS_AT_ONCE", 1000)
    solved, sizes = _posterior.solved, []

    def spy(equation, xT, *how):
        sizes.append(len(xT))
        return solved(equation, xT, *how)

    monkeypatch.setattr(_posterior, "solved", spy)
    for width, chunk in ((10, 40), (500, 2)):  # 40 is all of it
        sample(P, jnp.ones((4, 2)), 10, sx.Score(sx.nn.MLP(shape=(2,), widths=(width,), key=KEY), g))
        assert set(sizes) == {chunk}
        assert sum(sizes) == 40
        sizes.clear()


def test_what_is_saved_counts_where_it_is_more(monkeypatch):
    monkeypatch.setattr(_posterior, "_NUMBERS_AT_ONCE", 60)
    whole = sample(P, jnp.ones((4, 2)), 10, saveat=dfx.SaveAt(t0=True, steps=True))
    np.testing.assert_array_equal(
        whole, sample(P, jnp.ones((4, 2)), 10, chunk=10, saveat=dfx.SaveAt(t0=True, steps=True))
    )


def test_to_ask_again_traces_nothing():
    calls = []

    def net(t, x, args):
        calls.append(t)
        return -x

    score, counts = sx.Score(net, g), []
    for _ in range(2):
        sample(P, jnp.ones(3), score=score)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
