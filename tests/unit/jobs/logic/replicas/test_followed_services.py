"""Which tasks are followed while slices and namespaces come and go."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.jobs.logic.identity import Identity, of_service
from tidegate.jobs.logic.replicas.followed_services import Absent, Followed, FollowedServices
from tidegate.jobs.logic.replicas.label_selectors import LabelSelector
from tidegate.jobs.logic.replicas.ready_sets import Endpoint, Slice, replicas_of
from tidegate.schemas.settings import AccessLog

CHAT = Identity("vision", "chat")


def book(selector: str = "", **departments: str) -> FollowedServices:
    made = FollowedServices(
        partial(of_service, settings=AccessLog(departments=departments)), LabelSelector.parse(selector)
    )
    made.follow_namespaces(None)
    return made


def one(service: str, *pods: str, namespace: str = "vision", **labels: str) -> Slice:
    endpoints = tuple(Endpoint(pod, f"{namespace}/{pod}", "10.1.0.1", "10.1.0.1:80", "ready") for pod in pods)
    return Slice(namespace, service, "IPv4", endpoints, labels)


def names(found: Followed | Absent) -> list[str]:
    assert isinstance(found, Followed)
    return [replica.name for replica in replicas_of(found.slices)]


def test_a_task_is_all_slices_of_its_service() -> None:
    services = book()
    assert services.put_slice("vision/1", one("service-chat", "a")) == {CHAT}
    assert services.put_slice("vision/2", one("service-chat", "b")) == {CHAT}
    assert names(services.look(CHAT)) == ["a", "b"]
    services.put_slice("vision/1", None)
    assert names(services.look(CHAT)) == ["b"]
    services.put_slice("vision/2", None)
    assert services.look(CHAT) is Absent.DELETED
    assert list(services.identities()) == []


def test_services_that_fold_to_one_task_are_one_set_with_each_pod_once() -> None:
    services = book()
    services.put_slice("vision/1", one("service-chat", "a", "b"))
    services.put_slice("vision/2", one("chat", "b", "c"))
    found = services.look(CHAT)
    assert names(found) == ["a", "b", "c"]
    assert isinstance(found, Followed)
    assert found.workload == "vision/chat"


def test_pods_of_one_name_in_two_namespaces_of_a_department_are_two() -> None:
    services = book(**{"vision-a": "vision", "vision-b": "vision"})
    services.put_slice("vision-a/1", one("service-chat", "chat-0", namespace="vision-a"))
    services.put_slice("vision-b/1", one("service-chat", "chat-0", namespace="vision-b"))
    assert names(services.look(CHAT)) == ["chat-0", "chat-0"]


def test_a_slice_that_moves_to_another_service_changes_both() -> None:
    services = book()
    services.put_slice("vision/1", one("service-chat", "a"))
    assert services.put_slice("vision/1", one("service-embed", "a")) == {CHAT, Identity("vision", "embed")}
    assert services.look(CHAT) is Absent.DELETED


def test_what_a_new_list_lacks_is_deleted() -> None:
    services = book()
    services.replace_slices({"vision/1": one("service-chat", "a"), "vision/2": one("service-embed", "e")})
    touched = services.replace_slices({"vision/2": one("service-embed", "e")})
    assert CHAT in touched
    assert services.look(CHAT) is Absent.DELETED


def test_a_namespace_that_is_not_followed_is_left_out_and_not_deleted() -> None:
    services = book()
    services.put_slice("vision/1", one("service-chat", "a"))
    assert services.follow_namespaces({"search"}) == {CHAT}
    assert services.look(CHAT) is Absent.LEFT_OUT
    assert services.follow_namespaces({"search", "other"}) == set()
    assert services.follow_namespaces({"search", "vision"}) == {CHAT}
    assert names(services.look(CHAT)) == ["a"]


def test_one_slice_that_is_selected_takes_the_whole_service_in() -> None:
    services = book("tier=inference")
    services.put_slice("vision/1", one("service-chat", "a", tier="inference"))
    services.put_slice("vision/2", one("service-chat", "b"))
    assert names(services.look(CHAT)) == ["a", "b"]
    services.put_slice("vision/1", one("service-chat", "a"))
    assert services.look(CHAT) is Absent.LEFT_OUT


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["vision/1", "vision/2", "search/1"]),
            st.none()
            | st.tuples(st.sampled_from(["service-chat", "chat", "embed"]), st.sets(st.sampled_from("abc"))),
        ),
        max_size=20,
    )
)
def test_changes_one_by_one_come_to_what_a_list_of_all_says(
    steps: list[tuple[str, tuple[str, set[str]] | None]],
) -> None:
    changed, state = book(), {}
    for name, content in steps:
        namespace = name.partition("/")[0]
        state[name] = None if content is None else one(content[0], *sorted(content[1]), namespace=namespace)
        changed.put_slice(name, state[name])
    listed = book()
    listed.replace_slices({name: content for name, content in state.items() if content is not None})
    assert set(changed.identities()) == set(listed.identities())
    for identity in listed.identities():
        assert changed.look(identity) == listed.look(identity)


@pytest.mark.parametrize(
    ("text", "labels", "wanted"),
    [
        ("", {}, True),
        (" ", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a = 1 , b=2", {"a": "1", "b": "2"}, True),
        ("a=1,b=2", {"a": "1"}, False),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (1, 2)", {"a": "2"}, True),
        ("a in (1,2),b", {"a": "2"}, False),
        ("a notin (1,2)", {"a": "1"}, False),
        ("a notin (1,2)", {}, True),
        ("a", {"a": ""}, True),
        ("a=", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("!a", {}, True),
        ("example.com/a=1", {"example.com/a": "1"}, True),
        ("in=1", {"in": "1"}, True),
    ],
)
def test_a_label_selector_means_what_kubernetes_means(
    text: str, labels: dict[str, str], wanted: bool
) -> None:
    assert LabelSelector.parse(text).matches(labels) is wanted


@pytest.mark.parametrize(
    "text", ["a b", "=1", "a=1,", ",", "!a=1", "a in 1", "a in (1", "a>1", "-a", "a=b c", "!a in (1)"]
)
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid label selector"):
        LabelSelector.parse(text)
