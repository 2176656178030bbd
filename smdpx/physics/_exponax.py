"""exponax's steppers as drifts. exponax is not imported: a stepper is known by what it has.

u(t + dt) = stepper(u),    u of shape (channels, N, ..., N),  dt the stepper's own
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._types import RealScalarLike
from ..equation._drift import Drift, StepDrift


def from_exponax(
    stepper: Any, *, reverse: Callable[..., Any] | None = None, substeps: int = 1, name: str = "P"
) -> StepDrift:
    """An exponax stepper as it is, as a drift: `NavierStokesVorticity`, `Burgers`, `KuramotoSivashinsky`, ...

    A stepper has one dt, and the drift accepts only steps of substeps · dt. States are fields as exponax has them,
    (channels, N, ..., N), or, of one channel, without its axis, (N, ..., N), as networks here like it.

    Args:
        stepper: a stepper, or a `RepeatedStepper` of one.
        reverse: how it runs backwards, as for `Drift.from_step`.
        substeps: calls of the stepper to one step of the drift, at least 1.
        name: what it is called in print.

    Returns:
        A `StepDrift` of steps substeps · stepper.dt.

    Raises:
        TypeError: not a stepper of one argument with a dt.
        ValueError: substeps below 1; or, when called, a field of another shape.

    >>> import jax, jax.numpy as jnp, exponax, smdpx as sx
    >>> with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # JAX's default
    ...     stepper = exponax.stepper.Burgers(1, 2 * jnp.pi, 64, 0.05, diffusivity=0.1)
    >>> P = sx.physics.from_exponax(stepper, reverse=sx.mirror)
    >>> x = jnp.sin(jnp.linspace(0, 2 * jnp.pi, 64, endpoint=False))
    >>> sx.solve(P, x[None], jnp.linspace(0, 1, 21)).shape
    (1, 21, 64)
    """
    missing = [name for name in _KNOWN_BY if not hasattr(stepper, name)]
    call: Any = stepper
    if missing or not callable(stepper):
        raise TypeError(
            f"`from_exponax` takes an exponax stepper, which has a dt and is called with u; got "
            f"{type(stepper).__name__} without {missing[0] if missing else 'a call'!r}. Of a forced stepper give "
            "`stepper.stepper`, and the forcing as a drift of its own, `P + sx.Drift(f)`."
        )
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"`from_exponax`: `substeps` counts calls of the stepper, at least 1; got {substeps!r}.")
    space = (call.num_points,) * call.num_spatial_dims
    full = (call.num_channels, *space)
    shapes = [full, space] if call.num_channels == 1 else [full]

    def step(x: Array, dt: RealScalarLike) -> Array:
        del dt
        if jnp.shape(x) not in shapes:
            raise ValueError(
                f"A state of this exponax stepper is one field of shape {' or '.join(map(str, shapes))}; got shape "
                f"{jnp.shape(x)}. exponax has the channels in front; for a batch write `jax.vmap`."
            )

        def one(u: Array, _: None) -> tuple[Array, None]:
            # exponax mixes precisions and ranks where JAX's defaults let it.
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                return call(u).astype(u.dtype), None

        u, _ = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), jnp.reshape(x, full), None, substeps)
        return jnp.reshape(u, jnp.shape(x))

    return Drift.from_step(step, reverse, dt=float(substeps * call.dt), name=name)


_KNOWN_BY = ("dt", "num_points", "num_spatial_dims", "num_channels")
