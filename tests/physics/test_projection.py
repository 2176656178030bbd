"""The projection: what is left has no divergence, whatever is in the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx.physics import buoyancy as b
from tests._problems import as_users_run as as_users_run, double_precision
from tests.physics._flows import DISC, KEY, POCKET, N, faces


@pytest.mark.parametrize("mask", [None, DISC, POCKET], ids=["empty", "disc", "pocket"])
def test_the_laws_of_the_projection(mask):
    flat = lambda w: jnp.concatenate([part.ravel() for part in w])  # noqa: E731
    project = jax.jit(lambda u, v: b.project(u, v, mask))
    w, other = faces(N), faces(N, jax.random.key(1))
    once, of_other = project(*w), project(*other)
    size = float(jnp.linalg.norm(flat(once)))
    assert float(jnp.linalg.norm(flat(project(*once)) - flat(once))) <= 1e-6 * size
    product = lambda a, b: float(jnp.vdot(flat(a), flat(b)))  # noqa: E731
    assert abs(product(once, other) - product(w, of_other)) <= 1e-6 * size * float(jnp.linalg.norm(flat(other)))
    # What is taken out is orthogonal to what is left.
    assert abs(product(once, [a - c for a, c in zip(w, once, strict=True)])) <= 1e-5 * size**2


def test_no_velocity_of_many_is_lost_beside_a_pocket_whose_mean_no_pressure_can_hold():
    mask = b.solid(b.draw_obstacles(jax.random.split(KEY, 4000)[1535]), n=N)
    u, v = jax.vmap(lambda key: faces(N, key))(jax.random.split(KEY, 400))
    residual = jax.vmap(lambda u, v: b.solve_pressure(u, v, mask).residual)(u, v)
    assert float(residual.max()) < 1e-6


def test_the_projection_is_that_of_a_direct_solve():
    with double_precision():
        u, v = faces(8)
        mask = jnp.zeros((8, 8)).at[3:5, 3:6].set(1.0)
        fluid = np.asarray(1 - mask)
        open_u, open_v = fluid[1:] * fluid[:-1], fluid[:, 1:] * fluid[:, :-1]
        gradient = np.concatenate(
            [
                (open_u[None] * np.diff(np.eye(64).reshape(64, 8, 8), axis=1)).reshape(64, -1),
                (open_v[None] * np.diff(np.eye(64).reshape(64, 8, 8), axis=2)).reshape(64, -1),
            ],
            axis=1,
        ).T
        w = np.concatenate([(open_u * u).ravel(), (open_v * v).ravel()])
        exact = w - gradient @ np.linalg.lstsq(gradient, w, rcond=None)[0]
        ours = np.concatenate([np.ravel(part) for part in b.project(u, v, mask)])
    np.testing.assert_allclose(ours, exact, atol=1e-12)


@pytest.mark.parametrize("n", [5, 12, 33, 34])
def test_a_grid_need_not_be_a_power_of_two(n):
    u, v = faces(n)
    mask = b.solid(b.disc((60, 60), 15), n=n)
    u, v = b.project(u, v, mask)
    assert float(jnp.abs(b.divergence(u, v)).max()) < 5e-6
    np.testing.assert_allclose(b.project(u, v, mask)[0], u, atol=5e-6)


def test_masks_of_any_kind():
    u, v = faces(N)
    expected = b.project(u, v, DISC)[0]
    for mask in (DISC > 0, DISC.astype(int)):
        np.testing.assert_array_equal(b.project(u, v, mask)[0], expected)


def test_a_batch_of_geometries_is_one_solve():
    u, v = faces(N)
    masks = jnp.stack([DISC, POCKET, jnp.zeros((N, N))])
    together = jax.vmap(lambda mask: b.solve_pressure(u, v, mask))(masks)
    alone = [b.solve_pressure(u, v, mask) for mask in masks]
    assert together.iterations.tolist() == [int(one.iterations) for one in alone]
    for i, one in enumerate(alone):
        np.testing.assert_allclose(together.pressure[i], one.pressure, atol=2e-5)


def test_a_velocity_of_any_size_is_projected():
    u, v = faces(N)
    for scale in (1e-30, 1e-6, 1e6):
        np.testing.assert_allclose(
            b.project(scale * u, scale * v, DISC)[0] / scale, b.project(u, v, DISC)[0], atol=1e-5
        )
    assert (b.project(0 * u, 0 * v, DISC)[0] == 0).all()


@pytest.mark.usefixtures("as_users_run")
def test_shapes_of_the_projection_that_do_not_fit():
    u, v = faces(N)
    with pytest.raises(ValueError, match=r"`project` needs u of shape \(n - 1, n\).*got \(16, 15\) and \(15, 16\)"):
        b.project(v, u)
    with pytest.raises(ValueError, match=r"shape \(16, 16\); got \(8, 8\)"):
        b.project(u, v, jnp.zeros((8, 8)))
