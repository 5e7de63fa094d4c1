"""The manager's callers: bearer tokens and their roles, from a file that is reloaded when it changes.

    - name: limit-controller
      token_sha256: 5e88…            # of the token; the token itself is stored nowhere
      roles: [read, limit]

A changed file that is not valid has no effect: the last valid one stays, and the log gives the reason.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tidegate.schemas.settings import SettingsError

log = logging.getLogger(__name__)

Role = Literal["read", "limit", "route"]


class Caller(BaseModel):
    """A caller, identified by a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^\S.{0,127}$")]
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$", repr=False)]
    roles: frozenset[Role] = Field(min_length=1)


_CALLERS = TypeAdapter(list[Caller])


class Tokens:
    """The callers in a tokens file."""

    def __init__(self, path: Path | None) -> None:
        """Raises SettingsError without a valid file: every request would be rejected."""
        if path is None:
            raise SettingsError(
                "manager.tokens_file: not set, and without it the manager rejects every request. Set it to a YAML list "
                "of {name, token_sha256, roles: [read, limit, route]}"
            )
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._callers: Sequence[Caller] = self._load()

    def caller_of(self, token: str) -> Caller | None:
        """The caller with this token; None for an unknown token."""
        self._look()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        # All are compared, so that the time does not depend on a match.
        for caller in self._callers:
            if hmac.compare_digest(digest, caller.token_sha256.lower()):
                found = caller
        return found

    def _look(self) -> None:
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._callers = self._load()
            except SettingsError as error:
                log.error(
                    "the changed tokens file is not valid, so the last valid one stays in use: %s", error
                )
            else:
                log.info("%s: %d callers", self._path, len(self._callers))

    def _stamp(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _load(self) -> list[Caller]:
        where = f"manager.tokens_file: {self._path}"
        try:
            written = yaml.safe_load(self._path.read_text(encoding="utf-8"))
            callers = _CALLERS.validate_python(written)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{where}: can't be read: {error}") from error
        except yaml.YAMLError as error:
            # YAML's message quotes the line, which may hold a secret.
            mark = getattr(error, "problem_mark", None)
            raise SettingsError(f"{where}: not YAML{f', line {mark.line + 1}' if mark else ''}") from None
        except ValidationError as error:
            lines = [
                f"{where}: {'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            ]
            raise SettingsError("\n".join(lines)) from None
        names = [caller.name for caller in callers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError(
                f"{where}: {', '.join(twice)} is given twice; give each caller its own name, which the audit records"
            )
        if not callers:
            raise SettingsError(f"{where}: empty, so the manager would reject every request; add a caller")
        return callers
