"""Durations, times, ids of runs, lines, text for terminals: the parts that need no server."""

from __future__ import annotations

import io
import json
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlasqueue.v1 import job_pb2
from atlasqueue_cli import jobs
from atlasqueue_cli.bulk import Buffer, Judged, without_position
from atlasqueue_cli.errors import UsageError
from atlasqueue_cli.lines import BadLine, Line, lines_of, open_input, read_payload
from atlasqueue_cli.newjobs import job_from_line, job_from_payload
from atlasqueue_cli.output import clean, cut, print_card, print_json
from atlasqueue_cli.runs import LINES_MAX, Run
from atlasqueue_cli.times import duration, moment, span

RUN = Run(1_700_000_000_000, 12345)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604800), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "--x") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "-1s", "1 h", "1h,", "9999999999999w"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--x: "):
        duration(text, "--x")


def test_moments() -> None:
    assert moment("2h", "--x", NOW) == NOW - timedelta(hours=2)
    assert moment("2030-01-31T08:00:00Z", "--x") == datetime(2030, 1, 31, 8, tzinfo=UTC)
    assert moment("2030-01-31T08:00:00+02:00", "--x") == datetime(2030, 1, 31, 6, tzinfo=UTC)
    for wrong in ("tomorrow", "2030-13-01", "", "99999999w"):
        with pytest.raises(UsageError, match="--x: "):
            moment(wrong, "--x", NOW)


def test_spans() -> None:
    seconds = [0, 0.25, 12, 61, 3661, 90000, -5]
    told = [span(timedelta(seconds=s)) for s in seconds]
    assert told == ["0s", "250ms", "12s", "1m1s", "1h1m", "1d1h", "-5s"]


@given(st.lists(st.integers(1, LINES_MAX), min_size=2, max_size=50, unique=True))
def test_ids_of_a_run_are_uuids_of_version_7_that_ascend_with_the_lines(lines: list[int]) -> None:
    ids = [RUN.job_id(line) for line in sorted(lines)]
    assert ids == sorted(set(ids))
    for job_id in ids:
        parsed = uuid.UUID(job_id)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, job_id)
    assert Run.parse(str(RUN)) == RUN


def test_runs_do_not_share_ids_and_a_line_is_no_run() -> None:
    one, other = Run.new(), Run.new()
    assert one.job_id(1) != other.job_id(1)
    for wrong in (RUN.job_id(1), "x", str(uuid.uuid4())):
        with pytest.raises(ValueError):
            Run.parse(wrong)
    with pytest.raises(ValueError, match="at most"):
        RUN.job_id(LINES_MAX + 1)


def test_lines_are_numbered_as_an_editor_does() -> None:
    source = io.BytesIO(b"\xef\xbb\xbfone\r\n\n  \ntwo\n" + b"x" * 30 + b"\nend")
    lines = list(lines_of(source, longest=20))
    assert lines == [
        Line(1, b"one", 5),
        Line(4, b"two", 4),
        Line(5, None, 31),
        Line(6, b"end", 3),
    ]


def test_a_line_of_just_the_longest_is_read() -> None:
    for end in (b"", b"\n", b"\r\n"):
        (line,) = lines_of(io.BytesIO(b"x" * 20 + end), longest=20)
        assert line.text == b"x" * 20


def job_of(tree: object, **defaults: object) -> job_pb2.NewJob:
    new = job_pb2.NewJob(queue="q", kind="k")
    new.MergeFrom(job_pb2.NewJob(**defaults))  # type: ignore[arg-type]
    return job_from_line(json.dumps(tree).encode(), new, "id")


def test_a_line_says_what_it_wants_and_the_defaults_the_rest() -> None:
    job = job_of(
        {
            "queue": "other",
            "payloadJson": {"ä": [1, None]},
            "run_at": "2030-01-31T08:00:00Z",
            "deadline": "1.5s",
            "retryPolicy": {"maxAttempts": 3},
            "headers": {"a": "line"},
        },
        headers={"a": "default", "b": "default"},
        priority=1,
    )
    assert (job.queue, job.kind, job.job_id, job.priority) == ("other", "k", "id", 1)
    assert job.payload.decode() == '{"ä":[1,null]}'
    assert dict(job.headers) == {"a": "line", "b": "default"}
    assert job.run_at.ToDatetime(UTC) == datetime(2030, 1, 31, 8, tzinfo=UTC)
    assert job.deadline.ToTimedelta() == timedelta(seconds=1.5)
    assert job.retry_policy.max_attempts == 3


@pytest.mark.parametrize(
    ("field", "payload"),
    [
        ({"payload": "Y2F0"}, b"cat"),
        ({"payload": "-_8"}, b"\xfb\xff"),
        ({"payloadText": "kät"}, "kät".encode()),
        ({"payload_json": None}, b"null"),
        ({"payload": None}, b""),
    ],
)
def test_payloads_of_a_line(field: object, payload: bytes) -> None:
    assert job_of(field).payload == payload


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nope", "is not JSON: Expecting value at character 1"),
        (b'{"kind":"k"', "is not JSON: "),
        (b"[1]", "must be a JSON object, not an array"),
        (b"\xff", "is not UTF-8 at byte 1"),
        (b'{"kind":"a","kind":"b"}', "has 'kind' twice"),
        (b'{"prioritty":1}', "unknown field 'prioritty'; did you mean 'priority'"),
        (b'{"priority":true}', "priority must be an integer, not a boolean"),
        (b'{"priority":"1"}', "priority must be an integer, not a string"),
        (b'{"priority":99999999999}', "priority must be an integer"),
        (b'{"kind":7}', "kind must be a string, not a number"),
        (b'{"kind":"\\ud800"}', "half of a surrogate pair"),
        (b'{"payload":"%%"}', "payload must be base64; write payloadText"),
        (b'{"payload":"","payloadText":""}', "payload is given twice"),
        (b'{"jobId":"a","job_id":"b"}', "job_id is given twice"),
        (b'{"payloadJson":NaN}', "NaN is no number"),
        (b'{"payloadJson":1e999}', "payloadJson: "),
        (b'{"headers":{"a":1}}', "headers must be an object of strings"),
        (b'{"runAt":"tomorrow"}', "runAt must be a time"),
        (b'{"deadline":90}', "deadline must be seconds"),
        (b'{"retryPolicy":{"x":1}}', "retryPolicy is no retry policy"),
        (b'{"queue":""}', "names no queue; write it in the line, or give --queue"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"payloadJson":' + b"9" * 5000 + b"}", "is not JSON that can be read"),
        (b'{"payloadText":"' + b"x" * 3_200_000 + b'"}', "a payload has at most 1 048 576"),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_told_what_is_wrong_with_it(line: bytes, says: str) -> None:
    with pytest.raises(BadLine) as refused:
        job_from_line(line, job_pb2.NewJob(queue="q", kind="k"), "id")
    assert says in str(refused.value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda s: json.dumps({s: s}).encode()))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    try:
        job_from_line(line, job_pb2.NewJob(queue="q", kind="k"), "id")
    except BadLine as error:
        assert str(error)


def test_a_line_may_be_the_payload_itself() -> None:
    job = job_from_payload(b'{"x": "\xff', job_pb2.NewJob(queue="q", kind="k"), "id")
    assert job.payload == b'{"x": "\xff'


def test_payload_arguments(tmp_path: pytest.TempPathFactory) -> None:
    assert read_payload("@@home") == b"@home"
    assert read_payload("grün") == "grün".encode()


@pytest.mark.parametrize("given", [b"a\n\n\xff\n", b"a\n\n" + b"x" * 2000])
def test_ids_from_a_pipe_that_are_none(monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    """How it showed: bytes that are no text, piped to `wait -`, were told as a bug of the program."""
    monkeypatch.setattr(jobs, "open_input", lambda _: io.BytesIO(given))
    with pytest.raises(UsageError, match="line 3 of standard input is no id"):
        jobs.ids_from(["-"])


def test_an_input_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it showed: `yes | atlasqueue wait -` took memory until there was none."""

    def endless(*_: object) -> Iterator[Line]:
        for number in range(1, 10):
            yield Line(number, b"a", 1)
        pytest.fail("read beyond the bound")

    monkeypatch.setattr(jobs, "open_input", lambda _: io.BytesIO())
    monkeypatch.setattr(jobs, "lines_of", endless)
    monkeypatch.setattr(jobs, "IDS_MAX", 5)
    with pytest.raises(UsageError, match="more than 5 ids"):
        jobs.ids_from(["-"])


def test_the_buffer_is_bounded_and_a_batch_takes_what_is_there() -> None:
    """Broken once: without the wait in _put, all 1 000 lines were held."""
    held: list[int] = []
    buffer = Buffer(items=10, size=1 << 20)
    job = job_pb2.NewJob(queue="q", kind="k")

    def lines() -> object:
        for number in range(1, 1001):
            held.append(number)
            yield Judged(number, job, "", 1)

    reader = threading.Thread(target=buffer.fill, args=(lines(),))
    reader.start()
    taken: list[int] = []
    while batch := buffer.take():
        taken += [item.line for item in batch]
        # Ten in the buffer, one in the reader's hand.
        assert len(held) - len(taken) <= 11
    reader.join()
    assert taken == list(range(1, 1001))


def test_what_breaks_the_reader_reaches_the_sender() -> None:
    def lines() -> object:
        yield Judged(1, None, "x", 1)
        raise OSError("disk")

    buffer = Buffer()
    buffer.fill(lines())  # type: ignore[arg-type]
    assert [item.line for item in buffer.take()] == [1]
    with pytest.raises(OSError, match="disk"):
        buffer.take()


def test_refusals_name_no_position_in_a_message() -> None:
    assert without_position("jobs[7].kind: must x; jobs[7].queue: y") == "kind: must x; queue: y"
    assert without_position("job 1 exists") == "job 1 exists"


def test_text_of_jobs_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[31mb\nc\x9b") == "a\\x1b[31mb\\nc\\x9b"
    # How it showed: a file's name that ends in gpj.exe looked like exe.jpg.
    assert clean("\u202egpj.exe\u2069") == "\\u202egpj.exe\\u2069"
    assert clean("\u05d0 e\u0301 \U0001f600") == "\u05d0 e\u0301 \U0001f600"
    assert cut("x" * 100, 5) == "xxxx…"


def test_json_is_json_whatever_the_output_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it showed: with an output of ASCII an é was printed as \\xe9, which no reader of JSON takes."""
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, "ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", output)
    print_json({"name": "é\U0001f600"})
    output.flush()
    assert json.loads(raw.getvalue()) == {"name": "é\U0001f600"}


def test_no_text_is_cut_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """How it showed: of a payload of 4 096 characters, which is shown whole, the last were missing."""
    print_card([("payload", "y" * 10_000)])
    assert "y" * 10_000 in capsys.readouterr().out


def test_a_closed_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        open_input("-")
