"""Hypothesis strategies for access-log lines: ordinary, odd, and hardly any lines. All give bytes.

A line is drawn as (key, JSON text) pairs, so that it can hold what no dict can: a key twice, a number's
spelling, half a surrogate pair.

    ordinary_lines()   what a gateway writes; few names, so that lines share windows and groups
    odd_lines()        a JSON object with some odd values: every kind of the design's "What real logs hold"
    spaced_lines()     both of these, with white space between the parts
    broken_lines()     cut off, doubled, not an object, not UTF-8
    any_lines()        all of these
    streams()          lists of positioned lines, in several partitions
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.oracle import Position, RawLine
from tests.support.cluster_names import odd_hosts, odd_names
from tests.support.lines import T0_MS, at, cluster, record
from tidegate.schemas.response_flags import RESPONSE_FLAGS
from tidegate.schemas.rows.lines import ACCESS_LOG_NUMBERS

T = TypeVar("T")
Pairs = list[tuple[str, str]]

SECONDS = 180
"""Ordinary lines start within so many seconds after T0."""

# Mostly the same names and the same two seconds, or lines would hardly share a window and a group.
_START_MS = st.integers(0, 4).flatmap(lambda n: st.integers(0, 1999 if n else SECONDS * 1000 - 1))
_TASKS = ("chat", "chat", "chat", "embed", "rank")
_DEPARTMENTS = ("vision", "vision", "vision", "search")
_VERSIONS = ("", "", "v1", "v2")
_HOSTS = ("10.60.1.10:8080", "10.60.1.10:8080", "10.60.1.11:8080", "10.60.2.10:8080")


def _evenly(*parts: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """One of the parts, each as likely: `one_of` flattens them, and those of many parts drown the others."""
    return st.integers(0, len(parts) - 1).flatmap(lambda chosen: parts[chosen])


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _pairs(**fields: Any) -> Pairs:
    return [(key, _json(value)) for key, value in record(**fields).items()]


def _line(pairs: Pairs) -> bytes:
    return ("{" + ",".join(f"{_json(key)}:{text}" for key, text in pairs) + "}").encode()


@st.composite
def _outcomes(draw: st.DrawFn) -> dict[str, Any]:
    """Code, flags, details and host as they come together in a gateway's log."""
    host = draw(st.sampled_from(_HOSTS))
    answered: dict[str, Any] = {
        "response_code": draw(st.sampled_from([200, 204, 304, 400, 404, 429, 500, 503]))
    }
    return draw(
        st.sampled_from(
            [
                answered | {"upstream_host": host},
                answered | {"upstream_host": host},
                {
                    "response_code": 429,
                    "response_flags": "RL",
                    "response_code_details": "local_rate_limited",
                    "upstream_host": None,
                },
                {"response_code": 0, "response_flags": "DC", "upstream_host": host},
                {"response_code": 0, "response_flags": "DC", "upstream_host": None},
                {"response_code": 503, "response_flags": "UF,URX", "upstream_host": host},
                {"response_code": 503, "response_flags": "UH", "upstream_host": None},
                {"response_code": 504, "response_flags": "UT", "upstream_host": host},
                {
                    "response_code": 200,
                    "response_flags": "UPE",
                    "upstream_host": host,
                },  # cut after its headers
                {"response_code": 200, "response_flags": "UpstreamRequestTimeout", "upstream_host": host},
                {"response_code": 200, "upstream_host": host, "grpc_status": draw(st.integers(0, 16))},
                {"response_code": 200, "response_flags": "UF", "upstream_host": host, "grpc_status": 14},
                {"response_code": 101, "upstream_host": host},
                {"response_code": 200, "method": "CONNECT", "upstream_host": host},
                {
                    "response_code": 404,
                    "response_flags": "NR",
                    "upstream_cluster": None,
                    "upstream_host": None,
                },
            ]
        )
    )


_TOKENS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "model": st.just("chat-8b"),
            "input_tokens": st.integers(0, 9000),
            "output_tokens": st.one_of(st.integers(0, 300), st.integers(0, 300).map(str), st.none()),
        }
    ),
)


@st.composite
def _ordinary(draw: st.DrawFn) -> Pairs:
    duration = draw(
        st.one_of(
            st.integers(0, 50),
            st.integers(0, 5000),
            st.sampled_from([0, 1, 2, 4, 1024, 60_000]),
            st.integers(0, 2_000_000).map(lambda us: us / 1000),
            st.just(None),
        )
    )
    fields: dict[str, Any] = {
        "start_time": at(draw(_START_MS) / 1000),
        "duration": duration,
        "bytes_received": draw(st.integers(0, 1 << 20)),
        "bytes_sent": draw(st.integers(0, 1 << 30)),
        "upstream_service_time": draw(
            st.one_of(st.integers(0, 5000), st.integers(0, 99).map(str), st.none())
        ),
        "response_duration": draw(st.one_of(st.integers(0, 50), st.integers(0, 99).map(str), st.none())),
        "upstream_request_attempt_count": draw(st.sampled_from([None, 0, 1, 1, "1", 2, 3])),
        "request_id": draw(st.sampled_from(["a", "b", "c", None])),
        **draw(_TOKENS),
        "upstream_cluster": cluster(
            task=draw(st.sampled_from(_TASKS)),
            department=draw(st.sampled_from(_DEPARTMENTS)),
            version=draw(st.sampled_from(_VERSIONS)),
        ),
    }
    return _pairs(**(fields | draw(_outcomes())))


def ordinary_lines() -> st.SearchStrategy[bytes]:
    """Lines as a gateway writes them; each can be read, none is periodic."""
    return _ordinary().map(_line)


_UNKNOWN = st.sampled_from(["null", '"-"', '""', '" "', '" - "'])

_NUMBER_TEXTS = _evenly(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        [
            "0",
            "-0",
            "0.0",
            "12.0",
            "1e3",
            "1E+3",
            "5e-1",
            "0.0005",
            "0.9999999",
            "123.4565",
            "1e-400",
            "-1e-400",
            "1e400",
            "-1e400",
            "1e2147483648",
            "10000000000",
            "10000000001",
            "9007199254740991",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1" + "0" * 300,
            "0." + "3" * 300,
            "0." + "3" * 998,
            "0." + "3" * 1200,
        ]
    ),
)

_NOT_NUMBERS = st.sampled_from(
    [
        '"NaN"',
        '"Infinity"',
        '"-Infinity"',
        '"inf"',
        '"0x10"',
        '"1_000"',
        '"1,5"',
        '"12ms"',
        '"+5"',
        '".5"',
        '"5."',
        '"012"',
        '"1 2"',
        '"1e"',
        '"--1"',
        '"\u0661\u0662"',
        '"1\\u0000"',
        '"\\t12"',
        "true",
        "false",
        "{}",
        '{"ms":12}',
        "[]",
        "[12]",
        '[{"a":[null]}]',
    ]
)

_TEXTS = st.one_of(
    st.text(max_size=30).map(_json),
    st.text(alphabet="abz019._-|, /\"'\\{}\x00\x1f\x7f\u00e4\u2028\u20ac\U0001f600", max_size=40).map(_json),
    st.sampled_from(
        [
            r'"\ud800"',
            r'"a\udfffb"',
            r'"\ud83d\ude00"',
            r'"\u0000"',
            r'"\u002d"',
            r'"\/"',
            '"\u00e4\u2028"',
            '"__unrouted__"',
            '"__overflow__"',
            "\"','taskid':'x\"",
            r'"\",\"taskid\":\"victim"',
        ]
    ),
    st.sampled_from([128, 129, 5000, 70_000]).map(lambda length: _json("x" * length)),
)

_CLUSTER_HOSTS = _evenly(
    st.builds(
        lambda service, namespace, rest: f"{service}.{namespace}{rest}",
        st.sampled_from(
            [
                "service-chat",
                "chat",
                "service-",
                "service-service-x",
                "ch at",
                "",
                "t" * 128,
                f"service-{'t' * 129}",
            ]
        ),
        st.sampled_from(["vision", "vision", "vi sion", "vi|sion", "\u00e4", "", "n" * 128, "n" * 129]),
        st.sampled_from([".svc.cluster.local", ".svc", "", "."]),
    ),
    st.sampled_from(["chat", "chat.", ".vision", "..", "", "-"]),
)

_CLUSTERS = _evenly(
    st.builds(
        lambda kind, port, subset, host: _json(f"{kind}|{port}|{subset}|{host}"),
        st.sampled_from(["outbound"] * 6 + ["inbound", "Outbound", ""]),
        st.sampled_from(["8080", "", "x"]),
        st.sampled_from(["", "v1", "-", "v 1", "\u00e4", "y" * 129]),
        _CLUSTER_HOSTS,
    ),
    st.sampled_from(
        ['"local_service"', '"a|b"', '"outbound|80||"', '"BlackHoleCluster"', '"Passthrough\\u0043luster"']
    ),
    st.integers(0, 40).map(lambda n: _json(cluster(task=f"task-{n:02d}"))),
    odd_names().map(_json),
)

_START_TIMES = st.one_of(
    st.datetimes().map(lambda moment: _json(moment.isoformat() + "Z")),
    st.datetimes().map(lambda moment: _json(moment.isoformat())),
    st.sampled_from(
        [
            "2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00.1Z",
            "2026-11-24T10:00:00.123456789Z",
            "2026-11-24T10:00:00.1234567890Z",
            "2026-11-24T10:00:00.Z",
            "2026-11-24T10:00:00+00:00",
            "2026-11-24T12:00:00.5+02:00",
            "2026-11-24T12:00:00+0200",
            "2026-11-24T12:00:00+02",
            "2026-11-24T04:30:00-05:30",
            "2026-11-24T10:00:00-00:00",
            "2026-11-24T10:00:00+99:00",
            "2026-11-24T10:00:00+01:60",
            "2026-11-24 10:00:00Z",
            "2026-11-24t10:00:00z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:00:60Z",
            "2026-02-29T10:00:00Z",
            "2028-02-29T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "2026-11-31T10:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:00:00Z",
            "2200-12-31T23:59:59.999999999Z",
            "2201-01-01T00:00:00Z",
            "+2026-11-24T10:00:00Z",
            " 2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00Z ",
            "1795514400",
        ]
    ).map(_json),
    st.sampled_from(["1795514400000", "1.7955144e12"]),
)

_FLAG_NAMES = [name for flag in RESPONSE_FLAGS for name in (flag.short, flag.long)]
_FLAGS = st.one_of(
    st.lists(st.sampled_from(["RL", "DC", "UF", "URX", "", "-", " UH ", "NEW_FLAG", "rl"]), max_size=6).map(
        lambda flags: _json(",".join(flags))
    ),
    st.lists(st.sampled_from(_FLAG_NAMES), min_size=1, max_size=2).map(lambda flags: _json(",".join(flags))),
    st.just(_json(",".join(f"F{n}" for n in range(200)))),
)

_LOG_TYPES = st.sampled_from(
    [
        *(
            '"DownstreamEnd"',
            '"DownstreamPeriodic"',
            '"UpstreamPeriodic"',
            '"TcpConnectionEnd"',
            '"TcpPeriodic"',
        ),
        *('"downstreamend"', "7", "{}"),
    ]
)

_SPECIAL: dict[str, st.SearchStrategy[str]] = {
    "start_time": _START_TIMES,
    "upstream_cluster": _CLUSTERS,
    "upstream_host": _evenly(
        *(_TEXTS, _TEXTS, odd_hosts().map(_json)),
        st.integers(1001, 1500).map(lambda length: _json("h" * length)),
    ),
    "response_flags": _FLAGS,
    "access_log_type": _LOG_TYPES,
    "response_code": st.one_of(
        st.integers(-1, 1000).map(str), st.integers(0, 1000).map(lambda code: f'"{code}"')
    ),
    "response_code_details": st.sampled_from(
        [
            '"local_rate_limited"',
            '"request_rate_limited"',
            '"rate_limited_by_quota"',
            '"rate_limiter_error"',
            '"Rate_Limited"',
            '"via_upstream"',
        ]
    ),
    "method": st.sampled_from(
        ['"GET"', '"CONNECT"', '"connect"', '"-"', '""', "null", "7", '"C\\u004fNNECT"']
    ),
    "protocol": st.sampled_from(['"HTTP/1.1"', '"-"', '""', "null", "{}"]),
    "grpc_status": st.one_of(
        st.integers(-2, 20).flatmap(
            lambda status: st.sampled_from([str(status), f'"{status}"', f"{status}.0"])
        ),
        st.sampled_from(
            [
                *('"OK"', '"Ok"', '"Unavailable"', '" Unavailable "', '"UNAVAILABLE"', '"unavailable"'),
                *('"Canceled"', '"CANCELLED"', '"DataLoss"', '"DATA_LOSS"', '"Data_Loss"', '"Teapot"'),
            ]
        ),
    ),
    "upstream_request_attempt_count": st.sampled_from(["0", "1", "2", '"3"', "1000000000", "1000000001"]),
    "request_id": st.sampled_from(
        ['"a"', '"b c"', '"\\u0061"', '"\\u00e4"', f'"{"x" * 128}"', f'"{"x" * 129}"', '"\\"q\\""', '"~!"']
    ),
    "traceparent": st.sampled_from(
        [
            f'"00-{"0" * 31}1-{"0" * 16}-01"',
            f'"00-{"0" * 32}-{"0" * 16}-01"',
            f'"00-{"A" * 32}-{"a" * 16}-01"',
            f'"0\\u0030-{"a" * 32}-{"a" * 16}-01"',
            f'"zz-{"b" * 32}-{"c" * 16}-01"',
            f'"00-{"b" * 32}-{"c" * 16}-01 "',
            "null",
        ]
    ),
}

_READ_KEYS = (
    "start_time",
    "duration",
    "upstream_cluster",
    "upstream_host",
    "response_code",
    "response_code_details",
    "response_flags",
    "upstream_service_time",
    "bytes_received",
    "bytes_sent",
    "access_log_type",
    "method",
    "protocol",
    "grpc_status",
    "response_duration",
    "upstream_request_attempt_count",
    "input_tokens",
    "output_tokens",
    "request_id",
    "traceparent",
    "taskid",
    "user_agent",
    "path",
)
"""The keys that make a row, and three that a client fills and that must change nothing."""


_NUMBER_KEYS = frozenset(ACCESS_LOG_NUMBERS)


_CODES_OF_TCP = st.sampled_from(["0", '"0"', "null", '"-"', "0", "200"])


def odd_values(key: str) -> st.SearchStrategy[str]:
    """JSON texts that may stand at `key`: half of them of its own kind, half that may fit no field."""
    spelt = st.one_of(_NUMBER_TEXTS, _NUMBER_TEXTS.map(lambda text: f'" {text} "'))
    own = _SPECIAL.get(key, spelt if key in _NUMBER_KEYS else _TEXTS)
    any_kind = (_UNKNOWN, spelt, _NOT_NUMBERS, _TEXTS)
    return _evenly(*any_kind, *([own] * len(any_kind)))


@st.composite
def _odd(draw: st.DrawFn) -> Pairs:
    pairs = dict(draw(_ordinary()))
    if draw(st.integers(0, 15)) == 0:  # a TCP connection, or nearly one
        pairs |= {"method": draw(_UNKNOWN), "protocol": draw(_UNKNOWN), "response_code": draw(_CODES_OF_TCP)}
    # Identity more often: it has the most odd forms.
    keys = st.sampled_from((*_READ_KEYS, *["upstream_cluster"] * 5))
    for key in draw(st.lists(keys, unique=True, min_size=1, max_size=4)):
        if draw(st.integers(0, 5)):
            pairs[key] = draw(odd_values(key))
        else:
            pairs.pop(key, None)
    line = list(pairs.items())
    if draw(st.integers(0, 3)) == 0:  # a repeated key
        key = draw(st.sampled_from(_READ_KEYS))
        line.append((key, draw(odd_values(key))))
    if draw(st.integers(0, 3)) == 0:  # keys that the format doesn't have
        line.append((draw(st.text(max_size=8)), draw(st.sampled_from(["1", '"x"', '{"deep":[[[{}]]]}']))))
    return draw(st.permutations(line)) if draw(st.booleans()) else line


def odd_lines() -> st.SearchStrategy[bytes]:
    """JSON objects with one to four odd values, absent keys, repeated keys, unknown keys, in any order."""
    return _odd().map(_line)


def broken_lines() -> st.SearchStrategy[bytes]:
    """What is no JSON object, or looks much like none."""
    whole = st.one_of(ordinary_lines(), odd_lines())
    return st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode()),
        st.builds(lambda line, cut: line[: cut % len(line)], whole, st.integers(0, 5000)),
        st.builds(lambda line, cut: line[cut % len(line) :], whole, st.integers(1, 5000)),
        st.builds(
            lambda line, end: line + end,
            whole,
            st.sampled_from([b"}", b" {}", b"x", b",", b"\x00", b"\n", b" "]),
        ),
        st.builds(
            lambda start, line: start + line,
            st.sampled_from([b"\xef\xbb\xbf", b"\x1e", b" \r\n\t", b"["]),
            whole,
        ),
        st.builds(
            lambda line, at, byte: line[: at % len(line)] + byte + line[at % len(line) :],
            whole,
            st.integers(0, 5000),
            st.sampled_from([b"\xff", b"\x00", b"\n", b"\xc0\xaf", b"\xed\xa0\x80", b'"']),
        ),
        st.builds(
            lambda line, text: line[:-1] + b',"duration":' + text + b"}",
            whole,
            st.sampled_from(
                [
                    b"-",
                    b" - ",
                    b"NaN",
                    b"Infinity",
                    b"-Infinity",
                    b"01",
                    b"+1",
                    b".5",
                    b"1.",
                    b"'1'",
                    b"",
                    b"nul",
                    b"0x1",
                ]
            ),
        ),
        st.sampled_from(
            [
                b"",
                b" ",
                b"\n",
                b"null",
                b"true",
                b"12",
                b'"text"',
                b"[]",
                b"[{}]",
                b"{}",
                b"{",
                b"}",
                b'{"a":1,}',
                b"{a:1}",
                b"// x\n{}",
                b"/**/{}",
                b"[" * 10_000,
                b'{"a":' * 10_000,
            ]
        ),
    )


@st.composite
def spaced_lines(draw: st.DrawFn) -> bytes:
    """The same JSON objects with white space between the parts: a fast reader's way to a slower one."""
    pairs = draw(st.one_of(_ordinary(), _odd()))
    gap = draw(st.sampled_from([" ", "  ", "\t", "\n", "\r\n"]))
    colon, comma = draw(st.sampled_from([(f":{gap}", f",{gap}"), (f"{gap}:", f"{gap},"), (":", f"{gap},")]))
    body = comma.join(f"{_json(key)}{colon}{text}" for key, text in pairs)
    return draw(st.sampled_from([f"{{{gap}{body}}}", f"{{{body}{gap}}}", f"{{{body}}}{gap}"])).encode()


def any_lines() -> st.SearchStrategy[bytes]:
    """Ordinary, odd and broken lines, more of the ones that count."""
    return _evenly(
        ordinary_lines(), odd_lines(), odd_lines(), odd_lines(), odd_lines(), spaced_lines(), broken_lines()
    )


@st.composite
def streams(
    draw: st.DrawFn, lines: st.SearchStrategy[bytes] | None = None, max_size: int = 30, partitions: int = 3
) -> list[RawLine]:
    """Lines with their places in Kafka, and a Kafka timestamp by which no ordinary line is in the future."""
    next_offset = [0] * partitions
    stream = []
    size = draw(st.integers(0, max_size))  # first, or most lists would be short
    for value in draw(st.lists(lines if lines is not None else any_lines(), min_size=size, max_size=size)):
        partition = draw(st.integers(0, partitions - 1))
        position = Position("gateway.access-logs", partition, next_offset[partition])
        next_offset[partition] += 1
        stream.append(RawLine(value, position, T0_MS + (SECONDS + 60) * 1000))
    return stream
