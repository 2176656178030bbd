"""Small problems with closed forms that the core's tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import smdpx as sx


def _real(a: float | jax.Array) -> jax.Array:
    return jnp.asarray(a, float)


class Slope(eqx.Module):
    """The one-parameter score a·x."""

    a: jax.Array = eqx.field(converter=_real)

    def __call__(self, t, x, args):
        return self.a * x


class OU:
    """dx = -rate·x dt + g dW from N(mean, var), by components: every law it has is Gaussian."""

    def __init__(self, rate: Any = 0.5, g: Any = 0.6, mean: Any = 1.0, var: Any = 0.3, T=1.0):
        self.rate, self.noise, self.mean, self.var, self.T = rate, g, mean, var, T
        self.P = sx.Drift(lambda t, x, args: -rate * x)
        self.g = sx.Diffusion(g)
        self.s = sx.Score(lambda t, x, args: self.score(t, x), self.g)

    def marginal(self, t):
        """Mean and variance of x(t)."""
        decay = jnp.exp(-self.rate * t)
        stationary = self.noise**2 / (2 * self.rate)
        return self.mean * decay, self.var * decay**2 + stationary * (1 - decay**2)

    def score(self, t, x):
        mean, var = self.marginal(t)
        return ((mean - x) / var).astype(x.dtype)

    def posterior(self, xT):
        """Mean and variance of x(0) given x(T)."""
        mean, var = self.marginal(self.T)
        gain = self.var * jnp.exp(-self.rate * self.T) / var
        return self.mean + gain * (xT - mean), self.var - gain**2 * var

    def flow(self, xT):
        """Where the probability flow takes x(T) back to."""
        mean, var = self.marginal(self.T)
        return self.mean + jnp.sqrt(self.var / var) * (xT - mean)

    def start(self, n, key):
        return self.mean + self.var**0.5 * jax.random.normal(key, (n,))


class Stationary:
    """OU in its stationary law N(0, var): the score is -x/var at every time."""

    def __init__(self, var=0.25, g=0.5):
        rate = g**2 / (2 * var)
        self.var = var
        self.P = sx.Drift(lambda t, x, args: -rate * x)
        self.g = sx.Diffusion(g)

    def s(self, factor=1.0):
        """The exact score times a factor, as one trainable number."""
        return sx.Score(Slope(-factor / self.var), self.g)

    def paths(self, n, ts, key):
        """Trajectories in continuous time's law: no bias from steps."""
        k0, k1 = jax.random.split(key)
        rate = float(self.g.g) ** 2 / (2 * self.var)
        normals = jax.vmap(lambda k: jax.random.normal(k, (n,)))(jax.random.split(k1, len(ts) - 1))
        x = self.var**0.5 * np.asarray(jax.random.normal(k0, (n,)))
        paths = [x]
        for dt, normal in zip(np.diff(ts), np.asarray(normals), strict=True):
            decay = float(np.exp(-rate * dt))
            std = (self.var * (1 - decay**2)) ** 0.5
            x = decay * x + std * normal
            paths.append(x)
        return jnp.asarray(np.stack(paths, axis=1))


@contextmanager
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """The tests' type-checking hook off: users import smdpx without it and see the library's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
