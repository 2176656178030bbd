"""Tests and the docstrings' examples: double precision is opt-in, promotion is strict, ranks are explicit."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
