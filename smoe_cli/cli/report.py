"""`smoe report`: a run directory as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write; of what exists only an HTML page is overwritten.  [default: RUN/report.html]",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
def command(run: Path, out: Path | None, show: bool) -> None:
    """Write one HTML file about the run directory RUN.

    \b
    smoe report runs/quickstart --open

    The file loads nothing from anywhere, so it can be mailed or archived. A run that is still going, or was killed, has a
    report too.
    """
    from smoe_cli.report import write_report
    from smoe_cli.report.words import kilobytes

    path = write_report(run, out, lambda note: click.echo(f"the report lacks: {note}", err=True))
    click.echo(f"{path}  {kilobytes(path.stat().st_size)}")
    if show:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            click.echo("No browser was found to open it with.", err=True)
