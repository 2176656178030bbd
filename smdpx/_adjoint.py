"""Reverse-mode gradients of a solve at fixed steps: a plain `lax.scan` that keeps what its steps computed.

diffrax's checkpointed loop keeps states and runs every step again for its gradient, a third more work; its
direct adjoint nests scans for a number of steps that it does not know. A window's number of steps is known.
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

__all__ = ["ScanAdjoint"]


class ScanAdjoint(dfx.AbstractAdjoint):
    """Gradients by storing every step: the fastest where memory allows, and for a few steps always.

    For solves that take exactly `max_steps` steps, as windows do. Memory grows with the number of steps times what
    the network keeps for its gradient; `diffrax.RecursiveCheckpointAdjoint()` keeps states only, and runs steps again.

    >>> import smdpx as sx
    >>> sx.WindowLoss(adjoint=sx.ScanAdjoint()).adjoint
    ScanAdjoint()
    """

    def loop(self, *, throw: Any, passed_solver_state: Any, passed_controller_state: Any, **kwargs: Any) -> Any:
        """Diffrax's loop, run as a scan."""
        return self._loop(inner_while_loop=_refuse, outer_while_loop=_scan, **kwargs)


def _scan(cond_fun: Any, body_fun: Any, init: Any, *, max_steps: int, buffers: Any) -> Any:
    del cond_fun, buffers
    # Counters begin as Python numbers and come back as arrays, or as larger Python numbers; Python's flags stay.
    init = jtu.tree_map(lambda leaf: jnp.asarray(leaf) if type(leaf) in (int, float) else leaf, init)
    after = eqx.filter_eval_shape(body_fun, init)
    changes = jtu.tree_map(lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), after)
    carry, static = eqx.partition(init, changes)
    carry = jtu.tree_map(lambda leaf, like: jnp.asarray(leaf, like.dtype), carry, eqx.filter(after, changes))

    def body(carry: Any, _: None) -> tuple[Any, None]:
        return eqx.filter(body_fun(eqx.combine(carry, static)), changes), None

    return eqx.combine(jax.lax.scan(body, carry, None, length=max_steps)[0], static)


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("`ScanAdjoint` saves at steps only.")
