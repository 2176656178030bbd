"""Training of the heat problem's scores: seeds side by side on one device, or each over all devices."""

import dataclasses
import pathlib
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from devices import over_devices

import smdpx as sx
from heat.presets import Preset
from heat.problem import Scheme, fields, g


def data(preset: Preset, scheme: Scheme, key: jax.Array) -> sx.FreshPaths:
    """A seed's initial fields, simulated anew for every update, on random times."""
    P = scheme.P if scheme.data is None else scheme.data
    x0 = fields(preset.trajectories, key)
    return sx.FreshPaths(P + g, x0, scheme.grid(), windows=preset.windows, solver=scheme.solver)


def train(
    preset: Preset,
    scheme: Scheme,
    curriculum: list[sx.Stage],
    checkpoints: pathlib.Path,
    starts: list[sx.Score] | None = None,
) -> tuple[list[sx.Score], float]:
    """One score a seed, each on fields of its own, and the seconds of training that each took."""

    def one(key: jax.Array, start: sx.Score | None, **options: Any) -> sx.Score:
        key_data, key_net, key_fit = jr.split(key, 3)
        s = sx.Score(preset.network(key_net), g) if start is None else start
        loss = sx.WindowLoss(solver=scheme.solver)
        return sx.fit(
            -scheme.P + 2 * s, data(preset, scheme, key_data), key=key_fit, loss=loss, curriculum=curriculum,
            optimizer=preset.optimizer, **options,
        )  # fmt: skip

    keys = jr.split(jr.key(0), preset.seeds)
    name = f"{scheme.name.replace(' ', '_')}-{curriculum[-1].window}"
    finished = checkpoints / f"{name}.eqx"
    if starts is None and finished.exists():  # trained by an earlier part
        with finished.open("rb") as file:
            seconds = float(eqx.tree_deserialise_leaves(file, jnp.zeros(())))
            like = stack([sx.Score(preset.network(key), g) for key in keys])
            shortest, longest = eqx.tree_deserialise_leaves(file, jnp.zeros(2)).tolist()
            trained = eqx.tree_deserialise_leaves(file, like)
        how = sx.Trained(
            (shortest, longest), type(scheme.solver), tuple((s.window, s.stride, s.updates) for s in curriculum)
        )
        return [dataclasses.replace(s, trained=how) for s in unstack(trained, preset.seeds)], seconds
    began = time.perf_counter()
    if preset.resumable:
        sharding = over_devices(curriculum)
        scores = [
            one(
                key,
                None if starts is None else starts[i],
                sharding=sharding,
                checkpoint=checkpoints / f"{name}-{i}.eqx",
            )
            for i, key in enumerate(keys)
        ]
    else:  # all seeds side by side in one program
        many = None if starts is None else stack(starts)
        scores = unstack(jax.block_until_ready(eqx.filter_jit(eqx.filter_vmap(one))(keys, many)), preset.seeds)
    seconds = (time.perf_counter() - began) / preset.seeds
    if starts is None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        assert scores[0].trained is not None
        with finished.open("wb") as file:
            eqx.tree_serialise_leaves(file, jnp.asarray(seconds))
            eqx.tree_serialise_leaves(file, jnp.asarray(scores[0].trained.steps))
            eqx.tree_serialise_leaves(file, stack(scores))
    return scores, seconds


def stack(scores: list[sx.Score]) -> sx.Score:
    """Scores of one kind as one, the seeds in front of every array."""
    arrays, rest = zip(*(eqx.partition(s, eqx.is_array) for s in scores), strict=True)
    return eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays), rest[0])


def unstack(scores: sx.Score, count: int) -> list[sx.Score]:
    """The scores of `stack`."""
    arrays, rest = eqx.partition(scores, eqx.is_array)
    return [eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), rest) for i in range(count)]
