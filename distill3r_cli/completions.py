"""Completion scripts for bash, zsh and fish, generated from the command tree.

    python -m distill3r_cli.completions [FOLDER]

They start no Python, so that completion is instant.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from distill3r_cli.app import app
from distill3r_core.data.layouts import LAYOUTS
from distill3r_core.models.presets import PRESETS
from distill3r_core.teachers.registry import AUTO, TEACHERS

PROGRAM = "distill3r"
FILES = {"bash": "distill3r.bash", "zsh": "_distill3r", "fish": "distill3r.fish"}
# Values of an option; file names are offered for every other option that takes a value.
VALUES = {
    "--device": ("auto", "cpu", "cuda", "mps"),
    "--fit": ("squash", "crop", "release"),
    "--layout": (AUTO, *LAYOUTS),
    "--pose-axes": ("opencv", "opengl"),
    "--pose-convention": ("c2w", "w2c"),
    "--precision": ("auto", "float32", "bfloat16"),
    "--predict": ("student", "truth", "constant"),
    "--preset": tuple(PRESETS),
    "--teacher": (AUTO, *TEACHERS),
}
_NOTE = "made by `python -m distill3r_cli.completions`; do not edit"
_MARKUP = re.compile(r"\[/?[a-z ]*\]|`")
_TYPER_OWN = {"--install-completion", "--show-completion"}  # their texts change with typer


@dataclass(frozen=True)
class CompletionOption:
    """An option: its names, its help, and whether it takes a value."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    repeats: bool

    @property
    def values(self) -> tuple[str, ...]:
        """Values to offer; empty where they are not listed."""
        return next((VALUES[name] for name in self.names if name in VALUES), ())


@dataclass(frozen=True)
class Node:
    """A command: its words, its options and its subcommands."""

    words: tuple[str, ...]
    help: str
    switches: tuple[CompletionOption, ...]
    children: tuple["Node", ...]
    takes_files: bool

    @property
    def path(self) -> str:
        """Its words, each after a slash; empty for the program itself."""
        return "".join(f"/{word}" for word in self.words)

    def walk(self) -> list["Node"]:
        """This command and all its subcommands."""
        return [self, *(node for child in self.children for node in child.walk())]


def tree() -> Node:
    """The command tree of the program."""
    return _node(typer.main.get_command(app), ())


def script(shell: str) -> str:
    """The completion script for `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tree())


def main() -> None:
    """Write the scripts into the folder given as argument, else into `completions/`."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "completions")
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(script(shell), encoding="utf-8")


def _node(command: Any, words: tuple[str, ...]) -> Node:
    # Typer does not export the type of its commands; they have click's attributes.
    # Those that only `--help-all` shows are completed, too.
    shown = [p for p in command.params if not _TYPER_OWN.intersection(p.opts)]
    switches = [
        CompletionOption(
            names=(*p.opts, *p.secondary_opts),
            help=_line(p.help),
            takes_value=not (p.is_flag or p.count),
            repeats=p.multiple,
        )
        for p in shown
        if p.param_type_name == "option"
    ]
    # A group of commands alone has no options of its own: `--help-all` is one of its help's names.
    names = tuple(command.context_settings.get("help_option_names", ("-h", "--help")))
    switches.append(CompletionOption(names, "Show this message and exit.", False, False))
    below = getattr(command, "commands", {})
    return Node(
        words=words,
        help=_line(command.help),
        switches=tuple(switches),
        children=tuple(
            _node(child, (*words, name)) for name, child in below.items() if not child.hidden
        ),
        takes_files=any(p.param_type_name == "argument" for p in shown),
    )


def _line(text: str | None) -> str:
    """The first line of a help text, without markup."""
    return _MARKUP.sub("", (text or "").strip().split("\n\n")[0].replace("\n", " "))


def _bash(root: Node) -> str:
    nodes = root.walk()
    known = "|".join(node.path for node in nodes[1:])
    before_value = "".join(
        f"        {pattern}) {action} ;;\n" for action, pattern in _bash_values(nodes).items()
    )
    cases = "".join(
        f'        "{node.path}")\n'
        f'            options="{" ".join(name for s in node.switches for name in s.names)}"\n'
        f'            commands="{" ".join(child.words[-1] for child in node.children)}" ;;\n'
        for node in nodes
    )
    return f"""# bash completion of {PROGRAM}; {_NOTE}

_{PROGRAM}() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local path="" word words="" options="" commands=""
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path/$word" in
            {known}) path="$path/$word" ;;
        esac
    done
    COMPREPLY=()
    case "$path:$previous" in
{before_value}    esac
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        return
    fi
    case "$path" in
{cases}    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        COMPREPLY=($(compgen -W "$commands" -- "$current"))
    fi
}}

complete -o bashdefault -o default -F _{PROGRAM} {PROGRAM}
"""


def _bash_values(nodes: list[Node]) -> dict[str, str]:
    """Shell action after options that take a value, and the pattern of these options."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for switch in node.switches:
            if switch.takes_value:
                words = " ".join(switch.values)
                action = f'words="{words}"' if words else "return"  # without words: files
                found.setdefault(action, []).extend(f"{node.path}:{n}" for n in switch.names)
    return {action: "|".join(patterns) for action, patterns in found.items()}


def _zsh(root: Node) -> str:
    functions = "\n".join(_zsh_function(node) for node in reversed(root.walk()))
    name = _zsh_name(root)
    return f"""#compdef {PROGRAM}
# zsh completion of {PROGRAM}; {_NOTE}

{functions}
if [[ "${{funcstack[1]}}" == "{name}" ]]; then
    {name} "$@"
else
    compdef {name} {PROGRAM}
fi
"""


def _zsh_name(node: Node) -> str:
    return "_".join(("", PROGRAM, *node.words)).replace("-", "_")


def _zsh_function(node: Node) -> str:
    lines = [_zsh_option(switch) for switch in node.switches]
    after = ""
    if node.children:
        names = " ".join(
            f"{child.words[-1]}\\:{_quoted(child.help, zsh=True)}" for child in node.children
        )
        lines += [f"'1:command:(({names}))'", "'*:: :->rest'"]
        cases = "".join(
            f"        {child.words[-1]}) {_zsh_name(child)} ;;\n" for child in node.children
        )
        after = f"    [[ $state == rest ]] && case $words[1] in\n{cases}    esac\n"
    elif node.takes_files:
        lines.append("'*:file:_files'")
    arguments = " \\\n        ".join(lines)
    return (
        f"{_zsh_name(node)}() {{\n"
        "    local state line; typeset -A opt_args\n"
        f"    _arguments -C \\\n        {arguments}\n{after}}}\n"
    )


def _zsh_option(switch: CompletionOption) -> str:
    text = switch.help.replace("\\", "").replace("'", "’").replace(":", "\\:")
    text = text.replace("[", "\\[").replace("]", "\\]")
    wanted = f"({' '.join(switch.values)})" if switch.values else "_files"
    value = f":value:{wanted}" if switch.takes_value else ""
    if switch.repeats:
        return " ".join(f"'*{name}[{text}]{value}'" for name in switch.names)
    if len(switch.names) == 1:
        return f"'{switch.names[0]}[{text}]{value}'"
    others = " ".join(switch.names)
    return f"'({others})'{{{','.join(switch.names)}}}'[{text}]{value}'"


def _fish(root: Node) -> str:
    nodes = root.walk()
    known = " ".join(node.path for node in nodes[1:])
    lines = []
    for node in nodes:
        where = f"complete -c {PROGRAM} -n '__{PROGRAM}_at \"{node.path}\"'"
        if not node.takes_files:
            lines.append(f"{where} -f")
        lines += [
            f"{where} -a {child.words[-1]} -d {_quoted(child.help)}" for child in node.children
        ]
        for switch in node.switches:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in switch.names
            )
            wanted = f"-x -a '{' '.join(switch.values)}'" if switch.values else "-r -F"
            value = f" {wanted}" if switch.takes_value else ""
            lines.append(f"{where} {names}{value} -d {_quoted(switch.help)}")
    body = "\n".join(lines)
    return f"""# fish completion of {PROGRAM}; {_NOTE}

function __{PROGRAM}_at
    set -l path ""
    for word in (commandline -opc)[2..]
        switch "$path/$word"
            case {known}
                set path "$path/$word"
        end
    end
    test "$path" = "$argv[1]"
end

{body}
"""


def _quoted(text: str, *, zsh: bool = False) -> str:
    """A help text as one shell word; quotes in it are replaced, so that none needs escaping."""
    plain = text.replace("\\", "").replace("'", "’").replace('"', "”")
    if zsh:  # inside the single quotes of an argument of _arguments, where ( ) : are special
        plain = re.sub(r"([():])", r"\\\1", plain)
        return f'"{plain}"'
    return f"'{plain}'"


if __name__ == "__main__":
    main()
