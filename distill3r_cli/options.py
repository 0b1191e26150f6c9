"""Options that commands share, and how typed options become settings."""

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from distill3r_cli import console

Settings = TypeVar("Settings")

LARGEST_SEED = 2**32 - 1  # what numpy and torch both take

ResumeOpt = Annotated[
    bool, typer.Option("--resume", help="Continue an unfinished result, or start a new one.")
]
OverwriteOpt = Annotated[
    bool, typer.Option("--overwrite", help="Replace a result made with other settings or inputs.")
]
SeedOpt = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all random choices.")]
DeviceOpt = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")]
OutputOpt = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder of the result.", show_default=False)
]


def text(value: str) -> str:
    """A value that must not be empty.

    Raises:
        typer.BadParameter: It is empty.
    """
    if value == "":  # from an unset variable, "$OUT"; pathlib reads it as the current folder
        raise typer.BadParameter("it is empty; the current folder is .")
    return value


def path(value: str | Path) -> Path:
    """A path that must not be empty. Defaults are parsed, too."""
    return Path(value) if isinstance(value, Path) else Path(text(value))


_SETTINGS = "Settings"
_DISPLAY = "Display"
_SETTINGS_OPTIONS = {
    "config": Annotated[
        list[str] | None,
        typer.Option(
            "--config", metavar="FILE", rich_help_panel=_SETTINGS, parser=text,
            help="YAML file with settings, or the name of a shipped one. Repeat it to combine "
            "several: the later one wins.",
        ),
    ],
    "sets": Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", rich_help_panel=_SETTINGS,
            help="Set one setting by its dotted key, such as optim.lr=1e-4; repeatable.",
        ),
    ],
    "print_config": Annotated[
        bool,
        typer.Option(
            "--print-config", rich_help_panel=_SETTINGS,
            help="Check the settings, print all of them with differing defaults, and exit.",
        ),
    ],
}  # fmt: skip
PluginsOpt = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE.py", rich_help_panel=_SETTINGS, parser=path,
        help="Python file that adds teachers, presets, layouts, ...; may be repeated.",
    ),
]  # fmt: skip
_DISPLAY_OPTIONS = {
    "as_json": Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_DISPLAY, help="Print one JSON object to stdout."),
    ],
    "quiet": Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", rich_help_panel=_DISPLAY, help="Print results and errors only."
        ),
    ],
    "verbose": Annotated[
        bool, typer.Option("-v", "--verbose", rich_help_panel=_DISPLAY, help="Log more.")
    ],
    "debug": Annotated[
        bool, typer.Option("--debug", rich_help_panel=_DISPLAY, help="Show tracebacks.")
    ],
    "no_color": Annotated[
        bool, typer.Option("--no-color", rich_help_panel=_DISPLAY, help="Print without colors.")
    ],
}


# Shared options that `--help` leaves to `--help-all`.
_RARE = ("print_config", "plugins", "quiet", "verbose", "debug", "no_color")


def _show_all_options(context: typer.Context, wanted: bool) -> None:
    """Print the help with every option, and exit."""
    if not wanted:
        return
    # Typer does not export the type of its options, which have this attribute.
    parameters: list[Any] = [*context.command.params]
    left_out = [parameter for parameter in parameters if parameter.hidden]
    try:
        for parameter in left_out:
            parameter.hidden = False
        typer.echo(context.get_help())
    finally:
        for parameter in left_out:
            parameter.hidden = True
    raise typer.Exit


_HelpAllOpt = Annotated[
    bool,
    typer.Option(
        "--help-all", is_eager=True, callback=_show_all_options, rich_help_panel=_DISPLAY,
        help="Show all options and exit; --help shows the common ones.",
    ),
]  # fmt: skip


def shared(
    *, settings: bool = True, plugins: bool | None = None, rare: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `-q -v --debug --no-color --json`, and `--config --set --print-config`.

    The command takes `context: typer.Context` first and is called with its own options only. Empty
    paths and arguments are refused.

    Args:
        settings: Whether the command has settings (the six and `demo` do).
        plugins: Whether it takes `--plugin`; by default if it has settings.
        rare: Parameters that `--help` leaves to `--help-all`.
    """
    takes_plugins = settings if plugins is None else plugins
    extra = {
        **(_SETTINGS_OPTIONS if settings else {}),
        **({"plugins": PluginsOpt} if takes_plugins else {}),
        **_DISPLAY_OPTIONS,
        "help_all": _HelpAllOpt,
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(context: typer.Context, **values: Any) -> None:
            given = {name: values.pop(name) for name in extra if name != "help_all"}
            del values["help_all"]  # its callback has done it
            display = {name: given[name] for name in _DISPLAY_OPTIONS}
            console.begin(context.command_path.split(maxsplit=1)[-1], **display)
            context.obj = given
            if takes_plugins and not settings:
                _load_plugins(context, section="")
            command(context, **values)

        signature = inspect.signature(command)
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if get_args(annotation)[0] is bool else None,
                annotation=_hidden(annotation) if name in _RARE else annotation,
            )
            for name, annotation in extra.items()
        ]
        own = [
            parameter.replace(
                annotation=_hidden(annotation) if parameter.name in rare else annotation
            )
            for parameter in signature.parameters.values()
            for annotation in [_never_empty(parameter.annotation)]
        ]
        parameters = [*own, *added]
        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapped

    return decorate


def _hidden(annotation: Any) -> Any:
    """The annotation of an option that `--help` leaves out."""
    kind, declared = get_args(annotation)
    declared = copy.copy(declared)
    declared.hidden = True
    return Annotated[kind, declared]


def _never_empty(annotation: Any) -> Any:
    """The annotation of a parameter; paths and arguments get the parser that refuses ""."""
    if get_origin(annotation) is not Annotated:
        return annotation  # the context
    kind, declared = get_args(annotation)
    is_path = _holds_path(kind)
    if is_path or isinstance(declared, type(typer.Argument())):
        declared = copy.copy(declared)
        declared.parser = path if is_path else text
    return Annotated[kind, declared]


def _holds_path(kind: Any) -> bool:
    """Whether a type is or contains a path: `Path | None`, `list[Path] | None`."""
    return kind is Path or any(_holds_path(part) for part in get_args(kind))


def explicit_options(context: typer.Context) -> dict[str, Any]:
    """The options and arguments that were typed, by parameter name."""
    return {
        name: value
        for name, value in context.params.items()
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    }


def settings(
    context: typer.Context,
    cls: type[Settings],
    *,
    section: str,
    keys: Mapping[str, str] | None = None,
    leave: tuple[str, ...] = (),
    presets: Callable[[], Mapping[str, Mapping[str, Any]]] | None = None,
    default_preset: str | None = None,
    alternatives: tuple[str, ...] = (),
    complete: Callable[[Settings], Settings] = lambda settings: settings,
) -> Settings:
    """Resolve the settings of a command from options, `--set`, files, preset and defaults.

    Args:
        section: The command's section in config files.
        keys: Dotted key of each parameter that is not named like its setting.
        leave: Parameters that are not settings (`resume`, `overwrite`).
        presets: Gives what `config.resolve` takes; called after plugins are loaded.
        default_preset: See `config.resolve`.
        alternatives: See `config.resolve`.
        complete: Fills in what other settings decide, such as the model of a preset.

    Raises:
        typer.Exit: After `--print-config` has printed them.
        ConfigError: They are invalid, or a plugin cannot be loaded.
    """
    from distill3r_core import config, plugins

    _load_plugins(context, section=section)  # first: settings are checked against registries
    given, keys = context.obj, keys or {}
    typed_here = {
        keys.get(name, name): value
        for name, value in explicit_options(context).items()
        if name not in leave and name not in given
    }
    known_presets = None if presets is None else presets()
    found = config.resolve(
        cls,
        section=section,
        options=typed_here,
        sets=given["sets"] or (),
        config=given["config"] or (),
        presets=known_presets,
        default_preset=default_preset,
        words={
            keys.get(name, name): flag_name(parameter)
            for parameter in context.command.params
            if (name := parameter.name or "") not in leave and name not in given
        },
        alternatives=alternatives,
    )
    found = complete(found)
    if given["print_config"]:
        defaults = config.defaults_of(found, known_presets, complete)
        text = config.as_yaml(section, found, plugins=plugins.loaded_paths(), defaults=defaults)
        console.show_config(text, config.as_plain(found))
        raise typer.Exit
    return found


def _load_plugins(context: typer.Context, *, section: str) -> None:
    """Load the plugins that were typed or that a config file lists, until the command ends."""
    from distill3r_core import config, plugins

    files = [
        *config.plugin_files(section, context.obj.get("config")),
        *(context.obj["plugins"] or ()),
    ]
    if not files:
        return
    from distill3r_core.extend import load_plugins  # torch: keep `--help` instant

    context.call_on_close(plugins.unload_all)
    load_plugins(files)


def flag_name(parameter: Any) -> str:
    """Name of a parameter on the command line: `--conf`, ROOTS."""
    if parameter.param_type_name == "option":
        return max((*parameter.opts, *parameter.secondary_opts), key=len)
    return parameter.metavar or parameter.name.upper()


def runs_subcommand(context: typer.Context) -> bool:
    """Whether a subcommand follows (`cache info`).

    Raises:
        typer.BadParameter: Options were given before the subcommand, which would drop them.
    """
    if context.invoked_subcommand is None:
        return False
    given = explicit_options(context)
    dropped = sorted(option.opts[-1] for option in context.command.params if option.name in given)
    if dropped:
        raise typer.BadParameter(
            f"{', '.join(dropped)} before {context.invoked_subcommand!r} would be dropped: "
            "options stand after the last command word"
        )
    return True
