from pathlib import Path
from shutil import copytree

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from curation.chat import TemplateError
from curation.models import (
    Policy,
    device_of,
    dtype_of,
    load_chat,
    load_policy,
    model_folder,
    weights_hash,
)
from schemas.configs import ModelConfig


def config_of(folder: Path, **fields: str) -> ModelConfig:
    return ModelConfig(path=str(folder), device="cpu", **fields)


@pytest.fixture(scope="module")
def adapter(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model that changes what it says."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def model_copy(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(copytree(tiny_model_folder, tmp_path / "copy"))


def logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = policy.model(input_ids=torch.tensor([[1, 5, 9]])).logits
    return output


def test_a_policy_is_ready_to_sample_from(tiny_policy: Policy, tiny_model_folder: Path) -> None:
    assert not tiny_policy.model.training
    assert not any(weight.requires_grad for weight in tiny_policy.model.parameters())
    assert tiny_policy.tokenizer.padding_side == "left"
    assert tiny_policy.tokenizer is tiny_policy.chat.tokenizer
    assert tiny_policy.name == str(tiny_model_folder)


def test_an_adapter_changes_what_the_model_says_and_which_model_it_is(
    tiny_policy: Policy, tiny_model_folder: Path, adapter: Path
) -> None:
    adapted = load_policy(config_of(tiny_model_folder, adapter=str(adapter)))
    assert not torch.allclose(logits(adapted), logits(tiny_policy))
    assert adapted.weights != tiny_policy.weights
    assert not adapted.model.training
    assert not any(weight.requires_grad for weight in adapted.model.parameters())


def test_the_hash_is_of_the_tensors_however_they_are_split_into_files(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model_folder)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    assert weights_hash(config_of(tmp_path)) == weights_hash(config_of(tiny_model_folder))


def test_one_changed_weight_is_another_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model_folder)
    model.model.norm.weight.data[0] += 1
    model.save_pretrained(tmp_path)
    assert weights_hash(config_of(tmp_path)) != weights_hash(config_of(tiny_model_folder))


def test_a_file_that_changes_in_place_is_hashed_again(model_copy: Path) -> None:
    before = weights_hash(config_of(model_copy))
    file = model_copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_hash(config_of(model_copy)) != before


def test_float32_is_the_automatic_dtype_of_a_cpu(tiny_policy: Policy) -> None:
    config = ModelConfig(path="any", device="cpu")
    assert dtype_of(config) == torch.float32
    assert dtype_of(config.model_copy(update={"dtype": "bfloat16"})) == torch.bfloat16
    assert tiny_policy.model.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_bfloat16_is_the_automatic_dtype_of_a_gpu() -> None:
    config = ModelConfig(path="any")
    assert device_of(config).type == "cuda"
    assert dtype_of(config) == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.gpu
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no usable GPU; use 'auto'"):
        device_of(ModelConfig(path="any", device="cuda"))


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_and_says_so(model_copy: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model_copy)
    chat = load_chat(config_of(model_copy))
    assert chat.tokenizer.pad_token == "<|im_end|>"
    assert chat.report().pad == "<|im_end|>"


def test_a_pad_token_that_the_model_has_no_embedding_for_is_not_padded_with(
    model_copy: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model_copy)
    assert load_chat(config_of(model_copy)).tokenizer.pad_token == "<|im_end|>"


def test_a_tokenizer_that_writes_more_tokens_than_the_model_embeds_is_refused(
    model_copy: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    known = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    tokenizer.save_pretrained(model_copy)
    assert load_chat(config_of(model_copy)).eos_ids  # it is written nowhere
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|new|>")
    tokenizer.save_pretrained(model_copy)
    with pytest.raises(ValueError, match=f"VOCAB_MISMATCH: .* token {known} but .* for {known}"):
        load_chat(config_of(model_copy))


def test_a_model_without_a_template_takes_the_one_of_a_file(
    model_copy: Path, tmp_path: Path
) -> None:
    (model_copy / "chat_template.jinja").unlink()
    with pytest.raises(
        TemplateError, match=r"NO_TEMPLATE: .*copy' has no chat template.*--chat-template FILE"
    ):
        load_chat(config_of(model_copy))
    own = tmp_path / "own.jinja"
    own.write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    chat = load_chat(ModelConfig(path=str(model_copy), chat_template=own))
    assert chat.tokenizer.chat_template == own.read_text()


def test_only_the_tokenizer_is_needed_for_the_template(model_copy: Path) -> None:
    (model_copy / "model.safetensors").unlink()
    assert load_chat(config_of(model_copy)).report().supports_system


@pytest.mark.parametrize("path", ["./missing", "/missing/model", "~/missing/model", "a/b/c"])
def test_a_folder_that_is_not_there_is_told(path: str) -> None:
    with pytest.raises(ValueError, match=f"model folder '{path}' does not exist"):
        model_folder(ModelConfig(path=path))


def test_a_name_that_the_hub_does_not_give_is_told_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="model 'nobody/nothing' is no folder here") as caught:
        load_policy(ModelConfig(path="nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.json; expected what transformers saves"):
        load_policy(config_of(tmp_path))


def test_an_adapter_given_as_the_model_is_told(adapter: Path) -> None:
    with pytest.raises(ValueError, match=r"holds an adapter; give it as model\.adapter"):
        load_policy(config_of(adapter))


def test_a_model_given_as_the_adapter_is_told(tiny_model_folder: Path) -> None:
    config = config_of(tiny_model_folder, adapter=str(tiny_model_folder))
    with pytest.raises(ValueError, match=r"is no folder with an adapter_config\.json"):
        load_policy(config)


def test_an_adapter_of_another_model_is_told(
    tiny_model_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    config = LlamaForCausalLM.from_pretrained(tiny_model_folder).config
    config.hidden_size, config.intermediate_size = 32, 64
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"adapter '.*' does not fit model '.*'") as caught:
        load_policy(config_of(tmp_path, adapter=str(adapter)))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_safetensors_are_refused(model_copy: Path) -> None:
    (model_copy / "model.safetensors").rename(model_copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no model\.safetensors; .*save the model again"):
        load_policy(config_of(model_copy))


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_weights_file_cut_short_is_told(model_copy: Path, kept: int) -> None:
    file = model_copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"weights file '.*' is damaged"):
        load_policy(config_of(model_copy))


def test_a_template_file_that_is_not_there_is_told(tiny_model_folder: Path) -> None:
    config = ModelConfig(path=str(tiny_model_folder), chat_template=Path("no.jinja"))
    with pytest.raises(ValueError, match=r"chat template 'no\.jinja' cannot be read: No such"):
        load_chat(config)


def without(folder: Path, missing: str) -> None:
    """Take the tensors whose name has that text out of the folder's weights."""
    file = next(folder.glob("*.safetensors"))
    tensors = {name: value for name, value in load_file(file).items() if missing not in name}
    save_file(tensors, file, {"format": "pt"})


def test_a_model_that_lacks_weights_is_not_completed_at_random(model_copy: Path) -> None:
    without(model_copy, "layers.1")
    with pytest.raises(ValueError, match=r"no weights for model\.layers\.1.*, one of 9 that would"):
        load_policy(config_of(model_copy))


def test_a_reward_model_is_no_policy_although_its_trunk_would_load(
    tiny_model_folder: Path, model_copy: Path
) -> None:
    untied = LlamaConfig.from_pretrained(tiny_model_folder, tie_word_embeddings=False, num_labels=1)
    LlamaForSequenceClassification(untied).save_pretrained(model_copy)
    with pytest.raises(ValueError, match=r"no weights for lm_head\.weight"):
        load_policy(config_of(model_copy))


def test_an_adapter_whose_weights_have_other_names_is_not_left_out(
    tiny_model_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    nested = Path(copytree(adapter, tmp_path / "nested"))
    file = nested / "adapter_model.safetensors"
    twice = {f"base_model.model.{name}": value for name, value in load_file(file).items()}
    save_file(twice, file, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"does not fit model .* lack base_model\.model\.model\.layers\.0"
    ):
        load_policy(config_of(tiny_model_folder, adapter=str(nested)))


def test_an_adapter_saved_with_another_template_asks_which_one(
    tiny_model_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    own = Path(copytree(adapter, tmp_path / "own"))
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(own)
    model = config_of(tiny_model_folder, adapter=str(own))
    template = own / "chat_template.jinja"
    assert load_chat(model).hash == load_chat(config_of(tiny_model_folder)).hash
    template.write_text(template.read_text().replace("<|im_start|>", "<<"))
    with pytest.raises(ValueError, match=r"another chat template .* model.chat_template"):
        load_chat(model)
    said = load_chat(model.model_copy(update={"chat_template": template}))
    assert said.hash != load_chat(config_of(tiny_model_folder)).hash


def test_a_template_file_may_begin_with_a_byte_order_mark_and_must_be_utf_8(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    file, own = tmp_path / "t.jinja", (tiny_model_folder / "chat_template.jinja").read_text()
    model = config_of(tiny_model_folder).model_copy(update={"chat_template": file})
    file.write_text(own, encoding="utf-8-sig")
    assert load_chat(model).hash == load_chat(config_of(tiny_model_folder)).hash
    file.write_text(own, encoding="utf-16")
    with pytest.raises(ValueError, match="is not in UTF-8; save it as UTF-8"):
        load_chat(model)


def test_a_token_of_the_text_that_the_model_has_no_embedding_for_is_refused(
    model_copy: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(model_copy)
    with pytest.raises(ValueError, match="VOCAB_MISMATCH"):
        load_chat(config_of(model_copy))


def test_a_tokenizer_without_an_end_or_pad_token_pads_with_the_templates_end(
    model_copy: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(model_copy)
    assert load_chat(config_of(model_copy)).tokenizer.pad_token == "<|im_end|>"
