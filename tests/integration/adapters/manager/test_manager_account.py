"""What the K8S manager may do by its account, and where its gateways come from."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from tests.support.kubernetes_accounts import RESOURCES, VERBS, namespaces
from tests.support.kubernetes_api import KubernetesApi
from tests.support.manager import LIMIT, manager
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.settings import Kafka


def test_the_managers_account_is_enough_for_it_and_may_nothing_else(
    tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi
) -> None:
    namespaces(kubernetes_api, "tidegate", "istio-ingress", "vision")
    kubernetes_api.apply(Path("deploy/kubernetes/manager-rbac.yaml"))
    account = ("tidegate", "tidegate-manager")
    task = f"t{uuid.uuid4().hex[:8]}"
    with manager(tmp_path, kafka, kubernetes_api, kubernetes_api.settings_as(*account)) as one:
        managed = one.managed("vision", "istio-ingress")
        path = f"/v1/tasks/vision/{task}"
        for revision in (1, 2):
            limit_path = managed.limit_path.replace("/chat/", f"/{task}/")
            body = LIMIT | {"revision": int(time.time() * 1000) + revision, "route": task}
            assert managed.put(limit_path, body, "controller").status_code == 200
            for aspect, setting in (
                ("gateway", {"gateway": managed.gateway}),
                ("versions", {"versions": [{"name": f"v{revision}", "weight": 100}]}),
                ("circuit-breaker", {"connection_pool": {"max_requests": revision}}),
            ):
                answer = managed.put(f"{path}/{aspect}", setting | {"revision": revision})
                assert answer.status_code == 200, answer.text
        elsewhere = kubernetes_api.new_namespace()
        forbidden = managed.put(
            f"/v1/tasks/{elsewhere}/chat/gateway", {"revision": 1, "gateway": managed.gateway}
        )
        assert forbidden.status_code == 502
        assert "give this account the rights of deploy/kubernetes" in forbidden.json()["reason"]
    mine = kubernetes_api.client_as(*account)
    allowed_in = {
        "istio-ingress": {"envoyfilters"},
        "vision": {"virtualservices", "destinationrules"},
        elsewhere: set(),
    }
    for namespace, allowed in allowed_in.items():
        for verb in VERBS:
            for group, resource in RESOURCES:
                may = kubernetes_api.allowed(mine, verb, group, resource, namespace)
                assert may is (resource in allowed and verb in ("get", "create", "patch")), (
                    namespace,
                    verb,
                    resource,
                )


def test_gateways_come_from_the_catalogs_topic_where_there_is_no_file(
    tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi
) -> None:
    from confluent_kafka import Producer

    from tidegate.adapters.manager.serve import gateways_of
    from tidegate.jobs.logic.catalog_rows import rows_of
    from tidegate.schemas.catalog import parse
    from tidegate.schemas.settings import Settings
    from tidegate.schemas.timestamps import from_epoch_ms
    from tidegate.schemas.topics import TASKS

    ensure_topics(kafka, [TASKS])
    producer = Producer(kafka.client_config())
    with gateways_of(Settings(kafka=kafka)) as gateways:
        assert gateways() == {}
        text = """
        gateways: {edge: {namespace: here}}
        departments: {vision: {gateway: edge, tasks: {chat: {qps_per_replica: 5}}}}
        """
        for row in rows_of(parse(text, "catalog"), from_epoch_ms(0)):
            producer.produce(kafka.topic(TASKS), row.model_dump_json(), row.id)
        producer.produce(kafka.topic(TASKS), b"no row", b"vision/broken")
        producer.flush(30)
        until(lambda: "edge" in gateways())
        assert gateways()["edge"].namespace == "here"
