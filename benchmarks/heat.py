"""The heat problem with the paper's network: windows, sampling, the published tiling, and where the time goes.

python benchmarks/heat.py           # all parts: speed, tiling, window, sampling
python benchmarks/heat.py window    # one of them

Window of 32 steps, batch 4 and 16, and 100 cases × 32 steps, against hand-written scans with the same network; the
memory of the window's gradient by adjoint; periodic convolutions against the published 64 × 64 tiling; GFLOP/s
beside this machine's matrix product.
"""

import sys
import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import best, compile_seconds, paired, record

import smdpx as sx

N, T, G, STEPS = 32, 0.2, 0.1, 32
DT = T / STEPS
TS = np.linspace(T, 0.0, STEPS + 1)
heat, g = sx.physics.Heat(N), sx.Diffusion(G)
P = sx.Drift.from_step(heat.step, reverse=sx.mirror)


def make_windows(batch, steps):
    x = jr.normal(jr.key(0), (batch, steps + 1, N, N))
    t = DT * jnp.broadcast_to(jnp.arange(steps + 1, dtype=x.dtype), (batch, steps + 1))
    return sx.Windows(x, t, DT)


def step_by_hand(net, x, t):
    decayed = jax.vmap(lambda x: heat.step(x, DT))(x)
    return 2 * x - decayed + DT * G**2 * jax.vmap(net)(t, x)


def loss_by_hand(net, windows, unrolled=False):
    states, times = jnp.moveaxis(windows.x, 1, 0)[::-1], windows.t.T[::-1]

    def step(x, inputs):
        t, target = inputs
        x = step_by_hand(net, x, t)
        return x, jnp.mean((x - target) ** 2)

    inputs = (times[:-1], states[1:])
    if unrolled:
        x, errors = states[0], []
        for j in range(len(states) - 1):
            x, error = step(x, jax.tree.map(lambda leaf, j=j: leaf[j], inputs))
            errors.append(error)
        return jnp.mean(jnp.stack(errors)) / (G**2 * DT)
    return jnp.mean(jax.lax.scan(step, states[0], inputs)[1]) / (G**2 * DT)


def with_smdpx(loss):
    return lambda net, windows: loss(-P + 2 * sx.Score(net, g), windows, jr.key(0), None)


def gradient(f, static):
    return lambda params, windows: jax.value_and_grad(lambda p: f(eqx.combine(p, static), windows))(params)


def split(net):
    return eqx.partition(net, eqx.is_inexact_array)


def mebibytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def window_rows(net):
    params, static = split(net)
    memory = {}
    for batch in (4, 16):
        windows = make_windows(batch, STEPS)
        theirs_s, theirs = compile_seconds(gradient(loss_by_hand, static), params, windows)
        for name, adjoint in (
            ("scan (default)", None),
            ("a checkpoint a step", dfx.RecursiveCheckpointAdjoint(checkpoints=STEPS)),
            ("few checkpoints", dfx.RecursiveCheckpointAdjoint()),
        ):
            ours_s, ours = compile_seconds(
                gradient(with_smdpx(sx.WindowLoss(adjoint=adjoint)), static), params, windows
            )
            row = {"what": "value and gradient of 32 steps", "adjoint": name, "batch": batch}
            rounds = 5 if name.startswith("scan") else 2
            row |= paired(lambda: ours(params, windows), lambda: theirs(params, windows), rounds=rounds)  # noqa: B023
            memory[name, batch] = mebibytes(ours)
            yield row | {"compile_ratio": ours_s / theirs_s, "MiB": memory[name, batch], "scan, MiB": mebibytes(theirs)}
    by_hand = gradient(lambda net, windows: loss_by_hand(net, windows, unrolled=True), static)
    unrolled, few = mebibytes(compile_seconds(by_hand, params, make_windows(4, STEPS))[1]), memory["few checkpoints", 4]
    row = {"what": "memory of 32 steps, batch 4, MiB", "unrolled": unrolled, "few checkpoints": few}
    yield row | {"few ÷ unrolled": few / unrolled}


def tiling_rows(net, tiled):
    windows = make_windows(4, 2)
    compiled = []
    for one in (tiled, net):
        params, static = split(one)
        compiled.append((compile_seconds(gradient(with_smdpx(sx.WindowLoss()), static), params, windows)[1], params))
    (a, pa), (b, pb) = compiled
    yield tiling_row("gradient of 2 steps, batch 4", lambda: a(pa, windows), lambda: b(pb, windows))
    x = jr.normal(jr.key(1), (50, N, N))
    a, b = (jax.jit(lambda x, one=one: forward(one, x)) for one in (tiled, net))
    yield tiling_row("forward pass, batch 50", lambda: a(x), lambda: b(x))
    c, d = (jax.jit(lambda x, key, one=one: sample(one, x, key)) for one in (tiled, net))
    key = jr.key(3)
    yield tiling_row("50 cases × 32 steps in one call", lambda: c(x, key), lambda: d(x, key), rounds=3)


def tiling_row(of, tiled, periodic, rounds=5):
    timing = paired(tiled, periodic, rounds=rounds)
    timing["tiled_s"], timing["periodic_s"] = timing.pop("ours_s"), timing.pop("theirs_s")
    return {"what": "tiled ÷ periodic", "of": of, **timing}


def forward(net, x):
    return jax.vmap(net, (None, 0))(0.1, x)


def sample(net, x, key):
    return sx.solve(-P + 2 * sx.Score(net, g) + g, x, TS, key=key, saveat=dfx.SaveAt(t1=True))


def sampling_row(net):
    cases = jr.normal(jr.key(2), (100, N, N))

    @jax.jit
    def by_hand(x, key):
        def step(x, inputs):
            t, key = inputs
            return step_by_hand(net, x, jnp.full(len(x), t)) + G * DT**0.5 * jr.normal(key, x.shape), None

        return jax.lax.scan(step, x, (jnp.asarray(TS[:-1], x.dtype), jr.split(key, STEPS)))[0]

    key = jr.key(3)
    ours = jax.jit(lambda x, key: sample(net, x, key))
    ours, theirs = (f.lower(cases, key).compile() for f in (ours, by_hand))
    # A minute each: in turn, each once first and once second.
    seconds = {ours: [], theirs: []}
    for f in (ours, theirs, theirs, ours):
        began = time.perf_counter()
        jax.block_until_ready(f(cases, key))
        seconds[f].append(time.perf_counter() - began)
    ours_s, theirs_s = sum(seconds[ours]) / 2, sum(seconds[theirs]) / 2
    flops = STEPS * len(cases) * forward_flops(net)
    row = {
        "what": "100 cases × 32 steps in one call",
        "ratio": ours_s / theirs_s,
        "ours_s": ours_s,
        "theirs_s": theirs_s,
    }
    return row | {"GFLOP/s": flops / ours_s / 1e9, "matrix product, GFLOP/s": matrix_product_speed()}


def forward_flops(net):
    """Multiplications and additions of the convolutions, counted from the weights: two for each weight and cell."""
    return 2 * N**2 * sum(leaf.size for leaf in kernels(net))


def kernels(net):
    """The weights of the convolutions."""
    return [leaf for leaf in jax.tree.leaves(net) if getattr(leaf, "ndim", 0) == 4]


def matrix_product_speed(n=2048):
    """What this machine reaches at best, in GFLOP/s."""
    a = jr.normal(jr.key(4), (n, n))
    return 2 * n**3 / best(jax.jit(jnp.dot), a, a) / 1e9


def speed_rows(net):
    """The matrix product's best, and what the network's parts reach of it."""
    yield {"what": "GFLOP/s", "of": "matrix product, 2048 × 2048", "GFLOP/s": matrix_product_speed()}
    x, w = jr.normal(jr.key(5), (50, 32, N, N)), jr.normal(jr.key(6), (32, 32, 4, 4))
    for layout in ("NCHW", "NHWC"):
        y = x if layout == "NCHW" else jnp.moveaxis(x, 1, -1)
        conv = jax.jit(
            lambda y, w, d=layout: jax.lax.conv_general_dilated(y, w, (1, 1), "SAME", dimension_numbers=(d, "OIHW", d))
        )
        flops = 2 * 50 * N**2 * w.size
        yield {
            "what": "GFLOP/s",
            "of": f"one 4×4 convolution of 32 channels, batch 50, {layout}",
            "GFLOP/s": flops / best(conv, y, w) / 1e9,
        }
        pull = jax.jit(lambda y, w, c, conv=conv: jax.vjp(conv, y, w)[1](c)[1])
        yield {"what": "GFLOP/s", "of": f"its weight gradient, {layout}", "GFLOP/s": flops / best(pull, y, w, y) / 1e9}
    fields = jr.normal(jr.key(7), (50, N, N))
    whole = best(jax.jit(lambda x: forward(net, x)), fields)
    yield {"what": "GFLOP/s", "of": "the network, batch 50", "GFLOP/s": 50 * forward_flops(net) / whole / 1e9}
    params, static = split(net)
    backward = jax.jit(jax.grad(lambda p, x: jnp.sum(forward(eqx.combine(p, static), x) ** 2)))
    yield {
        "what": "GFLOP/s",
        "of": "its value and gradient, batch 50",
        "GFLOP/s": 3 * 50 * forward_flops(net) / best(backward, params, fields) / 1e9,
    }
    physics = jax.jit(jax.vmap(lambda x: heat.step(x, DT)))
    around = jax.jit(lambda h: jax.nn.leaky_relu(jnp.pad(h, ((0, 0), (1, 2), (1, 2), (0, 0)), mode="wrap")))
    others = len(kernels(net)) * best(around, jr.normal(jr.key(5), (50, N, N, 32)))
    noise = jax.jit(lambda key: jr.normal(key, fields.shape))
    for name, part in (
        ("padding and activations of all layers", others),
        ("physics", best(physics, fields)),
        ("noise", best(noise, jr.key(8))),
    ):
        yield {"what": "time beside a forward pass", "of": name, "share": part / whole}


def main():
    net = sx.nn.ResNet(N, key=jr.key(9))
    tiled = sx.nn.Tiled(sx.nn.ResNet(2 * N, boundary="zero", key=jr.key(9)), N // 2)
    known = {
        "speed": lambda: speed_rows(net),
        "tiling": lambda: tiling_rows(net, tiled),
        "window": lambda: window_rows(net),
        "sampling": lambda: [sampling_row(net)],
    }
    for part in sys.argv[1:] or known:
        record(f"heat_{part}", f"python benchmarks/heat.py {part}", known[part]())


if __name__ == "__main__":
    main()
