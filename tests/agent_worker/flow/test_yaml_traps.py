"""What people write by mistake, and what others send on purpose: a clear message for each."""

import time
from pathlib import Path

import pytest

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import InvalidFlow, load_flow
from antiphon.agent_worker.flow.document import parse_yaml
from antiphon.agent_worker.flow.load import MAX_BYTES


def problems(source: str | Path) -> list[str]:
    with pytest.raises(InvalidFlow) as caught:
        load_flow(source, CATALOG, name="f")
    name = source.name if isinstance(source, Path) else "f"
    return [f"{name}:{one.line}: {one.place}: {one.reason}" for one in caught.value.problems]


LAST = "      forget: [party_size]\n"
LINE = 44  # the first after the small flow

APPENDED = {
    "not a number": (
        "limits: {tool_calls: 0x10}",
        "limits.tool_calls: input should be a valid integer, not '0x10'",
    ),
    "a number as a text": (
        'limits: {call_seconds: "10"}',
        "limits.call_seconds: input should be a valid number, not '10'",
    ),
    "a number without end": (
        "limits: {tool_calls: " + "9" * 5000 + "}",
        "limits.tool_calls: input should be a valid integer, not '999",
    ),
    "merge key": (
        "limits: {<<: {tool_calls: 2}}",
        "limits.<<: merge keys are not supported: write the keys themselves",
    ),
    "a key that is a list": (
        "? [a, b]\n: 1",
        ": a key is a word; a text that starts with { or [ needs quotes",
    ),
    "a tag": (
        'limits: !!python/object/apply:os.system ["exit 1"]',
        ": tags are not supported: write the value without what begins with !",
    ),
    "a second document": (
        "---\nid: other",
        ": not valid YAML: but found another document; a flow file is one document: remove this line",
    ),
    "a control character": (
        "name2: a\x1b[31mb",
        ": not valid YAML: the character U+001B is not allowed: remove it",
    ),
    "NUL": ("name2: \x00", ": not valid YAML: the character U+0000 is not allowed: remove it"),
    "half a pair": ("name2: \ud800", ": not valid YAML: the character U+D800 is not allowed: remove it"),
    "a key twice": ("id: other", "id: duplicate key: it is in line 1 too"),
    "no for false": (
        "turns: {interruption: no}",
        "turns.interruption: 'no' is a text here: write false, or leave it out",
    ),
    "a text for keys": (
        "turns: vad",
        "turns: should have keys (detection, endpointing, interruption), not 'vad'",
    ),
    "a list for keys": ("transfers: [desk]", "transfers: should have keys with values, not a list of 1"),
    "no item": ("expect: [{name: x, steps: []}]", "expect[0].steps: is empty: write at least one"),
    "a word for a list": (
        "voice: {stt: offline, tts: offline, llm: {use: offline, fallbacks: offline}}",
        "voice.llm.fallbacks: should be a list, [offline], not 'offline'",
    ),
    "a key that a telephone has not": (
        "dtmf: {keys: {x: hello}}",
        "dtmf.keys.x: 'x' is not a key of a telephone: 0 to 9, *, #, A to D",
    ),
    "end: 012": (
        "dtmf: {keys: {1: {end: 012}}}",
        "dtmf.keys.1.end: should be true, or be left out, not '012'",
    ),
    "end: off": (
        "dtmf: {keys: {1: {end: off}}}",
        "dtmf.keys.1.end: 'off' is a text here: write false, or leave it out",
    ),
}


@pytest.mark.parametrize("name", APPENDED)
def test_a_mistake_has_one_message_with_its_line(small: str, name: str) -> None:
    added, reason = APPENDED[name]
    small = small.replace("voice: {", "# voice: {") if added.startswith("voice:") else small
    assert small.endswith(LAST)
    assert small.count("\n") == LINE - 1

    (found,) = problems(f"{small}{added}\n")

    assert found.startswith(f"f:{LINE}: {reason}"), found
    assert len(found) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("012", "012"),
        ("0301234", "0301234"),
        ("+4930123456", "+4930123456"),
        ("9" * 20, "9" * 20),
        ("0", 0),
        ("-3", -3),
    ],
)
def test_a_telephone_number_keeps_all_its_characters(text: str, value: object) -> None:
    assert parse_yaml(f"key: {text}", file="f").data == {"key": value}


@pytest.mark.parametrize("text", ["- a\n- b\n", "hello\n", "12\n"])
def test_a_file_without_keys_says_which_there_are(text: str) -> None:
    (found,) = problems(text)

    assert found.startswith("f:1: : should have keys (id, name, description, ")


def test_all_anchors_and_duplicates_are_reported_at_once() -> None:
    bomb = 'a: &a ["lol"]\nb: &b [*a, *a]\nc: [*b, *b]\n'

    assert [line.split(": ")[0] for line in problems(bomb)] == ["f:1", "f:2", "f:3"]
    assert [line.split(": ")[0] for line in problems("a: 1\na: 2\nb: {c: 1, c: 2}\n")] == ["f:2", "f:3"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            "id: x\nname: Grüße\n".encode("latin-1"),
            "2: : cannot be read: the byte 0xfc is not UTF-8: save it as UTF-8",
        ),
        ("id: x\n".encode("utf-16"), "1: : cannot be read: the byte 0xff is not UTF-8: save it as UTF-8"),
        (b"id: x\n" + b"# y\n" * 2_500_000, f"1: : larger than {MAX_BYTES // 1024} KiB, the limit of a flow"),
        (b"# " + "ü".encode() * MAX_BYTES, f"1: : larger than {MAX_BYTES // 1024} KiB, the limit of a flow"),
        (b"id: x\nname: \x00\n", "2: : not valid YAML: the character U+0000 is not allowed: remove it"),
    ],
    ids=["latin-1", "utf-16", "10 MB", "cut in a character", "NUL"],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(data)

    assert problems(path) == [f"f.yaml:{reason}"]


def test_a_folder_and_a_missing_file_are_named_plainly(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path.name}:1: : cannot be read: Is a directory"]
    assert problems(tmp_path / "no") == ["no:1: : cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    "change", [lambda text: f"\ufeff{text}", lambda text: text.replace("\n", "\r\n")], ids=["BOM", "CRLF"]
)
def test_files_of_other_editors_load(tmp_path: Path, small: str, change: object) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(change(small).encode())  # type: ignore[operator]

    assert load_flow(path, CATALOG).id == "small"


def test_a_mistake_does_not_hide_the_others(small: str) -> None:
    broken = small.replace("    greeting: Good evening.", "    greting: Good {evening}.").replace(
        "hear: yes", "hear: yess"
    )
    broken = broken.replace("hand_off: chief", "hand_off: chef").replace("tts: offline", "tts: ofline")
    broken = broken.replace("language: en", "language: english").replace(LAST, f"{LAST}      end: yes\n")

    found = problems(broken)

    for reason in (
        "language: 'english' is not a language like en or pt-BR",
        "voice.tts: unknown tts provider 'ofline'",
        "agents.host.greting: unknown key",
        "agents.host.greting: {evening} has no value here",
        "agents.host.script.rules[0].hand_off: unknown agent 'chef'",
        "script.rules[1].hear: unknown phrase 'yess'",
        "script.rules[1].end: 'yes' is a text here: write true",
    ):
        assert any(reason in line for line in found), (reason, found)


def test_what_a_mistake_leaves_out_is_no_second_mistake(small: str) -> None:
    (found,) = problems(small.replace("    greeting: Good evening.", "    greting: Good evening."))

    assert "did you mean 'greeting'?" in found


def test_brackets_in_brackets_end(small: str) -> None:
    found = problems(small.replace("yes: yes please", "yes: " + "(" * 150 + "yes" + ")" * 150))

    assert any("script.phrases.yes[0]: more than 20 brackets within brackets" in line for line in found)


def test_the_check_of_a_large_flow_is_quick() -> None:
    head = "id: big\nname: Big\ndescription: Big.\nagents:\n  host: {instructions: Hi., greeting: Hi.}\n"
    rules = "".join(f"    - {{hear: a, after: q{n}, asks: q{n}, say: x}}\n" for n in range(6000))
    again = "    - {hear: a, after: q5999, say: never}\n"
    flow = f"{head}script:\n  fallback: x\n  phrases: {{a: hello there}}\n  rules:\n{rules}{again}"
    load_flow(flow.replace(again, ""), CATALOG)  # with what is loaded once

    before = time.process_time()
    (found,) = problems(flow)

    assert "this rule is never applied: script.rules[5999] always comes first" in found
    assert time.process_time() - before < 30  # some seconds; it was minutes


def test_sentences_of_all_phrases_are_counted() -> None:
    head = "id: big\nname: Big\ndescription: Big.\nagents:\n  host: {instructions: Hi., greeting: Hi.}\n"
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "red",
        "blue",
        "green",
    ]
    options = " ".join(f"[{word}]" for word in words)  # 8192 sentences
    phrases = "".join(f"    {word}: hello {word} {options}\n" for word in words)
    rule = f"    - {{hear: [{', '.join(words)}], say: x}}\n"

    found = problems(f"{head}script:\n  fallback: x\n  phrases:\n{phrases}  rules:\n{rule}")

    assert "with this, the phrases match more than 100000 sentences, the limit of a flow" in found[-1]
