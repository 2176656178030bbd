"""Networks of square fields: sizes, symmetries, dropout, precision."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from jax import lax

from smdpx.nn import FNO, MLP, DilResNet, ResNet, Tiled, UNet
from smdpx.nn._conv import conv_up
from tests._problems import as_users_run as as_users_run

KEY = jr.key(0)


@functools.cache
def small(kind, **how):
    """A quick network of 8x8 fields of each kind."""
    makers = {
        "resnet": lambda: ResNet(8, width=4, blocks=3, key=KEY, **how),
        "dilated": lambda: DilResNet(8, width=4, blocks=2, key=KEY, **how),
        "unet": lambda: UNet(8, widths=(4, 6, 6, 8), key=KEY, **how),
        "tiled": lambda: Tiled(UNet(16, widths=(4, 6), key=KEY, **how), 4),
        "fno": lambda: FNO(modes=3, width=4, key=KEY, **how),
    }
    return makers[kind]()


KINDS = ["resnet", "dilated", "unet", "tiled", "fno"]

# Each program runs once or twice: a quick compilation is worth more than a fast program.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


@quick_jit
def apply(net, t, x, args=None):
    return net(t, x, args)


@quick_jit
def _batch(net, ts, xs):
    return jax.vmap(net)(ts, xs)


def batch(net, t, xs):
    return _batch(net, jnp.broadcast_to(jnp.asarray(t, xs.dtype), len(xs)), xs)


def fields(samples=3, n=8):
    return jnp.asarray(np.random.default_rng(1).normal(size=(samples, n, n)), float)


def arrays(net):
    return {jtu.keystr(path, simple=True, separator="/"): leaf for path, leaf in jtu.tree_leaves_with_path(net)}


# Sizes


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: ResNet(32, key=KEY), 330_754),
        (lambda: ResNet(64, boundary="zero", bypass_middle=True, key=KEY), 330_754),
        (lambda: UNet(64, key=KEY), 706_035),
        (lambda: FNO(key=KEY), 465_377),
        # Marker, two velocities, mask and two positions, beside the time.
        (lambda: DilResNet(64, channels=(6, 3), boundary="zero", key=KEY), 336_915),
    ],
)
def test_the_papers_networks_have_the_papers_sizes(make, count):
    net = eqx.filter_eval_shape(make)
    assert sum(leaf.size for leaf in jax.tree.leaves(net)) == count


@pytest.mark.parametrize("kind", KINDS)
def test_every_leaf_is_an_inexact_array(kind):
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(small(kind)))


def test_an_int_stands_for_a_square():
    assert ResNet(8, width=2, blocks=1, key=KEY).shape == ResNet((8, 8), width=2, blocks=1, key=KEY).shape == (8, 8)


# What every network does


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_with_a_time_for_each_sample_is_one_by_one(kind):
    net, xs, ts = small(kind), fields(), jnp.array([0.1, 0.5, 2.0])
    together = batch(net, ts, xs)
    assert together.shape == xs.shape
    assert np.allclose(together, np.stack([apply(net, t, x) for t, x in zip(ts, xs, strict=True)]), atol=1e-5)


@pytest.mark.parametrize(("kind", "depends"), [("resnet", True), ("unet", True), ("fno", False)])
def test_what_depends_on_time(kind, depends):
    net, xs = small(kind), fields()
    assert np.array_equal(batch(net, 0.1, xs), batch(net, 0.9, xs)) != depends


@pytest.mark.parametrize("kind", ["resnet", "unet", "tiled"])
def test_a_batch_is_one_convolution_a_layer(kind):
    net = small(kind)
    program = jax.jit(lambda net, t, xs: jax.vmap(net, (None, 0))(t, xs)).lower(net, 0.1, fields()).as_text()
    layers = sum(leaf.ndim == 4 for leaf in jax.tree.leaves(net))
    assert program.count("stablehlo.convolution") == layers
    # None of them folds samples into channels.
    assert program.count("feature_group_count = 1 ") == layers


@pytest.mark.parametrize("kind", ["resnet", "tiled", "fno"])
def test_gradients_through_a_scan_reach_every_array(kind):
    net, xs = small(kind), fields()

    def loss(net):
        def step(x, t):
            return x - 0.1 * jax.vmap(net, (None, 0))(t, x), None

        return (lax.scan(step, xs, jnp.linspace(0.1, 1.0, 3))[0] ** 2).mean()

    for name, grad in arrays(quick_jit(jax.grad(loss))(net)).items():
        assert np.isfinite(grad).all(), name
        assert np.any(np.asarray(grad) != 0), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_precision_is_that_of_the_weights(kind, dtype):
    """None: JAX's default. That these trace at all, under strict promotion, is half of the test."""
    with jax.enable_x64(True):
        net = eqx.filter_eval_shape(lambda: small.__wrapped__(kind, dtype=dtype))
        kinds = {"complex64", "float32"} if dtype == "float32" else {"complex128", "float64"}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(net)} == (kinds if kind == "fno" else kinds - {min(kinds)})
        x = jax.ShapeDtypeStruct((2, 8, 8), dtype or "float64")
        for t in (0.1, 1, jax.ShapeDtypeStruct((), "float32"), jax.ShapeDtypeStruct((), "float64")):
            y = eqx.filter_eval_shape(lambda net, t, x: jax.vmap(net, (None, 0))(t, x), net, t, x)
            assert (y.shape, y.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("kind", ["resnet", "fno"])
def test_double_precision_agrees_with_single(kind):
    x = fields()[0]
    single = apply(small(kind), 0.3, x)
    with jax.enable_x64(True):
        wide = {"float32": "float64", "complex64": "complex128"}
        net = jax.tree.map(lambda leaf: leaf.astype(wide[leaf.dtype.name]), small(kind))
        double = apply(net, 0.3, x.astype("float64"))
    assert double.dtype == jnp.float64
    assert np.allclose(single, double, atol=1e-5)


# ResNet


def numpy_resnet(net, t, x):
    """The architecture restated, without JAX: channels first, one window at a time."""
    mode = "wrap" if net.boundary == "periodic" else "constant"

    def conv(h, layer, before, after):
        w, b = np.asarray(layer["w"]), np.asarray(layer["b"])
        padded = np.pad(h, ((0, 0), (before, after), (before, after)), mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (1, 2))
        return np.einsum("oikl,ixykl->oxy", w, windows) + b[:, None, None]

    def block(h, layers, *pads):
        for name in ("conv1", "conv2"):
            h = conv(h, layers[name], *pads)
            h = np.where(h > 0, h, 0.01 * h)
        return h

    x = np.asarray(x)
    h = conv(np.stack([x / net.x_scale, np.full_like(x, t)]), net.enc["in"], 1, 2)
    encoded = []
    for i in (1, 2, 3):
        h = h + block(h, net.enc[f"block{i}"], 1, 2)
        encoded.append(h)
    u = conv(conv(h, net.enc["out"], 0, 0), net.dec["in"], 2, 1)
    u = u + block(u, net.dec["block1"], 2, 1)
    u = u + encoded[1] + (0 if net.bypass_middle else block(u, net.dec["block2"], 2, 1))
    u = block(u, net.dec["block3"], 2, 1)
    return net.out_scale * conv(u, net.dec["out"], 2, 2)[0]


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("bypass_middle", [False, True])
def test_resnet_is_the_one_of_the_equations(boundary, bypass_middle):
    net = small("resnet", boundary=boundary, bypass_middle=bypass_middle, x_scale=2.0, out_scale=300.0)
    net = eqx.tree_at(lambda net: net.dec["in"]["b"], net, jnp.arange(4.0))
    assert np.allclose(apply(net, 0.3, fields()[0]), numpy_resnet(net, 0.3, fields()[0]), rtol=1e-4, atol=1e-4)
    # The published network has weights that nothing uses.
    other = eqx.tree_at(lambda net: net.dec["block2"]["conv2"]["b"], net, jnp.ones(4))
    assert np.array_equal(apply(net, 0.3, fields()[0]), apply(other, 0.3, fields()[0])) == bypass_middle


def test_resnet_commutes_with_translations():
    net, x = eqx.tree_at(lambda net: net.dec["out"]["w"], small("resnet"), replace_fn=lambda w: 100 * w), fields()[0]
    shifts = [(1, 0), (0, 3), (5, 6)]
    moved = batch(net, 0.3, jnp.stack([np.roll(x, shift, (0, 1)) for shift in shifts]))
    expected = np.stack([np.roll(apply(net, 0.3, x), shift, (0, 1)) for shift in shifts])
    assert expected.std() > 0.1
    assert np.allclose(moved, expected, atol=1e-5)


def test_resnet_with_zeros_is_the_periodic_one_away_from_the_border():
    def make(n, boundary):
        # With one block the receptive field has a radius of 11 cells.
        return ResNet(n, width=4, blocks=1, boundary=boundary, out_scale=100.0, key=KEY)

    periodic = batch(make(8, "periodic"), 0.2, fields())
    assert np.allclose(batch(Tiled(make(30, "zero"), 11), 0.2, fields()), periodic, atol=1e-5)


def test_dil_resnet_is_the_one_of_the_equations():
    net, x = small("dilated"), fields()[0]

    def k(h, layer, d):
        taps = [
            np.roll(h, (-d * i, -d * j), axis=(0, 1)) @ np.asarray(layer["w"])[:, :, i + 1, j + 1].T
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        return sum(taps) + np.asarray(layer["b"])

    relu = lambda h: np.where(h > 0, h, 0.01 * h)  # noqa: E731
    h = k(np.stack([x, np.full_like(x, 0.3)], axis=-1), net.arrays["in"], 1)
    for block in ("block1", "block2"):
        branch = h
        for i, d in enumerate((1, 2, 2, 1), start=1):
            branch = relu(k(branch, net.arrays[block][f"conv{i}"], d))
        h = h + branch
    np.testing.assert_allclose(apply(net, 0.3, x), k(h, net.arrays["out"], 1)[..., 0], rtol=1e-4, atol=1e-5)


def test_dil_resnet_takes_and_gives_channels():
    one, x = small("dilated"), fields()[0]
    net = DilResNet(8, width=4, blocks=2, channels=(2, 3), key=KEY)
    assert apply(net, 0.3, jnp.stack([x, x], axis=-1)).shape == (8, 8, 3)
    # With the scalar network's weights in every channel, parts of a field are seen as the field.
    twice = jnp.concatenate([one.arrays["in"]["w"][:, :1]] * 2 + [one.arrays["in"]["w"][:, 1:]], axis=1)
    thrice = {name: jnp.concatenate([leaf] * 3) for name, leaf in one.arrays["out"].items()}
    same = one.arrays | {"in": one.arrays["in"] | {"w": twice}, "out": thrice}
    net = eqx.tree_at(lambda net: net.arrays, net, same)
    got = apply(net, 0.3, jnp.stack([x / 4, 3 * x / 4], axis=-1))
    np.testing.assert_allclose(got, np.stack([apply(one, 0.3, x)] * 3, axis=-1), rtol=1e-4, atol=1e-5)


def test_dil_resnet_with_channels_names_the_shape_that_it_wants():
    net = DilResNet(8, width=4, blocks=1, channels=(2, 3), key=KEY)
    with pytest.raises(ValueError, match=r"`x` must be one field of shape \(8, 8, 2\), got shape \(8, 8\)"):
        net(0.3, fields()[0])


def test_resnet_starts_small_at_any_depth():
    net = ResNet(8, width=8, blocks=6, out_scale=10.0, key=KEY)
    size = np.abs(apply(net, 0.1, fields()[0])).max()
    assert 1e-3 < size < 2.0


# Tiled


def test_tiled_pads_periodically_and_crops():
    seen = Tiled(lambda t, x, args: jnp.roll(x, (2, -1), (0, 1)) + t + args, 3)
    x = jnp.arange(64.0).reshape(8, 8)
    assert np.array_equal(seen(1.0, x, 10.0), np.roll(x, (2, -1), (0, 1)) + 11.0)
    assert seen.shape is None


def test_tiled_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"takes \(16, 16\).*shape 48"):
        eqx.filter_eval_shape(lambda: Tiled(UNet(16, widths=(2, 2), key=KEY), 8))
    with pytest.raises(ValueError, match="must take fields"):
        eqx.filter_eval_shape(lambda: Tiled(MLP(key=KEY), 4))
    with pytest.raises(ValueError, match="`cells` must be at least 0"):
        Tiled(small("unet"), -1)
    with pytest.raises(ValueError, match=r"shape \(8, 8\), 4 cells less.*got \(16, 16\)"):
        small("tiled")(0.1, jnp.zeros((16, 16)))
    with pytest.raises(ValueError, match=r"got \(3, 8, 8\).*vmap"):
        small("tiled")(0.1, fields())


# UNet


def test_unet_upsampling_is_the_transposed_convolution():
    layer = {"w": fields(45, 1).reshape(5, 1, 3, 3), "b": jnp.arange(5.0)}

    @quick_jit
    def both(h):
        dims = ("NHWC", "OIHW", "NHWC")
        y = lax.conv_transpose(h[None], layer["w"], (2, 2), "SAME", dimension_numbers=dims)[0]
        return conv_up(h, layer), y + layer["b"][None, None]

    ours, jaxs = both(fields(1, 4)[0][..., None])
    assert np.allclose(ours, jaxs, atol=1e-5)


@pytest.mark.parametrize(("n", "widths", "size"), [(8, (4, 6, 6, 8), 1), (16, (4, 6, 6, 8), 3), (7, (3,), 3)])
def test_unet_goes_down_to_a_single_cell_or_stops_above(n, widths, size):
    net = eqx.filter_eval_shape(lambda: UNet(n, widths, key=KEY))
    assert arrays(net)[f"down/level{len(widths)}/conv1/w"].shape[2:] == (size, size)
    assert eqx.filter_eval_shape(lambda net, x: net(0.1, x), net, jnp.zeros((n, n))).shape == (n, n)


def test_unet_dropout_is_driven_by_the_key():
    net, x = small("unet", dropout=0.3), fields()[0]
    keys = jnp.stack([jr.key(1), jr.key(1), jr.key(2)])
    first, again, other = quick_jit(jax.vmap(net, (None, None, 0)))(0.3, x, keys)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_unet_without_a_key_or_a_rate_nothing_is_dropped():
    x = fields()[0]
    certain = apply(small("unet"), 0.3, x)
    assert np.array_equal(apply(small("unet", dropout=0.3), 0.3, x), certain)
    assert np.array_equal(apply(small("unet", dropout=0.0), 0.3, x, KEY), certain)


def test_unet_dropout_drops_whole_channels_and_keeps_their_mean():
    # Only the last convolution before the output has weights: the output is linear in its mask.
    net = UNet(2, widths=(8,), dropout=0.25, key=KEY)
    weight = jnp.zeros_like(net.down["level1"]["conv2"]["w"])
    net = eqx.tree_at(lambda net: net.down["level1"]["conv2"], net, {"w": weight, "b": jnp.arange(1.0, 9.0)})
    out = jnp.zeros_like(net.out["w"]).at[0, 0, 2, 2].set(1.0)
    one = eqx.tree_at(lambda net: net.out["w"], net, out)
    x, keys = fields(1, 2)[0], jr.split(KEY, 4000)
    draw = quick_jit(lambda net: jax.vmap(net, (None, None, 0))(0.1, x, keys))
    assert set(np.unique(draw(one))) == {0.0, np.float32(1 / 0.75)}
    draws = draw(net)
    error = np.abs(draws.mean(0) - apply(net, 0.1, x))
    assert (error < 4 * draws.std(0) / 4000**0.5).all()


@pytest.mark.parametrize("args", [0.5, jnp.zeros(2), jr.split(KEY, 3), {"key": KEY}])
def test_unet_refuses_args_that_are_no_key(args):
    with pytest.raises(TypeError, match=r"`args` must be one JAX key.*got .*jax.random.key\(0\)"):
        small("unet", dropout=0.1)(0.1, fields(1)[0], args)


# Errors


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet((8, 9), key=KEY), r"square field.*got \(8, 9\)"),
        (lambda: ResNet(0, key=KEY), "square field.*got 0"),
        (lambda: ResNet(8, width=0, key=KEY), "`width` must be at least 1, got 0"),
        (lambda: ResNet(8, blocks=0, key=KEY), "`blocks` must be at least 1, got 0"),
        (lambda: ResNet(8, boundary="open", key=KEY), '"periodic" or "zero", got \'open\''),  # pyright: ignore
        (lambda: ResNet(8, out_scale=0.0, key=KEY), "`out_scale` must be positive, got 0"),
        (lambda: UNet(32, key=KEY), "multiple of 64 for 7 levels.*Tiled"),
        (lambda: UNet(8, widths=(4, 0), key=KEY), "`widths` must be at least 1, got 0"),
        (lambda: UNet(8, widths=(), key=KEY), "`levels` must be at least 1, got 0"),
        (lambda: UNet(8, widths=(4,), dropout=1.0, key=KEY), r"`dropout` must be in \[0, 1\), got 1.0"),
        (lambda: FNO(modes=0, key=KEY), "`modes` must be at least 1, got 0"),
        (lambda: FNO(width=0, key=KEY), "`width` must be at least 1, got 0"),
        (lambda: FNO(ndim=3, key=KEY), "`ndim` must be 1 or 2, got 3"),
        (lambda: ResNet((), key=KEY), r"square field.*got \(\)"),
        (lambda: ResNet((8, 8, 8, 8), key=KEY), r"square field.*\(n,\) or \(n, n, n\), got \(8, 8, 8, 8\)"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ["resnet", "unet", "fno"])
def test_a_batch_without_vmap_is_refused(kind):
    with pytest.raises(ValueError, match=r"field.*got shape \(3, 8, 8\).*vmap"):
        small(kind)(0.1, fields())


@pytest.mark.parametrize("kind", ["resnet", "unet", "fno"])
def test_a_field_that_is_not_square_is_refused(kind):
    with pytest.raises(ValueError, match=r"field.*got shape \(8, 9\)"):
        small(kind)(0.1, jnp.zeros((8, 9)))


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_a_field_of_another_size_is_refused(kind):
    with pytest.raises(ValueError, match=r"shape \(8, 8\), got shape \(16, 16\).*Net\(shape="):
        small(kind)(0.1, jnp.zeros((16, 16)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_another_precision_is_refused(kind):
    net = small(kind)  # outside: where it is the first of its kind, its weights would be double too
    with jax.enable_x64(True), pytest.raises(TypeError, match="`x` is float64 and the network's weights are float32"):
        net(0.1, jnp.zeros((8, 8), "float64"))
