from __future__ import annotations

from airflow_provider_xethub.xet.publish.commit import CommitRequest


def test_a_folder_comes_back_as_it_was(hook, repo, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a.csv").write_text("x,y\n1,2\n")
    (source / "sub" / "b.bin").write_bytes(bytes(range(256)) * 1000)
    (source / "empty").touch()
    published = hook.publish(source, CommitRequest(repo, (), message="first"))
    assert published["created"]
    result = hook.download(tmp_path / "out", published["files"])
    for file in ("a.csv", "sub/b.bin", "empty"):
        assert (tmp_path / "out" / file).read_bytes() == (source / file).read_bytes()
    assert len(result["files"]) == 3
