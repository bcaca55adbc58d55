"""`python -m smoe_cli`, for launchers such as `accelerate launch -m smoe_cli train recipe.yaml`."""

from smoe_cli.cli.main import main

if __name__ == "__main__":
    main()
