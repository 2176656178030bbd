"""Langevin dynamics at a fixed time: x ← x + ε s + √(2ε) z (arXiv:2301.10250, eq 68)."""

import math
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._types import Args, Key, RealScalarLike, State
from ..equation._diffusion import Diffusion
from ..equation._drift import Drift
from ..equation._score import Score
from ..solving import _validate as validate
from ..solving._finite import warn_of_explosions
from ..solving._options import whole_number
from ..solving._solve import solved

__all__ = ["langevin"]


def langevin(
    s: Score,
    x: State,
    t: RealScalarLike,
    *,
    step: RealScalarLike,
    steps: int,
    key: Key,
    args: Args = None,
) -> State:
    """Refine samples at a fixed time by Langevin dynamics (arXiv:2301.10250, eq 68).

        x ← x + ε s(t, x) + √(2ε) z,    z ~ N(0, 1)

    Its stationary law is p_t, up to a bias of the order of ε. (With noise √ε, as in some implementations, the
    temperature would be half of what it should be.)

    Args:
        s: a `Score`. Where its g is 0 there is no score, and the component stays as it is.
        x: states of shape (samples, ...).
        t: the time to stay at.
        step: ε > 0, in units of x²; may be traced. Good values: a hundredth of the variance of p_t.
        steps: how many, at least 1.
        key: a JAX key.
        args: handed to the network untouched.

    Returns:
        States shaped like x.

    Raises:
        TypeError: s is no `Score`, t or step is not one number, or steps is no integer.
        ValueError: a t that is not finite, step or steps not positive, and as `solve`.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> s = sx.Score(lambda t, x, args: -x, sx.Diffusion(0.1))
    >>> sx.langevin(s, jnp.zeros(8), 0.0, step=0.01, steps=50, key=jax.random.key(0)).shape
    (8,)
    """
    if not isinstance(s, Score):
        raise TypeError(f"`langevin` needs a `Score`; got {s!r}. Pass `s`, without a coefficient.")
    steps = whole_number("steps", steps)
    _check_number("t", t)
    _check_number("step", step)
    if validate.is_concrete(t) and not math.isfinite(float(t)):
        raise ValueError(f"`langevin` stays at one time, and `t` must be finite; got {t}.")
    known = validate.is_concrete(step)
    if known and not 0 < float(step) < math.inf:
        raise ValueError(f"`langevin` needs step > 0; got {step}.")
    x = validate.check_states(x, "x")
    now = jnp.asarray(t, validate.widest(x))
    # In its own time the iteration is Euler's method on dx = s dτ + √2 dW.
    climb = Drift(_Frozen(s, now)) + Diffusion(_Kick(s.g, now))
    # In double precision where the step is known, and else in its own.
    unit = float(step) if known else jnp.asarray(step)
    tau = unit * (np.arange(steps + 1) if known else jnp.arange(steps + 1, dtype=jnp.result_type(step)))
    ends, most, _ = solved(climb, x, tau, key, args, dfx.Euler(), saveat=dfx.SaveAt(t1=True))
    ends = jtu.tree_map(lambda leaf: leaf[:, -1], ends)
    warn_of_explosions(most, ends, "sample", like=x, mend="a smaller `step`")
    return ends


def _check_number(name: str, value: Any) -> None:
    """Raise where something else came than one real number: an array of times would go to every sample."""
    if not eqx.is_array_like(value) or isinstance(value, complex):
        raise TypeError(f"`{name}` must be one number; got {value!r}.")
    if np.shape(value) != ():
        raise TypeError(
            f"`{name}` must be one number, the same for all samples; got an array of shape {np.shape(value)}. For "
            "several call `langevin` once for each."
        )


class _Frozen(eqx.Module):
    """A score at one time; 0 in components without noise: what the network says of these was never trained."""

    s: Score
    t: Array

    def __call__(self, tau: Any, x: State, args: Args) -> State:
        """s(t, x), whatever τ."""
        return self.s(self.t, x, args)


class _Kick(eqx.Module):
    """√2, in components that have a score."""

    g: Diffusion
    t: Array

    def __call__(self, tau: Any, args: Args) -> Any:
        """√2 or 0, shaped like g."""
        return jtu.tree_map(lambda g: jnp.where(jnp.asarray(g) != 0, math.sqrt(2.0), 0.0), self.g(self.t, args))
