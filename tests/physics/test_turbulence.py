"""Turbulence against exact flows, budgets, symmetries and another code; recipes of its data; errors with the mend."""

# exponax's modules have an `__init__` of their own beside their fields.
# pyright: reportCallIssue=false

import equinox as eqx
import exponax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exponax.nonlin_fun import VorticityConvection2d
from jax_cfd.base.grids import Grid
from jax_cfd.spectral import equations

import smdpx as sx
from smdpx.data import gaussian_random_fields, resample
from smdpx.physics import Turbulence, TurbulenceRuns, diagonal_forcing
from tests._problems import as_users_run as as_users_run, double_precision

N = 32
KEY = jax.random.key(0)

# One program each, where a call outside of one compiles every operation of its own.
step = eqx.filter_jit(lambda flow, x, time: flow.step(x, time))
rate = eqx.filter_jit(lambda flow, x: flow(0.0, x))


def field(n=N, std=1.0, key=KEY):
    return std * gaussian_random_fields(1, n, 5, 7 / (2 * np.pi), key=key)[0]


def points(n=N, length=1.0):
    r = np.arange(n) * length / n
    return np.meshgrid(r, r, indexing="ij")


def solved(flow, x, time, steps):
    return step(Turbulence(flow.n, flow.viscosity, flow.forcing, flow.drag, flow.length, steps), x, time)


def distance(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


# Exact flows


def test_a_taylor_green_vortex_decays_in_place():
    x, y = points()
    vortex = jnp.asarray(np.cos(2 * np.pi * x) * np.cos(2 * np.pi * y), float)
    after = step(Turbulence(N, 0.01, forcing=None, drag=0.1, substeps=20), vortex, 0.5)
    np.testing.assert_allclose(after, vortex * np.exp(-0.5 * (0.01 * 8 * np.pi**2 + 0.1)), atol=1e-5)


def test_kolmogorovs_laminar_flow_stands():
    flow = Turbulence.kolmogorov(N, viscosity=0.5)
    laminar = jnp.asarray(-4 * np.cos(4 * points(N, 2 * np.pi)[1]) / (16 * 0.5 + 0.1), float)
    np.testing.assert_allclose(rate(flow, laminar), 0 * laminar, atol=1e-5)
    np.testing.assert_allclose(step(flow, laminar, 0.1), laminar, atol=1e-6)


# The scheme


@pytest.mark.parametrize(("viscosity", "order"), [(1e-5, 4), (3e-2, 2)], ids=["advection", "viscosity"])
def test_its_order_in_dt(viscosity, order):
    with double_precision():
        flow, x = Turbulence(N, viscosity, drag=0.1), field(std=2.0)
        coarse, middle, fine = (solved(flow, x, 0.4, steps) for steps in (4, 8, 16))
        measured = np.log2(distance(coarse, middle) / distance(middle, fine))
    assert measured == pytest.approx(order, abs=0.35)


class _Forced(exponax.stepper.NavierStokesVorticity):
    """exponax's stepper with Li's forcing."""

    def _build_nonlinear_fun(self, derivative_operator):
        return _ForcedConvection(
            2,
            self.num_points,
            convection_scale=self.vorticity_convection_scale,
            derivative_operator=derivative_operator,
            dealiasing_fraction=self.dealiasing_fraction,
        )


class _ForcedConvection(VorticityConvection2d):
    def __call__(self, u_hat):
        return super().__call__(u_hat) + self.fft(diagonal_forcing(*map(jnp.asarray, points()))[None])


def test_exponax_agrees_to_twice_its_own_error_in_time():
    with double_precision():
        x = field()
        # The fraction is such that it keeps the waves below n/3 too, 10 of 32.
        numbers = {"diffusivity": 1e-3, "drag": -0.1, "dealiasing_fraction": 0.7, "vorticity_convection_scale": -1.0}
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            theirs, finer = (
                jax.jit(exponax.repeat(_Forced(2, 1.0, N, 1 / steps, order=4, **numbers), steps))(x[None])[0]
                for steps in (10, 20)
            )
        ours = solved(Turbulence(N, 1e-3, drag=0.1), x, 1.0, 40)
        assert distance(ours, x) > 0.1
        assert distance(ours, theirs) < 2 * distance(theirs, finer)
        assert distance(ours, finer) < 1e-5


def test_jax_cfds_own_kolmogorov_flow_agrees():
    grid = Grid((N, N), domain=((0, 2 * np.pi),) * 2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        equation = equations.ForcedNavierStokes2D(0.02, grid, smooth=True)
    x = resample(resample(field(), 8), N)
    theirs = sx.solve(sx.physics.from_jax_cfd(equation, grid, substeps=5), x[None], [0.0, 0.1])[0, -1]
    np.testing.assert_allclose(theirs, step(Turbulence.kolmogorov(N, 0.02, substeps=5), x, 0.1), atol=1e-4)


def test_the_exponential_solver_takes_the_rate_to_the_same_end():
    flow, x = Turbulence(N, 1e-2), field()
    end = sx.solve(sx.Drift(flow), x[None], np.linspace(0, 0.5, 41), solver=sx.ExponentialHeun())[0, -1]
    assert distance(end, solved(flow, x, 0.5, 40)) < 2e-4


# Budgets and symmetries


def budget(flow, x, change):
    """Rates of energy and enstrophy by a change of the vorticity; what viscosity, drag and forcing give."""
    k = 2 * np.pi * np.fft.fftfreq(N, 1 / N)
    squares = k[:, None] ** 2 + k[None, :] ** 2
    filtered = lambda w, factor: np.fft.ifft2(factor * np.fft.fft2(w)).real  # noqa: E731
    stream, laplacian = filtered(x, 1 / np.where(squares == 0, np.inf, squares)), filtered(x, -squares)
    driven = np.asarray(diagonal_forcing(*map(jnp.asarray, points())))
    # ψ for the energy, since d/dt ½⟨|u|²⟩ = ⟨ψ ∂ω/∂t⟩; ω for the enstrophy.
    given = flow.viscosity * laplacian - flow.drag * x + driven
    return [(np.mean(a * np.asarray(change)), np.mean(a * given)) for a in (stream, x)]


@pytest.mark.parametrize("rough", [False, True], ids=["smooth", "white"])
def test_energy_and_enstrophy_budgets_close(rough):
    with double_precision():
        flow = Turbulence(N, 1e-3, drag=0.1)
        x = jax.random.normal(KEY, (N, N)) if rough else field()
        # By the rate to rounding, since advection keeps both; by the step to its error.
        for change, tolerance in ((rate(flow, x), 1e-10), ((step(flow, x, 1e-3) - step(flow, x, -1e-3)) / 2e-3, 1e-4)):
            for measured, expected in budget(flow, np.asarray(x - x.mean()), change):
                assert measured == pytest.approx(expected, rel=tolerance, abs=1e-12)


def test_the_mean_vorticity_stays_or_is_dragged():
    x = field() + 0.3
    assert float(step(Turbulence(N, substeps=3), x, 0.1).mean()) == pytest.approx(0.3, rel=1e-5)
    dragged = step(Turbulence(N, drag=0.5, substeps=3), x, 0.1).mean()
    assert float(dragged) == pytest.approx(0.3 * np.exp(-0.05), rel=1e-4)


def test_its_symmetries():
    x, free, driven = field(), Turbulence(N, 1e-3, forcing=None, substeps=3), Turbulence(N, 1e-3, substeps=3)
    rotated = lambda w: jnp.roll(jnp.rot90(w), 1, axis=0)  # noqa: E731
    for flow, symmetry in (
        (free, rotated),
        (free, lambda w: -w.T),  # reflection
        (free, lambda w: jnp.roll(w, (3, 5), (0, 1))),
        (driven, lambda w: jnp.roll(w, (3, -3), (0, 1))),  # along the forcing's lines
    ):
        np.testing.assert_allclose(step(flow, symmetry(x), 0.1), symmetry(step(flow, x, 0.1)), atol=1e-5)
    faster = Turbulence(N, 2e-3, forcing=None, substeps=3)
    np.testing.assert_allclose(step(faster, 2 * x, 0.05), 2 * step(free, x, 0.1), atol=2e-5)


def test_the_velocity_has_this_curl_and_no_divergence():
    with double_precision():
        x = resample(resample(field(), 16), N)
        (u, v), k = jax.jit(Turbulence(N, length=3.0).velocity)(x), 2j * np.pi / 3.0 * np.fft.fftfreq(N, 1 / N)
        u, v = np.fft.fft2(u), np.fft.fft2(v)
        curl, divergence = k[:, None] * v - k[None, :] * u, k[:, None] * u + k[None, :] * v
    np.testing.assert_allclose(np.fft.ifft2(curl).real, x, atol=1e-12)
    np.testing.assert_allclose(np.fft.ifft2(divergence), 0, atol=1e-12)


# In equations


def test_a_viscosity_for_each_trajectory_is_as_runs_of_their_own():
    xs, nus = jnp.stack([field(), field(key=jax.random.key(1))]), jnp.array([1e-3, 1e-1])
    P = sx.Drift.from_step(lambda t, x, dt, args: Turbulence(N, args["nu"]).step(x, dt), reverse=sx.mirror)
    paths = sx.simulate(P, xs, [0.0, 0.1, 0.2], args={"nu": sx.PerSample(nus)})
    for x, nu, path in zip(xs, nus, paths.x, strict=True):
        alone = sx.simulate(sx.Drift.from_step(Turbulence(N, float(nu)).step), x[None], [0.0, 0.1, 0.2])
        np.testing.assert_allclose(path, alone.x[0], atol=1e-6)


def test_what_a_check_of_its_step_says():
    x = jnp.stack([field(), field(key=jax.random.key(1))])
    report = sx.check(sx.Drift.from_step(Turbulence(N, 1e-3).step, reverse=sx.negative_step), x, dt=0.1)
    assert report.round_trip is not None
    assert report.round_trip < 1e-2
    assert report.vjp_error is not None
    assert report.vjp_error < 1e-2
    assert report.batch_error < 1e-4


def test_its_viscosity_has_a_gradient():
    with double_precision():
        x = field()
        end = jax.jit(lambda nu: jnp.sum(Turbulence(N, nu, substeps=3).step(x, 0.3) ** 2))
        slope = jax.grad(end)(1e-2)
        assert float(slope) == pytest.approx(float(end(1.01e-2) - end(0.99e-2)) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_states_keep_their_precision(dtype):
    with double_precision():
        flow, x = Turbulence(8, substeps=2), jnp.ones((8, 8), dtype)
        kept = jax.jit(lambda x: (flow(0.0, x), flow.step(x, 0.1), flow.velocity(x)))(x)
        assert [after.dtype for after in kept] == [dtype] * 3


# Data


RECIPE = TurbulenceRuns(n=16, n_solve=N, ts=(0.0, 1.0, 2.0), dt=0.1, viscosity=(1e-4, 1e-2))


def test_a_recipe_makes_trajectories_each_with_its_viscosity():
    paths = RECIPE(KEY, 3)
    nus = paths.args["viscosity"].value
    assert paths.x.shape == (3, 3, 16, 16)
    assert paths.ts.tolist() == [0, 1, 2]
    assert ((nus > 1e-4) & (nus < 1e-2)).all()
    np.testing.assert_array_equal(RECIPE(KEY, 3).x, paths.x)
    # The last alone, from its start: which the recipe has on the finer grid.
    start = 0.1852 * gaussian_random_fields(3, N, 5, 7 / (2 * np.pi), key=jax.random.split(KEY)[0])[2]
    np.testing.assert_allclose(paths.start[2], resample(start, 16), atol=1e-6)
    alone = step(Turbulence(N, nus[2], substeps=20), start, 2.0)
    np.testing.assert_allclose(paths.end[2], resample(alone, 16), atol=1e-5)


def test_what_lies_before_the_first_time_is_not_kept():
    later = TurbulenceRuns(n=16, n_solve=N, ts=(1.0, 2.0), dt=0.1, viscosity=[1e-4, 1e-2])
    np.testing.assert_allclose(later(KEY, 2).x, RECIPE(KEY, 2).x[:, 1:], atol=1e-5)


def test_a_recipe_in_double_precision_and_inside_of_jit():
    with double_precision():
        recipe = TurbulenceRuns(n=8, n_solve=16, ts=(0.0, 0.5), dt=0.1)
        paths = recipe(KEY, 3)
        assert paths.x.dtype == jnp.float64
        # On a CPU each trajectory is solved on a thread of its own, but not where everything is traced.
        np.testing.assert_allclose(jax.jit(lambda key: recipe(key, 3).x)(KEY), paths.x, atol=1e-12)


def test_kolmogorovs_recipe():
    paths = TurbulenceRuns(8, 16, (0.0, 0.1), 0.05, viscosity=0.1, std=1.0, flow="kolmogorov")(KEY, 1)
    start = gaussian_random_fields(1, 16, 5, 7 / (2 * np.pi), key=jax.random.split(KEY)[0])[0]
    expected = step(Turbulence.kolmogorov(16, 0.1, substeps=2), start, 0.1)
    assert paths.args is None
    np.testing.assert_allclose(paths.end[0], resample(expected, 8), atol=1e-5)


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 31}, "even number of points a side, at least 4; got n = 31"),
        ({"n": 2}, "at least 4; got n = 2"),
        ({"n": 8, "viscosity": -1.0}, "viscosity ≥ 0; got -1.0"),
        ({"n": 8, "drag": float("nan")}, "drag ≥ 0; got nan"),
        ({"n": 8, "length": 0.0}, "side length > 0; got 0.0"),
        ({"n": 8, "substeps": 0}, "at least one substep; got 0"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Turbulence(**options)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: Turbulence(N).step(x, 0.1),
        lambda x: Turbulence(N)(0.0, x),
        lambda x: Turbulence(N).velocity(x),
        lambda x: sx.solve(sx.Drift.from_step(Turbulence(N).step), x[None], [0.0, 0.1]),
    ],
)
def test_a_field_of_another_shape_is_named_with_the_mend(call):
    with pytest.raises(
        ValueError, match=r"`Turbulence\(32\)` acts on .* shape \(32, 32\); got shape \(3, 32, 32\).*vmap"
    ):
        call(jnp.zeros((3, N, N)))


def test_a_forcing_has_the_points_shape():
    with pytest.raises(ValueError, match=r"forcing=.*\)` returns a field of shape \(8, 8\).*got shape \(\)"):
        Turbulence(8, forcing=lambda x, y: 1.0).step(jnp.zeros((8, 8)), 0.1)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 33, "n_solve": 66}, "keeps an even divisor of it, at least 4; got n_solve = 66 and n = 33"),
        ({"n": 48}, "got n_solve = 128 and n = 48: such as n_solve=128, n=64"),
        ({"n": 128, "n_solve": 64}, "got n_solve = 64 and n = 128"),
        ({"ts": (0.0, 1.0, 3.0)}, "increasing by equal steps"),
        ({"ts": (1.0,)}, "at least two times"),
        ({"dt": 0.0}, "`dt` must be > 0; got 0.0"),
        ({"std": -1.0}, "`std` must be > 0"),
        ({"viscosity": (1e-3, 1e-4)}, "a lower and an upper one"),
        ({"viscosity": (1e-4, 1e-3, 1e-2)}, "a lower and an upper one"),
        ({"flow": "laminar"}, '"isotropic" or "kolmogorov"; got \'laminar\''),
    ],
)
def test_recipes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        TurbulenceRuns(**options)


@pytest.mark.parametrize(
    ("dt", "std", "why"), [(0.15, 1.3, "here that is 0"), (0.5, 6.0, "not finite at t = 1")], ids=["fast", "explodes"]
)
def test_steps_that_are_unstable_name_the_rule_and_the_dt_that_would_do(dt, std, why):
    recipe = lambda dt: TurbulenceRuns(n=16, n_solve=N, ts=(0.0, 1.0, 2.0), dt=dt, std=std)  # noqa: E731
    with pytest.raises(ValueError, match=rf"at most 1.8 L/\(N max.* Courant.*{why}") as error:
        recipe(dt)(KEY, 2)
    enough = float(str(error.value).rpartition("Write `dt=")[2].partition("`")[0])
    assert 0 < enough < dt
    recipe(enough)(KEY, 2)
