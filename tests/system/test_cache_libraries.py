"""Libraries of Hugging Face read what ``HubCache`` filled, without a Hub, on another machine with another cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from support.builders import publish

pytestmark = pytest.mark.long

CODE = b"""
from transformers import PretrainedConfig

class TinyConfig(PretrainedConfig):
    model_type = "tiny"
    legs = 4
"""


def model_files(folder):
    """A model with a tokenizer, weights, and code of its own, as the libraries themselves write them."""
    import numpy
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, PreTrainedTokenizerFast

    folder.mkdir()
    BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=4).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "adelie": 1, "gentoo": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    save_file({"weight": numpy.arange(12, dtype=numpy.float32).reshape(3, 4)}, folder / "model.safetensors")
    (folder / "README.md").write_text("# Penguins\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def offline(tmp_path):
    """Runs code in a process that has the cache and nothing else, and returns what it prints as JSON."""

    def run(cache, code):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {
            "HF_HOME": str(tmp_path / "another home"),
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "1",
            "HF_ENDPOINT": "http://127.0.0.1:1",
        }
        code = f"import json\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_transformers_and_safetensors(make_repo, connection, tmp_path, run_task, offline):
    repo = make_repo("model")
    publish(repo, tmp_path, model_files(tmp_path / "model"))
    cache = tmp_path / "cache"
    run = run_task(XetDownloadOperator, repo_id=repo.repo_id, destination=HubCache(cache))
    code = """
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer
from huggingface_hub import hf_hub_download
name, snapshot = NAMES
weights = load_file(hf_hub_download(name, "model.safetensors"))
print(json.dumps([
    AutoConfig.from_pretrained(name).hidden_size,
    AutoTokenizer.from_pretrained(name)("gentoo adelie penguin")["input_ids"],
    AutoConfig.from_pretrained(snapshot).model_type,
    weights["weight"].sum().item(),
]))
"""
    names = repr((repo.repo_id, run.xcoms["snapshot"]))
    assert offline(cache, code.replace("NAMES", names)) == [8, [2, 1, 0], "bert", 66.0]


def test_code_in_the_repository(make_repo, connection, tmp_path, run_task, offline):
    repo = make_repo("model")
    config = {"model_type": "tiny", "auto_map": {"AutoConfig": "configuration_tiny.TinyConfig"}}
    publish(repo, tmp_path, {"config.json": json.dumps(config).encode(), "configuration_tiny.py": CODE})
    cache = tmp_path / "cache"
    run_task(XetDownloadOperator, repo_id=repo.repo_id, destination=HubCache(cache))
    code = f"""
from transformers import AutoConfig
print(json.dumps(AutoConfig.from_pretrained({repo.repo_id!r}, trust_remote_code=True).legs))
"""
    assert offline(cache, code) == 4


def test_datasets_by_the_folder(make_repo, connection, tmp_path, run_task, offline):
    repo = make_repo("dataset")
    publish(repo, tmp_path, {"train.csv": b"species,legs\nAdelie,2\n", "test.csv": b"species,legs\nGentoo,2\n"})
    cache = tmp_path / "cache"
    run = run_task(XetDownloadOperator, repo_id=repo.repo_id, repo_type="dataset", destination=HubCache(cache))
    code = """
from datasets import load_dataset
print(json.dumps(load_dataset(SNAPSHOT)["train"][0]))
"""
    found = offline(cache, code.replace("SNAPSHOT", repr(run.xcoms["snapshot"])))
    assert found == {"species": "Adelie", "legs": 2}
