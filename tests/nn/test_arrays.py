"""Archives of a network's arrays: names are places, and another architecture is named."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx.nn import load_arrays, save_arrays
from tests._problems import as_users_run as as_users_run
from tests.nn.test_fields import KINDS, small


@pytest.mark.parametrize("kind", KINDS)
def test_saved_arrays_are_loaded_into_a_network_with_other_weights(kind, tmp_path):
    net = small(kind)
    save_arrays(net, tmp_path / "arrays.any")
    other = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf) + 1), net)
    again = load_arrays(other, tmp_path / "arrays.any")
    # Compared by NumPy: nothing to compile for each shape.
    again, other, net = (jax.tree.map(np.asarray, each) for each in (again, other, net))
    assert eqx.tree_equal(again, net)
    assert not eqx.tree_equal(other, net)


def test_archives_names_are_places(tmp_path):
    save_arrays(small("resnet"), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as stored:
        assert {"enc/in/w", "enc/out/b", "dec/block1/conv2/b", "dec/out/w"} < set(stored.files)


def test_loading_keeps_the_networks_precision(tmp_path):
    with jax.enable_x64(True):
        wide = {"w": jnp.arange(3, dtype="float64") / 3, "spectrum": jnp.ones(2, "complex128")}
        save_arrays(wide, tmp_path / "net.npz")
        net = {"w": jnp.zeros(3, "float32"), "spectrum": jnp.zeros(2, "complex64")}
        again = load_arrays(net, str(tmp_path / "net.npz"))
    assert (again["w"].dtype, again["spectrum"].dtype) == ("float32", "complex64")
    assert np.array_equal(again["w"], wide["w"].astype("float32"))


def test_half_precision_goes_through_an_archive(tmp_path):
    net = {"w": jnp.arange(3, dtype=jnp.bfloat16)}
    save_arrays(net, tmp_path / "net.npz")
    assert eqx.tree_equal(load_arrays(net, tmp_path / "net.npz"), net)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"w": jnp.zeros(3)}, r"`b` \(2,\) is missing"),
        ({"w": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(4)}, r"`c` \(4,\) is left over"),
        ({"w": jnp.zeros((3, 1)), "b": jnp.zeros(2)}, r"`w` is \(3, 1\) in the file, the network's \(3,\)"),
        (
            {"w": jnp.zeros(3), "b": jnp.zeros(2, "complex64")},
            r"`b` is complex \(2,\) in the file, the network's \(2,\)",
        ),
        ({f"x{i}": jnp.zeros(1) for i in range(7)}, "and 4 more. Build the network with the options"),
    ],
)
def test_arrays_of_another_architecture_are_named(stored, message, tmp_path):
    save_arrays(stored, tmp_path / "net.npz")
    with pytest.raises(ValueError, match=message):
        load_arrays({"w": jnp.ones(3), "b": jnp.ones(2)}, tmp_path / "net.npz")


def test_fractions_are_no_whole_numbers(tmp_path):
    save_arrays({"n": jnp.array([1.5, 2.5])}, tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"`n` is \(2,\) in the file, the network's whole \(2,\)"):
        load_arrays({"n": jnp.array([1, 2])}, tmp_path / "net.npz")


def test_arrays_of_numpy_stay_numpys(tmp_path):
    net = {"n": np.arange(3), "w": np.array([0.1])}
    save_arrays(net, tmp_path / "net.npz")
    again = load_arrays(net, tmp_path / "net.npz")
    assert eqx.tree_equal(again, net)


def test_another_width_is_another_architecture(tmp_path):
    net = small("resnet")
    save_arrays(eqx.tree_at(lambda net: net.enc["in"]["w"], net, np.zeros((6, 2, 4, 4))), tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"`enc/in/w` is \(6, 2, 4, 4\) in the file, the network's \(4, 2, 4, 4\)"):
        load_arrays(net, tmp_path / "net.npz")


def test_a_file_that_is_no_archive(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    for name in ("one.npy", "text.npz", "cut.npz"):
        with pytest.raises(ValueError, match=f"{name}` is no .npz archive.*save_arrays"):
            load_arrays({"w": jnp.ones(3)}, tmp_path / name)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("call", [save_arrays, load_arrays])
def test_the_network_comes_before_the_file(call, tmp_path):
    with pytest.raises(TypeError, match="The network comes first, then the file's path; got a dict for the path"):
        call(tmp_path / "net.npz", {"w": jnp.ones(3)})
