"""The place of a rebuild: index names beside those in service, a template for them, and the swap of names.

The template marks a running or interrupted rebuild: it names the rebuild, and the indices whose writes it blocks. A new
rebuild takes over from an interrupted one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, NotFoundError
from elasticsearch import Elasticsearch as Client

from tidegate.adapters.indexing.family import FamilyIndex, family
from tidegate.adapters.indexing.reindexing.compare import Comparison
from tidegate.adapters.indexing.templates import detect_features
from tidegate.schemas.elasticsearch import IndexContract, index_template
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.timestamps import to_epoch_ms

logger = logging.getLogger(__name__)

_WORD = "rebuilt"


class TakenOver(Exception):
    """Another rebuild of the same topic has started, and removed what this one had built."""


def unfinished(client: Client, index_prefix: str) -> dict[str, list[str]]:
    """Rebuilds that run or were killed: by topic, the indices that take no writes because of it.

    Raises ApiError, TransportError.
    """
    try:
        found = client.indices.get_index_template(name=f"{index_prefix}{_WORD}-*")["index_templates"]
    except NotFoundError:
        return {}
    metas = [one["index_template"].get("_meta", {}) for one in found]
    return {one["topic"]: list(one.get("blocked", ())) for one in metas if "rebuild" in one}


class BuildingPlace:
    """Beside the indices of one topic. `begin` makes it, `leave` clears it."""

    def __init__(self, client: Client, contract: IndexContract, elasticsearch: Elasticsearch) -> None:
        self._client = client
        self._contract = contract
        self._in_service = elasticsearch
        self._mark = f"{datetime.now(UTC):%Y%m%d%H%M%S}-{uuid.uuid4().hex[:4]}"
        self._template = f"{elasticsearch.index_prefix}{_WORD}-{contract.alias('')}"
        self._blocked: list[str] = []
        self._unsure = False
        """Whether the names may be changing hands just now, without our knowing."""
        self._features = detect_features(client)

    @property
    def index_prefix(self) -> str:
        """Of the new indices, instead of `elasticsearch.index_prefix`."""
        return f"{self._in_service.index_prefix}{_WORD}-{self._mark}-"

    @classmethod
    def begin(cls, client: Client, contract: IndexContract, elasticsearch: Elasticsearch) -> BuildingPlace:
        """Take over from an interrupted rebuild, and put the template. Raises ApiError, TransportError."""
        place = cls(client, contract, elasticsearch)
        place._unblock(place._rebuild_meta().get("blocked", []))
        place._put_template()
        place._remove_built("*")
        return place

    def check(self) -> None:
        """Raises TakenOver where another rebuild has begun."""
        if self._rebuild_meta().get("rebuild") != self._mark:
            raise TakenOver(
                f"another `tidegate reindex {self._contract.topic.name}` has begun since, and continues in its place"
            )

    def built(self) -> dict[str, FamilyIndex]:
        """The new indices, by the name in service that each is for."""
        return {
            self._contract.index(self._in_service.index_prefix, index.day): index
            for index in family(self._client, self._contract, self.index_prefix)
        }

    def block(self, names: Sequence[str]) -> None:
        """These indices in service take no writes until `leave`. No write is under way once this returns.

        Indices that were blocked before are left alone. Raises TakenOver.
        """
        free = [name for name in names if not self._takes_no_writes(name)]
        if not free:
            return
        self.check()
        self._blocked = sorted({*self._blocked, *free})
        self._put_template()
        for name in free:
            self._client.indices.add_block(index=name, block="write")

    def change_hands(self, chosen: Sequence[Comparison]) -> bool:
        """The new indices get the names of the old ones, which are deleted: all of it at once, or nothing.

        False where one of the names has come to be another index meanwhile.
        """
        self.check()
        actions: list[dict[str, Any]] = []
        for one in chosen:
            if one.new is not None:
                ready = self.ready_settings(one.new)
                self._client.indices.put_settings(index=one.new.name, settings={"index": ready})
                actions += self._actions(one.target, one.old, one.new)
        if not actions:
            return True
        self._unsure = True
        try:
            self._client.indices.update_aliases(actions=actions)
        except BadRequestError as error:
            self._unsure = False
            if "invalid_alias_name" in error.message:
                return False
            raise
        except ApiError as error:
            self._unsure = error.status_code >= 500
            raise
        self._unsure = False
        return True

    def leave(self) -> None:
        """Old indices that are left take writes again; what was built and isn't in service is removed."""
        try:
            self._unblock(self._blocked)
            if self._rebuild_meta().get("rebuild") == self._mark and not self._unsure:
                self._remove_built(self._mark)
                self._client.options(ignore_status=404).indices.delete_index_template(name=self._template)
        except (ApiError, TransportError) as error:
            logger.warning(
                "%s can't be cleared away (%s); `tidegate reindex %s` does it when it begins",
                self._template,
                error,
                self._contract.topic.name,
            )

    def _actions(
        self, target: str, old: FamilyIndex | None, new: FamilyIndex
    ) -> list[dict[str, dict[str, str]]]:
        found = [] if old is None else [{"remove_index": {"index": old.name}}]
        found.append({"add": {"index": new.name, "alias": target}})
        if self._contract.time_field is not None:
            beside = self._contract.alias(self.index_prefix)
            alias = self._contract.alias(self._in_service.index_prefix)
            found.append({"remove": {"index": new.name, "alias": beside}})
            found.append({"add": {"index": new.name, "alias": alias}})
        return found

    def ready_settings(self, index: FamilyIndex) -> dict[str, Any]:
        """Of a new index before it is in service: refreshed by its template, and as old as its day."""
        template = self._body()["template"]["settings"]["index"]
        ready: dict[str, Any] = {"refresh_interval": template.get("refresh_interval")}
        if self._features.lifecycle and index.day is not None:
            ready["lifecycle.origination_date"] = to_epoch_ms(datetime.combine(index.day, time(), UTC))
        return ready

    def _body(self) -> dict[str, Any]:
        """The template of the new indices, as of those in service."""
        beside = self._in_service.model_copy(update={"index_prefix": self.index_prefix})
        body = index_template(self._contract, beside, self._features)
        ours = body["template"]["settings"]["index"]
        if "lifecycle" in ours:
            ours["lifecycle"] = {"name": self._contract.alias(self._in_service.index_prefix)}
        return body

    def _put_template(self) -> None:
        body = self._body()
        body["_meta"] |= {"rebuild": self._mark, "blocked": self._blocked}
        body["template"]["settings"]["index"]["refresh_interval"] = "-1"
        self._client.indices.put_index_template(name=self._template, body=body)

    def _rebuild_meta(self) -> dict[str, Any]:
        """The template's metadata of its rebuild."""
        try:
            found = self._client.indices.get_index_template(name=self._template)["index_templates"]
        except NotFoundError:
            return {}
        return dict(found[0]["index_template"].get("_meta", {}))

    def _remove_built(self, mark: str) -> None:
        """Indices that were built under this mark (a wildcard: any) and are not in service."""
        prefix = self._in_service.index_prefix
        beside = self._contract.pattern(f"{prefix}{_WORD}-{mark}-")
        built = set(self._client.indices.get_alias(index=beside, ignore_unavailable=True).body)
        for name in built - {index.name for index in family(self._client, self._contract, prefix)}:
            self._client.indices.delete(index=name, ignore_unavailable=True)

    def _takes_no_writes(self, name: str) -> bool:
        found = self._client.indices.get_settings(index=name, flat_settings=True)[name]["settings"]
        return str(found.get("index.blocks.write", "false")) == "true"

    def _unblock(self, names: Sequence[str]) -> None:
        for name in names:
            self._client.options(ignore_status=404).indices.put_settings(
                index=name, settings={"index.blocks.write": None}
            )
