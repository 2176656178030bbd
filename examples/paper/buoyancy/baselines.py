"""Two ways to the state at t = .35 that need no reverse simulator, both by the simulator's gradient.

L-BFGS: the initial state whose forward simulation ends nearest to x_T, from zeros (arXiv:2301.10250, §4.3).

DPS, diffusion posterior sampling (Chung et al. 2023, arXiv:2209.14687): a denoising diffusion model of the states at
t = .35, guided by the simulator. The variance-preserving process is dz = -½z dτ + c dW, on the clock τ on which its
noise is constant, so that a schedule β₁ ... β_N is a table of times, τᵢ = -Σ log(1 - βⱼ), and exponential steps are
exact. Its score is trained by the transition from 0 to τ, which is the usual denoising loss; the guidance
-∇‖x_T - A(x̂₀)‖ is one more drift of the reverse equation.
"""

import functools
import warnings
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax

import smdpx as sx

from .presets import DT, MIDDLE, Preset
from .train import network


def ahead(flow: sx.physics.Buoyancy, x: Any, mask: jax.Array) -> Any:
    """One state at t = .35, simulated until t = .65."""
    times = DT * (1.0 + jnp.arange(MIDDLE, 64))
    return jax.lax.scan(lambda x, t: (flow.step(t, x, DT, mask), None), x, times)[0]


@eqx.filter_jit
def lbfgs(size: Preset, ends: Any, masks: jax.Array) -> Any:
    """For each case the state at t = .35 after 10 × 4 iterations from zeros: the sum of three MSEs at the end falls."""
    solver = optax.lbfgs(memory_size=10)  # its line search asks for the strong Wolfe conditions

    def minimise(case: tuple[Any, jax.Array]) -> Any:
        end, mask = case

        def loss(x: Any) -> jax.Array:
            misfits = jtu.tree_map(lambda a, b: jnp.mean((a - b) ** 2), ahead(size.flow, x, mask), end)
            return functools.reduce(jnp.add, jtu.tree_leaves(misfits))

        value_and_grad = optax.value_and_grad_from_state(loss)

        def update(_: Any, carry: Any) -> Any:
            x, state = carry
            value, grad = value_and_grad(x, state=state)
            change, state = solver.update(grad, state, x, value=value, grad=grad, value_fn=loss)
            return optax.apply_updates(x, change), state

        zeros = jtu.tree_map(jnp.zeros_like, end)
        return jax.lax.fori_loop(0, 40, update, (zeros, solver.init(zeros)))[0]

    return jax.lax.map(minimise, (ends, masks))


class Shrink(eqx.Module):
    """The rate -½x, stated as a linear part, of which exponential steps are exact."""

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        """The rate."""
        return jtu.tree_map(lambda leaf: -leaf / 2, x)

    def linear(self, t: Any) -> Any:
        """-½, in each of the three fields."""
        parts: Any = 3 * [sx.Diagonal(-0.5)]
        return sx.physics.buoyancy.StaggeredState(*parts)


class Denoiser(eqx.Module):
    """A score of the noisy states, by a network that predicts v = a ε - b x₀/c (Salimans & Ho 2022, arXiv:2202.00512).

    Attributes:
        net: called (b, x/c, mask).
        c: deviation of each of the three fields at t = .35.
    """

    net: Any
    c: Any

    def start(self, t: Any, x: Any, args: Any) -> Any:
        """x̂₀ = E[x₀ | x], a x - b c v."""
        a, b = _signal(t), _noise(t)
        return jtu.tree_map(lambda x, v, c: a * x - b * c * v, x, self._v(b, x, args), self.c)

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        """∇ log p = -ε̂/(b c), ε̂ = b x/c + a v."""
        a, b = _signal(t), _noise(t)
        return jtu.tree_map(lambda x, v, c: -(b * x / c + a * v) / (b * c), x, self._v(b, x, args), self.c)

    def _v(self, b: Any, x: Any, args: Any) -> Any:
        return self.net(b, jtu.tree_map(lambda leaf, c: leaf / c, x, self.c), args["mask"])


def _signal(t: Any) -> Any:
    return jnp.exp(-t / 2)


def _noise(t: Any) -> Any:
    return jnp.sqrt(-jnp.expm1(-t))


class Guide(eqx.Module):
    """The guidance -∇‖x_T - A(x̂₀)‖ of one step, as a rate: A simulates from t = .35 to .65."""

    denoiser: Denoiser
    flow: sx.physics.Buoyancy
    ts: jax.Array | np.ndarray

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        """The rate of one sample; a step is of one entry of the table."""

        def off(x: Any) -> jax.Array:
            end = ahead(self.flow, self.denoiser.start(t, x, args), args["mask"])
            return optax.global_norm(jtu.tree_map(jnp.subtract, end, args["end"]))

        # The step ζ∇‖·‖² of Chung et al. with ζ = 1/‖·‖, in units in which the noise is 1.
        h = jnp.interp(t, self.ts[1:], jnp.diff(self.ts))
        return jtu.tree_map(lambda d, c: -2 * c**2 * d / h, jax.grad(off)(x), self.denoiser.c)


def diffusion_model(size: Preset, paths: sx.Trajectories, key: jax.Array) -> tuple[sx.Score, np.ndarray]:
    """The score of noisy states, and the table of times that is the schedule β = 1e-4 ... .02 (at N = 1000)."""
    k = jr.split(key, 3)
    beta = np.minimum(np.linspace(1e-4, 0.02, size.levels) * 1000 / size.levels, 0.999)
    ts = np.concatenate([[0.0], -np.cumsum(np.log1p(-beta))])
    x0 = jtu.tree_map(lambda leaf: leaf[:, MIDDLE], paths.x)
    c = jtu.tree_map(lambda leaf: float(np.std(leaf)), x0)
    P, g = sx.Drift(Shrink()), sx.Diffusion(c)
    s = sx.Score(Denoiser(network(size, k[0]), c), g)
    # Each start beside what has become of it at some sixty-four of the times.
    some = ts[np.unique(np.rint(np.linspace(0, size.levels, 65)).astype(int))]
    noisy = sx.simulate(P + g, x0, some, args={"mask": paths.args}, key=k[1], solver=sx.ExponentialEuler())
    later = len(some) - 1
    pairs = jtu.tree_map(lambda x: jnp.stack([jnp.repeat(x[:, :1], later, axis=1), x[:, 1:]], axis=2), noisy.x)
    pairs = jtu.tree_map(lambda x: x.reshape(-1, *x.shape[2:]), pairs)
    both = np.tile(np.stack([np.zeros(later), some[1:]], axis=-1), (len(paths), 1))
    masks = sx.PerSample(jnp.repeat(paths.args.value, later, axis=0))
    data = sx.Trajectories(pairs, both, {"mask": masks})
    loss = sx.TransitionLoss(solver=sx.ExponentialEuler())
    with warnings.catch_warnings():
        # Of starts narrower than a first step's noise: the steps of these data are long, those of the schedule are not.
        warnings.filterwarnings("ignore", message="`paths` start narrower")
        return sx.fit(-P + 2 * s, data, key=k[2], loss=loss, curriculum=size.denoiser), ts


def dps(size: Preset, s: sx.Score, ts: np.ndarray, ends: Any, masks: jax.Array, key: jax.Array) -> Any:
    """One sample of the state at t = .35 for each case."""
    denoiser: Any = s.net
    P, guide = sx.Drift(Shrink()), sx.ReverseDrift(Guide(denoiser, size.flow, ts), name="guide")
    k = jr.split(key, 4)
    leaves, tree = jtu.tree_flatten(ends)
    white = [jr.normal(k, leaf.shape) for k, leaf in zip(k, leaves, strict=False)]
    start = jtu.tree_map(jnp.multiply, denoiser.c, tree.unflatten(white))
    args = {"mask": sx.PerSample(masks), "end": jtu.tree_map(sx.PerSample, ends)}
    last = dfx.SaveAt(t1=True)
    equation = -P + 2 * s + guide + s.g
    x = sx.solve(equation, start, ts[::-1], args=args, key=k[3], solver=sx.ExponentialEuler(), saveat=last)
    return jtu.tree_map(lambda leaf: leaf[:, -1], x)
