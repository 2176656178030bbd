"""What `particle_smoother` is made of: a chain of Gaussian steps, potentials that lead to x_T, and cuthbert's filter.

The transition of a step is the Gaussian with the moments of the solver's own step Φ(x, ΔW), found from kicks of √Δt
along each component e_j (exact where Φ is quadratic in ΔW, so that the chain has the solver's weak order, up to two):

    x_{k+1} ~ N(m, S Sᵀ),    m = Φ(0) + ½ Σ_j [Φ(√Δt e_j) + Φ(-√Δt e_j) - 2Φ(0)],
                             S_j = ½ [Φ(√Δt e_j) - Φ(-√Δt e_j)]

Nothing is observed before T, and then everything: weights come all at once, p(x_T | x_{K-1}) of the last step. So
potentials lead there step by step, as in Del Moral and Murray (2015), and cancel in the end. Here they are

    G_k = ψ_k(x_k)/ψ_{k-1}(x_{k-1}),    ψ_k(x) = t_ν(x_T; a_k + A_k x, C_k),    ψ_0 = 1,

(a, A)_k and C_k the linear regression of x_T on x_k over simulated paths and what it leaves over, ν = 4: tails that
forgive it where the process is not linear. Proposals are the process's own. Back from T, each draw picks among all
particles, not only those that it descends from, which after many steps are few (Godsill, Doucet and West 2004):

    x_k ~ Σ_i W_k^i/ψ_k(x_k^i) p(x_{k+1} | x_k^i) δ(x - x_k^i).
"""

from collections.abc import Callable, Sequence
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

from .._types import Args, Key, State
from ..equation._algebra import SDE
from ..learning.losses._transition import Step

__all__ = ["Chain", "check_installed", "potentials", "smoothed"]

_DEGREES = 4.0  # of freedom, of the potentials
_RESAMPLED_BELOW = 0.5  # of the particles: the effective number at which they are drawn anew
_NUMBERS_AT_ONCE = 2**24  # in the largest array of the backward pass


def check_installed() -> None:
    """Raise where there is no cuthbert."""
    try:
        import cuthbert  # noqa: F401
    except ImportError as error:
        raise ImportError('`particle_smoother` needs cuthbert: pip install "smdpx[classical]"') from error


class Chain(eqx.Module):
    """The process in steps, on flat states, with Gaussian transitions.

    Attributes:
        process: the forward process.
        solver: whose steps they are.
        args: the user's.
        one: a state, for its tree and shapes.
    """

    process: SDE
    solver: dfx.AbstractSolver
    args: Args
    one: State

    def moments(self, t: Array, dt: Array, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """The transition's mean m and root S."""
        unravel = ravel_pytree(self.one)[1]
        step = Step(self.process, self.solver, t, dt, unravel(x), None, self.args)

        def each(f: Callable[[State], State], kicks: Float[Array, "kicks d"]) -> Float[Array, "kicks d"]:
            return jax.vmap(lambda kick: ravel_pytree(f(unravel(kick)))[0])(kicks)

        one = jnp.eye(x.size, dtype=x.dtype)
        here = each(step.end, 0 * one[:1])[0]
        if step.affine:  # a root that knows nothing of x is computed once for all particles
            return here, each(step.kick, one).T
        up, down = (each(step.end, sign * jnp.sqrt(dt) * one) for sign in (1, -1))
        return here + jnp.sum(up + down - 2 * here[None], axis=0) / 2, (up - down).T / 2

    def sample(self, key: Key, t: Array, dt: Array, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """A state one step later."""
        mean, root = self.moments(t, dt, x)
        return mean + _dot(root, jr.normal(key, x.shape, x.dtype))

    def log_density(
        self, t: Array, dt: Array, x: Float[Array, " d"], later: Float[Array, " d"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The log of p(later | x) up to a constant, and the noise that it takes: root mean square, in deviations."""
        mean, root = self.moments(t, dt, x)
        xi = _dot(jnp.linalg.inv(root), later - mean)
        return -jnp.sum(xi**2) / 2 - jnp.linalg.slogdet(root)[1], jnp.sqrt(jnp.mean(xi**2))


def _dot(a: Float[Array, "i j"], b: Float[Array, " j"]) -> Float[Array, " i"]:
    # Accelerators multiply with ten bits by default.
    return jnp.matmul(a, b, precision="highest")


def _log_potential(inputs: Any, x: Float[Array, " d"]) -> Float[Array, ""]:
    """The log of ψ up to a constant: -(ν + d)/2 log(1 + |C^(-½) (x_T - a - A x)|²/ν)."""
    slope, offset = inputs
    return -(_DEGREES + x.size) / 2 * jnp.log1p(jnp.sum((offset - _dot(slope, x)) ** 2) / _DEGREES)


@eqx.filter_jit
def smoothed(
    chain: Chain,
    starts: Float[Array, "2 particles d"],
    numbers: Sequence[Array],
    xT: Float[Array, "cases d"],
    n: int,
    key: Key,
) -> Any:
    """Of each case and half: draws, the starts that they go back to, effective number, least noise of the last step."""
    t, dt, slopes, offsets = numbers

    def of_case(given: Any) -> Any:
        xT, offsets, key = given
        led = [(slopes[:-1], offsets[:-1]), (slopes[1:], offsets[1:])]
        inputs = (t[:-1], dt[:-1], *led)
        of_half = lambda half: _one_filter(chain, half[0], half[1], inputs, (t[-1], dt[-1]), xT, n)  # noqa: E731
        return jax.lax.map(of_half, (starts, jr.split(key)))

    # cuthbert computes with what JAX allows by default.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.lax.map(of_case, (xT, offsets, jr.split(key, len(xT))))


def _one_filter(
    chain: Chain,
    starts: Float[Array, "particles d"],
    key: Key,
    inputs: Any,
    last: tuple[Array, Array],
    xT: Float[Array, " d"],
    n: int,
) -> tuple[Array, Array, Array, Array]:
    """Filter forward from these starts to the last step, weigh by x_T, and draw backward."""
    import cuthbert
    from cuthbert.smc import backward_sampler, particle_filter
    from cuthbertlib.resampling import ess_decorator
    from cuthbertlib.smc.ess import ess

    def propagate(key: Any, state: Any, model_inputs: Any) -> Array:
        t, dt, _, _ = model_inputs
        return chain.sample(key, t, dt, state)

    def log_g(state_prev: Any, state: Any, model_inputs: Any) -> Array:
        _, _, before, after = model_inputs
        return _log_potential(after, state) - _log_potential(before, state_prev)

    def log_joint(state_prev: Any, state: Any, model_inputs: Any) -> Array:
        t, dt, _, _ = model_inputs
        density, _ = chain.log_density(t, dt, state_prev, state)
        return log_g(state_prev, state, model_inputs) + density

    count, d = starts.shape
    key_start, key_filter, key_back = jr.split(key, 3)
    resampling = ess_decorator(_systematic, _RESAMPLED_BELOW)
    bootstrap = particle_filter.build_filter(lambda key: starts[0], propagate, log_g, count, resampling)
    begin = bootstrap.init_prepare(key=key_start)._replace(particles=starts)
    states = cuthbert.filter(bootstrap, inputs, begin, key=key_filter)
    t, dt = last
    seen, noise = jax.vmap(lambda x: chain.log_density(t, dt, x, xT))(states.particles[-1])
    lastly = jtu.tree_map(lambda part: part[-1], inputs[3])
    led = jax.vmap(lambda x: _log_potential(lastly, x))(states.particles[-1])
    states = states._replace(log_weights=states.log_weights.at[-1].add(seen - led))
    chunks = -(-n * count * d // _NUMBERS_AT_ONCE)
    back = backward_sampler.build_smoother(log_joint, _draw_back, _systematic, -(-n // chunks))

    def draw(key: Key) -> tuple[Array, Array]:
        found = cuthbert.smoother(back, states, key=key)
        return found.particles[0], found.ancestor_indices[0]

    draws, origins = jax.lax.map(draw, jr.split(key_back, chunks))
    worth = ess(states.log_weights[-1])
    return draws.reshape(-1, d)[:n], origins.reshape(-1)[:n], worth, jnp.min(noise)


def _systematic(key: Any, logits: Any, positions: Any, n: int) -> tuple[Array, Array, Any]:
    """Systematic resampling: cuthbert's calls back to Python on CPUs, where that can hang (jax issue 25861)."""
    sums = jnp.cumsum(jax.nn.softmax(logits))
    places = (jr.uniform(key, (), sums.dtype) + jnp.arange(n)) / n * sums[-1]
    index = jnp.minimum(jnp.searchsorted(sums, places), len(logits) - 1)
    return index, jnp.zeros(n, sums.dtype), jtu.tree_map(lambda leaf: leaf[index], positions)


def _draw_back(
    key: Any, x0_all: Any, x1_all: Any, log_weight_x0_all: Any, log_density: Any, x1_ancestor_indices: Any
) -> tuple[Array, Array]:
    """For each x₁ one of all x₀ by its weight, the weights summed up: cuthbert's draws a number for every pair."""
    from cuthbertlib.smc.smoothing.exact_sampling import log_weights

    def of_one(u: Array, x1: Array) -> Array:
        sums = jnp.cumsum(jnp.exp(log_weights(x0_all, x1, log_weight_x0_all, log_density)))
        return jnp.searchsorted(sums, u * sums[-1])

    chosen = jax.vmap(of_one)(jr.uniform(key, (len(x1_all),), x1_all.dtype), x1_all)
    return x0_all[chosen], chosen


def potentials(x: np.ndarray, xT: Float[Array, "cases d"]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes C^(-½) A of each time but the last, (times, d, d), and each case's C^(-½) (x_T - a); 0 at the first."""
    count, times, d = x.shape
    targets, rounding = np.asarray(xT, np.float64), np.finfo(np.asarray(xT).dtype).eps ** 2
    slopes, offsets = np.zeros((times - 1, d, d)), np.zeros((len(targets), times - 1, d))
    floor = rounding * np.diag(np.mean(x[:, -1] ** 2, axis=0))
    for k in range(1, times - 1):
        design = np.concatenate([np.ones((count, 1)), x[:, k]], axis=1)
        fitted = np.linalg.lstsq(design, x[:, -1], rcond=None)[0]
        left = x[:, -1] - design @ fitted
        whiten = np.linalg.inv(np.linalg.cholesky(left.T @ left / (count - d - 1) + floor))
        slopes[k], offsets[:, k] = whiten @ fitted[1:].T, (targets - fitted[0]) @ whiten.T
    return slopes, offsets
