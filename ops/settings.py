"""Where settings come from, and how they reach child processes.

For each value the first of these that has it decides:

1. options of the command line          `dotstream --data FOLDER …`
2. environment                          DOTSTREAM_KAFKA__BOOTSTRAP=host:port
3. the file                             --config FILE, DOTSTREAM_CONFIG, or ./dotstream.toml when it is there
4. the local stack that runs in `data`  addresses, topics.prefix and generation, from stack.json
5. the defaults                         ops/settings_model.py
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings.exceptions import SettingsError

from dotstream.errors import Misconfigured
from ops.local.claim import read_stack
from ops.settings_model import SettingsModel

PREFIX = "DOTSTREAM_"
DEFAULT_FILE = Path("dotstream.toml")
_NOT_SETTINGS = {PREFIX + "CONFIG"}
_file: ContextVar[Path | None] = ContextVar("_file", default=None)


class Settings(SettingsModel, BaseSettings):
    """Everything that can be set, frozen. Made by `load`; tests may name values as arguments.

    Raises:
        pydantic.ValidationError: a value that its declaration refuses.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_file.get()))

    @property
    def pictures_url(self) -> str:
        """URL of the picture store: as set, else the folder `pictures` of the data folder."""
        return self.pictures.store or (self.data.absolute() / "pictures").as_uri()

    @property
    def results_url(self) -> str:
        """URL of the cache of vision results, beside the pictures."""
        if self.pictures.store:
            return f"{self.pictures.store.rstrip('/')}-results"
        return (self.data.absolute() / "cache" / "results").as_uri()

    @property
    def repository_folder(self) -> Path:
        """The model repository with the cards of the served models: as set, else the one beside the source."""
        from triton_models.export import REPOSITORY

        return (self.triton.repository or REPOSITORY).absolute()

    @property
    def index_folder(self) -> Path:
        """Folder of the generation's shards."""
        return self.data.absolute() / "index" / self.generation

    @property
    def cache_folder(self) -> Path:
        """The machine-wide cache: as set, else $XDG_CACHE_HOME/dotstream or ~/.cache/dotstream."""
        home = os.environ.get("XDG_CACHE_HOME")
        return (self.cache or (Path(home) if home else Path.home() / ".cache") / "dotstream").absolute()


@dataclass(frozen=True)
class Loaded:
    """Settings and, for each dotted name that is not a default, where its value came from."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str, str]]:
        """(dotted name, value, source, description) of every setting. Secrets lie in files and are not among them."""
        for name, value, description in _leaves(self.settings):
            yield name, value, self.sources.get(name, "default"), description


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The settings of this process.

    Args:
        config: the file; None for the one that DOTSTREAM_CONFIG names or ./dotstream.toml.
        overrides: dotted name -> value, from the command line; None values are left out.

    Raises:
        Misconfigured: a name is unknown, a value is refused or a file unreadable; the message says which.
    """
    given = _nested({name: value for name, value in (overrides or {}).items() if value is not None})
    path = _config_file(config)
    _refuse_unknown_environment()
    token = _file.set(path)
    try:
        settings = Settings(**given)
        sources = _sources_of(settings, given, path)
    except (ValidationError, SettingsError) as error:
        raise Misconfigured(_complaint(error)) from error
    finally:
        _file.reset(token)
    found = _of_stack(settings, sources)
    if found:
        settings = Settings.model_validate({**given, **_merged(settings, found)})
        sources.update(dict.fromkeys(found, "stack.json"))
    return Loaded(settings, sources)


def child_environment(loaded: Loaded, overrides: Mapping[str, object]) -> dict[str, str]:
    """Environment variables that give a child process the same settings, save for `overrides` (dotted name -> text)."""
    chosen: dict[str, object] = {
        name: value for name, value, source, _ in loaded.rows() if source != "default" and value is not None
    }
    return {_variable(name): _text(value) for name, value in {**chosen, **overrides}.items()}


def _variable(name: str) -> str:
    return PREFIX + name.replace(".", "__").upper()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _config_file(config: Path | None) -> Path | None:
    named = config or (Path(os.environ["DOTSTREAM_CONFIG"]) if os.environ.get("DOTSTREAM_CONFIG") else None)
    path = named or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    if path is None:
        return None
    try:
        tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"settings file {path}: {error}") from error
    return path


def _refuse_unknown_environment() -> None:
    for name in os.environ:
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS:
            field = name.removeprefix(PREFIX).split("__")[0].lower()
            if field not in Settings.model_fields:
                raise Misconfigured(f"environment: {name} names no setting; `dotstream config show` lists them")


def _of_stack(settings: Settings, sources: Mapping[str, str]) -> dict[str, str]:
    """What is set nowhere, of the stack that runs in the data folder; of its topics only when its brokers are meant."""
    stack = read_stack(settings.data) or {}
    wanted = {"kafka.bootstrap": settings.kafka.bootstrap, "triton.address": settings.triton.address}
    answers = {"kafka.bootstrap": stack.get("kafka"), "triton.address": stack.get("triton")}
    found = {name: str(answers[name]) for name, value in wanted.items() if not value and answers[name]}
    if settings.kafka.bootstrap in {"", stack.get("kafka")}:
        named = {"topics.prefix": stack.get("prefix"), "generation": stack.get("generation")}
        found |= {name: str(value) for name, value in named.items() if value and name not in sources}
    return found


def _merged(settings: Settings, found: Mapping[str, str]) -> dict[str, Any]:
    values = settings.model_dump()
    for name, value in found.items():
        section, _, field = name.rpartition(".")
        (values[section] if section else values)[field] = value
    return values


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        section, _, field = name.partition(".")
        if field:
            tree.setdefault(section, {})[field] = value
        else:
            tree[section] = value
    return tree


def _sources_of(settings: Settings, given: Mapping[str, Any], path: Path | None) -> dict[str, str]:
    environment = {name.upper(): name for name in os.environ if name.upper().startswith(PREFIX)}
    in_file = tomllib.loads(path.read_text()) if path else {}
    sources = {}
    for name, _, _ in _leaves(settings):
        variable = environment.get(_variable(name))
        if _holds(given, name):
            sources[name] = "command line"
        elif variable:
            sources[name] = f"environment {variable}"
        elif _holds(in_file, name):
            sources[name] = f"file {path}"
    return sources


def _holds(tree: Mapping[str, Any], name: str) -> bool:
    here: Any = tree
    for part in name.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return False
        here = here[part]
    return True


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, field.description or ""


def _complaint(error: ValidationError | SettingsError) -> str:
    """One line that names each refused setting."""
    if isinstance(error, SettingsError):
        return f"settings: {error}"
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in item["loc"])
        unknown = item["type"] == "extra_forbidden"
        problems.append(f"{name} is no setting" if unknown else f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return "settings: " + "; ".join(problems)
