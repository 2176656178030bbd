"""Trajectories whose states are blurred anew for each update: data for deterministic systems.

x̃_m = x_m + g(t_m) √Δt z_m,    z_m ~ N(0, 1), independent                       (arXiv:2301.10250, appendix A.3)
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift
from ..equation._diffusion import Diffusion
from ..solving import _validate as validate
from ..solving._terms import over_samples
from ._store import StoredPaths
from ._trajectories import AbstractPaths, Trajectories
from ._windows import Windows

__all__ = ["Perturbed", "blurred"]


class Perturbed(AbstractPaths):
    """Trajectories with noise added to each state, drawn anew for every update: what a deterministic system lacks.

    Without noise along the path, states have no density that a score could be of. Blurred by σ = g√Δt, the noise of one
    step, they have one (arXiv:2301.10250, appendix A.3). Windows of two or more such states train `-P + 2*s`, and s is
    then the score of the blurred states: `-P + s + g` keeps their law at every time, and `-P + 2*s + g` is narrower
    than they are (the guide on deterministic systems says by how much). Or blur inside of the step, by `SplitEuler`, on
    trajectories as they are.

    Each state's Δt is that of the step that leads to it, of a window's first state that of its first step.

    Args:
        paths: trajectories, of any kind.
        g: the noise that the equation is given: one state's blur is that of one step.

    Raises:
        TypeError: g is no `Diffusion`, or paths are no trajectories.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> x0 = jax.random.normal(jax.random.key(0), (64,))
    >>> paths = sx.Perturbed(sx.simulate(P, x0, jnp.linspace(0.0, 1.0, 11)), g)
    >>> s = sx.Score(sx.nn.MLP(key=jax.random.key(1)), g)
    >>> s = sx.fit(-P + 2 * s, paths, key=jax.random.key(2), curriculum=[sx.Stage(updates=5)])
    """

    paths: AbstractPaths
    g: Diffusion

    def __init__(self, paths: AbstractPaths, g: Diffusion):
        if not isinstance(g, Diffusion):
            raise TypeError(f"`Perturbed` needs the noise of a step, `sx.Diffusion(g)`; got {g!r}.")
        if not isinstance(paths, AbstractPaths):
            raise TypeError(
                f"`Perturbed` takes trajectories that know their times; got {type(paths).__name__}. Write "
                "`sx.Trajectories(x, ts)`, or take what `sx.simulate` returns."
            )
        self.paths, self.g = paths, g

    def __len__(self) -> int:
        return len(self.counted())

    def __getitem__(self, index: Any) -> "Perturbed":
        """Some of the trajectories, by a slice, a mask, or an array of numbers."""
        return Perturbed(self.counted()[index], self.g)

    @property
    def ts(self) -> Any:
        """Those of the trajectories."""
        return self.paths.ts

    def check(self, equation: AbstractDrift | SDE, stages: Sequence[Any]) -> None:
        """As the trajectories'."""
        self.paths.check(equation, stages)

    def made_by(self) -> type | None:
        """None: with the noise the steps are no solver's."""
        return None

    def samples(self) -> tuple[State, Args]:
        """Those of the trajectories."""
        return self.paths.samples()

    def steps(self, stride: int) -> tuple[float, float]:
        """Those of the trajectories."""
        return self.paths.steps(stride)

    def span(self) -> tuple[float, float]:
        """The first and the last time of the trajectories."""
        return self.paths.span()

    def source(self, strides: Sequence[int]) -> "PerturbedSource":
        """The trajectories' with the noise."""
        return PerturbedSource(self.paths.source(strides), self.g)

    def counted(self) -> Trajectories | StoredPaths:
        """The trajectories, where they are a number of them."""
        if not isinstance(self.paths, Trajectories | StoredPaths):
            raise TypeError(
                f"These are `{type(self.paths).__name__}`, which are not a number of trajectories: simulate some, "
                "`sx.Perturbed(sx.simulate(P, x0, ts), g)`."
            )
        return self.paths


class PerturbedSource(eqx.Module):
    """A source of windows, and the noise of their states."""

    source: Any
    g: Diffusion

    @property
    def args(self) -> Args:
        """Those of the source."""
        return self.source.args

    def numbers(self) -> int:
        """How many numbers a state has."""
        return self.source.numbers()

    def draw(
        self, *, size: int, stride: int, batch: int, key: Key, sharding: jax.sharding.NamedSharding | None = None
    ) -> tuple[Windows, Args]:
        """As the source's, of blurred states."""
        key_window, key_noise = jr.split(key)
        windows, args = self.source.draw(size=size, stride=stride, batch=batch, key=key_window, sharding=sharding)
        steps = jnp.broadcast_to(jnp.asarray(windows.durations(), windows.t.dtype), windows.t[:, 1:].shape)
        return eqx.tree_at(lambda w: w.x, windows, _blurred(self.g, windows.x, windows.t, steps, args, key_noise)), args


def blurred(paths: Trajectories, g: Diffusion, key: Key) -> Trajectories:
    """Trajectories with one draw of the noise."""
    shape, dtype = jtu.tree_leaves(paths.x)[0].shape[:2], validate.widest(paths.x)
    # Steps are differences of times in double precision: with a far origin little is left of them in single.
    diff = np.diff if validate.is_concrete(paths.ts) else jnp.diff
    t, steps = (jnp.asarray(leaf, dtype) for leaf in (paths.ts, diff(paths.ts)))
    steps = jnp.broadcast_to(steps, (shape[0], shape[1] - 1))
    noisy = _blurred(g, paths.x, jnp.broadcast_to(t, shape), steps, paths.args, key)
    return eqx.tree_at(lambda paths: paths.x, paths, noisy)


@eqx.filter_jit
def _blurred(g: Diffusion, x: State, t: Array, steps: Array, args: Args, key: Key) -> State:
    """The states (n, times, ...) with the noise of the steps (n, times - 1) that lead to them."""
    one = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[2:], leaf.dtype), x)
    like = lambda t, args: jax.vmap(lambda t: g.like(t, one, args))(t)  # noqa: E731
    strength = over_samples(like, args, t)
    widths = jnp.sqrt(jnp.concatenate([steps[:, :1], steps], axis=1))
    leaves, tree = jtu.tree_flatten(x)
    noisy = [
        leaf + g * _over_states(widths.astype(leaf.dtype), leaf.ndim) * jr.normal(k, leaf.shape, leaf.dtype)
        for leaf, g, k in zip(leaves, jtu.tree_leaves(strength), jr.split(key, len(leaves)), strict=True)
    ]
    return jtu.tree_unflatten(tree, noisy)


def _over_states(widths: Array, ndim: int) -> Array:
    return widths.reshape(widths.shape + (1,) * (ndim - 2))
