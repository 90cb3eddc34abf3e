"""The references that samples are compared with, from the database and from S3, kept while the process lives."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Engine

from services.drift.models import Evaluated, ModelVersion
from shared.db import reading
from shared.errors import IntegrityError, NotFoundError
from shared.events import DatasetRef, Distribution, InferenceSampled
from shared.profiles import PROFILE_FILE, ReferenceProfile, place_answer
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

_KEPT = 64


@dataclass(frozen=True)
class Reference:
    """What a model version's traffic should look like.

    Attributes:
        dataset: digest of the dataset version.
        features: of the dataset and, for answers, of the evaluation.
    """

    pipeline: str
    dataset: str
    profile: ReferenceProfile
    features: Mapping[str, Distribution]

    def place(self, sample: InferenceSampled) -> dict[str, int]:
        """The sample's bucket for each feature."""
        return self.profile.place(sample.asked) | place_answer(
            sample.answer, sample.surprisal, self.features
        )


class NoReferenceError(Exception):
    """There is nothing to compare with; the text is for people."""


class References:
    """Finds references by model version. Does network I/O: never inside a transaction."""

    def __init__(self, engine: Engine, store: ArtifactStore) -> None:
        self._engine = engine
        self._store = store
        self._profiles: OrderedDict[str, ReferenceProfile | None] = OrderedDict()

    def get(self, model_version: str) -> Reference | None:
        """The reference; None where the model version was not heard of (yet).

        Raises:
            NoReferenceError: its dataset has none.
            TemporaryError: S3 does not answer.
        """
        with reading(self._engine) as session:
            model = session.get(ModelVersion, model_version)
            evaluated = session.get(Evaluated, model.evaluation_id) if model else None
        if model is None:
            return None
        dataset = DatasetRef.model_validate(model.dataset)
        profile = self._profile(dataset)
        if profile is None:
            raise NoReferenceError(
                f"the dataset {dataset.dataset_id} has no {PROFILE_FILE} that this version reads. Texts of objective: "
                "pretrain have none; publish other rows again"
            )
        said = evaluated.outputs if evaluated else {}
        outputs = {name: Distribution.model_validate(item) for name, item in said.items()}
        return Reference(model.pipeline, dataset.artifact.digest, profile, {**profile.features, **outputs})

    def _profile(self, dataset: DatasetRef) -> ReferenceProfile | None:
        digest = dataset.artifact.digest
        if digest not in self._profiles:
            self._profiles[digest] = self._fetch(dataset)
            if len(self._profiles) > _KEPT:
                self._profiles.popitem(last=False)
        self._profiles.move_to_end(digest)
        return self._profiles[digest]

    def _fetch(self, dataset: DatasetRef) -> ReferenceProfile | None:
        uri = dataset.artifact.uri
        try:
            return ReferenceProfile.model_validate_json(read_profile(self._store, dataset))
        except (NotFoundError, IntegrityError, ValidationError) as error:
            log.warning("a dataset has no reference profile", dataset=uri, error=str(error))
            return None


def read_profile(store: ArtifactStore, dataset: DatasetRef) -> bytes:
    """The profile's bytes, checked against the dataset's digest.

    Raises:
        NotFoundError: the dataset, or its profile, is not there.
        IntegrityError: it is not what the digest promises.
    """
    uri, digest = dataset.artifact.uri, dataset.artifact.digest
    manifest = store.manifest(uri)
    entry = next((item for item in manifest.files if item.path == PROFILE_FILE), None) if manifest else None
    if manifest is None or entry is None:
        raise NotFoundError(f"{uri}{PROFILE_FILE} is not there")
    content = store.get_bytes(uri + PROFILE_FILE)
    if manifest.digest != digest or f"sha256:{hashlib.sha256(content).hexdigest()}" != entry.sha256:
        raise IntegrityError(f"{uri}{PROFILE_FILE} is not what the digest {digest} promises")
    return content
