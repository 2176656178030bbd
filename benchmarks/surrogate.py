"""The turbulence's networks: window gradients against hand-written scans, and what an FNO reaches of the machine.

python benchmarks/surrogate.py

A surrogate alone (an FNO with the paper's 12 modes and 20 channels, 32² and 64²), and beside it a score (a ResNet
between Fourier moments), windows of 2 and 10 states through Euler's method with steps of a frame; GFLOP/s beside this
machine's matrix product and its Fourier transforms.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import best, compile_seconds, paired, record

import smdpx as sx

BATCH, g = 8, sx.Diffusion(0.05)
EULER = sx.WindowLoss(solver=dfx.Euler())


def windows(n, size):
    x = jr.normal(jr.key(0), (BATCH, size, n, n))
    return sx.Windows(x, jnp.broadcast_to(jnp.arange(float(size)), (BATCH, size)), 1.0)


def by_hand(rate, scale):
    """The mean square of the unroll in units of `scale`, in one scan."""

    def loss(net, windows):
        states, times = jnp.moveaxis(windows.x, 1, 0)[::-1], windows.t.T[::-1]

        def step(x, inputs):
            t, target = inputs
            x = x + rate(net, t, x)
            return x, jnp.mean((x - target) ** 2)

        return jnp.mean(jax.lax.scan(step, states[0], (times[:-1], states[1:]))[1]) / scale

    return loss


def row(what, n, size, net, ours, theirs):
    """The ratio of the two gradients' times, and of their compilations."""
    params, static = eqx.partition(net, eqx.is_inexact_array)
    gradient = lambda f: lambda p, w: jax.value_and_grad(lambda p: f(eqx.combine(p, static), w))(p)  # noqa: E731
    data = windows(n, size)
    (theirs_s, b), (ours_s, a) = (compile_seconds(gradient(f), params, data) for f in (theirs, ours))
    apart = abs(float(a(params, data)[0]) / float(b(params, data)[0]) - 1)
    timing = paired(lambda: a(params, data), lambda: b(params, data), rounds=9)
    compiled = {"compile_ratio": ours_s / theirs_s, "values differ by": apart}
    return {"what": what, "n": n, "window": size, "batch": BATCH} | timing | compiled


def rows():
    for n in (32, 64):
        fno = sx.nn.FNO(12, 20, key=jr.key(1))
        # Wide enough that no state of a window is outside: by hand there is no guard.
        many = sx.Trajectories(5 * jr.normal(jr.key(2), (32, 3, n, n)), [0.0, 1.0, 2.0])
        inner = sx.nn.ResNet((n, n), width=12, blocks=1, key=jr.key(3))
        net = sx.nn.Whitened(inner, many, basis=sx.Fourier.like)
        frozen = sx.ReverseDrift(fno)
        for size in (2, 10):
            ours = lambda net, w: EULER(sx.ReverseDrift(net), w, jr.key(0), None)  # noqa: E731
            theirs = by_hand(lambda net, t, x: jax.vmap(net, (0, 0))(t, x), 1.0)
            yield row("gradient, FNO", n, size, fno, ours, theirs)
            ours = lambda net, w: EULER(frozen + 2 * sx.Score(net, g), w, jr.key(0), None)  # noqa: E731, B023
            theirs = by_hand(lambda net, t, x: jax.vmap(fno)(t, x) + 0.05**2 * jax.vmap(net)(t, x), 0.05**2)  # noqa: B023
            yield row("gradient, ResNet beside a frozen FNO", n, size, net, ours, theirs)
        yield from speeds(n, fno)


def speeds(n, fno, batch=50):
    """Forward passes of the FNO, its Fourier transforms, and the matrix product's best."""
    x = jr.normal(jr.key(4), (batch, n, n))
    h = jr.normal(jr.key(5), (batch, 20, n, n))
    width, modes, layers, hidden = 20, 12, 4, 128
    transform = 5 * n**2 * np.log2(n**2) / 2  # a real one, by the usual count
    mixing = 8 * width**2 * 2 * modes**2  # complex products of each kept mode
    pointwise = 2 * n**2 * (3 * width + layers * width**2 + width * hidden + hidden)
    flops = layers * (2 * width * transform + mixing) + pointwise
    whole = best(jax.jit(lambda x: jax.vmap(fno, (None, 0))(0.0, x)), x)
    there = best(jax.jit(lambda h: jnp.fft.irfft2(jnp.fft.rfft2(h), s=(n, n))), h)
    a = jr.normal(jr.key(6), (2048, 2048))
    yield {
        "what": f"forward pass of an FNO, {n}², batch {batch}",
        "GFLOP/s": batch * flops / whole / 1e9,
        "of its Fourier transforms": batch * 2 * width * transform / there / 1e9,
        "share of the transforms in its time": layers * there / whole,
        "matrix product, GFLOP/s": 2 * 2048**3 / best(jax.jit(jnp.dot), a, a) / 1e9,
    }


if __name__ == "__main__":
    record("surrogate", "python benchmarks/surrogate.py", rows())
