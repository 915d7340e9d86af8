"""Tests mirror the source: src/sharpcli/<package>/<module>.py is tested in tests/<package>/test_<module>.py.

A module without a file of its own is listed here with the file that tests it. An underscore at the start of a module's
name is no part of its test's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sharpcli

SOURCE, TESTS = Path(sharpcli.__file__).parent, Path(__file__).parents[1]
# Packages that the rule holds for. Plug-ins, such as models and measures, are tested by the contracts of their folders.
PACKAGES = ("callbacks", "checkpoints", "files", "kernels", "linalg", "losses", "training")
ELSEWHERE = {
    **{f"losses/{path.name}": "test_losses.py" for path in (SOURCE / "losses").glob("[a-z]*.py")},
    "checkpoints/_described.py": "libraries/test_libraries.py",
    "kernels/gemm.py": "kernels/test_bilinear.py",
    "linalg/accuracy.py": "linalg/test_trace.py",
    "linalg/certify.py": "linalg/test_certificate.py",
    "linalg/eigenpairs.py": "linalg/test_lanczos.py",
    "linalg/operator.py": "linalg/test_ranks.py",
    "linalg/quadrature.py": "linalg/test_slq.py",
    "linalg/space.py": "many/test_space.py",
    "linalg/spectral_density.py": "linalg/test_slq.py",
    "linalg/spectral_distance.py": "linalg/test_block_densities.py",
    "linalg/verification.py": "linalg/test_certificate.py",
    "linalg/xtrace.py": "linalg/test_trace.py",
    "training/division.py": "many/test_training.py",
    "training/evaluator.py": "training/test_averaged.py",
    "training/planned_run.py": "cli/test_train.py",
    "training/resuming.py": "cli/test_unfinished_runs.py",
    "training/run_folder.py": "cli/test_train.py",
    "training/setup.py": "cli/test_train.py",
    "training/variants.py": "cli/test_train_methods.py",
}


def modules() -> list[str]:
    """Return the modules of the packages, from the package on; a package's own file only collects names."""
    found = [path for package in PACKAGES for path in sorted((SOURCE / package).glob("*.py"))]
    return [str(path.relative_to(SOURCE)) for path in found if path.name != "__init__.py"]


def mirrored(module: str) -> str:
    place = Path(module)
    return str(place.with_name(f"test_{place.name.removeprefix('_')}"))


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_file_of_its_name_or_says_which_one_tests_it(module: str):
    place = ELSEWHERE.get(module, mirrored(module))
    assert (TESTS / place).is_file(), f"there is no tests/{place}"


def test_the_list_holds_only_what_it_is_for():
    """A module that was renamed, or has a file of its own now, does not stay in the list."""
    assert set(ELSEWHERE) <= set(modules())
    assert [module for module in ELSEWHERE if (TESTS / mirrored(module)).is_file()] == []
