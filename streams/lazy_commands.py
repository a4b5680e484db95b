"""Commands that are imported when they are asked for: a group of many pays for the one it runs.

To list them, or to suggest one, nothing is imported: what each is for is read from its source.
"""

import ast
import copy
import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import CompletionItem, TyperCommand, TyperGroup  # type: ignore[attr-defined]

from streams.errors import EXIT_CODES


class LazyCommands(TyperGroup):
    """A group whose commands are named by a table, as "module:attribute", in the order of the help."""

    table: ClassVar[Mapping[str, str]] = {}
    panels: ClassVar[Mapping[str, str]] = {}
    """Under which title of the help a command stands; commands of one title must follow each other."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands, in the order of the help."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None when there is none of this name."""
        if cmd_name in self.table and cmd_name not in self.commands:
            command = _load(cmd_name, self.table[cmd_name])
            command.rich_help_panel = self.panels.get(cmd_name)
            self.add_command(command)
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List all commands, and import none of them."""
        TyperGroup.format_help(self._listed(), ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named first, or suggest one where there is none of this name."""
        asked = self if args and args[0] in self.table else self._listed()
        return TyperGroup.resolve_command(asked, ctx, args)

    def _listed(self) -> "LazyCommands":
        """The group with commands that have a name and a summary, and do nothing."""
        listed = copy.copy(self)
        listed.commands = {
            name: TyperCommand(name, help=summary(where), rich_help_panel=self.panels.get(name))
            for name, where in self.table.items()
        }
        return listed

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete a command's name by the table, and an option's; a shell waits for no import of all."""
        if incomplete and not incomplete[0].isalnum():
            options: list[Any] = super().shell_complete(ctx, incomplete)
            return options
        return [CompletionItem(name) for name in self.table if name.startswith(incomplete)]


def summary(where: str) -> str:
    """Return what the help of a command begins with: the first paragraph, as it stands in the source.

    It is "" where its module is installed without a source.

    Raises
    ------
    LookupError
        If its module does not define it as a function, or by a call with the argument `help`.
    """
    module, _, attribute = where.partition(":")
    source = _source(module)
    for node in ast.parse(source or "").body:
        match node:
            case ast.FunctionDef(name=name):
                text = ast.get_docstring(node)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=options)):
                text = next((ast.literal_eval(one.value) for one in options if one.arg == "help"), None)
            case _:
                continue
        if name == attribute and text is not None:
            return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    if source is None:
        return ""
    raise LookupError(f"{where} has no help in its source")


def _source(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise LookupError(f"{module} is not installed")
    get_source = getattr(spec.loader, "get_source", None)  # of files and archives; None of what is compiled
    source: str | None = None if get_source is None else get_source(module)
    return source


def _load(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    what = getattr(importlib.import_module(module), attribute)
    if isinstance(what, typer.Typer):
        command: Any = typer.main.get_group(what)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command()(what)
        command = typer.main.get_command(alone)
    command.name = name
    _finish_help(command)
    return command


def _finish_help(command: Any) -> None:
    """Let the help of every command flow to any width, and say how it may end where its text does not.

    What takes no value is shown without the kind of one.
    """
    for one in getattr(command, "commands", {}).values():
        _finish_help(one)
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    for option in command.params:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    if not hasattr(command, "commands") and "Exit code 0" not in command.help:
        command.epilog = EXITS


EXITS = "Exit code " + "; ".join(f"{code}: {what}" for code, what in EXIT_CODES.items()) + "."
