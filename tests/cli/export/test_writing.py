"""An export goes on after any crash: the rows on disk are those of the log, each once."""

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.export.batches import batch, batches, envelopes, replaced

from antiphon.cli.errors import StackError
from antiphon.cli.export import manifest as manifest_module
from antiphon.cli.export import ndjson, parquet
from antiphon.cli.export.manifest import Manifest, Request
from antiphon.cli.export.writing import Export, manifest_path, open_export
from antiphon.contracts.envelope import Envelope, encode

NDJSON = Request(format="ndjson")
PARQUET = Request(format="parquet")


class Crash(BaseException):
    """The process ends here."""


def identify() -> str:
    return "test"


def opened(output: Path, request: Request, *, resume: bool = False) -> Export:
    return open_export(output, request, resume=resume, new_id=identify)


def run(output: Path, request: Request, events: Sequence[Envelope], size: int, *, resume: bool) -> None:
    """Export events to the end."""
    export = opened(output, request, resume=resume)
    try:
        for each in batches(events, size, after=int(export.start.after or 0)):
            export.take(each)
    finally:
        export.close()


def positions(output: Path, request: Request) -> list[int]:
    """Return the positions of the exported events, sorted."""
    if request.format == "ndjson":
        return sorted(json.loads(line)["position"] for line in output.read_text().splitlines())
    listed = [
        file["path"]
        for line in manifest_path(output, request).read_text().splitlines()[1:]
        for file in json.loads(line)["files"]
    ]
    found = [str(path.relative_to(output)) for path in output.rglob("*.parquet")]
    assert sorted(listed) == sorted(found)
    return sorted(n for path in found for n in pq.read_table(output / path).column("position").to_pylist())


def crash_after(steps: int) -> Callable[..., None]:
    """Return a function in place of one that makes data durable: it ends the process after some calls."""
    numbers = count(1)

    def crash(_: object) -> None:
        if next(numbers) > steps:
            raise Crash

    return crash


@settings(max_examples=60)
@given(
    st.sampled_from(["ndjson", "parquet"]),
    st.integers(0, 60),
    st.integers(1, 9),
    st.lists(st.integers(0, 25), max_size=5),
)
def test_a_crash_anywhere_loses_and_repeats_nothing(
    form: Literal["ndjson", "parquet"], number: int, size: int, crashes: list[int]
) -> None:
    events, request = list(envelopes(number)), Request(format=form)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        output = Path(folder) / "out"
        patch.setattr(parquet, "FLUSH_EVENTS", 10)
        patch.setattr(
            parquet.ParquetFolder.__init__, "__kwdefaults__", {"flush_bytes": 1 << 20, "flush_events": 10}
        )
        patch.setattr(ndjson, "SYNC_BYTES", 2000)
        for steps in crashes:
            with patch.context() as crashing:
                crash = crash_after(steps)
                crashing.setattr(os, "fsync", crash)
                try:
                    run(output, request, events, size, resume=True)
                except Crash:
                    continue
        run(output, request, events, size, resume=True)

        assert positions(output, request) == [event.position for event in events]
        assert not list(Path(folder).rglob("*.tmp"))
        assert not list(Path(folder).rglob("*.partial"))


@pytest.mark.parametrize("request_", [NDJSON, PARQUET], ids=lambda request: request.format)
def test_a_complete_export_gets_what_is_new(tmp_path: Path, request_: Request) -> None:
    events, output = list(envelopes(30)), tmp_path / "out"
    run(output, request_, events[:20], 7, resume=False)
    export = opened(output, request_, resume=True)
    assert export.start == ("20", None)
    export.close()

    run(output, request_, events, 7, resume=True)

    assert positions(output, request_) == [event.position for event in events]


def test_an_export_that_stopped_goes_on_to_the_same_end(tmp_path: Path) -> None:
    output = tmp_path / "out"
    export = opened(output, PARQUET)
    export.take(batch(list(envelopes(3)), 3))
    export._files.flush()
    export._checkpoint(batch([], 3))
    export.close()

    export = opened(output, PARQUET, resume=True)

    assert export.start == ("3", "end")
    export.close()


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    output, events = tmp_path / "events.ndjson", list(envelopes(4))
    export = opened(output, NDJSON)
    export.take(batch(events[:2], 2))
    assert not output.exists()
    export.take(batch(events[2:], 4, complete=True))
    export.close()

    assert output.read_bytes() == b"".join(encode(event) + b"\n" for event in events)
    assert not (tmp_path / "events.ndjson.partial").exists()


def test_a_complete_file_keeps_its_name_until_there_is_more(tmp_path: Path) -> None:
    output, partial, events = tmp_path / "out", tmp_path / "out.partial", list(envelopes(4))
    run(output, NDJSON, events[:2], 2, resume=False)
    before = output.read_bytes()
    refused = opened(output, NDJSON, resume=True)
    refused.close()
    assert output.read_bytes() == before

    nothing_new = opened(output, NDJSON, resume=True)
    nothing_new.take(batch([], 2))
    nothing_new.take(batch([], 2, complete=True))
    assert not partial.exists()
    nothing_new.close()
    assert output.read_bytes() == before

    more = opened(output, NDJSON, resume=True)
    more.take(batch(events[2:], 4))
    assert partial.exists()
    more.take(batch([], 4, complete=True))
    more.close()
    assert positions(output, NDJSON) == [1, 2, 3, 4]


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("size", [0, 10])
def test_a_file_that_has_shrunk_is_not_filled_with_zeros(tmp_path: Path, complete: bool, size: int) -> None:
    output, events = tmp_path / "out", list(envelopes(4))
    run(output, NDJSON, events, 2, resume=False)
    file = output if complete else output.rename(tmp_path / "out.partial")
    os.truncate(file, size)

    with pytest.raises(
        StackError, match=rf"{file} was changed: it has {size} bytes, and [\d,]+ were exported"
    ):
        opened(output, NDJSON, resume=True)

    assert file.stat().st_size == size


def test_a_complete_file_that_has_grown_is_not_cut(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(output, NDJSON, list(envelopes(2)), 2, resume=False)
    with output.open("ab") as file:
        file.write(b"a line of mine\n")

    with pytest.raises(StackError, match="was changed"):
        opened(output, NDJSON, resume=True)

    assert output.read_bytes().endswith(b"a line of mine\n")


def test_a_file_that_was_removed_is_an_error(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(output, NDJSON, list(envelopes(2)), 2, resume=False)
    output.unlink()

    with pytest.raises(StackError, match="was moved or removed"):
        opened(output, NDJSON, resume=True)


@pytest.mark.parametrize("began", [True, False])
def test_a_file_of_the_same_name_is_not_overwritten(
    tmp_path: Path, began: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson, "SYNC_BYTES", 10)
    output = tmp_path / "out"
    export = opened(output, NDJSON)
    export.take(batch(list(envelopes(2)), 2) if began else batch([], 0))
    export.close()
    output.write_text("mine")

    with pytest.raises(StackError, match="not complete: move it away"):
        opened(output, NDJSON, resume=True)

    assert output.read_text() == "mine"


def test_an_export_is_not_overwritten(tmp_path: Path) -> None:
    for request, name in ((NDJSON, "events.ndjson"), (PARQUET, "events")):
        run(tmp_path / name, request, list(envelopes(2)), 2, resume=False)
        with pytest.raises(StackError, match="pass --resume"):
            opened(tmp_path / name, request)


def test_what_is_no_export_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(StackError, match="not an empty folder"):
        opened(tmp_path, PARQUET, resume=True)
    with pytest.raises(StackError, match="exists, and is not an export"):
        opened(tmp_path / "mine.txt", NDJSON, resume=True)
    with pytest.raises(StackError, match="is a folder"):
        opened(tmp_path, NDJSON)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_other_options_are_refused_and_named(tmp_path: Path) -> None:
    run(tmp_path / "out", Request(format="parquet", without_pii=True), list(envelopes(2)), 2, resume=False)

    with pytest.raises(StackError, match=r"other options \(without --type, with --without-pii\)"):
        opened(tmp_path / "out", Request(format="parquet", types=["turn.saved"]), resume=True)

    types = Request(format="parquet", types=["turn.saved", "agent.ready"], since="2026-01-01T00:00:00+00:00")
    run(tmp_path / "types", types, list(envelopes(2)), 2, resume=False)
    wanted = r"\(with --type turn.saved --type agent.ready, with --since 2026-01-01T00:00:00\+00:00\)"
    with pytest.raises(StackError, match=wanted):
        opened(tmp_path / "types", PARQUET, resume=True)


@pytest.mark.parametrize("request_", [NDJSON, PARQUET], ids=lambda request: request.format)
def test_an_export_that_has_taken_nothing_leaves_nothing(tmp_path: Path, request_: Request) -> None:
    output = tmp_path / "out"
    refused = opened(output, Request(format=request_.format, types=["nope"]))
    refused.close()

    assert not manifest_path(output, request_).exists()
    run(output, request_, list(envelopes(2)), 2, resume=False)
    assert positions(output, request_) == [1, 2]


def test_a_manifest_that_is_removed_meanwhile_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest_path(tmp_path / "out", NDJSON)
    monkeypatch.setattr(fcntl, "flock", lambda *_: path.unlink())

    with pytest.raises(StackError, match="try again"):
        opened(tmp_path / "out", NDJSON)


def test_two_processes_do_not_write_one_export(tmp_path: Path) -> None:
    export = opened(tmp_path / "out", PARQUET)
    with pytest.raises(StackError, match="another process writes this export"):
        opened(tmp_path / "out", PARQUET, resume=True)
    export.close()

    opened(tmp_path / "out", PARQUET, resume=True).close()


def test_events_of_another_tenant_are_not_mixed_in(tmp_path: Path) -> None:
    events = list(envelopes(4))
    export = opened(tmp_path / "out", NDJSON)
    export.take(batch(events[:2], 2))
    export.take(batch([], 2))
    other = [replaced(event, tenant="other") for event in events[2:]]

    with pytest.raises(StackError, match="tenant default, and the API key is of other"):
        export.take(batch(other, 4, complete=True, tenant="other"))
    export.close()


@pytest.mark.parametrize("request_", [NDJSON, PARQUET], ids=lambda request: request.format)
@pytest.mark.parametrize("first", [0, 2])
def test_the_cursor_of_another_tenant_is_not_taken_even_without_events(
    tmp_path: Path, request_: Request, first: int
) -> None:
    events, output = list(envelopes(4)), tmp_path / "out"
    run(output, request_, events[:first], 2, resume=False)
    manifest = manifest_path(output, request_).read_bytes()
    export = opened(output, request_, resume=True)
    with pytest.raises(StackError, match="tenant default, and the API key is of other"):
        export.take(batch([], 4, complete=True, tenant="other"))
    export.close()

    assert manifest_path(output, request_).read_bytes() == manifest
    run(output, request_, events, 2, resume=True)
    assert positions(output, request_) == [event.position for event in events]


@pytest.mark.parametrize("torn", [b'{"cursor": "9", "until": "end"', b"{", b"\x00\x00"])
def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path, torn: bytes) -> None:
    output = tmp_path / "out"
    run(output, PARQUET, list(envelopes(3)), 3, resume=False)
    path = manifest_path(output, PARQUET)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)

    manifest = Manifest.open(path, PARQUET, identify, resume=True)
    manifest.close()

    assert manifest.last is not None
    assert manifest.last.cursor == "3"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["", '{"anti', '{"antiphon_export":1,"id":"x"'])
def test_an_export_that_had_hardly_begun_begins_again(tmp_path: Path, text: str) -> None:
    manifest_path(tmp_path, PARQUET).write_text(text)

    run(tmp_path, PARQUET, list(envelopes(3)), 2, resume=False)

    assert positions(tmp_path, PARQUET) == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["my notes", "{}\n", "not JSON\n", '{"antiphon_export": 1}\n{"cursor": 1}\n']
)
def test_a_damaged_manifest_is_an_error(tmp_path: Path, text: str) -> None:
    path = manifest_path(tmp_path, PARQUET)
    path.write_text(text)

    with pytest.raises(StackError, match="damaged"):
        opened(tmp_path, PARQUET, resume=True)


def test_a_manifest_of_another_version_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "out", PARQUET, list(envelopes(2)), 2, resume=False)
    monkeypatch.setattr(manifest_module, "FORMAT", 2)

    with pytest.raises(StackError, match="another version"):
        opened(tmp_path / "out", PARQUET, resume=True)
