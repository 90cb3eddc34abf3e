"""Artifacts in S3: immutable folders, each with a manifest of sha256 digests that is written last.

`connect_store` gives the `ArtifactStore` that every service and job uses. What has no manifest is not there: a crash
in the middle of an upload leaves objects that nobody will ever read, and never half an artifact.
"""

from shared.s3.manifest import FileEntry, Manifest, build_manifest, sha256_of, verify_dir
from shared.s3.store import ArtifactStore, connect_store

__all__ = ["ArtifactStore", "FileEntry", "Manifest", "build_manifest", "connect_store", "sha256_of", "verify_dir"]
