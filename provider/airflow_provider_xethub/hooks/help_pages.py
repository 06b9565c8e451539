"""Where the documentation explains an error."""

from __future__ import annotations

from functools import cache
from urllib.parse import urljoin, urlsplit

from airflow_provider_xethub import exceptions

DISTRIBUTION = "airflow-provider-xethub"


@cache
def documentation() -> str | None:
    """Return the address of the documentation, as the installed distribution names it.

    ``None`` if it names none, is not installed as a distribution, or names the placeholder: hosts below ``.example``
    exist nowhere.
    """
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        named = metadata(DISTRIBUTION).get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    address = dict(each.split(", ", 1) for each in named).get("Documentation", "")
    host = urlsplit(address).hostname
    return address if host and not host.endswith(".example") else None


def help_page(error: exceptions.XetHubError) -> str | None:
    """Return the address of the section about an error; ``None`` if the documentation has no address.

    The section is that of the error's own class, or of the class of the provider that it is derived from.
    """
    address = documentation()
    if address is None:
        return None
    kind = next(each for each in type(error).__mro__ if each.__module__ == exceptions.__name__)
    # The address is a page in the repository, or the folder of the built pages.
    is_page = address.endswith(".md")
    name = "errors.md" if is_page else "errors.html"
    return urljoin(address if is_page else f"{address.rstrip('/')}/", f"{name}#{kind.__name__.lower()}")
