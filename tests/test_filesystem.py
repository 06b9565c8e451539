from __future__ import annotations
import pytest
from airflow.sdk import ObjectStoragePath
from builders import TEXT, binary, publish, commits
from object_stores import forget_filesystems

@pytest.fixture
def at(connection):
    forget_filesystems()
    from airflow_provider_xethub.fs.xethub import XetHubFileSystem
    XetHubFileSystem.clear_instance_cache()
    return lambda repo, path="", scheme="hf": ObjectStoragePath(f"{scheme}://xethub_default@{repo.uri[5:].removesuffix('@main')}/{path}")

def test_smoke(at, repo, tmp_path, hub):
    data = binary(3_000_000)
    publish(repo, tmp_path, {"a/b.bin": data, "a/t.csv": TEXT, "z.bin": binary(20, 1)})
    path = at(repo, "a/b.bin")
    print(type(path.fs), path.fs.info(path.path))
    assert path.exists() and path.is_file() and path.parent.is_dir()
    assert path.open("rb").read() == data
    assert at(repo, "a/t.csv").open("r").read() == TEXT.decode()
    print(sorted(str(p) for p in at(repo).iterdir()))
    print(path.fs.find(at(repo).path), path.fs.glob(at(repo).path + "/**/*.bin"), list(path.fs.walk(at(repo).path)))
    with at(repo, "new/x.txt").open("w") as f:
        f.write("hello")
    assert at(repo, "new/x.txt").read_text() == "hello"
    big = binary(20_000_000, 5)
    with at(repo, "new/big.bin").open("wb") as f:
        f.write(big)
    assert at(repo, "new/big.bin").open("rb").read() == big
    print(at(repo, "new/big.bin").stat(), commits(hub, repo))
    x = at(repo, "new/big.bin", "xethub")
    x.rename(at(repo, "new/bigger.bin", "xethub"))
    x = at(repo, "new/bigger.bin", "xethub")
    assert x.exists()
    x.unlink()
    assert not x.exists()
    at(repo, "w.txt", "xethub").write_text("w")
    for n in ("mkdir", "unlink", "touch"):
        try: print(n, getattr(at(repo, "w.txt"), n)())
        except Exception as e: print(n, repr(e))
