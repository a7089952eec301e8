"""The tables of nuscenes-devkit, whose faulty rows concern their own scene alone."""

from collections import Counter
from typing import Any

from nuscenes.nuscenes import NuScenes

from storage.errors import SourceError
from storage.names import quoted

ADVICE = "download or write the tables again; the other scenes are read"


class JoinedTables(NuScenes):  # type: ignore[misc]
    """The devkit's object; `get` raises SourceError for a token that no row or that rows of
    different content have.

    `faults` holds, by sample token, why the rows of a sample do not fit together; `repeated` counts
    the rows of each table that stand in it twice and are read once; `samples_in` counts the samples
    of each scene, by its token.
    """

    faults: dict[str, SourceError]
    repeated: Counter[str]
    samples_in: Counter[str]

    def get(self, table_name: str, token: str) -> dict[str, Any]:
        """The row of a table with this token."""
        row = self._token2ind[table_name].get(token)
        if row is None or token in self._ambiguous[table_name]:
            raise SourceError(
                "a row of the tables names one that its table does not have"
                if row is None
                else "rows of different content have one token",
                where=f"{self.version}/{table_name}.json",
                expected="one row with this token",
                found=quoted(token),
                do=ADVICE,
            )
        return getattr(self, table_name)[row]  # type: ignore[no-any-return]

    def __make_reverse_index__(self, verbose: bool) -> None:
        """The devkit's links between rows: `data` and `anns` of samples, names of categories and
        sensors.
        """
        self.faults, self.repeated = {}, Counter()
        self._token2ind: dict[str, dict[str, int]] = {}
        self._ambiguous: dict[str, set[str]] = {}
        for table in self.table_names:
            self._index(table)
        self.samples_in = Counter(str(sample.get("scene_token")) for sample in self.sample)
        for sample in self.sample:
            sample["data"], sample["anns"] = {}, []
        for record in self.sample_data:
            if record.get("is_key_frame"):
                self._link(record, self._link_data)
        for record in self.sample_annotation:
            self._link(record, self._link_annotation)

    def _index(self, table: str) -> None:
        """Rows by token, and the table without rows that stand in it twice."""
        rows = getattr(self, table)
        index: dict[str, int] = {}
        ambiguous: set[str] = set()
        kept: list[dict[str, Any]] = []
        for row in rows:
            if not isinstance(row, dict):
                raise TypeError(f"{table}.json has a row of type {type(row).__name__}")
            token = row.get("token")
            # a row without a token is found by none
            first = index.setdefault(token, len(kept)) if isinstance(token, str) else len(kept)
            if first != len(kept) and row == kept[first]:
                self.repeated[table] += 1
                continue
            if first != len(kept):
                ambiguous.add(row["token"])
            kept.append(row)
        setattr(self, table, kept)
        self._token2ind[table], self._ambiguous[table] = index, ambiguous

    def _link(self, record: dict[str, Any], link: Any) -> None:
        # rows of samples that do not exist belong to no scene
        token = str(record.get("sample_token"))
        row = self._token2ind["sample"].get(token)
        if row is None or token in self.faults:
            return
        try:
            link(record, self.sample[row])
        except SourceError as error:
            self.faults[token] = error
        except (KeyError, TypeError, AttributeError) as error:
            self.faults[token] = SourceError(
                "a row of the tables lacks a field, or has one of another type",
                where=f"{self.version}, sample {quoted(token)}, row {quoted(record.get('token'))}",
                expected="the fields of nuScenes v1.0",
                found=f"{type(error).__name__}: {error}",
                do=ADVICE,
            )

    def _link_data(self, record: dict[str, Any], sample: dict[str, Any]) -> None:
        calibration = self.get("calibrated_sensor", record["calibrated_sensor_token"])
        sensor = self.get("sensor", calibration["sensor_token"])
        record["sensor_modality"], channel = sensor["modality"], sensor["channel"]
        record["channel"] = channel
        if channel in sample["data"]:
            raise SourceError(
                "a sample has two key frames of one sensor",
                where=f"{self.version}/sample_data.json",
                expected=f"one row of {quoted(channel)} with is_key_frame",
                found=f"{quoted(sample['data'][channel])} and {quoted(record['token'])}",
                do=ADVICE,
            )
        self.get("sample_data", record["token"])
        sample["data"][channel] = record["token"]

    def _link_annotation(self, record: dict[str, Any], sample: dict[str, Any]) -> None:
        instance = self.get("instance", record["instance_token"])
        record["category_name"] = self.get("category", instance["category_token"])["name"]
        self.get("sample_annotation", record["token"])
        sample["anns"].append(record["token"])
