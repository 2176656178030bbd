"""Inference: the same equations, solved for answers.

    posterior            x₀ ~ p(x₀ | x_T)        reverse SDE, C = 2          (arXiv:2301.10250, eq 9)
    maximum_likelihood   one x₀                  probability flow, C = 1     (eq 8)
    log_likelihood       log p₀(x₀) = log p_T(x_T) + ∫ ∇·f dt along the flow f = P - s
    langevin             x ← x + ε s + √(2ε) z   at fixed t                  (eq 68)

Each takes any solver and any key, and runs whole batches as one compiled solve.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from . import _validate as validate
from ._diffusion import Diffusion
from ._drift import Drift, Score
from ._equation import SDE, AbstractDrift, Forward, Reverse
from ._finite import warn_of_non_finite
from ._loss import exact_divergence, scores, sliced_divergence
from ._sharding import pieces, take
from ._solve import solved
from ._types import Args, Key, State

# How many numbers `posterior` holds at once: 64 MiB in single precision, before the network's own.
_NUMBERS_AT_ONCE = 2**24

__all__ = ["LogLikelihood", "langevin", "log_likelihood", "maximum_likelihood", "posterior"]


def posterior(
    equation: SDE[Reverse],
    xT: State,
    ts: Any,
    n: int,
    *,
    key: Key,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    saveat: dfx.SaveAt | None = None,
    chunk: int | None = None,
) -> State:
    """Samples of trajectories that could have led to each end state (arXiv:2301.10250, eq 9).

    With the exact score, `-P + 2*s + g` samples p(x₀ | x_T); so does `-P + C*s + (C - 1)**0.5 * g` only at
    C = 2: other C keep each marginal p_t and not the law of the path.

    Arguments:
        equation: a reverse `SDE`, `-P + 2*s + g`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        n: samples a case, at least 1.
        key: a JAX key.
        args: handed to every callable untouched.
        solver: a diffrax SDE solver. Default: `diffrax.Euler()`.
        stepsize_controller: see `solve`.
        saveat: `diffrax.SaveAt(t1=True)` (default) for end points, `diffrax.SaveAt(t0=True, steps=True)` for whole
            trajectories.
        chunk: how many samples to solve at once, which bounds the memory. Default: as many as hold 2²⁴
            numbers. The noise depends on `key` and on `chunk`.

    Returns:
        Samples of shape (cases, n, ...) at ts[-1]; with another `saveat`, (cases, n, times, ...).

    Raises:
        ValueError: n < 1, and as `solve`.
        TypeError: an equation without noise.

    Warns:
        NonFiniteWarning: samples that are not finite: how many, of which cases, and (of whole trajectories) from what
            time on. Count them: leaving out what exploded without a word makes intervals too narrow.
        UserWarning: a score's coefficient that is not 2, with which nothing is a posterior.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x, g)
    >>> sx.posterior(-P + 2 * s + g, jnp.zeros(4), [1.0, 0.5, 0.0], 10, key=jax.random.key(0)).shape
    (4, 10)
    """
    if not isinstance(equation, SDE):
        raise TypeError(
            f"`posterior` samples an SDE; `{equation}` has no noise and would give {n} equal copies. "
            "Write `-P + 2*s + g`, or call `maximum_likelihood`."
        )
    _warn_of_other_coefficients(equation)
    if n < 1:
        raise ValueError(f"`posterior` needs n >= 1 samples a case; got {n}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` must be at least 1; got {chunk}.")
    validate.check_states(xT, "xT")
    whole = saveat is not None and eqx.tree_equal(saveat, dfx.SaveAt(t1=True)) is not True
    cases = jtu.tree_leaves(xT)[0].shape[0]
    if chunk is None:
        saved = sum(leaf.size for leaf in jtu.tree_leaves(xT)) // cases * (len(ts) if whole else 1)
        chunk = max(1, _NUMBERS_AT_ONCE // max(saved, 1))
    devices = max(pieces(leaf) for leaf in jtu.tree_leaves(xT))
    chunk = max(devices, chunk - chunk % devices)
    size = min(chunk, cases * n + -(cases * n) % devices)
    index = np.repeat(np.arange(cases), n)
    ends, all_of_it = [], jnp.array(True)
    for start in range(0, cases * n, chunk):
        # The last chunk is filled up, so that every chunk runs the one compiled program.
        part = index[np.minimum(np.arange(start, start + size), cases * n - 1)]
        x, fine = solved(
            equation,
            jtu.tree_map(lambda leaf: take(leaf, part), xT),  # noqa: B023
            ts,
            jr.fold_in(key, start),
            args,
            solver,
            stepsize_controller,
            saveat if whole else dfx.SaveAt(t1=True),
        )
        all_of_it &= fine
        ends.append(x if whole else jtu.tree_map(lambda leaf: leaf[:, -1], x))
    samples = jtu.tree_map(lambda *leaves: jnp.concatenate(leaves)[: cases * n], *ends)
    samples = jtu.tree_map(lambda leaf: leaf.reshape((cases, n, *leaf.shape[1:])), samples)
    every = whole and eqx.tree_equal(saveat, dfx.SaveAt(t0=True, steps=True)) is True and validate.is_concrete(ts)
    warn_of_non_finite(all_of_it, samples, "case", np.asarray(ts) if every else None, axes=2)
    return samples


def _warn_of_other_coefficients(equation: SDE[Reverse]) -> None:
    for coefficient, score in scores(equation):
        if isinstance(coefficient, int | float) and coefficient != 2:
            warnings.warn(
                f"`{equation}` samples no posterior: the reverse-time SDE has coefficient 2 (C = 2), and here "
                f"{score!r} has {coefficient:g}. Write `-P + 2*s + g`; or call `solve` where you want this process.",
                stacklevel=3,
            )


def maximum_likelihood(
    equation: AbstractDrift[Reverse],
    xT: State,
    ts: Any,
    *,
    args: Args = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
) -> State:
    """One likely start for each end state: the end of the probability flow (arXiv:2301.10250, eq 8).

    `-P + s` carries p_T to p₀ (each marginal is kept); `-P + 2*s` is the noise-free reverse drift, which
    for linear physics gives the posterior mean. Whole paths: `solve`.

    Arguments:
        equation: a reverse drift, `-P + s`.
        xT: end states, arrays of shape (cases, ...).
        ts: decreasing times, from T down.
        args: handed to every callable untouched.
        solver: a diffrax ODE solver. Default: `diffrax.Euler()`.
        stepsize_controller: see `solve`.

    Returns:
        States at ts[-1], shaped like xT.

    Raises:
        TypeError: an equation with noise.
        ValueError: as `solve`.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> P = sx.Drift(lambda t, x, args: -x)
    >>> s = sx.Score(lambda t, x, args: -x, sx.Diffusion(0.1))
    >>> sx.maximum_likelihood(-P + s, jnp.ones(4), jnp.linspace(1.0, 0.0, 11)).shape
    (4,)
    """
    if isinstance(equation, SDE):
        raise TypeError(
            f"`maximum_likelihood` follows an ODE; `{equation}` has noise. Write `-P + s`, or call `posterior`."
        )
    x, fine = solved(equation, xT, ts, None, args, solver, stepsize_controller, dfx.SaveAt(t1=True))
    x = jtu.tree_map(lambda leaf: leaf[:, -1], x)
    warn_of_non_finite(fine, x, "case")
    return x


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

    Arguments:
        equation: the probability flow run forward, `P - s`.
        x0: states of shape (samples, ...) at ts[0].
        ts: increasing times.
        log_prob_T: the log density of one end state.
        probes: None for the exact trace, which costs a pass per component of the state; or the number of
            random ±1 vectors (Hutchinson), at least 2: each sample has its own, kept along the path.
        key: a JAX key, needed with probes.
        args: handed to every callable untouched.
        solver: a diffrax ODE solver. Default: `diffrax.Heun()`.
        stepsize_controller: see `solve`.

    Returns:
        A `LogLikelihood`: the log densities, their standard error, and the end states.

    Raises:
        TypeError: an equation with noise.
        ValueError: a reverse equation, fewer than two probes, probes without a key, and as `solve`.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(2**0.5)
    >>> s = sx.Score(lambda t, x, args: -x, g)  # p_t is the standard normal throughout
    >>> result = sx.log_likelihood(P - s, jnp.zeros(3), jnp.linspace(0.0, 1.0, 9), jax.scipy.stats.norm.logpdf)
    >>> [f"{value:.4f}" for value in result.log_prob]
    ['-0.9189', '-0.9189', '-0.9189']
    """
    if isinstance(equation, SDE):
        raise TypeError(f"`log_likelihood` follows the flow; `{equation}` has noise. Write `P - s`.")
    if probes is not None and probes < 2:
        raise ValueError(
            f"`probes` must be at least 2 for a standard error, or None for the exact trace; got {probes}."
        )
    if (probes is None) != (key is None):
        raise ValueError("`key` goes with `probes`: give both for Hutchinson's estimate, neither for the exact trace.")
    validate.check_times(ts, equation)
    validate.check_states(x0, "x0")
    validate.check_drifts(equation, x0, args)
    count = jtu.tree_leaves(x0)[0].shape[0]
    dtype = jnp.result_type(*jtu.tree_leaves(x0))
    traces = jnp.zeros((count, 1 if probes is None else probes), dtype)
    vectors = None
    if probes is not None:
        size = sum(leaf[0].size for leaf in jtu.tree_leaves(x0))
        vectors = jr.rademacher(jnp.asarray(key), (count, probes, size), dtype)
    heun = dfx.Heun() if solver is None else solver
    state, flow = (x0, traces, vectors), Drift(_WithDivergence(equation))
    end, fine = solved(flow, state, ts, None, args, heun, stepsize_controller, dfx.SaveAt(t1=True))
    xT, traces, _ = jtu.tree_map(lambda leaf: leaf[:, -1], end)
    warn_of_non_finite(fine, (xT, traces), "sample")
    error = jnp.zeros(count, dtype) if probes is None else jnp.std(traces, axis=1, ddof=1) / math.sqrt(probes)
    return LogLikelihood(jax.vmap(log_prob_T)(xT) + jnp.mean(traces, axis=1), error, xT)


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


def langevin(
    s: Score,
    x: State,
    t: float,
    *,
    step: float,
    steps: int,
    key: Key,
    args: Args = None,
) -> State:
    """Refine samples at a fixed time by Langevin dynamics (arXiv:2301.10250, eq 68).

        x ← x + ε s(t, x) + √(2ε) z,    z ~ N(0, 1)

    Its stationary law is p_t, up to a bias of the order of ε. (With noise √ε, as in some implementations, the
    temperature would be half of what it should be.)

    Arguments:
        s: a `Score`. Where its g is 0 there is no score, and the component stays as it is.
        x: states of shape (samples, ...).
        t: the time to stay at.
        step: ε > 0, in units of x². Good values: a hundredth of the variance of p_t.
        steps: how many, at least 1.
        key: a JAX key.
        args: handed to the network untouched.

    Returns:
        States shaped like x.

    Raises:
        TypeError: s is no `Score`.
        ValueError: step or steps not positive, and as `solve`.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> s = sx.Score(lambda t, x, args: -x, sx.Diffusion(0.1))
    >>> sx.langevin(s, jnp.zeros(8), 0.0, step=0.01, steps=50, key=jax.random.key(0)).shape
    (8,)
    """
    if not isinstance(s, Score):
        raise TypeError(f"`langevin` needs a `Score`; got {s!r}. Pass `s`, without a coefficient.")
    if not step > 0 or steps < 1:
        raise ValueError(f"`langevin` needs step > 0 and steps >= 1; got {step} and {steps}.")
    validate.check_states(x, "x")
    one = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[1:], leaf.dtype), x)
    now = jnp.asarray(t, jnp.result_type(*jtu.tree_leaves(x)))
    # A component without noise has no score: what the network says of it was never trained.
    has_score = jtu.tree_map(lambda g: jnp.where(g > 0, 1, 0).astype(g.dtype), s.g.like(now, one))
    # In its own time the iteration is Euler's method on dx = s dτ + √2 dW.
    noise = jtu.tree_map(lambda mask: math.sqrt(2.0) * mask, has_score)
    climb = Drift(_Frozen(s.net, now, has_score)) + Diffusion(noise)
    tau = step * np.arange(steps + 1)
    x, fine = solved(climb, x, tau, key, args, saveat=dfx.SaveAt(t1=True))
    x = jtu.tree_map(lambda leaf: leaf[:, -1], x)
    warn_of_non_finite(fine, x, "sample")
    return x


class _Frozen(eqx.Module):
    """A network at one time, where there is a score."""

    net: Callable[[Any, Any, Any], Any]
    t: Array
    has_score: State

    def __call__(self, tau: Any, x: State, args: Args) -> State:
        """net(t, x), whatever τ; 0 in components without noise."""
        return jtu.tree_map(jnp.multiply, self.has_score, self.net(self.t, x, args))
