"""Start a DAG on each commit to a repository, and find out which files it changed."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger

CORPUS = {"repo_id": "local/corpus", "repo_type": "dataset"}

commits = XetRevisionTrigger(**CORPUS, poke_interval=30)
corpus = Asset("hf://datasets/local/corpus", watchers=[AssetWatcher(name="corpus_commits", trigger=commits)])

with DAG("xethub_watch", schedule=[corpus], catchup=False, tags=["xethub"]):

    @task
    def new_commits(triggering_asset_events=None) -> list[dict]:
        events = (triggering_asset_events or {}).get(corpus, [])
        return [event.extra["payload"] for event in events if event.extra.get("payload")]

    @task
    def changed_paths(commits: list[dict]) -> list[str]:
        from airflow_provider_xethub import Repo
        from airflow_provider_xethub.hooks.xethub import XetHubConnection

        hook, paths = XetHubConnection(), set()
        for commit in commits:
            repo = Repo.from_uri(commit["repo"])
            before = {file["path"]: file for file in hook.list_files(repo.at(commit["previous"]))}
            after = hook.list_files(repo.at(commit["oid"]))
            paths |= {file["path"] for file in after if content(file) != content(before.get(file["path"], {}))}
        return sorted(paths)

    def content(file: dict) -> list:
        return [file.get(name) for name in ("xet_hash", "sha256", "blob_id")]

    changed_paths(new_commits())
