import json
from pathlib import Path

from pairwright.doctor import examine


def test_doctor_tells_versions_device_room_model_and_template(inputs: Path, pairwright) -> None:
    told = pairwright("doctor", inputs / "run.yaml", "--json")

    findings = {item["name"]: item for item in json.loads(told.out)}
    assert {
        "python",
        "torch",
        "transformers",
        "trl",
        "device",
        "memory",
        "run folder",
        "cache",
        "model",
        "chat template",
        "dpo trainer keys",
    } <= findings.keys()
    assert findings["model"]["state"] == "ok"
    assert "ends with '<|im_end|>'" in findings["chat template"]["detail"]
    assert told.code == 0


def test_doctor_needs_no_config() -> None:
    names = [finding.name for finding in examine(None)]

    assert "python" in names
    assert "model" not in names


def test_doctor_says_what_is_missing(inputs: Path, tmp_path: Path, pairwright) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        (inputs / "run.yaml").read_text().replace(str(inputs / "model"), str(tmp_path / "nothing"))
    )

    told = pairwright("doctor", config, "--json")

    assert told.code == 1
    missing = [item for item in json.loads(told.out) if item["state"] == "missing"]
    assert [item["name"] for item in missing] == ["model"]
    assert "does not exist" in missing[0]["detail"]
    assert told.err == "pairwright: not ready: model\n"


def test_doctor_names_data_that_is_not_there_or_empty(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    (tmp_path / "empty.jsonl").touch()
    data = f"sft: {{data: [{{path: {tmp_path / 'no.jsonl'}}}]}}\n"
    held_out = f"prompts: {{path: {tmp_path / 'empty.jsonl'}}}, n: 2, "
    text = (inputs / "run.yaml").read_text().replace("evaluate: {n: 2, ", f"evaluate: {{{held_out}")
    (tmp_path / "run.yaml").write_text(text + data)

    told = pairwright("doctor", tmp_path / "run.yaml", "--json")

    findings = {item["name"]: item for item in json.loads(told.out)}
    assert findings["prompts"]["state"] == "ok"
    assert "has no rows" in findings["held-out prompts"]["detail"]
    assert "does not exist" in findings["conversations"]["detail"]
    assert told.code == 1
    assert "not ready: held-out prompts, conversations" in told.err


def test_doctor_sees_a_run_folder_that_is_a_file(inputs: Path, tmp_path: Path, pairwright) -> None:
    config, file = tmp_path / "run.yaml", tmp_path / "file"
    file.write_text("")
    config.write_text((inputs / "run.yaml").read_text().replace(f"{inputs}/run", f"{file}/run"))

    told = pairwright("doctor", config, "--json")

    findings = {item["name"]: item for item in json.loads(told.out)}
    assert findings["run folder"]["state"] == "missing"
    assert "is a file" in findings["run folder"]["detail"]


def test_doctor_tells_what_an_endpoint_needs(
    inputs: Path, tmp_path: Path, pairwright, monkeypatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    config = tmp_path / "run.yaml"
    endpoint = "{base_url: 'http://127.0.0.1:9/v1', model: m, key_variable: MY_KEY}"
    text = (inputs / "run.yaml").read_text()
    config.write_text(text.replace("generate: {", f"generate: {{endpoint: {endpoint}, "))

    told = pairwright("doctor", config, "--json")

    findings = {item["name"]: item for item in json.loads(told.out)}
    assert findings["endpoint key"]["state"] == "warning"
    assert "MY_KEY is not set" in findings["endpoint key"]["detail"]
    assert told.code == 0


def test_doctor_tells_which_section_has_a_wrong_key(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    config = tmp_path / "run.yaml"
    section = "grpo: {trainer: {num_generation: 4}}\n"
    config.write_text((inputs / "run.yaml").read_text() + section)

    told = pairwright("doctor", config, "--json")

    findings = {item["name"]: item for item in json.loads(told.out)}
    assert findings["grpo trainer keys"]["state"] == "missing"
    assert "num_generations" in findings["grpo trainer keys"]["detail"]
    assert "dpo trainer keys" not in findings
