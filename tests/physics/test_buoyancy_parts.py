"""The parts of buoyancy-driven flow: transport, projection, obstacles, the networks' layout, flows made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from smdpx.physics import buoyancy as b
from tests._problems import as_users_run as as_users_run, double_precision
from tests.physics._flows import DISC, KEY, N, faces


def places(n, low=0.0, high=1.0):
    """Coordinates (x, y) of the cells, u's faces and v's faces."""
    h = (high - low) / n
    centre, face = low + h * (np.arange(n) + 0.5), low + h * np.arange(1, n)
    return [
        tuple(map(jnp.asarray, np.meshgrid(x, y, indexing="ij")))
        for x, y in ((centre, centre), (face, centre), (centre, face))
    ]


def order(errors):
    """Of errors on grids each twice as fine as the one before, from the last two."""
    return float(np.log2(errors[-2] / errors[-1]))


def rms(x):
    return float(jnp.sqrt(jnp.mean(x**2)))


# The layout


def test_channels_give_the_state_back_to_the_bit():
    x = b.StaggeredState(jax.random.normal(KEY, (N, N)), *faces(N))
    for part, again in zip(x, b.from_channels(b.to_channels(x)), strict=True):
        np.testing.assert_array_equal(part, again)


def test_what_channels_pad_is_the_edge():
    u, v = faces(N)
    channels = b.to_channels(b.StaggeredState(jnp.zeros((N, N)), u, v))
    np.testing.assert_array_equal(channels[-1, :, 1], u[-1])
    np.testing.assert_array_equal(channels[:, -1, 2], v[:, -1])


def test_a_network_is_shown_the_state_the_obstacles_and_where_each_cell_is():
    x, mask, seen = b.StaggeredState(jnp.ones((4, 4)), jnp.ones((3, 4)), jnp.ones((4, 3))), jnp.eye(4), []

    def net(t, h):
        seen.append(h)
        return t * h[..., 3:]

    y = b.OnCells(net)(2.0, x, mask)
    np.testing.assert_array_equal(seen[0][..., 3], mask)
    np.testing.assert_allclose(seen[0][1, 3, 4:], [1.5 / 4, 3.5 / 4])
    np.testing.assert_array_equal(y.marker, 2 * mask)
    np.testing.assert_array_equal(b.OnCells(net)(2.0, x, None).marker, 0)


@pytest.mark.usefixtures("as_users_run")
def test_other_shapes_of_channels_and_states():
    with pytest.raises(ValueError, match=r"shape \(n, n, 3\); got shape \(2, 3, 4, 4\).*vmap"):
        b.from_channels(jnp.zeros((2, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"`to_channels`.*u \(3, 4\) and v \(4, 3\); got \(4, 4\), \(4, 4\)"):
        b.to_channels(b.StaggeredState(*jnp.zeros((3, 4, 4))))


# Transport


CONSERVING = b.Conserving(b.maccormack)


@pytest.mark.parametrize("transport", [b.semi_lagrangian, b.maccormack, CONSERVING])
def test_transport_keeps_constants_and_bounds(transport):
    u, v = faces(N)
    np.testing.assert_allclose(transport(jnp.full((N, N), 2.0), u, v, 1.5), 2, rtol=1e-6)
    x = jax.random.uniform(KEY, (N, N))
    after = transport(x, u, v, -1.5)
    assert x.min() <= after.min()
    assert after.max() <= x.max()


def test_transport_by_whole_cells_is_exact():
    u, v = jnp.full((N - 1, N), 2.0), jnp.zeros((N, N - 1))
    x = jax.random.normal(KEY, (N, N))
    np.testing.assert_allclose(b.semi_lagrangian(x, u, v, 1.0)[3:-1], x[1:-3], atol=1e-6)
    np.testing.assert_allclose(b.maccormack(x, u, v, -1.0)[3:-3], x[5:-1], atol=1e-6)


def test_the_scale_of_lengths_does_not_matter():
    u, v = faces(N)
    x = jax.random.normal(KEY, (N, N))
    np.testing.assert_allclose(b.maccormack(x, 3 * u, 3 * v, 0.5, spacing=3.0), b.maccormack(x, u, v, 0.5), atol=1e-5)


def test_x_and_y_are_alike():
    u, v = faces(N)
    np.testing.assert_allclose(b.semi_lagrangian(u, u, v, 0.7), b.semi_lagrangian(u.T, v.T, u.T, 0.7).T, atol=1e-6)


def test_a_velocity_ends_at_the_walls_or_slips_along_them():
    u, v = jnp.ones((N - 1, N)), jnp.full((N, N - 1), -0.5)
    # At the upper wall what comes from behind it, half a cell away, is 0; or as it is at the wall.
    assert float(b.semi_lagrangian(u, u, v, 1.0)[8, -1]) == pytest.approx(0.75)
    assert float(b.semi_lagrangian(u, u, v, 1.0, slip=True)[8, -1]) == pytest.approx(1.0)


@pytest.mark.parametrize("dt", [1.5, -1.5])
@pytest.mark.parametrize("transport", [b.Conserving(b.semi_lagrangian), CONSERVING])
def test_a_conserving_transport_keeps_the_total(transport, dt):
    u, v = b.project(*faces(N), DISC)
    x = jax.random.uniform(KEY, (N, N)).at[:8].set(0)
    assert abs(float(transport.transport(x, u, v, dt).sum() / x.sum()) - 1) > 1e-3
    assert float(transport(x, u, v, dt).sum()) == pytest.approx(float(x.sum()), rel=1e-6)


def test_the_gradient_of_a_conserving_transport():
    with double_precision():
        x, (u, v) = jax.random.uniform(KEY, (N, N)), faces(N)
        moved = lambda x, u: CONSERVING(jnp.asarray(x), jnp.asarray(u), v, 0.3)  # noqa: E731
        check_grads(moved, (x, u), order=1, modes=["rev"], eps=1e-6)


def test_what_a_conserving_transport_cannot_give_back_stays_missing():
    """Of a field that is flat after it nothing is higher anywhere."""
    drained = b.Conserving(lambda x, u, v, dt: jnp.zeros_like(x))
    np.testing.assert_array_equal(drained(jnp.ones((N, N)), *faces(N), 1.0), 0)


@pytest.mark.parametrize(("transport", "expected"), [(b.semi_lagrangian, 1), (b.maccormack, 2), (CONSERVING, 2)])
def test_the_order_of_transport_where_dt_goes_with_h(transport, expected):
    """A bump is carried round the middle."""
    bump = lambda x, y: jnp.exp(-((x - 0.2) ** 2 + y**2) / 0.05)  # noqa: E731
    with double_precision():
        errors = []
        for n in (64, 128):
            (x, y), at_u, at_v = places(n, -1.0, 1.0)
            w = -at_u[1], at_v[0]
            move = lambda i, x, w=w, n=n: transport(x, *w, 8 / n, spacing=2 / n)  # noqa: E731
            after = jax.lax.fori_loop(0, n // 8, move, bump(x, y))
            errors.append(rms(after - bump(x * np.cos(1) + y * np.sin(1), y * np.cos(1) - x * np.sin(1))))
    assert order(errors) == pytest.approx(expected, abs=0.35)


def test_the_order_of_transport_in_time():
    """A rotation carries a plane, which interpolation leaves exact: only the Euler step back is wrong."""
    with double_precision():
        cells, at_u, at_v = places(32, -1.0, 1.0)
        inner = (jnp.abs(cells[0]) < 0.3) & (jnp.abs(cells[1]) < 0.3)
        exact = jnp.cos(0.4) * cells[0] + jnp.sin(0.4) * cells[1]
        errors = []
        for steps in (8, 16):
            x = cells[0]
            for _ in range(steps):
                x = b.semi_lagrangian(x, -at_u[1], at_v[0], 0.4 / steps, spacing=2 / 32)
            errors.append(rms(jnp.where(inner, x - exact, 0)))
    assert order(errors) == pytest.approx(1, abs=0.1)


def test_the_order_of_interpolation_in_space():
    with double_precision():
        errors = []
        for n in (32, 64):
            (x, y), _, _ = places(n)
            inner = (x > 0.2) & (x < 0.8)
            field = lambda x: jnp.sin(2 * jnp.pi * x)  # noqa: E731
            # A third of a cell's displacement on every grid.
            moved = b.semi_lagrangian(field(x), jnp.ones((n - 1, n)), jnp.zeros((n, n - 1)), 1 / 3 / n, spacing=1 / n)
            errors.append(rms(jnp.where(inner, moved - field(x - 1 / 3 / n), 0)))
    assert order(errors) == pytest.approx(2, abs=0.1)


@pytest.mark.usefixtures("as_users_run")
def test_shapes_of_transport_that_do_not_fit():
    u, v = faces(N)
    with pytest.raises(ValueError, match=r"got u \(16, 15\), v \(15, 16\) and a field \(16, 16\)"):
        b.semi_lagrangian(jnp.zeros((N, N)), v, u, 0.1)


# Obstacles


def test_discs_and_boxes_cover_their_area():
    disc, box = b.disc((30, 40), 11), b.box((50.0, 20.0), (75.0, 80.0))
    assert float(b.solid(disc, n=200).mean() * 1e4) == pytest.approx(np.pi * 11**2, rel=0.01)
    assert float(b.solid(box, n=200).sum() / 4) == 25 * 60
    both = b.solid(disc, box, n=50)
    np.testing.assert_array_equal(both, jnp.maximum(b.solid(disc, n=50), b.solid(box, n=50)))


@pytest.fixture(scope="module")
def drawn():
    return jax.jit(jax.vmap(b.draw_obstacles))(jax.random.split(KEY, 200))


def test_random_obstacles_keep_to_the_papers_rule(drawn):
    low, high, margin = (np.asarray(part) for part in drawn)
    there = margin >= 0
    assert there[:, [0, 2]].all()
    assert 60 < there[:, 1].sum() < 140
    assert 60 < there[:, 3].sum() < 140
    assert ((margin[:, :2] == 0) | ~there[:, :2]).all()
    radii = margin[:, 2:][there[:, 2:]]
    assert radii.min() >= 5
    assert radii.max() <= 12
    sides = np.where(there[:, :2, None], high[:, :2] - low[:, :2], 0)
    assert sides.min(axis=-1).max() <= 12.001
    assert low[:, :2, 1].min() >= 20


def test_random_obstacles_overlap_neither_each_other_nor_the_inflow(drawn):
    each = jax.jit(jax.vmap(jax.vmap(lambda *parts: b.solid(b.Obstacle(*parts), n=100))))(*drawn)
    assert float(each.sum(axis=1).max()) == 1
    assert float((each.sum(axis=(0, 1)) * b.solid(b.disc((50, 10), 5), n=100)).max()) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: b.box((1, 1), (0, 2)), "from its lower left to its upper right corner"),
        (lambda: b.disc((1, 1), 0.0), "radius > 0; got 0.0"),
    ],
)
def test_obstacles_that_are_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Flows made of the parts


def test_a_taylor_green_vortex_decays_in_a_box():
    """u = sin πx cos πy e^(-2νπ²t), v = -cos πx sin πy e^(-2νπ²t), along walls that do not hold it."""
    nu, time = 0.002, 2.0
    with double_precision():
        errors = []
        for n in (32, 64):
            _, at_u, at_v = places(n)
            u = jnp.sin(jnp.pi * at_u[0]) * jnp.cos(jnp.pi * at_u[1])
            v = -jnp.cos(jnp.pi * at_v[0]) * jnp.sin(jnp.pi * at_v[1])
            errors.append(_taylor_green(u, v, nu, time, n))
    assert errors[-1] < 0.15
    assert order(errors) == pytest.approx(1, abs=0.25)


def _taylor_green(u, v, nu, time, n):
    h, steps = 1 / n, 2 * n
    dt = time / steps

    def spread(x, normal):
        pads = [(1, 1), (0, 0)] if normal == 0 else [(0, 0), (1, 1)]
        x = jnp.pad(jnp.pad(x, pads), pads[::-1], mode="edge")
        return (x[2:, 1:-1] + x[:-2, 1:-1] + x[1:-1, 2:] + x[1:-1, :-2] - 4 * x[1:-1, 1:-1]) / h**2

    def step(_, w):
        u, v = (b.semi_lagrangian(part, w[0], w[1], dt, spacing=h, slip=True) for part in w)
        return b.project(u + dt * nu * spread(u, 0), v + dt * nu * spread(v, 1))

    after = jax.jit(lambda w: jax.lax.fori_loop(0, steps, step, w))((u, v))
    decay = np.exp(-2 * nu * np.pi**2 * time)
    off = [rms(a - decay * s) / rms(u) for a, s in zip(after, (u, v), strict=True)]
    return float(np.hypot(off[0], off[1]))


def test_a_manufactured_flow_is_met_at_first_order():
    """ψ = a(t) sin²πx sin²πy / π and m = cos t sin²πx cos πy, driven by what they leave of the equations."""
    psi = lambda t, x, y: (1 + t) * jnp.sin(jnp.pi * x) ** 2 * jnp.sin(jnp.pi * y) ** 2 / jnp.pi  # noqa: E731
    u_at, v_at = jax.grad(psi, 2), lambda t, x, y: -jax.grad(psi, 1)(t, x, y)
    m_at = lambda t, x, y: jnp.cos(t) * jnp.sin(jnp.pi * x) ** 2 * jnp.cos(jnp.pi * y)  # noqa: E731

    def along(f, t, x, y):
        """Its change along the flow."""
        return jax.jvp(f, (t, x, y), (jnp.ones_like(t), u_at(t, x, y), v_at(t, x, y)))[1]

    def on(f, t, where):
        return jax.vmap(jax.vmap(lambda x, y: f(t, x, y)))(*where)

    def end(n, steps):
        cells, at_u, at_v = places(n)
        dt, h = 0.5 / steps, 1 / n

        def step(x, t):
            drive = [
                on(lambda t, x, y, f=f: along(f, t, x, y), t, where)
                for f, where in ((m_at, cells), (u_at, at_u), (v_at, at_v))
            ]
            m = b.maccormack(x.marker, x.u, x.v, dt, spacing=h) + dt * drive[0]
            u, v = (b.semi_lagrangian(part, x.u, x.v, dt, spacing=h) for part in (x.u, x.v))
            return b.StaggeredState(m, *b.project(u + dt * drive[1], v + dt * drive[2])), None

        @jax.jit
        def exact(t):
            return b.StaggeredState(on(m_at, t, cells), on(u_at, t, at_u), on(v_at, t, at_v))

        ts = dt * jnp.arange(steps, dtype=float)
        x = jax.jit(lambda: jax.lax.scan(step, exact(jnp.zeros(())), ts)[0])()
        return [rms(a - e) for a, e in zip(x, exact(jnp.asarray(0.5)), strict=True)]

    with double_precision():
        errors = np.array([end(n, n // 2) for n in (32, 64)])
    for part in errors.T:
        assert order(part) == pytest.approx(1, abs=0.3)


def test_a_lid_drives_a_cavity_as_ghia_et_al_found():
    """Re = 100 (Ghia, Ghia and Shin 1982): the extremes on the lines through the middle."""
    n, nu, dt = 32, 0.01, 0.02
    h = 1 / n

    def around(x):
        return (x[2:, 1:-1] + x[:-2, 1:-1] + x[1:-1, 2:] + x[1:-1, :-2] - 4 * x[1:-1, 1:-1]) / h**2

    def step(_, w):
        u, v = w
        # Ghosts such that the velocity at the walls is 0, and 1 at the lid.
        beside = jnp.concatenate([-u[:, :1], u, 2 - u[:, -1:]], axis=1)
        below = jnp.concatenate([-v[:1], v, -v[-1:]], axis=0)
        spread = around(jnp.pad(beside, ((1, 1), (0, 0)))), around(jnp.pad(below, ((0, 0), (1, 1))))
        moved = (b.maccormack(part, u, v, dt, spacing=h) for part in w)
        return b.project(*(part + dt * nu * s for part, s in zip(moved, spread, strict=True)))

    u, v = jax.jit(lambda w: jax.lax.fori_loop(0, 1000, step, w))((jnp.zeros((n - 1, n)), jnp.zeros((n, n - 1))))
    assert float(u[n // 2 - 1].min()) == pytest.approx(-0.2109, abs=0.012)
    assert float(v[:, n // 2 - 1].max()) == pytest.approx(0.1753, abs=0.012)
    assert float(v[:, n // 2 - 1].min()) == pytest.approx(-0.2453, abs=0.012)
