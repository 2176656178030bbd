"""The algebra: drifts are vectors over a direction of time, and what does not belong together says so."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportUnusedExpression=false

import importlib.metadata
import json
import shutil
import subprocess
import sys

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run

P = sx.Drift(lambda t, x, args: -x + t)
Q = sx.Drift(lambda t, x, args: jnp.sin(x), name="Q")
R = sx.ReverseDrift(lambda t, x, args: x**2)
g = sx.Diffusion(0.5)
s = sx.Score(lambda t, x, args: -t * x**3, g)
X = jnp.array([0.3, -1.2, 2.0])


def rate(drift, t=0.7):
    return drift.rate(t, X, None)


def assert_same(a, b):
    assert a.direction is b.direction
    np.testing.assert_allclose(rate(a), rate(b), rtol=1e-6)


# The laws of a vector space


def test_addition_commutes():
    assert_same(P + Q, Q + P)


def test_addition_associates():
    assert_same((-P + s) + R, -P + (s + R))


def test_scaling_distributes_over_sums():
    assert_same(3 * (-P + s), 3 * (-P) + 3 * s)


def test_scaling_distributes_over_numbers():
    assert_same(2 * s + 0.5 * s, 2.5 * s)


def test_scaling_associates():
    assert_same(2 * (3 * s), 6 * s)


def test_one_times_a_drift_is_the_drift():
    assert 1 * P is P


def test_twice_a_drift_is_its_sum_with_itself():
    assert_same(s + s, 2 * s)


def test_division_is_scaling_by_the_reciprocal():
    assert_same(s / 4, 0.25 * s)


def test_subtraction_is_adding_the_reversal():
    assert_same(P - s, P + (-s))
    assert_same(s - P, s + (-P))


def test_minus_twice_is_the_identity():
    back = -P
    assert -back is P
    flow = -(P - s)
    assert_same(-flow, P - s)


def test_minus_distributes_over_sums():
    assert_same(-(-P + s), P - s)


def test_minus_is_not_a_scaling_by_minus_one():
    assert (-1 * P).direction is sx.Forward
    assert (-P).direction is sx.Reverse
    assert_same(-1 * (-P), -(-1 * P))


def test_sums_stay_flat_and_gather_like_terms():
    assert str(2 * (-P + (s + R)) + s) == "dx = [-2·P(x) + 3·½g²·s(t, x) + 2·R(x)] dτ"


def test_the_rate_of_a_combination_is_the_combination_of_the_rates():
    rng = np.random.default_rng(0)
    for a, b, c, d in rng.normal(size=(8, 4)):
        combination = a * (b * (-P) + c * s) + d * R
        expected = a * (-b * rate(P) + c * rate(s)) + d * rate(R)
        np.testing.assert_allclose(rate(combination), expected, rtol=1e-4, atol=1e-5)


def test_the_score_counts_in_halves_of_g_squared():
    np.testing.assert_allclose(rate(s), 0.5 * 0.5**2 * (-0.7 * X**3), rtol=1e-6)


def test_an_increment_is_rate_times_time():
    np.testing.assert_allclose((-P + 2 * s).increment(0.7, X, 0.1, None), 0.1 * rate(-P + 2 * s), rtol=1e-6)


# Directions


@pytest.mark.parametrize(
    ("equation", "direction"),
    [
        (P, sx.Forward),
        (-P, sx.Reverse),
        (R, sx.Reverse),
        (-R, sx.Forward),
        (s, sx.Reverse),
        (P - s, sx.Forward),
        (-P + s, sx.Reverse),
        (R + 2 * s, sx.Reverse),
        (P + g, sx.Forward),
        (-P + 2 * s + g, sx.Reverse),
    ],
    ids=str,
)
def test_every_equation_has_a_direction(equation, direction):
    assert equation.direction is direction


def test_a_diffusion_makes_an_sde_from_either_side_and_anywhere_in_a_sum():
    for equation in [-P + 2 * s + g, g + (-P + 2 * s), -P + (2 * s + g), (-P + g) + 2 * s, 2 * s + (-P + g)]:
        assert isinstance(equation, sx.SDE)
        assert_same(equation.drift, -P + 2 * s)


def test_pythons_sum_begins_with_nothing():
    assert_same(sum([P, P]), P + P)
    assert_same(sum([-P, 2 * s]), -P + 2 * s)
    with pytest.raises(TypeError):
        1 + P  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


# Coefficients


@pytest.mark.parametrize("c", [2, 2.0, np.float64(2.0), np.float32(2.0), np.int32(2), jnp.asarray(2.0), jnp.asarray(2)])
def test_any_real_scalar_multiplies_from_both_sides(c):
    assert_same(c * s, s + s)
    assert_same(s * c, s + s)


def test_numpys_scalars_do_not_become_arrays():
    assert isinstance(np.float64(2.0) * s, sx.AbstractDrift)
    assert isinstance((np.float64(2.0) * s).summands[0].coefficient, float)


def test_python_numbers_are_stored_as_they_come():
    assert type((2 * s).summands[0].coefficient) is int


def test_a_coefficient_may_be_traced_and_differentiated():
    def value(c):
        return rate(-P + c * s).sum()

    np.testing.assert_allclose(jax.jit(value)(2.0), rate(-P + 2 * s).sum(), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(value)(2.0), rate(s).sum(), rtol=1e-6)


@pytest.mark.parametrize(("make", "traces"), [(float, 3), (jnp.asarray, 1)], ids=["Python floats", "arrays"])
def test_python_coefficients_are_static_and_array_coefficients_are_not(make, traces):
    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=traces)
    def compiled(equation):
        return rate(equation)

    for c in [1.5, 2.0, 2.5]:
        compiled(-P + make(c) * s)
    assert eqx.debug.get_num_traces(compiled) == traces


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "c", [jnp.ones(2), np.ones(2), jnp.array(1j), jnp.array(True)], ids=["jax", "numpy", "complex", "bool"]
)
def test_a_coefficient_is_one_real_number(c):
    with pytest.raises(TypeError, match="one real number"):
        c * s


def test_a_coefficient_is_finite():
    with pytest.raises(ValueError, match="finite; got nan"):
        float("nan") * s


@pytest.mark.parametrize("stranger", ["2", None, [1.0], np.ones(3)], ids=repr)
def test_strangers_are_left_to_python(stranger):
    with pytest.raises(TypeError):
        P + stranger
    with pytest.raises(TypeError):
        stranger + P


# Print


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        (P, "dx = P(x) dt"),
        (-P, "dx = [-P(x)] dτ"),
        (P + g, "dx = P(x) dt + g dW"),
        (R + s, "dx = [R(x) + ½g²·s(t, x)] dτ"),
        (-P + s, "dx = [-P(x) + ½g²·s(t, x)] dτ"),
        (-P + 2 * s + g, "dx = [-P(x) + 2·½g²·s(t, x)] dτ + g dW"),
        (P - s, "dx = [P(x) - ½g²·s(t, x)] dt"),
        (P + -1 * Q, "dx = [P(x) - Q(x)] dt"),
        (-P + 1.5 * s, "dx = [-P(x) + 1.5·½g²·s(t, x)] dτ"),
        (-(2 * P) + jnp.asarray(2.0) * s, "dx = [-2·P(x) + C·½g²·s(t, x)] dτ"),
        (P + sx.Diffusion(lambda t: t), "dx = P(x) dt + g(t) dW"),
    ],
)
def test_equations_print_as_mathematics(equation, text):
    assert str(equation) == text


def test_a_traced_coefficient_prints():
    printed = []
    jax.jit(lambda c: printed.append(str(-P + c * s)) or 0)(2.0)
    assert printed == ["dx = [-P(x) + C·½g²·s(t, x)] dτ"]


# What does not belong together: both sides, and the mend


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: P + s, ["P(x)", "s(t, x)", "-P + s", "P - s"]),
        (lambda: s + P, ["P(x)", "s(t, x)", "-P + s"]),
        (lambda: P + (-Q), ["P(x)", "-Q(x)"]),
        (lambda: (P + g) + s, ["P(x)", "s(t, x)", "-P + s"]),
        (lambda: P - Q, ["P(x) - Q(x)", "reverses time", "(-1) *"]),
        (lambda: -P + s - (P - s) + (P - s), ["2·P(x)", "P(x) - ½g²·s(t, x)", "Write"]),
        (lambda: g + g, ["at most one diffusion", "sqrt(g1**2 + g2**2)"]),
        (lambda: P + g + g, ["at most one diffusion", "sqrt(g1**2 + g2**2)"]),
        (lambda: (P + g) + (Q + g), ["at most one diffusion"]),
        (lambda: -(P + g), ["dx = P(x) dt + g dW", "-P + 2*s + g"]),
        (lambda: -g, ["no sign", "+ g"]),
        (lambda: P - g, ["no sign", "+ g"]),
        (lambda: 2 * (P + g), ["dx = P(x) dt + g dW", "a * P + b * g"]),
    ],
    ids=lambda value: None if callable(value) else value[0],
)
def test_what_does_not_add_names_both_sides_and_the_mend(wrong, words):
    with pytest.raises(TypeError) as error:
        wrong()
    for word in words:
        assert word in str(error.value)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: sx.Drift(3.0), ["`Drift`", "(t, x, args)", "3.0"]),
        (lambda: sx.Drift(lambda x: x), ["`Drift`", "(t, x, args)", "(x)"]),
        (lambda: sx.ReverseDrift(lambda x: x), ["`ReverseDrift`", "(t, x, args)"]),
        (lambda: sx.Score(lambda x: x, g), ["`Score`", "(t, x, args)"]),
        (lambda: sx.Score(lambda t, x, args: x, 0.1), ["`Score`", "0.1", "Diffusion(g)"]),
        (lambda: sx.Diffusion(lambda a, b, c: a), ["`Diffusion`", "(t)"]),
        (lambda: sx.Diffusion("loud"), ["`Diffusion`", "loud"]),
    ],
    ids=lambda value: None if callable(value) else value[0],
)
def test_wrong_parts_are_refused_at_construction(wrong, words):
    with pytest.raises(TypeError) as error:
        wrong()
    for word in words:
        assert word in str(error.value)


def test_pyright_sees_the_wrong_direction_before_it_runs(tmp_path):
    pyright = shutil.which("basedpyright", path=f"{sys.prefix}/bin") or shutil.which("basedpyright")
    if pyright is None:
        pytest.skip("basedpyright is not installed")
    lines = ["-P + 2 * s + g", "P - s", "R + s", "P + s", "P + s + g", "-(P + g) + s"]
    setup = """import smdpx as sx
P, R = sx.Drift(lambda t, x, args: x), sx.ReverseDrift(lambda t, x, args: x)
g = sx.Diffusion(0.1)
s = sx.Score(lambda t, x, args: x, g)
"""
    (tmp_path / "cases.py").write_text(setup + "".join(f"e{i} = {line}\n" for i, line in enumerate(lines)))
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    command = [pyright, "--pythonpath", sys.executable, "--outputjson", "cases.py"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {d["range"]["start"]["line"] - 4 for d in json.loads(answer.stdout)["generalDiagnostics"]}
    assert found == {3, 4}


# Equations are pytrees


def test_equations_are_pytrees_of_their_arrays():
    learned = sx.Score(_Net(jnp.ones(3)), sx.Diffusion(jnp.full(3, 0.2)))
    arrays = jax.tree.leaves(eqx.filter(-P + 2 * learned + learned.g, eqx.is_array))
    assert [leaf.shape for leaf in arrays] == [(3,)] * 3


def test_an_equation_survives_flattening():
    leaves, tree = jax.tree.flatten(-P + 2 * s + g)
    again = jax.tree.unflatten(tree, leaves)
    assert str(again) == str(-P + 2 * s + g)
    assert_same(again.drift, -P + 2 * s)


def test_equations_may_be_made_under_vmap_and_leave_it():
    slopes = jnp.arange(1.0, 4.0)
    batch = eqx.filter_vmap(lambda a: -P + sx.Score(_Net(a), g))(slopes)
    rates = eqx.filter_vmap(rate)(batch)
    for a, got in zip(slopes, rates, strict=True):
        np.testing.assert_allclose(got, rate(-P + sx.Score(_Net(a), g)), rtol=1e-6)


class _Net(eqx.Module):
    a: jax.Array

    def __call__(self, t, x, args):
        return self.a * x


def test_a_drift_of_ones_own_may_call_its_fields_as_it_likes():
    class Mine(sx.AbstractDrift[sx.Forward]):
        net: str
        steps: int
        g: float
        f: None = None

        @property
        def direction(self):
            return sx.Forward

        def rate(self, t, x, args):
            return -self.g * x

    drift = Mine("a net", 3, 1.0)
    x = sx.solve(drift + 0.0 * drift, jnp.ones(2), [0.0, 0.5, 1.0], solver=dfx.Euler())
    np.testing.assert_allclose(x[:, -1], 0.25)


def test_the_version_is_that_of_the_package():
    assert sx.__version__ == importlib.metadata.version("smdpx")
