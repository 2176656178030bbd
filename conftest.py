"""Tests and the docstrings' examples: double precision is opt-in, promotion is strict, ranks are explicit."""

import functools
import gc
import itertools
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
import jaxtyping._decorator
import jaxtyping._typeguard
import pytest
from beartype.door import is_bearable
from jax._src.interpreters import mlir

# Traces are millions of objects that live on in caches: looking through all of them for cycles is time for nothing.
gc.set_threshold(20_000, 20, 100)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def _share_contexts():
    """JAX loads MLIR's dialects anew for each program, 5 ms; a hundred programs may share them.

    A context keeps the constants of all its programs: hence not all of them. The function is not public; without it
    each program has its own.
    """
    make, programs = getattr(mlir, "make_ir_context", None), itertools.count()
    if make is not None:
        context = functools.lru_cache(maxsize=1)(lambda hundred: make())
        mlir.make_ir_context = lambda: context(next(programs) // 100)


def _check_leaves_by_beartype():
    """For each leaf of each tree, jaxtyping calls a function that it decorates anew: ten times slower."""

    def typechecked(function):
        (hint,) = function.__annotations__.values()

        def accepts(leaf):
            if not is_bearable(leaf, hint):
                raise TypeError(f"{type(leaf)} is no {hint}.")

        return accepts

    jaxtyping._typeguard.typechecked = typechecked


def _make_checks_once():
    """For each function inside of another, jaxtyping makes its checks whenever the other is called: 1 ms."""

    def once(make):
        made = functools.cache(make)

        def known(*args, **kwargs):
            try:
                return made(*args, **kwargs)
            except TypeError:  # a default value that has no hash
                return make(*args, **kwargs)

        return known

    for name in ("_make_fn_with_signature", "_apply_typechecker"):
        setattr(jaxtyping._decorator, name, once(getattr(jaxtyping._decorator, name)))


_share_contexts()
_check_leaves_by_beartype()
_make_checks_once()


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
