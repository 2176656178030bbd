"""What newcomers write first, where it is not quite what smdpx wants: each is told what to write."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import Slope, as_users_run as as_users_run
from tests._small import KEY, PATHS, TS, X0, P, fit, g, net, s

pytestmark = pytest.mark.usefixtures("as_users_run")


X2 = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda t, x, args: np.sin(x), "hands an array of JAX's to NumPy.*`jnp.sin` for `np.sin`"),
        (lambda t, x, args: jnp.stack([x[:, 0], x[:, 1]]), r"of shape \(2,\) .*without the leading sample axis"),
        (lambda t, x, args: args["rate"] * x, "If it reads `args`, hand them over"),
        (lambda t, x, args: -x if x[0] > 0 else x, r"asks by `if`.*choose by `jnp.where\(x > 0, a, b\)`"),
    ],
    ids=["NumPy", "a batch", "no args", "if"],
)
def test_physics_that_fails_says_why(f, message):
    with pytest.raises((TypeError, IndexError), match=message):
        sx.solve(sx.Drift(f), X2, TS)


def test_of_physics_that_fails_at_a_number_the_data_are_named_as_they_were_given():
    fails = sx.Drift(lambda t, x, args: jnp.stack([x[0], x[1]]))
    with pytest.raises(ValueError, match=r"one sample of `x0`.*write `x0\[None\]`"):
        sx.solve(fails, X0, TS)
    with pytest.raises(ValueError, match=r"one sample of the trajectories.*\(trajectories, times, components\)"):
        fit(equation=-fails + 2 * net)


def test_a_name_that_physics_asks_for_and_the_states_do_not_have():
    moves = sx.Drift(lambda t, x, args: {"q": x["p"], "p": -x["q"]})
    with pytest.raises(TypeError, match=r"asks for 'p' at one sample of `x0`, which is a dict of 'q', 'v': give"):
        sx.solve(moves, {"q": X0, "v": X0}, TS)


def test_a_step_is_no_rate():
    with pytest.raises(TypeError, match=r"Of a solver's step, \(x, dt\), write `Drift.from_step\(step\)`"):
        sx.Drift(lambda x, dt: x)


def test_trajectories_are_no_end_states():
    with pytest.raises(TypeError, match="write `paths.end`"):
        sx.posterior(-P + 2 * s + g, sx.Trajectories(PATHS, TS), TS[::-1], 2, key=KEY)


def test_states_of_another_shape_than_the_moments():
    paths = sx.Trajectories(jax.random.normal(KEY, (20, 6, 2)), TS)
    score = sx.Score(sx.nn.Whitened(sx.nn.MLP(shape=(2,), widths=(4,), key=KEY), paths), g)
    with pytest.raises(ValueError, match=r"states have shape \(2,\); got one state of shape \(4,\)"):
        sx.solve(-P + score, jnp.ones((3, 4)), TS[::-1])


def test_lists_are_made_arrays():
    with pytest.raises(TypeError, match=r"Write `jnp.asarray\(x0\)`, and for one state"):
        sx.solve(P, [[1.0, 2.0]], TS)


class Swapped(Slope):
    def __call__(self, x, t, args):
        return -self.a * x


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: sx.Drift(lambda x, t, args: -x), "lambda t, x, args"),
        (lambda: sx.ReverseDrift(lambda u, t, args: -u), "lambda t, x, args"),
        (lambda: sx.Score(Swapped(1.0), g), "lambda t, x, args"),
        (lambda: sx.Drift.from_step(lambda dt, x: x), "lambda x, dt"),
        (lambda: sx.Drift.from_step(lambda x, dt: x, lambda dt, x: x), "lambda x, dt"),
        (lambda: sx.Drift.from_step(lambda x, t, dt, args: x), "lambda t, x, dt, args"),
    ],
    ids=["rate", "reverse rate", "network", "step", "reverse step", "step of time"],
)
def test_arguments_that_bear_each_others_names_are_swapped(make, mend):
    with pytest.raises(TypeError, match=rf"in this order; got a function of .*Write `{mend}: ...`"):
        make()


UNSAID = sx.Drift.from_step(lambda x, dt: x + dt * jax.pure_callback(np.negative, jax.ShapeDtypeStruct((), "f"), x))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sx.simulate(UNSAID, X0, TS),
        lambda: fit(equation=-sx.Drift.from_step(UNSAID.step, sx.mirror) + 2 * net),
        lambda: sx.posterior(-sx.Drift.from_step(UNSAID.step, sx.mirror) + 2 * s + g, X0, TS[::-1], 2, key=KEY),
    ],
    ids=["simulate", "fit", "posterior"],
)
def test_a_callback_is_told_what_many_samples_are(call):
    with pytest.raises(TypeError, match=r'vmap_method="broadcast_all".*vmap_method="sequential"'):
        call()


@pytest.mark.parametrize("keys", [jax.random.split(KEY, 3), jax.random.key_data(jax.random.split(KEY, 3))])
@pytest.mark.parametrize(
    "call",
    [
        lambda keys: sx.solve(P + g, X0, TS, key=keys),
        lambda keys: fit(key=keys),
        lambda keys: sx.posterior(-P + 2 * s + g, X0, TS[::-1], 2, key=keys),
        lambda keys: sx.ensemble_smoother(PATHS, PATHS, PATHS[:1], 2, key=keys),
    ],
    ids=["solve", "fit", "posterior", "ensemble"],
)
def test_a_key_is_one_key(call, keys):
    with pytest.raises(TypeError, match=r"must be one JAX key; got 3.*`keys\[0\]`.*jax.vmap"):
        call(keys)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sx.PerSample([1.0, 2.0, 3.0]), r"got a list of 3 numbers. Write `PerSample\(jnp.asarray"),
        (
            lambda: sx.ensemble_smoother(PATHS, PATHS, PATHS[:1], 2, key=KEY, noise=jnp.ones(6)),
            r"`noise` must be one number; got an array of shape \(6,\).*xT / σ, observed / σ",
        ),
    ],
    ids=["rows", "noises"],
)
def test_numbers_and_arrays_are_told_apart(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_langevin_that_explodes_is_given_a_mend_that_it_has():
    with pytest.warns(sx.NonFiniteWarning, match="Take a smaller `step`, or a network with bounded outputs") as said:
        sx.langevin(sx.Score(lambda t, x, args: x**3, g), 10 * X0, 0.0, step=0.1, steps=50, key=KEY)
    assert "saveat" not in str(said[0].message)


@pytest.mark.parametrize(
    ("equation", "mend"),
    [(P, "a stiff solver such as `diffrax.Kvaerno5"), (P + g, "take fixed steps, the intervals of `ts`")],
    ids=["ODE", "SDE"],
)
def test_an_adaptive_solve_out_of_steps_is_given_a_mend_of_its_kind(equation, mend):
    from smdpx.solving._solve import _raise_if_failed

    with pytest.raises(RuntimeError, match=f"loosen the tolerances, or .*{mend}"):
        _raise_if_failed(equation, dfx.ShARK(), dfx.RESULTS.max_steps_reached, 0.5)
