"""Tests and the docstrings' examples: double precision is opt-in, promotion is strict, ranks are explicit."""

import gc
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all of the tests' time is compilation. Kernels for fused loops by way of MLIR cost a third of it, and make the
# longest training a tenth faster; programs that the tests start inherit the variable.
# A program's kernels in one LLVM module instead of up to 32, which are for as many cores: a sixth of the compilation.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
# What one run, worker or started program has compiled, the next one loads. To write one takes 20 ms, and nine
# programs in ten compile in less: only the others are kept.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent / ".pytest_cache/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Programs need not know the line of Python behind each of their operations.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# SciPy's matrices are small here: a second thread for them spins more than it computes, and each core has its worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

from tests import _shortcuts

# Traces are millions of objects that live on in caches: looking through all of them for cycles is time for nothing.
gc.set_threshold(20_000, 20, 100)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
_shortcuts.take()


def pytest_configure(config):
    """Name the marker."""
    config.addinivalue_line("markers", "optimized: runs long enough that its programs are worth an optimising compiler")


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Each compiled program holds some of a process's memory maps, and where the kernel gives no more XLA crashes."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:  # of Linux's 65,530
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _quick_compilation(request):
    """Most programs here run for milliseconds: LLVM's expensive passes cost more than they save."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("optimized") is None)
