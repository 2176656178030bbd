"""A network's arrays as a .npz archive, by the names of their places: "enc/block1/conv2/w".

Only arrays are stored, not the options that the network was built with: it is built first, then filled.
"""

import os
import zipfile
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

Net = TypeVar("Net", bound=PyTree)


def save_arrays(net: PyTree, file: str | os.PathLike[str]) -> None:
    """Write a network's arrays to a .npz archive, one entry for each, named by its place: "enc/in/w".

    Args:
        net: any pytree; what is not an array is left out.
        file: the path, written as it is; an existing file is replaced.

    Raises:
        TypeError: a file that is no path, such as a network: the network comes first.

    >>> import jax, os, tempfile, smdpx as sx
    >>> net = sx.nn.ResNet(8, width=4, blocks=1, key=jax.random.key(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_arrays(net, os.path.join(folder, "net.npz"))
    ...     again = load_arrays(net, os.path.join(folder, "net.npz"))
    >>> bool((again.enc["in"]["w"] == net.enc["in"]["w"]).all())
    True
    """
    _check_file(file)
    arrays = {name: np.asarray(_storable(leaf)) for name, leaf in _named(net).items()}
    # np.savez would add ".npz" to a path, not to an open file.
    with open(file, "wb") as opened:
        np.savez(opened, **arrays)  # pyright: ignore[reportArgumentType]


def load_arrays(net: Net, file: str | os.PathLike[str]) -> Net:
    """A network like ``net`` with the arrays of an archive that `save_arrays` wrote, or of the same names.

    The names are those of the network's own places. Those of a wrapped network begin with "net/": fill it first, then
    wrap it, as in ``Tiled(load_arrays(ResNet(64, key=key), file), 16)``.

    Args:
        net: a network of the same architecture; its arrays give shapes and precision.
        file: path of the .npz archive.

    Returns:
        A new network.

    Raises:
        TypeError: a file that is no path.
        ValueError: the file is no such archive, or of another architecture: an array is missing, left over, of another
            shape, or complex where a real one is wanted, or of fractions where whole numbers are. The message says
            which.
    """
    _check_file(file)
    stored = _read(file)
    named = _named(net)
    complaints = [
        *(f"`{name}` {leaf.shape} is missing" for name, leaf in named.items() if name not in stored),
        *(f"`{name}` {array.shape} is left over" for name, array in stored.items() if name not in named),
        *(
            f"`{name}` is {_kind(stored[name])} in the file, the network's {_kind(leaf)}"
            for name, leaf in named.items()
            if name in stored and not _fits(stored[name], leaf)
        ),
    ]
    if complaints:
        more = f", and {len(complaints) - 5} more" if len(complaints) > 5 else ""
        raise ValueError(
            f"`{os.fspath(file)}` holds the arrays of another architecture: {'; '.join(complaints[:5])}{more}. Build "
            "the network with the options that it was saved with"
        )

    def replace(path: Any, leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        # NumPy's own arrays stay NumPy's, which may hold what JAX would narrow.
        numbers = np if isinstance(leaf, np.ndarray) else jnp
        return numbers.asarray(stored[_name(path)], leaf.dtype)

    return jtu.tree_map_with_path(replace, net)


def _check_file(file: Any) -> None:
    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"The network comes first, then the file's path; got a {type(file).__name__} for the path.")


def _name(path: Any) -> str:
    return jtu.keystr(path, simple=True, separator="/")


def _named(net: Any) -> dict[str, jax.Array | np.ndarray]:
    return {_name(path): leaf for path, leaf in jtu.tree_leaves_with_path(net) if eqx.is_array(leaf)}


def _read(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with open(file, "rb") as opened:
        try:
            archive = np.load(opened, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"`{os.fspath(file)}` is no .npz archive of arrays; write one with `save_arrays`"
            ) from error


def _storable(leaf: Any) -> Any:
    # The format knows no bfloat16; single precision holds every value of it.
    return leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf


def _fits(array: np.ndarray, leaf: Any) -> bool:
    return array.shape == leaf.shape and _rank(array) <= _rank(leaf)


def _rank(array: Any) -> int:
    """Whole numbers, real ones, complex ones: none fits into one before it."""
    kinds = (jnp.floating, jnp.complexfloating)
    return next((i for i, kind in enumerate(kinds, start=1) if jnp.issubdtype(array.dtype, kind)), 0)


def _kind(array: Any) -> str:
    return f"{('whole ', '', 'complex ')[_rank(array)]}{array.shape}"
