"""A generator that the tests of stores share: cheap, of NumPy alone, and counting how often it is asked."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx

KEY = jax.random.key(0)
TS = np.linspace(0, 1, 6)


def states(key, shape):
    return np.random.default_rng(np.asarray(jax.random.key_data(key))).standard_normal(shape, np.float32)


class After:
    """What becomes of what `Waves` has made: an object, and so no part of the recipe."""

    def then(self, paths):
        return paths


AFTER = After()


@dataclasses.dataclass(frozen=True)
class Waves:
    """Noise in place of waves."""

    scale: float = 1.0

    def __call__(self, key, count):
        x = self.scale * states(key, (count, 6, 2))
        args = {"a": sx.PerSample(jnp.asarray(x[:, 0, 0])), "mask": jnp.arange(2.0), "dt": 0.1, "name": "waves"}
        return AFTER.then(sx.Trajectories(x, TS, args))


class Interrupted(Exception):
    pass


@pytest.fixture
def from_chunk(monkeypatch):
    """`from_chunk(n, then)`: what `Waves`, the same recipe, does when it is called for the nth time and later."""

    def change(n: int, then: Callable[[Any], Any]) -> None:
        calls = itertools.count()
        monkeypatch.setattr(AFTER, "then", lambda paths: paths if next(calls) < n else then(paths))

    yield change
    monkeypatch.undo()


def stop(paths):
    raise Interrupted


def contents(path):
    """All chunk files of a store, by name."""
    files = [file for file in path.rglob("*") if "/c/" in str(file) and file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def make(at, count=20, generate: Any = Waves(), **how):
    return sx.stored(generate, count, key=KEY, at=at, **{"chunk": 8, **how})
