"""The target kubernetes: one EnvoyFilter for each gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from tidegate.adapters.kubernetes.envoy_filters import EnvoyFilters
from tidegate.adapters.kubernetes.errors import ApiFailed
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.adapters.limiting.targets.base import Refused, TargetFailed
from tidegate.jobs.logic.istio.rate_limits import GatewayPlace
from tidegate.jobs.logic.limits.envoy_limits import ENVOYS_DEFAULTS_BUT_GRPC, Limit, LimitedAnswer, TaskKey
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings.limits import Kubernetes


class KubernetesTarget:
    """EnvoyFilters by gateway. gateways: of the catalog; `use_gateways` replaces them."""

    name = "kubernetes"

    def __init__(
        self,
        settings: Kubernetes,
        gateways: Mapping[str, Gateway],
        answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC,
    ) -> None:
        """Raises KubernetesUnknown if no access to the API server is configured."""
        self._filters = EnvoyFilters(KubernetesObjects(settings), answer)
        self._gateways = dict(gateways)

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Use these gateways from now on."""
        self._gateways = dict(gateways)

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits of the gateway's EnvoyFilter; none if it doesn't exist. Raises TargetFailed."""
        place = self._place(gateway)
        with _failures():
            return self._filters.read(place)

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Write these limits into the gateway's EnvoyFilter, unless it has all of them already.

        Raises TargetFailed.
        """
        place = self._place(gateway)
        with _failures():
            written = self._filters.change(place, limits)
        return {key: Refused(why.reason, why.revision) for key, why in written.refused.items()}

    def _place(self, gateway: str) -> GatewayPlace:
        try:
            known = self._gateways[gateway]
        except KeyError:
            raise TargetFailed(f"gateway {gateway!r} is not in the task catalog; add it there") from None
        return GatewayPlace.of(gateway, known)


@contextmanager
def _failures() -> Iterator[None]:
    """The API server's failures as the target's."""
    try:
        yield
    except ApiFailed as error:
        raise TargetFailed(str(error), error.retry_after_seconds) from error
