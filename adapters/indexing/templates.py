"""Index templates in Elasticsearch: the server's features, the installed versions, and updates."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from elasticsearch import ApiError, BadRequestError, NotFoundError
from elasticsearch import Elasticsearch as Client

from tidegate.schemas.elasticsearch import (
    TEMPLATE_VERSION,
    Features,
    IndexContract,
    index_template,
    kept_days,
    lifecycle_policy,
    mappings,
)
from tidegate.schemas.settings import Elasticsearch

logger = logging.getLogger(__name__)

TemplateState = Literal["missing", "older", "current", "newer"]


@dataclass(frozen=True)
class InstalledTemplate:
    """One topic's installed template. `version` is None without one."""

    name: str
    version: int | None

    @property
    def state(self) -> TemplateState:
        """The installed version compared to this release's."""
        if self.version is None:
            return "missing"
        if self.version < TEMPLATE_VERSION:
            return "older"
        return "current" if self.version == TEMPLATE_VERSION else "newer"


def supports(client: Client, field_type: str) -> bool:
    """Whether the server has this field type, by simulating a template that uses it."""
    try:
        client.indices.simulate_template(
            index_patterns="tidegate-probe-*",
            template={"mappings": {"properties": {"probe": {"type": field_type}}}},
        )
    except BadRequestError:
        return False
    return True


def detect_features(client: Client) -> Features:
    """The optional features of this server."""
    return Features(flattened=supports(client, "flattened"), lifecycle=_has_lifecycle(client))


def _has_lifecycle(client: Client) -> bool:
    """Whether the server deletes old indices itself (ILM)."""
    try:
        client.ilm.get_status()
    except ApiError as error:
        if error.status_code in (400, 403, 404, 405):  # it has no such address, or this user none
            return False
        raise
    return True


def find_template(client: Client, contract: IndexContract, index_prefix: str) -> InstalledTemplate:
    """One topic's template as it is installed now."""
    name = contract.alias(index_prefix)
    try:
        found = client.indices.get_index_template(name=name)["index_templates"]
    except NotFoundError:
        return InstalledTemplate(name, None)
    return InstalledTemplate(name, int(found[0]["index_template"].get("version", 0)))


def install_templates(
    client: Client, elasticsearch: Elasticsearch, contracts: Iterable[IndexContract]
) -> list[InstalledTemplate]:
    """Install each topic's template, and return what was there before.

    A newer version's template stays: the instance that wrote it runs beside us during an upgrade. Where ours
    is newer, indices that exist learn of the new fields.
    Raises ApiError and TransportError as the client does.
    """
    features, days = detect_features(client), kept_days(elasticsearch.keep_days)
    found = []
    for contract in contracts:
        before = find_template(client, contract, elasticsearch.index_prefix)
        found.append(before)
        if before.state == "newer":
            logger.warning(
                "template %s has version %s, newer than ours (%s): left as it is",
                before.name,
                before.version,
                TEMPLATE_VERSION,
            )
            continue
        if features.lifecycle and contract.time_field is not None:
            client.ilm.put_lifecycle(name=before.name, policy=lifecycle_policy(days[contract.topic.name]))
        client.indices.put_index_template(
            name=before.name, body=index_template(contract, elasticsearch, features)
        )
        if before.state == "older":
            _extend_indices(client, contract, elasticsearch.index_prefix, features)
    return found


def _extend_indices(client: Client, contract: IndexContract, index_prefix: str, features: Features) -> None:
    pattern = contract.pattern(index_prefix)
    try:
        client.indices.put_mapping(
            index=pattern, allow_no_indices=True, ignore_unavailable=True, **mappings(contract, features)
        )
    except ApiError as error:
        logger.warning(
            "indices %s keep their old fields (%s); the new ones begin with the next index", pattern, error
        )
