"""Turbulence: how exact the recipe's solves are, whether another code agrees, and what a thousand of them take.

python benchmarks/turbulence.py            # a quarter of an hour on one core; --runs 10 --cases 1 for less
"""

import argparse
import os
import time

import exponax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _measure import record
from exponax.nonlin_fun import VorticityConvection2d

import smdpx as sx
from smdpx.physics import Turbulence, TurbulenceRuns, diagonal_forcing

TS = (1, 5, 10)
N, DT = 128, 0.025


class Forced(exponax.stepper.NavierStokesVorticity):
    """exponax's stepper with Li's forcing."""

    def _build_nonlinear_fun(self, derivative_operator):
        return ForcedConvection(
            2,
            self.num_points,
            convection_scale=self.vorticity_convection_scale,
            derivative_operator=derivative_operator,
            dealiasing_fraction=self.dealiasing_fraction,
        )


class ForcedConvection(VorticityConvection2d):
    """Its nonlinear part."""

    def __call__(self, u_hat):
        """With the forcing."""
        r = jnp.arange(self.num_points) / self.num_points
        return super().__call__(u_hat) + self.fft(diagonal_forcing(*jnp.meshgrid(r, r, indexing="ij"))[None])


def ends(starts, n, dt):
    """The vorticities at TS on n points by steps of dt: (cases, times, n, n)."""
    flow = Turbulence(n, substeps=round(1 / dt))

    @jax.jit
    def path(x):
        return jax.lax.scan(lambda x, _: (flow.step(x, 1.0),) * 2, x, None, TS[-1])[1]

    return jnp.stack([path(sx.data.resample(x, n))[jnp.array(TS) - 1] for x in starts])


def theirs(starts, dt):
    """The same by exponax's fourth-order exponential method."""
    # The fraction is such that it keeps the waves below N/3 too, 42 of 128; its 2/3 keeps 41.
    options = {"vorticity_convection_scale": -1.0, "dealiasing_fraction": 0.68}
    stepper = Forced(2, 1.0, N, dt, diffusivity=1e-5, order=4, **options)
    unit = exponax.repeat(stepper, round(1 / dt))
    path = jax.jit(lambda x: jax.lax.scan(lambda x, _: (unit(x),) * 2, x, None, TS[-1])[1])
    return jnp.stack([path(sx.data.resample(x, N)[None])[jnp.array(TS) - 1, 0] for x in starts])


def errors(x, y, n):
    """Relative distances at TS on n points, root mean squares over the cases."""
    x, y = sx.data.resample(x, n), sx.data.resample(y, n)
    squares = jnp.sum((x - y) ** 2, axis=(-2, -1)) / jnp.sum(y**2, axis=(-2, -1))
    return {f"t = {t}": float(value) for t, value in zip(TS, jnp.sqrt(jnp.mean(squares, axis=0)), strict=True)}


def accuracy(cases):
    starts = 0.1852 * sx.data.gaussian_random_fields(cases, 256, 5, 7 / (2 * np.pi), key=jr.key(0))
    fine = ends(starts, 256, 0.002)
    for n, dt in ((N, 0.02), (N, DT), (64, 0.05)):
        yield {
            "what": f"{n}² dt {dt} on 64², against 256² dt .002",
            "cases": cases,
            **errors(ends(starts, n, dt), fine, 64),
        }
    ours = {dt: ends(starts, N, dt) for dt in (DT, DT / 2)}
    exponaxs = {dt: theirs(starts, dt) for dt in (DT, DT / 2)}
    rows = {
        "against exponax, the same": (ours[DT], exponaxs[DT]),
        "against itself at half": (ours[DT], ours[DT / 2]),
        "by exponax against itself at half": (exponaxs[DT], exponaxs[DT / 2]),
    }
    for what, pair in rows.items():
        yield {"what": f"{N}² dt {DT} {what}", "cases": cases, **errors(*pair, 64)}


def speed(runs):
    recipe = TurbulenceRuns()

    def timed(key):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(recipe(key, runs).x)
        return time.perf_counter() - start, time.process_time() - cpu

    timed(jr.key(0))  # compiles
    wall, cpu = timed(jr.key(1))
    yield {
        "what": "128² dt .025 to t = 10, kept on 64²",
        "runs": runs,
        "wall_s_per_run": wall / runs,
        "cpu_s_per_run": cpu / runs,
        "thousand_min": 1000 * wall / runs / 60,
        "load_average": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50, help="trajectories a measurement of speed")
    parser.add_argument("--cases", type=int, default=4, help="starts to measure accuracy on")
    options = parser.parse_args()

    def rows():
        yield from speed(options.runs)
        yield from accuracy(options.cases)

    record("turbulence", f"python benchmarks/turbulence.py --runs {options.runs} --cases {options.cases}", rows())


if __name__ == "__main__":
    main()
