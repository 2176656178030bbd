"""Reverse-mode gradients of a solve at fixed steps: a plain `lax.scan` that keeps what its steps computed.

diffrax's checkpointed loop keeps states and runs every step again for its gradient, a third more work; its
direct adjoint nests scans for a number of steps that it does not know. A window's number of steps is known.
"""

import dataclasses
from functools import partial
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

__all__ = ["ScanAdjoint"]


class ScanAdjoint(dfx.AbstractAdjoint):
    """Gradients by storing every step: the fastest where memory allows, and for a few steps always.

    For solves at fixed steps: `max_steps` of them, no more and no fewer, as windows take. Memory grows with the
    number of steps times what the network keeps for its gradient; `diffrax.RecursiveCheckpointAdjoint()` keeps states
    only, and runs steps again.

    Raises:
        TypeError: steps that adapt.

    >>> import smdpx as sx
    >>> sx.WindowLoss(adjoint=sx.ScanAdjoint()).adjoint
    ScanAdjoint()
    """

    def loop(
        self, *, saveat: dfx.SaveAt, throw: Any, passed_solver_state: Any, passed_controller_state: Any, **kwargs: Any
    ) -> Any:
        """Diffrax's loop, run as a scan."""
        grid = getattr(kwargs["stepsize_controller"], "ts", ())
        if len(grid) - 1 != kwargs["max_steps"]:
            raise TypeError(
                f"`ScanAdjoint` takes `max_steps` steps, and `{type(kwargs['stepsize_controller']).__name__}` may take "
                "others. For steps that adapt: `diffrax.RecursiveCheckpointAdjoint()`."
            )
        scan = partial(_scan, every_step=[sub.steps == 1 and sub.ts is None for sub in _leaves(saveat.subs)])
        return self._loop(saveat=saveat, inner_while_loop=_refuse, outer_while_loop=scan, **kwargs)


def _scan(cond_fun: Any, body_fun: Any, init: Any, *, max_steps: int, buffers: Any, every_step: list[bool]) -> Any:
    del cond_fun, buffers

    def saves(state: Any) -> list[Any]:
        return [save for save, every in zip(_leaves(state.save_state), every_step, strict=True) if every]

    # What is saved at every step are the scan's own outputs, so a step sees room for one. In the carry, the whole
    # buffer would be read and written by every step of the gradient.
    one = [_with_room_for_one(save) for save in saves(init)]
    begin = eqx.tree_at(saves, init, one)
    # Counters begin as Python numbers and come back as arrays, or as larger Python numbers; Python's flags stay.
    begin = jtu.tree_map(lambda leaf: jnp.asarray(leaf) if type(leaf) in (int, float) else leaf, begin)
    after = eqx.filter_eval_shape(body_fun, begin)
    changes = jtu.tree_map(lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), after)
    changes = eqx.tree_at(saves, changes, jtu.tree_map(lambda _: False, one))
    carry, static = eqx.partition(begin, changes)
    carry = jtu.tree_map(lambda leaf, like: jnp.asarray(leaf, like.dtype), carry, eqx.filter(after, changes))

    def body(carry: Any, _: None) -> tuple[Any, Any]:
        state = body_fun(eqx.combine(carry, static))
        return eqx.filter(state, changes), saves(state)

    carry, saved = jax.lax.scan(body, carry, None, length=max_steps)
    whole = [_joined(before, new, max_steps) for before, new in zip(saves(init), saved, strict=True)]
    return eqx.tree_at(saves, eqx.combine(carry, static), whole)


def _with_room_for_one(save: Any) -> Any:
    ts, ys = jtu.tree_map(lambda leaf: jnp.zeros_like(leaf[:1]), (save.ts, save.ys))
    return dataclasses.replace(save, ts=ts, ys=ys, save_index=0)


def _joined(before: Any, saved: Any, steps: int) -> Any:
    """What was saved, as diffrax would have it after the loop; `saved` has one of each step."""

    def put(whole: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(whole, new[:, 0], before.save_index, axis=0)

    ts, ys = jtu.tree_map(put, (before.ts, before.ys), (saved.ts, saved.ys))
    return dataclasses.replace(before, ts=ts, ys=ys, save_index=before.save_index + steps)


def _leaves(tree: Any) -> list[Any]:
    """The diffrax objects in a tree of `SubSaveAt` or of what was saved for each."""
    return jtu.tree_leaves(tree, is_leaf=lambda leaf: isinstance(leaf, dfx.SubSaveAt) or hasattr(leaf, "save_index"))


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("`ScanAdjoint` saves at steps only.")
