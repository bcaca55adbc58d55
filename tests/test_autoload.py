"""`import smoe_cli` is light, and lets transformers open model folders in whatever order the two are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

CONFIG = "AutoConfig.for_model('symbiotic_moe', recipe={}).model_type"
MODEL = "AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model('symbiotic_moe'))].__name__"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_imports_neither_transformers_nor_torch() -> None:
    loaded = run("import smoe_cli, sys; print([m for m in ('torch', 'transformers', 'numpy', 'yaml') if m in sys.modules])")
    assert loaded == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "import smoe_cli; from transformers import AutoConfig, AutoModelForCausalLM",
        "from transformers import AutoConfig, AutoModelForCausalLM; import smoe_cli",
        "from transformers import AutoConfig; import smoe_cli; from transformers import AutoModelForCausalLM",
    ],
)
def test_registers_in_either_order(imports: str) -> None:
    assert run(f"{imports}; print({CONFIG}, {MODEL})") == "symbiotic_moe SymbioticForCausalLM"


def test_looking_for_a_module_without_importing_it_loses_nothing() -> None:
    code = (
        "import smoe_cli, importlib.util, sys; importlib.util.find_spec('transformers.models.auto.configuration_auto'); "
        f"from transformers import AutoConfig, AutoModelForCausalLM; print({CONFIG}); "
        "print([finder for finder in sys.meta_path if 'smoe_cli' in type(finder).__module__])"
    )
    assert run(code).split() == ["symbiotic_moe", "[]"]


def test_without_transformers() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None; import smoe_cli\n"
        "try:\n    import transformers\nexcept ImportError:\n    print('not here')"
    )
    assert run(code) == "not here"
