"""The picture of a traced upload in the documentation: recorded in a task's process, drawn from what was recorded.

``python -m support.waterfall`` draws what ``docs/examples/traced_upload.json`` has; with ``--record`` it first runs the
task again, against a local Hub.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.documentation import ROOT
from support.spans import Collector, Span
from support.svg import COLOURS, document, label

RECORDED = ROOT / "docs/examples/traced_upload.json"
PICTURE = ROOT / "docs/_static/spans.svg"

DAG_FILE = """
from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetMirrorOperator

with DAG("nightly", schedule=None):
    XetMirrorOperator(task_id="publish", source={source!r}, repo_id="acme/birds", repo_type="dataset")
"""

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 800, 150, 20, 44, 40
_BARS = {"worker": COLOURS[1], "xethub": COLOURS[0]}


def draw(spans: Sequence[Span]) -> str:
    """Return an SVG with a bar for each span: the task's first, then those in it, in the order of their beginning.

    :param spans: the task's and its children.
    """
    (task,) = [span for span in spans if span.name.startswith("worker.")]
    ours = sorted((span for span in spans if span.name.startswith("xethub.")), key=lambda span: span.start)
    total = (task.end - task.start) / 1e6
    scale = (_WIDTH - _LEFT - _RIGHT) / total
    step = next(each for each in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if total / each <= 8)
    height = _TOP + _ROW * (len(ours) + 1) + 10
    parts = []
    for tick in range(0, int(total) + 1, step):
        x = _LEFT + tick * scale
        ends = f'y1="{_TOP - 10}" y2="{height - 6}"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} class="line" stroke-opacity="0.3"/>')
        parts.append(label(x, _TOP - 18, f"{tick} ms", "middle", faint=True))
    for row, span in enumerate([task, *ours]):
        y = _TOP + row * _ROW
        begin, length = (span.start - task.start) / 1e6, (span.end - span.start) / 1e6
        x, width = _LEFT + begin * scale, max(length * scale, 2)
        colour = _BARS[span.name.partition(".")[0]]
        parts.append(label(_LEFT - 10, y + 13, span.name, "end"))
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>')
        anchor, at = ("start", x) if x < _WIDTH / 2 else ("end", x + width)
        parts.append(label(at, y + 31, f"{length:.0f} ms{_figures(span)}", anchor, faint=True))
    return document(_WIDTH, height, f"Spans of one task that uploads, {total:.0f} ms", parts)


def _figures(span: Span) -> str:
    found = span.attributes
    texts = []
    if "xethub.files" in found:
        texts.append(f"{found['xethub.files']} files")
    if "xethub.bytes" in found:
        texts.append(f"{found['xethub.bytes'] / 1e6:.1f} MB, {found['xethub.bytes_sent'] / 1e6:.1f} MB sent")
    if found.get("xethub.requests"):
        texts.append(f"{found['xethub.requests']} request{'s' if found['xethub.requests'] > 1 else ''}")
    return "".join(f", {text}" for text in texts)


def read() -> list[Span]:
    """Return the recorded spans."""
    return [Span(**fields) for fields in json.loads(RECORDED.read_text())]


def record() -> list[Span]:
    """Run a task that mirrors a folder, of which the repository has a part, and return its span and those in it."""
    from support import supervised_task
    from xethub_local.server import LocalHub

    noise = random.Random(7)
    with tempfile.TemporaryDirectory() as scratch, LocalHub(Path(scratch, "hub")) as hub, Collector() as collector:
        hub.create_repo("acme/birds", "dataset")
        source = Path(scratch, "photos")
        source.mkdir()
        file = Path(scratch, "dags", "nightly.py")
        file.parent.mkdir()
        file.write_text(DAG_FILE.format(source=str(source)))
        connection = json.dumps({"conn_type": "xethub", "host": hub.url, "password": hub.token()})
        variables = collector.variables() | {
            "AIRFLOW_CONN_XETHUB_DEFAULT": connection,
            "AIRFLOW_HOME": scratch,
            "HF_XET_CACHE": str(Path(scratch, "cache")),
        }
        for night in (0, 1):  # the second finds the files of the first
            collector.bodies.clear()
            for number in range(night * 60, night * 60 + 60):
                Path(source, f"{number:03}.bin").write_bytes(noise.randbytes(1_000_000))
            done = supervised_task.run(file, "nightly", "publish", variables)
            assert done.returncode == 0, done.stdout + done.stderr
        (task,) = [span for span in collector.spans if span.name == "worker.publish"]
        return [task, *(span for span in collector.spans if span.parent == task.id and span.name.startswith("xethub."))]


def main() -> None:
    """Write the picture, and before it, with ``--record``, what it shows."""
    if "--record" in sys.argv[1:]:
        os.environ.setdefault("NO_PROXY", "127.0.0.1")
        RECORDED.write_text(json.dumps([span.as_json() for span in record()], indent=2) + "\n")
    PICTURE.write_text(draw(read()))


if __name__ == "__main__":
    main()
