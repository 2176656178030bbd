"""Fields compared as pictures, against the formulas in NumPy; AlexNet has drawn weights, not the measured."""

import inspect
import sys
import textwrap
import types

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from smdpx import metrics
from smdpx.metrics._alexnet import SHAPES, WRITE_WEIGHTS
from smdpx.metrics._images import _scales
from tests._problems import double_precision


def pair(*shape):
    """Fields and their truths, which have much in common, of a range that is not an image's."""
    random = np.random.default_rng(0)
    truth = 7 + 3 * random.uniform(size=shape)
    return truth + random.normal(size=shape), truth


def scaled(x, truth):
    return (x - truth.min()) / (truth.max() - truth.min())


@pytest.fixture(scope="module")
def weights():
    """Of a size that keeps all layers alive, the linear ones positive as the measured."""
    random = np.random.default_rng(1)
    drawn = {name: random.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in SHAPES.items()}
    return {name: np.abs(array) if name.startswith("lin") else array for name, array in drawn.items()}


# Multi-scale structural similarity


def similarity(x, y):
    """The means of l·cs and of cs over the windows of one scale."""
    bell = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(bell, bell) / bell.sum() ** 2
    x, y = (sliding_window_view(z, (11, 11)) for z in (x, y))
    mean_x, mean_y = (np.sum(window * z, (-2, -1)) for z in (x, y))
    from_x, from_y = x - mean_x[..., None, None], y - mean_y[..., None, None]
    spread_x, spread_y, both = (
        np.sum(window * z, (-2, -1)) for z in (from_x * from_x, from_y * from_y, from_x * from_y)
    )
    cs = (2 * both + 0.03**2) / (spread_x + spread_y + 0.03**2)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return np.mean(luminance * cs), np.mean(cs)


def halved(x):
    doubled = x[np.minimum(np.arange(x.shape[0] + x.shape[0] % 2), x.shape[0] - 1)]
    doubled = doubled[:, np.minimum(np.arange(x.shape[1] + x.shape[1] % 2), x.shape[1] - 1)]
    return (doubled[::2, ::2] + doubled[1::2, ::2] + doubled[::2, 1::2] + doubled[1::2, 1::2]) / 4


def multi_scale(x, y, exponents):
    product = 1.0
    for j, exponent in enumerate(np.array(exponents) / sum(exponents)):
        whole, cs = similarity(x, y)
        product *= (whole if j + 1 == len(exponents) else cs) ** exponent
        x, y = halved(x), halved(y)
    return product


@pytest.mark.parametrize(
    ("shape", "exponents"),
    [
        ((11, 20), [1]),
        ((32, 32), [0.0448, 0.2856]),
        ((41, 46), [0.0448, 0.2856, 0.3001]),
        ((161, 161), [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]),
    ],
    ids=["one window high", "two scales", "odd", "all scales"],
)
def test_similarity_is_the_formula(shape, exponents):
    x, y = pair(2, *shape)
    expected = [multi_scale(scaled(a, y), scaled(b, y), exponents) for a, b in zip(x, y, strict=True)]
    assert metrics.ms_ssim(x, y) == pytest.approx(expected, abs=1e-5)
    assert 0.1 < expected[0] < 0.95


@pytest.mark.parametrize(
    ("pixels", "scales"),
    [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (81, 4), (160, 4), (161, 5), (1024, 5)],
)
def test_there_are_as_many_scales_as_have_room_for_a_window(pixels, scales):
    assert _scales(pixels) == scales


def test_a_structure_that_is_a_pixel_off_is_better_than_none():
    wave = np.broadcast_to(np.cos(2 * np.pi * 6 / 32 * np.arange(32)), (1, 32, 32))
    shifted, none = np.roll(wave, 1, axis=-1), np.zeros_like(wave)
    assert np.mean((shifted - wave) ** 2) > np.mean((none - wave) ** 2)
    assert metrics.ms_ssim(shifted, wave)[0] > metrics.ms_ssim(none, wave)[0] + 0.3


def test_the_opposite_has_no_similarity():
    x, _ = pair(1, 16, 16)
    assert metrics.ms_ssim(-x, x, data_range=(-9, 9)).tolist() == [0.0]


def test_more_fields_than_are_compared_at_once():
    x, y = pair(70, 16, 16)
    found = metrics.ms_ssim(x, y)
    assert found[-9:] == pytest.approx(metrics.ms_ssim(x[-9:], y[-9:], data_range=(y.min(), y.max())), rel=1e-5)


def test_similarity_in_double_precision():
    x, y = pair(2, 16, 16)
    with double_precision():
        similarities = metrics.ms_ssim(x, y)
    assert similarities.dtype == np.float64
    expected = [multi_scale(scaled(a, y), scaled(b, y), [1]) for a, b in zip(x, y, strict=True)]
    assert similarities == pytest.approx(expected, abs=1e-9)


def test_similarity_needs_dm_pix(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_pix", None)
    with pytest.raises(ImportError, match=r"needs dm_pix: pip install \"smdpx\[metrics\]\""):
        metrics.ms_ssim(*pair(1, 16, 16))


# The learned distance


def convolved(x, kernel, bias, stride, padding):
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.maximum(np.tensordot(kernel, windows, ((1, 2, 3), (0, 3, 4))) + bias[:, None, None], 0)


def pooled(x):
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-2, -1))


def features(image, weights):
    """Of an image (3, h, w) with colours in [-1, 1], each of torchvision's five layers by its name."""
    x = (image - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
    layers = [("1.0", 4, 2), ("2.3", 1, 2), ("3.6", 1, 1), ("4.8", 1, 1), ("5.10", 1, 1)]
    for name, stride, padding in layers:
        x = pooled(x) if name in ("2.3", "3.6") else x
        kernel, bias = (weights[f"net.slice{name}.{part}"] for part in ("weight", "bias"))
        x = convolved(x, kernel, bias, stride, padding)
        yield x / (np.sqrt(np.sum(x**2, 0)) + 1e-10)


def learned(x, y, weights):
    pairs = zip(features(x, weights), features(y, weights), strict=True)
    linear = [weights[f"lin{i}.model.1.weight"].reshape(-1, 1, 1) for i in range(5)]
    return sum(np.mean(np.sum(w * (f - g) ** 2, 0)) for w, (f, g) in zip(linear, pairs, strict=True))


def grey(x):
    return np.broadcast_to(2 * x - 1, (3, *x.shape))


@pytest.mark.parametrize("shape", [(31, 31), (64, 47)])
def test_distance_is_the_formula(weights, shape):
    x, y = pair(2, *shape)
    expected = [learned(grey(scaled(a, y)), grey(scaled(b, y)), weights) for a, b in zip(x, y, strict=True)]
    assert metrics.lpips(x, y, weights) == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0.01


def test_distance_in_colours_is_the_formula(weights):
    x, y = pair(1, 32, 32)
    viridis = matplotlib.colormaps["viridis"]
    a, b = (np.moveaxis(2 * viridis(scaled(z[0], y))[..., :3] - 1, -1, 0) for z in (x, y))
    assert metrics.lpips(x, y, weights, colours=viridis) == pytest.approx([learned(a, b, weights)], rel=1e-4)


def test_colours_have_three_channels(weights):
    with pytest.raises(ValueError, match=r"`colours` must give shape \(1, 32, 32, 3\), .*gave \(1, 32, 32\).*viridis"):
        metrics.lpips(*pair(1, 32, 32), weights, colours=lambda x: x)


# The weights


def test_weights_come_from_a_file(weights, tmp_path):
    x, y = pair(1, 32, 32)
    np.savez(tmp_path / "alex.npz", **weights)
    assert metrics.lpips(x, y, tmp_path / "alex.npz") == metrics.lpips(x, y, weights)


class Tensor:
    """As much of PyTorch's as the lines that write the weights ask of it."""

    def __init__(self, array):
        self.numpy = lambda: array


def test_the_lines_that_write_the_weights_do(weights, tmp_path, monkeypatch):
    # The package holds its linear layers twice, and the constants that scale its input.
    state = {**weights, "lins.0.model.1.weight": np.ones(3), "scaling_layer.shift": np.ones(3)}
    alex = types.SimpleNamespace(state_dict=lambda: {name: Tensor(array) for name, array in state.items()})
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=lambda net: {"alex": alex}[net]))
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(WRITE_WEIGHTS), {})
    x, y = pair(1, 32, 32)
    assert metrics.lpips(x, y, "lpips_alex.npz") == metrics.lpips(x, y, weights)


def test_the_lines_that_write_the_weights_are_in_the_docstring():
    assert WRITE_WEIGHTS in str(inspect.getdoc(metrics.lpips))


def test_a_missing_file_says_where_weights_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*alex.npz. .*torchvision's AlexNet(.|\n)*numpy.savez"):
        metrics.lpips(*pair(1, 32, 32), tmp_path / "alex.npz")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "alex.pth").write_text("no archive")
    with pytest.raises(ValueError, match=r"must be an .npz archive .*alex.pth is none(.|\n)*numpy.savez"):
        metrics.lpips(*pair(1, 32, 32), tmp_path / "alex.pth")


def test_missing_weights_are_named(weights):
    some = {name: array for name, array in weights.items() if "slice3.6" not in name}
    with pytest.raises(ValueError, match=r"2 are missing: net.slice3.6.weight, net.slice3.6.bias. (.|\n)*numpy.savez"):
        metrics.lpips(*pair(1, 32, 32), some)


def test_weights_of_another_network_are_refused(weights):
    other = {**weights, "net.slice1.0.weight": np.ones((64, 3, 3, 3))}
    with pytest.raises(ValueError, match=r"slice1.0.weight'\]` must have shape \(64, 3, 11, 11\), got \(64, 3, 3, 3\)"):
        metrics.lpips(*pair(1, 32, 32), other)


# What they share


@pytest.fixture(params=["ms_ssim", "lpips"])
def compare(request, weights):
    if request.param == "ms_ssim":
        return metrics.ms_ssim
    return lambda x, y, **how: metrics.lpips(x, y, weights, **how)


def test_equal_fields_are_alike(compare):
    x, y = pair(3, 32, 32)
    equal = 1.0 if compare is metrics.ms_ssim else 0.0
    assert compare(y, y) == pytest.approx([equal] * 3, abs=1e-6)
    assert (np.abs(compare(x, y) - equal) > 1e-2).all()


def test_either_may_be_the_truth(compare):
    x, y = pair(2, 32, 32)
    assert compare(x, y, data_range=(5, 12)) == pytest.approx(compare(y, x, data_range=(5, 12)), rel=1e-5)


def test_the_unit_does_not_matter(compare):
    x, y = pair(2, 32, 32)
    assert compare(100 * x - 20, 100 * y - 20) == pytest.approx(compare(x, y), rel=1e-4)


def test_the_range_is_that_of_all_truths(compare):
    x, y = pair(2, 32, 32)
    y[1] *= 2
    assert compare(x, y) == pytest.approx(compare(x, y, data_range=(y.min(), y.max())), rel=1e-6)
    assert compare(x[:1], y[:1]) != pytest.approx(compare(x, y)[:1], rel=1e-2)


def test_each_draw_is_compared_with_the_truth_of_its_case(compare):
    x, y = pair(3, 2, 32, 32)
    found = compare(jnp.asarray(x), jnp.asarray(y[0]))
    assert found.shape == (3, 2)
    assert found[-1] == pytest.approx(compare(x[-1], y[0]), rel=1e-4)


def test_cases_may_have_several_axes(compare):
    x, y = pair(2, 3, 32, 32)
    assert compare(x, y)[1] == pytest.approx(compare(x[1], y[1], data_range=(y.min(), y.max())), rel=1e-4)


ONES = np.ones((3, 32, 32))


@pytest.mark.parametrize(
    ("x", "y", "how", "message"),
    [
        (ONES[0], ONES[0], {}, r"`samples` must be fields of shape \(cases, h, w\).*got shape \(32, 32\).*\[None\]"),
        (ONES[:, :10], ONES[:, :10], {}, r"pixels a side, got shape \(3, 10, 32\).*jnp.repeat"),
        (ONES[:2], ONES, {}, r"`samples` must be shaped as `truth`, \(cases, h, w\).*samples \(2, 32, 32\)"),
        (np.ones((3, 5, 32, 32)), ONES, {}, r"\(cases, draws, ...\): write `jnp.moveaxis\(samples, 1, 0\)`"),
        (ONES * np.nan, ONES, {}, "`samples` must be finite"),
        (
            ONES,
            ONES,
            {},
            r"`data_range` must be .*got \(1.0, 1.0\). `truth` is constant, so name the range",
        ),
        (ONES, ONES, {"data_range": (2, 1)}, r"`data_range` must be .*got \(2.0, 1.0\). Its lower end comes first"),
    ],
    ids=["one field", "too small", "other cases", "cases in front", "exploded", "constant", "reversed range"],
)
def test_pictures_refuse(compare, x, y, how, message):
    with pytest.raises(ValueError, match=message):
        compare(x, y, **how)


def test_trees_are_compared_leaf_by_leaf(compare):
    with pytest.raises(TypeError, match=r"`samples` must be one array, got dict. Call the metric leaf by leaf"):
        compare({"smoke": jnp.asarray(ONES)}, {"smoke": jnp.asarray(ONES)})
