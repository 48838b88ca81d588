"""The options of a provider in a flow: checked against its signature, with API keys from the environment."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator

from antiphon.agent_worker.flow.suggest import did_you_mean
from antiphon.agent_worker.flow.voice import Provider
from antiphon.agent_worker.providers.entry import ProviderEntry, ProviderProblem, Schema, resolve
from antiphon.agent_worker.providers.signature import converted, options_of
from antiphon.chassis.secret_files import secret_or_none

SECRET_PREFIX: Final = "ANTIPHON_SECRET_"  # noqa: S105 - a name
BASE_URL: Final = "base_url"
NO_KEY: Final = "none"  # for servers without keys: the plugins want one

_SECRET = re.compile(r"\{secret\.([A-Za-z_][A-Za-z0-9_]*)\}")
_TYPES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys and values",
    "null": "null",
}
_MOST_CHOICES = 12


def schemas_of(entry: ProviderEntry) -> Mapping[str, Schema]:
    """Return the JSON Schemas of the options of a provider, by name. Raises ProviderProblem."""
    if entry.options is not None:
        return entry.options
    return options_of(resolve(entry.factory), {*entry.reserved, "use"})


def problems(entry: ProviderEntry, provider: Provider) -> Iterator[tuple[str, str]]:
    """Yield the options that a provider cannot take, with the reason; the name `` stands for the provider."""
    try:
        schemas = schemas_of(entry)
    except ProviderProblem as problem:
        yield "", f"the {entry.kind} provider {entry.name!r} cannot be used: {problem}"
        return
    for name, value in provider.options.items():
        if name not in schemas:
            allowed = ", ".join(sorted(schemas)) if schemas else "none, it has no options"
            yield name, f"unknown option{did_you_mean(name, schemas)}; allowed: {allowed}"
        elif name in _secret_options(entry) and not _is_secret(value):
            yield name, f'write `{name}: "{{secret.NAME}}"` and set {SECRET_PREFIX}NAME: a file has no keys'
        else:
            yield from ((name, reason) for reason in _wrong(schemas[name], value))
    if missing := missing_key(entry, provider):
        yield "", missing


def _wrong(schema: Schema, value: Any) -> Iterator[str]:
    for secret in _secrets_in(value):
        if secret_or_none(os.environ, f"{SECRET_PREFIX}{secret}") is None:
            yield f"the secret {secret!r} is not set: set {SECRET_PREFIX}{secret}"
    if not Draft202012Validator(schema).is_valid(value):
        yield f"must be {expected(schema)}, not {value!r}"


def missing_key(entry: ProviderEntry, provider: Provider) -> str | None:
    """Return what to do when the API key of a provider is not set, None when it is or none is needed."""
    if entry.key is None or _has_own_key(entry, provider) or BASE_URL in provider.options:
        return None
    if secret_or_none(os.environ, entry.key):
        return None
    return (
        f"the {entry.kind} provider {entry.name!r} needs an API key: set {entry.key}, "
        f'or name a secret with `{entry.key_option}: "{{secret.NAME}}"` and set {SECRET_PREFIX}NAME'
    )


def arguments(entry: ProviderEntry, provider: Provider, language: str) -> dict[str, Any]:
    """Return the keyword arguments of the factory of a provider, keys included. Raises ProviderProblem."""
    if missing := missing_key(entry, provider):
        raise ProviderProblem(missing)
    options = {**entry.defaults, **{name: _filled(value) for name, value in provider.options.items()}}
    if entry.language is not None:
        options.setdefault("language", language if entry.language == "full" else language.partition("-")[0])
    if entry.key is not None and not _has_own_key(entry, provider):
        # the key of the public service is for nobody else
        options[entry.key_option] = NO_KEY if BASE_URL in options else _key(entry.key)
    try:
        return converted(resolve(entry.factory), options)
    except ValueError as error:
        raise ProviderProblem(f"the {entry.kind} provider {entry.name!r}: {error}") from error


def keys_in(entry: ProviderEntry, provider: Provider) -> frozenset[str]:
    """Return the values of the keys and secrets that a provider uses, which stay out of logs."""
    names = {f"{SECRET_PREFIX}{name}" for name in _secrets_in(provider.options)} | {entry.key}
    values = {secret_or_none(os.environ, name) for name in names if name is not None}
    return frozenset(value for value in values if value)


def expected(schema: Schema) -> str:
    """Say in words what a JSON Schema accepts."""
    if "anyOf" in schema:
        choices = schema["anyOf"]
        if {"type": "string"} in choices:  # then the enum only lists what is known
            choices = [one for one in choices if "enum" not in one]
        return " or ".join(expected(one) for one in choices)
    if "enum" in schema:
        choices = [str(choice) for choice in schema["enum"]]
        more = ", …" if len(choices) > _MOST_CHOICES else ""
        return f"one of {', '.join(choices[:_MOST_CHOICES])}{more}"
    if schema.get("type") == "array" and "type" in schema.get("items", {}):
        return f"a list, each {expected(schema['items'])}"
    return _TYPES.get(schema.get("type", ""), "a value")


def _secret_options(entry: ProviderEntry) -> frozenset[str]:
    return entry.secrets | ({entry.key_option} if entry.key else frozenset())


def _has_own_key(entry: ProviderEntry, provider: Provider) -> bool:
    return any(name in provider.options for name in _secret_options(entry))


def _is_secret(value: Any) -> bool:
    return isinstance(value, str) and _SECRET.fullmatch(value) is not None


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _SECRET.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets_in(inner)


def _filled(value: Any) -> Any:
    """Return a value with its secrets. Raises ProviderProblem."""
    if isinstance(value, str):
        return _SECRET.sub(lambda match: _secret(match[1]), value)
    if isinstance(value, Mapping):
        return {name: _filled(inner) for name, inner in value.items()}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def _key(variable: str) -> str:
    value = secret_or_none(os.environ, variable)
    if not value:  # its file was emptied a moment ago
        raise ProviderProblem(f"the API key {variable} is not set")
    return value


def _secret(name: str) -> str:
    value = secret_or_none(os.environ, f"{SECRET_PREFIX}{name}")
    if not value:
        raise ProviderProblem(f"the secret {name!r} is not set: set {SECRET_PREFIX}{name}")
    return value
