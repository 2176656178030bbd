"""Several devices: each has its share of a batch, and they meet once an update.

Windows are drawn as on one device and then shared out, so the number of devices changes no result but by rounding
(and the noise that a loss draws). The gradient is taken on each device alone, inside `jax.shard_map`, and averaged:
left to XLA, a window of n steps would sum it over the devices n times, within the loop over its steps.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def share_out(batch: Any, sharding: NamedSharding | None) -> Any:
    """The batch, laid on the devices."""
    return batch if sharding is None else jax.lax.with_sharding_constraint(batch, sharding)


def on_every_device(tree: Any, sharding: NamedSharding | None) -> Any:
    """The tree's arrays on every device: left on one, they would travel at every call."""
    return tree if sharding is None else eqx.filter_shard(tree, NamedSharding(sharding.mesh, PartitionSpec()))


def mean_over_devices(f: Callable[..., Any], sharding: NamedSharding | None) -> Callable[..., Any]:
    """f(batch, params, key) on each device's share of the batch, averaged; f itself on one device."""
    if sharding is None:
        return f
    axes = _axes(sharding)
    everywhere = PartitionSpec()

    def local(batch: Any, params: Any, key: Any) -> Any:
        return jax.lax.pmean(f(batch, params, jr.fold_in(key, jax.lax.axis_index(axes))), axes)

    shares = (sharding.spec, everywhere, everywhere)
    # With `check_vma` JAX would sum the gradients where the weights are used: in the loop again.
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=shares, out_specs=everywhere, check_vma=False)


def pieces(x: Any) -> int:
    """Into how many pieces a known array's first axis is cut, to lie on several devices."""
    sharding = None if isinstance(x, Tracer) else getattr(x, "sharding", None)
    return _pieces(sharding) if isinstance(sharding, NamedSharding) and sharding.spec else 1


def take(x: Any, index: Any) -> Any:
    """x[index], laid on the devices as x is: JAX would put all of it on each."""
    some = rows_of(x, index)
    return some if pieces(x) == 1 else jax.device_put(some, x.sharding)


def rows_of(x: Any, index: Any) -> Any:
    """x[index]; by an array of numbers in one program, where JAX's operator compiles half a dozen for each shape."""
    return _rows_of(x, index) if isinstance(x, jax.Array) and isinstance(index, np.ndarray) else x[index]


@jax.jit
def _rows_of(x: jax.Array, index: jax.Array | np.ndarray) -> jax.Array:
    return x[index]


def _axes(sharding: NamedSharding) -> tuple[str, ...]:
    """The mesh's axes that an array's first axis is split over."""
    return tuple(jtu.tree_leaves(sharding.spec[0]))


def _pieces(sharding: NamedSharding) -> int:
    return prod(sharding.mesh.shape[axis] for axis in _axes(sharding))


def check_sharding(sharding: Any, counts: Sequence[int], loss: Any) -> None:
    """Raise where a batch of `counts` trajectories cannot be laid on the devices, or the loss cannot run there."""
    if sharding is None:
        return
    if (
        not isinstance(sharding, NamedSharding)
        or len(sharding.spec) != 1
        or any(kind is not AxisType.Auto for kind in sharding.mesh.axis_types)
    ):
        raise TypeError(
            f"`sharding` splits the first axis of a batch over a mesh of automatic axes; got {sharding}. Write "
            '`mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))` and '
            '`NamedSharding(mesh, PartitionSpec("batch"))`.'
        )
    shares = _pieces(sharding)
    for count in counts:
        if count % shares:
            raise ValueError(
                f"`sharding` lays a batch on {shares} devices, and {count} trajectories a batch are no multiple of it: "
                "change the `batch` of the stage (with `FreshPaths`, a batch has batch / windows trajectories)."
            )
    adjoints = jtu.tree_leaves(loss, is_leaf=lambda leaf: isinstance(leaf, dfx.AbstractAdjoint))
    if any(isinstance(adjoint, dfx.RecursiveCheckpointAdjoint) for adjoint in adjoints):
        raise TypeError(
            "`diffrax.RecursiveCheckpointAdjoint` cannot run under `sharding` (diffrax issue 765): leave the loss's "
            "`adjoint` out; more devices have more memory."
        )
