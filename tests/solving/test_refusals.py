"""What `solve` refuses, of noise, keys and solvers, and how it says that a solve failed."""

# Wrong on purpose.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from tests._problems import as_users_run as as_users_run
from tests._small import KEY, TS, X0, P, g, s

pytestmark = pytest.mark.usefixtures("as_users_run")


# Noise and keys


@pytest.mark.parametrize("bad", [-0.1, np.array([0.1, -0.1]), jnp.array([0.1, -0.1])], ids=["number", "numpy", "jax"])
def test_g_is_not_negative(bad):
    with pytest.raises(ValueError, match="needs g >= 0; got"):
        sx.Diffusion(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.array([np.nan])])
def test_g_is_finite(bad):
    with pytest.raises(ValueError, match="needs a finite g"):
        sx.Diffusion(bad)


@pytest.mark.parametrize("noise", [jnp.ones(4), lambda t: jnp.ones(4)], ids=["array", "function"])
def test_g_fits_the_state(noise):
    with pytest.raises(ValueError, match=r"g of shape \(4,\) does not fit a state of shape \(\)"):
        sx.solve(P + sx.Diffusion(noise), X0, TS, key=KEY)


@pytest.mark.parametrize("noise", [jnp.array(1j), lambda t: jax.lax.complex(0.3, 0.1 * t)], ids=["array", "function"])
def test_g_is_real(noise):
    with pytest.raises(TypeError, match=r"`Diffusion` takes real numbers; .*complex.*`abs\(g\)`"):
        sx.solve(P + sx.Diffusion(noise), X0, TS, key=KEY)


def test_an_sde_needs_a_key():
    with pytest.raises(ValueError, match=r"`dx = P\(x\) dt \+ g dW` has noise: pass `key"):
        sx.solve(P + g, X0, TS)
    with pytest.raises(ValueError, match="has noise: pass `key"):
        sx.simulate(P + g, X0, TS)


@pytest.mark.parametrize(
    "bad",
    [3, jnp.asarray(3), jnp.zeros(5), jnp.zeros(2), jnp.zeros(3, jnp.uint32), jnp.asarray(3, jnp.uint32)],
    ids=["seed", "array", "five", "floats", "three", "number"],
)
def test_a_key_is_a_key(bad):
    with pytest.raises(TypeError, match=r"`key` must be a JAX key; got .*Write `jax.random.key\(0\)`"):
        sx.solve(P + g, X0, TS, key=bad)


def test_a_key_of_the_older_kind_is_one_and_in_numpys_array_is_to_be_jaxs():
    raw = jax.random.PRNGKey(0)
    assert sx.solve(P + g, X0, TS, key=raw).shape == (3, 6)
    with pytest.raises(TypeError, match=r"write `jnp.asarray\(key\)`"):
        sx.solve(P + g, X0, TS, key=np.asarray(raw))


def test_an_ode_takes_no_key():
    with pytest.raises(ValueError, match=r"`dx = P\(x\) dt` has no noise.*drop it, or write.*\+ g"):
        sx.solve(P, X0, TS, key=KEY)


def test_an_ode_takes_no_brownian_path():
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, (3,), KEY)
    with pytest.raises(ValueError, match="no noise.*`brownian_path`"):
        sx.solve(P, X0, TS, brownian_path=path)


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_a_brownian_path_holds_the_noise_of_all_samples(shape):
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, shape, KEY)
    with pytest.raises(ValueError, match=r"noise of shape \(.*, and `x0` has shape \(3,\).*Make it with `shape="):
        sx.solve(P + g, X0, TS, brownian_path=path)


@pytest.mark.parametrize("span", [(0.0, 0.5), (5.0, 6.0)])
def test_a_brownian_path_runs_on_the_solvers_clock(span):
    path = dfx.VirtualBrownianTree(*span, 1e-2, (3,), KEY)
    with pytest.raises(ValueError, match=r"runs from . to .*, and the solve's clock τ .* from 0 to 1"):
        sx.solve(P + g, X0, TS, brownian_path=path)


# Solvers


@pytest.mark.parametrize("solver", [dfx.SRA1(), dfx.ShARK(), dfx.SEA(), dfx.SlowRK()])
def test_a_solver_that_needs_levy_areas_gets_a_path_that_has_them(solver):
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, (3,), KEY)
    with pytest.raises(
        TypeError, match=r"needs .*LevyArea.*has only BrownianIncrement.*levy_area=.*leave `brownian_path` out"
    ):
        sx.solve(P + g, X0, TS, solver=solver, brownian_path=path)


@pytest.mark.parametrize("solver", [dfx.Tsit5(), dfx.Dopri5(), dfx.Kvaerno5(), dfx.KenCarp3()])
def test_a_solver_for_odes_is_refused_on_an_sde(solver):
    with pytest.raises(TypeError, match=r"solves ODEs, and `dx = .* dW` is an SDE.*ShARK"):
        sx.solve(P + g, X0, TS, solver=solver, key=KEY)


@pytest.mark.parametrize("solver", [dfx.ShARK(), dfx.SRA1(), dfx.SEA(), dfx.EulerHeun(), dfx.ItoMilstein()])
def test_a_solver_for_sdes_is_refused_on_an_ode(solver):
    with pytest.raises(TypeError, match=r"solves SDEs, and `dx = P\(x\) dt` has no noise.*Tsit5.*\+ g"):
        sx.solve(P, X0, TS, solver=solver)


def test_a_solver_is_an_object_and_no_string_or_class():
    for solver in ["euler", dfx.Euler]:
        with pytest.raises(TypeError, match="must be a diffrax solver such as"):
            sx.solve(P, X0, TS, solver=solver)


def test_an_equation_is_solved_and_no_function():
    with pytest.raises(TypeError, match="needs an equation such as.*function"):
        sx.solve(lambda t, x, args: x, X0, TS)


def test_adaptive_steps_need_an_error_estimate():
    euler, adapting = dfx.Euler(), dfx.PIDController(rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="`Euler` has no error estimate.*Tsit5"):
        sx.solve(P, X0, TS, solver=euler, stepsize_controller=adapting)


def test_an_implicit_solver_needs_tolerances():
    with pytest.raises(ValueError, match="`Kvaerno3` is implicit and needs tolerances.*PIDController"):
        sx.solve(P, X0, TS, solver=dfx.Kvaerno3())


def test_fixed_steps_are_given_once():
    with pytest.raises(ValueError, match="fixed steps are the intervals of `ts`"):
        sx.solve(P, X0, TS, solver=dfx.Heun(), stepsize_controller=dfx.ConstantStepSize())


def test_saved_times_are_given_once():
    with pytest.raises(ValueError, match="times to save at are `ts`"):
        sx.solve(P, X0, TS, saveat=dfx.SaveAt(ts=jnp.array([0.5])))


@pytest.mark.parametrize(
    ("how", "write"),
    [
        ({"saveat": "all"}, r"`saveat` must be .* such as `diffrax.SaveAt\(t1=True\)`; got 'all'"),
        ({"saveat": True}, "`saveat` must be .* got True"),
        ({"saveat": dfx.SaveAt}, r"`saveat` is the class `SaveAt`.*write `diffrax.SaveAt\(...\)`"),
        ({"stepsize_controller": "pid"}, r"`stepsize_controller` must be .*PIDController\(rtol=1e-4, .*got 'pid'"),
        ({"stepsize_controller": dfx.PIDController}, "`stepsize_controller` is the class `PIDController`"),
        ({"adjoint": dfx.DirectAdjoint}, r"`adjoint` is the class `DirectAdjoint`.*write `diffrax.DirectAdjoint\("),
        ({"equation": P + g, "brownian_path": "x"}, "`brownian_path` must be .*VirtualBrownianTree.* got 'x'"),
    ],
)
def test_options_are_objects_and_no_strings_or_classes(how, write):
    with pytest.raises(TypeError, match=write):
        sx.solve(how.pop("equation", P), X0, TS, **how)


@pytest.mark.parametrize("saveat", [dfx.SaveAt(dense=True), dfx.SaveAt(), dfx.SaveAt(t1=True, dense=True)])
@pytest.mark.parametrize(
    "call",
    [
        lambda saveat: sx.solve(P, X0, TS, saveat=saveat),
        lambda saveat: sx.posterior(-P + 2 * s + g, X0, TS[::-1], 2, key=KEY, saveat=saveat),
    ],
    ids=["solve", "posterior"],
)
def test_what_is_saved_are_states(call, saveat):
    with pytest.raises(ValueError, match=r"`saveat` must save states.*diffrax.diffeqsolve\(sx.terms\("):
        call(saveat)


# Failures of a solve: the reason and the time reached, never NaN


def blow_up(t, x, args):
    return x**2  # from 1 it is infinite at t = 1


@pytest.mark.parametrize(
    ("solver", "reason"),
    [(dfx.Tsit5(), "minimum step size"), (dfx.Kvaerno3(), "minimum step size|diverged")],
    ids=["explicit", "implicit"],
)
def test_an_adaptive_solve_that_fails_gives_reason_and_time(solver, reason):
    controller = dfx.PIDController(rtol=1e-4, atol=1e-6, dtmin=1e-4, force_dtmin=False)
    with pytest.raises(RuntimeError, match=rf"failed on `dx = P\(x\) dt` at t = (0\.99|1\.0)\d*.*({reason})"):
        sx.solve(sx.Drift(blow_up), X0, [0.0, 2.0], solver=solver, stepsize_controller=controller)


def test_a_failure_in_reverse_is_told_in_physical_time():
    controller = dfx.PIDController(rtol=1e-4, atol=1e-6, dtmin=1e-4, force_dtmin=False)
    with pytest.raises(RuntimeError, match=r"at t = 4\.0"):
        sx.solve(sx.ReverseDrift(blow_up), X0, [5.0, 3.0], solver=dfx.Tsit5(), stepsize_controller=controller)


def test_at_fixed_steps_a_sample_that_blows_up_takes_no_other_with_it():
    stiff = sx.Drift(lambda t, x, args: -100 * x**3)
    with pytest.warns(sx.NonFiniteWarning, match=r"1 of 2 solutions .*sample 1"):
        x = sx.solve(stiff, jnp.array([0.1, 10.0]), TS)
    assert np.isfinite(x[0]).all()
    assert not np.isfinite(x[1]).all()
