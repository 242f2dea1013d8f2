"""Completion scripts for bash, zsh and fish, written from the tables of commands and flags.

Each completes the names of commands, flags with one dash or two, the known values of a flag, and files: those
of a flag's pattern (``*.prototxt`` after ``--solver``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from caffetools.cli.flags import LOG_FLAGS, META_FLAGS, Flag

_SHARED = sorted((*META_FLAGS, *LOG_FLAGS), key=lambda flag: flag.name)


@dataclass(frozen=True)
class Entry:
    """A command to complete: a program or a sub-command of ``caffe``."""

    name: str
    summary: str
    flags: Sequence[Flag]
    is_program: bool


def _programs(entries: Iterable[Entry]) -> list[str]:
    return [name for entry in entries if entry.is_program for name in (entry.name, f"{entry.name}.bin")]


def _subcommands(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.name != "caffe"]


def _every_flag(entries: Iterable[Entry]) -> list[Flag]:
    """Flags of all commands, one a name."""
    return list({flag.name: flag for entry in entries for flag in (*entry.flags, *_SHARED)}.values())


# bash

_BASH = """\
# Completion of Caffe's tools for bash: put this into ~/.bashrc
#   source <(caffe completion bash)

_caffetools_names() {  # flags of a command, "=" behind those that take a value
    case $1 in
@NAMES@
    esac
    echo "@SHARED@"
}

_caffetools_files() {  # files of a pattern, and folders
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -X "!$1" -- "$2") $(compgen -d -- "$2"))
}

_caffetools_value() {  # values of the flag $1 that begin with $2
    case $1 in
@VALUES@
        *) _caffetools_files '*' "$2" ;;
    esac
}

_caffetools() {
    local IFS=$' \\t\\n' cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[0]##*/} word flag="" dashes
    command=${command%.bin}
    if [[ $command == caffe ]]; then
        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
            case $word in @COMMANDS@) command=$word; break ;; esac
        done
    fi
    # bash makes three words of --flag=value
    if [[ $cur == "=" ]]; then
        flag=${COMP_WORDS[COMP_CWORD-1]} cur=""
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then
        flag=${COMP_WORDS[COMP_CWORD-2]}
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == -* ]]; then
        word=${COMP_WORDS[COMP_CWORD-1]#-} word=${word#-}
        [[ " $(_caffetools_names "$command") " == *[[:space:]]"$word="[[:space:]]* ]] && flag=$word
    fi
    if [[ -n $flag ]]; then
        flag=${flag#-} flag=${flag#-}
        IFS=$'\\n'
        _caffetools_value "$flag" "$cur"
    elif [[ $cur == -* ]]; then
        dashes=${cur%%[!-]*}
        COMPREPLY=($(compgen -P "$dashes" -W "$(_caffetools_names "$command")" -- "${cur#"$dashes"}"))
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    elif [[ $command == caffe ]]; then
        COMPREPLY=($(compgen -W "@COMMAND_WORDS@" -- "$cur"))
    else
        IFS=$'\\n'
        _caffetools_files '*' "$cur"
    fi
}

complete -F _caffetools @PROGRAMS@
"""


def bash(entries: Sequence[Entry]) -> str:
    """The script for bash."""
    commands = [entry.name for entry in _subcommands(entries)]
    return _fill(
        _BASH,
        NAMES="\n".join(f'        {entry.name}) echo "{_bash_names(entry.flags)}" ;;' for entry in entries),
        SHARED=_bash_names(_SHARED),
        VALUES="\n".join(
            f"        {flag.name}) {_bash_value(flag)} ;;"
            for flag in _every_flag(entries)
            if flag.choices or flag.pattern
        ),
        COMMANDS="|".join(commands),
        COMMAND_WORDS=" ".join(commands),
        PROGRAMS=" ".join(_programs(entries)),
    )


def _bash_names(flags: Iterable[Flag]) -> str:
    return " ".join(f"{flag.name} no{flag.name}" if flag.is_bool else f"{flag.name}=" for flag in flags)


def _bash_value(flag: Flag) -> str:
    if flag.pattern:
        return f"_caffetools_files '{flag.pattern}' \"$2\""
    choices = r"\n".join(flag.choices)
    return f"COMPREPLY=($(compgen -W $'{choices}' -- \"$2\"))"


# zsh

_ZSH = """\
#compdef @PROGRAMS@
# Completion of Caffe's tools for zsh: put this into ~/.zshrc, after compinit
#   source <(caffe completion zsh)

_caffetools() {
    local command=${service%.bin} word spec
    local -a specs flags commands
    commands=(
@COMMANDS@
    )
    if [[ $command == caffe ]]; then
        for word in ${words[2,CURRENT-1]}; do
            if [[ -n ${(M)commands:#$word:*} ]]; then
                command=$word
                break
            fi
        done
    fi
    case $command in
@FLAGS@
    esac
    flags+=(
@SHARED@
    )
    for spec in $flags; do
        specs+=("-$spec" "--$spec")
    done
    if [[ $command == caffe ]]; then
        _arguments $specs '1:command:{_describe command commands}' '*:file:_files'
    elif [[ ${service%.bin} == caffe ]]; then
        _arguments $specs '1:command:' '*:file:_files'
    else
        _arguments $specs '*:file:_files'
    fi
}

if [[ $funcstack[1] == _caffe ]]; then  # loaded from a folder of $fpath
    _caffetools "$@"
else
    compdef _caffetools @PROGRAMS@
fi
"""


def zsh(entries: Sequence[Entry]) -> str:
    """The script for zsh."""
    return _fill(
        _ZSH,
        PROGRAMS=" ".join(_programs(entries)),
        COMMANDS="\n".join(f"        {_quote(f'{e.name}:{e.summary}')}" for e in _subcommands(entries)),
        FLAGS="\n".join(
            f"        {entry.name}) flags=(\n{_zsh_flags(entry.flags)}\n        ) ;;" for entry in entries
        ),
        SHARED=_zsh_flags(_SHARED),
    )


def _zsh_flags(flags: Iterable[Flag]) -> str:
    return "\n".join(f"            {spec}" for flag in flags for spec in _zsh_specs(flag))


def _zsh_specs(flag: Flag) -> list[str]:
    help = flag.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    if flag.is_bool:
        return [_quote(f"{flag.name}[{help}]"), _quote(f"no{flag.name}[not\\: {help}]")]
    files = f'_files -g "{flag.pattern}"' if flag.pattern else "_files"
    values = f"({' '.join(flag.choices)})" if flag.choices else files
    return [_quote(f"{flag.name}=[{help}]:{flag.name}:{values}")]


# fish

_FISH = """\
# Completion of Caffe's tools for fish: put this into ~/.config/fish/config.fish
#   caffe completion fish | source

function __caffetools_no_command
    not __fish_seen_subcommand_from @COMMANDS@
end

@COMPLETIONS@
"""


def fish(entries: Sequence[Entry]) -> str:
    """The script for fish."""
    commands = _subcommands(entries)
    lines = []
    for entry in commands:
        lines.append(_fish_line("caffe -n __caffetools_no_command -f", f"-a {entry.name}", entry.summary))
        lines += _fish_flags(f"caffe -n '__fish_seen_subcommand_from {entry.name}'", entry.flags)
    for entry in entries:
        if entry.is_program:
            before = " -n __caffetools_no_command" if entry.name == "caffe" else ""
            lines += _fish_flags(entry.name + before, entry.flags)
            lines += _fish_flags(entry.name, _SHARED)
            lines.append(f"complete -c {entry.name}.bin -w {entry.name}")
    return _fill(_FISH, COMMANDS=" ".join(entry.name for entry in commands), COMPLETIONS="\n".join(lines))


def _fish_flags(scope: str, flags: Iterable[Flag]) -> list[str]:
    lines = []
    for flag in flags:
        if flag.choices:
            values = f" -x -a {_quote(' '.join(flag.choices))}"
        elif flag.pattern:
            values = f" -r -k -x -a '(__fish_complete_suffix {flag.pattern.strip('*')})'"
        else:
            values = "" if flag.is_bool else " -r"
        lines.append(_fish_line(scope, f"-o {flag.name} -l {flag.name}{values}", flag.help))
        if flag.is_bool:
            lines.append(_fish_line(scope, f"-o no{flag.name} -l no{flag.name}", f"not: {flag.help}"))
    return lines


def _fish_line(scope: str, what: str, description: str) -> str:
    return f"complete -c {scope} {what} -d {_quote(description)}"


def _quote(text: str) -> str:
    """A word in single quotes, for zsh and fish alike."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _fill(template: str, **parts: str) -> str:
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


SHELLS: dict[str, Callable[[Sequence[Entry]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
