"""The series of the replica: facts copied from the real index.

`series.csv` holds, column by column as the index names them, the rows that the
replica takes from idc-index-data 25.0.5; a test holds each fact against the index
itself. What the index does not have (it has one row a series), the names and UIDs
of the instances, is derived from the series' UUID, the same at every build.
"""

from __future__ import annotations

import csv
import uuid
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from idcfs.model import SeriesUUID


@dataclass(frozen=True, slots=True)
class ReplicaSeries:
    """One series of the index that the replica holds; None where the index says NULL."""

    collection_id: str
    analysis_result_id: str | None
    patient_id: str
    patient_age: str | None
    patient_sex: str | None
    study_instance_uid: str
    study_date: str | None
    """As YYYY-MM-DD, like every date of the index."""
    study_description: str | None
    series_instance_uid: str
    series_date: str | None
    series_description: str | None
    series_number: str | None
    body_part_examined: str | None
    modality: str
    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    """More than one where the instances of a series differ."""
    photometric_interpretation: str | None
    pixel_representation: str | None
    manufacturer: str | None
    manufacturer_model_name: str | None
    instance_count: int
    bucket: str
    uuid: SeriesUUID

    def instance_uuid(self, number: int) -> str:
        """Return the UUID that names instance `number` (from 1) in the bucket."""
        return str(uuid.uuid5(uuid.UUID(self.uuid), f"instance {number}"))

    def key(self, number: int) -> str:
        """Return the object key of instance `number` (from 1)."""
        return f"{self.uuid}/{self.instance_uuid(number)}.dcm"

    @property
    def keys(self) -> tuple[str, ...]:
        """The object keys of all instances, in the order of their numbers."""
        return tuple(self.key(number) for number in range(1, self.instance_count + 1))

    def uid(self, purpose: str) -> str:
        """Return a stable DICOM UID for `purpose` within this series (PS3.5 B.2)."""
        return f"2.25.{uuid.uuid5(uuid.UUID(self.uuid), purpose).int}"

    def sop_instance_uid(self, number: int) -> str:
        """Return the SOP Instance UID of instance `number` (from 1)."""
        return self.uid(f"SOP instance {number}")

    @property
    def frame_of_reference_uid(self) -> str:
        """The frame of reference that all series of the study share."""
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, self.study_instance_uid).int}"


@cache
def replica_series() -> tuple[ReplicaSeries, ...]:
    """Return every series of the replica, ordered by collection, patient, study, modality."""
    text = files("idcfs.demo").joinpath("series.csv").read_text(encoding="utf-8")
    return tuple(_from_row(row) for row in csv.DictReader(text.splitlines()))


def _from_row(row: dict[str, str]) -> ReplicaSeries:
    return ReplicaSeries(
        collection_id=row["collection_id"],
        analysis_result_id=row["analysis_result_id"] or None,
        patient_id=row["PatientID"],
        patient_age=row["PatientAge"] or None,
        patient_sex=row["PatientSex"] or None,
        study_instance_uid=row["StudyInstanceUID"],
        study_date=row["StudyDate"] or None,
        study_description=row["StudyDescription"] or None,
        series_instance_uid=row["SeriesInstanceUID"],
        series_date=row["SeriesDate"] or None,
        series_description=row["SeriesDescription"] or None,
        series_number=row["SeriesNumber"] or None,
        body_part_examined=row["BodyPartExamined"] or None,
        modality=row["Modality"],
        sop_class_uid=row["SOPClassUID"],
        transfer_syntax_uids=tuple(row["TransferSyntaxUID"].split(",")),
        photometric_interpretation=row["PhotometricInterpretation"] or None,
        pixel_representation=row["PixelRepresentation"] or None,
        manufacturer=row["Manufacturer"] or None,
        manufacturer_model_name=row["ManufacturerModelName"] or None,
        instance_count=int(row["instanceCount"]),
        bucket=row["aws_bucket"],
        uuid=SeriesUUID(row["crdc_series_uuid"]),
    )
