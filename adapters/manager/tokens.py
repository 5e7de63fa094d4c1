"""Who may ask the manager for what: bearer tokens and their roles, from a file that is read anew when it changes.

    - name: limit-controller
      token_sha256: 5e88…            # of the token; the token itself stands nowhere
      roles: [read, limit]

A changed file that is wrong changes nothing: the last good one stays, and the log says why.
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
    """One who has a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^\S.{0,127}$")]
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$", repr=False)]
    roles: frozenset[Role] = Field(min_length=1)


_CALLERS = TypeAdapter(list[Caller])


class Tokens:
    """The callers of a file."""

    def __init__(self, path: Path | None) -> None:
        """Raises SettingsError when there is no good file: nobody could be let in."""
        if path is None:
            raise SettingsError(
                "manager.tokens_file: not set; the manager lets in nobody without it. Write a YAML list of "
                "{name, token_sha256, roles: [read, limit, route]}"
            )
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._callers: Sequence[Caller] = self._load()

    def who(self, token: str) -> Caller | None:
        """Whose token this is; None where it is nobody's."""
        self._look()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        # All are compared, in the same time whether one fits or not.
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
                log.error("the tokens file is refused, the last good one stays: %s", error)
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
            # YAML's message quotes the line, and so perhaps what is secret.
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
                f"{where}: {', '.join(twice)} stands twice; the audit couldn't tell them apart"
            )
        if not callers:
            raise SettingsError(f"{where}: empty; the manager would let in nobody")
        return callers
