"""lm-evaluation-harness as an engine."""
