"""Updates per second of `fit` against a hand-written, fully compiled training loop.

python benchmarks/fit.py

The same data, network (an MLP, and one between the data's moments; by hand without its guard), window, batch and
optimiser; the hand-written loop draws windows, unrolls, and averages the weights inside one `lax.fori_loop`.
Compilation is left out of both, and compared by itself: the wait for the first update in a process that has compiled
nothing, and for that of a second training of the same shapes.
"""

import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _measure import record

import smdpx as sx

BATCH, DT, LAMBDA, G, TIMES, PATHS = 256, 0.02, 7.0, 0.03, 501, 2500
g = sx.Diffusion(G)


def drift(t, x, args):
    return -LAMBDA * jnp.sign(x) * x**2


def by_hand(window, updates, paths, ts, net):
    """One compiled loop over all updates."""
    params, static = eqx.partition(net, eqx.is_inexact_array)
    optimizer = optax.adam(sx.Stage(window, updates).schedule())

    def loss(params, key):
        net = eqx.combine(params, static)
        key_path, key_start = jr.split(key)
        path = jr.randint(key_path, (BATCH, 1), 0, PATHS)
        index = jr.randint(key_start, (BATCH, 1), 0, TIMES - window + 1) + jnp.arange(window)[None]
        states, times = paths[path, index].T[::-1], ts[index].T[::-1]

        def step(x, inputs):
            t, target = inputs
            x = x + DT * (-drift(t, x, None) + G**2 * jax.vmap(net)(t, x))
            return x, jnp.mean((x - target) ** 2)

        return jnp.mean(jax.lax.scan(step, states[0], (times[:-1], states[1:]))[1]) / (G**2 * DT)

    def update(i, state):
        params, average, opt = state
        gradient = jax.grad(loss)(params, jr.fold_in(jr.key(2), i))
        change, opt = optimizer.update(gradient, opt, params)
        decay = jnp.minimum(0.999, (1 + i) / (10 + i))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
        return optax.apply_updates(params, change), average, opt

    run = jax.jit(lambda state, n: jax.lax.fori_loop(0, n, update, state))
    state = (params, params, optimizer.init(params))
    jax.block_until_ready(run(state, 1))

    def seconds(updates):
        start = time.perf_counter()
        jax.block_until_ready(run(state, updates))
        return time.perf_counter() - start

    return seconds


EULERS = sx.WindowLoss(solver=dfx.Euler())  # as by hand


def waits(window, fit, hand):
    """Seconds until one update is done: by `fit`, by hand, and by `fit` once more."""
    rows = []
    for _ in range(5):
        jax.clear_caches()
        ours = timed(lambda: fit([sx.Stage(window, 1)]))
        again = timed(lambda: fit([sx.Stage(window, 1)]))
        jax.clear_caches()
        rows.append((ours, timed(lambda: hand(window, 1)), again))
    ours, theirs, again = np.array(rows).T
    return {
        "compile_ratio": float(np.median(ours / theirs)),
        "compile_ratio_range": [float(min(ours / theirs)), float(max(ours / theirs))],
        "ours_first_update_s": float(np.median(ours)),
        "theirs_first_update_s": float(np.median(theirs)),
        "second_training_s": float(np.median(again)),
    }


def timed(f):
    start = time.perf_counter()
    jax.block_until_ready(eqx.filter(f(), eqx.is_array))
    return time.perf_counter() - start


def rates(window, updates, net, paths):
    """Updates a second of both, in turn, and what they wait for."""
    reverse = -sx.Drift(drift) + 2 * sx.Score(net, g)
    hand = lambda window, updates: by_hand(window, updates, paths.x, jnp.asarray(paths.ts), net)  # noqa: E731
    fit = lambda stages, **how: sx.fit(reverse, paths, key=jr.key(2), loss=EULERS, curriculum=stages, **how)  # noqa: E731
    run = hand(window, updates)
    ratios, ours, theirs = [], [], []
    for _ in range(5):
        reports: list[sx.Progress] = []
        fit([sx.Stage(window, updates)], callback=reports.append)
        # The first report holds the compilation; the others, host synchronisation and all, are `fit`'s.
        later = reports[1:]
        chunk = reports[1].update - reports[0].update
        seconds = sum((b.update - a.update) / b.updates_per_second for a, b in zip(reports, later, strict=False))
        done = later[-1].update - reports[0].update
        theirs.append(done / run(done))
        ours.append(done / seconds)
        ratios.append(ours[-1] / theirs[-1])
    return {
        "window": window,
        "batch": BATCH,
        "speed_ratio": float(np.median(ratios)),
        "speed_ratio_range": [min(ratios), max(ratios)],
        "ours_updates_per_s": float(np.median(ours)),
        "theirs_updates_per_s": float(np.median(theirs)),
        "updates_between_reports": chunk,
        **waits(window, fit, hand),
    }


def main():
    ts = jnp.asarray(DT * np.arange(TIMES), jnp.float32)
    x0 = jnp.where(jnp.arange(PATHS) % 2 == 0, 1.0, -1.0)
    paths = sx.simulate(sx.Drift(drift) + g, x0, ts, key=jr.key(0), solver=dfx.Euler())
    alone, inner = sx.nn.MLP(x_scale=0.1, out_scale=1 / G, key=jr.key(1)), sx.nn.MLP(key=jr.key(1))
    networks = {
        "MLP": alone,
        "between moments": sx.nn.Whitened(inner, paths),
        "between moments, no guard": sx.nn.Whitened(inner, paths, guard=False),
    }
    rows = [
        {"network": name} | rates(window, updates, net, paths)
        for name, net in networks.items()
        for window, updates in ((2, 20_000), (10, 3_000))
    ]
    record("fit", "python benchmarks/fit.py", rows)


if __name__ == "__main__":
    main()
