"""Preconditions of a request about a flow: its ETags are the numbers of revisions."""

import re
from typing import NamedTuple

from starlette.datastructures import Headers

from antiphon.contracts.flows import FlowRevision
from antiphon.session_api.problems import Problem, invalid

# A compressed answer has a weak ETag; a revision is the same text either way.
_etag = re.compile(r'(?:W/)?"([1-9][0-9]{0,9})"')


def etag_of(revision: int) -> str:
    """Return the ETag of a revision."""
    return f'"{revision}"'


class Precondition(NamedTuple):
    """What the newest revision must be: one of these, any (`exists`), or none (`absent`)."""

    revisions: frozenset[int] | None = None
    exists: bool = False
    absent: bool = False

    def require(self, flow_id: str, newest: FlowRevision | None) -> None:
        """Raise Problem 412 when it does not hold for the newest revision."""
        if newest is None:
            if self.exists or self.revisions is not None:
                raise _failed(
                    flow_id, f"There is no flow {flow_id!r}; to create it, leave If-Match out.", None
                )
        elif self.absent:
            detail = f"The flow {flow_id!r} exists: to replace revision {newest.revision}, send If-Match."
            raise _failed(flow_id, detail, newest.revision)
        elif self.revisions is not None and newest.revision not in self.revisions:
            detail = (
                f"The newest revision of the flow {flow_id!r} is {newest.revision}: read it, and repeat your "
                f'change on it with If-Match: "{newest.revision}".'
            )
            raise _failed(flow_id, detail, newest.revision)


def precondition_of(headers: Headers) -> Precondition:
    """Return the precondition of a request. Raises Problem 422."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None and none_match is not None:
        raise invalid("If-None-Match", "header", "takes no If-Match beside it", "not_together")
    if none_match is not None:
        if none_match.strip() != "*":
            raise invalid("If-None-Match", "header", "takes * here: for a flow that is new", "value_error")
        return Precondition(absent=True)
    if match is None:
        return Precondition()
    if match.strip() == "*":
        return Precondition(exists=True)
    found = [_etag.fullmatch(entry.strip()) for entry in match.split(",")]
    if not all(found):
        message = 'takes ETags of revisions, as "3", or *'
        raise invalid("If-Match", "header", message, "value_error")
    return Precondition(revisions=frozenset(int(one[1]) for one in found if one is not None))


def _failed(flow_id: str, detail: str, newest: int | None) -> Problem:
    return Problem(412, "flow-changed", detail, flow_id=flow_id, newest_revision=newest)
