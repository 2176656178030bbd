"""Value and gradient of the window loss: smdpx against a hand-written `lax.scan`.

python benchmarks/window.py

Batch 512, windows of 2, 10 and 100 states, the toy problem's network, alone and between moments (`nn.Whitened`, with
its guard and without; by hand there is none). Run time and compile time as ratios; and the peak memory of windows of
10, 100 and 500 states, by default and with few checkpoints.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import compile_seconds, paired, record

import smdpx as sx

BATCH, DT, LAMBDA, G = 512, 0.002, 7.0, 0.03


def make_windows(size: int) -> sx.Windows:
    x = 0.01 * jr.normal(jr.key(0), (BATCH, size))
    t = jr.uniform(jr.key(1), (BATCH, 1)) + DT * (1 + jnp.arange(size))
    return sx.Windows(x, t, DT)


def drift(t, x, args):
    return -LAMBDA * jnp.sign(x) * x**2


def by_hand(net, windows):
    """What one would write: a scan over the window, the network vmapped over the batch."""
    states = windows.x.T[::-1]
    times = windows.t.T[::-1]

    def step(x, inputs):
        t, target = inputs
        score = jax.vmap(net)(t, x)
        x = x + DT * (-drift(t, x, None) + G**2 * score)
        return x, jnp.mean((x - target) ** 2)

    _, errors = jax.lax.scan(step, states[0], (times[:-1], states[1:]))
    return jnp.mean(errors) / (G**2 * DT)


EULERS = sx.WindowLoss(solver=dfx.Euler())  # as by hand


def heun_by_hand(net, windows):
    """The same by Heun's method, smdpx's default."""
    states, times = windows.x.T[::-1], windows.t.T[::-1]

    def rate(t, x):
        return -drift(t, x, None) + G**2 * jax.vmap(net)(t, x)

    def step(x, inputs):
        t, end, target = inputs
        k = rate(t, x)
        x = x + 0.5 * DT * (k + rate(end, x + DT * k))
        return x, jnp.mean((x - target) ** 2)

    _, errors = jax.lax.scan(step, states[0], (times[:-1], times[1:], states[1:]))
    return jnp.mean(errors) / (G**2 * DT)


def with_smdpx(loss):
    g = sx.Diffusion(G)

    def value(net, windows):
        return loss(-sx.Drift(drift) + 2 * sx.Score(net, g), windows, jr.key(0), None)

    return value


def gradient(f, static):
    return lambda params, windows: jax.value_and_grad(lambda p: f(eqx.combine(p, static), windows))(params)


def memory(compiled) -> float:
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def alternatives(params, static):
    """What the defaults avoid: a checkpointed loop, and a solve for each sample."""

    def checkpointed(steps):
        return with_smdpx(sx.WindowLoss(solver=dfx.Euler(), adjoint=dfx.RecursiveCheckpointAdjoint(checkpoints=steps)))

    loss = with_smdpx(EULERS)

    def each(net, windows):
        alone = jax.vmap(lambda x, t: loss(net, sx.Windows(x[None], t[None], DT)))
        return jnp.mean(alone(windows.x, windows.t))

    for what, f, size in (
        ("one step in a checkpointed loop", checkpointed(1), 2),
        ("a checkpoint a step", checkpointed(9), 10),
        ("a checkpoint a step", checkpointed(99), 100),
        ("a solve for each sample, vmapped", each, 10),
    ):
        windows = make_windows(size)
        _, theirs = compile_seconds(gradient(by_hand, static), params, windows)
        _, ours = compile_seconds(gradient(f, static), params, windows)
        timing = paired(lambda: ours(params, windows), lambda: theirs(params, windows))  # noqa: B023
        yield {"what": what, "window": size, "batch": BATCH, **timing}


def against_hand(what, size, net, hand, f):
    """Both gradients of one net and one window: whether they agree, and the ratios of run and compile time."""
    params, static = eqx.partition(net, eqx.is_inexact_array)
    windows = make_windows(size)
    theirs_s, theirs = compile_seconds(gradient(hand, static), params, windows)
    ours_s, ours = compile_seconds(gradient(f, static), params, windows)
    a, b = ours(params, windows), theirs(params, windows)
    off = max(jax.tree.leaves(jax.tree.map(lambda u, v: float(jnp.abs(u - v).max() / (jnp.abs(v).max() or 1)), a, b)))
    assert off < 1e-3, off
    row = {"what": what, "window": size, "batch": BATCH, "largest_difference": off}
    row |= paired(lambda: ours(params, windows), lambda: theirs(params, windows))
    # A second compilation of each: the first of a process also loads the compiler.
    again_theirs, _ = compile_seconds(gradient(hand, static), params, windows)
    again_ours, _ = compile_seconds(gradient(f, static), params, windows)
    row |= {"compile_ratio": min(ours_s, again_ours) / min(theirs_s, again_theirs)}
    return row | {"compile_ours_s": min(ours_s, again_ours), "compile_theirs_s": min(theirs_s, again_theirs)}


def main():
    net = sx.nn.MLP(x_scale=0.1, out_scale=1 / G, key=jr.key(2))
    wide = sx.Trajectories(0.1 * jr.normal(jr.key(3), (64, 41)), DT * 26 * np.arange(41))  # no window is outside
    inner = sx.nn.MLP(key=jr.key(2))
    between = {"": sx.nn.Whitened(inner, wide), ", no guard": sx.nn.Whitened(inner, wide, guard=False)}
    euler, heun = (by_hand, with_smdpx(EULERS)), (heun_by_hand, with_smdpx(sx.WindowLoss()))
    rows = []
    for which, sizes, (hand, f) in (("", (2, 10, 30, 100, 500), euler), (", Heun", (2, 10, 100), heun)):
        for size in sizes:
            rows.append(against_hand(f"value and gradient{which}", size, net, hand, f))
        for guard, whitened in between.items():
            for size in (2, 10, 100):
                what = f"value and gradient{which}, between moments{guard}"
                rows.append(against_hand(what, size, whitened, hand, f))
    params, static = eqx.partition(net, eqx.is_inexact_array)
    rows += [*alternatives(params, static)]
    for size in (10, 100, 500):
        windows = make_windows(size)
        row = {"what": "peak memory of temporaries, MiB", "window": size, "batch": BATCH}
        few = dfx.RecursiveCheckpointAdjoint()
        for name, adjoint in (("default", None), ("few_checkpoints", few)):
            f = gradient(with_smdpx(sx.WindowLoss(solver=dfx.Euler(), adjoint=adjoint)), static)
            row[name] = memory(compile_seconds(f, params, windows)[1])
        row["scan"] = memory(compile_seconds(gradient(by_hand, static), params, windows)[1])
        rows.append(row)
    record("window", "python benchmarks/window.py", rows)


if __name__ == "__main__":
    main()
