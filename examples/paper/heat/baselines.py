"""What the heat problem is compared with: physics alone, filters, networks without physics, the published weights."""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import smdpx as sx
from heat.presets import Preset
from heat.problem import EXACT, MIRRORED, TS, N, Scheme, T, cases, fields, figures, g, infer
from heat.train import train

Row = dict[str, Any]
STILL = Scheme("no physics", sx.Drift(lambda t, x, args: jnp.zeros_like(x), "0"), MIRRORED.solver, 1.0, MIRRORED.P)


def classical(preset: Preset, x0: jax.Array, xT: jax.Array, key: jax.Array) -> list[Row]:
    """Physics run backwards, and the ensemble Kalman smoother; the Wiener filter is the exact posterior mean."""
    alone = sx.solve(-MIRRORED.P, xT, TS[::-1])[:, -1]
    ensemble, ends = cases(preset.members, key)
    rows = [{"method": "reverse physics alone", **figures(alone, x0, xT)}]
    for name, smoother in (("", sx.ensemble_smoother), (" by mode", smoother_by_mode)):
        analysis = smoother(ensemble, ends, xT, 16, key=key, noise=preset.noise)
        rows += [
            {"method": f"ensemble Kalman smoother{name}, mean", **figures(jnp.mean(analysis, axis=0), x0, xT)},
            {"method": f"ensemble Kalman smoother{name}, sample", **figures(analysis[0], x0, xT)},
        ]
    return rows


@functools.partial(jax.jit, static_argnames=("n", "noise"))
def smoother_by_mode(
    x0: jax.Array, xT: jax.Array, observed: jax.Array, n: int, *, key: jax.Array, noise: float
) -> jax.Array:
    """The ensemble smoother localised by what is known: in a stationary field the Fourier modes are uncorrelated."""

    def modes(x: jax.Array) -> jax.Array:  # real and imaginary part of every mode, the modes in front
        spectrum = jnp.fft.rfft2(x).reshape(len(x), -1).T
        return jnp.stack([spectrum.real, spectrum.imag]).reshape(-1, len(x), 1)

    start, end, seen = modes(x0), modes(xT), modes(observed)
    # A mode without variance (the mean at t = 0, imaginary parts of real modes) has nothing to be found.
    end = end + 1e-6 * jr.normal(key, end.shape)
    smooth = lambda start, end, seen, key: sx.ensemble_smoother(start, end, seen, n, key=key, noise=noise)  # noqa: E731
    found = jax.vmap(smooth)(start, end, seen, jr.split(key, len(start)))[..., 0]
    real, imaginary = jnp.moveaxis(found.reshape(2, -1, n, len(observed)), 1, -1)
    return jnp.fft.irfft2((real + 1j * imaginary).reshape(n, len(observed), N, N // 2 + 1), s=(N, N))


def networks(preset: Preset, out: pathlib.Path, x0: jax.Array, xT: jax.Array, key: jax.Array) -> list[Row]:
    """Networks trained from x_T to x₀, and the score's network trained without the physics."""
    rows = []
    keys = jr.split(key, 8)
    direct = {
        "ResNet, supervised": sx.nn.ResNet(N, preset.width, preset.blocks, key=keys[0]),
        "FNO, supervised": sx.nn.FNO(key=keys[1]),
        "Bayesian UNet, supervised": sx.nn.Tiled(sx.nn.UNet(2 * N, preset.levels, dropout=0.1, key=keys[2]), N // 2),
    }
    for name, start in direct.items():
        net, seconds = supervised(start, preset, keys[3])
        draws = 16 if name.startswith("Bayesian") else 1
        every = jax.jit(jax.vmap(net, in_axes=(0, None)))
        answers = jnp.stack([every(xT, k) for k in jr.split(keys[4], draws)])
        if draws > 1:
            rows.append({"method": name + ", mean", "training s": seconds, **figures(answers.mean(0), x0, xT)})
            name += ", sample"
        rows.append({"method": name, "training s": seconds, **figures(answers[0], x0, xT)})
        print(rows[-1], flush=True)
    scores, seconds = train(preset, STILL, preset.curriculum, out)
    for inference, kind in (("posterior mean", "noise-free"), ("posterior sample", "sample")):
        found = [figures(infer(STILL, s, inference, xT, keys[6]), x0, xT) for s in scores]
        rows.append({"method": f"score alone, no physics, {kind}", "training s": seconds, "seeds": found})
    return rows


def supervised(net: Any, preset: Preset, key: jax.Array) -> tuple[Callable[[Any, Any], Any], float]:
    """x₀ = x_T + net(x_T), by least squares on fresh end states of the training fields; dropout has the key."""
    x0 = fields(preset.trajectories, jr.key(3))
    updates, batch = preset.convolutional, 16
    optimizer = optax.adam(sx.Stage(updates=updates, learning_rate=1e-3).schedule())
    params, static = eqx.partition(net, eqx.is_inexact_array)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        key_start, key_noise, key_net = jr.split(key, 3)
        start = x0[jr.randint(key_start, (batch,), 0, len(x0))]
        end = jax.vmap(lambda x, key: EXACT.simulate(T, x, key=key))(start, jr.split(key_noise, batch))
        guess = jax.vmap(lambda x, key: _answer(eqx.combine(params, static), x, key))(end, jr.split(key_net, batch))
        return jnp.mean((guess - start) ** 2)

    def update(i: Any, carry: Any) -> Any:
        params, average, state = carry
        gradient = jax.tree.map(jnp.conj, jax.grad(loss)(params, jr.fold_in(key, i)))  # complex weights: see fit
        step, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, step)
        decay = jnp.minimum(0.995, (1 + i) / (10 + i))
        return params, jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params), state

    began = time.perf_counter()
    carry = jax.jit(lambda start: jax.lax.fori_loop(0, updates, update, (start, start, optimizer.init(start))))(params)
    trained = eqx.combine(jax.block_until_ready(carry[1]), static)
    return lambda x, key: _answer(trained, x, key), time.perf_counter() - began


def _answer(net: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    return x + net(T, x, key)


def published(folder: pathlib.Path, x0: jax.Array, xT: jax.Array, key: jax.Array) -> list[Row]:
    """The paper's released weights in its own scheme: what it calls ODE and SDE, C = 1 and 2 in its units."""
    net = sx.nn.ResNet(2 * N, boundary="zero", bypass_middle=True, key=key)
    net = sx.nn.load_arrays(net, folder / "heat_resnet_weights.npz")
    s = sx.Score(sx.nn.Tiled(net, N // 2), g)
    rows = []
    for name, equation in (("ODE", -MIRRORED.P + s), ("SDE", -MIRRORED.P + 2 * s + g)):
        one = lambda start: _last_without_noise(equation, xT[start : start + 25], jr.fold_in(key, start))  # noqa: B023, E731
        answer = jnp.concatenate([one(start) for start in range(0, len(xT), 25)])
        rows.append({"method": f'published weights, "{name}"', "cases": len(xT), **figures(answer, x0, xT)})
        print(rows[-1], flush=True)
    return rows


def _last_without_noise(equation: Any, xT: jax.Array, key: jax.Array) -> jax.Array:
    """The paper's code adds no noise in the last step."""
    if not isinstance(equation, sx.SDE):
        return sx.point_estimate(equation, xT, TS[::-1])
    x = sx.solve(equation, xT, TS[:0:-1], key=key)[:, -1]
    return sx.point_estimate(equation.drift, x, TS[1::-1])
