"""jax-cfd's and exponax's equations and steppers as drifts: the same numbers, one dt, and errors in words."""

import subprocess
import sys

import exponax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_cfd.base import equations as finite_volumes, forcings
from jax_cfd.base.boundaries import channel_flow_boundary_conditions, periodic_boundary_conditions
from jax_cfd.base.grids import Grid, GridArray, GridVariable
from jax_cfd.spectral import equations, time_stepping

import smdpx as sx
from smdpx.physics import from_exponax, from_jax_cfd
from tests._problems import as_users_run as as_users_run

N = 16
GRID = Grid((N, N), domain=((0, 2 * np.pi),) * 2)
LINE = Grid((N,), domain=((0, 2 * np.pi),))
KEY = jax.random.key(0)
X = jax.random.normal(KEY, (N, N)) * 0.3
TS = np.array([0.0, 0.1, 0.2])


def made(make, *args, **options):
    """What jax-cfd or exponax makes under JAX's default promotion, which they are written for."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return make(*args, **options)


def velocity(x, bc=None):
    bc = periodic_boundary_conditions(2) if bc is None else bc
    return tuple(GridVariable(GridArray(x[i], offset, GRID), bc) for i, offset in enumerate(GRID.cell_faces))


def repeated(stepper, state, count):
    def loop(state):
        for _ in range(count):
            state = stepper(state)
        return state

    return made(jax.jit(loop), state)


FLOW = made(equations.NavierStokes2D, 0.05, GRID)
FINITE_VOLUMES = finite_volumes.semi_implicit_navier_stokes(density=1.0, viscosity=0.05, dt=0.1, grid=GRID)


# The same numbers


def test_a_spectral_equation_takes_jax_cfds_own_steps_of_any_length():
    modes = repeated(made(time_stepping.crank_nicolson_rk4, FLOW, 0.025), jnp.fft.rfftn(X), 8)
    for ts, substeps in ((TS, 4), ([0.0, 0.2], 8), (np.linspace(0, 0.2, 9), 1)):
        path = sx.solve(from_jax_cfd(FLOW, GRID, substeps=substeps), X[None], ts)[0]
        np.testing.assert_allclose(path[-1], jnp.fft.irfftn(modes), atol=1e-5)


def test_a_spectral_stepper_is_taken_as_it_is():
    stepper = made(time_stepping.crank_nicolson_rk2, FLOW, 0.05)
    P = from_jax_cfd(stepper, GRID, dt=0.05, substeps=2)
    np.testing.assert_allclose(
        sx.solve(P, X[None], TS)[0, -1], jnp.fft.irfftn(repeated(stepper, jnp.fft.rfftn(X), 4)), atol=1e-5
    )


def test_in_one_dimension():
    u = jnp.sin(jnp.linspace(0, 2 * jnp.pi, N, endpoint=False))
    equation = made(equations.KuramotoSivashinsky, LINE)
    stepper = made(time_stepping.crank_nicolson_rk4, equation, 0.01)
    end = sx.solve(from_jax_cfd(equation, LINE), u[None], np.linspace(0, 0.1, 11))[0, -1]
    np.testing.assert_allclose(end, jnp.fft.irfft(repeated(stepper, jnp.fft.rfft(u), 10)), atol=1e-5)


def test_a_finite_volume_stepper_is_taken_as_it_is_with_velocity_as_the_state():
    x = jax.random.normal(KEY, (2, N, N)) * 0.1
    P = from_jax_cfd(FINITE_VOLUMES, velocity(x), dt=0.1, reverse=sx.mirror)
    path = sx.solve(P, x[None], TS)[0]
    expected = repeated(FINITE_VOLUMES, velocity(x), 2)
    np.testing.assert_allclose(path[-1], jnp.stack([v.data for v in expected]), atol=1e-5)


def test_a_forcing_that_jax_cfd_cannot_run_is_a_drift_of_its_own():
    shear = jnp.tile(jnp.sin(jnp.linspace(0, 2 * jnp.pi, N, endpoint=False)), (N, 1))
    x, force = jnp.zeros((2, N, N)), jnp.stack([shear, jnp.zeros_like(shear)])
    P = from_jax_cfd(FINITE_VOLUMES, velocity(x), dt=0.1) + sx.Drift(lambda t, x, args: force)
    np.testing.assert_allclose(sx.solve(P, x[None], [0.0, 0.1])[0, -1], 0.1 * force, atol=1e-6)


def test_an_exponax_stepper_is_taken_as_it_is_with_its_channel_or_without():
    stepper = made(exponax.stepper.NavierStokesVorticity, 2, 2 * np.pi, N, 0.05, diffusivity=0.05)
    expected = repeated(stepper, X[None], 4)
    for substeps, taken in ((2, stepper), (1, made(exponax.RepeatedStepper, stepper, 2))):
        P = from_exponax(taken, substeps=substeps, reverse=sx.mirror)
        np.testing.assert_allclose(sx.solve(P, X[None], TS)[0, -1], expected[0], atol=1e-6)
        np.testing.assert_allclose(sx.solve(P, X[None, None], TS)[0, -1], expected, atol=1e-6)
    assert P.dt == pytest.approx(0.1)


def test_they_simulate_train_and_infer():
    P, g = from_jax_cfd(FLOW, GRID, reverse=sx.mirror), sx.Diffusion(0.1)
    paths = sx.simulate(P + g, jax.random.normal(KEY, (4, N, N)), TS, key=KEY)
    s = sx.Score(sx.nn.DilResNet((N, N), width=4, blocks=1, dilations=(1,), key=KEY), g)
    s = sx.fit(-P + 2 * s, paths, key=KEY, curriculum=[sx.Stage(window=3, updates=2, batch=2)])
    assert sx.posterior(-P + 2 * s + g, paths.end, TS[::-1], 2, key=KEY).shape == (2, 4, N, N)


# Errors


def solve_a_step(P, x=X):
    return sx.solve(P, x[None], [0.0, 0.1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"forcing": made(forcings.simple_turbulence_forcing, GRID)},
            "`semi_implicit_navier_stokes` without `forcing`",
        ),
        (
            {"make": finite_volumes.implicit_diffusion_navier_stokes},
            r"'jax' has no attribute 'tree_map'.* no longer has",
        ),
    ],
    ids=["forcing", "implicit"],
)
def test_what_jax_no_longer_has_is_the_cause_that_is_named(options, message):
    make = options.pop("make", finite_volumes.semi_implicit_navier_stokes)
    stepper = make(density=1.0, viscosity=0.05, dt=0.1, grid=GRID, **options)
    P = from_jax_cfd(stepper, velocity(jnp.zeros((2, N, N))), dt=0.1)
    with pytest.raises(RuntimeError, match=rf"jax-cfd 0.2.1 fails at jax_cfd/base/\w+.py:\d+ .*{message}") as error:
        solve_a_step(P, jnp.zeros((2, N, N)))
    assert error.value.__cause__ is None


def test_boundaries_that_jax_cfd_does_not_know():
    P = from_jax_cfd(FINITE_VOLUMES, velocity(jnp.zeros((2, N, N)), channel_flow_boundary_conditions(2)), dt=0.1)
    with pytest.raises(RuntimeError, match="NotImplementedError.*knows periodic boundaries only"):
        solve_a_step(P, jnp.zeros((2, N, N)))


def test_a_stepper_of_burgers_wants_its_equation():
    equation = made(equations.BurgersEquation, 0.1, LINE)
    P = from_jax_cfd(made(time_stepping.crank_nicolson_rk4, equation, 0.1), LINE, dt=0.1)
    with pytest.raises(RuntimeError, match="give `from_jax_cfd` the equation in place of the stepper"):
        solve_a_step(P, X[0])


def test_an_error_of_the_users_own_forcing_stays_theirs():
    def forcing(grid):
        def force(v):
            raise ZeroDivisionError("mine")

        return force

    equation = made(equations.NavierStokes2D, 0.05, GRID, forcing_fn=forcing)
    with pytest.raises(ZeroDivisionError, match="mine"):
        solve_a_step(from_jax_cfd(equation, GRID))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: from_jax_cfd(FLOW, GRID, dt=0.1),
            ValueError,
            "an equation takes steps of any length, and got `dt=0.1`",
        ),
        (lambda: from_jax_cfd(FINITE_VOLUMES, velocity(jnp.stack([X, X]))), ValueError, "give the same `dt=`"),
        (lambda: from_jax_cfd(FLOW, velocity(jnp.zeros((2, N, N)))), TypeError, "needs to know the state: the .*Grid`"),
        (lambda: from_jax_cfd(FLOW, X), TypeError, "needs to know the state"),
        (lambda: from_jax_cfd(3.0, GRID), TypeError, "takes an equation .* or a stepper.*got float"),
        (lambda: from_jax_cfd(FLOW, Grid((15, 16))), ValueError, r"even number .* the grid has \(15, 16\)"),
        (lambda: from_jax_cfd(FLOW, GRID, substeps=0), ValueError, "`substeps` counts jax-cfd's steps.* got 0"),
        (lambda: solve_a_step(from_jax_cfd(FLOW, GRID), X[:8]), ValueError, r"\(16, 16\); got shape \(8, 16\).*vmap"),
        (
            lambda: solve_a_step(from_jax_cfd(FINITE_VOLUMES, velocity(jnp.zeros((2, N, N))), dt=0.05)),
            ValueError,
            r"accepts only steps of 0.05; `ts` has a step of 0.1",
        ),
        (
            lambda: from_jax_cfd(made(equations.NonlinearSchrodinger, LINE), LINE),
            TypeError,
            "Schrödinger equation is complex",
        ),
        (lambda: from_exponax(lambda u: u), TypeError, "takes an exponax stepper, .*got function without 'dt'"),
    ],
)
def test_what_does_not_fit_is_named_with_the_mend(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_exponax_stepper_names_its_shapes_and_its_dt():
    stepper = made(exponax.stepper.Burgers, 1, 1.0, N, 0.1)
    P = from_exponax(stepper)
    with pytest.raises(
        ValueError, match=r"one field of shape \(1, 16\) or \(16,\); got shape \(2, 16\).*channels in front"
    ):
        solve_a_step(P, X[:2])
    with pytest.raises(ValueError, match="accepts only steps of 0.1; `ts` has a step of 0.2"):
        sx.solve(P, X[:1], [0.0, 0.2])
    with pytest.raises(TypeError, match="Of a forced stepper give `stepper.stepper`"):
        from_exponax(exponax.ForcedStepper(stepper))
    with pytest.raises(ValueError, match="`substeps` counts calls"):
        from_exponax(stepper, substeps=0)


def test_without_jax_cfd_smdpx_imports_and_says_what_to_install():
    code = (
        "import sys; sys.modules['jax_cfd'] = None\n"
        "import jax.numpy as jnp, smdpx as sx\n"
        "sx.physics.Burgers(8).step(0.0, jnp.zeros(8), 0.1)\n"
        "sx.physics.Turbulence(8).step(jnp.zeros((8, 8)), 0.1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "ImportError: jax-cfd is needed here" in done.stderr
    assert 'pip install "smdpx[cfd]"' in done.stderr
