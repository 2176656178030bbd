"""Buoyancy-driven flow: its bounds at full size, reversal, gradients, budget, data, and errors with the mend."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.physics import Buoyancy, BuoyancyRuns, buoyancy as b
from tests._problems import as_users_run as as_users_run, double_precision

N = 16
KEY = jax.random.key(0)
FLOW = Buoyancy(N)
DT = 0.01
MASKS = jnp.stack([b.solid(b.disc((60, 60), 12), n=N), b.solid(b.box((10, 50), (40, 70)), n=N)])
P = sx.Drift.from_step(FLOW.step, reverse=sx.negative_step)
TS = np.arange(31) * DT


def noisy(n, key=KEY, std=2.0):
    """A state without ties: MacCormack's clamp has them where the marker is flat."""
    keys = jax.random.split(key, 3)
    shapes = ((n, n), (n - 1, n), (n, n - 1))
    return b.StaggeredState(*(std * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)))


def size(x):
    return float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))))


def distance(x, y):
    return size(jax.tree.map(jnp.subtract, x, y)) / size(y)


def test_check_finds_a_first_order_step_with_a_right_gradient_that_keeps_samples_apart():
    x = jax.vmap(lambda key: noisy(N, key, std=0.5))(jax.random.split(KEY, 2))
    report = sx.check(P, x, dt=DT / 10, args=FLOW.obstacles(MASKS))
    assert report.order == pytest.approx(1, abs=0.1)
    assert report.vjp_error == pytest.approx(0, abs=1e-2)
    assert report.batch_error == pytest.approx(0, abs=1e-5)


# At full size


@pytest.fixture(scope="module")
def full():
    """Four geometries at 64², 65 steps, two with narrow gaps: masks, frames, and how each step went."""
    flow = Buoyancy(64)
    keys = jax.random.split(KEY, 16)[jnp.array([0, 4, 10, 13])]
    masks = jax.vmap(lambda key: b.solid(b.draw_obstacles(key), n=64))(keys)

    def run(mask):
        def step(x, i):
            x, health = flow.advance(i.astype(float) * DT, x, DT, mask)
            return x, (x, health)

        return jax.lax.scan(step, b.StaggeredState.zeros(64), jnp.arange(65))[1]

    return masks, *jax.jit(jax.vmap(run))(masks)


def test_nothing_diverges_in_fluid_cells(full):
    masks, x, _ = full
    out = jax.vmap(jax.vmap(b.divergence))(x.u, x.v) * (1 - masks)[:, None]
    assert float(jnp.abs(x.v).max()) > 2
    assert float(jnp.abs(out).max()) <= 2e-6


def test_nothing_flows_through_obstacles(full):
    masks, x, _ = full
    solid = masks[:, None] > 0
    assert (jnp.where(solid[:, :, 1:] | solid[:, :, :-1], x.u, 0) == 0).all()
    assert (jnp.where(solid[..., 1:] | solid[..., :-1], x.v, 0) == 0).all()


def test_the_pressure_takes_twelve_iterations_at_most(full):
    assert int(full[2].iterations.max()) <= 12


# Time


@pytest.fixture(scope="module")
def paths():
    """Two geometries, 30 steps."""
    return sx.simulate(P, FLOW.start(2), TS, args=FLOW.obstacles(MASKS))


def test_the_inflow_is_one_a_step_for_the_first_twenty_and_is_taken_back():
    still = Buoyancy(N, buoyancy=0.0)
    P = sx.Drift.from_step(still.step, reverse=sx.negative_step)
    paths = sx.simulate(P, still.start(1), TS)
    share = b.Inflow().share(N)
    for j in (1, 19, 20, 30):
        np.testing.assert_allclose(paths.x.marker[0, j], min(j, 20) * share, rtol=1e-5)
        assert float(paths.x.marker[0, j].sum()) == pytest.approx(min(j, 20) * float(share.sum()), rel=1e-5)
    np.testing.assert_allclose(sx.solve(-P, paths.end, TS[::-1]).marker[0, -1], 0, atol=1e-4)


def budget(flow):
    """The marker's total after each of 65 steps from rest, as a part of what has flowed in, less 1."""
    paths = sx.simulate(sx.Drift.from_step(flow.step), flow.start(1), np.arange(66) * DT)
    given = float(b.Inflow().share(flow.n).sum()) * np.minimum(np.arange(1, 66), 20)
    return np.asarray(paths.x.marker[0, 1:].sum(axis=(1, 2))) / given - 1


def test_the_papers_transport_keeps_no_total_and_says_so():
    off = budget(FLOW)
    assert abs(off[0]) < 1e-6
    assert 1e-3 < abs(off).max() < 0.5


def test_by_a_conserving_transport_the_markers_budget_closes_against_the_inflow():
    assert abs(budget(Buoyancy(64, transport=b.Conserving(b.maccormack)))).max() < 1e-5


def test_a_step_of_another_length_adds_its_part_of_the_inflow():
    x = Buoyancy(N, buoyancy=0.0).step(0.15, b.StaggeredState.zeros(N), 0.1)
    np.testing.assert_allclose(x.marker, 5 * b.Inflow().share(N), rtol=1e-5)


def test_geometries_together_are_as_runs_of_their_own(paths):
    for i, mask in enumerate(MASKS):
        x = b.StaggeredState.zeros(N)
        for t in TS[:15]:
            x = FLOW.step(t, x, DT, mask)
        assert distance(jax.tree.map(lambda leaf, i=i: leaf[i, 15], paths.x), x) < 1e-5


def test_a_negative_step_goes_back_where_a_mirrored_one_is_lost(paths):
    mirrored = sx.Drift.from_step(FLOW.step, reverse=sx.mirror)
    off = {}
    for name, drift in (("negative", P), ("mirror", mirrored)):
        back = sx.solve(-drift, paths.end, TS[30:19:-1], args=paths.args)
        off[name] = size(back.marker[:, -1] - paths.x.marker[:, 20]) / size(paths.x.marker[:, 20])
    assert off["negative"] < 0.7
    assert off["mirror"] > 4 * off["negative"]


# Gradients


@functools.cache
def end():
    """Of a change of the state, of the buoyancy, and of the inflow's rate, after some of 30 steps: one program."""
    x, direction, weights = (noisy(N, jax.random.key(i)) for i in range(3))
    mask = MASKS[0].astype(float)

    def after(s, steps):
        flow = Buoyancy(N, b.Inflow(rate=1 + s[2]), buoyancy=0.1 + s[1])

        def step(x, i):
            moved = flow.step(i.astype(float) * DT, x, DT, mask)
            return jax.tree.map(lambda new, old: jnp.where(i < steps, new, old), moved, x), None

        start = jax.tree.map(lambda a, d: a + s[0] * d, x, direction)
        return sum(jnp.sum(a * w) for a, w in zip(jax.lax.scan(step, start, jnp.arange(30))[0], weights, strict=True))

    return jax.jit(after), jax.jit(jax.grad(after))


@pytest.mark.parametrize("steps", [1, 30])
def test_the_gradient_is_that_of_central_differences(steps):
    with double_precision():
        value, gradient = end()
        h = 1e-6 * np.eye(3)
        numeric = [(value(row, steps) - value(-row, steps)) / 2e-6 for row in h]
        np.testing.assert_allclose(gradient(np.zeros(3), steps), numeric, rtol=1e-6)


def test_the_gradient_is_linear_in_cotangents_of_any_size():
    x, weights = noisy(N), noisy(N, jax.random.key(1))
    pull = jax.jit(lambda w: jax.vjp(lambda x: FLOW.step(0.0, x, DT, MASKS[0]), x)[1](w)[0])
    for scale in (1e-3, 1e-6, 1e-13, 1e-20, 1e-30):
        small = pull(jax.tree.map(lambda w, scale=scale: scale * w, weights))
        assert distance(jax.tree.map(lambda g, scale=scale: g / scale, small), pull(weights)) < 2e-6


# Data


RECIPE = BuoyancyRuns(FLOW, ts=(0.05, 0.1, 0.15))


def test_a_recipe_makes_trajectories_each_with_its_obstacles():
    paths = RECIPE(KEY, 2)
    masks = paths.args.value
    assert masks.shape == (2, N, N)
    assert not (masks[0] == masks[1]).all()
    again = sx.simulate(P, FLOW.start(2), TS, args=FLOW.obstacles(masks))
    kept = jax.tree.map(lambda leaf: leaf[:, 5:16:5], again.x)
    assert distance(paths.x, kept) < 1e-5
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), RECIPE(KEY, 2).x, paths.x))


def test_the_papers_frames():
    assert BuoyancyRuns().ts == pytest.approx([(j + 1) / 100 for j in range(65)])


def test_runs_lie_in_a_store(tmp_path):
    loaded = sx.stored(RECIPE, 2, key=KEY, at=tmp_path, chunk=2).load()
    made = RECIPE(jax.random.fold_in(KEY, 0), 2)
    assert isinstance(loaded.x, b.StaggeredState)
    for stored, expected in zip([*loaded.x, loaded.args.value], [*made.x, made.args.value], strict=True):
        np.testing.assert_array_equal(stored, expected)


def test_a_score_is_learned_from_them():
    g = sx.Diffusion(0.1)

    def net(t, x, args):
        return jax.tree.map(lambda leaf: -leaf, x)

    paths = RECIPE(KEY, 2)
    end = sx.solve(-P + 2 * sx.Score(net, g), paths.end, paths.ts[::-1], args=paths.args)
    assert isinstance(end, b.StaggeredState)
    assert sx.Perturbed(paths, g).samples()[0].marker.shape == (2, N, N)


# Errors


def with_(mask, where, value=1.0):
    return mask.at[where].set(value)


EMPTY = jnp.zeros((N, N))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (jnp.zeros((N, N - 1)), r"mask of the 16 × 16 cells, shape \(16, 16\).*got \((1, )?16, 15\).*PerSample"),
        (with_(EMPTY, (3, 3), 0.5), r"1 in solid cells and 0 in fluid, nothing else; got 0.5 \(1 of 256 cells\)"),
        (jnp.ones((N, N)), "fill the domain: all 256 cells are solid"),
        (with_(EMPTY, (7, 1)), r"cover 1 of the inflow's \d+ cells.*Inflow\(centre=...\)"),
    ],
    ids=["shape", "values", "full", "inflow"],
)
def test_masks_that_cannot_be_simulated(mask, message):
    x = b.StaggeredState.zeros(N)
    for call in (
        lambda: FLOW.step(0.0, x, DT, mask),
        lambda: jax.jit(lambda x: FLOW.step(0.0, x, DT, mask))(x),  # known, although x is not
        lambda: FLOW.obstacles(mask[None]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_which_of_a_batch_of_masks_is_named():
    with pytest.raises(ValueError, match=r"`obstacles\[1\]` fill the domain"):
        FLOW.obstacles(jnp.stack([EMPTY, jnp.ones((N, N))]))


@pytest.mark.parametrize("mask", [with_(EMPTY, (3, 3), 0.5), with_(EMPTY, (7, 1))], ids=["values", "inflow"])
def test_under_a_transformation_a_bad_mask_makes_no_field(mask):
    x = jax.jit(FLOW.step)(0.0, b.StaggeredState.zeros(N), DT, mask)
    assert all(jnp.isnan(part).all() for part in x)
    why = "`obstacles` (must be 1 in solid cells|cover 1 of the inflow's)"
    with pytest.raises(ValueError, match=f"not finite: trajectory 1 at time index 1 .*`P.x.` says .*: {why}"):
        sx.simulate(P, FLOW.start(2), [0.0, DT], args=sx.PerSample(jnp.stack([EMPTY, mask])))
    with pytest.warns(sx.NonFiniteWarning, match=f"1 of 1 solutions .* from t = 0 on: `P.x.` says .*: {why}"):
        sx.solve(-P, FLOW.start(1), [DT, 0.0], args=sx.PerSample(mask[None]))


def test_other_args_than_a_mask_are_told_what_to_write():
    with pytest.raises(ValueError, match=r'got dict.*flow.step\(t, x, dt, args\["mask"\]\)'):
        FLOW.step(0.0, b.StaggeredState.zeros(N), DT, {"mask": EMPTY})


def test_a_pocket_is_simulated_and_said():
    mask = EMPTY.at[4:9, 8].set(1).at[4:9, 12].set(1).at[4, 8:13].set(1).at[8, 8:13].set(1)
    with pytest.warns(UserWarning, match=r"cut the fluid into 2 pockets") as said:
        x = FLOW.step(0.0, noisy(N), DT, mask)
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match=r"`obstacles\[1\]` cut .*\(2 of 3 masks") as said:
        FLOW.obstacles(jnp.stack([EMPTY, mask, mask]))
    assert len(said) == 1
    out = b.divergence(x.u, x.v) * (1 - mask)
    assert float(jnp.abs(out).max()) < 1e-5


def test_a_dt_in_the_solvers_units_is_told_what_it_is():
    x = noisy(N)
    with pytest.raises(ValueError, match=r"dt = 1 the flow goes .* times the box' side.*must be shorter than 0\.\d+"):
        FLOW.step(0.0, x, 1.0)
    assert all(jnp.isnan(part).all() for part in jax.jit(FLOW.step)(0.0, x, 1.0))
    assert jnp.isfinite(FLOW.step(0.0, x, 0.9 * FLOW.longest_dt(x)).marker).all()


def test_a_recipe_with_such_a_dt():
    with pytest.raises(ValueError, match=r"BuoyancyRuns\(dt=1\)`: a flow crosses the whole box in one step"):
        BuoyancyRuns(FLOW, ts=(1.0, 2.0, 3.0), dt=1.0)(KEY, 1)


def test_a_pressure_that_does_not_converge_is_never_a_field():
    hasty, x = Buoyancy(N, max_iterations=1), noisy(N)
    with pytest.raises(RuntimeError, match=r"After 1 iterations .* is \d\.\de-0\d, where 1e-07 was asked"):
        hasty.step(0.0, x, DT, MASKS[0])
    with pytest.raises(RuntimeError, match=r"`project`: the pressure did not converge. After 1 iterations"):
        b.project(x.u, x.v, MASKS[0], max_iterations=1)
    assert jnp.isnan(jax.jit(hasty.step)(0.0, x, DT, MASKS[0]).u).all()
    with pytest.raises(ValueError, match=r"not finite: .* at time index 1 .*did not converge. After 1 iterations"):
        sx.simulate(sx.Drift.from_step(hasty.step), hasty.start(1), [0.0, DT], args=sx.PerSample(MASKS[:1]))


def test_a_gradient_whose_adjoint_does_not_converge_is_nan():
    # The right-hand side is 0 and converges at once; its cotangent does not.
    pull = jax.vjp(lambda v: b.project(jnp.zeros((N - 1, N)), v, MASKS[0], max_iterations=1)[1], jnp.zeros((N, N - 1)))[
        1
    ]
    assert jnp.isnan(pull(noisy(N).v)[0]).all()


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Buoyancy(3), ValueError, "at least 4 cells a side; got n = 3"),
        (lambda: Buoyancy(length=0.0), ValueError, "`length` > 0; got 0.0"),
        (lambda: Buoyancy(time_scale=-1.0), ValueError, "`time_scale` > 0; got -1.0"),
        (lambda: Buoyancy(max_iterations=0), ValueError, "at least one iteration"),
        (lambda: b.Inflow(radius=0.0), ValueError, "radius > 0; got 0.0"),
        (
            lambda: b.Inflow(centre=(1.0,)),  # pyright: ignore[reportArgumentType]
            ValueError,
            r"a point \(x, y\)",
        ),
        (
            lambda: FLOW.step(0.0, jnp.zeros((3, N, N)), DT),  # pyright: ignore[reportArgumentType]
            TypeError,
            "StaggeredState.*from_channels",
        ),
        (lambda: FLOW.step(0.0, FLOW.start(2), DT), ValueError, r"got \(2, 16, 16\).*jax.vmap"),
        (lambda: FLOW.obstacles(EMPTY), ValueError, r"flow.obstacles\(mask\[None\]\)"),
        (lambda: BuoyancyRuns(FLOW, ts=(0.1, 0.15, 0.3)), ValueError, "multiples of dt that increase by equal steps"),
        (lambda: BuoyancyRuns(FLOW, ts=(0.1, 0.105)), ValueError, "multiples of dt"),
        (lambda: BuoyancyRuns(FLOW, dt=0.0), ValueError, "`dt` must be > 0"),
        (lambda: BuoyancyRuns(Buoyancy(N, length=90.0)), ValueError, "box of side 100; the flow's is 90"),
        (lambda: RECIPE(KEY, 0), ValueError, "`count` must be at least 1"),
    ],
)
def test_numbers_and_states_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "flow",
    [
        lambda: Buoyancy(N, length=1.0),
        lambda: Buoyancy(N, b.Inflow((50.0, -10.0))),
        lambda: Buoyancy(N, b.Inflow((50.0, 50.0), 1.0)),
    ],
    ids=["beyond the box", "below it", "between the cells"],
)
def test_an_inflow_that_covers_no_cell_is_refused(flow):
    with pytest.raises(ValueError, match=r"covers none of 16 x 16 cells.*`inflow=Inflow\(centre="):
        flow()


@pytest.mark.parametrize("centre", [(50.0, 50.0), (53.0, 50.0), (0.0, -2.0), (100.0, 103.0), (99.0, 40.0)])
@pytest.mark.parametrize("radius", [0.5, 2.0, 2.3, 5.0])
def test_an_inflow_misses_where_no_cell_has_a_share(centre, radius):
    inflow = b.Inflow(centre, radius)
    assert inflow.misses(N, 100.0) is not bool((inflow.share(N) > 0).any())


def test_a_box_without_inflow_needs_none():
    assert (Buoyancy(N, b.Inflow(rate=0.0), length=1.0).step(0.0, b.StaggeredState.zeros(N), DT).marker == 0).all()
