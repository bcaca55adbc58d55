"""Makes the auto classes of transformers know `symbiotic_moe` once `smoe_cli` is imported, before or after transformers.

`import smoe_cli` must stay quick and must not import transformers, so the classes are registered at the moment at which
transformers has made the mapping that they belong to. `wrapt.when_imported` does the same, but importing wrapt takes longer
than the whole of `smoe --help`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

CONFIGS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"


class AfterImport(MetaPathFinder):
    """Calls `then` once, right after the module `name` has been executed. Other modules are none of its business."""

    def __init__(self, name: str, then: Callable[[], None]):
        self.name, self.then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that calls `then` afterwards."""
        if fullname != self.name:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    self.then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def after_import(name: str, then: Callable[[], None]) -> None:
    """Call `then` now if the module `name` is imported, or else when it will be."""
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, AfterImport(name, then))


def register() -> None:
    """Register config and model with transformers, as soon as it is there."""
    after_import(CONFIGS, _register_config)
    after_import(MODELS, _register_model)


def _register_config() -> None:
    config = importlib.import_module("smoe_cli.model.hf_config").SymbioticConfig
    auto = sys.modules[CONFIGS].AutoConfig
    auto.register(config.model_type, config, exist_ok=True)


def _register_model() -> None:
    model = importlib.import_module("smoe_cli.model.hf").SymbioticForCausalLM
    auto = sys.modules[MODELS].AutoModelForCausalLM
    auto.register(model.config_class, model, exist_ok=True)
