"""One YAML file, and errors that name the key."""

import ast
from pathlib import Path

import pytest

from schemas import configs
from schemas.config_files import load_config, parse_config, unknown_key
from schemas.configs import Config

MINIMAL = {"run": "runs/x", "model": {"path": "m"}, "prompts": {"path": "p.jsonl"}}


def parse(**changes) -> Config:
    return parse_config({**MINIMAL, **changes}, as_=Config, where="config 'c.yaml'")


def test_one_source_of_prompts_needs_no_list():
    assert [source.path for source in parse().prompts] == ["p.jsonl"]
    held_out = parse(evaluate={"prompts": {"path": "h.jsonl"}}).evaluate
    assert [source.path for source in held_out.prompts] == ["h.jsonl"]


def test_sampling_is_neutral_unless_written():
    generate = parse().generate
    assert (generate.temperature, generate.top_p, generate.top_k) == (1.0, 1.0, 0)
    assert (generate.min_p, generate.repetition_penalty) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sead": 1}, "unknown key 'sead'; did you mean 'seed'?"),
        ({"dpo": {"lora": {"rr": 4}}}, "dpo.lora: unknown key 'rr'; did you mean 'r'?"),
        ({"validate": {"max_lenght": 9}}, "validate: unknown key 'max_lenght'; did you mean"),
        ({"generate": {"temperature": -1}}, "generate.temperature"),
        ({"generate": {"n": "four"}}, "unable to parse string as an integer, found 'four'"),
        ({"prompts": [{"path": "a", "splits": "x"}]}, "did you mean 'split'?"),
        ({"model": {"pth": "m"}}, "model: unknown key 'pth'; did you mean 'path'?"),
        ({"prompts": "a.jsonl"}, "prompts: 'a.jsonl' stands alone; expected `path: a.jsonl`"),
        ({"evaluate": {"prompts": None}}, "evaluate.prompts: expected a list"),
        ({"zzzz": 1}, "known keys: aggregate, dpo, evaluate, generate, grpo, label, model, "),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_section(changes, complaint):
    with pytest.raises(ValueError, match=r"config 'c\.yaml'") as caught:
        parse(**changes)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_check_of_ours_names_the_value_once():
    with pytest.raises(ValueError, match="stands alone") as caught:
        parse(prompts="a.jsonl")
    assert "found" not in str(caught.value)


def test_every_key_says_what_it_means():
    silent = [
        f"{section.name}.{key.target.id}"
        for section in ast.parse(Path(configs.__file__).read_text()).body
        if isinstance(section, ast.ClassDef)
        for key, after in zip(section.body, [*section.body[1:], None], strict=True)
        if isinstance(key, ast.AnnAssign)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert silent == []


def test_no_near_key_lists_all():
    assert unknown_key("q", ["beta", "alpha"]) == "unknown key 'q'; known keys: alpha, beta"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


YAML = "run: runs/x\nmodel: {path: m}\nprompts: {path: p.jsonl}\n"


def test_overrides_reach_nested_keys_and_keep_their_types(tmp_path):
    config = load_config(
        write(tmp_path, YAML),
        ["generate.temperature=0.5", "dpo.trainer.loss_type=[sigmoid, sft]", "seed=3"],
        as_=Config,
    )
    assert config.generate.temperature == 0.5
    assert config.dpo.trainer == {"loss_type": ["sigmoid", "sft"]}
    assert config.seed == 3


def test_a_byte_order_mark_is_no_key(tmp_path):
    assert load_config(write(tmp_path, "\ufeff" + YAML), as_=Config).run == Path("runs/x")


@pytest.mark.parametrize(
    ("text", "overrides", "complaint"),
    [
        ("a: [1,\nb: 2", [], "not valid YAML: line 2, column"),
        ("- a\n", [], "expected a mapping"),
        (YAML, ["seed"], "not of the form key=value"),
        (YAML, ["seed.x=1", "seed.x.y=1"], "is no section"),
        (YAML, ["generate.temprature=1"], "did you mean 'temperature'?"),
    ],
)
def test_a_broken_file_or_override_is_one_clear_sentence(tmp_path, text, overrides, complaint):
    with pytest.raises(ValueError, match=r"config|override") as caught:
        load_config(write(tmp_path, text), overrides, as_=Config)
    assert complaint in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ValueError, match="does not exist; `pairwright init` writes one"):
        load_config(tmp_path / "none.yaml", as_=Config)


@pytest.mark.parametrize(
    "text",
    ["seed: 1\nseed: 2\n", "generate: {n: 4}\ngenerate: {batch_size: 2}\n", "dpo: {a: 1, a: 2}\n"],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, text):
    with pytest.raises(ValueError, match=r"line \d, column \d+: the key '\w+' stands twice"):
        load_config(write(tmp_path, YAML + text), as_=Config)


def test_a_section_whose_keys_are_commented_out_is_the_default(tmp_path):
    config = load_config(write(tmp_path, YAML + "generate:\n  # n: 8\nrank:\n"), as_=Config)
    assert (config.generate.n, config.rank) == (4, None)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"generate": {"temperature": float("inf")}}, "generate.temperature"),
        ({"rank": {"rewards": [{"use": "m:f", "weight": float("nan")}]}}, "rank.rewards.0.weight"),
        ({"prompts": {"path": ["a", "b"], "split": ["train"]}}, "prompts.0.path"),
        ({"prompts": [{"path": "a"}, {"path": "b", "split": None}]}, "prompts.1.split"),
    ],
)
def test_a_value_that_no_stage_could_use_is_refused_at_once(changes, key):
    with pytest.raises(ValueError, match=rf"config 'c\.yaml': {key}: "):
        parse(**changes)


def test_a_date_without_quotes_is_a_text(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("run: r\nmodel: {path: m, date: 2026-02-01}\nprompts: {path: p}\n")
    assert load_config(path, as_=Config).model.date == "2026-02-01"
    other = load_config(path, ["model.date=2026-03-04"], as_=Config)
    assert other.model.date == "2026-03-04"


def test_a_config_that_is_not_in_utf_8_is_refused_with_its_name(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes("run: r".encode("utf-16"))
    with pytest.raises(ValueError, match=r"run\.yaml' is not in UTF-8 \(byte 1\); save it in"):
        load_config(path, as_=Config)


def test_a_list_as_a_key_is_no_yaml_that_can_be_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("run: r\n? [a, b]\n: 1\n")
    with pytest.raises(ValueError, match="line 2, column 3: found unhashable key"):
        load_config(path, as_=Config)


def test_a_number_where_text_is_expected_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("run: 0123\nmodel: {path: m}\nprompts: {path: p}\n")
    with pytest.raises(ValueError, match=r"^config .* run: .*, found 83; put it in quotes to have"):
        load_config(path, as_=Config)
