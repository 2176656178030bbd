"""Log densities by the flow: log p₀(x₀) = log p_T(x_T) + ∫ ∇·f dt along f = P - s."""

import math
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._drift import Drift
from ..solving import _validate as validate
from ..solving._divergence import exact_divergence, sliced_divergence
from ..solving._finite import warn_of_explosions
from ..solving._options import whole_number
from ..solving._solve import solved

__all__ = ["LogLikelihood", "log_likelihood"]


class LogLikelihood(eqx.Module):
    """What `log_likelihood` returns.

    Attributes:
        log_prob: log p₀(x₀), one per sample.
        standard_error: of the trace estimate; zeros where the trace is exact.
        xT: where the flow carried x₀.
    """

    log_prob: Float[Array, " samples"]
    standard_error: Float[Array, " samples"]
    xT: State


def log_likelihood(
    equation: AbstractDrift[Forward],
    x0: State,
    ts: Any,
    log_prob_T: Callable[[Any], Any],
    *,
    probes: int | None = None,
    key: Key | None = None,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
) -> LogLikelihood:
    """The log density of initial states, from that of end states and the flow between them.

        log p₀(x₀) = log p_T(x_T) + ∫₀ᵀ ∇·(P - s)(t, x_t) dt,   dx/dt = P - s

    Args:
        equation: the probability flow run forward, `P - s`.
        x0: states of shape (samples, ...) at ts[0].
        ts: increasing times.
        log_prob_T: the log density of one end state, a scalar.
        probes: None for the exact trace, which costs a pass per component of the state; or the number of
            random ±1 vectors (Hutchinson), at least 2: each sample has its own, kept along the path.
        key: a JAX key, needed with probes.
        args: handed to every callable untouched.
        solver: a diffrax ODE solver. Default: `diffrax.Heun()`.
        stepsize_controller: see `solve`.

    Returns:
        A `LogLikelihood`: the log densities, their standard error, and the end states.

    Raises:
        TypeError: an equation with noise, or none; probes that are no integer; a key that is none.
        ValueError: a reverse equation, fewer than two probes, probes without a key, a log density of one state that is
            no scalar, and as `solve`.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(2**0.5)
    >>> s = sx.Score(lambda t, x, args: -x, g)  # p_t is the standard normal throughout
    >>> result = sx.log_likelihood(P - s, jnp.zeros(3), jnp.linspace(0.0, 1.0, 9), jax.scipy.stats.norm.logpdf)
    >>> [f"{value:.4f}" for value in result.log_prob]
    ['-0.9189', '-0.9189', '-0.9189']
    """
    if isinstance(equation, SDE):
        raise TypeError(f"`log_likelihood` follows the flow; `{equation}` has noise. Write `P - s`.")
    if not isinstance(equation, AbstractDrift):
        raise TypeError(f"`log_likelihood` needs the flow, a drift such as `P - s`; got {type(equation).__name__}.")
    if equation.direction is not Forward:
        raise ValueError(
            f"`log_likelihood` follows the flow forward, from x0 to where its density is known, and `{equation}` runs "
            "backwards: write `P - s`, and increasing `ts`."
        )
    if probes is not None:
        probes = whole_number("probes", probes, 2, " for a standard error, or None for the exact trace")
    if (probes is None) != (key is None):
        raise ValueError("`key` goes with `probes`: give both for Hutchinson's estimate, neither for the exact trace.")
    if key is not None:
        validate.check_is_key(key)
    validate.check_times(ts, equation)
    x0 = validate.check_states(x0, "x0")
    validate.check_drifts(equation, x0, args, "x0")
    _check_density(log_prob_T, x0)
    count = jtu.tree_leaves(x0)[0].shape[0]
    dtype = validate.widest(x0)
    traces = jnp.zeros((count, 1 if probes is None else probes), dtype)
    vectors = None
    if probes is not None:
        size = sum(leaf[0].size for leaf in jtu.tree_leaves(x0))
        vectors = jr.rademacher(jnp.asarray(key), (count, probes, size), dtype)
    heun = dfx.Heun() if solver is None else solver
    state, flow = (x0, traces, vectors), Drift(_WithDivergence(equation))
    end, most, _ = solved(flow, state, ts, None, args, heun, stepsize_controller, dfx.SaveAt(t1=True))
    xT, traces, _ = jtu.tree_map(lambda leaf: leaf[:, -1], end)
    warn_of_explosions(most[:2], (xT, traces), "sample")
    error = jnp.zeros(count, dtype) if probes is None else jnp.std(traces, axis=1, ddof=1) / math.sqrt(probes)
    return LogLikelihood(jax.vmap(log_prob_T)(xT) + jnp.mean(traces, axis=1), error, xT)


def _check_density(log_prob_T: Callable[[Any], Any], x0: State) -> None:
    """Raise where the density of one state is not one number: beside the traces it would be broadcast to a matrix."""
    one = jtu.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x0)
    shapes = [leaf.shape for leaf in jtu.tree_leaves(jax.eval_shape(lambda x: log_prob_T(x), one))]
    if shapes != [()]:
        raise ValueError(
            f"`log_prob_T` must return a scalar for one end state; got {', '.join(map(str, shapes)) or 'nothing'}. Of "
            "independent components write the sum, `lambda x: logpdf(x).sum()`."
        )


class _WithDivergence(eqx.Module):
    """The rate of (x, ∫∇·f dt, v): the state, a running trace per probe, and each sample's own probes, which stay."""

    drift: AbstractDrift[Forward]

    def __call__(self, t: Any, state: Any, args: Args) -> Any:
        """(f, ∇·f, 0), the divergence exact or by the probes."""
        x, _, vectors = state
        flat, unravel = ravel_pytree(x)

        def f(x: Array) -> Array:
            return ravel_pytree(self.drift.rate(t, unravel(x), args))[0]

        if vectors is None:
            trace, rate = exact_divergence(f, flat)
            return unravel(rate), trace[None], None
        trace, rate = jax.vmap(lambda v: sliced_divergence(f, flat, v))(vectors)
        return unravel(rate[0]), trace, jnp.zeros_like(vectors)
