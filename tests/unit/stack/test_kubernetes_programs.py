"""Where the API server's programs come from, and what is said when they can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.stack.errors import PartMissing
from tidegate.stack.kubernetes_programs import ASSETS_VARIABLE, etcd, kube_apiserver


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program in the cache, no folder that is set, and no Go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(ASSETS_VARIABLE, raising=False)


def test_the_folder_that_is_set_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").write_text("#!/bin/sh\n")
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
    assert etcd() == tmp_path / "etcd"
    with pytest.raises(PartMissing, match="no program kube-apiserver"):
        kube_apiserver()


def test_without_go_it_says_what_to_do() -> None:
    with pytest.raises(PartMissing, match=r"set KUBEBUILDER_ASSETS to a folder that has it, or install Go"):
        kube_apiserver()


def test_what_was_built_is_kept(tmp_path: Path) -> None:
    built = tmp_path / "cache" / "tidegate" / "kubernetes" / "etcd-v3.6.5"
    built.parent.mkdir(parents=True)
    built.touch()
    assert etcd() == built
