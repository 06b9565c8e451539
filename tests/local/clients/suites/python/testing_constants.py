"""The names that the tests of ``huggingface_hub`` use, for a local Hub instead of a public one."""

from __future__ import annotations

import os

ENDPOINT_STAGING = os.environ["HF_ENDPOINT"]
USER = FULL_NAME = os.environ["CLIENT_TESTS_USER"]
TOKEN = os.environ["CLIENT_TESTS_TOKEN"]
OTHER_USER = os.environ["CLIENT_TESTS_OTHER_USER"]
OTHER_TOKEN = os.environ["CLIENT_TESTS_OTHER_TOKEN"]

# Organisations do not exist at the local Hub: their tests are left out.
ENTERPRISE_USER = ENTERPRISE_ORG = "enterprise"
ENTERPRISE_TOKEN = OTHER_TOKEN

# Tests of public repositories are left out; their modules still import these names.
ENDPOINT_PRODUCTION = "https://huggingface.invalid"
ENDPOINT_PRODUCTION_URL_SCHEME = ENDPOINT_PRODUCTION + "/{repo_id}/resolve/{revision}/{filename}"
DUMMY_MODEL_ID = DUMMY_DATASET_ID = SAMPLE_DATASET_IDENTIFIER = DUMMY_XET_MODEL_ID = "public/repository"
DUMMY_RENAMED_OLD_MODEL_ID = DUMMY_EXTRA_LARGE_FILE_MODEL_ID = "public/repository"
DUMMY_MODEL_ID_REVISION_ONE_SPECIFIC_COMMIT = DUMMY_DATASET_ID_REVISION_ONE_SPECIFIC_COMMIT = "0" * 40
DUMMY_XET_FILE = DUMMY_EXTRA_LARGE_FILE_NAME = "file.bin"
