"""Query parameters are checked against those that a route declares: one that is unknown is never ignored."""

from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from fastapi import Request
from fastapi.routing import APIRoute

from antiphon.session_api.problems import Problem

Check = Callable[[Request], None]

MAX_PARAMETERS = 100  # of a request
MAX_SHOWN = 64  # characters of a name that is not known
MAX_ERRORS = 20
MAX_GUESSES = 5  # of what an unknown name was meant to be: difflib is slow


def query_check(route: APIRoute) -> Check:
    """Return a check of a request's query parameters.

    Parameters are those of the handler, and those that `openapi_extra` declares; one with the style
    `deepObject` is sent as `name[key]=value`.
    """
    fields = route.dependant.query_params
    repeatable = {field.alias for field in fields if _is_list(field.field_info.annotation)}
    documented = (route.openapi_extra or {}).get("parameters", ())
    declared: list[dict[str, Any]] = [parameter for parameter in documented if parameter.get("in") == "query"]
    objects = {parameter["name"] for parameter in declared if parameter.get("style") == "deepObject"}
    deep = tuple(f"{name}[" for name in sorted(objects))
    known = ({field.alias for field in fields} | {parameter["name"] for parameter in declared}) - objects
    shown = sorted(known | {f"{start}<key>]" for start in deep})

    def is_known(name: str) -> bool:
        return name in known or (name.startswith(deep) and name.endswith("]"))

    def check(request: Request) -> None:
        if not request.scope["query_string"]:
            return
        _require_few(request.scope["query_string"])
        counted = Counter(name for name, _ in request.query_params.multi_items())
        unknown = [name for name in counted if not is_known(name)][:MAX_ERRORS]
        errors = [_unknown(name, shown, guess=at < MAX_GUESSES) for at, name in enumerate(unknown)]
        errors += [
            {"field": name, "in": "query", "message": "is given more than once", "code": "repeated"}
            for name, count in counted.items()
            if count > 1 and name in known - repeatable
        ]
        if errors:
            fields = ", ".join(error["field"] for error in errors[:5])
            raise Problem(422, "invalid-request", f"Not valid: {fields}.", errors=errors[:MAX_ERRORS])

    return check


def _require_few(query: bytes) -> None:
    """Raise Problem 422 for a query with too many parameters, before it is parsed."""
    if query.count(b"&") >= MAX_PARAMETERS:
        message = f"takes at most {MAX_PARAMETERS} parameters"
        errors = [{"field": "query", "in": "query", "message": message, "code": "too_many"}]
        raise Problem(422, "invalid-request", "Not valid: query.", errors=errors)


def _unknown(name: str, known: list[str], *, guess: bool) -> dict[str, str]:
    close = get_close_matches(name[:MAX_SHOWN], known, n=1, cutoff=0.5) if guess else ()
    if close:
        advice = f"; did you mean {close[0]}?"
    elif known:
        advice = f"; it takes {', '.join(known)}"
    else:
        advice = "; it takes none"
    message = f"is not a parameter of this route{advice}"
    return {"field": name[:MAX_SHOWN], "in": "query", "message": message, "code": "unknown_parameter"}


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    return annotation is list or get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))
