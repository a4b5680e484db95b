"""Commands that are imported when they are asked for: a group of many pays for the one it runs."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import CompletionItem, TyperGroup  # type: ignore[attr-defined]

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
        """Import a command; None when there is none of this name, and then all, to suggest one."""
        for name in [cmd_name] if cmd_name in self.table else self.table:
            if name not in self.commands:
                command = _load(name, self.table[name])
                command.rich_help_panel = self.panels.get(name)
                self.add_command(command)
        return self.commands.get(cmd_name)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete a command's name by the table, and an option's; a shell waits for no import of all."""
        if incomplete and not incomplete[0].isalnum():
            options: list[Any] = super().shell_complete(ctx, incomplete)
            return options
        return [CompletionItem(name) for name in self.table if name.startswith(incomplete)]


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
