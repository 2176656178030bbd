"""The architecture: rooms whose imports point down only, files without a circle, jax-cfd in one place."""

import ast
import graphlib
import pathlib
import sys
import tomllib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "smdpx"
# Each room may import from those before it, and from itself.
FLOORS = ["equation", "solving", "learning", "metrics", "inference"]
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """The files of smdpx that a file imports, and the other packages."""
    files, packages = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            packages.add(str(node.module).split(".")[0])
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base.with_suffix(".py")] if node.module else []
            names += [base / f"{alias.name}.py" for alias in node.names]
            names += [base / "__init__.py"] if not base.with_suffix(".py").exists() and node.module else []
            files |= {name for name in names if name.exists()}
    return files, packages


def room(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("floor", range(len(FLOORS)), ids=FLOORS)
def test_a_room_imports_from_those_below_it_only(floor):
    allowed = {None, *FLOORS[: floor + 1]}
    for path in FILES:
        if room(path) == FLOORS[floor]:
            assert {room(file) for file in imported(path)[0]} <= allowed, path


def test_no_circle_among_the_files():
    graph = {path: imported(path)[0] - {path} for path in FILES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)


@pytest.mark.parametrize(
    ("package", "place"),
    [
        ("jax_cfd", "physics/_jax_cfd.py"),
        ("h5py", "data/_hdf5.py"),
        ("zarr", "learning/_store_files.py"),
        ("google_crc32c", "learning/_store_files.py"),
        ("cuthbert", "inference/_particle_filter.py"),
        ("cuthbertlib", "inference/_particle_filter.py"),
    ],
)
def test_a_package_is_imported_in_one_file(package, place):
    importing = {str(path.relative_to(PACKAGE)) for path in FILES if package in imported(path)[1]}
    assert importing <= {place}


def test_what_is_imported_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    declared = {name.split(">")[0].split("[")[0].replace("-", "_") for name in wanted}
    used = set.union(*(imported(path)[1] for path in FILES))
    declared |= {"sklearn"} if "scikit_learn" in declared else set()
    assert used - set(sys.stdlib_module_names) <= declared
