"""How the `paper` presets divide their batches."""

import math

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def over_devices(*batches: int) -> NamedSharding:
    """Over as many devices as divide all of these batches: windows side by side, weights on each."""
    count = math.gcd(jax.device_count(), *batches)
    mesh = jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    return NamedSharding(mesh, PartitionSpec("batch"))
