"""Tests and the docstrings' examples: double precision is opt-in, promotion is strict, ranks are explicit."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all of the tests' time is compilation. Kernels for fused loops by way of MLIR cost a third of it, and make the
# longest training a tenth faster; programs that the tests start inherit the variable.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Name the marker."""
    config.addinivalue_line("markers", "optimized: runs long enough that its programs are worth an optimising compiler")


@pytest.fixture(autouse=True)
def _quick_compilation(request):
    """Most programs here run for milliseconds: LLVM's expensive passes cost more than they save."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("optimized") is None)
