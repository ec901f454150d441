"""Plain words: help in sections, which takes a third of the time of boxes and whose examples can be copied, and
what is wrong with a value."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    """Arguments, then options by their panel, each panel a section."""
    sections: dict[str, list[Any]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
        title = getattr(parameter, "rich_help_panel", None) or plain
        sections.setdefault(title, []).append(record)
    _write_sections(sections, formatter)


def _write_sections(sections: dict[str, list[Any]], formatter: Any) -> None:
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def in_plain_words(message: str) -> str:
    """`must be a valid integer` for `Input should be a valid integer, unable to parse string as an integer`."""
    message = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    return message.replace("Input should be", "must be", 1)


class Command(TyperCommand):
    """A command whose options stand in sections, and which says what a value must be in plain words."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Called to parse the arguments. Raises typer.BadParameter."""
        try:
            return super().make_context(*arguments, **more)
        except typer.BadParameter as error:
            error.message = in_plain_words(error.message)
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Called for --help."""
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """A group whose commands stand in sections."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Called for --help: commands first, they are what is looked for."""
        sections: dict[str, list[Any]] = {}
        names = [n for n, c in self.commands.items() if not c.hidden]
        room = max(20, formatter.width - 6 - max(map(len, names)))
        for name in names:
            command = self.commands[name]
            title = getattr(command, "rich_help_panel", None) or "Commands"
            # typer marks an unset panel by a placeholder that is no text.
            title = title if isinstance(title, str) else "Commands"
            sections.setdefault(title, []).append((name, command.get_short_help_str(room)))
        _write_sections(sections, formatter)
        _write_parameters(self, ctx, formatter)


def examples(*lines: str) -> str:
    """An epilog of lines that keep their breaks; an empty one begins a paragraph."""
    text = "\n".join(f"  {line}" if line else "\n\b" for line in lines)
    return f"\b\nExamples:\n{text}"
