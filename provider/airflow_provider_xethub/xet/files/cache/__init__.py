"""The Hugging Face cache as a destination."""
