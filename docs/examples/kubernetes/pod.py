"""A pod that reads a dataset with a token of its own, from a Secret that lives no longer than the pod needs it."""

from __future__ import annotations

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

from airflow_provider_xethub.callbacks.kubernetes import XetTokenSecret
from airflow_provider_xethub.operators.xethub import XetTokenOperator

with DAG("kubernetes_example", schedule=None, default_args={"retries": 3}) as dag:
    token = XetTokenOperator(task_id="token", repo_id="acme/corpus", repo_type="dataset")
    train = KubernetesPodOperator(
        task_id="train",
        namespace="jobs",
        image="registry.example/train:3",
        cmds=["python", "train.py"],
        callbacks=[XetTokenSecret(token.output)],
    )
    token >> train
