# Common tasks. `just` lists them; each runs in the active virtual environment.

default:
    @just --list

# install and run the main job
quickstart:
    pip install -e . && smoe train recipes/quickstart.yaml

# the default test suite
test *args:
    pytest {{args}}

# tests that take minutes
test-slow:
    pytest -m slow

# tests that need a CUDA device
test-gpu:
    pytest -m gpu

# everything that CI runs
check:
    ruff check .
    ruff format --check .
    mypy
    lint-imports
    smoe schema --check
    smoe validate recipes/*.yaml recipes/*/*.yaml
    pytest

# side-by-side timings; the last line of each is a ratio: `just bench step`, `just bench convert`, `just bench mmlu`
bench name="step" *args:
    python benchmarks/{{name}}.py {{args}}

# regenerate schemas/recipe.schema.json
schema:
    smoe schema
