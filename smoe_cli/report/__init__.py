"""HTML and plots from a run directory. Imports neither torch nor transformers."""

from smoe_cli.report.write import write_report

__all__ = ["write_report"]
