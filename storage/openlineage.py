"""Events of the OpenLineage specification, one JSON object a line, for catalogues that read them.

Off unless LATENTVLA_OPENLINEAGE names a file. The making of an artefact is a run of the job that is
called as its asset; inputs and outputs are data sets with their versions.
"""

import fcntl
import json
import logging
import os
import uuid
from datetime import UTC, datetime
from typing import Any

from storage.lineage import Lineage

VARIABLE = "LATENTVLA_OPENLINEAGE"
NAMESPACE = "latentvla"
PRODUCER = "https://github.com/latentvla/latentvla"
_SPEC = "https://openlineage.io/spec"
_RUN_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_VERSION = f"{_SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
_ERROR = f"{_SPEC}/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet"
_FACET = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"
_LOG = logging.getLogger(__name__)


class MakingEvents:
    """Reports the making of one artefact: begun, then finished or failed."""

    def __init__(self, lineage: Lineage) -> None:
        self._lineage, self._run = lineage, str(uuid.uuid4())

    def begun(self) -> None:
        """The making begins."""
        self._write("START", {})

    def finished(self, lineage: Lineage) -> None:
        """The artefact is published, with this lineage."""
        made = {"commit": lineage.git, "packages": lineage.packages, "machine": lineage.machine}
        facet = _facet(_FACET, codeVersion=lineage.code_version, seed=lineage.seed, **made)
        self._write("COMPLETE", {"latentvla_lineage": facet})

    def failed(self, error: BaseException) -> None:
        """An exception ended the making; the old artefact stays."""
        message = f"{type(error).__name__}: {error}"[:2000]
        facet = _facet(_ERROR, message=message, programmingLanguage="Python")
        kind = "FAIL" if isinstance(error, Exception) else "ABORT"
        self._write(kind, {"errorMessage": facet})

    def _write(self, kind: str, facets: dict[str, Any]) -> None:
        file = os.environ.get(VARIABLE)
        if not file:
            return
        try:
            _append(file, json.dumps(self._event(kind, facets), ensure_ascii=True, default=str))
        except OSError as error:
            _LOG.warning("the OpenLineage event could not be written to %s: %s", file, error)

    def _event(self, kind: str, facets: dict[str, Any]) -> dict[str, Any]:
        lineage = self._lineage
        return {
            "eventType": kind,
            "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": {"runId": self._run, "facets": facets},
            "job": {"namespace": NAMESPACE, "name": lineage.asset.partition("/")[0]},
            "inputs": [_dataset(name, version) for name, version in lineage.parents.items()],
            "outputs": [_dataset(lineage.asset, lineage.version)],
            "producer": PRODUCER,
            "schemaURL": _RUN_EVENT,
        }


def _dataset(name: str, version: str) -> dict[str, Any]:
    facets = {"version": _facet(_VERSION, datasetVersion=version)}
    return {"namespace": NAMESPACE, "name": name, "facets": facets}


def _facet(schema: str, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": schema, **fields}


def _append(file: str, line: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # several processes write whole lines
        data = f"{line}\n".encode()
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
