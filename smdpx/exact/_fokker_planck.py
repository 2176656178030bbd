"""The Fokker-Planck equation of one scalar SDE, in a frame that moves with the density.

dx = f(t, x) dt + g(t) dW has densities with ∂p/∂t = -∂(f p)/∂x + D ∂²p/∂x², D = ½ g². Each
component of the start is followed on its own in z = (x - m(t)) / s(t), where m and s follow its
mean and standard deviation:

    ∂q/∂t = -∂(b q)/∂z + (D/s²) ∂²q/∂z²,    b = (f(t, m + s z) - m') / s - (log s)' z,    q(z) = s
    p(x).

A point mass is q = N(0, 1) with s → 0, so nothing is singular at the start; a narrow pulse that
crosses the axis needs no fine grid; and the components' log-densities stay apart, which keeps log
p between two modes finite where p itself is e⁻¹⁰⁰⁰. The class and its look-ups live here, the
scheme in `_finite_volume`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ._finite_volume import REACH, Pair, Problem, march, tabulate
from ._mixture import GaussianMixture, float_dtype


class FokkerPlanck1D(eqx.Module):
    """p_t, its score and the posterior over the start's components, for dx = f(t, x) dt + g(t) dW.

    The equation is solved once, at construction, on the host in double precision (single precision
    would spoil the tails of log p, and x64 is normally off in JAX); what is kept are tables in
    JAX's default precision, so the methods work under `jit`, `vmap` and `grad`. The drift is
    evaluated in JAX's default precision.

    The scheme has Scharfetter-Gummel fluxes (mass-conserving, exact stationary states) and TR-BDF2 in time with steps
    bound to the density's own time scales. Where a component has fallen below 1e-10 of its
    maximum, its log-density is extrapolated as a parabola (its score as a line), however far away
    x is. Times outside [0, T] give NaN; times below 1e-6 T are served as 1e-6 T, since a point
    mass has no score.

    Args:
        drift: f(t, x, args), a rate for one state x of shape ().
        g: the noise: a positive number, or a callable g(t) that is positive on [0, T].
        start: the distribution of x_0, of states of shape (): point masses, Gaussians, or both.
        T: the last time, positive.
        args: passed to the drift as it is.
        nodes: cells across ±10 standard deviations of each component. The error falls as 1/nodes²;
            600 give log p to about 1e-3 within 4 standard deviations. A density with features much
            narrower than its standard deviation (two sharp modes from one component) needs more.
        substeps: factor on the number of time steps; the error falls as 1/substeps².

    Attributes:
        start: the distribution of x_0.
        times: the solver's times, shape (steps,).

    Raises:
        ValueError: the start is not scalar, T or g is not positive, or the drift is not finite
            where there is mass.
        TypeError: the drift does not return shape ().

    Example:
        >>> import jax.numpy as jnp
        >>> from smdpx.exact import FokkerPlanck1D, GaussianMixture
        >>> start = GaussianMixture([-1.0, 1.0])
        >>> fp = FokkerPlanck1D(lambda t, x, args: -7 * jnp.sign(x) * x**2, 0.03, start, T=10.0)
        >>> print(fp.component_probabilities(10.0, 0.1).round(2))
        [0.39 0.61]
    """

    start: GaussianMixture
    times: Float[Array, " steps"]
    _frames: Float[Array, "steps k 4"]
    _table: Float[Array, "steps k nodes 2"]
    _edges: Float[Array, "steps k 2"]

    def __init__(
        self,
        drift: Callable[[Any, Any, Any], Any],
        g: RealScalarLike | Callable[[Any], Any],
        start: GaussianMixture,
        T: float | int,
        *,
        args: Args = None,
        nodes: int = 600,
        substeps: float | int = 1,
    ):
        if start.shape != ():
            raise ValueError(
                f"`start` should have states of shape (), got {start.shape}: there is one axis. "
                "For linear drifts in more dimensions use `OUMixture`."
            )
        if not T > 0:
            raise ValueError(f"`T` should be positive, got {T}.")
        if nodes < 32 or not substeps > 0:
            raise ValueError(f"`nodes` should be at least 32 and `substeps` positive, got {nodes} and {substeps}.")
        self.start = start
        grid = np.linspace(-REACH, REACH, nodes)
        problem = Problem(_host_rate(drift, args), _host_diffusivity(g), grid)
        times, frames, densities = march(problem, _host_start(start), float(T), float(substeps))
        table, edges = tabulate(densities)
        self.times = jnp.asarray(times, float)
        self._frames = jnp.asarray(frames, float)
        self._table = jnp.asarray(table, float)
        self._edges = jnp.asarray(edges, float)

    def log_prob(self, t: RealScalarLike, x: ArrayLike) -> Float[Array, "*batch"]:
        """Compute log p_t(x).

        Args:
            t: time in (0, T].
            x: states of any shape, each taken on its own.
        """
        return _elementwise(_log_prob, self, t, x)

    def score(self, t: RealScalarLike, x: ArrayLike, args: Args = None) -> Float[Array, "*batch"]:
        """∂/∂x log p_t(x), as a network for `smdpx.Score`.

        Args:
            t: time in (0, T].
            x: states of any shape, each taken on its own.
            args: not used.
        """
        del args
        score = _elementwise(_score, self, t, x)
        return score.astype(float_dtype(x, score.dtype))

    def component_probabilities(self, t: RealScalarLike, x: ArrayLike) -> Float[Array, "*batch k"]:
        """P(x_0 came from component k | x_t = x): for point masses the posterior of x_0.

        Args:
            t: time in (0, T].
            x: states of any shape, each taken on its own; the components are the result's last
                axis.
        """
        return _elementwise(_probabilities, self, t, x)

    def sample(self, t: RealScalarLike, n: int, *, key: Key) -> Float[Array, " n"]:
        """Draw n independent states from p_t, by inverting each component's distribution function.

        Args:
            t: time in (0, T].
            n: how many.
            key: a JAX random key.
        """
        return _sample(self, jnp.asarray(t, self.times.dtype), n, key)

    def _at(self, t: RealScalarLike) -> tuple[Array, Array, Array, Array]:
        times = self.times
        t = jnp.asarray(t, times.dtype)
        i = jnp.clip(jnp.sum(times < t) - 1, 0, times.size - 2)
        dt = times[i + 1] - times[i]
        part = jnp.clip((t - times[i]) / dt, 0, 1)
        # A last time that was rounded up is still the last time.
        part = jnp.where((t < 0) | (t > times[-1] * (1 + 1e-5)), jnp.nan, part)
        tables, edges = ((1 - part) * values[i] + part * values[i + 1] for values in (self._table, self._edges))
        left, right = self._frames[i], self._frames[i + 1]
        frame = _hermite(part, left[:, :2], right[:, :2], dt * left[:, 2:], dt * right[:, 2:])
        return frame[:, 0], jnp.exp(frame[:, 1]), tables, edges

    def _joint_log_probs(self, t: RealScalarLike, x: Float[Array, ""]) -> Float[Array, " k"]:
        mean, scale, tables, edges = self._at(t)
        log_q = jax.vmap(_look_up)((x - mean) / scale, tables, edges)
        return jnp.log(self.start.weights.astype(log_q.dtype)) + log_q - jnp.log(scale)


def _log_prob(fp: FokkerPlanck1D, t: Array, x: Array) -> Array:
    return jax.nn.logsumexp(fp._joint_log_probs(t, x))


def _probabilities(fp: FokkerPlanck1D, t: Array, x: Array) -> Array:
    return jax.nn.softmax(fp._joint_log_probs(t, x))


_score = jax.grad(_log_prob, argnums=2)


@partial(jax.jit, static_argnums=2)
def _sample(fp: FokkerPlanck1D, t: Array, n: int, key: Key) -> Array:
    which_key, level_key = jax.random.split(key)
    mean, scale, tables, _ = fp._at(t)
    which = jax.random.categorical(which_key, jnp.log(fp.start.weights), shape=(n,))
    level = jax.random.uniform(level_key, (n,), tables.dtype)
    grid = jnp.linspace(-REACH, REACH, tables.shape[1], dtype=tables.dtype)
    mass = jnp.exp(tables[:, :, 0])
    cumulative = jnp.cumsum(0.5 * (mass[:, 1:] + mass[:, :-1]), axis=1)
    cumulative = jnp.pad(cumulative / cumulative[:, -1:], ((0, 0), (1, 0)))
    z = jax.vmap(lambda k, u: jnp.interp(u, cumulative[k], grid))(which, level)
    return mean[which] + scale[which] * z


def _elementwise(function: Callable[..., Array], fp: FokkerPlanck1D, t: RealScalarLike, x: ArrayLike) -> Array:
    dtype = fp.times.dtype
    x = jnp.asarray(x).astype(dtype)
    results = _vectorised(function, fp, jnp.asarray(t, dtype), x.reshape(-1))
    return results.reshape(*x.shape, *results.shape[1:])


@partial(jax.jit, static_argnums=0)
def _vectorised(function: Callable[..., Array], fp: FokkerPlanck1D, t: Array, x: Array) -> Array:
    return jax.vmap(function, in_axes=(None, None, 0))(fp, t, x)


def _look_up(z: Float[Array, ""], table: Float[Array, "nodes 2"], edges: Float[Array, "2"]) -> Array:
    """Log q by cubic Hermite interpolation; a parabola beyond the table."""
    n = table.shape[0]
    h = 2 * REACH / (n - 1)
    inside = jnp.clip(z, -REACH, REACH)
    i = jnp.clip(jnp.floor((inside + REACH) / h).astype(jnp.int32), 0, n - 2)
    r = (inside + REACH) / h - i.astype(z.dtype)
    left, right = table[i], table[i + 1]
    value = _hermite(r, left[0], right[0], h * left[1], h * right[1])
    beyond = z - inside
    upper = z > 0
    slope = jnp.where(upper, table[-1, 1], table[0, 1])
    outside = beyond * (slope + 0.5 * jnp.where(upper, edges[1], edges[0]) * beyond)
    return value + outside


def _hermite(part: Array, left: Array, right: Array, left_slope: Array, right_slope: Array) -> Array:
    """The cubic through two values and slopes, at a part in [0, 1] of the way."""
    rise = right - left
    bend = (1 - part) * (left_slope - rise) - part * (right_slope - rise)
    return left + part * rise + part * (1 - part) * bend


def _host_start(start: GaussianMixture) -> Pair:
    return np.asarray(start.means, np.float64), np.asarray(start.covariances, np.float64)


def _host_rate(drift: Callable[[Any, Any, Any], Any], args: Args) -> Callable[..., np.ndarray]:
    shape = jax.eval_shape(lambda: drift(jnp.asarray(0.0), jnp.asarray(0.0), args))
    if getattr(shape, "shape", None) != ():
        raise TypeError(
            f"`drift` should map a time and one state of shape () to a rate of shape (), "
            f"got {shape}; write it for one sample."
        )
    dtype = np.dtype(jnp.result_type(float))
    rate = jax.jit(jax.vmap(lambda t, x: drift(t, x, args), in_axes=(None, 0)))

    def host_rate(t: float, x: np.ndarray) -> np.ndarray:
        flat = rate(np.asarray(t, dtype), x.reshape(-1).astype(dtype))
        return np.asarray(flat, np.float64).reshape(x.shape)

    return host_rate


def _host_diffusivity(g: RealScalarLike | Callable[[Any], Any]) -> Callable[[float], float]:
    def diffusivity(t: float) -> float:
        given: Any = g(jnp.asarray(t, float)) if callable(g) else g
        value = float(given)
        if not 0 < value < np.inf:
            raise ValueError(
                f"`g` should be positive and finite, got {value} at t = {t:.4g}; without noise there is no density."
            )
        return 0.5 * value**2

    return diffusivity
