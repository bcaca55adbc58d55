"""`import smoe_cli` lets transformers' auto classes open model folders; it imports neither transformers nor torch."""

from smoe_cli.autoload import register

register()
