"""Fields to start from, the scale they are trained in, and their files."""

# Wrong on purpose.
# pyright: reportArgumentType=false

import sys

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx import data
from smdpx.exact import power_law_field
from tests._problems import as_users_run as as_users_run, double_precision

# This generator compiles in a tenth of the default's time.
KEY = jax.random.key(0, impl="rbg")

# Gaussian random fields


@pytest.mark.parametrize("n", [2, 7, 16])
@pytest.mark.parametrize("power", [0, 4, 5.0])
def test_each_mode_of_a_random_field_has_the_laws_variance(n, power):
    x = data.gaussian_random_fields(4000, n, power, key=KEY)
    variances = np.mean(np.abs(np.fft.fft2(np.asarray(x, float), norm="ortho")) ** 2, axis=0)
    expected = np.asarray(power_law_field(n, power))
    assert variances.ravel()[0] == pytest.approx(0, abs=1e-9)
    assert variances.ravel()[1:] / expected.ravel()[1:] == pytest.approx(1, abs=0.13)
    assert x.std() == pytest.approx(1, abs=0.02)


def test_the_corner_makes_the_start_of_turbulence():
    # Li et al. 2021: the law N(0, 7³ (-Δ + 49)^-2.5) on the unit torus, without a mean; pointwise .1852.
    k = np.fft.fftfreq(16, 1 / 16)
    law = 7.0**3 * (4 * np.pi**2 * (k[:, None] ** 2 + k[None, :] ** 2) + 49) ** -2.5
    law[0, 0] = 0
    ours = np.asarray(power_law_field(16, 5, 7 / (2 * np.pi)))
    np.testing.assert_allclose(0.1852**2 * ours, law * 16**2, rtol=5e-3, atol=1e-12)
    x = 0.1852 * data.gaussian_random_fields(4000, 16, 5, 7 / (2 * np.pi), key=KEY)
    variances = np.mean(np.abs(np.fft.fft2(np.asarray(x, float)) / 16**2) ** 2, axis=0)
    assert variances.ravel()[1:] / law.ravel()[1:] == pytest.approx(1, abs=0.13)
    with pytest.raises(ValueError, match="`corner` is a wavenumber, ≥ 0; got -1"):
        data.gaussian_random_fields(1, 8, corner=-1, key=KEY)


def test_random_fields_are_independent():
    x = data.gaussian_random_fields(400, 4, 0, key=KEY).reshape(400, 16)
    assert np.abs(np.corrcoef(x)[np.triu_indices(400, 1)].mean()) < 0.01
    assert not jnp.array_equal(x, data.gaussian_random_fields(400, 4, 0, key=jax.random.key(1)).reshape(400, 16))


def test_random_fields_in_double_precision():
    with double_precision():
        assert data.gaussian_random_fields(2, 4, key=jax.random.key(0)).dtype == jnp.float64


@pytest.mark.parametrize(("count", "n", "message"), [(0, 8, "`count` must be"), (3, 1, "`n` should be at least 2")])
def test_random_fields_refuse(count, n, message):
    with pytest.raises(ValueError, match=message):
        data.gaussian_random_fields(count, n, key=KEY)


# Normalisation


def test_one_scale_for_all_pixels_is_the_default():
    x = 5 + 3 * jax.random.normal(KEY, (100, 4, 8, 8))
    scale = data.Normalisation.of(x)
    assert scale.mean.shape == scale.std.shape == ()
    assert (float(scale.mean), float(scale.std)) == pytest.approx((float(x.mean()), float(x.std())), rel=1e-5)
    assert scale.apply(x).mean() == pytest.approx(0, abs=1e-5)
    assert scale.apply(x).std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("axis", [(0, 1, 2), (0, 1, 2, -2), (0, 2, 3), 0])
def test_a_scale_fits_states_and_batches_of_them(axis):
    x = jnp.arange(1.0, 4.0)[None, None, None] * jax.random.normal(KEY, (50, 6, 6, 3))
    scale = data.Normalisation.of(x, axis)
    axes = tuple({i % 4 for i in ((axis,) if isinstance(axis, int) else axis)})
    assert scale.apply(x).mean(axes) == pytest.approx(0, abs=1e-5)
    assert scale.apply(x).std(axes) == pytest.approx(1, rel=1e-4)
    for states in (x[0], x[:2], x[None]):
        assert scale.apply(states).shape == states.shape
        assert jnp.allclose(scale.invert(scale.apply(states)), states, atol=1e-5)
    assert jnp.allclose(jax.vmap(scale.apply)(x), scale.apply(x))


def test_a_scale_is_found_in_double_precision():
    # In single precision the squares would cancel; more numbers than are held at once.
    x = 1000 + np.random.default_rng(0).standard_normal((300, 60_000), np.float32)
    scale = data.Normalisation.of(x)
    assert float(scale.std) == pytest.approx(np.std(x, dtype=np.float64), rel=1e-6)


def test_a_scale_keeps_the_precision_of_states():
    scale = data.Normalisation(1.0, 2.0)
    for x in (jnp.ones(3, jnp.bfloat16), np.ones(3, np.float32)):
        assert scale.apply(x).dtype == scale.invert(x).dtype == x.dtype


def test_a_scale_in_a_network_is_not_trained():
    scale = data.Normalisation(1.0, 2.0)
    gradient = eqx.filter_grad(lambda scale: scale.apply(jnp.ones(3)).sum() + scale.invert(jnp.ones(3)).sum())(scale)
    assert jax.tree.leaves(gradient) == [0, 0]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: data.Normalisation(0.0, 0.0), ValueError, "`std` must be finite and positive, got 0; data"),
        (lambda: data.Normalisation(np.nan, 1.0), ValueError, "`mean` must be finite, got nan"),
        (lambda: data.Normalisation.of(jnp.full((9, 7), 0.1)), ValueError, "`std` must be .* positive, got 0;"),
        (
            lambda: data.Normalisation.of(jnp.ones((9, 2)).at[0, 0].set(3), axis=0),
            ValueError,
            r"positive, got 0 at index \(1,\)",
        ),
        (lambda: data.Normalisation.of(jnp.ones((9, 2)).at[0, 0].set(jnp.inf)), ValueError, "got 1 of 18 values"),
        (lambda: data.Normalisation.of(jnp.ones((9, 2)), axis=1), ValueError, "`axis` must hold 0.*got 1"),
        (lambda: data.Normalisation.of(jnp.ones((9, 2)), axis=(0, 2)), ValueError, r"`axis` must name axes.*\(9, 2\)"),
        (lambda: data.Normalisation.of(jnp.ones((0, 2))), ValueError, r"samples in front, got shape \(0, 2\)"),
        (lambda: data.Normalisation.of(jnp.ones(3, int)), TypeError, "floating, got dtype int32"),
        (lambda: data.Normalisation(0.0, 1.0).apply(jnp.ones(3, int)), TypeError, "floating, got dtype int32"),
        (lambda: data.Normalisation(np.ones(2), np.ones(2)).apply(jnp.ones(3)), ValueError, r"\(2,\).*got \(3,\)"),
    ],
)
def test_scales_refuse(build, error, message):
    with pytest.raises(error, match=message):
        build()


# Files


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fields.h5"


def test_a_store_is_read_as_it_was_written(file):
    x, t = jax.random.normal(KEY, (5, 4, 3, 3)), np.linspace(0, 1, 4)
    data.save_hdf5(file, {"x": x, "t": t, "test/x": x[:1]})
    read = data.load_hdf5(file, ["x", "t"])
    assert list(read) == ["x", "t"]
    assert np.array_equal(read["x"], x)
    assert (read["x"].dtype, read["t"].dtype) == (np.float32, np.float64)
    assert set(data.load_hdf5(str(file))) == {"x", "t", "test/x"}
    assert data.load_hdf5(file, ["/test/x"])["test/x"].shape == (1, 4, 3, 3)


def test_a_dataset_a_sample_becomes_one_array(file):
    samples = {f"{i:05}": np.full((3, 2), i, np.float32) for i in (10, 2, 0)}
    data.save_hdf5(file, samples)
    read = data.load_hdf5_samples(file)
    assert read.dtype == np.float32
    assert read[:, 0, 0].tolist() == [0, 2, 10]
    assert data.load_hdf5_samples(file, ["00010", "00000"])[:, 0, 0].tolist() == [10, 0]


def test_samples_are_in_the_order_of_their_numbers(file):
    data.save_hdf5(file, {f"run{i}": np.array(i) for i in range(12)})
    assert data.load_hdf5_samples(file).tolist() == list(range(12))


def test_writing_replaces_a_store_and_bad_arrays_do_not(file):
    data.save_hdf5(file, {"x": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"`arrays\['name'\]` must hold numbers"):
        data.save_hdf5(file, {"y": jnp.ones(2), "name": np.array(["heat"])})
    assert list(data.load_hdf5(file)) == ["x"]
    data.save_hdf5(file, {"y": jnp.ones(2)})
    assert list(data.load_hdf5(file)) == ["y"]


def test_arrays_that_are_missing_are_named_beside_those_that_are_not(file):
    data.save_hdf5(file, {"x": jnp.ones(3), "t": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"fields.h5 lacks 'paths', 'ts'; it holds 't', 'x'"):
        data.load_hdf5(file, ["x", "paths", "ts"])


def test_the_list_of_what_a_file_holds_is_short(file):
    data.save_hdf5(file, {f"{i:05}": np.zeros(1) for i in range(100)})
    with pytest.raises(ValueError, match=r"it holds '00000', .*'00007', ... \(100 in all\)"):
        data.load_hdf5(file, ["x"])


@pytest.mark.parametrize("load", [data.load_hdf5, data.load_hdf5_samples])
def test_a_file_without_arrays_says_so(file, load):
    h5py.File(file, "w").close()
    with pytest.raises(ValueError, match="lacks at least one array; it holds none"):
        load(file)


def test_samples_of_different_shapes_are_named(file):
    data.save_hdf5(file, {"00000": np.zeros((3, 2)), "00001": np.zeros((3, 2)), "00002": np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"'00000' has \(3, 2\) and '00002' \(3, 4\).*load_hdf5"):
        data.load_hdf5_samples(file)


def test_arrays_that_hold_no_numbers_are_named(file):
    with h5py.File(file, "w") as store:
        store["x"], store["comment"] = np.zeros(3), "made on a Monday"
    with pytest.raises(ValueError, match="'comment' must hold numbers.*dtype object"):
        data.load_hdf5(file)
    assert data.load_hdf5(file, ["x"])["x"].shape == (3,)


def test_files_that_are_none(file):
    with pytest.raises(FileNotFoundError, match="there is no file .*fields.h5"):
        data.load_hdf5(file)
    file.write_text("x, t")
    with pytest.raises(ValueError, match="fields.h5 is no HDF5 file"):
        data.load_hdf5_samples(file)


def test_wrong_arguments_of_files(file):
    with pytest.raises(ValueError, match="`arrays` holds no arrays"):
        data.save_hdf5(file, {})
    data.save_hdf5(file, {"x": jnp.ones(3)})
    with pytest.raises(TypeError, match=r"`names` must be several names.*`\['x'\]`"):
        data.load_hdf5(file, "x")


def test_missing_h5py_is_named_with_the_extra(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (data.load_hdf5, data.load_hdf5_samples, lambda file: data.save_hdf5(file, {"x": np.ones(1)})):
        with pytest.raises(ImportError, match=r"pip install \"smdpx\[data\]\""):
            call(file)


def test_complex_fields_are_told_to_keep_both_parts():
    with pytest.raises(TypeError, match=r"must be real.*jnp.stack\(\[x.real, x.imag\].*irfft"):
        data.Normalisation.of(np.ones((3, 4), complex))


# Other grids


def wave(n, k, phase=0.0):
    r = 2 * np.pi * np.arange(n) / n
    return jnp.asarray(np.cos(k[0] * r[:, None] + k[1] * r[None, :] + phase), jnp.float32)


@pytest.mark.parametrize("k", [(0, 0), (1, 0), (2, -3), (3, 3)])
def test_a_wave_that_both_grids_hold_is_the_same_wave(k):
    np.testing.assert_allclose(data.resample(wave(24, k, 0.3), 8), wave(8, k, 0.3), atol=1e-6)
    np.testing.assert_allclose(data.resample(wave(8, k, 0.3), 24), wave(24, k, 0.3), atol=1e-6)


def test_a_shorter_wave_leaves_nothing():
    for k in ((5, 0), (0, 9), (5, 1)):
        np.testing.assert_allclose(data.resample(wave(24, k), 8), np.zeros((8, 8)), atol=1e-6)


def test_the_shortest_wave_is_kept_there_and_back():
    # cos(4r) is on eight points what it is on more; sin(4r) is 0 there.
    np.testing.assert_allclose(data.resample(wave(8, (4, 0)), 16), wave(16, (4, 0)), atol=1e-6)
    np.testing.assert_allclose(data.resample(wave(16, (4, 0)), 8), wave(8, (4, 0)), atol=1e-6)
    np.testing.assert_allclose(data.resample(wave(16, (4, 0), -np.pi / 2), 8), np.zeros((8, 8)), atol=1e-6)
    x = jax.random.normal(KEY, (3, 8, 8))
    for n in (10, 16, 24):
        np.testing.assert_allclose(data.resample(data.resample(x, n), 8), x, atol=1e-5)


def test_along_other_axes_and_in_double_precision():
    x = jax.random.normal(KEY, (8, 3, 12))
    one = data.resample(x, 6, axes=(0,))
    assert one.shape == (6, 3, 12)
    np.testing.assert_allclose(one[:, 1, 2], data.resample(x[:, 1, 2], 6, axes=(0,)), atol=1e-6)
    both = data.resample(jnp.moveaxis(x, 1, 0), 4)
    np.testing.assert_allclose(data.resample(x, 4, axes=(0, 2)), jnp.moveaxis(both, 0, 1), atol=1e-6)
    with double_precision():
        assert data.resample(x.astype(jnp.float64), 4, axes=(0,)).dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.resample(jnp.zeros((8, 8)), 5), ValueError, "even numbers of points, at least 2; got 5: write 6"),
        (lambda: data.resample(jnp.zeros((7, 8)), 4), ValueError, "got 7.*name the periodic axes by `axes`"),
        (lambda: data.resample(jnp.zeros(8), 4), ValueError, r"`axes` must name different axes of `x`.*\(8,\)"),
        (lambda: data.resample(jnp.zeros((8, 8), int), 4), TypeError, "`x` must be floating"),
        (lambda: data.resample(jnp.zeros((8, 8), complex), 4), TypeError, "`x` must be real"),
    ],
)
def test_fields_that_cannot_be_resampled(call, error, message):
    with pytest.raises(error, match=message):
        call()
