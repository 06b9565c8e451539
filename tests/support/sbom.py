"""The software bill of materials of a wheel, in the format CycloneDX: ``python -m support.sbom FOLDER``.

It lists what the wheel requires, directly and indirectly, without extras, at the versions that the tests run
with: those of ``constraints.txt``. The licences are those that the packages state.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import uuid
from collections.abc import Iterable
from email import message_from_string
from email.message import Message
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import cast
from zipfile import ZipFile

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.distributions import ROOT

_CLASSIFIER = "License :: OSI Approved :: "
_FREE_TEXT = 60
"""Longest field ``License`` that is a name; some packages put the whole text there."""


def bill(wheel: Path) -> str:
    """Return the bill of materials of a wheel as JSON, the same for the same wheel and the same versions.

    :raises RuntimeError: an installed version is not the one of ``constraints.txt``.
    """
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    root = _component(metadata)
    root.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    bom = Bom()
    bom.metadata.timestamp = None
    bom.metadata.component = root
    bom.metadata.properties.add(Property(name="xethub:python", value=platform.python_version()))
    pinned = _pinned()
    found: dict[str, tuple[Distribution, Component]] = {}
    seen: set[tuple[str, str]] = set()
    edges: dict[Component, set[str]] = {root: set()}
    waiting = [(root, "", metadata.get_all("Requires-Dist", []))]
    while waiting:
        by, extra, requirements = waiting.pop()
        for requirement in _applying(requirements, extra):
            key = canonicalize_name(requirement.name)
            if key not in found:
                installed = distribution(key)
                if installed.version not in pinned.get(key, ()):
                    raise RuntimeError(
                        f"{key} {installed.version} is not the version of constraints.txt. Run make setup."
                    )
                found[key] = installed, _component(cast("Message", installed.metadata))
            installed, component = found[key]
            edges[by].add(key)
            edges.setdefault(component, set())
            for wanted in ("", *requirement.extras):
                if (key, wanted) not in seen:
                    seen.add((key, wanted))
                    waiting.append((component, wanted, installed.requires or []))
    for component, keys in edges.items():
        bom.register_dependency(component, [found[key][1] for key in sorted(keys)])
    bom.components.update(component for _, component in found.values())
    versions = sorted(component.bom_ref.value or "" for _, component in found.values())
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join([digest, platform.python_version(), *versions]))
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _applying(requirements: Iterable[str], extra: str) -> list[Requirement]:
    """Return the requirements that hold here: of an extra if one is given, and else those without any."""
    parsed = [Requirement(text) for text in requirements]
    without = [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not extra:
        return without
    return [each for each in parsed if each.marker and each.marker.evaluate({"extra": extra}) and each not in without]


def _component(metadata: Message) -> Component:
    name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
    purl = PackageURL("pypi", None, name, version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        description=metadata.get("Summary"),
        licenses=_licences(metadata),
    )


def _licences(metadata: Message) -> list[License]:
    """Return what a package says about its licence: an SPDX expression, else classifiers, else a short text."""
    factory = LicenseFactory()
    if expression := metadata.get("License-Expression"):
        return [factory.make_from_string(expression)]
    text = (metadata.get("License") or "").strip()
    if text and len(text) <= _FREE_TEXT and "\n" not in text and text != "UNKNOWN":
        return [factory.make_from_string(text)]
    classifiers = [each for each in metadata.get_all("Classifier") or [] if each.startswith(_CLASSIFIER)]
    return [factory.make_with_name(each.removeprefix(_CLASSIFIER)) for each in classifiers]


def _pinned() -> dict[str, set[str]]:
    """Return the versions in ``constraints.txt``; some packages have one for each of several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.whl")):
        target = path.with_name(f"{path.name.removesuffix('-py3-none-any.whl')}.cdx.json")
        target.write_text(bill(path))
        print(target)
