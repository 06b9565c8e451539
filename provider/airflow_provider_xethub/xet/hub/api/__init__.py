"""What ``huggingface_hub.HfApi`` does: repositories, branches and tags, pull requests, large files that nobody uses."""
