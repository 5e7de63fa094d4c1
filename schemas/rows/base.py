"""What rows have in common: their base, types of values, and the histogram.

The description of a field is its contract; its name holds its unit.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.schemas.index_hints import IndexAs

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Ms = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Base of every row: immutable, and no field that the contract doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Histogram(Row):
    """OpenTelemetry's base-2 exponential histogram of latencies, in ms.

    At scale 5 the base is 2^(1/32), and bucket `i` holds values in (base^i, base^(i+1)].
    `zero` counts the requests of 0 ms.
    """

    scale: Literal[5] = 5
    zero: Count = 0
    # Not searchable: as `flattened` it costs a quarter of the indexing speed, and its values can't be summed.
    buckets: Annotated[dict[str, Annotated[int, Field(gt=0)]], IndexAs("stored")] = Field(
        default_factory=dict
    )
