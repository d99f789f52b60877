"""The stand-in for the hub, seen by the real client library: if it passes here, init meets in tests what it meets outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import Hub

REPO = "owner/name"
FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 1000,
    "a/b.txt": b"b",
    "c.json": b"c",
    "d.json": b"d",
    "tokenizer.json": b"[]",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    for name, content in FILES.items():
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / name).write_bytes(content)
    with Hub() as hub:
        hub.add(REPO, tmp_path / "repo", tag="v1")
        yield hub


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_revisions_and_files(hub: Hub, api: HfApi) -> None:
    commit = hub.repositories[REPO].branches["main"]
    for revision in ("main", "v1", commit):
        info = api.model_info(REPO, revision=revision, files_metadata=True)
        assert info.sha == commit
        assert {file.rfilename: file.size for file in info.siblings or []} == {name: len(content) for name, content in FILES.items()}
    refs = api.list_repo_refs(REPO)
    assert [(ref.name, ref.target_commit) for ref in (*refs.branches, *refs.tags)] == [("main", commit), ("v1", commit)]


def test_the_tree_comes_in_pages(hub: Hub, api: HfApi) -> None:
    found = {entry.path: entry for entry in api.list_repo_tree(REPO, recursive=True)}
    assert set(found) == set(FILES)
    assert len([request for request in hub.requests if "/tree/" in request.path]) == 2
    assert found["model.safetensors"].lfs.size == 256_000 and found["config.json"].lfs is None
    assert found["config.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b", "git hash-object of {}"
    assert [entry.path for entry in api.get_paths_info(REPO, ["d.json", "none"])] == ["d.json"]


def test_its_own_downloader_works(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    folder = api.snapshot_download(REPO, local_dir=tmp_path / "copy", cache_dir=tmp_path / "cache")
    for name, content in FILES.items():
        assert (Path(folder) / name).read_bytes() == content


def test_what_a_head_request_tells(hub: Hub) -> None:
    commit = hub.repositories[REPO].branches["main"]
    big = get_hf_file_metadata(hf_hub_url(REPO, "model.safetensors", endpoint=hub.endpoint), token=False)
    assert (big.commit_hash, big.size, len(big.etag or "")) == (commit, 256_000, 64)
    assert big.location.startswith(f"{hub.endpoint.replace('127.0.0.1', 'localhost')}/cdn/")
    small = get_hf_file_metadata(hf_hub_url(REPO, "config.json", endpoint=hub.endpoint), token=False)
    assert (small.commit_hash, small.size, small.etag) == (commit, 2, "9e26dfeeb6e641a33dae4961196235bdb965b21b")
    part = httpx2.get(big.location, headers={"Range": "bytes=255990-"})
    assert (part.status_code, part.content) == (206, FILES["model.safetensors"][-10:])
    assert httpx2.get(big.location, headers={"Range": "bytes=256000-"}).status_code == 416


def test_refusals(hub: Hub, api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("owner/other")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="v2")
    with pytest.raises(RemoteEntryNotFoundError):
        get_hf_file_metadata(hf_hub_url(REPO, "none.json", endpoint=hub.endpoint), token=False)
    with pytest.raises(HfHubHTTPError, match="401"):
        api.model_info(REPO, token="hf_wrong")
    hub.repositories[REPO].gated = True
    api.model_info(REPO)
    with pytest.raises(GatedRepoError):
        get_hf_file_metadata(hf_hub_url(REPO, "config.json", endpoint=hub.endpoint), token=False)
    get_hf_file_metadata(hf_hub_url(REPO, "config.json", endpoint=hub.endpoint), token="hf_right")
    hub.repositories[REPO].private = True
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(REPO)


def test_faults_come_as_often_as_ordered(hub: Hub, api: HfApi) -> None:
    hub.fault("GET /api/models", status=429, headers={"Retry-After": "7"})
    with pytest.raises(HfHubHTTPError) as failure:
        api.model_info(REPO)
    assert failure.value.response.status_code == 429 and failure.value.response.headers["Retry-After"] == "7"
    api.model_info(REPO)
    url = f"{hub.endpoint}/{REPO}/resolve/main/model.safetensors"
    hub.fault("GET /cdn/", cut=100_000)
    with pytest.raises(httpx2.RemoteProtocolError), httpx2.stream("GET", url, follow_redirects=True) as response:
        response.read()
    hub.fault("GET /cdn/", flip=77)
    content = httpx2.get(url, follow_redirects=True).content
    assert [index for index, byte in enumerate(FILES["model.safetensors"]) if content[index] != byte] == [77]
    assert httpx2.get(url, follow_redirects=True).content == FILES["model.safetensors"]
    assert hub.sent("model.safetensors") == 100_000 + 2 * 256_000
