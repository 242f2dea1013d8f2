"""The pages of the documentation that are made, not written: of each command, each layer type, and solver files.

MkDocs calls `on_config` and `on_files` when it builds the site (see mkdocs.yml); `command_pages` and `layer_pages`
return the same pages to anybody else, as Markdown by their paths.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from caffetools.cli import commands
from caffetools.cli.command import Tool
from caffetools.cli.flags import LOG_FLAGS, META_FLAGS, Flag
from caffetools.filler import FILLERS
from caffetools.layers import built_in_types, layer_class, module_name
from caffetools.proto import caffe_pb2
from caffetools.proto.fields import is_repeated
from caffetools.proto.forks import is_of_a_fork

#: Fields that layers of all types have, and messages that several have: layers/index.md explains them once.
COMMON = ("name", "type", "bottom", "top", "loss_weight", "param", "propagate_down", "include", "exclude")
COMMON_MESSAGES = ("ParamSpec", "NetStateRule", "BlobShape", "FillerParameter")
ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "caffetools"


def command_pages() -> dict[str, str]:
    """Return a page for each command, and their index."""
    suite = commands.load("caffe")
    names = [*suite.commands, *commands.ACTIONS, *commands.TOOLS]
    pages, rows = {}, []
    for name in names:
        tool = suite.commands.get(name) or commands.load(name)
        program = name if name in commands.TOOLS else f"caffe {name}"
        pages[f"commands/{name}.md"] = _command_page(tool, program)
        rows.append(f"| [`{program}`]({name}.md) | {tool.short_help} |")
    lines = [
        "# Commands", "", "Tools are programs of their own and sub-commands of `caffe`; `--help` shows the flags.", "",
        "| command | what it does |", "|---|---|", *rows, "",
        "## Flags of all commands", "", *_flag_table((*META_FLAGS, *LOG_FLAGS)),
    ]  # fmt: skip
    pages["commands/index.md"] = "\n".join(lines) + "\n"
    return pages


def _command_page(tool: Tool, program: str) -> str:
    usage = tool.usage.removeprefix(tool.short_help).replace("<program>", program).strip()
    sentence = tool.short_help[:1].upper() + tool.short_help[1:] + "."
    lines = [f"# {program}", "", sentence, "", "```text", usage, "```", ""]
    if tool.examples:
        examples = [example.replace("<program>", program) for example in tool.examples]
        lines += ["Examples:", "", "```text", *examples, "```", ""]
    lines += _flag_table(tool.own_flags)
    lines.append("The [flags of all commands](index.md#flags-of-all-commands) (`--log_dir`, `--v` ...) come on top.")
    return "\n".join(lines) + "\n"


def _flag_table(flags: Iterable[Flag]) -> list[str]:
    rows = [f"| `--{flag.name}` | {_code(flag.default_value)} | {_cell(flag.help)} |" for flag in flags if flag.help]
    return ["| flag | default | meaning |", "|---|---|---|", *rows, ""] if rows else []


def layer_examples() -> dict[str, str]:
    """Return an example for each layer type, as text of a prototxt."""
    text = (ROOT / "scripts" / "layer_examples.prototxt").read_text(encoding="utf-8")
    layers = re.findall(r"(?ms)^layer \{(?:[^\n]*\}$|.*?^\}$)", text)
    return {re.search(r'type: "(\w+)"', layer)[1]: layer for layer in layers}


def layer_pages() -> dict[str, str]:
    """Return a page for each layer type, and their index."""
    pages, rows, examples = {}, [], layer_examples()
    for kind in sorted(built_in_types(), key=str.lower):
        name = module_name(kind)
        source = SOURCES / "layers" / f"{name}.py"
        text = _docstring(source)
        first = text.split("\n\n")[0].replace("\n", " ")
        pages[f"layers/{name}.md"] = _layer_page(kind, text, examples[kind], (source.parent / f"{name}_cu.py").exists())
        mark = " (of forks)" if is_of_a_fork(kind) else ""
        rows.append(f"| [{kind}]({name}.md){mark} | {_cell(first)} |")
    head = (
        "# Layers\n\nOne file each in `caffetools/layers`, whose documentation these pages are. In formulas x is a "
        "bottom, y a top, dx and dy their gradients.\n\n"
    )
    lines = ["| type | |", "|---|---|", *rows, "", "## Fields of all layers", ""]
    common = [field for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields if field.name in COMMON]
    lines += _field_table(common, COMMON_MESSAGES)
    for name in COMMON_MESSAGES:
        lines += [f"### {name}", "", *_field_table(caffe_pb2.DESCRIPTOR.message_types_by_name[name].fields)]
    lines += [
        "## Fillers", "", _markdown(_docstring(SOURCES / "filler.py")), "", "| type | values |", "|---|---|",
        *(f"| `{name}` | {_cell(inspect.getdoc(filler))} |" for name, filler in FILLERS.items()),
    ]  # fmt: skip
    pages["layers/index.md"] = head + "\n".join(lines) + "\n"
    return pages


def solver_page() -> dict[str, str]:
    """Return the page about solver files: rules, policies and fields, from the code."""
    rules, policies = (_docstring(SOURCES / "solver" / f"{name}.py") for name in ("rules", "policies"))
    lines = [
        "# The solver file", "", "How a net is trained: a text file that `caffe train --solver=FILE` reads.", "",
        "```", (ROOT / "models" / "lenet" / "lenet_solver.prototxt").read_text(encoding="utf-8").strip(), "```", "",
        "## Update rules", "", _markdown(rules), "",
        "## Learning rates", "", "```text", policies, "```", "",
        "## All fields", "", "Those from number 10001 on are ours: see [run control](run_control.md).", "",
        *_field_table(caffe_pb2.SolverParameter.DESCRIPTOR.fields),
    ]  # fmt: skip
    return {"solver.md": "\n".join(lines) + "\n"}


def _layer_page(kind: str, text: str, example: str, on_gpu: bool) -> str:
    lines = [f"# {kind}", "", _markdown(text), ""]
    for shared in re.findall(r"caffetools/parts/\w+\.py", text):
        lines += [f"`{shared}`:", "", _markdown(_docstring(ROOT / shared)), ""]
    lines += ["```", example, "```", ""]
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    for setting in layer_class(kind).settings():
        if setting in fields:
            lines += [f"## {setting}", "", *_message_tables(fields[setting].message_type)]
    lines.append("On a GPU it has kernels of its own." if on_gpu else "On a GPU it runs on the host.")
    return "\n".join(lines) + "\n"


def _message_tables(message, level=3) -> list[str]:
    """Return the fields of a message, and below them those of the messages within it."""
    lines = _field_table(message.fields, COMMON_MESSAGES)
    inner = {field.message_type.name: field.message_type for field in message.fields if field.message_type}
    for name, within in inner.items():
        if name not in COMMON_MESSAGES:
            lines += [f"{'#' * level} {name}", "", *_message_tables(within, level + 1)]
    return lines


def _field_table(fields, linked=()) -> list[str]:
    """Return a table of fields. linked: messages that layers/index.md explains."""
    comments = _field_comments()
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for field in fields:
        comment = comments.get((field.containing_type.full_name.removeprefix("caffe."), field.name), "")
        kind = _type(field)
        if field.message_type is not None and field.message_type.name in linked:
            kind = re.sub(r"^\w+", lambda name: f"[{name[0]}](index.md#{name[0].lower()})", kind)
        rows.append(f"| `{field.name}` | {kind} | {_default(field)} | {_cell(comment)} |")
    return [*rows, ""]


def _docstring(source: Path) -> str:
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def _markdown(text: str) -> str:
    """Turn a docstring into Markdown: its formulas are indented already, which is how Markdown marks code."""
    return re.sub(r"(?m)^(\S[^\n]*)\n( {4})", r"\1\n\n\2", text)


@cache
def _field_comments() -> dict[tuple[str, str], str]:
    """Return what caffe.proto says of fields, by message and name: behind them, or in small letters above them."""
    comments, scope, above = {}, [], ""
    for line in (SOURCES / "proto" / "caffe.proto").read_text(encoding="utf-8").splitlines():
        opened = re.match(r"\s*message (\w+) {", line)
        if opened:
            scope.append(opened[1])
        elif re.match(r"\s*}\s*$", line) and scope:
            scope.pop()
        field = re.match(r"\s*(?:optional|repeated|required) \S+ (\w+) = \d+.*?;(?:\s*//\s*(.*))?$", line)
        if field and scope:
            comments[".".join(scope), field[1]] = field[2] or above
        alone = re.match(r"\s*//\s*([a-z0-9].*)", line)
        above = alone[1] if alone else ""
    return comments


def _type(field) -> str:
    kinds = {
        field.TYPE_BOOL: "bool", field.TYPE_FLOAT: "float", field.TYPE_DOUBLE: "double", field.TYPE_STRING: "string",
        field.TYPE_BYTES: "bytes",
    }  # fmt: skip
    if field.enum_type is not None:
        name = ", ".join(f"`{value.name}`" for value in field.enum_type.values)
    elif field.message_type is not None:
        name = field.message_type.name
    else:
        name = kinds.get(field.type, "integer")
    return f"{name}, repeated" if is_repeated(field) else name


def _default(field) -> str:
    if is_repeated(field) or field.message_type is not None or not field.has_default_value:
        return ""
    if field.enum_type is not None:
        return f"`{field.enum_type.values_by_number[field.default_value].name}`"
    if field.type == field.TYPE_BOOL:
        return f"`{str(field.default_value).lower()}`"
    return f"`{field.default_value:.6g}`" if isinstance(field.default_value, float) else f"`{field.default_value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text and value != () else ""


def on_config(config):
    """Give the made pages their place in the navigation (called by MkDocs)."""
    for section in config.nav[-1]["Reference"]:
        for title, pages in (("Commands", command_pages()), ("Layers", layer_pages())):
            if isinstance(section, dict) and title in section:
                first = min(pages, key=lambda path: not path.endswith("index.md"))
                section[title] = [first, *sorted(path for path in pages if path != first)]
    return config


def on_files(files, config):
    """Add the made pages, and CONTRIBUTING.md, which lies in the checkout's root (called by MkDocs)."""
    from mkdocs.structure.files import File

    contributing = {"contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
    for path, text in {**command_pages(), **layer_pages(), **solver_page(), **contributing}.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links that leave the folder for CONTRIBUTING.md lead to its page (called by MkDocs)."""
    return markdown.replace("](../CONTRIBUTING.md)", "](contributing.md)")
