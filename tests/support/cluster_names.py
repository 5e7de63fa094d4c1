"""Names that gateways have for what they chose, with what each means by hand; and a strategy of odd ones."""

from __future__ import annotations

from hypothesis import strategies as st

Identity = tuple[str, str, str | None]

DEPARTMENTS = {"ns-9": "payments"}

SERVICES: tuple[tuple[str, Identity], ...] = (
    ("outbound|80|v2|service-chat.vision.svc.cluster.local", ("vision", "chat", "v2")),
    ("outbound|80||service-chat.vision.svc.cluster.local", ("vision", "chat", None)),
    ("outbound|80||chat.vision.svc", ("vision", "chat", None)),
    ("outbound|||chat.vision.svc", ("vision", "chat", None)),
    ("outbound|80||service-.vision.svc", ("vision", "service-", None)),
    ("outbound|80||service-service-a.vision.svc", ("vision", "service-a", None)),
    ("outbound|80||chat.ns-9.svc", ("payments", "chat", None)),
    ("outbound|80||chat.svc.svc.cluster.local", ("svc", "chat", None)),
    # With what Istio's statistics put after a name, and as an absolute name of the DNS.
    ("outbound|80|v2|service-chat.vision.svc.cluster.local;", ("vision", "chat", "v2")),
    ("outbound|8000||service-a21.bugs.svc.cluster.local.", ("bugs", "a21", None)),
    ("outbound|8000||service-a21.bugs.svc.cluster.local.;", ("bugs", "a21", None)),
    # Of another cluster of the mesh, and of one pod of a StatefulSet.
    ("outbound|8000||service-a21.bugs.svc.clusterset.local", ("bugs", "a21", None)),
    ("outbound|8000||a21-0.a21.bugs.svc.cluster.local", ("bugs", "a21", None)),
    # Between gateways of several networks, and at a waypoint, where the protocol stands before the subset.
    ("outbound_.8000_._.service-a21.bugs.svc.cluster.local", ("bugs", "a21", None)),
    ("outbound_.8000_.v1_.service-a21.bugs.svc.cluster.local", ("bugs", "a21", "v1")),
    ("inbound-vip|8000||chat.vision.svc.cluster.local", ("vision", "chat", None)),
    ("inbound-vip|8000|v2|chat.vision.svc.cluster.local", ("vision", "chat", "v2")),
    ("inbound-vip|8000|http|chat.vision.svc.cluster.local", ("vision", "chat", None)),
    ("inbound-vip|8000|http/v2|chat.vision.svc.cluster.local", ("vision", "chat", "v2")),
    ("inbound-vip|8000|tcp|chat.vision.svc.cluster.local", ("vision", "chat", None)),
)

POOLS: tuple[tuple[str, Identity], ...] = (
    ("outbound|54321||vllm-llama-ip-84240035.bugs.svc.cluster.local", ("bugs", "vllm-llama", None)),
    ("outbound|54321||service-a-ip-84240035.bugs.svc.cluster.local", ("bugs", "service-a", None)),
    ("outbound|80||-ip-84240035.bugs.svc", ("bugs", "-ip-84240035", None)),
    ("outbound|80||a-ip-8424003g.bugs.svc", ("bugs", "a-ip-8424003g", None)),
    ("outbound|80||a-ip-8424003.bugs.svc", ("bugs", "a-ip-8424003", None)),
)

EXTERNAL: tuple[tuple[str, Identity], ...] = (
    ("outbound|443||api.example.com", ("external", "api.example.com", None)),
    ("outbound|443||api.example.org", ("external", "api.example.org", None)),
    ("outbound|443|v1|sts.amazonaws.com", ("external", "sts.amazonaws.com", "v1")),
    ("outbound|443||api.example.com.", ("external", "api.example.com", None)),
    ("outbound|80||10.0.0.1", ("external", "10.0.0.1", None)),
    ("outbound|80||2001:db8::1", ("external", "__overflow__", None)),
    ("outbound|443||*.example.com", ("external", "__overflow__", None)),
    ("outbound|80||chat", ("external", "chat", None)),
    ("outbound|80||chat.vision", ("external", "chat.vision", None)),
    ("outbound|80||.vision.svc", ("external", ".vision.svc", None)),
    ("outbound|80||chat..svc", ("external", "chat..svc", None)),
    ("outbound|80||a.b.chat.vision.svc", ("external", "a.b.chat.vision.svc", None)),
    ("inbound-vip|443|http|api.example.com", ("external", "api.example.com", None)),
)

ROUTES: tuple[tuple[str, Identity], ...] = (
    ("httproute/models/chat/rule/0", ("models", "chat", None)),
    ("httproute/models/ocr/rule/0", ("models", "ocr", None)),
    ("httproute/models/chat/rule/3/backend/1", ("models", "chat", None)),
    ("httproute/ns-9/chat/rule/0/match/0/chat_example_com", ("payments", "chat", None)),
    ("grpcroute/models/asr/rule/0", ("models", "asr", None)),
    ("tcproute/models/asr/rule/-1", ("models", "asr", None)),
    ("httproute/models/service-chat/rule/0", ("models", "service-chat", None)),
    ("httproute/models/chat", ("default", "httproute.models.chat", None)),
    ("httproute/models/chat/rule/", ("default", "httproute.models.chat.rule.", None)),
    ("httproute//chat/rule/0", ("default", "httproute..chat.rule.0", None)),
    ("securitypolicy/models/auth/0", ("default", "securitypolicy.models.auth.0", None)),
)

UNROUTED: tuple[tuple[str, Identity], ...] = (
    ("PassthroughCluster", ("__unrouted__", "PassthroughCluster", None)),
    ("PassthroughCluster;", ("__unrouted__", "PassthroughCluster", None)),
    ("BlackHoleCluster", ("__unrouted__", "BlackHoleCluster", None)),
    ("InboundPassthroughCluster", ("__unrouted__", "InboundPassthroughCluster", None)),
    ("InboundPassthroughClusterIpv4", ("__unrouted__", "InboundPassthroughClusterIpv4", None)),
    ("MyPassthroughCluster", ("default", "MyPassthroughCluster", None)),
)

OTHERS: tuple[tuple[str, Identity], ...] = (
    ("outbound|80||ch at.vision.svc", ("vision", "__overflow__", None)),
    ("outbound|80||chat.vis:ion.svc", ("__overflow__", "chat", None)),
    ("outbound|80||chat.vis/ion.svc", ("vis.ion", "chat", None)),
    ("outbound|80|v 2|chat.vision.svc", ("vision", "chat", "__overflow__")),
    (f"outbound|80||{'a' * 128}.vision.svc", ("vision", "a" * 128, None)),
    (f"outbound|80||{'a' * 129}.vision.svc", ("vision", "__overflow__", None)),
    (f"outbound|80||service-{'a' * 128}.vision.svc", ("vision", "a" * 128, None)),
    ("outbound|80||", ("default", "outbound.80..", None)),
    ("outbound|80||.", ("default", "outbound.80...", None)),
    ("outbound|80|chat.vision", ("default", "outbound.80.chat.vision", None)),
    ("outbound|80||chat.vision.svc|more", ("default", "outbound.80..chat.vision.svc.more", None)),
    ("OUTBOUND|80||chat.vision.svc", ("default", "OUTBOUND.80..chat.vision.svc", None)),
    ("inbound|8080||", ("default", "inbound.8080..", None)),
    ("local_service", ("default", "local_service", None)),
    ("service-chat", ("default", "service-chat", None)),
    ("chat.vision.svc", ("default", "chat.vision.svc", None)),
    ("models/chat", ("default", "models.chat", None)),
    ("ch\u00e4t", ("default", "__overflow__", None)),
    ("chat\n", ("default", "__overflow__", None)),
    (";", ("default", "__overflow__", None)),
)

ALL = SERVICES + POOLS + EXTERNAL + ROUTES + UNROUTED + OTHERS

_LABELS = st.sampled_from(
    [
        *("chat", "service-chat", "service-", "a-ip-0123abcd", "service-b-ip-89abcdef", "-ip-01234567"),
        *("a-ip-0123ABCD", "vision", "models", "ns-9", "svc", "cluster", "local", "", "-", "10", "*"),
        *("v1", "http/v1", "http", "tcp", "internal", "httproute", "grpcroute", "rule", "0"),
        *("ch at", "\u00e4", "\U0001f600", "\n", "n" * 128, "n" * 129),
    ]
)
_HEADS = st.sampled_from(
    [
        *(
            "outbound|80||",
            "outbound|80|v2|",
            "outbound|",
            "Outbound|80||",
            "inbound|80||",
            "inbound-vip|80|http|",
        ),
        *("outbound_.80_.v2_.", "outbound_.80_._.", "outbound_.", "inbound-vip_.80_.tcp/v1_."),
        *("httproute/", "grpcroute/", "udproute/", ""),
        *("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"),
    ]
)
_ENDS = st.sampled_from(
    ["", "", "", ";", ".", ".;", ";;", "\n", "/rule/0", "/rule/1/backend/0", ".svc.cluster.local"]
)


def _joined(separators: list[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda labels, separator: separator.join(labels),
        st.lists(_LABELS, min_size=1, max_size=7),
        st.sampled_from(separators),
    )


def odd_names() -> st.SearchStrategy[str]:
    """Texts near every form of a name: heads, labels and ends of all of them, joined by any of their separators."""
    return st.one_of(
        st.builds(lambda *parts: "".join(parts), _HEADS, _joined([".", ".", "/", "|", "_."]), _ENDS),
        st.sampled_from([name for name, _ in ALL]),
        st.text(alphabet="abc|._/;-:svc \u00e4\U0001f600", max_size=40),
    )


HOSTS: tuple[tuple[str, str], ...] = (
    ("10.0.0.1:8080", "10.0.0.1:8080"),
    ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ("chat-0", "chat-0"),
    ("envoy://connect_originate/10.0.0.1:8080", "10.0.0.1:8080"),
    ("envoy://connect_originate/[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ("envoy://inner_connect_originate/envoy://connect_originate/10.0.0.1:8080", "10.0.0.1:8080"),
    ("envoy://internal_client_address/", "envoy://internal_client_address/"),
    ("envoy://connect_originate", "envoy://connect_originate"),
    ("envoy:///10.0.0.1:8080", "10.0.0.1:8080"),
    ("/var/run/model.sock", "/var/run/model.sock"),
)
"""`upstream_host` as Envoy writes it, and the replica."""


def odd_hosts() -> st.SearchStrategy[str]:
    """Texts near every form of a host."""
    pieces = st.sampled_from(
        ["envoy://", "connect_originate", "/", "10.0.0.1:80", "[::1]:80", ":", "\u00e4", " "]
    )
    return st.one_of(st.lists(pieces, max_size=7).map("".join), st.sampled_from([host for host, _ in HOSTS]))
