"""How the `paper` presets divide their batches."""

import math
from collections.abc import Iterable

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import smdpx as sx


def over_devices(curriculum: Iterable[sx.Stage]) -> NamedSharding:
    """Over as many devices as divide the batch of every stage: windows side by side, weights on each."""
    count = math.gcd(jax.device_count(), *(stage.batch for stage in curriculum))
    mesh = jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    return NamedSharding(mesh, PartitionSpec("batch"))
